/**
 * One upload, from a file to its next version: digest, open, send whole or in parts, complete. An interrupted upload resumes: storage lists the
 * parts that it has, and every request has the same `Idempotency-Key`.
 */

import { base64, createSha256, sha256 } from "./digest.js";
import { ContentMismatchError, ProblemError, SessionExpiredError, UrlExpiredError, isAbort, isPassing } from "./errors.js";
import { STORAGE_MESSAGES } from "./messages.js";
import { put } from "./put.js";
import { fullJitter } from "./timing.js";

/** Parts of one upload that are sent concurrently. */
const CONCURRENT_PARTS = 4;

/** Back-off of retries in milliseconds. */
const RETRY = { first: 1_000, limit: 30_000 };

/** Maximum number of requests for new URLs without progress in between. */
const FRESH_URLS = 3;

/** Maximum number of automatic new starts of an upload that has expired or was aborted. */
const BEGUN_ANEW = 2;

/** Maximum number of automatic new starts because the service was restored. The window learns the new epoch within seconds. */
const RESETS = 5;

/** Codes of the service for an upload that has ended, or for a key that cannot be used for it. */
const ENDED = new Set(["upload-expired", "idempotency-key-reused"]);

/** Codes of the service for content that differs from the declaration. */
const OTHER = new Set(["checksum-mismatch", "size-mismatch"]);

/** Prefix of the names of stored keys. */
export const KEPT = "syncsphere.upload ";

/** Time in milliseconds for which a stored key is of use. Uploads in parts expire after 7 days. */
export const KEPT_FOR = 7 * 24 * 3_600_000;

/**
 * @typedef {Blob & { readonly name?: string }} Content content of a file: a `File`, a `Blob`, or what `fs.openAsBlob` returns. It is not read into memory.
 * @typedef {object} Target
 * @property {string} userId
 * @property {string} spaceId an empty string for the personal space
 * @property {string} path
 * @property {number} [baseVersion] the version to be replaced; 0 for a new file
 * @property {string} [baseFileId]
 * @property {string} [modifiedAt] the modification time of the file, RFC 3339
 * @property {boolean} [executable]
 *
 * @typedef {"hashing" | "opening" | "sending" | "completing" | "waiting" | "done" | "conflict" | "failed" | "cancelled"} Phase
 *
 * @typedef {object} World
 * @property {Pick<import("./api.js").Api, "deviceId" | "createUpload" | "showUpload" | "presignParts" | "completeUpload" | "abortUpload">} api
 * @property {(ms: number, signal: AbortSignal) => Promise<void>} pause waits for the given time, or until the network is back
 * @property {(signal: AbortSignal) => Promise<void>} signedIn waits until a user is signed in
 * @property {Pick<Storage, "getItem" | "setItem" | "removeItem">} storage storage of the keys
 * @property {() => string | undefined} epoch the epoch of the spaces and files that are shown
 * @property {() => number} now in milliseconds
 * @property {typeof put} put
 * @property {() => number} random
 */

export class Upload {
  /** @type {Phase} */ phase = "hashing";
  /** Bytes of the file that are hashed, or sent after hashing. */
  progress = 0;
  /** Bytes of the file that are sent. */ sent = 0;
  /** Whether the service has answered that it cannot do this now, while the upload waits. */ isThrottled = false;
  /** The message of `reason`. */ error = "";
  /** Why the upload failed or waits for an answer. @type {unknown} */ reason;
  /** The current version at the path after a conflict. @type {{ version: number, fileId?: string } | undefined} */ current;
  /** @type {import("./types.js").FileChanged | null} */ changed = null;
  /** The time of the request to complete, for the latency of the notification. @type {number} */ completedAt = 0;

  #controller = new AbortController();
  /** The epoch in which the user chose the target. @type {string | undefined} */ #seenIn;
  /** @type {string | null} */ #uploadId = null;
  /** Whether storage has all of the content. */ #isStored = false;
  /** @type {string | null} */ #sha256 = null;
  /** @type {Map<number, string>} */ #partDigests = new Map();
  /** @type {Map<number, number>} */ #sentOfParts = new Map();

  /**
   * @param {Content} file
   * @param {Target} target
   * @param {World} world
   * @param {() => void} onChange
   */
  constructor(file, target, world, onChange) {
    this.id = crypto.randomUUID();
    this.file = file;
    this.target = target;
    this.world = world;
    this.onChange = onChange;
    this.#seenIn = world.epoch();
  }

  get ended() {
    return this.phase === "done" || this.phase === "failed" || this.phase === "cancelled";
  }

