/**
 * The SHA-256 of uploads. WebCrypto computes it fast, but only of content that is completely in memory. A worker reads larger content in pieces
 * and computes it with @noble/hashes.
 */

/** Maximum size in bytes of content that is read at once. */
const WHOLE = 16 * 1024 * 1024;

/**
 * Returns the SHA-256 of content in base64.
 *
 * @param {Blob} content
 * @param {AbortSignal} signal
 * @param {(bytes: number) => void} onProgress receives the number of bytes read so far
 * @returns {Promise<string>}
 */
export async function sha256(content, signal, onProgress = () => {}) {
  if (content.size > WHOLE) return inWorker(content, signal, onProgress);
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
