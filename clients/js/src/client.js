/** The client: all requests of the API, transfers, and the changes of spaces. */

import { Api } from "./api.js";
import { ChangeStream } from "./changes.js";
import { download, read } from "./download.js";
import { ProblemError, SessionExpiredError, isPassing } from "./errors.js";
import { pathOf } from "./paths.js";
import { put } from "./put.js";
import { MemoryStorage } from "./storage.js";
import { Uploads } from "./uploads.js";

/** Name of the device's id in the storage. */
const DEVICE = "syncsphere.device";

/** Maximum number of items in a request. */
const BATCH = 100;

/** Attempts for items of a batch that may succeed later. */
const ATTEMPTS = 5;

/**
 * @typedef {object} ClientOptions
 * @property {string} url the stack's output `HttpApiUrl`
 * @property {import("./session.js").Session} session
 * @property {import("./session.js").KeyValueStorage} [storage] where the device's id and the keys of unfinished uploads are kept, so that they
 *   resume in another run; by default only in memory. `localStorage` is suitable, and contains no secrets then.
 * @property {string} [deviceId] a UUID of this installation; by default it is made once and kept in `storage`
 * @property {boolean} [waitForSignIn] whether uploads wait for the next sign-in when the session has expired; by default they fail
 * @property {new (url: string) => any} [WebSocket] by default that of the runtime. Node.js 20 has none: pass that of the package `ws`
 * @property {typeof globalThis.fetch} [fetch] sends the requests of the API
 *
 * @typedef {object} UploadOptions
 * @property {string} path of the file in the space, such as `/Docs/a.txt`
 * @property {string} [spaceId] by default the personal space
 * @property {number} [baseVersion] the version that this replaces, with `baseFileId`. 0 uploads only if the path is free. Without it, the file
 *   at the path gets another version, whatever it is.
 * @property {string} [baseFileId]
 * @property {Date} [modifiedAt] modification time of the file
 * @property {boolean} [executable]
 * @property {AbortSignal} [signal] cancels the upload
 * @property {(progress: { phase: import("./upload.js").Phase, sent: number, size: number }) => void} [onProgress]
 *
 * @typedef {Pick<import("./types.js").FileView, "fileId" | "version" | "size" | "sha256" | "composite">} VersionOfFile
 */

export class Client extends Api {
  /** The uploads in progress, for a view of all of them. */
  uploads;
  /** @type {Set<ChangeStream>} */ #streams = new Set();

