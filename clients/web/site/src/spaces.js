/**
 * What this window knows of its spaces: the files, kept current by applying changes to a list that was read once, and what happened last.
 */

import { visible } from "./names.js";

/** How many changes of the past are read of a space that is new here, and how many are shown. */
export const HISTORY = 50;

/**
 * @typedef {import("./types.js").Space} Space
 * @typedef {import("./types.js").Change} Change
 * @typedef {import("./types.js").FileView} FileView
 * @typedef {{ change: Change, latency: number | null, past: boolean }} Happening What happened; after how many milliseconds this window heard of
 *   it; and whether that was before there was this window.
 */

/** @typedef {(spaceId: string, pageToken: string | undefined) => Promise<{ files: FileView[], nextPageToken?: string }>} ListFiles */

/** One space, as it is now. */
export class SpaceModel {
  /** By id. @type {Map<string, FileView>} */ files = new Map();
  /** Newest first. @type {Happening[]} */ happenings = [];
  /** @type {"new" | "loading" | "loaded" | "failed"} */ listing = "new";
  /** @type {string | undefined} */ nextPage;
  /** The path up to which the list was read; null once that is all. @type {string | null} */ #readTo = "";
  /** What came while the list was read. @type {Change[]} */ #early = [];
  /** @type {FileView[] | null} */ #sorted = null;
  /** The page that is being read. @type {Promise<void> | null} */ #reading = null;

  /** @param {Space} space */
  constructor(space) {
    this.space = space;
  }

  get id() {
    return this.space.spaceId;
  }

  /** As it is shown. */
  get name() {
    return this.space.kind === "personal" ? "My files" : visible(this.space.name ?? "Shared");
  }

  get mayWrite() {
    return this.space.role !== "viewer";
  }

  /** What is known to be at a path: nothing does not say that it is free. @param {string} path @returns {FileView | undefined} */
  fileAt(path) {
    for (const file of this.files.values()) if (file.path === path) return file;
    return undefined;
  }

  /**
   * Reads the next page of the list. Asked for meanwhile, it is the same page.
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
   * Reads on to the end of the list, or to what is enough.
   *
   * @param {ListFiles} listFiles
   * @param {number} most pages
   * @param {() => boolean} isWanted asked before each page
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

  /** In the order of their paths, as the API has them. The same list until something changes. */
  get sorted() {
    this.#sorted ??= [...this.files.values()].sort((a, b) => (isBefore(a.path, b.path) ? -1 : 1));
    return this.#sorted;
  }
}

/**
 * Whether a path comes before another or is it, by code point as the API orders them. `<` compares UTF-16, in which what is beyond the basic plane
 * comes before some of what is in it.
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

/** Surrogates after everything else. @param {number} unit */
function rank(unit) {
  return unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit;
}
