// Tests undoing, the trash, versions, deleted spaces, declining and the account in Chromium on the deployed stack.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { newUser } from "./users.mjs";
import { Browser, SHAPES } from "./window.mjs";

const browser = new Browser();
let aliceName, alice, bob, bobId;

before(async () => {
  await browser.start();
  let bobName;
  [aliceName, bobName] = await Promise.all([newUser("web-alice"), newUser("web-bob")]);
  [alice, bob] = await Promise.all([browser.open(), browser.open()]);
  await Promise.all([alice.signIn(aliceName), bob.signIn(bobName)]);
  await bob.view("members");
  bobId = await bob.ownId();
  // A shared space in which Bob is an editor.
  await alice.createSpace("Team");
  await share(alice, bob, "Team");
});

after(() => browser.close());

/** Invites Bob to the selected space. */
async function invite(window) {
  await window.view("members");
  await window.page.fill("#invite input", bobId);
  await window.page.click("#invite .primary");
  await window.page.locator("#pending li", { hasText: bobId.slice(0, 8) }).waitFor();
}

async function share(window, other, name) {
  await invite(window);
  await other.accept(name);
  await other.select(name);
  await window.page.locator("#members li", { hasText: bobId.slice(0, 8) }).waitFor();
}

/** Adds a file, and waits until both have it. */
async function add(name, content) {
  await alice.choose(name, content);
  await Promise.all([alice.has(`/${name}`), bob.has(`/${name}`)]);
}

test("a deletion and a move are undone from a notice, by keyboard", { timeout: 60_000 }, async () => {
  const { page } = alice;
  await add("undo.txt", "one");
  await alice.act("/undo.txt", "Delete");
  await alice.answer();
  await bob.hasNot("/undo.txt");
  const undo = alice.notice(/undo\.txt.{0,2} is in the trash/).getByRole("button", { name: "Undo" });
  await undo.waitFor();
  assert.ok(await undo.evaluate((button) => button === document.activeElement), "the notice is far from the list by keyboard");
  await page.keyboard.press("Enter");
  await Promise.all([alice.has("/undo.txt"), bob.has("/undo.txt")]);
  await undo.waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement?.id), "main");
  await alice.announced(/^Undone\.$/);

  await alice.act("/undo.txt", "Move or rename");
  await alice.answer("/folder/moved.txt");
  await bob.has("/folder/moved.txt");
  await alice.notice(/undo\.txt.{0,2} is now .{0,2}folder\/moved\.txt/).getByRole("button", { name: "Undo" }).press("Enter");
  await Promise.all([bob.has("/undo.txt"), bob.hasNot("/folder/moved.txt")]);
});

test("what cannot be undone any more says why, and a taken name can be changed", { timeout: 60_000 }, async () => {
  alice.expected.push(/status of 409/);
  await alice.act("/undo.txt", "Delete");
  await alice.answer();
  await bob.hasNot("/undo.txt");
  await bob.choose("undo.txt", "of Bob");
  await alice.has("/undo.txt");
  await alice.notice("is in the trash").getByRole("button", { name: "Undo" }).click();
  await alice.page.locator("#ask[open]", { hasText: "Another file or folder has its name now." }).waitFor();
  assert.equal(await alice.page.inputValue("#ask input"), "/undo (2).txt");
  await alice.page.fill("#ask input", "/undo.txt");
  await alice.page.click("#ask-ok");
  await alice.page.locator("#ask .error", { hasText: "has this name already" }).waitFor();
  await alice.answer("/undo (2).txt");
  await bob.has("/undo (2).txt");

  await alice.act("/undo (2).txt", "Move or rename");
  await alice.answer("/elsewhere.txt");
  await bob.has("/elsewhere.txt");
  await bob.chooseTaken("elsewhere.txt", "newer", "Replace");
  await alice.file("/elsewhere.txt").filter({ hasText: "version 2" }).waitFor();
  await alice.notice("is now").getByRole("button", { name: "Undo" }).click();
  await alice.notice("It could not be undone. It was changed on another device meanwhile, to version 2.").waitFor();
  assert.equal(await alice.notice("is now").count(), 0);
  await alice.dismiss();
});

test("the trash says who deleted a file, and until when it is kept, and gives it back", { timeout: 60_000 }, async () => {
  await add("thrown.txt", "one");
  await alice.view("trash");
  await alice.page.locator("#trash-note", { hasText: "The trash is empty" }).waitFor();
  await bob.act("/thrown.txt", "Delete");
  await bob.answer();
  // The open trash follows.
  await alice.deleted("/thrown.txt").filter({ hasText: `by ${bobId.slice(0, 8)}` }).waitFor();
  assert.match(await alice.deleted("/thrown.txt").textContent(), /Deleted .* · 3 B.*Kept until \w/);
  await bob.view("trash");
  await bob.deleted("/thrown.txt").filter({ hasText: "by you" }).waitFor();
  // Only owners erase.
  assert.equal(await bob.page.getByRole("button", { name: "Erase thrown.txt for good" }).count(), 0);
  await bob.page.getByRole("button", { name: "Restore thrown.txt" }).click();
  await alice.has("/thrown.txt");
  await Promise.all([alice, bob].map((window) => window.deleted("/thrown.txt").waitFor({ state: "detached" })));
});

