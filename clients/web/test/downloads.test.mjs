// Tests that content with a wrong digest is fetched once, and that only verified content is saved.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";

import { Downloads } from "../site/src/downloads.js";
import { download } from "../../js/src/index.js";

/** A fake of storage. */
function storage(content, answers) {
  const asked = [];
  globalThis.fetch = async (url) => {
    asked.push(url);
    return answers.shift() === "missing" ? new Response("<Error><Code>NoSuchKey</Code></Error>", { status: 404 }) : new Response(content);
  };
  return asked;
}

const digest = (content) => createHash("sha256").update(content).digest("base64");

test("a version that is not what its uploader said is fetched once, and told each time", async () => {
  const content = randomBytes(1_000);
  const told = [];
  const names = [];
  const downloads = new Downloads({ locate: async () => ({ url: "url" }), download, save: (_, name) => names.push(name), fail: (context, error) => told.push(context + error.message) });
  const file = { fileId: "f", path: "/folder/a.iso" };
  const asked = storage(content, []);
  const wrong = { version: 1, size: content.length, sha256: digest("something else") };
  await downloads.save(file, wrong);
  await downloads.save(file, wrong);
  assert.equal(asked.length, 1);
  assert.equal(told.length, 2);
  assert.match(told[0], /a\.iso.*version 1.*not what was uploaded/);
  assert.match(told[1], /not fetched again/);
  // Another version has other content, and content that storage did not have may be available again.
  await downloads.save(file, { version: 2, size: content.length, sha256: digest(content) });
  assert.deepEqual(names, ["a.iso"]);
  const lost = storage(content, ["missing"]);
  const third = { version: 3, size: content.length, sha256: digest(content) };
  await downloads.save(file, third);
  await downloads.save(file, third);
  assert.equal(lost.length, 2);
  assert.deepEqual(names, ["a.iso", "a.iso"]);
  assert.equal(downloads.arrived.size, 0);
});
