// Tests OIDC sessions with a real provider, `oidc-provider`, on the local machine.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { inspect } from "node:util";

import Provider from "oidc-provider";

import { SessionExpiredError, SignInError, UnreachableError } from "../src/errors.js";
import { OidcSession } from "../src/oidc.js";
import { MemoryStorage } from "../src/storage.js";

const REDIRECT = "http://127.0.0.1:9/signed-in";

let server;
let issuer;
/** The requests of the provider, by their path. */
const asked = [];
/** What the provider does in place of an answer to the next request for tokens. @type {((response: import("node:http").ServerResponse) => void) | null} */
let fault = null;

before(async () => {
  server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: "files", token_endpoint_auth_method: "none", redirect_uris: [REDIRECT], grant_types: ["authorization_code", "refresh_token"],
      post_logout_redirect_uris: [REDIRECT], application_type: "native",
    }],
    claims: { openid: ["sub"], email: ["email"], profile: ["name"] },
    conformIdTokenClaims: false,
    features: {
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({ scope: "", audience: "files-api", accessTokenFormat: "jwt" }),
        useGrantedResource: () => true,
      },
      revocation: { enabled: true, allowedPolicy: () => true }, devInteractions: { enabled: false }, rpInitiatedLogout: { enabled: true },
    },
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, name: "Alice Ü", email: "alice@example.com" }) }),
    // The user is signed in and agrees at once, where a person would see forms.
    interactions: { url: (_, { uid }) => `/interaction/${uid}` },
    rotateRefreshToken: true,
    pkce: { required: () => true },
    cookies: { keys: ["key of the test"] },
    ttl: { IdToken: 3_600, AccessToken: 3_600, RefreshToken: 86_400, Session: 86_400, Interaction: 3_600, Grant: 86_400 },
  });
  const callback = provider.callback();
  server.on("request", async (request, response) => {
    const { pathname } = new URL(request.url, issuer);
    asked.push(pathname);
    if (pathname === "/token" && fault) {
      const act = fault;
      fault = null;
      act(response);
    } else if (pathname.startsWith("/interaction/")) {
      await interact(provider, request, response);
    } else {
      callback(request, response);
    }
  });
});

after(() => server.close());

/** Signs the user in, and agrees to what the client asks for. A `login_hint` of `nobody` refuses. */
async function interact(provider, request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  if (params.login_hint === "nobody") {
    await provider.interactionFinished(request, response, { error: "access_denied" });
  } else if (prompt.name === "login") {
    await provider.interactionFinished(request, response, { login: { accountId: "alice-id" } });
  } else {
    const grant = grantId ? await provider.Grant.find(grantId) : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    grant.addOIDCScope(String(params.scope));
    await provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } });
  }
}

/** Follows the provider's redirections with its cookies, as a browser does, to the address of the client. */
async function browse(address) {
  const cookies = new Map();
  for (let url = address; ; ) {
    const headers = { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join("; ") };
    const answer = await fetch(url, { redirect: "manual", headers });
    for (const cookie of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
      cookies.set(name, value);
    }
    assert.ok([302, 303].includes(answer.status), `${answer.status} of ${url}: ${await answer.text()}`);
    url = new URL(answer.headers.get("location"), issuer).href;
    if (url.startsWith(REDIRECT)) return url;
  }
}

const options = (more = {}) => ({ issuer, clientId: "files", redirectUri: REDIRECT, scope: "openid profile email offline_access", ...more });

/** A session that is signed in, its storage, and a clock that the test sets. */
async function signedIn(more = {}, parameters = {}) {
  const storage = new MemoryStorage();
  const clock = { ahead: 0 };
  const session = new OidcSession(options({ storage, now: () => Date.now() + clock.ahead, ...more }));
  assert.ok(await session.complete(await browse(await session.begin({ prompt: "consent", ...parameters }))));
  return { session, storage, clock };
}

const tokenRequests = () => asked.filter((path) => path === "/token").length;
const claimsOf = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));

test("a user signs in by the provider's page, and the token is the provider's ID token", async () => {
  const { session } = await signedIn();
  assert.equal(session.state, "active");
  assert.equal(session.user.userId, "alice-id");
  const { iss, aud, sub } = claimsOf(await session.token());
  assert.deepEqual({ iss, aud, sub }, { iss: issuer, aud: "files", sub: "alice-id" });
});

test("a token is renewed before it expires, with a refresh token that is used once", async () => {
  const { session, storage, clock } = await signedIn();
  await session.token();
  const kept = storage.getItem("syncsphere.oidc");
  assert.ok(kept);
  clock.ahead += 3_545_000;
  const before = tokenRequests();
  await Promise.all([session.token(), session.token()]);
  await session.token();
  assert.equal(tokenRequests(), before + 1);
  const rotated = storage.getItem("syncsphere.oidc");
  assert.notEqual(rotated, kept);
  // After a reload the session goes on with the newest refresh token.
  const reloaded = new OidcSession(options({ storage }));
  assert.ok(await reloaded.restore());
  assert.equal(reloaded.user.userId, "alice-id");
});

