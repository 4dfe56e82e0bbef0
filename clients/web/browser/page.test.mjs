// Tests the page in Chromium on the deployed stack: actions of users, and failures of their networks.

import assert from "node:assert/strict";
import { createHash, createHmac, randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { settings } from "./settings.mjs";
import { cognito, newUser } from "./users.mjs";
import { Browser, SHAPES, SOON } from "./window.mjs";

const [ALICE, BOB] = settings.users;
const NETWORK_GONE = /net::ERR_(INTERNET_DISCONNECTED|FAILED|NETWORK_CHANGED)/;
const MIB = 1024 * 1024;

const browser = new Browser();
let alice, aliceToo, bob;

before(async () => {
  await browser.start();
  [alice, aliceToo, bob] = await Promise.all([browser.open(), browser.open(), browser.open()]);
  await Promise.all([alice.signIn(ALICE), aliceToo.signIn(ALICE), bob.signIn(BOB)]);
});

after(() => browser.close());

/** Creates a file on this machine, and returns its path. */
function local(name, content) {
  const path = join(browser.folder, name);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, content);
  return path;
}

test("a file that is dropped in one window appears in the other, with its latency", { timeout: 60_000 }, async () => {
  // The first upload creates the personal space, of which no change can be pushed before.
  await alice.drop([local("first.txt", "first")]);
  await Promise.all([alice.has("/first.txt"), aliceToo.has("/first.txt")]);
  await alice.drop([local("notes.txt", "hello")]);
  await aliceToo.has("/notes.txt");
  await alice.uploaded("notes.txt");
  const latency = await aliceToo.latency();
  assert.ok(latency > 0 && latency < SOON, `${latency} ms`);
  console.log(`# heard of after ${latency} ms`);
  await aliceToo.announced(/notes\.txt.{0,2}: added, heard of after/);
  assert.match(await aliceToo.page.locator("#activity li").first().textContent(), /You added/);
  assert.match(await alice.page.locator("#activity li").first().textContent(), /You, in this window, added/);
});

test("a folder is dropped with what is in it", { timeout: 60_000 }, async () => {
  local("Docs/plan.md", "# Plan");
  local("Docs/2026/budget.csv", "a,b");
  await alice.drop([join(browser.folder, "Docs")]);
  await Promise.all(["/Docs/plan.md", "/Docs/2026/budget.csv"].map((path) => aliceToo.has(path)));
});

test("a new version, a move and a deletion are followed", { timeout: 60_000 }, async () => {
  await alice.chooseTaken("notes.txt", "hello again", "Replace");
  await aliceToo.file("/notes.txt").filter({ hasText: "version 2" }).waitFor();
  await alice.act("/notes.txt", "Move or rename");
  await alice.answer("/Archive/notes.txt");
  await Promise.all([aliceToo.has("/Archive/notes.txt"), aliceToo.hasNot("/notes.txt")]);
  await alice.act("/first.txt", "Delete");
  await alice.answer();
  await Promise.all([alice.hasNot("/first.txt"), aliceToo.hasNot("/first.txt")]);
});

test("each version is saved as it was uploaded", { timeout: 60_000 }, async () => {
  const { page } = aliceToo;
  await aliceToo.act("/Archive/notes.txt", "Versions");
  await page.locator("#versions-list li", { hasText: "Version 1" }).waitFor();
  for (const [label, content] of [["Download version 2", "hello again"], ["Download version 1", "hello"]]) {
    const [saved] = await Promise.all([page.waitForEvent("download"), page.click(`#versions-list button[aria-label="${label}"]`)]);
    assert.equal(saved.suggestedFilename(), "notes.txt");
    assert.equal(readFileSync(await saved.path(), "utf8"), content);
  }
  await page.click("#versions-close");
});

