// Tests that messages for users contain no technical terms.

import assert from "node:assert/strict";
import { test } from "node:test";

import { person } from "../site/src/names.js";
import { cutOff } from "../site/src/words.js";

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
