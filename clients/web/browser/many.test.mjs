// Tests a drop of many small files in Chromium on the deployed stack: few requests, few updates of the view, progress and cancelling.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { newUser } from "./users.mjs";
import { Browser } from "./window.mjs";

const FILES = 1_000;

/** Timeout in milliseconds. The local stack sends some ten files a second if the machine is busy. */
const SENT = 240_000;

const browser = new Browser();
let sender, listener;

before(async () => {
  await browser.start();
  const name = await newUser("web-many");
  [sender, listener] = await Promise.all([browser.open(), browser.open()]);
  await sender.signIn(name);
  await listener.signIn(name);
  // The first upload creates the personal space, of which no change can be pushed before.
  await sender.choose("first.txt", "first");
  await Promise.all([sender.has("/first.txt"), listener.has("/first.txt")]);
});

after(() => browser.close());

/** Creates a folder with files on this machine, and returns its path. */
function folderOf(name, count) {
  const folder = join(browser.folder, name);
  mkdirSync(folder);
  for (let index = 0; index < count; index += 1) writeFileSync(join(folder, `${index}.txt`), `${name} ${index} `.padEnd(4_096, "."));
  return folder;
}

test("a folder of 1,000 small files is opened and completed by few requests, and seen by every window without an update for each", { timeout: 600_000 }, async () => {
  const requests = { open: 0, put: 0, complete: 0 };
  sender.page.on("request", (request) => {
    const { pathname } = new URL(request.url());
    if (request.method() === "PUT") requests.put += 1;
    else if (request.method() === "POST" && pathname.endsWith("/complete")) requests.complete += 1;
    else if (request.method() === "POST" && /\/uploads(\/batch)?$/.test(pathname)) requests.open += 1;
  });
  // Each answer of the service may cause one update of the list.
  const heard = { answers: 0, mostInFrame: 0 };
  const devtools = await listener.context.newCDPSession(listener.page);
  await devtools.send("Network.enable");
  devtools.on("Network.webSocketFrameReceived", ({ response }) => {
    const { changes = [] } = JSON.parse(response.payloadData);
    heard.answers += 1;
    heard.mostInFrame = Math.max(heard.mostInFrame, changes.length);
  });
  listener.page.on("response", () => void (heard.answers += 1));
  await listener.page.evaluate(() => {
    globalThis.updates = 0;
    new MutationObserver(() => (globalThis.updates += 1)).observe(document.getElementById("list"), { childList: true });
  });

  const began = Date.now();
  await sender.drop([folderOf("many", FILES)]);
  await sender.page.locator("#uploads-count", { hasText: /^[1-9]\d* of 1,001 done · .* of 3\.9 MiB$/ }).waitFor();
  const all = (count) => document.querySelectorAll('#list li[data-path^="/many/"]').length === count;
  await Promise.all([sender, listener].map(({ page }) => page.waitForFunction(all, FILES, { timeout: SENT })));
  const seconds = (Date.now() - began) / 1_000;
  await sender.page.locator("#uploads-count", { hasText: /^1,001 of 1,001 done$/ }).waitFor();

  const updates = await listener.page.evaluate(() => globalThis.updates);
  console.log(`# ${FILES} files in ${seconds.toFixed(1)} s: ${JSON.stringify(requests)}; ${updates} updates, at most ${heard.mostInFrame} changes in a frame`);
  assert.equal(requests.put, FILES);
  assert.ok(requests.open < FILES / 10, `${requests.open} requests to open uploads`);
  assert.ok(requests.complete < FILES / 3, `${requests.complete} requests to complete uploads`);
  assert.ok(heard.mostInFrame > 1, "frames with several changes");
  assert.ok(updates <= heard.answers, `${updates} updates of the list after ${heard.answers} answers`);
  assert.equal((await listener.sequences()).length, 50);
  await devtools.detach();
});

test("all uploads are cancelled together", { timeout: 120_000 }, async () => {
  const { page } = sender;
  await page.click("#uploads-clear");
  await page.waitForSelector("#uploads-section", { state: "hidden" });
  await page.route((url) => url.searchParams.has("X-Amz-Signature"), () => {});
  await sender.drop([folderOf("cancelled", 200)]);
  await page.locator("#uploads li[data-phase=sending]").first().waitFor();
  assert.ok(await page.isVisible("#uploads-progress"));
  const freed = page.waitForResponse((response) => response.request().method() === "DELETE" && response.ok());
  await page.getByRole("button", { name: "Cancel all" }).click();
  await page.waitForSelector("#uploads-section", { state: "hidden" });
  await freed;
  await page.unrouteAll();
  await sender.choose("afterwards.txt", "sent");
  await listener.has("/afterwards.txt");
  assert.equal(await listener.page.locator('#list li[data-path^="/cancelled/"]').count(), 0);
  await Promise.all([sender.assertQuiet(), listener.assertQuiet()]);
});