test("a file of any size is saved as it was: empty, of one byte, and around the size from which it is sent in parts", { timeout: 240_000 }, async () => {
  for (const size of [0, 1, 64 * MIB, 64 * MIB + 1]) {
    const name = `${size}.bin`;
    const content = randomBytes(size);
    await alice.drop([local(name, content)]);
    await alice.page.locator("#uploads li[data-phase=done]", { hasText: name }).waitFor({ timeout: 60_000 });
    await aliceToo.has(`/${name}`);
    const [saved] = await Promise.all([aliceToo.page.waitForEvent("download", { timeout: 60_000 }), aliceToo.act(`/${name}`, "Download")]);
    assert.ok(readFileSync(await saved.path()).equals(content), `${size} bytes`);
  }
});

test("a space is shared, and every window of every member follows it", { timeout: 60_000 }, async () => {
  await bob.view("members");
  const bobId = await bob.ownId();
  await alice.createSpace("Team");
  await alice.view("members");
  await alice.page.fill("#invite input", bobId);
  await alice.page.selectOption("#invite select", "viewer");
  await alice.page.click("#invite .primary");
  await alice.page.locator("#pending li", { hasText: bobId.slice(0, 8) }).waitFor();
  await bob.accept("Team");
  await alice.page.locator("#members li", { hasText: bobId.slice(0, 8) }).waitFor();

  await Promise.all([bob.select("Team"), aliceToo.select("Team")]);
  await alice.choose("roadmap.txt", "one");
  await Promise.all([bob.has("/roadmap.txt"), aliceToo.has("/roadmap.txt")]);
  assert.ok((await bob.latency()) < SOON);

  // A viewer sees the files, and cannot change them.
  assert.ok(await bob.page.isVisible("#read-only"));
  assert.ok(!(await bob.page.isVisible("#drop")));
  assert.equal(await bob.page.locator('#list button[title="Delete"]').count(), 0);
  await alice.page.locator("#members li", { hasText: bobId.slice(0, 8) }).locator("select").selectOption("editor");
  await bob.page.waitForSelector("#drop", { state: "visible" });
  await bob.choose("from-bob.txt", "two");
  await Promise.all([alice.has("/from-bob.txt"), aliceToo.has("/from-bob.txt")]);
});

test("a space that somebody was put out of is named, also afterwards", { timeout: 60_000 }, async () => {
  await bob.view("members");
  const bobId = await bob.ownId();
  await alice.createSpace("Short");
  await alice.view("members");
  await alice.page.fill("#invite input", bobId);
  await alice.page.click("#invite .primary");
  const member = alice.page.locator("#members li", { hasText: bobId.slice(0, 8) });
  await bob.accept("Short");
  await member.waitFor();
  await bob.select("Short");
  // What is read after he is put out is refused.
  await bob.page.locator("#list-note", { hasText: "Nothing here yet" }).waitFor();
  await bob.page.locator("#members li", { hasText: "(you)" }).waitFor();
  await member.locator("button").click();
  await alice.answer();
  await bob.page.locator("#notices", { hasText: /You have no access to .{1,2}Short/ }).waitFor();
  await bob.select("My files");
  await bob.view("activity");
  await bob.page.locator("#activity li", { hasText: /ended access to/ }).first().waitFor();
  assert.match(await bob.page.locator("#activity li", { hasText: /ended access to/ }).first().textContent(), /ended access to “.?Short/);
  // The only owner gets a message instead of a question.
  await alice.page.locator("#members li", { hasText: "(you)" }).locator("button").click();
  await alice.page.locator("#notices", { hasText: "You are the only owner of this space." }).waitFor();
  assert.equal(await alice.page.locator("#ask[open]").count(), 0);
  await alice.view("activity");
  await Promise.all([alice.select("Team"), bob.select("Team")]);
});

test("of two who changed the same version one is told, and nothing is overwritten", { timeout: 60_000 }, async () => {
  bob.expected.push(/status of 409/);
  // Bob's upload is delayed until Alice's is complete.
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await bob.page.route("**/uploads/*/complete", async (route) => {
    await held;
    await route.continue();
  });
  await bob.chooseTaken("roadmap.txt", "bob's", "Replace");
  await bob.page.locator("#uploads li[data-phase=completing]", { hasText: "roadmap.txt" }).waitFor();
  await alice.chooseTaken("roadmap.txt", "alice's", "Replace");
  await alice.file("/roadmap.txt").filter({ hasText: "version 2" }).waitFor();
  release();
  const conflict = bob.page.locator("#uploads li[data-phase=conflict]");
  await conflict.waitFor();
  await bob.page.unroute("**/uploads/*/complete");
  await conflict.getByRole("button", { name: "Keep both" }).click();
  await Promise.all([alice.has("/roadmap (2).txt"), bob.has("/roadmap (2).txt")]);
});

