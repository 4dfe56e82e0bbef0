// Tests the watcher against a fake service with random faults in virtual time: each change arrives exactly once and in order, whatever is
// dropped, repeated, reordered, refused or cut. A failed run names its seed.

import assert from "node:assert/strict";
import { test } from "node:test";

import { SessionExpiredError } from "../src/errors.js";
import { HEARTBEAT, PONG_TIMEOUT, RECONNECT_LIMIT, RECONNECT_SPREAD, ROTATION, fullJitter } from "../src/timing.js";
import { Watcher } from "../src/watcher.js";
import { Service, VirtualTime, randomFrom } from "./stand-in.mjs";

const MINUTE = 60_000;

/** A watcher of a service, with the changes that it has reported. */
function watch(service, time, random, { applied = new Map() } = {}) {
  const told = { changes: new Map(), states: [], live: 0, rewound: [] };
  const watcher = new Watcher({
    source: service.source(),
    openSocket: (url) => service.open(url),
    timers: time.timers,
    random,
    startAt: (space) => applied.get(space.spaceId) ?? 0,
    onChange: (change, heardAt) => {
      const list = told.changes.get(change.spaceId) ?? [];
      list.push(change.sequence);
      told.changes.set(change.spaceId, list);
      applied.set(change.spaceId, change.sequence);
      if (heardAt !== null) told.live += 1;
    },
    onSpaces: () => {},
    onRewound: (space) => {
      told.rewound.push(space.spaceId);
      told.changes.delete(space.spaceId);
      applied.delete(space.spaceId);
    },
    onState: (state) => told.states.push(state.phase),
  });
  return { watcher, told };
}

/** Asserts that every change of every space was reported exactly once and in order. */
function assertAll(service, told, seed) {
  for (const [spaceId, log] of service.spaces) {
    const expected = log.map((change) => change.sequence);
    assert.deepEqual(told.changes.get(spaceId) ?? [], expected, `seed ${seed}, space ${spaceId}`);
  }
}

test("each change is told exactly once and in order, in 1,000 hostile runs", async () => {
  let drops = 0;
  let pushes = 0;
  for (let seed = 1; seed <= 1_000; seed += 1) {
    const random = randomFrom(seed);
    const time = new VirtualTime();
    const service = new Service(time, random, { hostility: random() });
    const { watcher, told } = watch(service, time, random);
    watcher.start();
    const spaces = ["a", "b", "c"];
    for (let step = 0; step < 250; step += 1) {
      service.commit(spaces[Math.floor(random() * spaces.length)], random() < 0.05 ? Math.ceil(random() * 150) : 1);
      // Mostly short intervals, sometimes hours, so that heartbeats, idle limits and rotations occur.
      await time.pass(random() < 0.05 ? random() * 180 * MINUTE : random() * 4_000);
      if (random() < 0.02) watcher.wake();
    }
    drops += service.drops;
    // A lost push is detected at the next push, so there is another one.
    service.calm();
    for (const space of service.spaces.keys()) service.commit(space);
    await time.pass(HEARTBEAT.to + PONG_TIMEOUT + RECONNECT_LIMIT + MINUTE);
    assert.equal(watcher.state.phase, "live", `seed ${seed}`);
    assertAll(service, told, seed);
    assert.deepEqual(told.rewound, [], `seed ${seed}`);
    pushes += told.live;
    watcher.stop();
  }
  // The runs had faults, and not all changes came from the feed.
  assert.ok(drops > 7_500, `${drops} drops`);
  assert.ok(pushes > 50_000, `${pushes} pushes`);
});

test("a frame with 100 changes is told in order and without a request", async () => {
  const random = randomFrom(1);
  const time = new VirtualTime();
  const service = new Service(time, random, { hostility: 0 });
  service.commit("a");
  const { watcher, told } = watch(service, time, random);
  watcher.start();
  await time.pass(MINUTE);
  const asked = { ...service.asked };
  for (let frame = 1; frame <= 3; frame += 1) {
    service.commit("a", 100);
    await time.pass(1_000);
    assert.equal(told.live, frame * 100);
  }
  assertAll(service, told, 1);
  assert.deepEqual(service.asked, asked);
  watcher.stop();
});

