// Tests the errors for each answer of storage to a PUT of content.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ContentMismatchError, StorageRefusedError, UnreachableError, UrlExpiredError, isPassing } from "../src/errors.js";
import { put } from "../src/put.js";

/** A fake of storage that answers with this status and error. Status 0 is the browser's value for no answer. */
function storage(status, code) {
  globalThis.XMLHttpRequest = class {
    upload = {};
    status = 0;
    open() {}
    setRequestHeader() {}
    send() {
      this.status = status;
      this.responseText = code ? `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>An &lt;error&gt;.</Message></Error>` : "";
      queueMicrotask(() => this.onloadend());
    }
    abort() {}
  };
}

const sending = (status, code) => {
  storage(status, code);
  return put({ url: "url", headers: {} }, new Blob(["content"]), new AbortController().signal, () => {});
};

test("content that is stored now or was before is fine", async () => {
  for (const status of [200, 412]) await sending(status);
});

test("a conflict with a former attempt, a busy storage and a lost line pass", async () => {
  for (const status of [409, 429, 500, 503, 0]) {
    const error = await sending(status).catch((reason) => reason);
    assert.ok(error instanceof UnreachableError && isPassing(error), `${status}: ${error}`);
  }
});

test("a body that came too slowly or not whole is sent again, whatever the status", async () => {
  for (const [status, code] of [[400, "RequestTimeout"], [400, "IncompleteBody"], [400, "SlowDown"], [409, "OperationAborted"], [408, ""], [425, ""]]) {
    const error = await sending(status, code).catch((reason) => reason);
    assert.ok(error instanceof UnreachableError && isPassing(error), `${status} ${code}: ${error}`);
  }
});

test("an expired URL is replaced, and other bytes are an error", async () => {
  for (const [status, code] of [[403, "AccessDenied"], [403, ""], [404, "NoSuchUpload"], [400, "ExpiredToken"]]) await assert.rejects(sending(status, code), UrlExpiredError);
  for (const code of ["BadDigest", "XAmzContentChecksumMismatch", "EntityTooLarge"]) await assert.rejects(sending(400, code), ContentMismatchError);
});

test("what is refused for good ends, with storage's reason in a sentence", async () => {
  for (const [status, code] of [[400, "InvalidRequest"], [405, "MethodNotAllowed"], [411, ""], [413, ""]]) {
    await assert.rejects(sending(status, code), (error) => {
      assert.ok(error instanceof StorageRefusedError && !isPassing(error), `${status} ${code}: ${error}`);
      assert.match(error.message, code ? new RegExp(`\\(${code}\\)`) : new RegExp(`status ${status}`));
      assert.doesNotMatch(error.message, /[<>]/);
      return true;
    });
  }
  await assert.rejects(sending(403, "SignatureDoesNotMatch"), /SignatureDoesNotMatch/);
});
