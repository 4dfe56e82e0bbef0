// Tests that the vendored code equals the published packages, byte for byte, and the version of the package.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

for (const [folder, published] of [["noble-hashes", "@noble/hashes"], ["oauth4webapi", "oauth4webapi"]]) {
  test(`the vendored files of ${published} are those of the pinned package`, () => {
    const vendored = new URL(`../src/vendor/${folder}/`, import.meta.url);
    const names = readdirSync(vendored);
    assert.ok(names.some((name) => name.startsWith("LICENSE")));
    for (const name of names) {
      const from = name.startsWith("index.") ? `build/${name}` : name;
      const original = readFileSync(new URL(`../node_modules/${published}/${from}`, import.meta.url));
      assert.ok(readFileSync(new URL(name, vendored)).equals(original), name);
    }
  });
}

test("the package has the version of the release", () => {
  const release = readFileSync(new URL("../../../Cargo.toml", import.meta.url), "utf8");
  const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  assert.ok(release.includes(`\nversion = "${version}"\n`), version);
});
