// Settings that `cargo xtask test` passes to the tests in this folder: the addresses of the page and its stack, and the folder of packages.

import { createRequire } from "node:module";
import { join } from "node:path";

const said = process.env.SYNCSPHERE_PAGE;
if (!said) throw new Error("These tests need the local stack: cargo xtask test --page");

export const settings = JSON.parse(said);

/** Loads a package from the project's tools folder, which is not on Node.js's search path. */
export const require = createRequire(join(settings.packages, "package.json"));