test("a space that went back to an earlier change is told of once, and read anew", async () => {
  const time = new VirtualTime();
  const service = new Service(time, randomFrom(20), { hostility: 0 });
  service.commit("a", 9);
  service.commit("b", 3);
  const { watcher, told } = watch(service, time, randomFrom(21));
  watcher.start();
  await time.pass(1_000);
  // The database is restored, so the service no longer knows the connections.
  service.spaces.get("a").length = 4;
  service.cutAll();
  await time.pass(MINUTE);
  assert.equal(watcher.state.phase, "live");
  assert.deepEqual(told.rewound, ["a"]);
  assertAll(service, told, 20);
  service.commit("a", 2);
  await time.pass(MINUTE);
  assert.deepEqual(told.rewound, ["a"]);
  assertAll(service, told, 20);
});

test("a space that went back and has as many changes again is noticed by the change that was applied last", async () => {
  const time = new VirtualTime();
  const service = new Service(time, randomFrom(22), { hostility: 0 });
  service.commit("a", 9);
  service.commit("b", 3);
  const { watcher, told } = watch(service, time, randomFrom(23));
  watcher.start();
  await time.pass(1_000);
  service.cutAll();
  // The database is restored to 4 and others make changes before this window reconnects.
  const log = service.spaces.get("a");
  log.length = 4;
  service.commit("a", 8);
  for (const change of log.slice(4)) change.eventId = `another-${change.sequence}`;
  service.commit("b", 2);
  await time.pass(MINUTE);
  assert.equal(watcher.state.phase, "live");
  assert.deepEqual(told.rewound, ["a"]);
  assertAll(service, told, 22);
});

test("another epoch is noticed in every space, however far the feeds are by then", async () => {
  const time = new VirtualTime();
  const service = new Service(time, randomFrom(24), { hostility: 0 });
  service.commit("a", 9);
  service.commit("b", 3);
  const { watcher, told } = watch(service, time, randomFrom(25));
  watcher.start();
  await time.pass(1_000);
  // Restored to an earlier state, and changed by others beyond what this window has seen. The connections stay.
  service.epoch = "second";
  for (const [spaceId, log] of service.spaces) {
    log.length = 0;
    service.commit(spaceId, 20);
  }
  await time.pass(MINUTE);
  assert.equal(watcher.state.phase, "live");
  assert.deepEqual(told.rewound, ["a", "b"]);
  assertAll(service, told, 24);
});

test("a connection that a restored database does not know is replaced, and changes are pushed again", async () => {
  const time = new VirtualTime();
  const service = new Service(time, randomFrom(26), { hostility: 0 });
  service.commit("a", 9);
  const { watcher, told } = watch(service, time, randomFrom(27));
  watcher.start();
  await time.pass(1_000);
  service.restore("second");
  service.commit("a");
  await time.pass(MINUTE);
  // A request of the page is refused. Until then nothing tells the watcher, also no ping.
  assert.equal(watcher.state.phase, "live");
  assert.deepEqual(told.rewound, []);
  told.states.length = 0;
  watcher.listAgain();
  await time.pass(RECONNECT_SPREAD + 1_000);
  assert.deepEqual(told.rewound, ["a"]);
  assert.equal(service.handshakes.length, 2);
  assert.equal(service.openSockets(), 1);
  // The watcher does not claim to be live before.
  assert.equal(told.states.indexOf("live"), told.states.length - 1, told.states.join());
  assertAll(service, told, 26);
  const before = told.live;
  service.commit("a");
  await time.pass(1_000);
  assert.equal(told.live, before + 1);
  // The new connection is as good as any other.
  await time.pass(ROTATION.from - MINUTE);
  assert.equal(service.handshakes.length, 2);
});

test("windows that notice a restored database at once replace their connections over 40 s", async () => {
  const time = new VirtualTime();
  const service = new Service(time, randomFrom(28), { hostility: 0 });
  service.commit("a");
  const watchers = Array.from({ length: 500 }, (_, index) => watch(service, time, randomFrom(100 + index)).watcher);
  for (const watcher of watchers) watcher.start();
  await time.pass(1_000);
  service.restore("second");
  service.handshakes.length = 0;
  for (const watcher of watchers) watcher.listAgain();
  await time.pass(RECONNECT_SPREAD + 1_000);
  assert.equal(service.handshakes.length, 500);
  const seconds = new Map();
  for (const at of service.handshakes) seconds.set(Math.floor(at / 1_000), (seconds.get(Math.floor(at / 1_000)) ?? 0) + 1);
  assert.ok(Math.max(...seconds.values()) < 40, [...seconds.values()].join());
});

