/**
 * Sessions with any OpenID Connect provider, such as the hosted pages of a Cognito user pool: authorization code flow with PKCE, by oauth4webapi.
 *
 * The caller opens the provider's page: in a browser by `location.assign(await session.begin())`, elsewhere in the user's browser. The provider
 * sends the user back to `redirectUri`, whose address goes to `complete`.
 */

import { SignInError, ThrottledError, UnreachableError } from "./errors.js";
import { SIGN_IN_MESSAGES } from "./messages.js";
import { Session, identityOf } from "./session.js";
import { MemoryStorage } from "./storage.js";
import * as oauth from "./vendor/oauth4webapi/index.js";

/** Name of the refresh token in the storage. */
const STORED = "syncsphere.oidc";

/** Name of the secrets of a sign-in that has begun. */
const BEGUN = "syncsphere.oidc.begun";

/** Seconds by which this computer's clock may be wrong. The service checks the times in tokens by its own clock. */
const CLOCK_TOLERANCE = 24 * 3_600;

/** Hosts of the local machine, where the provider may be reached without TLS. */
const LOCAL = /^(127\.0\.0\.1|localhost|\[::1\])$/;

/**
 * @typedef {import("./session.js").Identity} Identity
 *
 * @typedef {object} OidcOptions
 * @property {string} issuer the provider's issuer, such as `https://cognito-idp.<region>.amazonaws.com/<UserPoolId>`
 * @property {string} clientId of a public client, which has no secret
 * @property {string} redirectUri the address to which the provider sends the user back, as it is registered there
 * @property {string} [scope] by default `openid profile email`. Many providers give a refresh token only for `offline_access` too
 * @property {Record<string, unknown>} [metadata] the provider's metadata (RFC 8414: `authorization_endpoint`, `token_endpoint`, …), where its discovery
 *   document cannot be read, for example because it allows no pages of other origins
 * @property {"id" | "access"} [token] the token that the service accepts; by default the ID token
 * @property {import("./session.js").KeyValueStorage} [storage] where the refresh token is kept, and the secrets between `begin` and `complete`; by
 *   default only in memory. A page that is left for the provider's needs `sessionStorage`: `cognito.js` says why not `localStorage`
 * @property {typeof globalThis.fetch} [fetch]
 * @property {() => number} [now] in milliseconds
 */

export class OidcSession extends Session {
  #options;
  #storage;
  /** @type {oauth.Client} */ #client;
  /** @type {Promise<oauth.AuthorizationServer> | null} */ #discovered = null;
  /** @type {string | null} */ #refreshToken = null;
  /** @type {string | null} */ #idToken = null;
  /** After `signOut`, the address of the provider's page that signs the user out there too, if it has one. @type {string | null} */ signOutPage = null;

  /** @param {OidcOptions} options */
  constructor(options) {
    super(options.now);
    this.#options = options;
    this.#storage = options.storage ?? new MemoryStorage();
    this.#client = { client_id: options.clientId, [oauth.clockTolerance]: CLOCK_TOLERANCE };
  }

