// Users of the stack's user pool, and actions of the operator, on the emulator.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";

import { settings } from "./settings.mjs";

/** The signature of an operator's requests to a service. The emulator does not verify it. */
const operator = (service) => `AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/${service}/aws4_request, SignedHeaders=host, Signature=0`;

/** Makes a request to the user pool as its operator. */
export async function cognito(action, body) {
  const answer = await fetch(settings.aws, { method: "POST", headers: { "Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": `AWSCognitoIdentityProviderService.${action}`, Authorization: operator("cognito-idp") }, body: JSON.stringify(body) });
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

/** Invokes the function for operators. */
export async function administer(request) {
  const functions = `${settings.aws}/2015-03-31/functions/`;
  const headers = { Authorization: operator("lambda") };
  const listed = await (await fetch(functions, { headers })).json();
  const [name] = listed.Functions.map(({ FunctionName }) => FunctionName).filter((name) => name.includes("-Administer-"));
  const answer = await fetch(`${functions}${name}/invocations`, { method: "POST", headers, body: JSON.stringify(request) });
  const text = await answer.text();
  assert.ok(answer.ok && !answer.headers.has("X-Amz-Function-Error"), text);
  return JSON.parse(text);
}

/** A copy of the stack's database that can replace it. As in a restore on RDS, all connections end. */
export class Backup {
  #name = new URL(settings.databaseUrl).pathname.slice(1);
  #copy = `${this.#name}_copy`;

  /** Runs statements, each in a transaction of its own. */
  #run(...statements) {
    const url = new URL(settings.databaseUrl);
    url.pathname = "/template1";
    execFileSync(settings.psql, [url.href, "--no-psqlrc", "--set=ON_ERROR_STOP=1", ...statements.flatMap((statement) => ["-c", statement])], { stdio: "pipe" });
  }

  #close() {
    this.#run(
      `ALTER DATABASE ${this.#name} ALLOW_CONNECTIONS false`,
      `SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE datname = '${this.#name}'`,
    );
  }

  take() {
    this.#close();
    this.#run(
      `DROP DATABASE IF EXISTS ${this.#copy}`,
      `CREATE DATABASE ${this.#copy} TEMPLATE ${this.#name}`,
      `ALTER DATABASE ${this.#name} ALLOW_CONNECTIONS true`,
    );
  }

  /** Restores the database, and begins an epoch, as an operator does. */
  async restore() {
    this.#close();
    this.#run(`DROP DATABASE ${this.#name} WITH (FORCE)`, `ALTER DATABASE ${this.#copy} RENAME TO ${this.#name}`);
    await administer({ action: "beginEpoch" });
  }
}
