// Tests that concurrent calls go together in requests with several items, and that each has the result that its own request would have.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Api } from "../src/api.js";
import { ProblemError, UnreachableError } from "../src/errors.js";

const API = "https://api.example";
const { signal } = new AbortController();

/** Waits until all promises that can settle have settled. */
const settle = () => new Promise(setImmediate);

/** A fake of the service. Its requests wait to be answered, unless `answers` answers them. */
class Service {
  /** All requests: their path, epoch and items. */
  requests = [];
  /** The requests that are not answered yet. */
  held = [];
  /** Pauses before repetitions in milliseconds. */
  paused = [];
  /** Ends the time after which a request counts as slow. */
  slow = [];
  mostHeld = 0;
  epoch = "first";

  constructor({ answers } = {}) {
    this.answers = answers;
    const session = { token: async () => "token", refused() {}, expire() {} };
    const sleep = (ms) => {
      if (ms === 1_000) return new Promise((resolve) => this.slow.push(resolve));
      this.paused.push(ms);
      return Promise.resolve();
    };
    this.api = new Api(API, session, "device", { fetch: (url, request) => this.#fetch(url, request), random: () => 0, sleep });
  }

  #fetch(url, { method, headers, body, signal }) {
    const path = String(url).slice(API.length);
    if (path.startsWith("/spaces")) return Promise.resolve(Response.json({ spaces: [], epoch: this.epoch }));
    const said = JSON.parse(body ?? "{}");
    const items = said.uploads?.map(({ idempotencyKey }) => idempotencyKey) ?? said.uploadIds ?? [headers["Idempotency-Key"] ?? path.split("/").at(-2)];
    const request = { method, path, items, epoch: headers["Syncsphere-Epoch"], said };
    this.requests.push(request);
    return new Promise((resolve, reject) => {
      signal?.addEventListener("abort", () => reject(signal.reason));
      request.answer = (answer = {}) => {
        this.held = this.held.filter((other) => other !== request);
        if (answer instanceof Error) reject(answer);
        else resolve(Response.json(answer.body ?? this.body(request, answer.problems), { status: answer.status ?? 200, headers: answer.headers }));
      };
      this.held.push(request);
      this.mostHeld = Math.max(this.mostHeld, this.held.length);
      if (this.answers) setImmediate(() => request.answer(this.answers(request)));
    });
  }

  /** The answer to a request. `problems` has the results of the items that fail. */
  body({ path, items }, problems = {}) {
    const upload = (key) => ({ uploadId: `upload-of-${key}` });
    const change = (uploadId) => ({ eventId: `event of ${uploadId}` });
    if (path === "/uploads") return upload(items[0]);
    if (path === "/uploads/batch") return { results: items.map((key) => problems[key] ?? { status: 201, upload: upload(key) }) };
    if (path === "/uploads/batch/complete") return { results: items.map((uploadId) => problems[uploadId] ?? { status: 200, change: change(uploadId) }) };
    return change(items[0]);
  }

  open(key, { signal: ownSignal = signal, ...more } = {}) {
    return this.api.createUpload({ path: `/${key}`, size: 0, sha256: "x", deviceId: "device", ...more }, key, ownSignal);
  }

  /** Each request, as its path and the number of its items. */
  get shapes() {
    return this.requests.map(({ path, items }) => `${path.replace(API, "")} ${items.length}`);
  }
}

const keys = (count) => Array.from({ length: count }, (_, index) => `key-${index}`);

test("the first call goes at once and alone, and those that follow go together, in order and at most 100", async () => {
  const service = new Service();
  const calls = keys(250).map((key) => service.open(key));
  await settle();
  // Full requests do not wait. The last 49 do.
  assert.deepEqual(service.shapes, ["/uploads 1", "/uploads/batch 100", "/uploads/batch 100"]);
  service.held[1].answer();
  await settle();
  assert.deepEqual(service.shapes.slice(3), [], "a request with few items waits for those in flight");
  for (const request of [...service.held]) request.answer();
  await settle();
  assert.deepEqual(service.shapes.slice(3), ["/uploads/batch 49"]);
  service.held[0].answer();
  assert.deepEqual((await Promise.all(calls)).map(({ uploadId }) => uploadId), keys(250).map((key) => `upload-of-${key}`));
  assert.deepEqual(service.requests.flatMap(({ items }) => items), keys(250));
  assert.deepEqual(service.requests[1].said.uploads[0], { path: "/key-1", size: 0, sha256: "x", deviceId: "device", idempotencyKey: "key-1" });

  // A single item has the single route again.
  const one = service.api.completeUpload("u", signal);
  await settle();
  assert.equal(service.shapes.at(-1), "/uploads/u/complete 1");
  service.held[0].answer();
  assert.equal((await one).eventId, "event of u");
});

test("at most four requests of a route are in flight, and a slow one holds back no others", async () => {
  const service = new Service();
  const calls = keys(1_000).map((key) => service.open(key));
  await settle();
  assert.equal(service.held.length, 4);
  service.answers = () => ({});
  for (const request of [...service.held]) request.answer();
  await Promise.all(calls);
  assert.equal(service.mostHeld, 4);

  const slow = new Service();
  const later = ["a", "b", "c"].map((key) => slow.open(key));
  await settle();
  assert.deepEqual(slow.shapes, ["/uploads 1"]);
  slow.slow[0]();
  await settle();
  assert.deepEqual(slow.shapes, ["/uploads 1", "/uploads/batch 2"]);
  // Another one beside the slow one has to wait again.
  later.push(slow.open("d"));
  await settle();
  assert.equal(slow.held.length, 2);
  slow.held[1].answer();
  await settle();
  assert.deepEqual(slow.shapes.slice(2), ["/uploads 1"]);
  for (const request of [...slow.held]) request.answer();
  await Promise.all(later);
});

test("an item that fails has the error of its own request, and fails no other", async () => {
  const service = new Service();
  const first = service.api.completeUpload("first", signal);
  const [done, conflict, gone] = ["done", "conflict", "gone"].map((uploadId) => service.api.completeUpload(uploadId, signal));
  await settle();
  service.held[0].answer();
  await settle();
  service.held[0].answer({ problems: {
    conflict: { status: 409, problem: { code: "version-conflict", current: { version: 3, fileId: "f" } } },
    gone: { status: 410, problem: { code: "upload-expired" } },
  } });
  await first;
  assert.equal((await done).eventId, "event of done");
  await assert.rejects(conflict, (error) => error instanceof ProblemError && error.code === "version-conflict" && error.current.fileId === "f" && /to version 3/.test(error.message));
  await assert.rejects(gone, (error) => error instanceof ProblemError && error.status === 410 && !error.passing);
  assert.equal(service.requests.length, 2, "what cannot succeed is not repeated");
});

test("items that may succeed later are repeated, not before the time that the service names", async () => {
  const busy = { status: 503, problem: { code: "unavailable" } };
  const limited = (retryAfter) => ({ status: 429, problem: { code: "quota-exceeded", retryAfter } });
  let refusals = 0;
  const service = new Service({ answers: ({ path }) => (path.endsWith("/batch/complete") && refusals++ === 0 ? { problems: { a: busy, b: limited(2), c: limited(30) } } : {}) });
  const calls = ["first", "a", "b", "c", "d"].map((uploadId) => service.api.completeUpload(uploadId, signal));
  // The caller decides about half a minute.
  await assert.rejects(calls[3], (error) => error instanceof ProblemError && error.passing && error.retryAfter === 30_000);
  for (const index of [0, 1, 2, 4]) await calls[index];
  assert.deepEqual(service.paused.sort(), [0, 2_000]);
  const repeated = service.requests.slice(2).flatMap(({ items }) => items);
  assert.deepEqual(repeated.sort(), ["a", "b"]);
});

test("a request for one item waits as long, which its answer says in a header", async () => {
  const seconds = ["2", "30"];
  const service = new Service({ answers: () => (seconds.length ? { status: 429, body: { code: "quota-exceeded" }, headers: { "Retry-After": seconds.shift() } } : {}) });
  await assert.rejects(service.open("first"), (error) => error instanceof ProblemError && error.passing && error.retryAfter === 30_000);
  assert.deepEqual(service.paused, [2_000]);
  assert.equal((await service.open("first")).uploadId, "upload-of-first");
});

test("a request that fails as a whole is repeated with all items, and fails all of them in the end", async () => {
  let failures = 0;
  const cut = new Service({ answers: () => (failures++ < 2 ? { status: 503, body: {} } : {}) });
  await Promise.all(keys(10).map((key) => cut.open(key)));

  const never = new Service({ answers: () => ({ status: 500, body: {} }) });
  const outcomes = await Promise.allSettled(keys(10).map((key) => never.open(key)));
  assert.ok(outcomes.every(({ reason }) => reason instanceof ProblemError && reason.status === 500));

  // An answer that lacks a result is no success of any.
  const short = new Service({ answers: ({ path }) => (path === "/uploads/batch" ? { body: { results: [{ status: 201, upload: { uploadId: "u" } }] } } : {}) });
  const [, ...others] = await Promise.allSettled(keys(3).map((key) => short.open(key)));
  assert.ok(others.every(({ reason }) => /not answered for each/.test(reason?.message)), JSON.stringify(others));
});

test("a cancelled call ends at once, without a request, or without the end of the others' request", async () => {
  const service = new Service();
  const first = service.open("first");
  const [inFlight, waiting] = [new AbortController(), new AbortController()];
  const cancelled = [service.open("in-flight", { signal: inFlight.signal }), service.open("waiting", { signal: waiting.signal })];
  const other = service.open("other");
  waiting.abort();
  await assert.rejects(cancelled[1], { name: "AbortError" });
  await settle();
  service.held[0].answer();
  await settle();
  assert.deepEqual(service.requests[1].items, ["in-flight", "other"]);
  inFlight.abort();
  await assert.rejects(cancelled[0], { name: "AbortError" });
  service.held[0].answer();
  await Promise.all([first, other]);
  await settle();
  // The service has opened it.
  assert.deepEqual(service.requests.slice(2).map(({ method, path }) => [method, path]), [["DELETE", "/uploads/upload-of-in-flight"]]);
  await assert.rejects(service.open("late", { signal: waiting.signal }), { name: "AbortError" });
  assert.equal(service.requests.length, 3);
});

test("a service of an earlier release gets single requests from then on", async () => {
  const unknown = { status: 404, body: { message: "Not Found" } };
  const service = new Service({ answers: ({ path }) => (path.includes("/batch") ? unknown : {}) });
  const opened = await Promise.all(keys(50).map((key) => service.open(key)));
  assert.deepEqual(opened.map(({ uploadId }) => uploadId), keys(50).map((key) => `upload-of-${key}`));
  await Promise.all(keys(50).map((key) => service.api.completeUpload(key, signal)));
  assert.equal(service.requests.filter(({ path }) => path.includes("/batch")).length, 1);
  assert.equal(service.requests.length, 101);
  assert.equal(service.mostHeld, 6);
  assert.deepEqual(service.paused, []);
});

test("an unknown route is known also if the browser hides its answer, and a lost network is no unknown route", async () => {
  const hidden = new Service({ answers: ({ path }) => (path.includes("/batch") ? new TypeError("CORS") : {}) });
  await Promise.all(keys(10).map((key) => hidden.open(key)));
  await Promise.all(keys(10).map((key) => hidden.api.completeUpload(key, signal)));
  assert.equal(hidden.requests.filter(({ path }) => path.includes("/batch")).length, 1);

  let isLost = false;
  const service = new Service({ answers: () => (isLost ? new TypeError("network") : {}) });
  isLost = true;
  const outcomes = await Promise.allSettled(keys(10).map((key) => service.open(key)));
  assert.ok(outcomes.every(({ reason }) => reason instanceof UnreachableError));
  isLost = false;
  service.requests.length = 0;
  await Promise.all(keys(10).map((key) => service.open(key)));
  assert.deepEqual(service.shapes, ["/uploads 1", "/uploads/batch 9"]);
});

test("no request has an upload twice, or items of different epochs", async () => {
  const service = new Service();
  await service.api.listSpaces();
  const calls = ["first", "a", "b", "a"].map((uploadId) => service.api.completeUpload(uploadId, signal));
  service.epoch = "second";
  await service.api.listSpaces();
  calls.push(service.api.completeUpload("c", signal));
  service.answers = () => ({});
  await settle();
  service.held[0].answer();
  await Promise.all(calls);
  assert.deepEqual(service.requests.map(({ items, epoch }) => [epoch, ...items]), [["first", "first"], ["first", "a", "b"], ["first", "a"], ["second", "c"]]);
});