  /** @param {ClientOptions} options */
  constructor({ url, session, storage = new MemoryStorage(), deviceId, waitForSignIn = false, WebSocket = globalThis.WebSocket, fetch = globalThis.fetch.bind(globalThis) }) {
    const device = deviceId ?? storage.getItem(DEVICE) ?? crypto.randomUUID();
    if (!deviceId) storage.setItem(DEVICE, device);
    super(url, session, device, { fetch, random: Math.random, sleep: pause });
    this.WebSocket = WebSocket;
    this.onfeedreset = () => {
      for (const stream of this.#streams) stream.listAgain();
    };
    this.uploads = new Uploads({
      api: this,
      pause,
      signedIn: (signal) => (waitForSignIn ? session.signedIn(signal) : Promise.reject(new SessionExpiredError())),
      epoch: () => this.epoch,
      storage,
      now: Date.now,
      put,
      random: Math.random,
    });
  }

  // ------------------------------------------------------------------------------------------------ Content

  /**
   * Uploads a file, and resolves when it is the newest version at its path. The content is read in pieces, large content is sent in parts, and many
   * concurrent calls share requests, so call it for all of your files at once. It goes on for as long as the network is gone; `signal` ends it.
   * After a failure, and in another run with the same `storage`, the same call continues with the parts that are missing.
   *
   * @param {import("./upload.js").Content} content
   * @param {UploadOptions} options
   * @returns {Promise<import("./types.js").FileChanged>}
   */
  async upload(content, { path, spaceId = "", baseVersion, baseFileId, modifiedAt, executable, signal, onProgress }) {
    signal?.throwIfAborted();
    // The first token identifies the user.
    await this.session.token();
    const userId = this.session.user?.userId ?? "";
    const target = { userId, spaceId, path: pathOf(path), baseVersion, baseFileId, modifiedAt: modifiedAt?.toISOString(), executable };
    /** @type {() => void} */ let cancel = () => {};
    const upload = await new Promise((/** @type {(upload: import("./upload.js").Upload) => void} */ resolve) => {
      const added = this.uploads.add(content, target, (upload) => {
        onProgress?.({ phase: upload.phase, sent: upload.sent, size: content.size });
        if (upload.ended || upload.phase === "conflict") resolve(upload);
      });
      cancel = () => added.cancel();
      signal?.addEventListener("abort", cancel);
    });
    signal?.removeEventListener("abort", cancel);
    this.uploads.remove([upload]);
    signal?.throwIfAborted();
    if (upload.changed) return upload.changed;
    throw upload.reason ?? new DOMException("The upload was cancelled.", "AbortError");
  }

  /**
   * Downloads a version of a file, and verifies it.
   *
   * @param {VersionOfFile} file a file, or a version together with the `fileId`
   * @param {{ signal?: AbortSignal, onProgress?: (bytes: number) => void }} [options]
   * @returns {Promise<Blob>}
   */
  download(file, { signal = new AbortController().signal, onProgress = () => {} } = {}) {
    return download(this.#wanted(file), signal, onProgress);
  }

  /**
   * Reads a version of a file piece by piece. *It throws at the end if the content is not what was uploaded*: use it only after that.
   *
   * @param {VersionOfFile} file
   * @param {{ signal?: AbortSignal }} [options]
   */
  read(file, { signal = new AbortController().signal } = {}) {
    return read(this.#wanted(file), signal);
  }

  /** @param {VersionOfFile} file @returns {import("./download.js").Wanted} */
  #wanted({ fileId, version, size, sha256, composite }) {
    return { locate: () => this.locate(fileId, version), size, sha256, composite };
  }

  // ------------------------------------------------------------------------------------------------ Folders

  /**
   * Moves all files of a folder and its subfolders. Files that others add meanwhile stay. Throws the first error, after all files were tried.
   *
   * @param {string | undefined} spaceId by default the personal space
   * @param {string} from such as `/Docs`
   * @param {string} to the folder's new path, such as `/Archive/Docs`
   * @returns {Promise<import("./types.js").FileChanged[]>}
   */
  moveFolder(spaceId, from, to) {
    const [source, target] = [folderOf(from), folderOf(to)];
    return this.#changeFolder(spaceId, source, ({ fileId, path, version }) => ({
      action: "move", fileId, path: target + path.slice(source.length), baseVersion: version, basePath: path,
    }));
  }

  /**
   * Moves all files of a folder and its subfolders to the trash. Throws the first error, after all files were tried.
   *
   * @param {string | undefined} spaceId by default the personal space
   * @param {string} folder such as `/Docs`
   * @returns {Promise<import("./types.js").FileChanged[]>}
   */
  deleteFolder(spaceId, folder) {
    return this.#changeFolder(spaceId, folderOf(folder), ({ fileId, path, version }) => ({ action: "delete", fileId, baseVersion: version, basePath: path }));
  }

  /**
   * @param {string | undefined} spaceId
   * @param {string} prefix
   * @param {(file: import("./types.js").FileView) => import("./types.js").FileAction} actionOf
   */
  async #changeFolder(spaceId, prefix, actionOf) {
    /** @type {import("./types.js").FileAction[]} */
    let waiting = [];
    for await (const file of this.files(spaceId, prefix)) waiting.push(actionOf(file));
    /** @type {import("./types.js").FileChanged[]} */ const changed = [];
    /** @type {unknown[]} */ const errors = [];
    for (let attempt = 1; waiting.length > 0; attempt += 1) {
      /** @type {typeof waiting} */ const again = [];
      let retryAfter = 0;
      for (let at = 0; at < waiting.length; at += BATCH) {
        const batch = waiting.slice(at, at + BATCH);
        for (const [index, { status, change, problem }] of (await this.changeFiles(batch)).entries()) {
          if (change) {
            changed.push(change);
            continue;
          }
          const error = new ProblemError(status, problem ?? {});
          const action = batch[index];
          if (action && isPassing(error) && attempt < ATTEMPTS) again.push(action);
          else errors.push(error);
          retryAfter = Math.max(retryAfter, error.retryAfter);
        }
      }
      waiting = again;
      if (waiting.length > 0) await pause(retryAfter + 1_000 * 2 ** attempt * Math.random());
    }
    if (errors.length > 0) throw errors[0];
    return changed;
  }

  // ------------------------------------------------------------------------------------------------ Changes

  /**
   * Receives every change of the user's spaces, each once and in order, also when the network fails. Store the epoch and the `sequence` of the last
   * processed change of each space, and pass them to the next call.
   *
   * @param {import("./changes.js").WatchOptions} [options]
   * @returns {ChangeStream}
   */
  watch(options = {}) {
    const { WebSocket } = this;
    if (!WebSocket) throw new Error("This runtime has no WebSocket. Pass one to the client: new Client({ WebSocket, … }), such as that of the package ws.");
    const openSocket = (/** @type {string} */ url) => {
      const socket = new WebSocket(url);
      // An end follows each error.
      socket.onerror = () => {};
      return socket;
    };
    const stream = new ChangeStream(this, openSocket, options);
    this.#streams.add(stream);
    void stream.closed.then(() => this.#streams.delete(stream));
    return stream;
  }
}

/** Returns a folder's path with a slash at its end. @param {string} folder */
function folderOf(folder) {
  return `${pathOf(folder).replace(/\/+$/, "")}/`;
}

/**
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(() => end(resolve), ms);
    const abort = () => end(() => reject(signal?.reason));
    const end = (/** @type {() => void} */ settle) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      settle();
    };
    signal?.addEventListener("abort", abort);
  });
}