test("an owner erases a file for good, after a question", { timeout: 60_000 }, async () => {
  const { page } = alice;
  await alice.act("/thrown.txt", "Delete");
  await alice.answer();
  await alice.notice("is in the trash").waitFor();
  await alice.dismiss();
  await alice.view("trash");
  await page.getByRole("button", { name: "Erase thrown.txt for good" }).click();
  await page.locator("#ask[open]", { hasText: "Nothing brings it back." }).waitFor();
  await page.click("#ask button[value=cancel]");
  assert.equal(await alice.deleted("/thrown.txt").count(), 1);
  await page.getByRole("button", { name: "Erase thrown.txt for good" }).click();
  await alice.answer();
  await alice.deleted("/thrown.txt").waitFor({ state: "detached" });
  await page.reload();
  await alice.live();
  await alice.select("Team");
  await alice.view("trash");
  await page.locator("#trash-note", { hasText: "The trash is empty" }).waitFor();
});

test("a trash of many files is read on request", { timeout: 60_000 }, async () => {
  const { page } = alice;
  // Pages of one file each simulate a trash with hundreds of files.
  await page.route("**/files?*", async (route) => {
    const url = new URL(route.request().url());
    if (url.searchParams.has("deleted")) url.searchParams.set("limit", "1");
    await route.continue({ url: url.href });
  });
  await alice.view("members");
  for (const name of ["many-1.txt", "many-2.txt"]) {
    await add(name, name);
    await bob.act(`/${name}`, "Delete");
    await bob.answer();
    await alice.hasNot(`/${name}`);
    await bob.notice("is in the trash").waitFor();
    await bob.dismiss();
  }
  await alice.view("trash");
  await alice.deleted("/many-2.txt").waitFor();
  assert.equal(await alice.deleted("/many-1.txt").count(), 0);
  await page.click("#trash-more");
  await alice.deleted("/many-1.txt").waitFor();
  assert.ok(await page.locator("#trash-more").isHidden());
  await page.unroute("**/files?*");
});

test("an old version is restored, and not over a newer one", { timeout: 60_000 }, async () => {
  const { page } = alice;
  await add("versions.txt", "one");
  await alice.chooseTaken("versions.txt", "second", "Replace");
  await bob.file("/versions.txt").filter({ hasText: "version 2" }).waitFor();
  await alice.act("/versions.txt", "Versions");
  await page.locator("#versions-list li", { hasText: "Version 1" }).waitFor();
  assert.equal(await page.getByRole("button", { name: "Restore version 2" }).count(), 0);
  await bob.chooseTaken("versions.txt", "third one", "Replace");
  await alice.file("/versions.txt").filter({ hasText: "version 3" }).waitFor();
  await page.getByRole("button", { name: "Restore version 1" }).click();
  await page.locator("#versions .error", { hasText: "changed on another device meanwhile, to version 3" }).waitFor();
  await page.click("#versions-close");
  await alice.act("/versions.txt", "Versions");
  await page.getByRole("button", { name: "Restore version 1" }).click();
  await alice.notice(/Version 1 of .*versions\.txt.* is restored, as version 4\./).waitFor();
  await alice.dismiss();
  await bob.file("/versions.txt").filter({ hasText: "3 B · version 4" }).waitFor();
});

test("a long history is read on request", { timeout: 60_000 }, async () => {
  const { page } = bob;
  await page.route(/\/files\/[0-9a-f-]+(\?|$)/, async (route) => {
    const url = new URL(route.request().url());
    url.searchParams.set("limit", "2");
    await route.continue({ url: url.href });
  });
  await bob.act("/versions.txt", "Versions");
  await page.locator("#versions-list li", { hasText: "Version 3" }).waitFor();
  assert.equal(await page.locator("#versions-list li").count(), 2);
  await page.click("#versions-more");
  await page.locator("#versions-list li", { hasText: "Version 1" }).waitFor();
  assert.ok(await page.locator("#versions-more").isHidden());
  await page.click("#versions-close");
  await page.unroute(/\/files\/[0-9a-f-]+(\?|$)/);
});

