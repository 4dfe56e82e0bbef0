// Tests that interrupted downloads resume, and that only verified content is returned.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";

import { download } from "../src/download.js";
import { ContentMismatchError, ContentMissingError, UnreachableError } from "../src/errors.js";

/** A fake of storage whose connections end after some bytes. */
function storage(content, cuts) {
  const asked = [];
  globalThis.fetch = async (url, { headers } = {}) => {
    const from = Number(/^bytes=(\d+)-$/.exec(headers?.Range ?? "bytes=0-")[1]);
    asked.push([url, from]);
    const cut = cuts.shift();
    if (cut === "stale") return new Response("", { status: 403 });
    if (cut === "gone") throw new TypeError("network");
    if (cut === "missing") return new Response("<Error><Code>NoSuchKey</Code></Error>", { status: 404 });
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(new Uint8Array(content.subarray(from, from + (cut ?? content.length))));
        if (cut === undefined) controller.close();
      },
      pull(controller) {
        controller.error(new TypeError("cut"));
      },
    });
    return new Response(body, { status: from > 0 ? 206 : 200 });
  };
  return asked;
}

const digest = (content) => createHash("sha256").update(content).digest("base64");

/** Runs `act` with timers that end at once. */
async function atOnce(act) {
  const { setTimeout } = globalThis;
  globalThis.setTimeout = (callback) => setTimeout(callback, 0);
  try {
    return await act();
  } finally {
    globalThis.setTimeout = setTimeout;
  }
}

/** Returns the composite digest that storage verifies for content in parts. */
function inParts(content, partSize) {
  const hash = createHash("sha256");
  for (let at = 0; at < content.length; at += partSize) hash.update(createHash("sha256").update(content.subarray(at, at + partSize)).digest());
  return { partSize, sha256: hash.digest("base64") };
}

function start(content, sha256 = digest(content), composite = undefined) {
  let urls = 0;
  const progress = [];
  const locate = async () => ({ url: `url-${(urls += 1)}` });
  const saving = atOnce(() => download({ locate, size: content.length, sha256, composite }, new AbortController().signal, (bytes) => progress.push(bytes)));
  return { saving, progress };
}

test("a download in one piece, and an empty one", async () => {
  for (const size of [0, 100_000]) {
    const content = randomBytes(size);
    const asked = storage(content, []);
    const blob = await start(content).saving;
    assert.ok(Buffer.from(await blob.arrayBuffer()).equals(content));
    assert.equal(asked.length, 1);
  }
});

test("whatever cuts it, it goes on from there with a fresh URL", async () => {
  const content = randomBytes(20 * 1024 * 1024);
  // The first piece that reaches the blob store has 8 MiB.
  const asked = storage(content, ["gone", 9 * 1024 * 1024, "stale", undefined]);
  const { saving, progress } = start(content);
  const blob = await saving;
  assert.ok(Buffer.from(await blob.arrayBuffer()).equals(content));
  assert.deepEqual(asked.map(([url]) => url), ["url-1", "url-2", "url-3", "url-4"]);
  assert.equal(progress.at(-1), content.length);
  assert.ok(asked[3][1] > 0, "it began anew");
});

test("what is not what was uploaded is not saved", async () => {
  const content = randomBytes(1_000);
  storage(content, []);
  await assert.rejects(start(content, digest("something else")).saving, ContentMismatchError);
});

test("content in parts is compared with what storage has proved, also after a cut", async () => {
  const content = randomBytes(20 * 1024 * 1024);
  for (const partSize of [1_000_000, 8 * 1024 * 1024, 20 * 1024 * 1024, 20 * 1024 * 1024 + 1]) {
    storage(content, [9 * 1024 * 1024, undefined]);
    const blob = await start(content, digest(content), inParts(content, partSize)).saving;
    assert.ok(Buffer.from(await blob.arrayBuffer()).equals(content));
  }
  storage(content, []);
  const other = { ...inParts(content, 8 * 1024 * 1024), partSize: 9 * 1024 * 1024 };
  await assert.rejects(start(content, digest(content), other).saving, ContentMismatchError);
});

test("content that is longer than declared is cut off at the declared size", async () => {
  // Like a small compressed body that the browser decodes: more bytes follow as long as they are read.
  for (const declared of [0, 1, 1_000, 20 * 1024 * 1024]) {
    let given = 0;
    let cancelled = false;
    globalThis.fetch = async () =>
      new Response(
        new ReadableStream({
          pull(controller) {
            given += 1024 * 1024;
            if (given > 100 * 1024 * 1024) controller.close();
            else controller.enqueue(new Uint8Array(1024 * 1024));
          },
          cancel() {
            cancelled = true;
          },
        }),
      );
    const progress = [];
    const locate = async () => ({ url: "url" });
    const saving = download({ locate, size: declared, sha256: digest(Buffer.alloc(declared)) }, new AbortController().signal, (bytes) => progress.push(bytes));
    await assert.rejects(saving, (error) => error instanceof ContentMismatchError && /longer than/.test(error.message));
    assert.ok(given <= declared + 3 * 1024 * 1024, `${given} bytes were read of ${declared}`);
    assert.ok(Math.max(0, ...progress) <= declared, `${progress}`);
    assert.ok(cancelled, "the connection stays open");
  }
});

test("content that storage has lost is named as lost, at once", async () => {
  const asked = storage(randomBytes(10), ["missing"]);
  await assert.rejects(start(randomBytes(10)).saving, (error) => error instanceof ContentMissingError && /lost/.test(error.message));
  assert.equal(asked.length, 1);
});

test("a network that stays away is not asked for ever", async () => {
  const asked = storage(randomBytes(10), Array.from({ length: 20 }, () => "gone"));
  await assert.rejects(start(randomBytes(10)).saving, UnreachableError);
  assert.ok(asked.length <= 6, `${asked.length}`);
});
