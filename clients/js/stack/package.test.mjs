// Tests the packed package as a user installs it: its files, its types, and the sample program of the documents on the local stack.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { clientOf, settings } from "./settings.mjs";

const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const SAMPLE = fileURLToPath(new URL("../../../docs/examples/upload-folder.mjs", import.meta.url));

const folder = mkdtempSync(join(tmpdir(), "syncsphere-package-"));
let packed;

const npm = (cwd, ...words) => execFileSync("npm", words, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

before(() => {
  [packed] = JSON.parse(npm(PACKAGE, "pack", "--json", "--silent", "--pack-destination", folder));
  writeFileSync(join(folder, "package.json"), '{ "private": true, "type": "module" }');
  npm(folder, "install", "--offline", "--no-audit", "--no-fund", `./${packed.filename}`, join(PACKAGE, "node_modules/ws"));
});

after(() => rmSync(folder, { recursive: true }));

test("the package has its sources, types and licences, and nothing else", () => {
  const files = packed.files.map(({ path }) => path);
  for (const path of ["package.json", "README.md", "LICENSE", "src/index.js", "src/node.js", "src/vendor/noble-hashes/LICENSE", "src/vendor/oauth4webapi/LICENSE.md"]) {
    assert.ok(files.includes(path), path);
  }
  for (const path of files.filter((path) => /^src\/[\w-]+\.js$/.test(path))) {
    const types = path.replace("src/", "types/").replace(/\.js$/, ".d.ts");
    assert.ok(files.includes(types), types);
  }
  assert.deepEqual(files.filter((path) => !/^(src|types)\/|^(package\.json|README\.md|LICENSE)$/.test(path)), []);
  const { dependencies } = JSON.parse(readFileSync(join(folder, "node_modules/syncsphere-client/package.json"), "utf8"));
  assert.equal(dependencies, undefined, "it needs no other package");
});

test("programs with strict types use it, for Node.js and for browsers", () => {
  const common = `
    const session = new TokenSession(async () => "a token");
    const client = new Client({ url: "https://api.example", session });
    const changed: Promise<number> = client.upload(new Blob([]), { path: "/a" }).then(({ version }) => version);
    for await (const update of client.watch()) if (update.type === "change") update.change.sequence.toFixed();
    // @ts-expect-error: a path is needed
    void client.upload(new Blob([]), {});
    export { changed };`;
  writeFileSync(join(folder, "node.ts"), `import { Client, TokenSession, uploadFolder } from "syncsphere-client";\nimport { OidcSession } from "syncsphere-client/oidc";\nexport { OidcSession, uploadFolder };${common}`);
  writeFileSync(join(folder, "browser.ts"), `import { Client, TokenSession } from "syncsphere-client";\n// @ts-expect-error: only under Node.js\nimport { uploadFolder } from "syncsphere-client";\nexport { uploadFolder };${common}`);
  const strict = { strict: true, noEmit: true, target: "ES2022", lib: ["ES2024", "DOM", "DOM.Iterable", "DOM.AsyncIterable"] };
  const compile = (file, compilerOptions) => {
    const project = join(folder, `${file}.json`);
    writeFileSync(project, JSON.stringify({ compilerOptions: { ...strict, ...compilerOptions }, files: [file] }));
    try {
      execFileSync("node", [join(PACKAGE, "node_modules/typescript/bin/tsc"), "--project", project], { cwd: folder, encoding: "utf8" });
    } catch (error) {
      assert.fail(error.stdout);
    }
  };
  compile("node.ts", { module: "NodeNext", types: ["node"], typeRoots: [join(PACKAGE, "node_modules/@types")] });
  compile("browser.ts", { module: "ES2022", moduleResolution: "bundler", types: [] });
});

test("the sample program uploads a folder, prints changes, and goes on where it was", async () => {
  cpSync(SAMPLE, join(folder, "upload-folder.mjs"));
  const { httpApiUrl, cognitoEndpoint, userPoolClientId, users, password } = settings;
  writeFileSync(join(folder, "config.json"), JSON.stringify({ httpApiUrl, cognitoEndpoint, userPoolClientId }));
  mkdirSync(join(folder, "notes/deep"), { recursive: true });
  writeFileSync(join(folder, "notes/a.txt"), "a");
  writeFileSync(join(folder, "notes/empty.txt"), "");
  writeFileSync(join(folder, "notes/deep/ü.txt"), "ü");
  const [user] = users;
  const to = `/notes-${process.pid}`;

  /** Runs the program until it has printed a line, then does something, and continues. */
  const run = async (...turns) => {
    const program = spawn("node", ["upload-folder.mjs", user, "notes", to], { cwd: folder, env: { ...process.env, SYNCSPHERE_PASSWORD: password }, stdio: ["ignore", "pipe", "inherit"] });
    const lines = [];
    const exit = new Promise((resolve) => program.once("exit", (...how) => resolve(how)));
    for await (const line of createInterface({ input: program.stdout })) {
      lines.push(line);
      if (turns[0]?.until.test(line)) await turns.shift().act(program);
    }
    assert.deepEqual(await exit, [0, null], lines.join("\n"));
    assert.equal(turns.length, 0, lines.join("\n"));
    return lines;
  };

  const client = await clientOf(user);
  const first = await run(
    { until: /^live$/, act: () => client.upload(new Blob(["later"]), { path: `${to}/later.txt` }) },
    { until: /later\.txt by/, act: (program) => program.kill("SIGINT") },
  );
  for (const name of ["a.txt", "empty.txt", "deep/ü.txt"]) {
    assert.ok(first.includes(`uploaded ${to}/${name}, version 1`), first.join("\n"));
    assert.ok(first.some((line) => line.startsWith(`FILE_UPDATED ${to}/${name} by `)), first.join("\n"));
  }
  const second = await run({ until: /^live$/, act: (program) => program.kill("SIGINT") });
  for (const name of ["a.txt", "empty.txt", "deep/ü.txt"]) assert.ok(second.includes(`kept ${to}/${name}, which is there already`), second.join("\n"));
  assert.ok(!second.some((line) => line.startsWith("FILE_UPDATED")), second.join("\n"));
});

test("the reference is made without warnings", () => {
  execFileSync("node", [join(PACKAGE, "node_modules/typedoc/bin/typedoc"), "--out", join(folder, "reference")], { cwd: PACKAGE, stdio: ["ignore", "pipe", "pipe"] });
  assert.ok(readFileSync(join(folder, "reference/index.html"), "utf8").includes("syncsphere-client"));
});

test("the sample program is short", () => {
  assert.ok(readFileSync(SAMPLE, "utf8").split("\n").length <= 60);
});