test("a file whose name is taken replaces nothing unless somebody says so", { timeout: 60_000 }, async () => {
  const { page } = alice;
  await alice.choose("shared.txt", "first");
  await Promise.all([alice.has("/shared.txt"), bob.has("/shared.txt")]);
  await alice.uploaded("shared.txt");
  // Two files at once. The new one does not wait for the answer about the other.
  await alice.drop([local("taken/shared.txt", "stale"), local("taken/fresh.txt", "fresh")]);
  await alice.has("/fresh.txt");
  await page.locator("#ask[open]", { hasText: /Team.{0,2} has version 1 of it/ }).waitFor();
  await page.getByRole("button", { name: "Skip" }).click();
  await alice.chooseTaken("shared.txt", "mine", "Keep both");
  await bob.has("/shared (2).txt");
  await alice.chooseTaken("shared.txt", "newer", "Replace");
  await bob.file("/shared.txt").filter({ hasText: "version 2" }).waitFor();
  assert.equal(await bob.file("/shared.txt").filter({ hasText: "version 3" }).count(), 0);

  // A name that this window does not know yet: the page asks after the service has refused the upload.
  alice.expected.push(/status of 409/);
  await page.route("**/files?*", (route) => route.abort());
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await page.route("**/uploads", async (route) => {
    await held;
    await route.continue();
  });
  await alice.choose("both.txt", "alice's");
  await page.locator("#uploads li[data-phase=opening]", { hasText: "both.txt" }).waitFor();
  await bob.choose("both.txt", "bob's");
  await bob.uploaded("both.txt");
  release();
  const conflict = page.locator("#uploads li[data-phase=conflict]", { hasText: "both.txt" });
  await conflict.filter({ hasText: "A file with this name is already here, in version 1." }).waitFor();
  await conflict.getByRole("button", { name: "Skip" }).click();
  await page.unroute("**/uploads");
  await page.unroute("**/files?*");
  assert.equal(await bob.file("/both.txt").filter({ hasText: "version 1" }).count(), 1);
});

test("an upload says to which space it goes, also when another is open", { timeout: 60_000 }, async () => {
  await alice.select("My files");
  await alice.upload("shared (2).txt").filter({ hasText: "Team › shared (2).txt" }).waitFor();
  await alice.upload("first.txt").filter({ hasText: "My files › first.txt" }).waitFor();
  await alice.select("Team");
});

test("what happens while the network is cut is caught up with, once and in order", { timeout: 90_000 }, async () => {
  const before = await bob.sequences();
  bob.expected.push(NETWORK_GONE, /WebSocket connection to/);
  await bob.context.setOffline(true);
  await bob.phase("waiting");
  assert.match(await bob.page.locator("#notices").textContent(), /You are offline\. What you see is as of/);
  for (const name of ["while-1.txt", "while-2.txt", "while-3.txt"]) {
    await alice.choose(name, name);
    await aliceToo.has(`/${name}`);
  }
  await bob.screenshot("offline");
  // Files that are dropped meanwhile wait.
  await bob.choose("offline.txt", "written without a network");
  await bob.page.locator("#uploads li[data-phase=waiting]", { hasText: "offline.txt" }).waitFor();
  await bob.context.setOffline(false);
  await bob.live();
  await Promise.all(["/while-1.txt", "/while-2.txt", "/while-3.txt", "/offline.txt"].map((path) => bob.has(path)));
  await bob.uploaded("offline.txt");
  const sequences = await bob.sequences();
  const first = sequences[0];
  assert.deepEqual(sequences, sequences.map((_, index) => first + index));
  assert.equal(sequences.length, before.length + 4);
  assert.match(await bob.page.locator("#activity").textContent(), /caught up/);
});

