/** What erasing an account does to the spaces of its user. */

import { quoted } from "./names.js";

/** The words that confirm that an account is erased. */
export const CONFIRMATION = "erase my account";

/**
 * The shared spaces that are erased with the account, because they have no other member, and those that would have no owner. Only owners
 * have such spaces.
 *
 * @param {Iterable<import("./spaces.js").SpaceModel>} spaces
 * @param {(spaceId: string) => Promise<import("../client/index.js").Member[]>} listMembers
 */
export async function consequences(spaces, listMembers) {
  /** @type {string[]} */ const erased = [];
  /** @type {string[]} */ const ownerless = [];
  for (const { id, name, space } of spaces) {
    if (space.kind !== "shared" || space.role !== "owner") continue;
    const members = await listMembers(id);
    if (members.length === 1) erased.push(name);
    else if (members.filter(({ role }) => role === "owner").length === 1) ownerless.push(name);
  }
  return { erased, ownerless };
}

/**
 * Says what is lost with the account, and what remains.
 *
 * @param {string[]} erased names of spaces
 */
export function loss(erased) {
  const also = erased.length ? `, and these spaces, which have no other member: ${listed(erased)}` : "";
  return `All of your own files are erased for good, with their old versions and the trash${also}. Files that you put into spaces with other members stay there, and name “deleted user” in place of you.`;
}

/**
 * Says why the account cannot be erased yet.
 *
 * @param {string[]} ownerless names of spaces, at least one
 */
export function needsOwner(ownerless) {
  const it = ownerless.length === 1 ? "it" : "each of them";
  return `Your account cannot be erased yet: you are the only owner of ${listed(ownerless)}, and others are members there. Make one of them an owner under Members, or delete ${it}.`;
}

/** @param {string[]} names */
function listed(names) {
  return names.map((name) => quoted(name)).join(", ");
}
