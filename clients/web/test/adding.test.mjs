// Tests that added files replace existing ones only after the user agrees.

import assert from "node:assert/strict";
import { test } from "node:test";

import { beside, numbered, replacing, sorted } from "../site/src/adding.js";
import { Uploads } from "../../js/src/uploads.js";

const there = [{ fileId: "f", path: "/notes.txt", version: 3, size: 1, sha256: "x" }];
const bytes = (text) => Buffer.byteLength(text.slice(text.lastIndexOf("/") + 1));

test("files whose path is taken are told from those whose path is free", () => {
  const added = ["/notes.txt", "/new.txt", "/folder/notes.txt", "/x\u202efdp.exe"].map((path) => ({ file: null, path }));
  const { free, taken, impossible } = sorted(added, there);
  assert.deepEqual(free.map(({ path }) => path), ["/new.txt", "/folder/notes.txt"]);
  assert.deepEqual(impossible.map(({ path }) => path), ["/x\u202efdp.exe"]);
  assert.deepEqual(taken.map(({ path, there }) => [path, there.fileId]), [["/notes.txt", "f"]]);
  assert.deepEqual(replacing(taken[0].there), { path: "/notes.txt", baseVersion: 3, baseFileId: "f" });
  assert.deepEqual(beside("/unknown.txt"), { path: "/unknown.txt", baseVersion: 0, baseFileId: undefined });
});

test("a name beside another is one that is free, keeps its extension and fits", () => {
  const taken = new Set(["/a/b.txt", "/a/b (2).txt"]);
  const find = (path) => numbered(path, (found) => taken.has(found));
  assert.equal(find("/a/b.txt"), "/a/b (3).txt");
  assert.equal(find("/.profile"), "/.profile (2)");
  assert.equal(find("/a.b/none"), "/a.b/none (2)");
  assert.equal(find(`/${"n".repeat(251)}.txt`), `/${"n".repeat(247)} (2).txt`);
  // Two code points that form one grapheme cluster: both are kept or both are cut.
  for (let length = 40; length < 70; length += 1) {
    const name = numbered(`/${"e\u0301👩‍🚀".repeat(length).normalize("NFC")}.txt`, () => false);
    assert.ok(bytes(name) <= 255 && name.endsWith(" (2).txt"), `${bytes(name)}`);
    assert.match(name, /^\/(é👩‍🚀)*é? \(2\)\.txt$/u);
  }
});

test("few contents are sent at once, and large ones by themselves, so that each is sent within the life of its URL", async () => {
  const running = new Set();
  let most = 0;
  let mostBytes = 0;
  const world = {
    api: {
      deviceId: "device",
      createUpload: async ({ size }) => ({ uploadId: String(size), put: { url: "", headers: {} } }),
      completeUpload: async () => ({ version: 1 }),
    },
    put: async (_, content) => {
      running.add(content);
      most = Math.max(most, running.size);
      mostBytes = Math.max(mostBytes, running.size > 1 ? [...running].reduce((sum, { size }) => sum + size, 0) : 0);
      for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
      running.delete(content);
    },
    storage: { getItem: () => null, setItem() {}, removeItem() {} },
    epoch: () => "first", now: () => 0,
    random: () => 0,
  };
  globalThis.Worker = class {
    postMessage() {
      queueMicrotask(() => this.onmessage({ data: { sha256: "x" } }));
    }
    terminate() {}
  };
  const uploads = new Uploads(world);
  const MIB = 1024 * 1024;
  const sizes = [1, 1, 1, 1, 60 * MIB, 1, 60 * MIB, 30 * MIB, 30 * MIB, 100 * MIB, 0];
  await new Promise((resolve) => {
    uploads.addEventListener("change", () => uploads.all.length === sizes.length && !uploads.busy && resolve());
    for (const [index, size] of sizes.entries()) {
      // Stands in for a file of this size, whose content is never read.
      const file = { size, type: "", arrayBuffer: async () => new ArrayBuffer(0) };
      uploads.add(file, { userId: "me", spaceId: "s", path: `/${index}`, baseVersion: 0 });
    }
  });
  assert.ok(uploads.all.every(({ phase }) => phase === "done"), uploads.all.map(({ phase, error }) => `${phase} ${error}`).join());
  assert.equal(most, 6);
  assert.ok(mostBytes <= 64 * MIB, `${mostBytes / MIB} MiB at once`);
});
