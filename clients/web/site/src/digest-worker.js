/** Computes the SHA-256 of content that is too large for memory. Receives a blob; posts the bytes read so far, and then the digest. */

import { sha256 } from "../vendor/noble-hashes/sha2.js";
import { base64 } from "./digest.js";

self.onmessage = async ({ data }) => {
  /** @type {Blob} */
  const content = data;
  const digest = sha256.create();
  let read = 0;
  try {
    const reader = content.stream().getReader();
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      digest.update(piece.value);
      read += piece.value.length;
      self.postMessage({ read });
    }
  } catch (error) {
    self.postMessage({ failed: String(error) });
    return;
  }
  self.postMessage({ sha256: base64(digest.digest()) });
};
