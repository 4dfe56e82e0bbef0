// Tests one upload against a service that fails at every step.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { ContentMismatchError, ProblemError, SessionExpiredError, UnreachableError, UrlExpiredError } from "../src/errors.js";
import { Upload, removeOldKeys } from "../src/upload.js";
import { randomFrom } from "./stand-in.mjs";

const PART = 4;

/** A fake service with one upload. `faults` has the failure of each call in order. */
class Service {
  calls = [];
  keys = new Set();
  requests = new Map();
  parts = new Map();
  whole = null;
  completed = 0;
  paused = 0;
  epoch = "first";

  constructor(size, { multipart = false, faults = () => null } = {}) {
    this.size = size;
    this.multipart = multipart;
    this.faults = faults;
  }

  async #call(name, act) {
    this.calls.push(name);
    const fault = this.faults(name, this.calls.filter((other) => other === name).length);
    // A fault with `after` loses the answer; any other fault loses the request.
    if (fault && !fault.after) throw fault.error ?? fault;
    const answer = act();
    if (fault) throw fault.error;
    return answer;
  }

  #target() {
    if (!this.multipart) return { put: { url: "whole", headers: {} } };
    return { multipart: { partSize: PART, partCount: Math.ceil(this.size / PART) } };
  }

  world(more = {}) {
    const storage = new Map();
    return {
      api: {
        deviceId: "device",
        createUpload: (body, key) =>
          this.#call("create", () => {
            // Like the service: a key belongs to one request with all its fields.
            const said = JSON.stringify(body);
            if ((this.requests.get(key) ?? said) !== said) throw new ProblemError(422, { code: "idempotency-key-reused" });
            this.requests.set(key, said);
            this.keys.add(key);
            this.body = body;
            return { uploadId: "upload", ...this.#target() };
          }),
        showUpload: () =>
          this.#call("show", () => {
            const parts = [...this.parts].map(([partNumber, part]) => ({ partNumber, ...part }));
            return { uploadId: "upload", state: this.completed ? "completed" : "pending", stored: this.whole !== null, ...this.#target(), parts };
          }),
        presignParts: (_, parts) =>
          this.#call("presign", () => ({ parts: parts.map(({ partNumber, sha256 }) => ({ partNumber, url: `${partNumber} ${sha256}`, headers: {} })) })),
        completeUpload: () =>
          this.#call("complete", () => {
            this.completed += 1;
            return { version: 1, spaceId: "space", eventId: "event" };
          }),
        abortUpload: () => this.#call("abort", () => undefined),
      },
      put: ({ url }, content) =>
        this.#call("put", () => {
          if (url === "whole") this.whole = content;
          else {
            const [partNumber, sha256] = url.split(" ");
            this.parts.set(Number(partNumber), { sha256, size: content.size, times: (this.parts.get(Number(partNumber))?.times ?? 0) + 1 });
          }
        }),
      pause: async () => void (this.paused += 1),
      signedIn: async () => void (this.signedIn = true),
      storage: { getItem: (key) => storage.get(key) ?? null, setItem: (key, value) => void storage.set(key, value), removeItem: (key) => void storage.delete(key) },
      epoch: () => this.epoch,
      now: () => 1_000_000,
      random: randomFrom(1),
      stored: storage,
      ...more,
    };
  }
}

const file = (content) => new File([content], "a.txt", { type: "text/plain" });
const target = { userId: "me", spaceId: "space", path: "/a.txt", baseVersion: 0 };
const digest = (content) => createHash("sha256").update(content).digest("base64");

