/** Computes the SHA-256 of content that is too large for memory. Receives a blob; posts the bytes read so far, and then the digest. */

import { inPieces } from "./digest.js";

self.onmessage = async ({ data }) => {
  try {
    const sha256 = await inPieces(data, new AbortController().signal, (read) => self.postMessage({ read }));
    self.postMessage({ sha256 });
  } catch (error) {
    self.postMessage({ failed: String(error) });
  }
};