test("a large file is sent in parts, and goes on where it was cut", { timeout: 240_000 }, async () => {
  const content = randomBytes(80 * MIB);
  const stored = new Map();
  alice.expected.push(NETWORK_GONE, /WebSocket connection to/);
  alice.page.on("response", (response) => {
    const part = new URL(response.url()).searchParams.get("partNumber");
    if (part && response.request().method() === "PUT" && response.ok()) stored.set(part, (stored.get(part) ?? 0) + 1);
  });
  const devtools = await alice.context.newCDPSession(alice.page);
  await devtools.send("Network.enable");
  const network = (conditions) => devtools.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: -1, ...conditions });
  await network({ uploadThroughput: 12 * MIB });
  await alice.drop([local("film.mov", content)]);
  const upload = alice.upload("film.mov");
  await alice.page.waitForFunction(() => {
    const progress = document.querySelector("#uploads li[data-phase=sending] progress");
    return progress && progress.value / progress.max > 0.2;
  }, undefined, { timeout: 120_000 });
  await alice.page.screenshot({ path: join(settings.screenshots, "sending.png") });
  while (stored.size === 0) await alice.page.waitForTimeout(20);
  await network({ offline: true });
  await alice.page.locator("#uploads li[data-phase=waiting]", { hasText: "film.mov" }).waitFor();
  assert.match(await upload.textContent(), /Waits for the network/);
  const before = stored.size;
  await network({});
  await alice.page.locator("#uploads li[data-phase=done]", { hasText: "film.mov" }).waitFor({ timeout: 120_000 });
  await devtools.detach();
  assert.ok(before < stored.size, "nothing was left to send after the cut");
  assert.ok([...stored.values()].every((times) => times === 1), `parts were sent again: ${JSON.stringify([...stored])}`);

  await bob.has("/film.mov");
  const [saved] = await Promise.all([bob.page.waitForEvent("download", { timeout: 60_000 }), bob.act("/film.mov", "Download")]);
  const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");
  assert.equal(digest(readFileSync(await saved.path())), digest(content));
});

test("an upload that a reload cut off is named, and goes on where it was", { timeout: 180_000 }, async () => {
  const window = await browser.open();
  const { page } = window;
  window.expected.push(NETWORK_GONE);
  await window.signIn(ALICE);
  page.on("dialog", (dialog) => dialog.accept());
  const sent = [];
  page.on("requestfinished", (request) => {
    const part = new URL(request.url()).searchParams.get("partNumber");
    if (part && request.method() === "PUT") sent.push(part);
  });
  // Only the first four parts arrive.
  await page.route(/partNumber=/, (route) => (Number(new URL(route.request().url()).searchParams.get("partNumber")) <= 4 ? route.continue() : undefined));
  await window.drop([local("long.bin", randomBytes(72 * MIB))]);
  while (new Set(sent).size < 4) await page.waitForEvent("requestfinished", { timeout: 60_000 });
  await page.reload();
  await window.live();
  await page.locator("#notices", { hasText: /long\.bin.* was cut off .*Add it again/ }).waitFor();
  await page.unroute(/partNumber=/);
  sent.length = 0;
  await window.drop([join(browser.folder, "long.bin")]);
  await page.locator("#uploads li[data-phase=done]", { hasText: "long.bin" }).waitFor({ timeout: 60_000 });
  assert.ok(sent.length > 0 && sent.every((part) => Number(part) > 4), `sent again: ${sent}`);
  // Another window is another device, and uses the stored keys too.
  assert.equal(await page.evaluate(() => Object.keys(localStorage).length), 0);
  await window.assertQuiet();
  await window.context.close();
  browser.windows = browser.windows.filter((other) => other !== window);
});

test("sharing with what is neither a user ID nor an address is refused in words", { timeout: 60_000 }, async () => {
  await alice.view("members");
  for (const text of ["bob", "bob@", "a/b"]) {
    await alice.page.fill("#invite input", text);
    await alice.page.click("#invite .primary");
    await alice.page.locator("#invite .error", { hasText: `${text}\u2069” is neither an e-mail address nor a user ID` }).waitFor();
  }
  await alice.page.fill("#invite input", "");
  await alice.view("activity");
});