test("a cut at any message is made up for", async () => {
  for (let message = 1; message <= 40; message += 1) {
    const time = new VirtualTime();
    const service = new Service(time, randomFrom(message), { hostility: 0 });
    service.cutAt = message;
    const { watcher, told } = watch(service, time, randomFrom(message));
    watcher.start();
    for (let step = 0; step < 40; step += 1) {
      service.commit(step % 3 ? "a" : "b");
      await time.pass(300);
    }
    await time.pass(MINUTE);
    assert.equal(service.drops, 1, `message ${message}`);
    assertAll(service, told, message);
    watcher.stop();
  }
});

test("who was away for longer than a page of the feed reads page after page", async () => {
  const time = new VirtualTime();
  const service = new Service(time, randomFrom(1), { hostility: 0 });
  for (let count = 0; count < 2_500; count += 1) service.commit("a");
  const { watcher, told } = watch(service, time, randomFrom(2));
  watcher.start();
  await time.pass(1_000);
  assertAll(service, told, 1);
  assert.equal(service.asked.listChanges, 3);
});

test("a space that is shared later is heard of, and one that was left is not asked for again", async () => {
  const time = new VirtualTime();
  const service = new Service(time, randomFrom(3), { hostility: 0 });
  service.commit("personal");
  const { watcher, told } = watch(service, time, randomFrom(4));
  watcher.start();
  await time.pass(1_000);
  service.commit("team", 5);
  service.commit("personal", 1, { eventType: "SPACE_SHARED", subjectSpaceId: "team", role: "editor" });
  await time.pass(1_000);
  assert.deepEqual(told.changes.get("team"), [1, 2, 3, 4, 5]);
  service.spaces.delete("team");
  service.commit("personal", 1, { eventType: "SPACE_LEFT", subjectSpaceId: "team" });
  await time.pass(1_000);
  const asked = service.asked.listChanges;
  service.commit("personal");
  await time.pass(1_000);
  assert.equal(service.asked.listChanges, asked);
  assert.equal(watcher.state.phase, "live");
});

/** A watcher that is connected to a service without faults. */
async function connected(seed, { mute = false } = {}) {
  const time = new VirtualTime();
  const service = new Service(time, randomFrom(seed), { hostility: 0 });
  service.mute = mute;
  service.commit("a");
  const { watcher, told } = watch(service, time, randomFrom(seed + 1));
  watcher.start();
  await time.pass(1_000);
  return { time, service, watcher, told };
}

test("a ping follows each time of silence, and a connection that does not answer is replaced", async () => {
  const { time, service, watcher } = await connected(5);
  await time.pass(100 * MINUTE);
  const gaps = service.pings.map((at, index) => at - (service.pings[index - 1] ?? service.handshakes[0]));
  assert.ok(gaps.length >= 11, `${gaps.length}`);
  for (const gap of gaps) assert.ok(gap >= HEARTBEAT.from && gap <= HEARTBEAT.to + 100, `${gap}`);
  assert.equal(service.handshakes.length, 1);
  service.mute = true;
  await time.pass(9 * MINUTE);
  service.mute = false;
  await time.pass(MINUTE);
  assert.equal(watcher.state.phase, "live");
  assert.equal(service.handshakes.length, 2);
});

test("a received change delays the ping", async () => {
  const { time, service } = await connected(30);
  for (let count = 0; count < 12; count += 1) {
    service.commit("a");
    await time.pass(7.5 * MINUTE);
  }
  assert.equal(service.pings.length, 0);
  await time.pass(1.5 * MINUTE);
  assert.equal(service.pings.length, 1);
});

test("where pings are never answered, one connection is replaced and the next one kept", async () => {
  const { time, service, watcher, told } = await connected(32, { mute: true });
  await time.pass(50 * MINUTE);
  watcher.wake();
  await time.pass(50 * MINUTE);
  assert.deepEqual([service.handshakes.length, service.drops], [2, 0]);
  assert.equal(told.states.filter((state) => state === "waiting").length, 1);
  service.commit("a");
  await time.pass(1_000);
  assertAll(service, told, 32);
});

