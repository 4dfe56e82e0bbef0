/**
 * Sessions with a Cognito user pool.
 *
 * The id token, which the service accepts, is kept only in memory. The refresh token is kept in `storage`, so that a reload or another run does
 * not need the password again. In browsers that should be `sessionStorage`: no other window and no other site can read it there, and the browser
 * deletes it with the window. `localStorage` would keep it on disk, where the next user of the computer could read it.
 */

import { ChallengeEndedError, SignInError, ThrottledError, UnreachableError } from "./errors.js";
import { COGNITO_MESSAGES, SIGN_IN_MESSAGES } from "./messages.js";
import { Session, identityOf } from "./session.js";
import { MemoryStorage } from "./storage.js";

/** Name of the refresh token in the storage. */
const STORED = "syncsphere.session";

/**
 * @typedef {import("./session.js").Identity} Identity
 * @typedef {object} Challenge A further question of the user pool after the password: a new password, or the code of an authenticator app.
 * @property {"new-password" | "code"} kind
 * @property {(text: string) => Promise<Challenge | null>} answer Returns null once signed in. After a wrong answer it can be called again.
 *
 * @typedef {object} CognitoOptions
 * @property {string} endpoint `https://cognito-idp.<region>.amazonaws.com/`
 * @property {string} clientId the stack's output `UserPoolClientId`
 * @property {import("./session.js").KeyValueStorage} [storage] where the refresh token is kept; by default only in memory
 * @property {typeof globalThis.fetch} [fetch]
 * @property {() => number} [now] in milliseconds
 */

/** Errors of the user pool that are temporary. Cognito sends them with status 400. */
const PASSING = /TooManyRequests|Throttling|LimitExceeded|InternalError|ServiceUnavailable/;

export class CognitoSession extends Session {
  #endpoint;
  #clientId;
  #storage;
  #fetch;
  /** @type {string | null} */ #refreshToken = null;

  /** @param {CognitoOptions} options */
  constructor({ endpoint, clientId, storage = new MemoryStorage(), fetch = globalThis.fetch.bind(globalThis), now }) {
    super(now);
    this.#endpoint = endpoint;
    this.#clientId = clientId;
    this.#storage = storage;
    this.#fetch = fetch;
  }

  /** Resumes the session of a former run, such as before a reload. Returns false if there was none. */
  async restore() {
    this.#refreshToken = this.#storage.getItem(STORED);
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
    const sentAt = this.now();
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
      this.#storage.setItem(STORED, answer.AuthenticationResult.RefreshToken);
      this.accept(identityOf(answer.AuthenticationResult.IdToken, sentAt));
      return null;
    }
    // After signing in by an e-mail address, challenges are answered with the user name.
    const user = answer.ChallengeParameters?.USER_ID_FOR_SRP ?? name;
    const respond = async (/** @type {Record<string, string>} */ responses) => {
      const sentAt = this.now();
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
    throw new SignInError(SIGN_IN_MESSAGES.unknownChallenge);
  }

  /** Signs out: deletes the tokens here, and revokes the refresh token if the user pool can be reached. */
  async signOut() {
    const token = this.#refreshToken;
    this.forget();
    if (token) await this.#ask("RevokeToken", { Token: token }).catch(() => {});
    this.leave();
  }

  /** @protected @override @returns {Promise<Identity | null>} */
  async renew() {
    if (!this.#refreshToken) return null;
    const parameters = { REFRESH_TOKEN: this.#refreshToken };
    const sentAt = this.now();
    try {
      const answer = await this.#ask("InitiateAuth", { AuthFlow: "REFRESH_TOKEN_AUTH", AuthParameters: parameters });
      return identityOf(answer.AuthenticationResult.IdToken, sentAt);
    } catch (error) {
      if (error instanceof SignInError) return null;
      throw error;
    }
  }

  /** @protected @override */
  forget() {
    this.#refreshToken = null;
    this.#storage.removeItem(STORED);
  }

  /**
   * @param {string} action
   * @param {Record<string, unknown>} body
   * @returns {Promise<any>}
   */
  async #ask(action, body) {
    let answer;
    try {
      answer = await this.#fetch(this.#endpoint, {
        method: "POST",
        headers: {
          "Content-Type": "application/x-amz-json-1.1",
          "X-Amz-Target": `AWSCognitoIdentityProviderService.${action}`,
        },
        body: JSON.stringify({ ClientId: this.#clientId, ...body }),
        signal: AbortSignal.timeout(20_000),
      });
    } catch (error) {
      throw new UnreachableError(error);
    }
    let said;
    try {
      const text = await answer.text();
      said = text ? JSON.parse(text) : {};
    } catch (error) {
      // An interrupted answer, or one from a captive portal instead of the user pool.
      throw new UnreachableError(error);
    }
    if (answer.ok) return said;
    const type = String(said.__type ?? "").replace(/^.*#/, "");
    if (answer.status >= 500) throw new UnreachableError(said.message);
    if (answer.status === 429 || PASSING.test(type)) throw new ThrottledError(said.message);
    if (action === "RespondToAuthChallenge" && type === "NotAuthorizedException") {
      throw new ChallengeEndedError(SIGN_IN_MESSAGES.challengeEnded);
    }
    throw new SignInError(COGNITO_MESSAGES.get(type) ?? said.message ?? SIGN_IN_MESSAGES.refused);
  }
}
