// Tests what the iterator of changes tells its caller, and how much it reads ahead, in virtual time.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ChangeStream } from "../src/changes.js";
import { ProblemError, SessionExpiredError } from "../src/errors.js";
import { POLL_INTERVAL, RECONNECT_LIMIT } from "../src/timing.js";
import { VirtualTime, randomFrom } from "./stand-in.mjs";
import { VectorService } from "./vector-service.mjs";

const SECOND = 1_000;

/** A stream of a service whose updates are collected. */
function watching(options = {}, { reads = true, blocked = { is: false }, prepare = () => {} } = {}) {
  const time = new VirtualTime();
  const service = new VectorService(time);
  const source = service.source();
  prepare(service, source);
  const open = (url) => service.open(blocked.is ? `refused ${url}` : url);
  const stream = new ChangeStream(null, open, options, { timers: time.timers, random: randomFrom(1), source });
  const updates = [];
  let failure;
  const listen = async () => {
    for await (const update of stream) updates.push(update);
  };
  if (reads) listen().catch((error) => (failure = error));
  const types = () => updates.map(({ type }) => type);
  const changes = () => updates.flatMap(({ change }) => (change ? [`${change.spaceId} ${change.sequence}`] : []));
  return { time, service, source, stream, updates, types, changes, listen, failure: () => failure };
}

test("where no WebSocket can be opened, changes are read every 30 to 60 s, until one can", async () => {
  const blocked = { is: true };
  const { time, service, types, changes } = watching({}, { blocked });
  await time.pass(SECOND);
  service.commit("0", 2);
  await time.pass(POLL_INTERVAL.to + SECOND);
  service.commit("1", 1);
  await time.pass(POLL_INTERVAL.to + SECOND);
  assert.deepEqual(changes(), ["0 1", "0 2", "1 1"]);
  await time.pass(60 * 60 * SECOND);
  assert.equal(types().filter((type) => type === "polling").length, 1, types().join());
  assert.ok(!types().includes("live"));
  blocked.is = false;
  await time.pass(RECONNECT_LIMIT + SECOND);
  assert.equal(types().at(-1), "live");
  service.commit("0", 1);
  await time.pass(SECOND);
  assert.deepEqual(changes().slice(-1), ["0 3"]);
});

test("where requests fail too, the caller is told when the next attempt is, and nothing is read before", async () => {
  let asked = 0;
  const prepare = (service, source) => {
    service.setFaults({ frames: ".", requests: "b", pings: "." });
    for (const name of ["createTicket", "listSpaces"]) {
      const original = source[name];
      source[name] = () => ((asked += 1), original());
    }
  };
  const { time, types, updates } = watching({}, { prepare });
  await time.pass(SECOND);
  assert.deepEqual(types(), ["offline"]);
  // A ticket, and the attempt to read without one.
  assert.equal(asked, 2);
  await time.pass(updates[0].retryAt.getTime() - time.timers.now() - 1);
  assert.equal(asked, 2);
  await time.pass(10);
  assert.equal(asked, 3);
});

test("a caller that takes no updates makes the watcher read no further, and misses none", async () => {
  const { time, service, stream, changes, listen } = watching({}, { reads: false });
  let pages = 0;
  service.commit("0", 5_500);
  const feed = service.feed("0");
  service.feed = (space) => ((pages += space === "0" ? 1 : 0), space === "0" ? feed : VectorService.prototype.feed.call(service, space));
  await time.pass(10 * SECOND);
  // One to list the spaces, and one page.
  assert.equal(pages, 2);
  // Pushed changes are not kept either.
  service.commit("0", 400);
  await time.pass(10 * SECOND);
  void listen();
  await time.pass(60 * SECOND);
  assert.equal(changes().length, 5_900);
  assert.deepEqual(changes(), feed.map(({ sequence }) => `0 ${sequence}`));
  stream.close();
});

test("a stream of one space has nothing of others, and throws when access ends", async () => {
  const { time, service, changes, failure } = watching({ spaceId: "1" });
  service.commit("0", 3);
  service.commit("1", 2);
  await time.pass(SECOND);
  service.commit("0", 3);
  service.commit("1", 1);
  await time.pass(SECOND);
  assert.deepEqual(changes(), ["1 1", "1 2", "1 3"]);
  service.leave("1");
  await time.pass(SECOND);
  assert.ok(failure() instanceof ProblemError && failure().status === 404, String(failure()));
});

test("a stream from now on leaves out the past, but not of spaces that are shared later", async () => {
  const { time, service, changes, types } = watching({ from: "now" });
  service.commit("0", 3);
  service.commit("2", 2);
  await time.pass(SECOND);
  assert.deepEqual(types(), ["epoch", "live"]);
  service.share("2");
  await time.pass(SECOND);
  assert.deepEqual(changes(), ["0 4", "2 1", "2 2"]);
});

test("an ended session ends the stream with its error, once", async () => {
  const prepare = (_, source) => {
    source.createTicket = async () => {
      throw new SessionExpiredError();
    };
  };
  const { time, stream, failure } = watching({}, { prepare });
  await time.pass(SECOND);
  assert.ok(failure() instanceof SessionExpiredError);
  assert.deepEqual(await stream.next(), { done: true, value: undefined });
});

test("a signal ends the loop, and all connections and timers", async () => {
  const ending = new AbortController();
  const { time, service, failure, types } = watching({ signal: ending.signal });
  await time.pass(SECOND);
  const before = types().length;
  ending.abort();
  service.commit("0", 1);
  await time.pass(3 * 60 * 60 * SECOND);
  assert.equal(types().length, before);
  assert.equal(failure(), undefined);
});
