// Signing in, staying signed in, and not being it any more.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Api } from "../site/src/api.js";
import { Problem, SessionExpired, Unreachable } from "../site/src/errors.js";
import { Session, SignInError } from "../site/src/session.js";

const config = { httpApiUrl: "https://api.example", cognitoEndpoint: "https://cognito.example", userPoolClientId: "client" };

/** A user pool, and time. */
class Pool {
  now = 1_000_000;
  issued = 0;
  revoked = false;
  asked = [];
  gone = false;
  stored = new Map();
  challenge = null;

  token() {
    this.issued += 1;
    const claims = { sub: "id-ü", "cognito:username": "alice", exp: this.now / 1_000 + 3_600, n: this.issued };
    return `x.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.x`;
  }

  world() {
    return {
      now: () => this.now,
      storage: { getItem: (key) => this.stored.get(key) ?? null, setItem: (key, value) => void this.stored.set(key, value), removeItem: (key) => void this.stored.delete(key) },
      fetch: async (_, { headers, body }) => {
        const action = headers["X-Amz-Target"].split(".")[1];
        const said = JSON.parse(body);
        this.asked.push([action, said]);
        if (this.gone) throw new TypeError("network");
        const refuse = (message) => new Response(JSON.stringify({ __type: "NotAuthorizedException", message }), { status: 400 });
        if (action === "RevokeToken") return new Response("");
        if (said.AuthFlow === "REFRESH_TOKEN_AUTH") {
          if (this.revoked) return refuse("Refresh Token has been revoked");
          return Response.json({ AuthenticationResult: { IdToken: this.token() } });
        }
        if (said.AuthParameters?.PASSWORD === "wrong") return refuse("Incorrect username or password.");
        if (this.challenge && action === "InitiateAuth") return Response.json({ ChallengeName: this.challenge, Session: "s" });
        return Response.json({ AuthenticationResult: { IdToken: this.token(), RefreshToken: "refresh" } });
      },
    };
  }
}

test("a token is used until shortly before it expires, and then replaced, once for all who ask", async () => {
  const pool = new Pool();
  const session = new Session(config, pool.world());
  await session.signIn("alice", "right");
  assert.deepEqual(session.user, { userId: "id-ü", name: "alice" });
  const first = await session.token();
  assert.equal(await session.token(), first);
  pool.now += 3_545_000;
  const [a, b] = await Promise.all([session.token(), session.token()]);
  assert.ok(a === b && a !== first);
  assert.equal(pool.issued, 2);
});

test("the id token is kept nowhere but in memory, and a reload goes on", async () => {
  const pool = new Pool();
  const session = new Session(config, pool.world());
  await session.signIn("alice", "right");
  assert.deepEqual([...pool.stored.values()], ["refresh"]);
  const reloaded = new Session(config, pool.world());
  assert.equal(await reloaded.restore(), true);
  assert.equal(reloaded.state, "active");
  await reloaded.signOut();
  assert.equal(pool.stored.size, 0);
  assert.equal(pool.asked.at(-1)[0], "RevokeToken");
});

test("a session that ended says so and remembers whose it was; a network that is gone ends nothing", async () => {
  const pool = new Pool();
  const session = new Session(config, pool.world());
  const states = [];
  session.addEventListener("change", () => states.push(session.state));
  await session.signIn("alice", "right");
  pool.now += 4_000_000;
  pool.gone = true;
  await assert.rejects(session.token(), Unreachable);
  assert.equal(session.state, "active");
  pool.gone = false;
  pool.revoked = true;
  await assert.rejects(session.token(), SessionExpired);
  assert.equal(session.user.name, "alice");
  await session.signIn("alice", "right");
  assert.deepEqual(states, ["active", "expired", "active"]);
});

test("a new user chooses a password, and what cannot be answered is said", async () => {
  const pool = new Pool();
  const session = new Session(config, pool.world());
  await assert.rejects(session.signIn("alice", "wrong"), /Incorrect/);
  pool.challenge = "NEW_PASSWORD_REQUIRED";
  const asks = await session.signIn("alice", "first");
  assert.equal(await asks.answer("second"), null);
  assert.deepEqual(pool.asked.at(-1)[1].ChallengeResponses, { USERNAME: "alice", NEW_PASSWORD: "second" });
  pool.challenge = "SMS_MFA";
  await assert.rejects(new Session(config, pool.world()).signIn("alice", "right"), SignInError);
});

test("a request is repeated when it may help, with a new token when the token is refused, and no more often", async () => {
  const answers = [];
  const sent = [];
  let tokens = 0;
  let expired = 0;
  const session = { token: async () => `token-${tokens}`, refused: () => void (tokens += 1), expire: () => void (expired += 1) };
  const fetch = async (url, { method, headers }) => {
    sent.push([method, String(url), headers.Authorization]);
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return new Response(JSON.stringify(answer.body ?? {}), { status: answer.status });
  };
  const api = new Api("https://api.example/", session, "device", { fetch, random: () => 0, sleep: async () => {} });

  answers.push(new TypeError("network"), { status: 503, body: {} }, { status: 429 }, { status: 200, body: { changes: [], hasMore: false } });
  await api.listChanges("a b", 3, 10);
  assert.equal(sent.at(-1)[1], "https://api.example/changes?spaceId=a+b&after=3&limit=10");
  assert.equal(sent.length, 4);

  answers.push({ status: 401 }, { status: 200, body: { spaces: [] } });
  await api.listSpaces();
  assert.equal(sent.at(-1)[2], "Bearer token-1");

  answers.push({ status: 401 }, { status: 401 });
  await assert.rejects(api.createTicket(), SessionExpired);
  assert.equal(expired, 1);

  answers.push({ status: 409, body: { code: "version-conflict", detail: "Another.", current: { version: 2 } } });
  await assert.rejects(api.deleteFile("f", 1), (error) => error instanceof Problem && error.code === "version-conflict" && error.current.version === 2);

  answers.push(...Array.from({ length: 4 }, () => ({ status: 500 })));
  await assert.rejects(api.showFile("f"), (error) => error instanceof Problem && error.passing);
  assert.equal(answers.length, 0);

  answers.push({ status: 200, body: { spaces: [{ spaceId: "1" }], nextPageToken: "next" } }, { status: 200, body: { spaces: [{ spaceId: "2" }] } });
  assert.deepEqual((await api.listSpaces()).map((space) => space.spaceId), ["1", "2"]);
});