test("a small file is hashed, opened, put and completed", async () => {
  const service = new Service(5);
  const world = service.world();
  const phases = [];
  const upload = new Upload(file("hello"), target, world, () => phases.push(upload.phase));
  await upload.run();
  assert.equal(upload.phase, "done");
  assert.deepEqual(service.calls, ["create", "put", "complete"]);
  assert.deepEqual(service.body, { path: "/a.txt", size: 5, sha256: digest("hello"), contentType: "text/plain", modifiedAt: undefined, executable: undefined, spaceId: "space", baseVersion: 0, baseFileId: undefined, deviceId: "device" });
  assert.deepEqual([...new Set(phases)], ["hashing", "opening", "sending", "completing", "done"]);
  assert.equal(world.stored.size, 0, "the key is forgotten");
});

test("whatever is lost once, on the way there or back, is made up for with the same key", async () => {
  const calls = ["create", "put", "complete", "show", "presign"];
  for (const multipart of [false, true]) {
    for (const lost of calls) {
      for (const after of [false, true]) {
        const faults = (name, count) => {
          // Makes the page request the state of the upload.
          if (lost === "show" && name === "put" && count === 1) return { error: new UnreachableError("cut") };
          return name === lost && count === 1 ? { error: new UnreachableError("lost"), after } : null;
        };
        const service = new Service(10, { multipart, faults });
        const upload = new Upload(file("0123456789"), target, service.world(), () => {});
        await upload.run();
        const what = `${lost}, ${after ? "back" : "there"}, ${multipart ? "parts" : "whole"}`;
        assert.equal(upload.phase, "done", what);
        assert.ok(service.keys.size <= 1, what);
        assert.equal(service.paused, service.calls.includes(lost) ? (lost === "show" ? 2 : 1) : 0, what);
      }
    }
  }
});

test("a new file is sent again after the service was restored from a backup, and a replacement waits for an answer", async () => {
  const reset = () => new ProblemError(410, { code: "feed-reset" });
  // The window learns the new epoch only after the second refusal.
  const faults = (name, count) => (name === "complete" && count === 1) || (name === "create" && count === 2) ? reset() : null;
  const service = new Service(5, { faults });
  const upload = new Upload(file("hello"), target, service.world(), () => {});
  await upload.run();
  assert.equal(upload.phase, "done");
  assert.deepEqual(service.calls, ["create", "put", "complete", "create", "create", "put", "complete"]);
  assert.equal(service.keys.size, 2, "the upload is lost with its key");

  // The version that it replaces may be another one now.
  const replacing = new Service(5, { faults: (name, count) => (name === "complete" && count === 1 ? reset() : null) });
  const replacement = new Upload(file("hello"), { ...target, baseVersion: 2, baseFileId: "file" }, replacing.world(), () => {});
  await replacement.run();
  assert.equal(replacement.phase, "failed");
  assert.match(replacement.error, /restored from a backup, and nothing was changed/);
  await replacement.again({});
  assert.equal(replacement.phase, "done");

  // It was chosen in the list of a former epoch, and its turn comes in the next one, in which the number may be another version.
  const later = new Service(5);
  const waiting = new Upload(file("hello"), { ...target, baseVersion: 2, baseFileId: "file" }, later.world(), () => {});
  later.epoch = "second";
  await waiting.run();
  assert.deepEqual([waiting.phase, later.calls], ["failed", []]);
  await waiting.again({});
  assert.equal(waiting.phase, "done");

  const always = new Service(5, { faults: (name) => (name === "create" ? reset() : null) });
  const refused = new Upload(file("hello"), target, always.world(), () => {});
  await refused.run();
  assert.equal(refused.phase, "failed");
});

test("parts that storage has are not sent again", async () => {
  const faults = (name, count) => (name === "put" && count >= 4 && count <= 7 ? { error: new UnreachableError("cut") } : null);
  const service = new Service(40, { multipart: true, faults });
  const upload = new Upload(file("0123456789".repeat(4)), target, service.world(), () => {});
  await upload.run();
  assert.equal(upload.phase, "done");
  assert.equal(service.parts.size, 10);
  for (const [number, { times }] of service.parts) assert.equal(times, 1, `part ${number}`);
  assert.equal(upload.progress, 40);
});

