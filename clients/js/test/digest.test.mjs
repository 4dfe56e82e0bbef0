// Tests the clock of the service as the client estimates it, and the digests.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";

import { Clock } from "../src/clock.js";
import { sha256 } from "../src/digest.js";
import { sha256 as vendored } from "../src/vendor/noble-hashes/sha2.js";
import { randomFrom } from "./stand-in.mjs";

test("latency is told on the service's clock, whatever this computer takes for the time", () => {
  for (const wrongBy of [0, 3_600_000, -86_400_000]) {
    const clock = new Clock();
    const service = Date.parse("2026-01-01T12:00:00.000Z");
    const here = service + wrongBy;
    // A slow answer, then a fast one: the fast one is used.
    clock.learn(new Date(service + 900 + 30_000).toISOString(), here, here + 1_000);
    clock.learn(new Date(service + 2_010 + 30_000).toISOString(), here + 2_000, here + 2_020);
    const latency = clock.latency(new Date(service + 5_000).toISOString(), here + 5_120);
    assert.ok(Math.abs(latency - 120) <= 10, `${latency}`);
  }
});

test("both digests are SHA-256, however the content is cut", async () => {
  const expected = (bytes) => createHash("sha256").update(bytes).digest("base64");
  const random = randomFrom(1);
  for (const size of [0, 1, 55, 56, 63, 64, 65, 1_000, 100_000]) {
    const bytes = randomBytes(size);
    const digest = vendored.create();
    for (let at = 0; at < size;) {
      const length = 1 + Math.floor(random() * 5_000);
      digest.update(bytes.subarray(at, at + length));
      at += length;
    }
    assert.equal(Buffer.from(digest.digest()).toString("base64"), expected(bytes));
    assert.equal(await sha256(new Blob([bytes]), new AbortController().signal), expected(bytes));
  }
});
