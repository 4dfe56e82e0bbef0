// Tests open windows while the database is restored to an earlier state. A file of its own, since the restore takes back what other tests do.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Backup, newUser } from "./users.mjs";
import { Browser } from "./window.mjs";

/** Timeout in milliseconds of replacing a connection, which windows do within 40 s. */
const REPLACED = 60_000;

/** Console errors of requests that the restored service refuses, or that reach it while it is restored. */
const REFUSED = /status of (404|410|503)/;

const browser = new Browser();
let name;

before(async () => {
  await browser.start();
  name = await newUser("web-alice");
});

after(() => browser.close());

test("an open page notices a restored database, loses nothing that is queued, and hears of changes again", { timeout: 180_000 }, async () => {
  const writer = await browser.open();
  await writer.signIn(name);
  await writer.choose("kept.txt", "from before the backup");
  await writer.uploaded("kept.txt");
  await writer.has("/kept.txt");
  await writer.chooseTaken("kept.txt", "replaced before the backup", "Replace");
  await writer.file("/kept.txt").filter({ hasText: "version 2" }).waitFor();
  await writer.context.close();
  const backup = new Backup();
  backup.take();

  // The restored database knows neither this window's connection nor the file that it adds.
  const window = await browser.open();
  const { page } = window;
  window.expected.push(REFUSED);
  await window.signIn(name);
  await window.has("/kept.txt");
  await window.choose("lost.txt", "from after the backup");
  await window.uploaded("lost.txt");
  await window.has("/lost.txt");

  // More files than are in progress at a time: some uploads are nearly complete, and the others wait.
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await page.route("**/uploads/*/complete", async (route) => {
    await held;
    await route.continue();
  });
  const queued = Array.from({ length: 12 }, (_, index) => `queued-${index}.txt`);
  const folder = join(browser.folder, "queued");
  mkdirSync(folder);
  const paths = queued.map((file) => join(folder, file));
  for (const path of paths) writeFileSync(path, path);
  await window.drop(paths);
  await page.waitForFunction(() => document.querySelectorAll("#uploads li[data-phase=completing]").length >= 8);
  await page.locator("#uploads li", { hasText: "Waiting for its turn" }).first().waitFor();

  await backup.restore();
  release();
  await window.notice(/My files.* was restored to an earlier state\. What was changed since may be missing/).waitFor();
  await Promise.all([window.hasNot("/lost.txt"), window.file("/kept.txt").filter({ hasText: "version 2" }).waitFor()]);
  await Promise.all(queued.map((file) => window.uploaded(file)));
  assert.equal(await page.locator("#uploads li[data-phase=failed]").count(), 0);
  await page.unroute("**/uploads/*/complete");
  await window.dismiss();

  // Its connection is replaced by one that the database knows.
  await page.waitForSelector("#status[data-phase=live]", { timeout: REPLACED });
  await Promise.all(queued.map((file) => window.has(`/${file}`)));
  const other = await browser.open();
  await other.signIn(name);
  await Promise.all(["/kept.txt", ...queued.map((file) => `/${file}`)].map((path) => other.has(path)));
  await other.choose("afterwards.txt", "heard of");
  await window.has("/afterwards.txt");
  await window.announced(/afterwards\.txt.{0,2}: added, heard of after/);
  await window.choose("back.txt", "heard of too");
  await other.announced(/back\.txt.{0,2}: added, heard of after/);
  await Promise.all([window.assertQuiet(), other.assertQuiet()]);
});

test("a page whose user is newer than the backup goes on with an empty space and what is queued", { timeout: 180_000 }, async () => {
  const backup = new Backup();
  backup.take();
  const window = await browser.open();
  const { page } = window;
  window.expected.push(REFUSED);
  await window.signIn(await newUser("web-new"));
  await window.choose("lost.txt", "from after the backup");
  await window.uploaded("lost.txt");
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await page.route("**/uploads/*/complete", async (route) => {
    await held;
    await route.continue();
  });
  await window.choose("queued.txt", "not sent yet");
  await page.locator("#uploads li[data-phase=completing]", { hasText: "queued.txt" }).waitFor();

  await backup.restore();
  release();
  await window.notice(/My files.* was restored to an earlier state\. What was changed since may be missing/).waitFor();
  await window.uploaded("queued.txt");
  await page.unroute("**/uploads/*/complete");
  await page.waitForSelector("#status[data-phase=live]", { timeout: REPLACED });
  await window.has("/queued.txt");
  await window.hasNot("/lost.txt");
  assert.equal(await window.notice("You have no access").count(), 0);
});
