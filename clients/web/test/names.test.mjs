// Tests that names are shown unchanged, with invisible characters made visible.

import assert from "node:assert/strict";
import { test } from "node:test";

import { problemOfName, problemOfPath, quoted, saved, visible } from "../site/src/names.js";

test("ordinary names of all scripts are shown as they are", () => {
  for (const name of ["report.pdf", "Übersicht 2026.xlsx", "λόγος", "отчёт", "תקציב.txt", "تقرير.pdf", "می‌خواهم.txt", "क्‍ष.txt", "報告書.doc", "👩‍🚀 crew.txt", "❤️.png", "🏴󠁧󠁢󠁥󠁮󠁧󠁿.svg", "a b.txt"]) {
    assert.equal(visible(name), name);
    assert.equal(saved(name), name);
    assert.equal(problemOfPath(`/${name}`), "");
  }
});

test("characters that cannot be seen are shown by their numbers", () => {
  for (const [name, shown] of [
    ["invoice\u202efdp.exe", "invoice⟨U+202E⟩fdp.exe"],
    ["\u2066a\u2069", "⟨U+2066⟩a⟨U+2069⟩"],
    ["\u200b", "⟨U+200B⟩"],
    ["Team\u200b", "Team⟨U+200B⟩"],
    ["Te\u200cam", "Te⟨U+200C⟩am"],
    ["Te\u200dam", "Te⟨U+200D⟩am"],
    ["a\u00adb", "a⟨U+00AD⟩b"],
    ["a\u200fb", "a⟨U+200F⟩b"],
    ["\u3164", "⟨U+3164⟩"],
    ["\u00a0", "⟨U+00A0⟩"],
    ["a\u2028b", "a⟨U+2028⟩b"],
    ["a\ufe0f", "a⟨U+FE0F⟩"],
    ["\u{e0041}", "⟨U+E0041⟩"],
    [" Team ", "␣Team␣"],
    ["  ", "␣␣"],
  ]) {
    assert.equal(visible(name), shown);
  }
  assert.equal(quoted("x\u202ey"), "“\u2068x⟨U+202E⟩y\u2069”");
  assert.equal(saved("invoice\u202efdp.exe"), "invoice_fdp.exe");
});

test("why a name or path cannot be is said in words for people", () => {
  const problems = new Map([
    ["/", /ends with a slash/], ["/a/", /ends with a slash/], ["/a//b", /[Tt]wo slashes/], ["/a/../b", /cannot be called/], ["/.", /cannot be called/],
    [`/${"a".repeat(256)}`, /255 bytes.* 256/], [`/${"é".repeat(128)}`, /255 bytes.* 256/], [`/${"a/".repeat(600)}b`, /1024 bytes/],
    ["/a\u202eb", /cannot be seen/], ["/a\u0007b", /cannot be seen/], ["/\u200b", /cannot be seen/], ["/ \u3164", /cannot be seen/],
  ]);
  for (const [path, words] of problems) {
    assert.match(problemOfPath(path), words, JSON.stringify(path));
    assert.doesNotMatch(problemOfPath(path), /segment|NFC|UTF-8|[\u202a-\u202e\u0007]/);
  }
  assert.equal(problemOfPath(`/${"a".repeat(255)}/${"é".repeat(127)}`), "");
  assert.equal(problemOfName("", "name"), "Enter a name.");
  assert.equal(problemOfName("Team", "name"), "");
});
