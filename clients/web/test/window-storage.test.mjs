// Tests that windows pass each other the session, and tell each other of its end.

import assert from "node:assert/strict";
import { test } from "node:test";

import { MemoryStorage } from "../../js/src/index.js";
import { WindowStorage } from "../site/src/window-storage.js";

/** A window with a storage of its own. */
function open(name, value) {
  const own = new MemoryStorage();
  if (value) own.setItem("token", value);
  const channel = new BroadcastChannel(name);
  return { own, channel, shared: new WindowStorage(own, channel) };
}

test("a window gets the value of another one, and keeps its own", async () => {
  const windows = [open("a", "first"), open("a"), open("a", "other"), open("b", "of another page")];
  await windows[1].shared.ask("token");
  assert.ok(["first", "other"].includes(windows[1].own.getItem("token")));
  await windows[2].shared.ask("token");
  assert.equal(windows[2].own.getItem("token"), "other");
  for (const { channel } of windows) channel.close();
});

test("without another window, or one that has a value, there is none, after a moment", async () => {
  const windows = [open("c"), open("c")];
  await windows[0].shared.ask("token");
  assert.equal(windows[0].own.getItem("token"), null);
  // An answer that nobody waits for any more changes nothing.
  windows[1].channel.postMessage({ name: "token", value: "late" });
  await new Promise((resolve) => windows[0].channel.addEventListener("message", resolve, { once: true }));
  assert.equal(windows[0].own.getItem("token"), null);
  for (const { channel } of windows) channel.close();
});

test("all other windows hear that the user has signed out", async () => {
  const windows = [open("d", "token"), open("d", "token"), open("d", "token")];
  let own = 0;
  windows[0].shared.addEventListener("signed-out", () => (own += 1));
  const heard = windows.slice(1).map(({ shared }) => new Promise((resolve) => shared.addEventListener("signed-out", resolve, { once: true })));
  windows[0].shared.tellSignedOut();
  await Promise.all(heard);
  assert.equal(own, 0);
  for (const { channel } of windows) channel.close();
});
