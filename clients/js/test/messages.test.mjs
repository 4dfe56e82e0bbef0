// Tests that messages for users contain no technical terms.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { ProblemError } from "../src/errors.js";
import { PROBLEM_MESSAGES } from "../src/messages.js";

/** Terms of the API, of storage and of HTTP. */
const OF_PROGRAMS = /route|segment|NFC|UTF-8|baseVersion|current says|Idempotency|status \d|\b[45]\d\d\b|[<>{}]|null|undefined/;

test("each problem of the API has words for people", () => {
  const api = readFileSync(new URL("../../../docs/openapi.yaml", import.meta.url), "utf8");
  const codes = new Set([...api.matchAll(/code: \{ enum: \[([^\]]+)\] \}/g)].flatMap(([, list]) => list.split(",").map((code) => code.trim())));
  assert.ok(codes.size > 15, `${codes.size}`);
  for (const code of codes) {
    assert.ok(PROBLEM_MESSAGES.has(code), `no words for ${code}`);
    const { message } = new ProblemError(409, { code, title: "A title", detail: "There is no route PUT /spaces/x; current says which.", requestId: "r-1" });
    assert.doesNotMatch(message, OF_PROGRAMS, code);
    assert.match(message, /\.( \(Request r-1\.\))?$/);
  }
});

test("what has no code has words by its status, and the request that operators look for", () => {
  for (const [status, words] of [[429, /too much to do/], [500, /has a problem.*Request r-1/], [503, /has a problem/], [404, /Reload.*Request r-1/]]) {
    const { message } = new ProblemError(status, { requestId: "r-1", detail: "There is no route PUT /spaces/x." });
    assert.match(message, words);
    assert.doesNotMatch(message, OF_PROGRAMS);
  }
  assert.match(new ProblemError(409, { code: "version-conflict", current: { version: 4 } }).message, /version 4/);
  assert.match(new ProblemError(409, { code: "version-conflict", current: { version: 0 } }).message, /deleted or moved/);
});
