/** Transfers content to and from storage by presigned URLs. Both directions report progress; uploads need XMLHttpRequest for it. */

import { sha256 } from "../vendor/noble-hashes/sha2.js";
import { base64 } from "./digest.js";
import { Unreachable } from "./errors.js";
import { fullJitter } from "./timing.js";

/** Storage no longer accepts this URL. Request a new one. */
export class StaleUrl extends Error {}

/** Storage refuses the request. Repeating it does not help. */
export class Refused extends Error {}

/** The content in storage or from storage differs from the declaration. */
export class OtherContent extends Error {}

/** Storage does not have content that the service refers to. */
export class MissingContent extends Error {}

/** S3's error codes, with status 400 or 409, for requests that may succeed when they are repeated. */
const PASSING_CODES = new Set(["RequestTimeout", "IncompleteBody", "SlowDown", "Throttling", "RequestLimitExceeded", "OperationAborted", "ConditionalRequestConflict"]);

/** No answer, request timeout, conflict with an earlier attempt, too early, too many requests. */
const PASSING_STATUSES = new Set([0, 408, 409, 425, 429]);

/** S3's error codes, with status 400, for content that differs from the declaration. */
const OTHER_CONTENT_CODES = new Set(["BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "EntityTooLarge", "EntityTooSmall"]);

/** Time without progress in milliseconds after which an upload counts as interrupted. */
const STALL = 60_000;

/** Maximum number of resumptions of a download without a byte in between. */
const DOWNLOAD_ATTEMPTS = 6;

const DOWNLOAD_RETRY = { first: 1_000, limit: 15_000 };

/** Bytes of a download that are collected before they go to the browser's blob store, which keeps large blobs on disk. */
const GATHERED = 8 * 1024 * 1024;

/**
 * Sends content with a presigned request.
 *
 * @param {import("./types.js").PresignedPut} presigned
 * @param {Blob} content
 * @param {AbortSignal} signal
 * @param {(bytes: number) => void} onProgress
 * @returns {Promise<void>}
 */
export function put(presigned, content, signal, onProgress) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const request = new XMLHttpRequest();
    request.open("PUT", presigned.url);
    for (const [name, value] of Object.entries(presigned.headers)) {
      // The browser sets these two headers itself, to the same values.
      if (name !== "host" && name !== "content-length") request.setRequestHeader(name, value);
    }
    let stalled = setTimeout(() => request.abort(), STALL);
    const abort = () => request.abort();
    signal.addEventListener("abort", abort);
    request.upload.onprogress = (event) => {
      clearTimeout(stalled);
      stalled = setTimeout(() => request.abort(), STALL);
      onProgress(event.loaded);
    };
    request.onloadend = () => {
      clearTimeout(stalled);
      signal.removeEventListener("abort", abort);
      const { status } = request;
      // An error is XML. The URL is a secret, so only the code is shown.
      const code = /<Code>(\w+)<\/Code>/.exec(request.responseText)?.[1] ?? "";
      if (signal.aborted) reject(signal.reason);
      // 412: the content is already stored by an attempt whose answer was lost.
      else if ((status >= 200 && status < 300) || status === 412) resolve();
      else if (PASSING_CODES.has(code) || PASSING_STATUSES.has(status) || status >= 500) reject(new Unreachable(`${status} ${code}`));
      else if (status === 403 || status === 404 || code === "ExpiredToken") reject(new StaleUrl(refusal(status, code)));
      else if (OTHER_CONTENT_CODES.has(code)) reject(new OtherContent("The file has changed since it was read. Add it again."));
      else reject(new Refused(refusal(status, code)));
    };
    request.send(content);
  });
}

/**
 * @param {number} status
 * @param {string} code
 */
function refusal(status, code) {
  return `Storage does not take the file (${code || `status ${status}`}). Try again; if that does not help, tell whoever runs the service.`;
}

