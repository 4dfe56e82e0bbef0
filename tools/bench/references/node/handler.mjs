// The work of `fan-out` in its usual form, with the AWS SDK for JavaScript.

import { ApiGatewayManagementApiClient, PostToConnectionCommand } from "@aws-sdk/client-apigatewaymanagementapi";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import pg from "pg";

const SCHEMA_VERSION = 1;

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

// While `$connect` runs, a post to its connection is answered 410 as well.
const SETTLING_MS = 30_000;

const CONCURRENT_POSTS = 64;

const RECIPIENTS = `
SELECT m.space_id, c.connection_id, c.connected_at
FROM members m
JOIN connections c ON c.user_id = m.user_id
WHERE m.space_id = ANY($1::uuid[]) AND c.expires_at > $2`;

// Compares the time too, because API Gateway may have assigned the id to a newer connection.
const FORGET = `
DELETE FROM connections
WHERE connection_id = ANY($1::text[]) AND connected_at <= $2`;

const agent = { keepAlive: true, maxSockets: CONCURRENT_POSTS };
const connections = new ApiGatewayManagementApiClient({
  endpoint: process.env.CONNECTIONS_ENDPOINT,
  maxAttempts: 5,
  requestHandler: new NodeHttpHandler({
    connectionTimeout: 1_000,
    requestTimeout: 3_000,
    throwOnRequestTimeout: true,
    httpAgent: agent,
    httpsAgent: agent,
  }),
});

// An environment runs one invocation at a time. The pool of one client replaces a broken connection.
const db = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 1, idleTimeoutMillis: 0 });
db.on("error", (error) => console.warn("the database connection broke:", error.message));
(await db.connect()).release();

export async function handler({ Records: records }) {
  const failed = new Set();
  const spaces = new Map();
  for (const { messageId, body } of records) {
    try {
      const change = decode(body);
      const space = spaces.get(change.spaceId) ?? { changes: new Map(), messageIds: [] };
      space.changes.set(change.sequence, change);
      space.messageIds.push(messageId);
      spaces.set(change.spaceId, space);
    } catch (error) {
      console.error(`message ${messageId} cannot be read:`, error.message);
      failed.add(messageId);
    }
  }

  const now = Date.now();
  const settledBy = new Date(now - SETTLING_MS);
  const { rows: posts } = await db.query({
    name: "recipients",
    text: RECIPIENTS,
    values: [[...spaces.keys()], new Date(now)],
  });
  for (const [spaceId, space] of spaces) {
    space.frame = frame(spaceId, [...space.changes.values()]);
  }

  const gone = [];
  let notified = 0;
  await forEach(posts, CONCURRENT_POSTS, async ({ space_id, connection_id, connected_at }) => {
    const { frame, messageIds } = spaces.get(space_id);
    try {
      await connections.send(new PostToConnectionCommand({ ConnectionId: connection_id, Data: frame }));
      notified += 1;
    } catch (error) {
      if (error.$metadata?.httpStatusCode === 410 && connected_at <= settledBy) {
        gone.push(connection_id);
        return;
      }
      console.warn(`posting to ${connection_id} failed:`, error.message);
      messageIds.forEach((messageId) => failed.add(messageId));
    }
  });

  if (gone.length > 0) {
    try {
      await db.query(FORGET, [gone, settledBy]);
    } catch (error) {
      // Each remaining row costs one post per event until it expires. That does not justify retrying the
      // batch.
      console.warn("gone connections could not be forgotten:", error.message);
    }
  }
  console.log(`${records.length} records: ${notified} notified, ${gone.length} gone, ${failed.size} to come again`);
  return { batchItemFailures: [...failed].map((itemIdentifier) => ({ itemIdentifier })) };
}

function decode(body) {
  const { schemaVersion, delivery, ...change } = JSON.parse(body);
  if (schemaVersion !== SCHEMA_VERSION || !UUID.test(change.spaceId) || !Number.isInteger(change.sequence)) {
    throw new Error("it is no event");
  }
  return change;
}

function frame(spaceId, changes) {
  changes.sort((a, b) => a.sequence - b.sequence);
  return Buffer.from(JSON.stringify({ type: "changes", spaceId, changes }));
}

async function forEach(items, atOnce, work) {
  // All workers share this iterator.
  const queue = items.values();
  const worker = async () => {
    for (const item of queue) {
      await work(item);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