test("no token is stored but the refresh token, and nothing remains after signing out", async () => {
  const { session, storage, clock } = await signedIn();
  assert.equal(storage.getItem("syncsphere.oidc.begun"), null);
  assert.equal(storage.getItem("syncsphere.oidc").split(".").length, 1, "an opaque token");
  const former = storage.getItem("syncsphere.oidc");
  const page = await session.signOut();
  assert.match(page, /\/session\/end\?.*post_logout_redirect_uri=/);
  assert.equal(session.state, "signed-out");
  assert.equal(storage.getItem("syncsphere.oidc"), null);
  // The provider has revoked it.
  storage.setItem("syncsphere.oidc", former);
  await assert.rejects(new OidcSession(options({ storage, now: () => Date.now() + clock.ahead })).restore(), SessionExpiredError);
});

test("a refresh token that the provider takes no more ends the session, and an unreachable provider does not", async () => {
  const { session, storage, clock } = await signedIn();
  clock.ahead += 3_600_000;
  for (const act of [(response) => response.destroy(), (response) => response.writeHead(503).end(), (response) => response.writeHead(429).end()]) {
    fault = act;
    await assert.rejects(session.token(), UnreachableError);
    assert.equal(session.state, "active");
  }
  assert.ok(await session.token());
  clock.ahead += 3_600_000;
  fault = (response) => response.writeHead(400, { "content-type": "application/json" }).end('{"error":"invalid_grant"}');
  await assert.rejects(session.token(), SessionExpiredError);
  assert.deepEqual([session.state, session.user.userId, storage.getItem("syncsphere.oidc")], ["expired", "alice-id", null]);
  // The same user signs in again.
  assert.ok(await session.complete(await browse(await session.begin({ prompt: "consent" }))));
  assert.equal(session.state, "active");
});

test("an answer of the provider that cannot be used is part of no error", async () => {
  const secret = "the-secret-token";
  const answers = [
    `{"access_token":"${secret}","refresh_token":"${secret}","token_type":7}`,
    `{"access_token":"${secret}","token_type":"bearer","id_token":"${secret}"}`,
    `{"access_token":"${secret}"`,
  ];
  for (const text of answers) {
    const session = new OidcSession(options());
    const address = await browse(await session.begin({ prompt: "consent" }));
    fault = (response) => response.writeHead(200, { "content-type": "application/json" }).end(text);
    const error = await session.complete(address).then(() => assert.fail("signed in"), (error) => error);
    assert.ok(error instanceof SignInError);
    assert.doesNotMatch(inspect(error, { depth: 10 }), new RegExp(secret.slice(0, 8)));
  }
});

test("the answer to another sign-in is refused, and one that never began here is not taken", async () => {
  const session = new OidcSession(options());
  assert.equal(await session.complete(`${REDIRECT}?code=x&state=y`), false);
  const foreign = await browse(await new OidcSession(options()).begin({ prompt: "consent" }));
  await session.begin();
  const before = tokenRequests();
  await assert.rejects(session.complete(foreign), SignInError);
  assert.equal(tokenRequests(), before, "the code was not sent");
  assert.equal(session.state, "signed-out");
  // The page of the client itself.
  assert.equal(await session.complete(REDIRECT), false);
});

test("a code without the verifier that began it is of no use", async () => {
  const storage = new MemoryStorage();
  const session = new OidcSession(options({ storage }));
  const answer = await browse(await session.begin({ prompt: "consent" }));
  const begun = JSON.parse(storage.getItem("syncsphere.oidc.begun"));
  storage.setItem("syncsphere.oidc.begun", JSON.stringify({ ...begun, verifier: "x".repeat(43) }));
  await assert.rejects(session.complete(answer), SignInError);
  assert.equal(session.state, "signed-out");
});

test("a user who refuses is told so, without terms of the protocol", async () => {
  const session = new OidcSession(options());
  const answer = await browse(await session.begin({ login_hint: "nobody" }));
  await assert.rejects(session.complete(answer), (error) => {
    assert.ok(error instanceof SignInError);
    assert.match(error.message, /not signed in/);
    assert.doesNotMatch(error.message, /access_denied|OIDC|code/);
    return true;
  });
});

test("the access token is used where the service takes that, if it says when it expires", async () => {
  const { session } = await signedIn({ token: "access" }, { resource: "urn:files" });
  const { aud, exp, iat } = claimsOf(await session.token());
  assert.deepEqual([aud, exp - iat], ["files-api", 3_600]);
  assert.equal(session.user.userId, "alice-id");
  // Without a resource the provider's access tokens are opaque.
  await assert.rejects(signedIn({ token: "access" }), SignInError);
});
