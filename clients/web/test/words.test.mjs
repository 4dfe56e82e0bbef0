// Tests that messages for users contain no technical terms.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Problem, WORDS } from "../site/src/errors.js";
import { person } from "../site/src/names.js";
import { cutOff } from "../site/src/uploads.js";

/** Terms of the API, of storage and of HTTP. */
const OF_PROGRAMS = /route|segment|NFC|UTF-8|baseVersion|current says|Idempotency|status \d|\b[45]\d\d\b|[<>{}]|null|undefined/;

test("each problem of the API has words for people", () => {
  const api = readFileSync(new URL("../../../docs/openapi.yaml", import.meta.url), "utf8");
  const codes = new Set([...api.matchAll(/code: \{ enum: \[([^\]]+)\] \}/g)].flatMap(([, list]) => list.split(",").map((code) => code.trim())));
  assert.ok(codes.size > 15, `${codes.size}`);
  for (const code of codes) {
    assert.ok(WORDS.has(code), `no words for ${code}`);
    const { message } = new Problem(409, { code, title: "A title", detail: "There is no route PUT /spaces/x; current says which.", requestId: "r-1" });
    assert.doesNotMatch(message, OF_PROGRAMS, code);
    assert.match(message, /\.( \(Request r-1\.\))?$/);
  }
});

test("what has no code has words by its status, and the request that operators look for", () => {
  for (const [status, words] of [[429, /too much to do/], [500, /has a problem.*Request r-1/], [503, /has a problem/], [404, /Reload.*Request r-1/]]) {
    const { message } = new Problem(status, { requestId: "r-1", detail: "There is no route PUT /spaces/x." });
    assert.match(message, words);
    assert.doesNotMatch(message, OF_PROGRAMS);
  }
  assert.match(new Problem(409, { code: "version-conflict", current: { version: 4 } }).message, /version 4/);
  assert.match(new Problem(409, { code: "version-conflict", current: { version: 0 } }).message, /deleted or moved/);
});

test("a name or an address is no user ID", () => {
  for (const text of ["bob", "@", "bob@", "a/b", "user B", "01234567-89ab-cdef-0123-456789abcde"]) assert.throws(() => person(text), /neither an e-mail address nor a user ID/);
  assert.throws(() => person(""), /^Error: Enter/);
  assert.deepEqual(person("01234567-89ab-cdef-0123-456789abcdef"), { userId: "01234567-89ab-cdef-0123-456789abcdef" });
  assert.deepEqual(person("bob@example.com"), { email: "bob@example.com" });
});

test("uploads that were cut off are named", () => {
  assert.match(cutOff(["a.bin"]), /a\.bin.* was cut off .*Add it again/);
  assert.match(cutOff(["a.bin", "b.bin"]), /a\.bin.* and .*b\.bin.* Add them again/);
  assert.match(cutOff(["a.bin", "b.bin", "c.bin"]), /a\.bin.* and 2 more/);
});