test("a part of another content is sent again", async () => {
  const service = new Service(8, { multipart: true });
  service.parts.set(1, { sha256: digest("else"), size: PART, times: 0 });
  service.parts.set(2, { sha256: digest("4567"), size: PART, times: 1 });
  const upload = new Upload(file("01234567"), target, service.world(), () => {});
  await upload.run();
  assert.equal(service.parts.get(1).sha256, digest("0123"));
  assert.equal(service.parts.get(2).times, 1);
});

test("a window that was closed goes on with the same upload", async () => {
  const service = new Service(8, { multipart: true, faults: (name, count) => (name === "put" && count <= 2 ? new ProblemError(400, {}) : null) });
  const world = service.world();
  const first = new Upload(file("01234567"), target, world, () => {});
  await first.run();
  assert.equal(first.phase, "failed");
  // For the service another window is another device.
  world.api.deviceId = "another";
  const second = new Upload(file("01234567"), target, world, () => {});
  await second.run();
  assert.equal(second.phase, "done");
  assert.equal(service.keys.size, 1);
});

test("what is kept of an upload says neither who uploaded nor what, and goes when it is of no use", async () => {
  const service = new Service(5, { faults: (name) => (name === "put" ? new ProblemError(400, {}) : null) });
  const world = service.world();
  await new Upload(file("hello"), { ...target, userId: "user-1", path: "/secret plans.txt" }, world, () => {}).run();
  assert.equal(world.stored.size, 1);
  const all = JSON.stringify([...world.stored]);
  for (const told of ["user-1", "secret", "space", digest("hello")]) assert.ok(!all.includes(told), all);

  const names = () => [...world.stored.keys()];
  const storage = { ...world.storage, get length() { return world.stored.size; }, key: (index) => names()[index] ?? null };
  world.stored.set('syncsphere.upload ["user-1","space","/old.txt",null,5,"x"]', "a-key");
  world.stored.set("another's", "value");
  removeOldKeys(storage, 1_000_000 + 6 * 24 * 3_600_000);
  assert.equal(names().length, 2, `${names()}`);
  removeOldKeys(storage, 1_000_000 + 8 * 24 * 3_600_000);
  assert.deepEqual(names(), ["another's"]);
});

test("an upload that expired before it was complete is begun anew, a few times", async () => {
  const expired = new ProblemError(410, { code: "upload-expired" });
  for (const call of ["create", "complete"]) {
    const service = new Service(5, { faults: (name, count) => (name === call && count === 1 ? expired : null) });
    const upload = new Upload(file("hello"), target, service.world(), () => {});
    await upload.run();
    assert.equal(upload.phase, "done", call);
    assert.equal(service.calls.filter((name) => name === "create").length, 2);
  }
  const service = new Service(5, { faults: (name) => (name === "complete" ? expired : null) });
  const upload = new Upload(file("hello"), target, service.world(), () => {});
  await upload.run();
  assert.equal(upload.phase, "failed");
  assert.equal(service.calls.filter((name) => name === "put").length, 3);
});

test("what cannot become the declared content is freed in storage, and read anew when it is tried again", async () => {
  for (const [call, error] of [["put", new ContentMismatchError("other")], ["complete", new ProblemError(422, { code: "checksum-mismatch" })], ["put", new DOMException("gone", "NotReadableError")]]) {
    const service = new Service(5, { faults: (name, count) => (name === call && count === 1 ? error : null) });
    const world = service.world();
    const upload = new Upload(file("hello"), target, world, () => {});
    await upload.run();
    assert.equal(upload.phase, "failed");
    assert.ok(service.calls.includes("abort"), `${error}`);
    assert.equal(world.stored.size, 0);
    upload.file = file("other");
    await upload.again({});
    assert.equal(upload.phase, "done");
    assert.equal(service.body.sha256, digest("other"));
    assert.equal(service.keys.size, 2);
  }
});

