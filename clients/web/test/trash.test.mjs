// Tests the trash of a space, restoring a file whose name is taken, and what is said before an account is erased.

import assert from "node:assert/strict";
import { test } from "node:test";

import { consequences, loss, needsOwner } from "../site/src/account.js";
import { ProblemError } from "../../js/src/errors.js";
import { SpaceModel } from "../site/src/spaces.js";
import { Trash, restore } from "../site/src/trash.js";

/** A service with deleted files, in pages of two. */
function service(count) {
  const files = Array.from({ length: count }, (_, index) => ({ fileId: `f${index}`, path: `/${index}` }));
  const asked = [];
  const listTrash = async (spaceId, pageToken) => {
    asked.push(pageToken);
    const from = Number(pageToken ?? 0);
    return { files: files.slice(from, from + 2), nextPageToken: from + 2 < files.length ? String(from + 2) : undefined };
  };
  return { files, asked, listTrash };
}

const ids = (trash) => trash.files.map(({ fileId }) => fileId);

test("the trash is read page by page, and again as far as it was read", async () => {
  const { files, asked, listTrash } = service(5);
  const trash = new Trash("s");
  await trash.readAgain(listTrash);
  assert.deepEqual(ids(trash), ["f0", "f1"]);
  await trash.readOn(listTrash);
  assert.deepEqual(ids(trash), ["f0", "f1", "f2", "f3"]);
  files.unshift({ fileId: "new", path: "/new" });
  await trash.readAgain(listTrash);
  assert.deepEqual(ids(trash), ["new", "f0", "f1", "f2"]);
  assert.deepEqual(asked, [undefined, "2", undefined, "2"]);
  await trash.readOn(listTrash);
  assert.deepEqual(ids(trash), ["new", "f0", "f1", "f2", "f3", "f4"]);
  assert.equal(trash.nextPage, undefined);
});

test("a file that moved between two pages is listed once", async () => {
  const { files, listTrash } = service(4);
  const trash = new Trash("s");
  await trash.readAgain(listTrash);
  files.splice(0, 4, files[0], files[2], files[1], files[3]);
  await trash.readOn(listTrash);
  assert.deepEqual(ids(trash), ["f0", "f1", "f3"]);
});

test("a failed read says so, and loses nothing that was read", async () => {
  const { listTrash } = service(3);
  const trash = new Trash("s");
  await trash.readAgain(listTrash);
  await assert.rejects(trash.readAgain(async () => Promise.reject(new Error("gone"))));
  assert.deepEqual([trash.state, ids(trash)], ["failed", ["f0", "f1"]]);
  trash.forget("f0");
  assert.deepEqual(ids(trash), ["f1"]);
});

test("deletions and returning files make the trash outdated, and other changes do not", async () => {
  const trash = new Trash("s");
  await trash.readAgain(service(1).listTrash);
  const outdated = (eventType, fileId) => trash.isOutdatedBy({ eventType, fileId });
  assert.ok(outdated("FILE_DELETED", "other"));
  assert.ok(outdated("FILE_UPDATED", "f0"));
  assert.ok(!outdated("FILE_UPDATED", "other"));
  assert.ok(!outdated("FILE_MOVED", "other"));
  assert.ok(!outdated("MEMBER_CHANGED", undefined));
});

test("a file whose name is taken is restored under the name that the user enters", async () => {
  const asked = [];
  const restored = [];
  const api = {
    async restoreFile(fileId, path) {
      if (path === undefined || path === "/taken") throw new ProblemError(409, { code: "path-taken" });
      restored.push([fileId, path]);
    },
  };
  const dialogs = { ask: (question, act) => asked.push({ question, act }) };
  await restore({ api }, dialogs, { fileId: "f", path: "/a/b.txt" }, (path) => path === "/a/b (2).txt");
  const [{ question, act }] = asked;
  assert.equal(question.value, "/a/b (3).txt");
  assert.match(question.title, /b\.txt/);
  await assert.rejects(act("/x/"), /ends with a slash/);
  // The dialog shows the refusal, and asks again.
  await assert.rejects(act("taken"), /Choose another name/);
  await act(" c.txt ");
  assert.deepEqual(restored, [["f", "/c.txt"]]);

  asked.length = 0;
  const refused = { restoreFile: async () => Promise.reject(new ProblemError(404, { code: "not-found" })) };
  await assert.rejects(restore({ api: refused }, dialogs, { fileId: "f", path: "/a" }, () => false), /not there any more/);
  assert.equal(asked.length, 0);
});

test("what is lost with an account is said by name, and which spaces need another owner", async () => {
  const space = (spaceId, kind, role) => new SpaceModel({ spaceId, kind, role, name: spaceId, latestSequence: 0 });
  const members = { Alone: ["owner"], Team: ["owner", "editor"], Both: ["owner", "owner", "viewer"] };
  const asked = [];
  const spaces = [space("mine", "personal", "owner"), space("Alone", "shared", "owner"), space("Team", "shared", "owner"), space("Both", "shared", "owner"), space("Guest", "shared", "editor")];
  const found = await consequences(spaces, async (spaceId) => {
    asked.push(spaceId);
    return members[spaceId].map((role) => ({ role }));
  });
  assert.deepEqual(found, { erased: ["Alone"], ownerless: ["Team"] });
  assert.deepEqual(asked, ["Alone", "Team", "Both"]);
  assert.match(loss(["Alone"]), /no other member: .*Alone/);
  assert.doesNotMatch(loss([]), /no other member/);
  assert.match(needsOwner(["Team"]), /only owner of .*Team.*, and others are members there.* or delete it\./);
  assert.match(needsOwner(["A", "B"]), /delete each of them\./);
});
