// Uploads a folder into the user's own space, and then prints every change of all spaces until Ctrl-C.
//
//   npm pack ../../clients/js && npm install ./syncsphere-client-*.tgz ws
//   SYNCSPHERE_PASSWORD=… node upload-folder.mjs <user> <folder> <folder in the space>
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";

import { Client, CognitoSession, FolderStorage, uploadFolder } from "syncsphere-client";

// The outputs of the stack: { "httpApiUrl", "cognitoEndpoint", "userPoolClientId" }, as in the page's config.json.
const config = JSON.parse(readFileSync("config.json", "utf8"));
const [user, folder, to] = process.argv.slice(2);

const session = new CognitoSession({ endpoint: config.cognitoEndpoint, clientId: config.userPoolClientId });
const challenge = await session.signIn(user, process.env.SYNCSPHERE_PASSWORD);
if (challenge) throw new Error(`Sign in once with the page: the account needs a ${challenge.kind}.`);

const client = new Client({
  url: config.httpApiUrl,
  session,
  // Uploads that are interrupted continue in the next run.
  storage: new FolderStorage(".syncsphere"),
  // Node.js has one since version 22.
  WebSocket: globalThis.WebSocket ?? (await import("ws")).default,
});

for await (const { path, changed, error } of uploadFolder(client, folder, { to })) {
  if (changed) console.log(`uploaded ${path}, version ${changed.version}`);
  else if (error.code === "version-conflict") console.log(`kept ${path}, which is there already`);
  else console.error(`cannot upload ${path}: ${error.message}`);
}

// The epoch and the last processed change of each space.
let state = { epoch: undefined, cursors: {} };
try {
  state = JSON.parse(readFileSync("cursors.json", "utf8"));
} catch {
  console.log("the changes of all spaces since they were made:");
}

const stopping = new AbortController();
once(process, "SIGINT").then(() => stopping.abort());
for await (const update of client.watch({ ...state, signal: stopping.signal })) {
  if (update.type === "change") {
    const { spaceId, sequence, eventType, path = "", userName, userId } = update.change;
    console.log(`${eventType} ${path} by ${userName ?? userId}`);
    state.cursors[spaceId] = sequence;
  } else if (update.type === "cursor-reset") delete state.cursors[update.spaceId];
  else if (update.type === "epoch") state.epoch = update.epoch;
  else console.log(update.type);
  writeFileSync("cursors.json", JSON.stringify(state));
}
