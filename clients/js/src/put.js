/** Sends content to storage by presigned URLs. */

import { ContentMismatchError, StorageRefusedError, UnreachableError, UrlExpiredError } from "./errors.js";
import { STORAGE_MESSAGES } from "./messages.js";

/** S3's error codes, with status 400 or 409, for requests that may succeed when they are repeated. */
const PASSING_CODES = new Set(["RequestTimeout", "IncompleteBody", "SlowDown", "Throttling", "RequestLimitExceeded", "OperationAborted", "ConditionalRequestConflict"]);

/** No answer, request timeout, conflict with an earlier attempt, too early, too many requests. */
const PASSING_STATUSES = new Set([0, 408, 409, 425, 429]);

/** S3's error codes, with status 400, for content that differs from the declaration. */
const MISMATCH_CODES = new Set(["BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "EntityTooLarge", "EntityTooSmall"]);

/** Time without progress in milliseconds after which an upload counts as interrupted. */
const STALL = 60_000;

/** Bytes per millisecond below which a request without reports of progress counts as interrupted: 32 KiB/s. */
const SLOWEST = 32;

/**
 * Sends content with a presigned request. In browsers the request is an `XMLHttpRequest`, because `fetch` reports no progress. Elsewhere
 * `fetch` streams the content from its `Blob`.
 *
 * @param {import("./types.js").PresignedPut} presigned
 * @param {Blob} content
 * @param {AbortSignal} signal
 * @param {(bytes: number) => void} onProgress
 * @returns {Promise<void>}
 */
export async function put(presigned, content, signal, onProgress) {
  signal.throwIfAborted();
  const send = typeof XMLHttpRequest === "function" ? sendWithProgress : sendByFetch;
  const { status, text } = await send(presigned, content, signal, onProgress);
  // An error is XML. The URL is a secret, so only the code is shown.
  const code = /<Code>(\w+)<\/Code>/.exec(text)?.[1] ?? "";
  // 412: the content is already stored by an attempt whose answer was lost.
  if ((status >= 200 && status < 300) || status === 412) return;
  if (PASSING_CODES.has(code) || PASSING_STATUSES.has(status) || status >= 500) throw new UnreachableError(`${status} ${code}`);
  const refusal = STORAGE_MESSAGES.refused(code || `status ${status}`);
  if (status === 403 || status === 404 || code === "ExpiredToken") throw new UrlExpiredError(refusal);
  if (MISMATCH_CODES.has(code)) throw new ContentMismatchError(STORAGE_MESSAGES.changed);
  throw new StorageRefusedError(refusal);
}

/**
 * @param {import("./types.js").PresignedPut} presigned
 * @returns {[string, string][]} the headers that the caller sets. The runtime sets the two others, to the same values.
 */
function headersOf({ headers }) {
  return Object.entries(headers).filter(([name]) => name !== "host" && name !== "content-length");
}

/** @type {(presigned: import("./types.js").PresignedPut, content: Blob, signal: AbortSignal, onProgress: (bytes: number) => void) => Promise<{ status: number, text: string }>} */
function sendWithProgress(presigned, content, signal, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", presigned.url);
    for (const [name, value] of headersOf(presigned)) request.setRequestHeader(name, value);
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
      if (signal.aborted) reject(signal.reason);
      else resolve({ status: request.status, text: request.responseText });
    };
    request.send(content);
  });
}

/** @type {typeof sendWithProgress} */
async function sendByFetch(presigned, content, signal, onProgress) {
  const timeout = AbortSignal.timeout(STALL + Math.ceil(content.size / SLOWEST));
  try {
    const answer = await fetch(presigned.url, { method: "PUT", headers: headersOf(presigned), body: content, signal: AbortSignal.any([signal, timeout]) });
    const text = await answer.text();
    onProgress(content.size);
    return { status: answer.status, text };
  } catch (error) {
    signal.throwIfAborted();
    // The content changed on disk, or cannot be read any more.
    const cause = error instanceof Error ? error.cause : undefined;
    for (const reason of [error, cause]) if (reason instanceof DOMException && reason.name === "NotReadableError") throw reason;
    throw new UnreachableError(error);
  }
}
