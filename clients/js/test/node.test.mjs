// Tests what only Node.js has, without a stack.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { FolderStorage, ProblemError, openFile, uploadFolder } from "../src/node.js";

const root = mkdtempSync(join(tmpdir(), "syncsphere-node-"));
after(() => rmSync(root, { recursive: true }));

test("values are kept in files that only their owner can read", () => {
  const folder = join(root, "storage");
  const storage = new FolderStorage(folder);
  assert.equal(storage.getItem("a/b"), null);
  storage.setItem("a/b", "one");
  storage.setItem("a/b", "two");
  storage.setItem("..", "three");
  const again = new FolderStorage(folder);
  assert.deepEqual([again.getItem("a/b"), again.getItem("..")], ["two", "three"]);
  assert.equal(readdirSync(folder).length, 2);
  for (const name of readdirSync(folder)) assert.equal(statSync(join(folder, name)).mode & 0o77, 0);
  assert.equal(statSync(folder).mode & 0o77, 0);
  again.removeItem("..");
  again.removeItem("..");
  assert.equal(again.getItem(".."), null);
});

test("keys of uploads that can no longer resume are deleted, and nothing else", () => {
  const folder = join(root, "old");
  const storage = new FolderStorage(folder);
  const names = ["syncsphere.upload old", "syncsphere.upload new", "syncsphere.device"];
  for (const name of names) storage.setItem(name, name);
  const eightDaysAgo = Date.now() / 1_000 - 8 * 24 * 3_600;
  for (const name of readdirSync(folder)) {
    if (!Buffer.from(name, "base64url").toString().endsWith("new")) utimesSync(join(folder, name), eightDaysAgo, eightDaysAgo);
  }
  const again = new FolderStorage(folder);
  assert.deepEqual(names.map((name) => again.getItem(name)), [null, names[1], names[2]]);
});

test("a file has its content, time and executable bit", async () => {
  const file = join(root, "run.sh");
  writeFileSync(file, "#!/bin/sh\n", { mode: 0o755 });
  utimesSync(file, 1_600_000_000, 1_600_000_000);
  const { content, modifiedAt, executable } = await openFile(file, { type: "text/x-sh" });
  assert.deepEqual([await content.text(), content.type, modifiedAt.getTime(), executable], ["#!/bin/sh\n", "text/x-sh", 1_600_000_000_000, true]);
});

test("all files of a folder are uploaded, to their paths in the service's form, and each has its own result", async () => {
  const folder = join(root, "folder");
  mkdirSync(join(folder, "a/b"), { recursive: true });
  // As macOS writes it: decomposed.
  const names = ["u\u0308.txt", "a/one", "a/b/two", ...Array.from({ length: 600 }, (_, index) => `a/b/${index}`)];
  for (const name of names) writeFileSync(join(folder, name), name);
  symlinkSync("/etc/passwd", join(folder, "link"));
  let allRun;
  const full = new Promise((resolve) => (allRun = resolve));
  let running = 0;
  let most = 0;
  const uploaded = [];
  const client = {
    upload: async (content, options) => {
      running += 1;
      most = Math.max(most, running);
      // None ends before as many are in progress as may be.
      if (running === 256) allRun();
      await full;
      await new Promise(setImmediate);
      running -= 1;
      uploaded.push(options);
      if (options.path.endsWith("two")) throw new ProblemError(409, { code: "version-conflict" });
      return { version: 1, path: options.path };
    },
  };
  const results = [];
  for await (const result of uploadFolder(client, folder, { to: "/to/", spaceId: "space" })) results.push(result);
  assert.deepEqual(results.map(({ path }) => path).sort(), names.map((name) => `/to/${name.normalize("NFC")}`).sort());
  assert.deepEqual(results.filter(({ error }) => error).map(({ path, error }) => [path, error.code]), [["/to/a/b/two", "version-conflict"]]);
  assert.ok(uploaded.every(({ spaceId, baseVersion }) => spaceId === "space" && baseVersion === 0));
  assert.equal(most, 256);
});
