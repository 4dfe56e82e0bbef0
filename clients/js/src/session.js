/** Sessions: where the tokens of requests come from. */

import { SessionExpiredError } from "./errors.js";

/** Time in milliseconds before its expiry at which a token is replaced. It is longer than a request may take. */
const MARGIN = 60_000;

/**
 * @typedef {{ userId: string, name: string }} User
 * @typedef {"signed-out" | "active" | "expired"} SessionState
 * @typedef {{ token: string, expiresAt: number, user: User }} Identity `expiresAt` is a time of this computer's clock in milliseconds.
 * @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} KeyValueStorage
 */

/**
 * The session of a user. Tokens are kept in memory, and are never logged. Dispatches the event `change` when `state` changes.
 *
 * Subclasses get tokens by `renew`, and delete what they have stored in `forget`.
 */
export class Session extends EventTarget {
  /** @type {SessionState} */ state = "signed-out";
  /** @type {User | null} */ user = null;
  /** @type {Identity | null} */ #identity = null;
  /** @type {Promise<Identity> | null} */ #renewing = null;

  /** @param {() => number} [now] in milliseconds */
  constructor(now = Date.now) {
    super();
    this.now = now;
  }

  /** Returns a token that is valid long enough for a request. Throws `SessionExpiredError` if there is none. */
  async token() {
    if (this.#identity && this.#identity.expiresAt - MARGIN > this.now()) return this.#identity.token;
    this.#renewing ??= this.#renew().finally(() => {
      this.#renewing = null;
    });
    return (await this.#renewing).token;
  }

  /**
   * Discards a token that the service has refused, so that the next request gets another one.
   *
   * @param {string} token
   */
  refused(token) {
    if (this.#identity?.token === token) this.#identity = null;
  }

  /** Ends the session, but keeps the user, so that the same user can sign in again and continue. */
  expire() {
    this.#identity = null;
    this.forget();
    if (this.state !== "signed-out") this.#enter("expired");
  }

  /** Waits until a user is signed in. @param {AbortSignal} signal @returns {Promise<void>} */
  signedIn(signal) {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const check = () => {
        if (this.state === "active") end(resolve);
      };
      const abort = () => end(() => reject(signal.reason));
      const end = (/** @type {() => void} */ settle) => {
        this.removeEventListener("change", check);
        signal.removeEventListener("abort", abort);
        settle();
      };
      this.addEventListener("change", check);
      signal.addEventListener("abort", abort);
      check();
    });
  }

  async #renew() {
    const identity = await this.renew();
    if (identity === null) {
      this.expire();
      throw new SessionExpiredError();
    }
    return this.accept(identity);
  }

  /** Gets the next token. Returns null if the user has to sign in again. @protected @returns {Promise<Identity | null>} */
  async renew() {
    return null;
  }

  /** Deletes everything with which `renew` gets tokens. @protected */
  forget() {}

  /** Uses a token from now on. @protected @param {Identity} identity */
  accept(identity) {
    this.#identity = identity;
    this.user = identity.user;
    this.#enter("active");
    return identity;
  }

  /** Forgets the user. @protected */
  leave() {
    this.#identity = null;
    this.forget();
    this.user = null;
    this.#enter("signed-out");
  }

  /** @param {SessionState} state */
  #enter(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * A session whose tokens come from a function of the caller, such as one that has its own sign-in. The function is called when there is no
 * token yet, shortly before the last one expires, and after the service has refused it.
 */
export class TokenSession extends Session {
  #getToken;

  /** @param {() => Promise<string | null> | string | null} getToken returns a JWT that the service accepts, or null if the user has to sign in again */
  constructor(getToken) {
    super();
    this.#getToken = getToken;
  }

  /** @protected @override */
  async renew() {
    const token = await this.#getToken();
    return token === null ? null : identityOf(token, this.now());
  }
}

/**
 * Reads a token without verification, which is the service's task. A token's age is measured from the time of the request for it, because this
 * computer's clock may be wrong by hours.
 *
 * @param {string} token a JWT
 * @param {number} receivedAt time of the request for it, in milliseconds
 * @returns {Identity}
 */
export function identityOf(token, receivedAt) {
  const claims = claimsOf(token);
  const name = claims["cognito:username"] ?? claims.name ?? claims.preferred_username ?? claims.email ?? claims.sub;
  return { token, expiresAt: receivedAt + (claims.exp - claims.iat) * 1_000, user: { userId: claims.sub, name } };
}

/** @param {string} token */
function claimsOf(token) {
  const payload = token.split(".")[1] ?? "";
  try {
    const binary = atob(payload.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    // The parser's message has a part of the token.
    throw new TypeError("The token is not a JWT.");
  }
}
