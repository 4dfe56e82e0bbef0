/** Downloads content from storage by presigned URLs, and verifies it. */

import { base64, createSha256 } from "./digest.js";
import { ContentMismatchError, ContentMissingError, UnreachableError } from "./errors.js";
import { STORAGE_MESSAGES } from "./messages.js";
import { fullJitter } from "./timing.js";

/** Maximum number of resumptions of a download without a byte in between. */
const ATTEMPTS = 6;

const RETRY = { first: 1_000, limit: 15_000 };

/** Bytes of a download that are collected before they are passed on. Browsers keep large blobs on disk. */
const GATHERED = 8 * 1024 * 1024;

/**
 * @typedef {object} Wanted
 * @property {() => Promise<{ url: string }>} locate
 * @property {number} size
 * @property {string} sha256
 * @property {import("./types.js").Composite} [composite] the digest that storage has verified for content in parts
 */

/**
 * Downloads a version's content into a blob.
 *
 * @param {Wanted} wanted
 * @param {AbortSignal} signal
 * @param {(bytes: number) => void} onProgress
 * @returns {Promise<Blob>}
 */
export async function download(wanted, signal, onProgress) {
  let content = new Blob();
  for await (const piece of read(wanted, signal)) {
    content = new Blob([content, piece]);
    onProgress(content.size);
  }
  return content;
}

/**
 * Yields a version's content piece by piece, resumes after interruptions, and verifies the digests: *it throws at the end if they differ*, so
 * use the content only after that. At most `size` bytes are yielded, because a browser decodes a body by its `Content-Encoding`, after which
 * a small body may have any length.
 *
 * @param {Wanted} wanted
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<Uint8Array<ArrayBuffer>, void, void>}
 */
export async function* read({ locate, size, sha256, composite }, signal) {
  const digest = createSha256();
  const parts = composite && new CompositeDigest(composite.partSize);
  let received = 0;
  for (let failures = 0; received < size || failures === 0;) {
    const before = received;
    try {
      const { url } = await locate();
      for await (const piece of pieces(url, received, size, signal)) {
        digest.update(piece);
        parts?.update(piece);
        received += piece.length;
        yield piece;
      }
      if (received >= size) break;
      throw new UnreachableError("the content ended early");
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof UnreachableError)) throw error;
      failures = received > before ? 1 : failures + 1;
      if (failures >= ATTEMPTS) throw error;
      const pause = fullJitter(failures, RETRY, Math.random);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
  const isProved = parts === undefined || base64(parts.digest()) === composite?.sha256;
  if (!isProved || base64(digest.digest()) !== sha256) throw new ContentMismatchError(STORAGE_MESSAGES.otherContent);
}

/** Computes the composite SHA-256: the SHA-256 of the SHA-256s of the content's parts. */
class CompositeDigest {
  #part = createSha256();
  #parts = createSha256();
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
    this.#part = createSha256();
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
    if (answer.status === 404) throw new ContentMissingError(STORAGE_MESSAGES.lost);
    if (answer.status !== (from > 0 ? 206 : 200) || !answer.body) throw new UnreachableError(`status ${answer.status}`);
    reader = answer.body.getReader();
    let left = size - from;
    /** @type {Uint8Array<ArrayBuffer>[]} */
    let gathered = [];
    let length = 0;
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      left -= piece.value.length;
      if (left < 0) throw new ContentMismatchError(STORAGE_MESSAGES.longer);
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
    throw error instanceof ContentMismatchError || error instanceof ContentMissingError || error instanceof UnreachableError ? error : new UnreachableError(error);
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
