/** The uploads of this window: a few at a time, the others in the order in which they were added. */

import { Upload } from "./upload.js";

/** How many run at once; each large one sends several parts by itself. */
const CONCURRENT = 3;

export class Uploads extends EventTarget {
  /** @type {Upload[]} */ all = [];
  /** @type {Upload[]} */ #queue = [];
  #running = 0;

  /** @param {import("./upload.js").World} world */
  constructor(world) {
    super();
    this.world = world;
  }

  /** Whether something would be lost if the window were closed. */
  get busy() {
    return this.all.some((upload) => !upload.ended);
  }

  /**
   * @param {File} file
   * @param {{ userId: string, spaceId: string, path: string, baseVersion?: number }} target
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

  /** Whether it waits for its turn. @param {Upload} upload */
  isQueued(upload) {
    return this.#queue.includes(upload);
  }

  #fill() {
    for (; this.#running < CONCURRENT && this.#queue.length > 0; this.#running += 1) {
      const upload = /** @type {Upload} */ (this.#queue.shift());
      void upload.run().finally(() => {
        this.#running -= 1;
        this.#fill();
        this.#tell();
      });
    }
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
