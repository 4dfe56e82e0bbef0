// Tests signing in, renewing tokens, expiry and signing out.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Api } from "../src/api.js";
import { ChallengeEndedError, ProblemError, SessionExpiredError, SignInError, UnreachableError, isPassing } from "../src/errors.js";
import { CognitoSession } from "../src/cognito.js";

const config = { endpoint: "https://cognito.example", clientId: "client" };

/** A fake user pool with virtual time. */
class Pool {
  now = 1_000_000;
  /** Milliseconds by which its clock is ahead of the page's. */
  ahead = 0;
  /** Answers to the next requests of any kind. */
  answers = [];
  issued = 0;
  revoked = false;
  asked = [];
  gone = false;
  stored = new Map();
  challenge = null;
  /** The challenges after the first one. */
  then = [];

  token() {
    this.issued += 1;
    const iat = (this.now + this.ahead) / 1_000;
    const claims = { sub: "id-ü", "cognito:username": "alice", iat, exp: iat + 3_600, n: this.issued };
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
        if (this.answers.length > 0) return this.answers.shift();
        const refuse = (message, __type = "NotAuthorizedException") => new Response(JSON.stringify({ __type, message }), { status: 400 });
        if (action === "RevokeToken") return new Response("");
        if (said.AuthFlow === "REFRESH_TOKEN_AUTH") {
          if (this.revoked) return refuse("Refresh Token has been revoked");
          return Response.json({ AuthenticationResult: { IdToken: this.token() } });
        }
        if (said.AuthParameters?.PASSWORD === "wrong") return refuse("Incorrect username or password.");
        if (action === "InitiateAuth") this.challenges = [...(this.challenge ? [this.challenge] : []), ...this.then];
        else if (said.ChallengeResponses.SOFTWARE_TOKEN_MFA_CODE === "000000") return refuse("Invalid code received for user", "CodeMismatchException");
        const [name] = this.challenges.splice(0, 1);
        if (name) {
          this.issued += 1;
          const ChallengeParameters = { USER_ID_FOR_SRP: "alice", MFAS_CAN_CHOOSE: '["SMS_MFA","SOFTWARE_TOKEN_MFA"]' };
          return Response.json({ ChallengeName: name, Session: `session-${this.issued}`, ChallengeParameters });
        }
        return Response.json({ AuthenticationResult: { IdToken: this.token(), RefreshToken: "refresh" } });
      },
    };
  }
}

test("a token is used until shortly before it expires, and then replaced, once for all who ask", async () => {
  const pool = new Pool();
  const session = new CognitoSession({ ...config, ...pool.world() });
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
  const session = new CognitoSession({ ...config, ...pool.world() });
  await session.signIn("alice", "right");
  assert.deepEqual([...pool.stored.values()], ["refresh"]);
  const reloaded = new CognitoSession({ ...config, ...pool.world() });
  assert.equal(await reloaded.restore(), true);
  assert.equal(reloaded.state, "active");
  await reloaded.signOut();
  assert.equal(pool.stored.size, 0);
  assert.equal(pool.asked.at(-1)[0], "RevokeToken");
});

test("a session that ended says so and remembers whose it was; a network that is gone ends nothing", async () => {
  const pool = new Pool();
  const session = new CognitoSession({ ...config, ...pool.world() });
  const states = [];
  session.addEventListener("change", () => states.push(session.state));
  await session.signIn("alice", "right");
  pool.now += 4_000_000;
  pool.gone = true;
  await assert.rejects(session.token(), UnreachableError);
  assert.equal(session.state, "active");
  pool.gone = false;
  pool.revoked = true;
  await assert.rejects(session.token(), SessionExpiredError);
  assert.equal(session.user.name, "alice");
  await session.signIn("alice", "right");
  assert.deepEqual(states, ["active", "expired", "active"]);
});

