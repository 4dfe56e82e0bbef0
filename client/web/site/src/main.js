/** The page: makes what it consists of, and shows it. */

import { App } from "./app.js";
import { loadConfig } from "./config.js";
import { byId, setText } from "./dom.js";
import { Session } from "./session.js";
import { View } from "./view.js";
import { SignIn } from "./view-sign-in.js";

async function main() {
  const config = await loadConfig();
  const session = new Session(config, { storage: sessionStorage, fetch: fetch.bind(window), now: Date.now });
  const app = new App(config, session);
  new SignIn(session);
  new View(app);
  await session.restore().catch(() => {
    // Expired, or out of reach: who reads this signs in.
  });
  if (session.state !== "active") byId("signin").hidden = false;
}

main().catch((error) => {
  const signin = byId("signin");
  signin.hidden = false;
  const message = signin.querySelector(".error");
  if (message) setText(message, String(error.message ?? error));
});
