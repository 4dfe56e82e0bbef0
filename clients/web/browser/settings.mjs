// What `cargo xtask test` tells the tests in this folder: where the page and its stack are, and where their packages.

import { createRequire } from "node:module";
import { join } from "node:path";

const said = process.env.SYNCSPHERE_PAGE;
if (!said) throw new Error("These tests need the local stack: cargo xtask test --page");

export const settings = JSON.parse(said);

/** Packages are installed in the project's own folder for tools, where Node.js does not look by itself. */
export const require = createRequire(join(settings.packages, "package.json"));
