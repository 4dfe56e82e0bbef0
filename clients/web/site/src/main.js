/** The entry point of the page: creates its objects and shows the views. */

import { CognitoSession, SignInError, UnreachableError } from "../client/index.js";
import { App } from "./app.js";
import { loadConfig } from "./config.js";
import { byId, find, setText } from "./dom.js";
import { View } from "./view.js";
import { SignIn } from "./view-sign-in.js";
import { WindowStorage } from "./window-storage.js";

/** The name of the refresh token in the storage of `CognitoSession`. */
const REFRESH_TOKEN = "syncsphere.session";

async function main() {
  const config = await loadConfig();
  const { session, restore, begin } = config.oidc ? await byProvider(config.oidc) : byForm(config);
  const app = new App(config.httpApiUrl, session);
  new SignIn(session, begin);
  new View(app);
  try {
    await restore();
  } catch (error) {
    // An expired session is not an error worth showing to a user who was away.
    if (error instanceof UnreachableError) complain("The service cannot be reached. Reload this page when the network is back.");
    else if (error instanceof SignInError) complain(error.message);
  }
  if (session.state !== "active") byId("signin").hidden = false;
}

/**
 * A session that begins with the form of this page. A second window has the session of the first.
 *
 * @param {import("./config.js").Config} config
 */
function byForm({ cognitoEndpoint, userPoolClientId }) {
  const storage = new WindowStorage(sessionStorage, new BroadcastChannel(REFRESH_TOKEN));
  const session = new CognitoSession({ endpoint: cognitoEndpoint, clientId: userPoolClientId, storage });
  let isTold = false;
  storage.addEventListener("signed-out", () => {
    isTold = true;
    void session.signOut();
  });
  // Before the page is left, which happens once the state has changed.
  session.addEventListener("change", () => {
    if (session.state === "signed-out" && !isTold) storage.tellSignedOut();
  });
  const restore = async () => {
    await storage.ask(REFRESH_TOKEN);
    return session.restore();
  };
  return { session, restore, begin: null };
}

/**
 * A session that begins with the pages of a provider, which send the user back to this page. A second window signs in there too, where the user is
 * signed in already: refresh tokens may be of use only once, so windows do not share them.
 *
 * @param {import("./config.js").Provider} provider
 */
async function byProvider(provider) {
  const { OidcSession } = await import("../client/oidc.js");
  const here = location.origin + location.pathname;
  const session = new OidcSession({ ...provider, redirectUri: here, storage: sessionStorage });
  const restore = async () => {
    const address = location.href;
    // The code in the address is of use once, and is nobody else's business.
    if (location.search) history.replaceState(null, "", here);
    return (await session.complete(address)) || session.restore();
  };
  return { session, restore, begin: async () => location.assign(await session.begin()) };
}

/** @param {string} text */
function complain(text) {
  byId("signin").hidden = false;
  setText(find(document, "#signin .error", HTMLElement), text);
}

main().catch((error) => complain(String(error.message ?? error)));