test("how long a token is good is counted from when it came, whatever this computer takes for the time", async () => {
  for (const ahead of [-7_200_000, -3_600_000, 0, 3_600_000, 7_200_000]) {
    const pool = new Pool();
    pool.ahead = ahead;
    const session = new CognitoSession({ ...config, ...pool.world() });
    await session.signIn("alice", "right");
    for (let use = 0; use < 10; use += 1) {
      pool.now += 300_000;
      await session.token();
    }
    assert.equal(pool.issued, 1, `the clock is ${ahead / 60_000} minutes off`);
    pool.now += 3_600_000;
    await session.token();
    assert.equal(pool.issued, 2, `the clock is ${ahead / 60_000} minutes off`);
  }
});

test("throttling and a broken answer of the user pool end no session", async () => {
  const error = (status, __type) => new Response(JSON.stringify({ __type, message: "Rate exceeded" }), { status });
  const broken = [
    error(400, "TooManyRequestsException"), error(400, "com.amazonaws#ThrottlingException"), error(400, "LimitExceededException"), error(429, "Other"),
    error(503, "Other"), new Response("<html>Bad gateway</html>", { status: 502 }), new Response("<html>Sign in to the network</html>"),
  ];
  const pool = new Pool();
  const session = new CognitoSession({ ...config, ...pool.world() });
  await session.signIn("alice", "right");
  for (const answer of broken) {
    pool.now += 4_000_000;
    pool.answers.push(answer);
    await assert.rejects(session.token(), (failure) => failure instanceof UnreachableError && isPassing(failure));
    assert.equal(session.state, "active");
    assert.ok(await session.token());
  }
});

test("a new user chooses a password, and what cannot be answered is said", async () => {
  const pool = new Pool();
  const session = new CognitoSession({ ...config, ...pool.world() });
  await assert.rejects(session.signIn("alice", "wrong"), /Incorrect/);
  pool.challenge = "NEW_PASSWORD_REQUIRED";
  const asks = await session.signIn("alice", "first");
  assert.equal(asks.kind, "new-password");
  assert.equal(await asks.answer("second"), null);
  assert.deepEqual(pool.asked.at(-1)[1].ChallengeResponses, { USERNAME: "alice", NEW_PASSWORD: "second" });
  for (const challenge of ["SMS_MFA", "CUSTOM_CHALLENGE"]) {
    pool.challenge = challenge;
    await assert.rejects(new CognitoSession({ ...config, ...pool.world() }).signIn("alice", "right"), (error) => error instanceof SignInError && !error.message.includes(challenge));
  }
});

test("the code of an authenticator app is asked for, again after a wrong one, and is sent as Cognito documents it", async () => {
  const pool = new Pool();
  pool.challenge = "SOFTWARE_TOKEN_MFA";
  const session = new CognitoSession({ ...config, ...pool.world() });
  // An alias: challenges are answered with the name that Cognito returned.
  const asks = await session.signIn("alice@example.com", "right");
  assert.equal(asks.kind, "code");
  await assert.rejects(asks.answer("000000"), (error) => error instanceof SignInError && /code/.test(error.message));
  assert.equal(session.state, "signed-out");
  assert.equal(await asks.answer(" 123 456 "), null);
  assert.equal(session.state, "active");
  const [action, { ChallengeName, ChallengeResponses, Session: proof }] = pool.asked.at(-1);
  assert.deepEqual([action, ChallengeName, proof], ["RespondToAuthChallenge", "SOFTWARE_TOKEN_MFA", "session-1"]);
  assert.deepEqual(ChallengeResponses, { USERNAME: "alice", SOFTWARE_TOKEN_MFA_CODE: "123456" });
});

