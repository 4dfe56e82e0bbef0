// Tests the client under Node.js with two users on the local stack.

import assert from "node:assert/strict";
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";

import { ContentMismatchError, FolderStorage, ProblemError, SessionExpiredError, TokenSession, Client, downloadTo, openFile, uploadFolder } from "../src/node.js";
import { clientOf, settings } from "./settings.mjs";

const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), "syncsphere-client-"));
after(() => rmSync(folder, { recursive: true }));

const [alice, bob] = await Promise.all(settings.users.map((user) => clientOf(user)));
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("base64");
const text = (words) => new Blob([words], { type: "text/plain" });

/** Takes updates of a watcher until one fulfils a condition. */
async function until(stream, isWanted) {
  for (;;) {
    const { value, done } = await stream.next();
    assert.ok(!done, "the watcher has ended");
    if (isWanted(value)) return value;
  }
}

test("a file is uploaded, listed, changed, conflicts, moves, is downloaded, goes to the trash and returns", async () => {
  const root = `/${randomUUID()}`;
  const first = await alice.upload(text("one"), { path: `${root}/a.txt`, baseVersion: 0 });
  assert.equal(first.version, 1);
  const second = await alice.upload(text("two"), { path: `${root}/a.txt`, baseVersion: 1, baseFileId: first.fileId });
  assert.equal(second.version, 2);
  await assert.rejects(alice.upload(text("three"), { path: `${root}/a.txt`, baseVersion: 1, baseFileId: first.fileId }), (error) => {
    assert.ok(error instanceof ProblemError && error.code === "version-conflict");
    assert.equal(error.current.version, 2);
    return true;
  });
  const [file] = await all(alice.files(undefined, `${root}/`));
  assert.deepEqual([file.path, file.version, file.contentType], [`${root}/a.txt`, 2, "text/plain"]);
  assert.equal(await (await alice.download(file)).text(), "two");
  const { versions } = await alice.showFile(file.fileId);
  assert.equal(await (await alice.download({ fileId: file.fileId, ...versions[1] })).text(), "one");
  await assert.rejects(alice.download({ ...file, sha256: sha256("other") }), ContentMismatchError);

  const moved = await alice.moveFile(file, `${root}/b.txt`);
  await alice.deleteFile({ ...file, path: moved.path });
  const { files: [deleted] } = await alice.listTrash(moved.spaceId);
  assert.equal(deleted.fileId, file.fileId);
  assert.equal((await alice.restoreFile(file.fileId)).path, `${root}/b.txt`);
});

async function all(items) {
  const found = [];
  for await (const item of items) found.push(item);
  return found;
}

test("a folder with many files goes up in batches, is listed level by level, moves and is deleted", async () => {
  const local = join(folder, "many");
  mkdirSync(join(local, "deep/er"), { recursive: true });
  const names = Array.from({ length: 150 }, (_, index) => (index % 3 ? `deep/er/${index}.bin` : `${index}.bin`));
  for (const name of names) writeFileSync(join(local, name), name);
  writeFileSync(join(local, "run.sh"), "#!/bin/sh\n", { mode: 0o755 });
  utimesSync(join(local, "run.sh"), 1_600_000_000, 1_600_000_000);
  const to = `/${randomUUID()}`;
  const results = await all(uploadFolder(alice, local, { to }));
  assert.deepEqual(results.filter(({ error }) => error), []);
  assert.deepEqual(results.map(({ path }) => path).sort(), [...names, "run.sh"].map((name) => `${to}/${name}`).sort());
  const repeated = await all(uploadFolder(alice, local, { to }));
  assert.ok(repeated.every(({ error }) => error?.code === "version-conflict"), "existing files are kept");

  const top = await alice.listFolder(undefined, to);
  assert.deepEqual(top.folders.map(({ path }) => path), [`${to}/deep`]);
  assert.equal(top.files.length, 51);
  const script = top.files.find(({ path }) => path.endsWith("/run.sh"));
  await downloadTo(alice, script, join(folder, "run.sh"));
  const { mtimeMs, mode } = statSync(join(folder, "run.sh"));
  assert.deepEqual([mtimeMs, mode & 0o100], [1_600_000_000_000, 0o100]);

  assert.equal((await alice.moveFolder(undefined, `${to}/deep`, `${to}/moved/deep`)).length, 100);
  assert.equal((await all(alice.files(undefined, `${to}/moved/deep/er/`))).length, 100);
  assert.equal((await alice.deleteFolder(undefined, to)).length, 151);
  assert.deepEqual(await all(alice.files(undefined, `${to}/`)), []);
});

/** Uploads a file from a process of its own, and kills it when some parts are stored. */
async function killedUpload(file, path, storage, bytes) {
  const program = `
    import { FolderStorage, openFile } from ${JSON.stringify(new URL("../src/node.js", import.meta.url).href)};
    import { clientOf, settings } from ${JSON.stringify(new URL("settings.mjs", import.meta.url).href)};
    const client = await clientOf(settings.users[0], { storage: new FolderStorage(${JSON.stringify(storage)}) });
    const { content, ...times } = await openFile(${JSON.stringify(file)});
    await client.upload(content, { path: ${JSON.stringify(path)}, ...times, onProgress: ({ phase, sent }) => console.log(phase === "sending" ? sent : 0) });`;
  const child = spawn("node", ["--input-type=module", "--eval", program], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: child.stdout })) if (Number(line) >= bytes) child.kill("SIGKILL");
}

