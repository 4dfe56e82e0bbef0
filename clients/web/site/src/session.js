/**
 * Who is signed in, with the stack's Cognito user pool.
 *
 * The id token, which the API takes, is kept in memory alone. The refresh token is kept in `sessionStorage`, so that reloading does not sign
 * out: no other window and no other site can read it, and it is gone with the window. `localStorage` would keep it on the disk, for
 * whoever uses this computer next.
 */

import { Busy, SessionExpired, Unreachable } from "./errors.js";

/** How long before it expires a token is replaced, in milliseconds: longer than a request may take. */
const MARGIN = 60_000;

const STORED = "syncsphere.session";

/**
 * @typedef {{ userId: string, name: string }} User
 * @typedef {"signed-out" | "active" | "expired"} SessionState
 * @typedef {{ token: string, expiresAt: number, user: User }} Identity
 * @typedef {object} Challenge What the user pool asks for besides the password: a new password, or the code of an authenticator app.
 * @property {"new-password" | "code"} kind
 * @property {(text: string) => Promise<Challenge | null>} answer Null once signed in. After a wrong answer it can be answered again.
 */

/** What the user pool refused, in words for people. */
export class SignInError extends Error {}

/** The user pool takes no answer to this challenge any more. */
export class ChallengeEnded extends SignInError {}

/** The user pool's errors that may be gone with the next attempt. Cognito answers them with status 400. */
const PASSING = /TooManyRequests|Throttling|LimitExceeded|InternalError|ServiceUnavailable/;

/** What people read of the user pool's errors whose own words are of its API. */
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

  /** Goes on with the session that this window had before it was reloaded. False if there was none. */
  async restore() {
    this.#refreshToken = this.world.storage.getItem(STORED);
    if (!this.#refreshToken) return false;
    await this.token();
    return true;
  }

  /**
   * Null once signed in; or what else the user pool asks for.
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
    // Who signed in by an e-mail address answers with the user name.
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
        // Apps show the code in two halves.
        return { kind: "code", answer: (code) => respond({ SOFTWARE_TOKEN_MFA_CODE: code.replace(/\s/g, "") }) };
      case "SELECT_MFA_TYPE":
        if (answer.ChallengeParameters?.MFAS_CAN_CHOOSE?.includes("SOFTWARE_TOKEN_MFA")) return respond({ ANSWER: "SOFTWARE_TOKEN_MFA" });
    }
    throw new SignInError("This account signs in in a way that this page does not know. Ask whoever runs the service.");
  }

  /** Forgets everything, here and, if it can be reached, at the user pool. */
  async signOut() {
    const token = this.#refreshToken;
    this.#forget();
    if (token) await this.#ask("RevokeToken", { Token: token }).catch(() => {});
    this.user = null;
    this.#enter("signed-out");
  }

  /** A token that is good for a request. Throws `SessionExpired` if there is none to be had. */
  async token() {
    if (this.#identity && this.#identity.expiresAt - MARGIN > this.world.now()) return this.#identity.token;
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = null;
    });
    return (await this.#refreshing).token;
  }

  /**
   * The API has refused this token: the next one is another.
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

  /** Nothing that it had is good any more. Who it was stays known, so that the same person can go on. */
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
   * @param {number} sentAt when it was asked for, on this computer's clock, which may be hours off: the token's age is counted from here
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
      // Cut, or not from the user pool but from a network that wants a sign-in of its own.
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
 * What a token says, unverified: the API verifies it, and this page only shows it.
 *
 * @param {string} token
 */
function claimsOf(token) {
  const payload = token.split(".")[1] ?? "";
  const binary = atob(payload.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}