test("the next connection is made before the former one is broken, at 105 to 115 minutes", async () => {
  const time = new VirtualTime();
  const service = new Service(time, randomFrom(7), { hostility: 0 });
  service.commit("a");
  const { watcher, told } = watch(service, time, randomFrom(8));
  watcher.start();
  let most = 0;
  for (let minute = 0; minute < 10 * 60; minute += 1) {
    await time.pass(MINUTE);
    service.commit("a");
    most = Math.max(most, service.mostOpen);
    assert.ok(service.openSockets() >= 1, `nobody listens at minute ${minute}`);
  }
  await time.pass(1_000);
  const gaps = service.handshakes.map((at, index) => at - (service.handshakes[index - 1] ?? 0)).slice(1);
  assert.equal(gaps.length, 5);
  for (const gap of gaps) assert.ok(gap >= ROTATION.from && gap <= ROTATION.to + 1_000, `${gap / MINUTE} min`);
  assert.equal(most, 2);
  assert.ok(!told.states.includes("waiting"));
  assertAll(service, told, 7);
});

test("who has no session waits for one, keeps what it has, and goes on where it was", async () => {
  const time = new VirtualTime();
  const service = new Service(time, randomFrom(9), { hostility: 0 });
  service.commit("a", 3);
  const { watcher, told } = watch(service, time, randomFrom(10));
  watcher.start();
  await time.pass(1_000);
  service.refuse = () => new SessionExpiredError();
  service.cutAll();
  await time.pass(MINUTE);
  assert.equal(watcher.state.phase, "expired");
  const asked = service.asked.createTicket;
  service.commit("a", 4);
  await time.pass(60 * MINUTE);
  assert.equal(service.asked.createTicket, asked, "it asks for nothing meanwhile");
  service.refuse = null;
  watcher.wake();
  await time.pass(1_000);
  assert.equal(watcher.state.phase, "live");
  assertAll(service, told, 9);
});

test("waking up connects at once instead of when its turn is", async () => {
  const time = new VirtualTime();
  const service = new Service(time, randomFrom(11), { hostility: 0 });
  service.commit("a");
  const { watcher } = watch(service, time, () => 0.999);
  watcher.start();
  await time.pass(1_000);
  watcher.lose();
  await time.pass(1_000);
  assert.equal(watcher.state.phase, "waiting");
  watcher.wake();
  await time.pass(1_000);
  assert.equal(watcher.state.phase, "live");
});

test("an answer that comes after stopping does nothing", async () => {
  const time = new VirtualTime();
  const service = new Service(time, randomFrom(12), { hostility: 0 });
  service.commit("a", 3);
  const { watcher, told } = watch(service, time, randomFrom(13));
  watcher.start();
  watcher.stop();
  await time.pass(10 * MINUTE);
  assert.equal(told.changes.size, 0);
  assert.equal(service.openSockets(), 0);
});

test("10,000 that are dropped at once come back at under 400 a second, and try at under 500 while they cannot", () => {
  for (const [failingUntil, limit] of [[0, 400], [60_000, 500], [600_000, 500]]) {
    const random = randomFrom(failingUntil + 1);
    const perSecond = new Map();
    for (let client = 0; client < 10_000; client += 1) {
      let at = 0;
      for (let failures = 0; ; failures += 1) {
        at += fullJitter(failures, { first: RECONNECT_SPREAD, limit: RECONNECT_LIMIT }, random);
        const second = Math.floor(at / 1_000);
        perSecond.set(second, (perSecond.get(second) ?? 0) + 1);
        if (at >= failingUntil) break;
      }
    }
    const most = Math.max(...perSecond.values());
    assert.ok(most < limit, `${most} in a second, failing for ${failingUntil} ms`);
  }
});

test("a feed with a gap is read again, and nothing is skipped", async () => {
  const time = new VirtualTime();
  const service = new Service(time, randomFrom(14), { hostility: 0 });
  service.commit("a", 9);
  const { watcher, told } = watch(service, time, randomFrom(15));
  service.skipOnce = 4;
  watcher.start();
  await time.pass(MINUTE);
  assert.equal(watcher.state.phase, "live");
  assertAll(service, told, 14);
});
