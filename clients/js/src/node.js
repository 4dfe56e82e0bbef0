/**
 * What only Node.js has: files and folders as the content of uploads, downloads into files, and a storage on disk. The package's entry point under
 * Node.js, which exports everything of `index.js` too.
 */

import { randomUUID } from "node:crypto";
import { setMaxListeners } from "node:events";
import { mkdirSync, openAsBlob, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { open, opendir, rename, rm, stat } from "node:fs/promises";
import { join, relative, sep } from "node:path";

import { pathOf } from "./paths.js";
import { KEPT, KEPT_FOR } from "./upload.js";

export * from "./index.js";

/**
 * Opens a file as the content of an upload. The file is read in pieces during the upload. If it changes meanwhile, the upload fails.
 *
 * @param {string} path
 * @param {{ type?: string }} [options] the content type
 * @returns {Promise<{ content: Blob, modifiedAt: Date, executable: boolean | undefined }>} the content, and options for `Client.upload`
 */
export async function openFile(path, options) {
  const { mode, mtime } = await stat(path);
  const content = await openAsBlob(path, options);
  // Windows has no such bit.
  return { content, modifiedAt: mtime, executable: process.platform === "win32" ? undefined : (mode & 0o100) !== 0 };
}

/** End of the name of a file that is being written. */
const PARTIAL = ".part";

/** Uploads of a folder that are in progress at the same time. */
const CONCURRENT = 256;

/**
 * Uploads all files of a folder and its subfolders, many at a time, and yields the result of each as soon as it has one. Symbolic links are not followed.
 * By default only paths that are free are written: a file that is there already has the result of a conflict, a `ProblemError` with the code
 * `version-conflict`. With `replace` it gets another version.
 *
 * @param {import("./client.js").Client} client
 * @param {string} folder
 * @param {{ to?: string, spaceId?: string, replace?: boolean, signal?: AbortSignal }} [options] `to`: the folder in the space, by default its root
 * @returns {AsyncGenerator<{ path: string, changed?: import("./types.js").FileChanged, error?: unknown }, void, void>}
 */
export async function* uploadFolder(client, folder, { to = "/", spaceId, replace = false, signal } = {}) {
  // Each upload listens to it.
  if (signal) setMaxListeners(0, signal);
  /** @type {Map<string, Promise<{ path: string, changed?: import("./types.js").FileChanged, error?: unknown }>>} */
  const running = new Map();
  /** @param {string} file */
  const upload = async (file) => {
    const path = pathOf(`${to.replace(/\/+$/, "")}/${relative(folder, file).split(sep).join("/")}`);
    try {
      const { content, ...times } = await openFile(file);
      return { path, changed: await client.upload(content, { path, spaceId, baseVersion: replace ? undefined : 0, signal, ...times }) };
    } catch (error) {
      return { path, error };
    }
  };
  const next = async () => {
    const [file, result] = await Promise.race([...running].map(async ([file, result]) => /** @type {const} */ ([file, await result])));
    running.delete(file);
    return result;
  };
  for await (const file of filesIn(folder)) {
    running.set(file, upload(file));
    if (running.size >= CONCURRENT) yield await next();
  }
  while (running.size > 0) yield await next();
}

/**
 * The paths of all files in a folder and its subfolders, without symbolic links. (`opendir` with `recursive` loses files under Node.js 20.)
 *
 * @param {string} folder
 * @returns {AsyncGenerator<string, void, void>}
 */
async function* filesIn(folder) {
  for await (const entry of await opendir(folder)) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* filesIn(path);
    else if (entry.isFile()) yield path;
  }
}

/**
 * Downloads a version of a file into a file, which appears under its name only after the content is verified.
 *
 * @param {import("./client.js").Client} client
 * @param {import("./client.js").VersionOfFile & { modifiedAt?: string, executable?: boolean }} file
 * @param {string} path an existing file is replaced
 * @param {{ signal?: AbortSignal, onProgress?: (bytes: number) => void }} [options]
 */
export async function downloadTo(client, file, path, { signal, onProgress = () => {} } = {}) {
  const partial = `${path}.${randomUUID()}${PARTIAL}`;
  const output = await open(partial, "wx", file.executable ? 0o777 : 0o666);
  try {
    try {
      let written = 0;
      for await (const piece of client.read(file, { signal })) {
        await output.writeFile(piece);
        written += piece.length;
        onProgress(written);
      }
      if (file.modifiedAt) await output.utimes(new Date(), new Date(file.modifiedAt));
      await output.sync();
    } finally {
      await output.close();
    }
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

/**
 * Keeps values in a folder, which only its owner can read: one file for each value. For the option `storage` of clients and sessions. Keys of
 * uploads that can no longer resume are deleted when the folder is opened.
 */
export class FolderStorage {
  /** @param {string} folder is created if it does not exist */
  constructor(folder) {
    this.folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(folder)) {
      const file = join(folder, name);
      const isOfUse = !name.endsWith(PARTIAL) && !Buffer.from(name, "base64url").toString().startsWith(KEPT);
      // Another process may delete it at the same time.
      const { mtimeMs } = isOfUse ? { mtimeMs: Infinity } : (statSync(file, { throwIfNoEntry: false }) ?? { mtimeMs: Infinity });
      if (Date.now() - mtimeMs > KEPT_FOR) rmSync(file, { force: true });
    }
  }

  /** @param {string} name */
  getItem(name) {
    try {
      return readFileSync(this.#file(name), "utf8");
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code === "ENOENT") return null;
      throw error;
    }
  }

  /**
   * @param {string} name
   * @param {string} value
   */
  setItem(name, value) {
    const file = this.#file(name);
    const partial = `${file}.${randomUUID()}${PARTIAL}`;
    writeFileSync(partial, value, { mode: 0o600, flush: true });
    renameSync(partial, file);
  }

  /** @param {string} name */
  removeItem(name) {
    rmSync(this.#file(name), { force: true });
  }

  /** @param {string} name */
  #file(name) {
    return join(this.folder, Buffer.from(name).toString("base64url"));
  }
}