  /** Runs the upload until it has ended or needs an answer. `phase` has the result. */
  async run() {
    try {
      this.#sha256 ??= await this.#hash();
      this.changed = await this.#transfer(this.#sha256);
      this.world.storage.removeItem(this.#slot());
      this.#enter("done");
    } catch (error) {
      this.#fail(error);
    }
  }

  /**
   * Continues after a conflict, as the next version of the current file or as another file.
   *
   * @param {{ path?: string, baseVersion?: number, baseFileId?: string }} target
   */
  again(target) {
    this.#forget();
    this.#seenIn = this.world.epoch();
    this.target = { ...this.target, ...target };
    this.current = undefined;
    return this.run();
  }

  /** Deletes the key, so that the next attempt is another upload. */
  #forget() {
    this.world.storage.removeItem(this.#slot());
    this.#uploadId = null;
    this.#isStored = false;
    this.#sentOfParts.clear();
    this.sent = 0;
  }

  /** Discards the upload and all digests, because the file has changed since it was read. */
  #discard() {
    const uploadId = this.#uploadId;
    if (uploadId) this.world.api.abortUpload(uploadId).catch(() => {});
    this.#forget();
    this.#sha256 = null;
    this.#partDigests.clear();
  }

  /** Cancels the upload, and deletes its content from storage. */
  cancel() {
    const uploadId = this.#uploadId;
    this.#controller.abort();
    this.world.storage.removeItem(this.#slot());
    if (uploadId) this.world.api.abortUpload(uploadId).catch(() => {});
    if (!this.ended) this.#enter("cancelled");
  }

  /** @param {unknown} error */
  #fail(error) {
    if (isAbort(error)) {
      this.#enter("cancelled");
    } else if (error instanceof ProblemError && error.code === "version-conflict") {
      this.current = error.current;
      this.reason = error;
      this.#enter("conflict");
    } else {
      const unreadable = error instanceof DOMException;
      if (unreadable || error instanceof ContentMismatchError || (error instanceof ProblemError && OTHER.has(error.code))) this.#discard();
      this.reason = unreadable ? new ContentMismatchError(STORAGE_MESSAGES.unreadable, { cause: error }) : error;
      this.error = String(/** @type {Error} */ (this.reason).message);
      this.#enter("failed");
    }
  }

  #hash() {
    this.#enter("hashing");
    return sha256(this.file, this.#controller.signal, (bytes) => this.#advance(bytes));
  }

  /** @param {string} digest */
  async #transfer(digest) {
    const { signal } = this.#controller;
    let stale = 0;
    let ended = 0;
    let resets = 0;
    for (let failures = 0; ; failures += 1) {
      try {
        this.#sameEpoch();
        const view = this.#isStored ? null : await this.#open(digest);
        if (view) {
          this.#enter("sending");
          await this.#send(view);
        }
        this.#isStored = true;
        this.sent = this.file.size;
        this.#sameEpoch();
        this.#enter("completing");
        this.completedAt = Date.now();
        return await this.world.api.completeUpload(/** @type {string} */ (this.#uploadId), signal);
      } catch (error) {
        signal.throwIfAborted();
        this.isThrottled = error instanceof ProblemError;
        if (error instanceof SessionExpiredError) {
          this.#enter("waiting");
          await this.world.signedIn(signal);
          failures = 0;
        } else if (error instanceof UrlExpiredError && stale < FRESH_URLS) {
          stale += 1;
        } else if (error instanceof ProblemError && ENDED.has(error.code) && ended < BEGUN_ANEW) {
          ended += 1;
          this.#forget();
        } else if (error instanceof ProblemError && error.code === "feed-reset" && this.target.baseVersion === 0 && resets < RESETS) {
          // Nothing was changed, and the service refuses a new file at a path that is taken. The upload itself may be lost.
          resets += 1;
          this.#forget();
          this.#enter("waiting");
          await this.world.pause(fullJitter(resets, RETRY, this.world.random), signal);
        } else if (isPassing(error)) {
          this.#enter("waiting");
          const retryAfter = error instanceof ProblemError ? error.retryAfter : 0;
          await this.world.pause(retryAfter + fullJitter(failures, RETRY, this.world.random), signal);
        } else {
          this.#isStored = false;
          throw error;
        }
      }
    }
  }

  /** Throws if the version to be replaced was seen before the service was restored: the same number may be another version now. */
  #sameEpoch() {
    if (this.target.baseVersion && this.#seenIn !== this.world.epoch()) throw new ProblemError(410, { code: "feed-reset" });
  }

  /**
   * Returns the content that remains to be sent, or null if there is none.
   *
   * @param {string} digest
   * @returns {Promise<{ put?: import("./types.js").PresignedPut, multipart?: import("./types.js").Parts,
   *   parts?: { partNumber: number, sha256: string }[] } | null>}
   */
  async #open(digest) {
    const { api, storage } = this.world;
    const { signal } = this.#controller;
    if (this.#uploadId === null) {
      this.#enter("opening");
      const { spaceId, path, baseVersion, baseFileId, modifiedAt, executable } = this.target;
      const slot = this.#slot();
      const { key, deviceId } = kept(storage, slot) ?? { key: crypto.randomUUID(), deviceId: api.deviceId };
      storage.setItem(slot, JSON.stringify({ key, deviceId, at: this.world.now() }));
      const contentType = /^[\w.+-]+\/[\w.+-]+$/.test(this.file.type) ? this.file.type : undefined;
      const request = { path, size: this.file.size, sha256: digest, contentType, spaceId: spaceId || undefined, baseVersion, baseFileId, modifiedAt, executable, deviceId };
      try {
        const created = await api.createUpload(request, key, signal);
        this.#uploadId = created.uploadId;
        // An upload in one request cannot be resumed.
        if (created.put) return created;
      } catch (error) {
        // The key belongs to an upload that has ended.
        if (error instanceof ProblemError && !error.passing) storage.removeItem(slot);
        throw error;
      }
    }
    const view = await api.showUpload(this.#uploadId, signal);
    return view.stored || view.state === "completed" ? null : view;
  }

  /** @param {{ put?: import("./types.js").PresignedPut, multipart?: import("./types.js").Parts, parts?: { partNumber: number, sha256: string }[] }} view */
  async #send({ put: whole, multipart, parts = [] }) {
    if (whole) {
      await this.world.put(whole, this.file, this.#controller.signal, (bytes) => this.#advanceSent(bytes));
    } else if (multipart) {
      await this.#sendParts(multipart, new Map(parts.map((part) => [part.partNumber, part.sha256])));
    }
  }

  /**
   * @param {import("./types.js").Parts} cut
   * @param {Map<number, string>} stored
   */
  async #sendParts({ partSize, partCount }, stored) {
    let next = 1;
    /** @type {unknown} */
    let failure = null;
    const sendNext = async () => {
      while (next <= partCount && failure === null) {
        const partNumber = next;
        next += 1;
        const part = this.file.slice((partNumber - 1) * partSize, partNumber * partSize);
        try {
          await this.#sendPart(partNumber, part, stored.get(partNumber));
        } catch (error) {
          failure ??= error;
        }
      }
    };
    // Waits for all before a failure is reported, so that no part is still being sent during the next attempt.
    await Promise.all(Array.from({ length: CONCURRENT_PARTS }, sendNext));
    if (failure !== null) throw failure;
  }

