/** Adds files to a space. An existing file is replaced only after the user agrees. */

import { problemOfPath } from "./names.js";

/** Maximum length of a name in bytes of UTF-8, the limit of common file systems. */
const LONGEST_NAME = 255;

/**
 * @typedef {import("../client/index.js").FileView} FileView
 * @typedef {{ file: File, path: string }} Added
 * @typedef {Added & { there: FileView }} Taken a file to add, and the existing file at its path
 * @typedef {{ path: string, baseVersion: number, baseFileId?: string }} Place
 */

/**
 * Sorts files to add by their path: free as far as this window knows, taken, or invalid.
 *
 * @param {Added[]} files
 * @param {Iterable<FileView>} there
 */
export function sorted(files, there) {
  const byPath = new Map([...there].map((file) => [file.path, file]));
  /** @type {Added[]} */ const free = [];
  /** @type {Taken[]} */ const taken = [];
  /** @type {{ path: string, problem: string }[]} */ const impossible = [];
  for (const added of files) {
    const problem = problemOfPath(added.path);
    const found = byPath.get(added.path);
    if (problem) impossible.push({ path: added.path, problem });
    else if (found) taken.push({ ...added, there: found });
    else free.push(added);
  }
  return { free, taken, impossible };
}

/** The place of the next version of exactly this file. @param {{ path: string, version: number, fileId?: string }} there @returns {Place} */
export function replacing({ path, version, fileId }) {
  return { path, baseVersion: version, baseFileId: fileId };
}

/** The place of a new file. The service reports a conflict if the path has a file that this window does not know. @param {string} path @returns {Place} */
export function beside(path) {
  return { path, baseVersion: 0, baseFileId: undefined };
}

/**
 * Returns a free path similar to another: the name with a number, shortened if it would be too long.
 *
 * @param {string} path
 * @param {(path: string) => boolean} isTaken
 */
export function numbered(path, isTaken) {
  const folder = path.slice(0, path.lastIndexOf("/") + 1);
  const name = path.slice(folder.length);
  const dot = name.lastIndexOf(".");
  const [stem, extension] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
  for (let number = 2; ; number += 1) {
    const end = ` (${number})${extension}`;
    const found = folder + shortened(stem, LONGEST_NAME - bytesOf(end)) + end;
    if (!isTaken(found)) return found;
  }
}

/**
 * Returns the beginning of a text that fits, without cutting a grapheme cluster.
 *
 * @param {string} text
 * @param {number} most bytes
 */
function shortened(text, most) {
  let kept = "";
  for (const { segment } of new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(text)) {
    if (bytesOf(kept + segment) > most) break;
    kept += segment;
  }
  return kept;
}

/** @param {string} text */
function bytesOf(text) {
  return new TextEncoder().encode(text).length;
}
