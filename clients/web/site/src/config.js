/**
 * The addresses of the service, from `config.json` beside the page. With `oidc`, users sign in by the pages of an OpenID Connect provider, and
 * otherwise by the form of this page and the user pool.
 *
 * @typedef {{ issuer: string, clientId: string, scope?: string, token?: "id" | "access", metadata?: Record<string, string> }} Provider
 * @typedef {{ httpApiUrl: string, cognitoEndpoint: string, userPoolClientId: string, oidc?: Provider }} Config
 */

/** @returns {Promise<Config>} */
export async function loadConfig() {
  const answer = await fetch("config.json", { cache: "no-store" });
  if (!answer.ok) throw new Error(`There is no config.json beside this page (status ${answer.status}).`);
  const config = await answer.json();
  for (const name of ["httpApiUrl", ...(config.oidc ? [] : ["cognitoEndpoint", "userPoolClientId"])]) check(config, name, name);
  if (config.oidc) for (const name of ["issuer", "clientId"]) check(config.oidc, name, `oidc.${name}`);
  return config;
}

/**
 * @param {Record<string, unknown>} values
 * @param {string} name
 * @param {string} shown
 */
function check(values, name, shown) {
  if (typeof values[name] !== "string" || !values[name]) throw new Error(`config.json says no ${shown}.`);
}
