/** The uploads of this window. A few run at a time; the others wait in the order in which they were added. */

import { quoted } from "./names.js";
import { Upload } from "./upload.js";
import { lastOf } from "./words.js";

/** Maximum number of concurrent uploads. A large upload also sends several parts concurrently. */
const CONCURRENT = 3;

/**
 * Maximum total size in bytes of concurrent uploads; a single upload may be larger. It is the default maximum of a single PUT, whose URL is valid
 * for an hour: on a slow line several PUTs of that size would each take longer.
 */
const CONCURRENT_BYTES = 64 * 1024 * 1024;

export class Uploads extends EventTarget {
  /** @type {Upload[]} */ all = [];
  /** @type {Upload[]} */ #queue = [];
  /** @type {Set<Upload>} */ #running = new Set();

  /** The names of uploads that would be lost if the window were closed now. @param {string} userId */
  unfinished(userId) {
    return this.all.filter((upload) => !upload.ended && upload.target.userId === userId).map((upload) => lastOf(upload.target.path));
  }

  /** @param {import("./upload.js").World} world */
  constructor(world) {
    super();
    this.world = world;
  }

  /** Whether an upload would be lost if the window were closed. */
  get busy() {
    return this.all.some((upload) => !upload.ended);
  }

  /**
   * @param {File} file
   * @param {{ userId: string, spaceId: string, path: string, baseVersion?: number, baseFileId?: string }} target
   */
  add(file, target) {
    const upload = new Upload(file, target, this.world, () => this.#tell());
    this.all.push(upload);
    this.#queue.push(upload);
    this.#fill();
    this.#tell();
  }

  /** @param {Upload} upload */
  remove(upload) {
    if (!upload.ended) upload.cancel();
    this.#queue = this.#queue.filter((other) => other !== upload);
    this.all = this.all.filter((other) => other !== upload);
    this.#tell();
  }

  /** Whether an upload waits in the queue. @param {Upload} upload */
  isQueued(upload) {
    return this.#queue.includes(upload);
  }

  #fill() {
    for (let next = this.#queue[0]; next && this.#mayRun(next.file.size); next = this.#queue[0]) {
      const upload = next;
      this.#queue.shift();
      this.#running.add(upload);
      void upload.run().finally(() => {
        this.#running.delete(upload);
        this.#fill();
        this.#tell();
      });
    }
  }

  /** @param {number} size of the next upload, in bytes */
  #mayRun(size) {
    let bytes = size;
    for (const upload of this.#running) bytes += upload.file.size;
    return this.#running.size === 0 || (this.#running.size < CONCURRENT && bytes <= CONCURRENT_BYTES);
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
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
