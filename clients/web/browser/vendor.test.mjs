// Tests that the page's only third-party code equals the published package, byte for byte.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { settings } from "./settings.mjs";

test("the vendored files are those of the pinned package", () => {
  const vendored = new URL("../site/vendor/noble-hashes/", import.meta.url);
  const names = readdirSync(vendored);
  assert.ok(names.includes("LICENSE") && names.includes("sha2.js"));
  for (const name of names) {
    const published = readFileSync(join(settings.packages, "node_modules/@noble/hashes", name));
    assert.ok(readFileSync(new URL(name, vendored)).equals(published), name);
  }
});