  /**
   * @param {number} partNumber
   * @param {Blob} part
   * @param {string | undefined} stored the SHA-256 of the part in storage
   */
  async #sendPart(partNumber, part, stored) {
    const { signal } = this.#controller;
    const digest = this.#partDigests.get(partNumber) ?? (await sha256(part, signal));
    this.#partDigests.set(partNumber, digest);
    if (stored !== digest) {
      const { parts } = await this.world.api.presignParts(/** @type {string} */ (this.#uploadId), [{ partNumber, sha256: digest }], signal);
      const presigned = parts[0];
      if (!presigned) throw new Error("The service gave no URL for a part.");
      await this.world.put(presigned, part, signal, (bytes) => this.#advancePart(partNumber, bytes));
    }
    this.#advancePart(partNumber, part.size);
  }

  /**
   * @param {number} partNumber
   * @param {number} bytes
   */
  #advancePart(partNumber, bytes) {
    this.#sentOfParts.set(partNumber, bytes);
    let sent = 0;
    for (const of of this.#sentOfParts.values()) sent += of;
    this.#advanceSent(sent);
  }

  /** @param {number} bytes */
  #advanceSent(bytes) {
    this.sent = bytes;
    this.#advance(bytes);
  }

  /** @param {number} bytes */
  #advance(bytes) {
    this.progress = bytes;
    this.onChange();
  }

  /** @param {Phase} phase */
  #enter(phase) {
    if (this.phase === "cancelled") return;
    if (phase === "sending" && this.phase !== "waiting") this.progress = 0;
    this.phase = phase;
    this.onChange();
  }

  /**
   * The name under which the key is stored, so that the same file at the same path resumes, also after the window was closed. The name is a digest:
   * data that outlives the window reveals neither the user nor the file.
   */
  #slot() {
    const { userId, spaceId, path, baseVersion, baseFileId, modifiedAt, executable } = this.target;
    const { size, type } = this.file;
    const request = [userId, spaceId, path, baseVersion ?? null, baseFileId ?? null, size, type, this.#sha256];
    const named = JSON.stringify(modifiedAt === undefined && executable === undefined ? request : [...request, modifiedAt ?? null, executable ?? null]);
    const digest = createSha256();
    digest.update(new TextEncoder().encode(named));
    return KEPT + base64(digest.digest());
  }
}

/**
 * Returns the key of an unfinished upload, with its device id: the service accepts the key only with the same request.
 *
 * @param {Pick<Storage, "getItem">} storage
 * @param {string} slot
 * @returns {{ key: string, deviceId: string, at: number } | null}
 */
function kept(storage, slot) {
  try {
    const { key, deviceId, at } = JSON.parse(storage.getItem(slot) ?? "null");
    return key && deviceId && at ? { key, deviceId, at } : null;
  } catch {
    return null;
  }
}

/**
 * Deletes the keys of uploads that can no longer resume, and those of former releases, whose names revealed the file.
 *
 * @param {Storage} storage
 * @param {number} now
 */
export function removeOldKeys(storage, now) {
  const names = Array.from({ length: storage.length }, (_, index) => storage.key(index) ?? "");
  for (const name of names.filter((name) => name.startsWith(KEPT))) {
    const entry = kept(storage, name);
    if (!entry || Math.abs(now - entry.at) > KEPT_FOR) storage.removeItem(name);
  }
}
