/**
 * The SHA-256 of content. WebCrypto computes it fast, but only of content that is completely in memory. Larger content is read in pieces: in
 * browsers by a worker with @noble/hashes, and under Node.js with `node:crypto`.
 */

import { sha256 as portable } from "./vendor/noble-hashes/sha2.js";

/** Maximum size in bytes of content that is read at once. */
const WHOLE = 16 * 1024 * 1024;

/** @typedef {{ update: (bytes: Uint8Array) => unknown, digest: () => Uint8Array }} Hash */

/** `node:crypto`, which browsers do not have. */
const nodeCrypto = /** @type {any} */ (globalThis).process?.getBuiltinModule?.("node:crypto");

/** Returns a SHA-256 that is computed piece by piece. @returns {Hash} */
export function createSha256() {
  return nodeCrypto ? nodeCrypto.createHash("sha256") : portable.create();
}

/**
 * Returns the SHA-256 of content in base64.
 *
 * @param {Blob} content
 * @param {AbortSignal} signal
 * @param {(bytes: number) => void} onProgress receives the number of bytes read so far
 * @returns {Promise<string>}
 */
export async function sha256(content, signal, onProgress = () => {}) {
  if (content.size > WHOLE) return typeof Worker === "function" ? inWorker(content, signal, onProgress) : inPieces(content, signal, onProgress);
  const digest = await crypto.subtle.digest("SHA-256", await content.arrayBuffer());
  signal.throwIfAborted();
  onProgress(content.size);
  return base64(new Uint8Array(digest));
}

/** @param {Uint8Array} bytes */
export function base64(bytes) {
  return btoa(String.fromCharCode(...bytes));
}

/**
 * Reads content in pieces, and returns its SHA-256 in base64.
 *
 * @param {Blob} content
 * @param {AbortSignal} signal
 * @param {(bytes: number) => void} onProgress
 */
export async function inPieces(content, signal, onProgress) {
  const digest = createSha256();
  let read = 0;
  const reader = content.stream().getReader();
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      signal.throwIfAborted();
      digest.update(piece.value);
      read += piece.value.length;
      onProgress(read);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
  return base64(digest.digest());
}

/**
 * @param {Blob} content
 * @param {AbortSignal} signal
 * @param {(bytes: number) => void} onProgress
 * @returns {Promise<string>}
 */
function inWorker(content, signal, onProgress) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const worker = new Worker(new URL("digest-worker.js", import.meta.url), { type: "module" });
    const end = () => {
      worker.terminate();
      signal.removeEventListener("abort", abort);
    };
    const abort = () => {
      end();
      reject(signal.reason);
    };
    signal.addEventListener("abort", abort);
    worker.onerror = () => {
      end();
      reject(new Error("The digest could not be computed."));
    };
    worker.onmessage = ({ data }) => {
      if (data.read !== undefined) {
        onProgress(data.read);
        return;
      }
      end();
      if (data.failed) reject(new DOMException(data.failed, "NotReadableError"));
      else resolve(data.sha256);
    };
    worker.postMessage(content);
  });
}
