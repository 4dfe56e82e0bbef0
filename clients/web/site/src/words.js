/** Numbers, times and changes in words. */

import { quoted, visible } from "./names.js";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** @param {number} count */
export function bytes(count) {
  let value = count;
  let unit = 0;
  for (; value >= 1024 && unit < UNITS.length - 1; unit += 1) value /= 1024;
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** @param {number} ms */
export function milliseconds(ms) {
  return ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`;
}

/** @param {number} seconds */
export function timeLeft(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s left`;
  if (seconds < 3_600) return `${Math.round(seconds / 60)} min left`;
  return `${(seconds / 3_600).toFixed(1)} h left`;
}

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

/** Returns the time, or for another day the date. @param {string} at */
export function when(at) {
  const date = new Date(at);
  return date.toDateString() === new Date().toDateString() ? TIME.format(date) : DAY.format(date);
}

/** Returns the name of a file for display. @param {string} path */
export function nameOf(path) {
  return visible(lastOf(path));
}

/** Returns the unchanged name of a file. @param {string} path */
export function lastOf(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Returns the folder of a path with its slash, for display. @param {string} path */
export function folderOf(path) {
  return visible(path.slice(1, path.lastIndexOf("/") + 1));
}

/** Returns a short form of a user id, which distinguishes users without names. @param {string} userId */
export function shortId(userId) {
  return visible(userId.length > 12 ? `${userId.slice(0, 8)}…` : userId);
}

/**
 * Describes a change, for a sentence that begins with the user.
 *
 * @param {import("../client/index.js").Change} change
 * @param {(spaceId: string) => string | undefined} spaceName
 */
export function deed(change, spaceName) {
  const name = spaceName(change.subjectSpaceId ?? "");
  const subject = name === undefined ? "a space" : quoted(name);
  switch (change.eventType) {
    case "FILE_UPDATED":
      return change.version === 1 ? "added" : `updated to version ${change.version}`;
    case "FILE_MOVED":
      return "moved here";
    case "FILE_DELETED":
      return "deleted";
    case "SPACE_SHARED":
      return `gave access to ${subject} (${change.role})`;
    case "SPACE_INVITED":
      return `invited you to ${subject} (${change.role})`;
    case "SPACE_LEFT":
      return `ended access to ${subject}`;
    case "SPACE_RENAMED":
      return `renamed the space to ${quoted(change.name ?? "")}`;
    case "SPACE_DELETED":
      return "deleted the space";
    case "SPACE_RESTORED":
      return "restored the space";
    case "MEMBER_CHANGED":
      return `made ${change.memberId} ${change.role} of the space`;
    case "MEMBER_REMOVED":
      return `ended the membership of ${change.memberId}`;
  }
}

/**
 * Returns the message about uploads that were interrupted by reloading the page.
 *
 * @param {string[]} names
 */
export function cutOff(names) {
  const [first = "", second = ""] = names;
  const more = names.length > 2 ? ` and ${names.length - 1} more` : names.length === 2 ? ` and ${quoted(second)}` : "";
  return `The upload of ${quoted(first)}${more} was cut off when this page was left. Add ${names.length > 1 ? "them" : "it"} again to go on from there.`;
}
