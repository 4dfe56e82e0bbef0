/** Downloads of this window. A version is not downloaded twice at the same time, and not again after a digest mismatch. */

import { ContentMismatchError, ContentMissingError } from "../client/index.js";
import { quoted, saved } from "./names.js";
import { lastOf } from "./words.js";

/**
 * @typedef {import("../client/index.js").FileView} FileView
 * @typedef {{ version: number, size: number, sha256: string, composite?: import("../client/index.js").Composite }} Version
 *
 * @typedef {object} World
 * @property {(fileId: string, version: number) => Promise<{ url: string }>} locate
 * @property {typeof import("../client/index.js").download} download
 * @property {(content: Blob, name: string) => void} save
 * @property {(text: string, error: unknown) => void} fail
 */

export class Downloads extends EventTarget {
  /** Bytes received so far by file and version. @type {Map<string, number>} */ arrived = new Map();
  /** Errors of versions whose content does not match its declaration. @type {Map<string, Error>} */ #wrong = new Map();

  /** @param {World} world */
  constructor(world) {
    super();
    this.world = world;
  }

  /**
   * Downloads a version, and saves it under its name if its digests match.
   *
   * @param {Pick<FileView, "fileId" | "path">} file
   * @param {Version} version
   */
  async save({ fileId, path }, version) {
    const key = keyOf(fileId, version.version);
    if (this.arrived.has(key)) return;
    const known = this.#wrong.get(key);
    if (known) {
      this.world.fail(`${quoted(lastOf(path))} was not fetched again. `, known);
      return;
    }
    this.#progress(key, 0);
    try {
      const { size, sha256, composite } = version;
      const wanted = { locate: () => this.world.locate(fileId, version.version), size, sha256, composite };
      const content = await this.world.download(wanted, new AbortController().signal, (bytes) => this.#progress(key, bytes));
      this.world.save(content, saved(lastOf(path)));
    } catch (error) {
      // The content of a version never changes, so another download would fail too.
      if (error instanceof ContentMismatchError) this.#wrong.set(key, error);
      const which = error instanceof ContentMismatchError || error instanceof ContentMissingError ? `${quoted(lastOf(path))}, version ${version.version}: ` : `${quoted(lastOf(path))}: `;
      this.world.fail(which, error);
    } finally {
      this.arrived.delete(key);
      this.dispatchEvent(new Event("change"));
    }
  }

  /**
   * @param {string} fileId
   * @param {number} version
   */
  arrivedOf(fileId, version) {
    return this.arrived.get(keyOf(fileId, version));
  }

  /**
   * @param {string} key
   * @param {number} bytes
   */
  #progress(key, bytes) {
    this.arrived.set(key, bytes);
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * @param {string} fileId
 * @param {number} version
 */
function keyOf(fileId, version) {
  return `${fileId} ${version}`;
}
