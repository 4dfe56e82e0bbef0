// The local stack that `cargo xtask test` passes to the tests in this folder, and clients of its users.

import { WebSocket } from "ws";

import { Client, CognitoSession } from "../src/node.js";

const given = process.env.SYNCSPHERE_CLIENT;
if (!given) throw new Error("These tests need the local stack: cargo xtask test --page");

/** @type {{ httpApiUrl: string, cognitoEndpoint: string, userPoolClientId: string, users: string[], password: string }} */
export const settings = JSON.parse(given);

/** A client of a user, who is signed in. */
export async function clientOf(user, options = {}) {
  const session = new CognitoSession({ endpoint: settings.cognitoEndpoint, clientId: settings.userPoolClientId });
  if (await session.signIn(user, settings.password)) throw new Error(`${user} cannot sign in by a password alone`);
  return new Client({ url: settings.httpApiUrl, session, WebSocket, ...options });
}