test("an empty file is a file", async () => {
  const service = new Service(0);
  const upload = new Upload(file(""), target, service.world(), () => {});
  await upload.run();
  assert.equal(upload.phase, "done");
  assert.deepEqual([service.body.size, service.body.sha256, service.whole.size], [0, digest(""), 0]);
});

test("what is stored is completed again without another look, and not before the time that the service names", async () => {
  const limited = new ProblemError(429, { code: "quota-exceeded", retryAfter: 30 });
  const service = new Service(5, { faults: (name, count) => (name === "complete" && count <= 2 ? [limited, { error: new UnreachableError("lost"), after: true }][count - 1] : null) });
  const paused = [];
  const upload = new Upload(file("hello"), target, service.world({ pause: async (ms) => void paused.push([ms, upload.phase, upload.isThrottled]), random: () => 0 }), () => {});
  await upload.run();
  assert.equal(upload.phase, "done");
  assert.deepEqual(service.calls, ["create", "put", "complete", "complete", "complete"]);
  assert.deepEqual(paused, [[30_000, "waiting", true], [0, "waiting", false]]);
});

test("an expired session is waited out", async () => {
  const service = new Service(5, { faults: (name, count) => (name === "complete" && count === 1 ? new SessionExpiredError() : null) });
  const upload = new Upload(file("hello"), target, service.world(), () => {});
  await upload.run();
  assert.equal(upload.phase, "done");
  assert.ok(service.signedIn);
});

test("a URL that storage takes no more is replaced, a few times", async () => {
  const once = new Service(5, { faults: (name, count) => (name === "put" && count === 1 ? new UrlExpiredError() : null) });
  const upload = new Upload(file("hello"), target, once.world(), () => {});
  await upload.run();
  assert.equal(upload.phase, "done");
  assert.equal(once.paused, 0);
  const always = new Service(5, { faults: (name) => (name === "put" ? new UrlExpiredError("refused") : null) });
  const refused = new Upload(file("hello"), target, always.world(), () => {});
  await refused.run();
  assert.equal(refused.phase, "failed");
});

test("a conflict is told, and goes on as the next version or beside it, as another upload", async () => {
  const conflict = new ProblemError(409, { code: "version-conflict", current: { version: 3, fileId: "file" } });
  for (const next of [{ baseVersion: 3, baseFileId: "file" }, { path: "/a (2).txt", baseVersion: 0, baseFileId: undefined }]) {
    const service = new Service(5, { faults: (name, count) => (name === "complete" && count === 1 ? conflict : null) });
    const upload = new Upload(file("hello"), target, service.world(), () => {});
    await upload.run();
    assert.equal(upload.phase, "conflict");
    assert.equal(upload.current.version, 3);
    await upload.again(next);
    assert.equal(upload.phase, "done");
    assert.equal(service.keys.size, 2);
    assert.deepEqual([service.body.baseVersion, service.body.baseFileId], [next.baseVersion, next.baseFileId]);
    assert.equal(service.body.path, next.path ?? "/a.txt");
  }
});

test("a refusal ends it with the reason, and a cancellation frees what is stored", async () => {
  const refusing = new Service(5, { faults: (name) => (name === "create" ? new ProblemError(403, { code: "forbidden", detail: "You may only read." }) : null) });
  const refused = new Upload(file("hello"), target, refusing.world(), () => {});
  await refused.run();
  assert.equal(refused.phase, "failed");
  assert.match(refused.error, /^You may not do this here/);

  const service = new Service(5);
  const upload = new Upload(file("hello"), target, service.world({ put: (_, __, signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))) }), () => {});
  const running = upload.run();
  while (upload.phase !== "sending") await new Promise(setImmediate);
  upload.cancel();
  await running;
  assert.equal(upload.phase, "cancelled");
  assert.ok(service.calls.includes("abort") && !service.calls.includes("complete"));
});
