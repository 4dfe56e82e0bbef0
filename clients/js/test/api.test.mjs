// Tests that the client has every operation of the API.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Api } from "../src/api.js";

/** Methods with another name than the operation. Batches of uploads are opened and completed by the methods of one. */
const NAMES = {
  createUploads: "createUpload", completeUploads: "completeUpload", downloadFile: "locate", listUploads: "pendingUploads",
  listReceivedInvitations: "receivedInvitations",
};

test("every operation of the API has a method", () => {
  const text = readFileSync(new URL("../../../docs/openapi.yaml", import.meta.url), "utf8");
  const operations = [...text.matchAll(/^ {6}operationId: (\w+)$/gm)].map(([, name]) => name);
  assert.ok(operations.length > 30, `${operations.length}`);
  for (const operation of operations) assert.equal(typeof Api.prototype[NAMES[operation] ?? operation], "function", operation);
});

test("an id in a path cannot name another path, and parameters without a value are not sent", async () => {
  const asked = [];
  const session = { token: async () => "a token", refused() {}, expire() {}, user: null };
  const fetch = async (url, { method, headers }) => {
    asked.push(`${method} ${url} ${headers.Authorization}`);
    return Response.json({});
  };
  const api = new Api("https://api.example/live/", session, "device", { fetch, random: () => 0, sleep: async () => {} });
  await api.showMember("space", "a/../b?c");
  await api.listFolder(undefined, "");
  await api.listFolder("space", "/Döcs & more");
  assert.deepEqual(asked, [
    "GET https://api.example/live/spaces/space/members/a%2F..%2Fb%3Fc Bearer a token",
    "GET https://api.example/live/files?folder=&limit=500 Bearer a token",
    "GET https://api.example/live/files?spaceId=space&folder=%2FD%C3%B6cs+%26+more&limit=500 Bearer a token",
  ]);
});
