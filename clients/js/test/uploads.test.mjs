// Tests how many uploads are in progress, and what is said of all of them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ProblemError } from "../src/errors.js";
import { Uploads } from "../src/uploads.js";

const settle = () => new Promise(setImmediate);

/** A fake service whose calls wait until they are released. */
class Service {
  opening = [];
  sending = [];
  completing = [];
  paused = [];
  aborted = 0;
  /** Contents that were read. */
  read = 0;
  mostSending = 0;

  world() {
    const held = (list, answer) => (signal) =>
      new Promise((resolve, reject) => {
        const call = { resolve: () => resolve(answer()), reject };
        signal.addEventListener("abort", () => reject(signal.reason));
        list().push(call);
      });
    const open = held(() => this.opening, () => ({ uploadId: "upload", put: { url: "", headers: {} } }));
    const send = held(() => this.sending, () => undefined);
    const complete = held(() => this.completing, () => ({ version: 1 }));
    return {
      api: {
        deviceId: "device",
        createUpload: (_, __, signal) => open(signal),
        completeUpload: (_, signal) => complete(signal),
        abortUpload: async () => void (this.aborted += 1),
      },
      put: (_, { size }, signal, onProgress) => {
        onProgress(size / 2);
        const sent = send(signal);
        this.mostSending = Math.max(this.mostSending, this.sending.length);
        return sent;
      },
      pause: async (ms) => void this.paused.push(ms),
      storage: { getItem: () => null, setItem() {}, removeItem() {} },
      epoch: () => "first",
      now: () => 0,
      random: () => 0,
    };
  }

  /** Answers all calls that wait, and those that they cause. */
  async answer(...lists) {
    for (let waiting = true; waiting;) {
      for (let turn = 0; turn < 10; turn += 1) await settle();
      const calls = lists.flatMap((list) => this[list].splice(0));
      for (const call of calls) call.resolve();
      waiting = calls.length > 0;
    }
  }
}

function file(service, size) {
  const content = new File([new Uint8Array(size)], "a");
  const read = () => {
    service.read += 1;
    return Blob.prototype.arrayBuffer.call(content);
  };
  return Object.assign(content, { arrayBuffer: read });
}

function added(count, size = 100) {
  const service = new Service();
  const uploads = new Uploads(service.world());
  for (let index = 0; index < count; index += 1) uploads.add(file(service, size), { userId: "me", spaceId: "s", path: `/${index}`, baseVersion: 0 });
  return { service, uploads };
}

/** Waits until the uploads in progress are read, and returns how many are being opened. */
async function opening(service, uploads) {
  do await settle();
  while (uploads.all.some((upload) => upload.phase === "hashing" && !uploads.isQueued(upload)));
  await settle();
  return service.opening.length;
}

test("each upload that is done lets one more be in progress, up to a limit, and they are opened many at a time", async () => {
  const { service, uploads } = added(1_000);
  const opened = [];
  for (let count = await opening(service, uploads); count > 0; count = await opening(service, uploads)) {
    opened.push(count);
    await service.answer("opening", "sending");
    for (const call of service.completing.splice(0)) call.resolve();
  }
  assert.ok(uploads.all.every(({ phase }) => phase === "done"));
  assert.equal(opened[0], 8);
  assert.equal(Math.max(...opened), 256);
  assert.ok(opened.length < 20, `${opened}`);
  assert.equal(service.mostSending, 6);
});

test("a failure halves the number of uploads in progress, once for those that it met together", async () => {
  const { service, uploads } = added(2_000);
  for (let count = 0; count < 256; count = await opening(service, uploads)) {
    assert.ok(uploads.busy, `${count}`);
    await service.answer("opening", "sending");
    for (const call of service.completing.splice(0)) call.resolve();
  }
  for (const call of service.opening.splice(0)) call.reject(new ProblemError(429, { code: "quota-exceeded", retryAfter: 20 }));
  assert.equal(await opening(service, uploads), 256, "they go on themselves");
  assert.deepEqual([...new Set(service.paused)], [20_000], "after the time that the service has named");
  // None begins until half of the new limit is left.
  const running = () => uploads.all.filter((upload) => !upload.ended && !uploads.isQueued(upload)).length;
  for (const call of service.opening.splice(0, 190)) call.reject(new ProblemError(403, { code: "forbidden" }));
  await settle();
  assert.equal(running(), 66);
  for (const call of service.opening.splice(0, 2)) call.reject(new ProblemError(403, { code: "forbidden" }));
  await settle();
  assert.equal(running(), 128);
});

test("the total says what is done and sent of the uploads that have not failed", async () => {
  const { service, uploads } = added(8);
  assert.deepEqual(uploads.total, { uploads: 8, done: 0, bytes: 800, sent: 0 });
  await opening(service, uploads);
  assert.equal(uploads.total.sent, 0, "reading is not sending");
  service.opening.splice(0, 1)[0].reject(new ProblemError(403, { code: "forbidden" }));
  await service.answer("opening");
  assert.deepEqual(uploads.total, { uploads: 8, done: 0, bytes: 700, sent: 300 });
  await service.answer("sending");
  assert.deepEqual(uploads.total, { uploads: 8, done: 0, bytes: 700, sent: 700 });
  service.completing.splice(0, 1)[0].resolve();
  await settle();
  assert.deepEqual(uploads.total, { uploads: 8, done: 1, bytes: 700, sent: 700 });
});

test("all uploads are cancelled together, and none of those that waited begins in their place", async () => {
  const { service, uploads } = added(100);
  const all = uploads.all;
  await opening(service, uploads);
  await service.answer("opening");
  uploads.remove(all);
  for (let turn = 0; turn < 20; turn += 1) await settle();
  assert.deepEqual([uploads.all.length, uploads.busy, service.opening.length, service.completing.length], [0, false, 0, 0]);
  assert.ok(all.every(({ phase }) => phase === "cancelled"));
  assert.equal(service.aborted, 8, "what was opened is given up");
  assert.equal(service.read, 8);

  uploads.add(file(service, 1), { userId: "me", spaceId: "s", path: "/next", baseVersion: 0 });
  await opening(service, uploads);
  await service.answer("opening", "sending", "completing");
  assert.equal(uploads.all[0].phase, "done");
});
