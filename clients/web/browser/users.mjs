// Users of the stack's user pool, which the emulator holds.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";

import { settings } from "./settings.mjs";

/** The signature of an operator's requests. The emulator does not verify it. */
const OPERATOR = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/cognito-idp/aws4_request, SignedHeaders=host, Signature=0";

/** Makes a request to the user pool as its operator. */
export async function cognito(action, body) {
  const answer = await fetch(settings.aws, { method: "POST", headers: { "Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": `AWSCognitoIdentityProviderService.${action}`, Authorization: OPERATOR }, body: JSON.stringify(body) });
  const text = await answer.text();
  assert.ok(answer.ok, `${action}: ${text}`);
  return text ? JSON.parse(text) : {};
}

/** Creates a user with the password of the settings, and returns the user's name. */
export async function newUser(prefix) {
  const pool = { UserPoolId: settings.userPoolId, Username: `${prefix}-${randomBytes(4).toString("hex")}` };
  await cognito("AdminCreateUser", { ...pool, MessageAction: "SUPPRESS" });
  await cognito("AdminSetUserPassword", { ...pool, Password: settings.password, Permanent: true });
  return pool.Username;
}
