/** The entry point of the page: creates its objects and shows the views. */

import { CognitoSession, UnreachableError } from "../client/index.js";
import { App } from "./app.js";
import { loadConfig } from "./config.js";
import { byId, find, setText } from "./dom.js";
import { View } from "./view.js";
import { SignIn } from "./view-sign-in.js";

async function main() {
  const config = await loadConfig();
  const session = new CognitoSession({ endpoint: config.cognitoEndpoint, clientId: config.userPoolClientId, storage: sessionStorage });
  const app = new App(config, session);
  new SignIn(session);
  new View(app);
  try {
    await session.restore();
  } catch (error) {
    // An expired session is not an error worth showing to a user who was away.
    if (error instanceof UnreachableError) complain("The service cannot be reached. Reload this page when the network is back.");
  }
  if (session.state !== "active") byId("signin").hidden = false;
}

/** @param {string} text */
function complain(text) {
  byId("signin").hidden = false;
  setText(find(document, "#signin .error", HTMLElement), text);
}

main().catch((error) => complain(String(error.message ?? error)));
