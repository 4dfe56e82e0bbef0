/**
 * The spaces of this window: their files, which changes keep current after the list was read once, and their latest changes.
 */

import { visible } from "./names.js";

/** Past changes that are read for a space that is new to this window, and changes that are shown. */
export const HISTORY = 50;

/**
 * @typedef {import("../client/index.js").Space} Space
 * @typedef {import("../client/index.js").Change} Change
 * @typedef {import("../client/index.js").FileView} FileView
 * @typedef {{ change: Change, latency: number | null, past: boolean }} Happening A change; the milliseconds after which this window
 *   received it; and whether it happened before this window was opened.
 */

/** @typedef {(spaceId: string, pageToken: string | undefined) => Promise<{ files: FileView[], nextPageToken?: string }>} ListFiles */

/** The current state of one space. */
export class SpaceModel {
  /** The files by id. @type {Map<string, FileView>} */ files = new Map();
  /** The latest changes, newest first. @type {Happening[]} */ happenings = [];
  /** @type {"new" | "loading" | "loaded" | "failed"} */ listing = "new";
  /** @type {string | undefined} */ nextPage;
  /** The path up to which the list was read; null once it is complete. @type {string | null} */ #readTo = "";
  /** Changes that arrived while the list was read. @type {Change[]} */ #early = [];
  /** @type {FileView[] | null} */ #sorted = null;
  /** The page that is being read. @type {Promise<void> | null} */ #reading = null;

  /** @param {Space} space */
  constructor(space) {
    this.space = space;
  }

  get id() {
    return this.space.spaceId;
  }

  /** The name as it is shown. */
  get name() {
    return this.space.kind === "personal" ? "My files" : visible(this.space.name ?? "Shared");
  }

  get mayWrite() {
    return this.space.role !== "viewer";
  }

  /** The known file at a path. If there is none, the path may still be taken. @param {string} path @returns {FileView | undefined} */
  fileAt(path) {
    for (const file of this.files.values()) if (file.path === path) return file;
    return undefined;
  }

  /**
   * Reads the next page of the list. Calls during a read share its result.
   *
   * @param {ListFiles} listFiles
   */
  load(listFiles) {
    this.#reading ??= this.#read(listFiles).finally(() => {
      this.#reading = null;
    });
    return this.#reading;
  }

  /**
   * Reads pages up to a limit, to the end of the list, or until no more are wanted.
   *
   * @param {ListFiles} listFiles
   * @param {number} most pages
   * @param {() => boolean} isWanted called before each page
   */
  async readOn(listFiles, most, isWanted) {
    for (let pages = 0; pages < most && this.nextPage !== undefined && isWanted(); pages += 1) await this.load(listFiles);
  }

  /** @param {ListFiles} listFiles */
  async #read(listFiles) {
    this.listing = "loading";
    try {
      const page = await listFiles(this.id, this.nextPage);
      for (const file of page.files) this.files.set(file.fileId, file);
      this.#sorted = null;
      this.nextPage = page.nextPageToken;
      this.#readTo = page.nextPageToken ? (page.files.at(-1)?.path ?? this.#readTo) : null;
      this.listing = "loaded";
    } catch (error) {
      this.listing = "failed";
      throw error;
    }
    for (const change of this.#early.splice(0)) this.#applyToFiles(change);
  }

  /**
   * @param {Change} change
   * @param {number | null} latency
   * @param {boolean} past
   */
  apply(change, latency, past) {
    this.space = { ...this.space, latestSequence: Math.max(this.space.latestSequence, change.sequence) };
    this.happenings = [{ change, latency, past }, ...this.happenings].slice(0, HISTORY);
    if (this.listing === "loaded") this.#applyToFiles(change);
    else this.#early.push(change);
  }

  /** @param {Change} change */
  #applyToFiles(change) {
    const { fileId, path, version, size, sha256 } = change;
    if (fileId === undefined || path === undefined || version === undefined || size === undefined || sha256 === undefined) return;
    const known = this.files.get(fileId);
    this.#sorted = null;
    if (change.eventType === "FILE_DELETED") {
      this.files.delete(fileId);
    } else if ((known?.version ?? 0) <= version && (known || this.#readTo === null || isBefore(path, this.#readTo))) {
      const createdAt = known?.createdAt ?? change.occurredAt;
      this.files.set(fileId, { fileId, spaceId: this.id, path, version, size, sha256, createdAt, updatedAt: change.occurredAt });
    }
  }

  /** The files in the API's order of paths. The same array until something changes. */
  get sorted() {
    this.#sorted ??= [...this.files.values()].sort((a, b) => (isBefore(a.path, b.path) ? -1 : 1));
    return this.#sorted;
  }
}

/**
 * Whether a path is before or equal to another, by code point as in the API. `<` compares UTF-16, which orders characters beyond the basic plane
 * before some characters of it.
 *
 * @param {string} a
 * @param {string} b
 */
function isBefore(a, b) {
  for (let at = 0; at < Math.min(a.length, b.length); at += 1) {
    const [left, right] = [a.charCodeAt(at), b.charCodeAt(at)];
    if (left !== right) return rank(left) < rank(right);
  }
  return a.length <= b.length;
}

/** Orders surrogates after all other code units. @param {number} unit */
function rank(unit) {
  return unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit;
}