  /** Resumes the session of a former run, such as before a reload. Returns false if there was none. */
  async restore() {
    this.#refreshToken = this.#storage.getItem(STORED);
    if (!this.#refreshToken) return false;
    await this.token();
    return true;
  }

  /**
   * Begins to sign in. Returns the address of the provider's page.
   *
   * @param {Record<string, string>} [parameters] further parameters of the authorization request, such as `prompt` or `login_hint`
   */
  async begin(parameters = {}) {
    const server = await this.#discover();
    if (!server.authorization_endpoint) throw new SignInError(SIGN_IN_MESSAGES.unknownProvider);
    const { clientId, redirectUri, scope = "openid profile email" } = this.#options;
    const begun = { verifier: oauth.generateRandomCodeVerifier(), state: oauth.generateRandomState(), nonce: oauth.generateRandomNonce() };
    this.#storage.setItem(BEGUN, JSON.stringify(begun));
    const url = new URL(server.authorization_endpoint);
    const query = {
      ...parameters,
      client_id: clientId,
      redirect_uri: redirectUri,
      response_type: "code",
      scope,
      state: begun.state,
      nonce: begun.nonce,
      code_challenge: await oauth.calculatePKCECodeChallenge(begun.verifier),
      code_challenge_method: "S256",
    };
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    return url.href;
  }

  /**
   * Completes a sign-in with the address to which the provider sent the user back. Returns false if the address is not that of a sign-in which has
   * begun here. Afterwards remove the query from the address that is shown: `history.replaceState(null, "", redirectUri)`.
   *
   * @param {string | URL} address
   */
  async complete(address) {
    const url = new URL(address);
    const begun = JSON.parse(this.#storage.getItem(BEGUN) ?? "null");
    if (!begun || !url.searchParams.has("state")) return false;
    const server = await this.#discover();
    // A code is of use once, and so are its secrets.
    this.#storage.removeItem(BEGUN);
    const sentAt = this.now();
    await asked(async () => {
      const answer = oauth.validateAuthResponse(server, this.#client, url, begun.state);
      const { redirectUri } = this.#options;
      const response = await oauth.authorizationCodeGrantRequest(server, this.#client, oauth.None(), answer, redirectUri, begun.verifier, this.#http());
      const tokens = await oauth.processAuthorizationCodeResponse(server, this.#client, response, { expectedNonce: begun.nonce, requireIdToken: true });
      this.accept(this.#take(tokens, sentAt));
    });
    return true;
  }

  /**
   * Signs out here, and revokes the refresh token if the provider can be reached. Returns `signOutPage`. That page sends the user back to the redirect
   * URI, if it is registered for that too.
   *
   * @returns {Promise<string | null>}
   */
  async signOut() {
    const [refreshToken, idToken] = [this.#refreshToken, this.#idToken];
    this.forget();
    this.signOutPage = null;
    try {
      const server = await this.#discover();
      if (refreshToken && server.revocation_endpoint) {
        await oauth.processRevocationResponse(await oauth.revocationRequest(server, this.#client, oauth.None(), refreshToken, this.#http()));
      }
      if (server.end_session_endpoint) {
        const url = new URL(server.end_session_endpoint);
        url.searchParams.set("client_id", this.#options.clientId);
        if (idToken) url.searchParams.set("id_token_hint", idToken);
        url.searchParams.set("post_logout_redirect_uri", this.#options.redirectUri);
        // Cognito's name of the same.
        url.searchParams.set("logout_uri", this.#options.redirectUri);
        this.signOutPage = url.href;
      }
    } catch {
      // The tokens are deleted here in any case.
    }
    this.leave();
    return this.signOutPage;
  }

  /** @protected @override @returns {Promise<Identity | null>} */
  async renew() {
    const token = this.#refreshToken;
    if (!token) return null;
    const server = await this.#discover();
    const sentAt = this.now();
    try {
      return await asked(async () => {
        const response = await oauth.refreshTokenGrantRequest(server, this.#client, oauth.None(), token, this.#http());
        return this.#take(await oauth.processRefreshTokenResponse(server, this.#client, response), sentAt);
      });
    } catch (error) {
      if (error instanceof SignInError) return null;
      throw error;
    }
  }

  /** @protected @override */
  forget() {
    this.#refreshToken = null;
    this.#idToken = null;
    this.#storage.removeItem(STORED);
  }

  /**
   * @param {oauth.TokenEndpointResponse} tokens
   * @param {number} sentAt
   * @returns {Identity}
   */
  #take({ access_token: accessToken, id_token: idToken, refresh_token: refreshToken }, sentAt) {
    const token = this.#options.token === "access" ? accessToken : idToken;
    // OpenID Connect lets a provider renew the access token alone.
    if (!token) throw new SignInError(SIGN_IN_MESSAGES.unknownProvider);
    if (idToken) this.#idToken = idToken;
    // Providers that rotate refresh tokens accept each once.
    if (refreshToken) {
      this.#refreshToken = refreshToken;
      this.#storage.setItem(STORED, refreshToken);
    }
    try {
      return identityOf(token, sentAt);
    } catch (error) {
      // An access token may have any form.
      throw new SignInError(SIGN_IN_MESSAGES.unknownProvider, { cause: error });
    }
  }

  /** @returns {Promise<oauth.AuthorizationServer>} */
  #discover() {
    const { issuer: named, metadata } = this.#options;
    if (metadata) return Promise.resolve({ ...metadata, issuer: named });
    const issuer = new URL(named);
    this.#discovered ??= asked(async () => {
      const response = await oauth.discoveryRequest(issuer, this.#http());
      return oauth.processDiscoveryResponse(issuer, response);
    }).catch((error) => {
      this.#discovered = null;
      throw error;
    });
    return this.#discovered;
  }

  #http() {
    return {
      [oauth.customFetch]: this.#options.fetch ?? globalThis.fetch.bind(globalThis),
      [oauth.allowInsecureRequests]: LOCAL.test(new URL(String(this.#options.metadata?.token_endpoint ?? this.#options.issuer)).hostname),
      signal: () => AbortSignal.timeout(20_000),
    };
  }
}

/**
 * Runs requests to the provider. Throws `UnreachableError` if it does not answer, and `SignInError` if it refuses.
 *
 * @template T
 * @param {() => Promise<T>} requests
 * @returns {Promise<T>}
 */
async function asked(requests) {
  try {
    return await requests();
  } catch (error) {
    if (error instanceof SignInError) throw error;
    if (error instanceof oauth.AuthorizationResponseError) {
      throw new SignInError(error.error === "access_denied" ? SIGN_IN_MESSAGES.denied : SIGN_IN_MESSAGES.providerRefused, { cause: reasonOf(error) });
    }
    if (!(error instanceof Error)) throw new UnreachableError(error);
    const status = error instanceof oauth.ResponseBodyError ? error.status : statusOf(error);
    if (status === 429) throw new ThrottledError(reasonOf(error));
    if (status !== undefined && status >= 500) throw new UnreachableError(reasonOf(error));
    if (error instanceof oauth.ResponseBodyError || error instanceof oauth.OperationProcessingError || error instanceof oauth.UnsupportedOperationError) {
      throw new SignInError(SIGN_IN_MESSAGES.providerRefused, { cause: reasonOf(error) });
    }
    throw new UnreachableError(error);
  }
}

/** Describes an error of oauth4webapi. Its own `cause` may have the provider's answer with tokens, and must not reach a log. @param {Error} error */
function reasonOf(error) {
  const { code = "", error: refusal = "" } = /** @type {{ code?: string, error?: string }} */ (/** @type {unknown} */ (error));
  return `${error.message} ${code} ${refusal}`.trim();
}

/** The status of an answer that is no answer of the protocol, such as the page of a proxy. @param {unknown} error */
function statusOf(error) {
  const cause = error instanceof oauth.OperationProcessingError ? error.cause : undefined;
  return cause instanceof Response ? cause.status : undefined;
}