test("a code is asked for after a new password, and where another way could be chosen", async () => {
  const pool = new Pool();
  pool.challenge = "NEW_PASSWORD_REQUIRED";
  pool.then = ["SOFTWARE_TOKEN_MFA"];
  const session = new CognitoSession({ ...config, ...pool.world() });
  const asks = await session.signIn("alice", "first");
  const then = await asks.answer("second");
  assert.equal(then.kind, "code");
  assert.equal(await then.answer("123456"), null);
  assert.equal(pool.asked.at(-1)[1].Session, "session-2");

  pool.challenge = "SELECT_MFA_TYPE";
  const chosen = await new CognitoSession({ ...config, ...pool.world() }).signIn("alice", "right");
  assert.equal(chosen.kind, "code");
  assert.deepEqual(pool.asked.at(-1)[1].ChallengeResponses, { USERNAME: "alice", ANSWER: "SOFTWARE_TOKEN_MFA" });
});

test("a challenge that has ended says to begin anew", async () => {
  const pool = new Pool();
  pool.challenge = "SOFTWARE_TOKEN_MFA";
  const session = new CognitoSession({ ...config, ...pool.world() });
  const asks = await session.signIn("alice", "right");
  pool.answers.push(new Response(JSON.stringify({ __type: "NotAuthorizedException", message: "Invalid session for the user, session is expired." }), { status: 400 }));
  await assert.rejects(asks.answer("123456"), (error) => error instanceof ChallengeEndedError && /password/.test(error.message));
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
  await assert.rejects(api.createTicket(), SessionExpiredError);
  assert.equal(expired, 1);

  answers.push({ status: 409, body: { code: "version-conflict", detail: "Another.", current: { version: 2 } } });
  await assert.rejects(api.deleteFile({ fileId: "f", version: 1, path: "/a" }), (error) => error instanceof ProblemError && error.code === "version-conflict" && error.current.version === 2);

  answers.push(...Array.from({ length: 4 }, () => ({ status: 500 })));
  await assert.rejects(api.showFile("f"), (error) => error instanceof ProblemError && error.passing);
  assert.equal(answers.length, 0);

  answers.push({ status: 200, body: { spaces: [{ spaceId: "1" }], nextPageToken: "next" } }, { status: 200, body: { spaces: [{ spaceId: "2" }] } });
  assert.deepEqual((await api.listSpaces()).spaces.map((space) => space.spaceId), ["1", "2"]);
});

test("uploads, moves and deletions name the file and the path that they start from, and go without where the service does not know that", async () => {
  for (const knows of [true, false]) {
    const taken = [];
    const fetch = async (url, { method, body }) => {
      const said = { ...Object.fromEntries(new URL(url).searchParams), ...JSON.parse(body ?? "{}") };
      if (!knows && ("baseFileId" in said || "basePath" in said)) return Response.json({ code: "invalid-request" }, { status: 400 });
      delete said.deviceId;
      taken.push([method, said]);
      return Response.json({});
    };
    const session = { token: async () => "token", refused() {}, expire() {} };
    const api = new Api("https://api.example", session, "device", { fetch, random: () => 0, sleep: async () => {} });
    const seen = { fileId: "f", version: 3, path: "/a" };
    const { signal } = new AbortController();
    await api.moveFile(seen, "/b");
    await api.deleteFile(seen);
    await api.createUpload({ path: "/a", size: 0, sha256: "x", baseVersion: 3, baseFileId: "f" }, "key", signal);
    await api.createUpload({ path: "/new", size: 0, sha256: "x", baseVersion: 0, baseFileId: undefined }, "key-2", signal);
    const named = (more) => (knows ? more : {});
    assert.deepEqual(taken, [
      ["PATCH", { path: "/b", baseVersion: 3, ...named({ basePath: "/a" }) }],
      ["DELETE", { baseVersion: "3", ...named({ basePath: "/a" }) }],
      ["POST", { path: "/a", size: 0, sha256: "x", baseVersion: 3, ...named({ baseFileId: "f" }) }],
      ["POST", { path: "/new", size: 0, sha256: "x", baseVersion: 0 }],
    ]);
  }
});