test("a large file goes up in parts, and after a kill another process sends only the missing parts", async () => {
  const content = randomBytes(80 * MIB);
  const [file, storage, path] = [join(folder, "large.bin"), join(folder, "keys"), `/${randomUUID()}.bin`];
  writeFileSync(file, content);
  await killedUpload(file, path, storage, 24 * MIB);
  assert.equal(readdirSync(storage).length, 2, "the device and the key of the upload");
  assert.equal(statSync(storage).mode & 0o77, 0);

  const client = await clientOf(settings.users[0], { storage: new FolderStorage(storage) });
  let presigned = 0;
  const presignParts = client.presignParts.bind(client);
  client.presignParts = (uploadId, parts, signal) => {
    presigned += parts.length;
    return presignParts(uploadId, parts, signal);
  };
  const { content: blob, ...times } = await openFile(file);
  const changed = await client.upload(blob, { path, ...times });
  assert.equal(changed.version, 1);
  assert.equal(readdirSync(storage).length, 1, "the key is gone");
  const detail = await client.showFile(changed.fileId);
  const parts = Math.ceil(content.length / detail.composite.partSize);
  assert.ok(presigned < parts, `${presigned} of ${parts} parts were sent`);

  const target = join(folder, "large.downloaded");
  await downloadTo(client, detail, target);
  assert.ok(readFileSync(target).equals(content));
  await assert.rejects(downloadTo(client, { ...detail, sha256: sha256("other") }, join(folder, "wrong")), ContentMismatchError);
  assert.ok(!existsSync(join(folder, "wrong")) && readdirSync(folder).every((name) => !name.endsWith(".part")));
});

test("a file that changes while it is uploaded is not stored as what it was", async () => {
  const file = join(folder, "changing.txt");
  writeFileSync(file, "before");
  const { content } = await openFile(file);
  writeFileSync(file, "something else");
  await assert.rejects(alice.upload(content, { path: `/${randomUUID()}.txt` }), ContentMismatchError);
});

test("a cancelled upload ends with the signal's reason", async () => {
  const cancelling = new AbortController();
  const uploading = alice.upload(new Blob([randomBytes(MIB)]), { path: `/${randomUUID()}`, signal: cancelling.signal, onProgress: () => cancelling.abort(new Error("enough")) });
  await assert.rejects(uploading, /enough/);
  assert.deepEqual(alice.uploads.all, []);
});

test("an invited user hears of a space and its changes, each once and in order, and goes on from the cursors", async () => {
  const watching = bob.watch({ from: "now" });
  await until(watching, ({ type }) => type === "live");
  const { spaceId } = await alice.createSpace(`Space ${process.pid}`);
  const { userId } = await bob.showAccount();
  await alice.invite(spaceId, { userId }, "editor");
  await until(watching, ({ change }) => change?.eventType === "SPACE_INVITED");
  const invitation = (await bob.receivedInvitations()).find((invitation) => invitation.spaceId === spaceId);
  await bob.acceptInvitation(invitation.invitationId);
  assert.equal((await bob.listMembers(spaceId)).length, 2);

  const paths = Array.from({ length: 30 }, (_, index) => `/${index}`);
  await Promise.all(paths.map((path) => alice.upload(text(path), { path, spaceId })));
  const sequences = [];
  const heard = new Set();
  while (heard.size < paths.length) {
    const { change } = await until(watching, ({ type, change }) => type === "change" && change.spaceId === spaceId);
    sequences.push(change.sequence);
    if (change.path) heard.add(change.path);
  }
  assert.deepEqual(sequences, sequences.map((_, index) => sequences[0] + index), "without gaps");
  assert.equal(sequences[0], 1, "a space that is shared later begins at its first change");
  watching.close();
  assert.deepEqual(await watching.next(), { done: true, value: undefined });

  // Another run, with the stored state, of this space alone.
  await alice.upload(text("later"), { path: "/later", spaceId });
  const brief = bob.watch({ spaceId });
  const { value: { epoch } } = await brief.next();
  brief.close();
  const again = bob.watch({ epoch, cursors: { [spaceId]: sequences.at(-1) }, spaceId });
  assert.equal((await until(again, ({ type }) => type === "change")).change.path, "/later");
  await until(again, ({ type }) => type === "live");
  await bob.removeMember(spaceId, userId);
  await assert.rejects(until(again, () => false), (error) => error instanceof ProblemError && error.status === 404);
  await alice.deleteSpace(spaceId);
  assert.ok((await alice.deletedSpaces()).some((space) => space.spaceId === spaceId));
});

test("tokens come from a function, and a session that ends is said", async () => {
  const token = await alice.session.token();
  let given = token;
  const client = new Client({ url: settings.httpApiUrl, session: new TokenSession(() => given), WebSocket: alice.WebSocket });
  assert.equal((await client.showAccount()).userId, alice.session.user.userId);
  given = null;
  client.session.refused(token);
  await assert.rejects(client.upload(text("x"), { path: "/x" }), SessionExpiredError);
  await assert.rejects(client.watch().next(), SessionExpiredError);
  given = "x.e30.x";
  await assert.rejects(client.listSpaces(), (error) => error instanceof SessionExpiredError && !error.message.includes(given));
});
