/**
 * The addresses of the service, from `config.json` beside the page.
 *
 * @typedef {{ httpApiUrl: string, cognitoEndpoint: string, userPoolClientId: string }} Config
 */

/** @returns {Promise<Config>} */
export async function loadConfig() {
  const answer = await fetch("config.json", { cache: "no-store" });
  if (!answer.ok) throw new Error(`There is no config.json beside this page (status ${answer.status}).`);
  const config = await answer.json();
  for (const name of ["httpApiUrl", "cognitoEndpoint", "userPoolClientId"]) {
    if (typeof config[name] !== "string" || !config[name]) throw new Error(`config.json says no ${name}.`);
  }
  return config;
}
