// Tests that changes keep a list of files current that was read once, whenever the changes arrive.

import assert from "node:assert/strict";
import { test } from "node:test";

import { SpaceModel } from "../site/src/spaces.js";
import { randomFrom } from "../../js/test/stand-in.mjs";

/** A space of the service with random changes: its feed, and its files after each change. */
function history(random, length) {
  const files = new Map();
  const log = [];
  const states = [[]];
  for (let sequence = 1; sequence <= length; sequence += 1) {
    const ids = [...files.keys()];
    const choice = random();
    let change;
    if (ids.length === 0 || choice < 0.5) {
      const fileId = ids.length && random() < 0.4 ? ids[Math.floor(random() * ids.length)] : `file-${sequence}`;
      const known = files.get(fileId);
      change = { eventType: "FILE_UPDATED", fileId, path: known?.path ?? `/${Math.floor(random() * 1e6)}-${String.fromCodePoint(0x61 + (sequence % 26), 0x1f600 + sequence)}`, version: (known?.version ?? 0) + 1 };
    } else {
      const fileId = ids[Math.floor(random() * ids.length)];
      const known = files.get(fileId);
      change = choice < 0.8 ? { eventType: "FILE_MOVED", fileId, path: `/moved-${sequence}`, version: known.version } : { eventType: "FILE_DELETED", fileId, path: known.path, version: known.version };
    }
    Object.assign(change, { sequence, size: sequence, sha256: "x", occurredAt: "2026-01-01T00:00:00Z", spaceId: "s", eventId: `e${sequence}`, userId: "u" });
    log.push(change);
    if (change.eventType === "FILE_DELETED") files.delete(change.fileId);
    else files.set(change.fileId, { fileId: change.fileId, path: change.path, version: change.version });
    states.push([...files.values()].map((file) => ({ ...file, size: 0, sha256: "x" })));
  }
  return { log, states };
}

const view = (files) => [...files].map(({ fileId, path, version }) => `${fileId} ${path} ${version}`).sort();
const byCodePoint = (a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path));

test("a list that is read while changes come ends as the service has it", async () => {
  for (let seed = 1; seed <= 500; seed += 1) {
    const random = randomFrom(seed);
    const { log, states } = history(random, 40);
    const cursor = Math.floor(random() * 30);
    const readAt = cursor + Math.floor(random() * (log.length - cursor));
    const space = new SpaceModel({ spaceId: "s", kind: "shared", role: "editor", latestSequence: cursor });
    let answer;
    const reading = space.load(() => new Promise((resolve) => (answer = resolve)));
    const early = cursor + Math.floor(random() * (log.length - cursor));
    for (const change of log.slice(cursor, early)) space.apply(change, null, false);
    answer({ files: states[readAt] });
    await reading;
    for (const change of log.slice(early)) space.apply(change, 1, false);
    assert.deepEqual(view(space.files.values()), view(states[log.length]), `seed ${seed}`);
    assert.deepEqual(space.sorted.map((file) => file.path), [...states[log.length]].sort(byCodePoint).map((file) => file.path));
  }
});

test("beyond the pages that were read nothing is shown, and nothing is known", async () => {
  const space = new SpaceModel({ spaceId: "s", kind: "shared", role: "editor", latestSequence: 0 });
  const files = ["/a", "/b", "/c", "/d"].map((path, index) => ({ fileId: path, path, version: index + 1 }));
  await space.load(async () => ({ files: files.slice(0, 2), nextPageToken: "c" }));
  const change = { sequence: 1, eventType: "FILE_UPDATED", size: 1, sha256: "x", occurredAt: "2026-01-01T00:00:00Z", version: 1 };
  space.apply({ ...change, fileId: "aa", path: "/aa" }, null, false);
  space.apply({ ...change, sequence: 2, fileId: "z", path: "/z" }, null, false);
  assert.deepEqual(space.sorted.map((file) => file.path), ["/a", "/aa", "/b"]);
  assert.equal(space.fileAt("/b").version, 2);
  assert.equal(space.fileAt("/z"), undefined);
  await space.load(async (_, token) => ({ files: token === "c" ? files.slice(2) : [] }));
  assert.equal(space.fileAt("/d").version, 4);
});

test("all pages are read to find a file, each once, and no more than are wanted", async () => {
  const all = Array.from({ length: 70 }, (_, index) => ({ fileId: `f${index}`, path: `/d${index}`, version: 1 }));
  const asked = [];
  const listFiles = async (_, pageToken) => {
    asked.push(pageToken);
    await new Promise(setImmediate);
    const from = Number(pageToken ?? 0);
    return { files: all.slice(from, from + 10), nextPageToken: from + 10 < all.length ? String(from + 10) : undefined };
  };
  const space = new SpaceModel({ spaceId: "s", kind: "shared", role: "editor", latestSequence: 0 });
  await space.load(listFiles);
  // The user types, and each letter starts a search.
  await Promise.all([space.readOn(listFiles, 3, () => true), space.readOn(listFiles, 2, () => true), space.load(listFiles)]);
  assert.equal(space.files.size, 40);
  await space.readOn(listFiles, 40, () => space.files.size < 60);
  assert.equal(space.files.size, 60);
  await space.readOn(listFiles, 40, () => true);
  assert.equal(space.files.size, 70);
  assert.deepEqual(asked, [undefined, "10", "20", "30", "40", "50", "60"]);
});