test("an expired session says so, loses nothing, and goes on after signing in again", { timeout: 90_000 }, async () => {
  const { page, context } = bob;
  bob.expected.push(/status of 40[01]/);
  // The user pool revokes the refresh token, and API Gateway refuses the id token.
  const refreshToken = await page.evaluate(() => sessionStorage.getItem("syncsphere.session"));
  const config = await page.evaluate(async () => (await fetch("config.json")).json());
  const revoked = await fetch(config.cognitoEndpoint, {
    method: "POST",
    headers: { "Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AWSCognitoIdentityProviderService.RevokeToken" },
    body: JSON.stringify({ ClientId: config.userPoolClientId, Token: refreshToken }),
  });
  assert.ok(revoked.ok, await revoked.text());
  const api = (url) => url.href.startsWith(config.httpApiUrl);
  await context.route(api, (route) =>
    route.fulfill({ status: 401, headers: { "Access-Control-Allow-Origin": settings.page }, contentType: "application/json", body: '{"message":"Unauthorized"}' }),
  );
  await bob.choose("unsaved.txt", "nothing is lost");
  await page.waitForSelector("#expired[open]");
  await page.locator("#uploads li[data-phase=waiting]", { hasText: "unsaved.txt" }).waitFor();
  assert.equal(await page.locator("#status").getAttribute("data-phase"), "expired");
  assert.equal(await page.evaluate(() => sessionStorage.getItem("syncsphere.session")), null);
  await bob.screenshot("expired");
  await page.fill("#expired input[name=password]", "wrong");
  await page.keyboard.press("Enter");
  await page.locator("#expired .error", { hasText: /\w/ }).waitFor();
  await context.unroute(api);
  await page.fill("#expired input[name=password]", settings.password);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#expired:not([open])", { state: "attached" });
  await bob.live();
  await bob.uploaded("unsaved.txt");
  await Promise.all([alice.has("/unsaved.txt"), bob.has("/unsaved.txt")]);
});

test("the filter finds what has not been read yet, and claims nothing before it has", { timeout: 60_000 }, async () => {
  const { page } = aliceToo;
  // Pages of two files each simulate a space with thousands of files.
  const tokens = [];
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await page.route("**/files?*", async (route) => {
    const url = new URL(route.request().url());
    url.searchParams.set("limit", "2");
    const pageToken = url.searchParams.get("pageToken");
    if (pageToken) tokens.push(pageToken);
    if (tokens.length === 1) await held;
    await route.continue({ url: url.href });
  });
  await page.reload();
  await aliceToo.live();
  await aliceToo.select("Team");
  await page.locator("#list li").nth(1).waitFor();
  assert.equal(await page.locator("#list li").count(), 2);
  assert.equal(await aliceToo.file("/while-3.txt").count(), 0);
  await page.fill("#filter", "while-3");
  await page.locator("#list-note", { hasText: "Searching" }).waitFor();
  assert.doesNotMatch(await page.locator("#list-note").textContent(), /No path|None of/);
  release();
  await aliceToo.has("/while-3.txt");
  await page.fill("#filter", "nothing like this");
  await page.locator("#list-note", { hasText: "No path contains that." }).waitFor();
  assert.ok(await page.locator("#list-more").isHidden());
  assert.equal(new Set(tokens).size, tokens.length, "a page was read twice");
  await page.fill("#filter", "");
  await page.unroute("**/files?*");
});

