/**
 * The session of the signed-in user, with the stack's Cognito user pool.
 *
 * The id token, which the API accepts, is kept only in memory. The refresh token is kept in `sessionStorage`, so that reloading does not sign
 * the user out. No other window and no other site can read it there, and the browser deletes it with the window. `localStorage` would keep it
 * on disk, where the next user of the computer could read it.
 */

import { Busy, SessionExpired, Unreachable } from "./errors.js";

/** Time in milliseconds before its expiry at which a token is replaced. It is longer than a request may take. */
const MARGIN = 60_000;

const STORED = "syncsphere.session";

/**
 * @typedef {{ userId: string, name: string }} User
 * @typedef {"signed-out" | "active" | "expired"} SessionState
 * @typedef {{ token: string, expiresAt: number, user: User }} Identity
 * @typedef {object} Challenge A further question of the user pool after the password: a new password, or the code of an authenticator app.
 * @property {"new-password" | "code"} kind
 * @property {(text: string) => Promise<Challenge | null>} answer Returns null once signed in. After a wrong answer it can be called again.
 */

/** An error of the user pool, with a message for users. */
export class SignInError extends Error {}

/** The user pool accepts no further answer to this challenge. */
export class ChallengeEnded extends SignInError {}

/** Errors of the user pool that are temporary. Cognito sends them with status 400. */
const PASSING = /TooManyRequests|Throttling|LimitExceeded|InternalError|ServiceUnavailable/;

/** Messages for users in place of Cognito's own messages that use terms of its API. */
const WORDS = new Map([
  ["CodeMismatchException", "That is not the code. Enter the one that your authenticator app shows now."],
  ["ExpiredCodeException", "That code is no longer good. Enter the one that your authenticator app shows now."],
  ["EnableSoftwareTokenMFAException", "That code was used before. Wait for the next one."],
  ["PasswordResetRequiredException", "Your password was reset. Ask whoever runs the service for a new one."],
  ["UserNotConfirmedException", "This account is not confirmed yet. Ask whoever runs the service."],
]);

export class Session extends EventTarget {
  /** @type {SessionState} */ state = "signed-out";
  /** @type {User | null} */ user = null;
  /** @type {Identity | null} */ #identity = null;
  /** @type {string | null} */ #refreshToken = null;
  /** @type {Promise<Identity> | null} */ #refreshing = null;

  /**
   * @param {import("./config.js").Config} config
   * @param {{ storage: Storage, fetch: typeof fetch, now: () => number }} world
   */
  constructor(config, world) {
    super();
    this.config = config;
    this.world = world;
  }

