/**
 * The uploads of this window. Some are in progress at a time; the others wait in the order in which they were added. More small files are in progress
 * than are sent to storage, so that many are opened and completed by one request (`batch.js`).
 */

import { Upload } from "./upload.js";

/** Requests with content that are sent concurrently. Browsers open six connections to a server without HTTP/2, such as S3. */
const CONCURRENT_PUTS = 6;

/** Number of uploads in progress at first, and at least. */
const FEWEST = 8;

/** Number of uploads in progress to which it grows. */
const MOST = 256;

/**
 * Maximum total size in bytes of uploads in progress; a single upload may be larger. It is the default maximum of a single PUT. Its URL is valid
 * for an hour: on a slow line several PUTs of that size would each take longer.
 */
const CONCURRENT_BYTES = 64 * 1024 * 1024;

export class Uploads extends EventTarget {
  /** @type {Upload[]} */ all = [];
  /** @type {Set<Upload>} */ #queue = new Set();
  /** The uploads in progress, with the value of `#cuts` when they began. @type {Map<Upload, number>} */ #running = new Map();
  /** Total size of the uploads in progress. */ #bytes = 0;
  /** Maximum number of uploads in progress. Each upload that is done raises it, so it doubles in each round; a failure halves it. */ #most = FEWEST;
  /** How often it was halved. */ #cuts = 0;
  /** Whether uploads begin. Once there are as many as there may be, none begins until there are half as many, so that many are opened together. */
  #refilling = true;

  /** The paths of a user's uploads that would be lost if the window were closed now. @param {string} userId */
  unfinished(userId) {
    return this.all.filter((upload) => !upload.ended && upload.target.userId === userId).map((upload) => upload.target.path);
  }

  /** @param {import("./upload.js").World} world */
  constructor(world) {
    super();
    this.world = { ...world, put: bounded(world.put) };
  }

  /** Whether an upload would be lost if the window were closed. */
  get busy() {
    return this.all.some((upload) => !upload.ended);
  }

  /** Numbers of uploads and bytes. Those that failed or were cancelled are not counted in bytes. */
  get total() {
    const total = { uploads: this.all.length, done: 0, bytes: 0, sent: 0 };
    for (const { phase, file, sent } of this.all) {
      if (phase === "failed" || phase === "cancelled") continue;
      if (phase === "done") total.done += 1;
      total.bytes += file.size;
      total.sent += Math.min(sent, file.size);
    }
    return total;
  }

  /**
   * @param {import("./upload.js").Content} file
   * @param {import("./upload.js").Target} target
   * @param {(upload: Upload) => void} [onChange] called when this upload changes
   * @returns {Upload}
   */
  add(file, target, onChange) {
    const upload = new Upload(file, target, this.world, () => {
      this.#changed(upload);
      onChange?.(upload);
    });
    this.all.push(upload);
    this.#queue.add(upload);
    this.#fill();
    this.#tell();
    return upload;
  }

  /** Removes uploads, and cancels those that have not ended. @param {Upload[]} uploads */
  remove(uploads) {
    const removed = new Set(uploads);
    // First, so that none of them begins in the place of another.
    for (const upload of removed) this.#queue.delete(upload);
    this.all = this.all.filter((upload) => !removed.has(upload));
    for (const upload of removed) if (!upload.ended) upload.cancel();
    this.#tell();
  }

  /** Whether an upload waits in the queue. @param {Upload} upload */
  isQueued(upload) {
    return this.#queue.has(upload);
  }

  #fill() {
    for (const upload of this.#queue) {
      if (!this.#mayRun(upload.file.size)) return;
      this.#queue.delete(upload);
      this.#running.set(upload, this.#cuts);
      this.#bytes += upload.file.size;
      void upload.run().finally(() => {
        this.#running.delete(upload);
        this.#bytes -= upload.file.size;
        if (upload.phase === "done") this.#most = Math.min(this.#most + 1, MOST);
        this.#fill();
        this.#tell();
      });
    }
  }

  /** @param {number} size of the next upload, in bytes */
  #mayRun(size) {
    const { size: running } = this.#running;
    if (running >= this.#most) this.#refilling = false;
    else if (running <= Math.max(this.#most / 2, CONCURRENT_PUTS)) this.#refilling = true;
    return running === 0 || (this.#refilling && this.#bytes + size <= CONCURRENT_BYTES);
  }

  /** @param {Upload} upload */
  #changed(upload) {
    // Uploads that began before the last cut met the same trouble.
    if (upload.phase === "waiting" && this.#running.get(upload) === this.#cuts) {
      this.#cuts += 1;
      this.#most = Math.max(Math.floor(this.#most / 2), FEWEST);
    }
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * Bounds the number of concurrent calls. Others wait in order.
 *
 * @param {import("./upload.js").World["put"]} put
 * @returns {import("./upload.js").World["put"]}
 */
function bounded(put) {
  let free = CONCURRENT_PUTS;
  /** @type {(() => void)[]} */
  const waiting = [];
  return async (...request) => {
    if (free > 0) free -= 1;
    else await new Promise((/** @type {(value?: undefined) => void} */ resolve) => waiting.push(resolve));
    try {
      return await put(...request);
    } finally {
      // The place goes to the next call, or becomes free.
      const next = waiting.shift();
      if (next) next();
      else free += 1;
    }
  };
}
