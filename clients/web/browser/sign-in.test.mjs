// Tests signing in in Chromium: a second window, and the pages of a provider in place of the form.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { settings } from "./settings.mjs";
import { cognito, newUser } from "./users.mjs";
import { Browser, Window } from "./window.mjs";

const browser = new Browser();
let user;

before(async () => {
  user = await newUser("web-windows");
  await browser.start();
});
after(() => browser.close());

test("a second window is signed in, and signing out in one signs out all", { timeout: 60_000 }, async () => {
  const first = await browser.open();
  await first.signIn(user);
  const second = new Window(await first.context.newPage(), first.context);
  await second.page.goto(settings.page);
  await second.live();
  assert.equal(await second.page.textContent("#account-name"), user);
  // Neither window keeps anything of the session on disk.
  assert.deepEqual(await second.page.evaluate(() => Object.entries(localStorage).filter(([name, value]) => /session|oidc/.test(name) || value.includes("ey"))), []);

  await second.page.click("#sign-out");
  for (const { page } of [first, second]) {
    await page.waitForSelector("#signin-form", { state: "visible" });
    assert.equal(await page.evaluate(() => sessionStorage.getItem("syncsphere.session")), null);
  }
  const third = await first.context.newPage();
  await third.goto(settings.page);
  await third.waitForSelector("#signin-form", { state: "visible" });
  await first.assertQuiet();
});

test("users sign in by the pages of a provider where the configuration says so, and sign out there too", { timeout: 60_000 }, async () => {
  const window = await browser.open();
  const { page, context } = window;
  const config = await (await fetch(`${settings.page}/config.json`)).json();
  const here = `${settings.page}/`;
  // The pages of the user pool itself. With the flows that the stack's client has already.
  await cognito("UpdateUserPoolClient", {
    UserPoolId: settings.userPoolId,
    ClientId: config.userPoolClientId,
    ExplicitAuthFlows: ["ALLOW_USER_PASSWORD_AUTH", "ALLOW_USER_SRP_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"],
    AllowedOAuthFlows: ["code"],
    AllowedOAuthFlowsUserPoolClient: true,
    AllowedOAuthScopes: ["openid", "email", "profile"],
    SupportedIdentityProviders: ["COGNITO"],
    CallbackURLs: [here],
    LogoutURLs: [here],
  });
  const found = await (await fetch(`${settings.aws}/${settings.userPoolId}/.well-known/openid-configuration`)).json();
  const { issuer, authorization_endpoint, token_endpoint, end_session_endpoint } = found;
  // The emulator's issuer has an address of AWS, where its discovery document is not.
  const oidc = { issuer, clientId: config.userPoolClientId, metadata: { authorization_endpoint, token_endpoint, end_session_endpoint } };
  await context.route(`${settings.page}/config.json`, (route) => route.fulfill({ json: { httpApiUrl: config.httpApiUrl, oidc } }));
  await page.reload();
  await page.waitForSelector("#signin-form", { state: "visible" });
  assert.equal(await page.locator("#signin-form input:visible").count(), 0, "there is nothing to enter here");

  const signIn = async () => {
    await page.click("#signin-form button.primary");
    await page.fill("#username", user);
    await page.fill("#password", settings.password);
    await page.click("button[type=submit]");
    await window.live();
  };
  await signIn();
  assert.equal(page.url(), here, "the code is not in the address any more");
  const stored = await page.evaluate(() => [...Object.entries(sessionStorage), ...Object.entries(localStorage)].filter(([name, value]) => name !== "syncsphere.oidc" && /ey\w+\.ey\w+\.|verifier/.test(value)).map(([name]) => name));
  assert.deepEqual(stored, [], "no token but the refresh token, and no secret of the sign-in");
  await window.choose("by-provider.txt", "content");
  await page.waitForSelector("#list >> text=by-provider.txt");
  await page.reload();
  await window.live();

  // The provider takes the refresh token no more.
  await page.evaluate(() => sessionStorage.setItem("syncsphere.oidc", "revoked"));
  window.expected.push(/status of 400/);
  await page.reload();
  await page.waitForSelector("#signin-form", { state: "visible" });
  await signIn();

  await page.click("#sign-out");
  await page.waitForSelector("#signin-form", { state: "visible" });
  assert.equal(page.url().split("?")[0], here);
  assert.equal(await page.evaluate(() => sessionStorage.getItem("syncsphere.oidc")), null);
  await signIn();
  await window.assertQuiet();
});