  /** Resumes the session that this window had before it was reloaded. Returns false if there was none. */
  async restore() {
    this.#refreshToken = this.world.storage.getItem(STORED);
    if (!this.#refreshToken) return false;
    await this.token();
    return true;
  }

  /**
   * Signs in. Returns null once signed in, and otherwise the user pool's challenge.
   *
   * @param {string} name
   * @param {string} password
   * @returns {Promise<Challenge | null>}
   */
  async signIn(name, password) {
    const parameters = { USERNAME: name, PASSWORD: password };
    const sentAt = this.world.now();
    const answer = await this.#ask("InitiateAuth", { AuthFlow: "USER_PASSWORD_AUTH", AuthParameters: parameters });
    return this.#accept(name, answer, sentAt);
  }

  /**
   * @param {string} name
   * @param {any} answer
   * @param {number} sentAt
   * @returns {Promise<Challenge | null>}
   */
  async #accept(name, answer, sentAt) {
    if (answer.AuthenticationResult) {
      this.#refreshToken = answer.AuthenticationResult.RefreshToken;
      this.world.storage.setItem(STORED, answer.AuthenticationResult.RefreshToken);
      this.#identify(answer.AuthenticationResult.IdToken, sentAt);
      return null;
    }
    // After signing in by an e-mail address, challenges are answered with the user name.
    const user = answer.ChallengeParameters?.USER_ID_FOR_SRP ?? name;
    const respond = async (/** @type {Record<string, string>} */ responses) => {
      const sentAt = this.world.now();
      const next = await this.#ask("RespondToAuthChallenge", {
        ChallengeName: answer.ChallengeName,
        Session: answer.Session,
        ChallengeResponses: { USERNAME: user, ...responses },
      });
      return this.#accept(user, next, sentAt);
    };
    switch (answer.ChallengeName) {
      case "NEW_PASSWORD_REQUIRED":
        return { kind: "new-password", answer: (password) => respond({ NEW_PASSWORD: password }) };
      case "SOFTWARE_TOKEN_MFA":
        // Authenticator apps show the code in two halves.
        return { kind: "code", answer: (code) => respond({ SOFTWARE_TOKEN_MFA_CODE: code.replace(/\s/g, "") }) };
      case "SELECT_MFA_TYPE":
        if (answer.ChallengeParameters?.MFAS_CAN_CHOOSE?.includes("SOFTWARE_TOKEN_MFA")) return respond({ ANSWER: "SOFTWARE_TOKEN_MFA" });
    }
    throw new SignInError("This account signs in in a way that this page does not know. Ask whoever runs the service.");
  }

  /** Signs out: deletes the tokens here, and revokes the refresh token if the user pool can be reached. */
  async signOut() {
    const token = this.#refreshToken;
    this.#forget();
    if (token) await this.#ask("RevokeToken", { Token: token }).catch(() => {});
    this.user = null;
    this.#enter("signed-out");
  }

  /** Returns a token that is valid long enough for a request. Throws `SessionExpired` if there is none. */
  async token() {
    if (this.#identity && this.#identity.expiresAt - MARGIN > this.world.now()) return this.#identity.token;
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = null;
    });
    return (await this.#refreshing).token;
  }

  /**
   * Discards a token that the API has refused, so that the next request gets another one.
   *
   * @param {string} token
   */
  refused(token) {
    if (this.#identity?.token === token) this.#identity = null;
  }

  /** @returns {Promise<Identity>} */
  async #refresh() {
    if (!this.#refreshToken) throw new SessionExpired();
    const parameters = { REFRESH_TOKEN: this.#refreshToken };
    const sentAt = this.world.now();
    try {
      const answer = await this.#ask("InitiateAuth", { AuthFlow: "REFRESH_TOKEN_AUTH", AuthParameters: parameters });
      return this.#identify(answer.AuthenticationResult.IdToken, sentAt);
    } catch (error) {
      if (!(error instanceof SignInError)) throw error;
      this.expire();
      throw new SessionExpired();
    }
  }

  /** Ends the session, but keeps the user, so that the same user can sign in again and continue. */
  expire() {
    this.#forget();
    if (this.state !== "signed-out") this.#enter("expired");
  }

  #forget() {
    this.#identity = null;
    this.#refreshToken = null;
    this.world.storage.removeItem(STORED);
  }

  /**
   * @param {string} token
   * @param {number} sentAt time of the request on this computer's clock, which may be wrong by hours: the token's age is measured from it
   */
  #identify(token, sentAt) {
    const claims = claimsOf(token);
    const user = { userId: claims.sub, name: claims["cognito:username"] ?? claims.email ?? claims.sub };
    this.#identity = { token, expiresAt: sentAt + (claims.exp - claims.iat) * 1_000, user };
    this.user = user;
    this.#enter("active");
    return this.#identity;
  }

  /** @param {SessionState} state */
  #enter(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }

  /**
   * @param {string} action
   * @param {Record<string, unknown>} body
   * @returns {Promise<any>}
   */
  async #ask(action, body) {
    let answer;
    try {
      answer = await this.world.fetch(this.config.cognitoEndpoint, {
        method: "POST",
        headers: {
          "Content-Type": "application/x-amz-json-1.1",
          "X-Amz-Target": `AWSCognitoIdentityProviderService.${action}`,
        },
        body: JSON.stringify({ ClientId: this.config.userPoolClientId, ...body }),
        signal: AbortSignal.timeout(20_000),
      });
    } catch (error) {
      throw new Unreachable(error);
    }
    let said;
    try {
      const text = await answer.text();
      said = text ? JSON.parse(text) : {};
    } catch (error) {
      // An interrupted answer, or one from a captive portal instead of the user pool.
      throw new Unreachable(error);
    }
    if (answer.ok) return said;
    const type = String(said.__type ?? "").replace(/^.*#/, "");
    if (answer.status >= 500) throw new Unreachable(said.message);
    if (answer.status === 429 || PASSING.test(type)) throw new Busy(said.message);
    if (action === "RespondToAuthChallenge" && type === "NotAuthorizedException") {
      throw new ChallengeEnded("That took too long, or there were too many attempts. Enter your password again.");
    }
    throw new SignInError(WORDS.get(type) ?? said.message ?? "The user pool refused.");
  }
}

/**
 * Returns the claims of a token without verification. The API verifies tokens; this page only shows the claims.
 *
 * @param {string} token
 */
function claimsOf(token) {
  const payload = token.split(".")[1] ?? "";
  const binary = atob(payload.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}