test("what cannot be seen in a name is shown, and a name that cannot be is not sent", { timeout: 60_000 }, async () => {
  const { page } = aliceToo;
  const names = new Map([["/invoice\u202efdp.exe", "invoice⟨U+202E⟩fdp.exe"], ["/\u200b", "⟨U+200B⟩"], ["/a  b", "a  b"], [`/${"long ".repeat(50)}end`, `${"long ".repeat(50)}end`]]);
  // Files from a release that did not refuse such names.
  await page.route("**/files?*", async (route) => {
    const answer = await route.fetch();
    const files = [...names.keys()].map((path, index) => ({ fileId: `00000000-0000-4000-8000-00000000000${index}`, spaceId: "x", path, version: 1, size: 1, sha256: "x", createdAt: "2026-01-01T00:00:00Z", updatedAt: "2026-01-01T00:00:00Z" }));
    await route.fulfill({ response: answer, json: { files } });
  });
  await page.reload();
  await aliceToo.live();
  await aliceToo.select("Team");
  for (const [path, shown] of names) {
    const name = aliceToo.file(path).locator("strong");
    assert.equal(await name.innerText(), shown);
    assert.equal(await name.evaluate((element) => getComputedStyle(element).unicodeBidi), "isolate");
    assert.ok((await aliceToo.file(path).boundingBox()).height < 120);
  }
  await page.unroute("**/files?*");
  const sent = [];
  page.on("request", (request) => request.method() === "PATCH" && sent.push(request.url()));
  await aliceToo.act("/a  b", "Move or rename");
  for (const [path, problem] of [["/x/", /ends with a slash/], ["/x//y", /Two slashes/], [`/${"y".repeat(300)}`, /too long/], ["/a\u202eb", /cannot be seen/]]) {
    await page.fill("#ask input", path);
    await page.click("#ask-ok");
    await page.locator("#ask .error", { hasText: problem }).waitFor();
  }
  await page.click("#ask button[value=cancel]");
  await page.click("#new-space");
  await page.fill("#ask input", " ");
  await page.click("#ask-ok");
  await page.locator("#ask .error", { hasText: "Enter a name." }).waitFor();
  await page.click("#ask button[value=cancel]");
  assert.deepEqual(sent, []);
});

test("reloading keeps the session and shows the same", { timeout: 60_000 }, async () => {
  await aliceToo.page.reload();
  await aliceToo.live();
  await aliceToo.select("Team");
  await aliceToo.has("/unsaved.txt");
  assert.equal(await aliceToo.page.evaluate(() => Object.keys(localStorage).length), 0);
});

test("it can be used by keyboard alone", { timeout: 60_000 }, async () => {
  const window = await browser.open();
  const { page } = window;
  assert.equal(await page.evaluate(() => document.activeElement?.tagName), "BODY");
  await page.keyboard.press("Tab");
  await page.keyboard.type(ALICE);
  await page.keyboard.press("Tab");
  await page.keyboard.type(settings.password);
  await page.keyboard.press("Enter");
  await window.live();
  await page.evaluate(() => document.activeElement?.blur());
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement?.className), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "main");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "choose");
  const outline = await page.evaluate(() => getComputedStyle(document.querySelector("#drop")).outlineStyle);
  assert.equal(outline, "solid");
  await window.assertQuiet();
});

test("it is accessible, light and dark, and fits a phone", { timeout: 180_000 }, async () => {
  for (const colorScheme of ["light", "dark"]) {
    for (const [shape, viewport] of SHAPES) {
      const narrow = shape !== "desktop";
      const window = await browser.openAs(shape, viewport, colorScheme);
      const { page } = window;
      await window.assertAccessible(`${shape}, ${colorScheme}: signing in`);
      if (shape !== "small-phone") await window.screenshot(`sign-in-${shape}-${colorScheme}`);
      await window.signIn(ALICE);
      await window.select("Team");
      await window.has("/film.mov");
      for (const view of narrow ? ["files", "activity", "members"] : ["activity", "members"]) {
        await window.view(view);
        if (view === "members") await page.locator("#members li").first().waitFor();
        if (view === "files") await page.getByRole("button", { name: "Actions film.mov" }).click();
        // A row that is added while the page is observed.
        if (view === "activity" && shape !== "small-phone") {
          const name = `${shape}-${colorScheme}.txt`;
          await bob.choose(name, name);
          await page.locator("#activity li", { hasText: name }).waitFor({ state: "attached" });
        }
        await window.assertAccessible(`${shape}, ${colorScheme}: ${view}`);
        await window.assertFits(`${shape}, ${view}`);
        if (shape !== "small-phone") await window.screenshot(`${shape}-${colorScheme}-${view}`);
      }
      await window.assertQuiet();
      await window.context.close();
      browser.windows = browser.windows.filter((other) => other !== window);
    }
  }
});

