// What each answer of storage to a piece of content means.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Unreachable, isPassing } from "../site/src/errors.js";
import { OtherContent, StaleUrl, put } from "../site/src/transfer.js";

/** Storage that answers with this status, or not at all, which browsers show as 0. */
function storage(status) {
  globalThis.XMLHttpRequest = class {
    upload = {};
    status = 0;
    open() {}
    setRequestHeader() {}
    send() {
      this.status = status;
      queueMicrotask(() => this.onloadend());
    }
    abort() {}
  };
}

const sending = (status) => {
  storage(status);
  return put({ url: "url", headers: {} }, new Blob(["content"]), new AbortController().signal, () => {});
};

test("content that is stored now or was before is fine", async () => {
  for (const status of [200, 412]) await sending(status);
});

test("a conflict with a former attempt, a busy storage and a lost line pass", async () => {
  for (const status of [409, 429, 500, 503, 0]) {
    const error = await sending(status).catch((reason) => reason);
    assert.ok(error instanceof Unreachable && isPassing(error), `${status}: ${error}`);
  }
});

test("an expired URL is replaced, and other bytes are an error", async () => {
  await assert.rejects(sending(403), StaleUrl);
  await assert.rejects(sending(404), StaleUrl);
  await assert.rejects(sending(400), OtherContent);
});
