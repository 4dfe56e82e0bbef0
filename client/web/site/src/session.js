/**
 * Who is signed in, with the stack's Cognito user pool.
 *
 * The id token, which the API takes, is kept in memory alone. The refresh token is kept in `sessionStorage`, so that reloading does not sign
 * out: no other window and no other site can read it, and it is gone with the window. `localStorage` would keep it on the disk, for
 * whoever uses this computer next.
 */

import { SessionExpired, Unreachable } from "./errors.js";

/** How long before it expires a token is replaced, in milliseconds: longer than a request may take. */
const MARGIN = 60_000;

const STORED = "syncsphere.session";

/**
 * @typedef {{ userId: string, name: string }} User
 * @typedef {"signed-out" | "active" | "expired"} SessionState
 * @typedef {{ token: string, expiresAt: number, user: User }} Identity
 * @typedef {{ answer: (newPassword: string) => Promise<NewPassword | null> }} NewPassword
 */

/** What the user pool refused, in words for people. */
export class SignInError extends Error {}

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
   * Null once signed in; or what asks for the new password that a new user has to choose.
   *
   * @param {string} name
   * @param {string} password
   * @returns {Promise<NewPassword | null>}
   */
  async signIn(name, password) {
    const parameters = { USERNAME: name, PASSWORD: password };
    const answer = await this.#ask("InitiateAuth", { AuthFlow: "USER_PASSWORD_AUTH", AuthParameters: parameters });
    return this.#accept(name, answer);
  }

  /**
   * @param {string} name
   * @param {any} answer
   * @returns {NewPassword | null}
   */
  #accept(name, answer) {
    if (answer.AuthenticationResult) {
      this.#refreshToken = answer.AuthenticationResult.RefreshToken;
      this.world.storage.setItem(STORED, answer.AuthenticationResult.RefreshToken);
      this.#identify(answer.AuthenticationResult.IdToken);
      return null;
    }
    if (answer.ChallengeName !== "NEW_PASSWORD_REQUIRED") {
      throw new SignInError(`This account asks for ${answer.ChallengeName}, which this page cannot answer.`);
    }
    return {
      answer: async (password) => {
        const responses = { USERNAME: name, NEW_PASSWORD: password };
        const next = await this.#ask("RespondToAuthChallenge", {
          ChallengeName: answer.ChallengeName,
          Session: answer.Session,
          ChallengeResponses: responses,
        });
        return this.#accept(name, next);
      },
    };
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
    try {
      const answer = await this.#ask("InitiateAuth", { AuthFlow: "REFRESH_TOKEN_AUTH", AuthParameters: parameters });
      return this.#identify(answer.AuthenticationResult.IdToken);
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

  /** @param {string} token */
  #identify(token) {
    const claims = claimsOf(token);
    const user = { userId: claims.sub, name: claims["cognito:username"] ?? claims.email ?? claims.sub };
    this.#identity = { token, expiresAt: claims.exp * 1_000, user };
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
    const text = await answer.text();
    const said = text ? JSON.parse(text) : {};
    if (answer.ok) return said;
    if (answer.status >= 500 || said.__type?.includes("TooManyRequests")) throw new Unreachable(said.message);
    throw new SignInError(said.message ?? "The user pool refused.");
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