/**
 * Downloads a version's content, resumes after interruptions, and verifies the digests. At most `size` bytes are kept, because a browser
 * decodes a body by its `Content-Encoding`, after which a small body may have any length.
 *
 * @param {object} wanted
 * @param {() => Promise<{ url: string }>} wanted.locate
 * @param {number} wanted.size
 * @param {string} wanted.sha256
 * @param {import("./types.js").Composite} [wanted.composite] the digest that storage has verified for content in parts
 * @param {AbortSignal} signal
 * @param {(bytes: number) => void} onProgress
 * @returns {Promise<Blob>}
 */
export async function download({ locate, size, sha256: declared, composite }, signal, onProgress) {
  const digest = sha256.create();
  const parts = composite && new CompositeDigest(composite.partSize);
  let content = new Blob();
  let received = 0;
  for (let failures = 0; received < size || failures === 0;) {
    const before = received;
    try {
      const { url } = await locate();
      for await (const piece of pieces(url, received, size, signal)) {
        digest.update(piece);
        parts?.update(piece);
        content = new Blob([content, piece]);
        received += piece.length;
        onProgress(received);
      }
      if (received >= size) break;
      throw new Unreachable("the content ended early");
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof Unreachable)) throw error;
      failures = received > before ? 1 : failures + 1;
      if (failures >= DOWNLOAD_ATTEMPTS) throw error;
      const pause = fullJitter(failures, DOWNLOAD_RETRY, Math.random);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
  const isProved = parts === undefined || base64(parts.digest()) === composite?.sha256;
  if (!isProved || base64(digest.digest()) !== declared) throw new OtherContent("What arrived is not what was uploaded. It was not saved.");
  return content;
}

/** Computes the composite SHA-256: the SHA-256 of the SHA-256s of the content's parts. */
class CompositeDigest {
  #part = sha256.create();
  #parts = sha256.create();
  #length = 0;

  /** @param {number} partSize in bytes */
  constructor(partSize) {
    this.partSize = partSize;
  }

  /** @param {Uint8Array} piece */
  update(piece) {
    for (let at = 0; at < piece.length;) {
      // A part ends only when more content follows, because the last one may be smaller.
      if (this.#length >= this.partSize) this.#endPart();
      const ofPart = piece.subarray(at, at + Math.max(this.partSize - this.#length, 1));
      this.#part.update(ofPart);
      this.#length += ofPart.length;
      at += ofPart.length;
    }
  }

  digest() {
    this.#endPart();
    return this.#parts.digest();
  }

  #endPart() {
    this.#parts.update(this.#part.digest());
    this.#part = sha256.create();
    this.#length = 0;
  }
}

/**
 * @param {string} url
 * @param {number} from
 * @param {number} size of the whole content
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<Uint8Array<ArrayBuffer>>}
 */
async function* pieces(url, from, size, signal) {
  /** @type {ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined} */
  let reader;
  try {
    const headers = from > 0 ? { Range: `bytes=${from}-` } : undefined;
    const answer = await fetch(url, { headers, signal, cache: "no-store" });
    if (answer.status === 404) throw new MissingContent("The content of this version is lost in storage. Tell whoever runs the service.");
    if (answer.status !== (from > 0 ? 206 : 200) || !answer.body) throw new Unreachable(`status ${answer.status}`);
    reader = answer.body.getReader();
    let left = size - from;
    /** @type {Uint8Array<ArrayBuffer>[]} */
    let gathered = [];
    let length = 0;
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      left -= piece.value.length;
      if (left < 0) throw new OtherContent("What arrives is longer than the file is said to be. It was not saved.");
      gathered.push(piece.value);
      length += piece.value.length;
      if (length >= GATHERED) {
        yield joined(gathered, length);
        gathered = [];
        length = 0;
      }
    }
    if (length > 0) yield joined(gathered, length);
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof OtherContent || error instanceof MissingContent || error instanceof Unreachable ? error : new Unreachable(error);
  } finally {
    reader?.cancel().catch(() => {});
  }
}

/**
 * @param {Uint8Array<ArrayBuffer>[]} pieces
 * @param {number} length
 */
function joined(pieces, length) {
  const all = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}