test("an owner deletes a space, undoes it, and restores it later", { timeout: 90_000 }, async () => {
  const { page } = alice;
  await bob.view("members");
  assert.ok(await bob.page.locator("#delete-space").isHidden());
  for (const undone of [true, false]) {
    await alice.view("members");
    await page.click("#delete-space-button");
    await page.locator("#ask[open]", { hasText: "Nobody sees it any more" }).waitFor();
    await alice.answer();
    await bob.page.locator("#spaces .space", { hasText: "Team" }).waitFor({ state: "detached" });
    await page.locator("#spaces .space", { hasText: "Team" }).waitFor({ state: "detached" });
    if (undone) {
      await alice.notice(/Team.{0,2} is deleted/).getByRole("button", { name: "Undo" }).click();
    } else {
      await alice.view("trash");
      await page.getByRole("button", { name: "Restore the space Team" }).click();
    }
    await Promise.all([alice.select("Team"), bob.select("Team")]);
    await alice.has("/versions.txt");
  }
  assert.ok(await page.locator("#deleted-spaces-section").isHidden());
  assert.equal(await alice.notice("You have no access").count(), 0);
});

test("whoever blocks an inviter hears no more of them", { timeout: 60_000 }, async () => {
  await alice.createSpace("Spam");
  await invite(alice);
  await bob.page.locator("#invitations li", { hasText: "Spam" }).getByRole("button", { name: "Decline" }).click();
  await bob.page.locator("#ask[open]", { hasText: "they do not learn of it" }).waitFor();
  await bob.page.getByRole("button", { name: "Decline and block" }).click();
  await bob.page.locator("#invitations li").waitFor({ state: "detached" });
  await alice.createSpace("More spam");
  await invite(alice);
  await bob.page.reload();
  await bob.live();
  assert.equal(await bob.page.locator("#invitations li").count(), 0);
});

test("it is accessible, light and dark, and fits a phone", { timeout: 180_000 }, async () => {
  await Promise.all([alice.select("Team"), bob.select("Team")]);
  for (const colorScheme of ["light", "dark"]) {
    for (const [shape, viewport] of SHAPES) {
      const window = await browser.openAs(shape, viewport, colorScheme);
      const { page } = window;
      const check = async (what) => {
        await window.assertAccessible(`${shape}, ${colorScheme}: ${what}`);
        await window.assertFits(`${shape}: ${what}`);
        if (shape !== "small-phone") await window.screenshot(`${shape}-${colorScheme}-${what}`);
      };
      await window.signIn(aliceName);
      await window.select("Team");
      await window.view("trash");
      await window.deleted("/many-1.txt").waitFor();
      await check("trash");
      await page.click("#account-name");
      await page.locator("#account-facts", { hasText: "Storage of My files" }).waitFor();
      await check("account");
      await page.click("#account-close");
      if (shape !== "desktop") {
        await window.view("files");
        await page.getByRole("button", { name: "Actions versions.txt" }).click();
      }
      await page.getByRole("button", { name: "Versions versions.txt" }).click();
      await page.getByRole("button", { name: "Restore version 1" }).waitFor();
      await check("versions");
      await page.click("#versions-close");
      await page.getByRole("button", { name: "Move or rename versions.txt" }).click();
      await window.answer(`/${shape}-${colorScheme}.txt`);
      await window.notice("is now").waitFor();
      await check("undo");
      await window.notice("is now").getByRole("button", { name: "Undo" }).click();
      await window.has("/versions.txt");
      await window.assertQuiet();
      await window.context.close();
      browser.windows = browser.windows.filter((other) => other !== window);
    }
  }
});

test("an account is erased after its spaces have other owners and it was confirmed", { timeout: 90_000 }, async () => {
  const { page } = alice;
  alice.expected.push(/status of 403/, /WebSocket connection to/);
  await page.click("#account-name");
  await page.locator("#account-facts", { hasText: /Storage of My files, with old versions and the trash0 B of .*Shared spaces3 of/ }).waitFor();
  await page.click("#account-erase");
  await page.locator("#account .error", { hasText: /the only owner of .*Team.* and others are members there/ }).waitFor();
  assert.doesNotMatch(await page.locator("#account .error").textContent(), /spam/i);
  await page.click("#account-close");
  await alice.select("Team");
  await alice.view("members");
  await page.locator("#members li", { hasText: bobId.slice(0, 8) }).locator("select").selectOption("owner");
  await bob.page.locator("#space-role", { hasText: "owner" }).waitFor();

  await page.click("#account-name");
  await page.click("#account-erase");
  const question = page.locator("#ask[open]", { hasText: /no other member: .*Spam/ });
  await question.waitFor();
  assert.match(await question.textContent(), /name “deleted user” in place of you/);
  await page.fill("#ask input", "erase");
  await page.click("#ask-ok");
  await page.locator("#ask .error", { hasText: "Nothing is erased yet." }).waitFor();
  await page.fill("#ask input", "erase my account");
  await page.click("#ask-ok");
  await page.waitForSelector("#signin-form", { state: "visible" });
  await bob.view("members");
  await bob.page.locator("#members li").nth(1).waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => sessionStorage.getItem("syncsphere.session")), null);
});

test("nothing went wrong that nobody noticed", async () => {
  for (const window of browser.windows) await window.assertQuiet();
});