test("an account with an authenticator app asks for its code, at first and after the session has expired", { timeout: 90_000 }, async () => {
  const config = await alice.page.evaluate(async () => (await fetch("config.json")).json());
  await cognito("SetUserPoolMfaConfig", { UserPoolId: settings.userPoolId, MfaConfiguration: "OPTIONAL", SoftwareTokenMfaConfiguration: { Enabled: true } });
  const user = await newUser("web-mfa");
  const signedIn = await cognito("InitiateAuth", { ClientId: config.userPoolClientId, AuthFlow: "USER_PASSWORD_AUTH", AuthParameters: { USERNAME: user, PASSWORD: settings.password } });
  const { AccessToken } = signedIn.AuthenticationResult;
  const { SecretCode } = await cognito("AssociateSoftwareToken", { AccessToken });
  await cognito("VerifySoftwareToken", { AccessToken, UserCode: codeOf(SecretCode) });
  await cognito("SetUserMFAPreference", { AccessToken, SoftwareTokenMfaSettings: { Enabled: true, PreferredMfa: true } });

  const window = await browser.open();
  const { page } = window;
  window.expected.push(/status of 40[01]/);
  const enter = async (form, code) => {
    const field = page.locator(`${form} input[name=code]`);
    await field.waitFor();
    assert.ok(await field.evaluate((element) => element === document.activeElement), "the code is not asked for");
    await field.fill(code);
    await page.keyboard.press("Enter");
  };
  await page.fill("#signin-form input[name=name]", user);
  await page.fill("#signin-form input[name=password]", settings.password);
  await page.keyboard.press("Enter");
  await enter("#signin-form", wrong(codeOf(SecretCode)));
  await page.locator("#signin-form .error", { hasText: /\w/ }).waitFor();
  await window.screenshot("code");
  // The user pool decides whether a wrong code ends the attempt.
  if (!(await page.isVisible("#signin-form input[name=code]"))) {
    await page.fill("#signin-form input[name=password]", settings.password);
    await page.keyboard.press("Enter");
  }
  await enter("#signin-form", codeOf(SecretCode));
  await window.live();

  await cognito("RevokeToken", { ClientId: config.userPoolClientId, Token: await page.evaluate(() => sessionStorage.getItem("syncsphere.session")) });
  const api = (url) => url.href.startsWith(config.httpApiUrl);
  await window.context.route(api, (route) =>
    route.fulfill({ status: 401, headers: { "Access-Control-Allow-Origin": settings.page }, contentType: "application/json", body: '{"message":"Unauthorized"}' }),
  );
  await window.choose("mfa.txt", "nothing is lost");
  await page.waitForSelector("#expired[open]");
  await window.context.unroute(api);
  await page.fill("#expired input[name=password]", settings.password);
  await page.keyboard.press("Enter");
  await enter("#expired", codeOf(SecretCode));
  await page.waitForSelector("#expired:not([open])", { state: "attached" });
  await window.live();
  await window.uploaded("mfa.txt");
  await window.assertQuiet();
  await window.context.close();
  browser.windows = browser.windows.filter((other) => other !== window);
});

/** Returns the present code of an authenticator app (RFC 6238) for a Base32 secret. */
function codeOf(secret) {
  const bits = [...secret.replace(/=+$/, "")].map((character) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(character).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => Number.parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const digest = createHmac("sha1", key).update(counter).digest();
  const offset = digest[19] & 15;
  return String((digest.readUInt32BE(offset) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

/** Returns a different, wrong code. */
function wrong(code) {
  return String((Number(code) + 500_000) % 1_000_000).padStart(6, "0");
}

test("signing out leaves nothing behind", { timeout: 60_000 }, async () => {
  await aliceToo.page.click("#sign-out");
  await aliceToo.page.waitForSelector("#signin-form", { state: "visible" });
  assert.equal(await aliceToo.page.evaluate(() => sessionStorage.getItem("syncsphere.session")), null);
  assert.equal(await aliceToo.page.locator("#list li").count(), 0);
});

test("nothing went wrong that nobody noticed", async () => {
  for (const window of browser.windows) await window.assertQuiet();
});
