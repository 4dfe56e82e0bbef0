/** The HTTP API (docs/openapi.yaml). */

import { Batcher, Capabilities } from "./batch.js";
import { ProblemError, SessionExpiredError, UnreachableError, isPassing } from "./errors.js";
import { fullJitter } from "./timing.js";

/** Timeout of a request in milliseconds. API Gateway itself waits 30 s. */
const TIMEOUT = 31_000;

/** Maximum number of attempts. All requests can be repeated; those that create something have an `Idempotency-Key`. */
const ATTEMPTS = 4;

const RETRY = { first: 500, limit: 4_000 };

/**
 * @typedef {import("./types.js").Role} Role
 * @typedef {Pick<import("./types.js").FileView, "fileId" | "version" | "path">} Seen
 * @typedef {{ path: string, size: number, sha256: string, contentType?: string, spaceId?: string, baseVersion?: number, baseFileId?: string,
 *   modifiedAt?: string, executable?: boolean, deviceId: string }} NewUpload
 *
 * @typedef {object} Parameters
 * @property {Record<string, string | number | undefined>} [query]
 * @property {unknown} [body]
 * @property {string} [key]
 * @property {string | undefined} [epoch] by default that of the newest list of spaces
 * @property {AbortSignal} [signal]
 */

export class Api {
  /** The epoch of the newest list of spaces. @type {string | undefined} */ #epoch;

  /** @type {Batcher<{ upload: NewUpload, key: string }, import("./types.js").CreatedUpload>} */ #opening;
  /** @type {Batcher<string, import("./types.js").FileChanged>} */ #completing;

  /** Called when a request is refused because the service was restored since the newest list of spaces. */
  onfeedreset = () => {};

  /**
   * @param {string} url
   * @param {Pick<import("./session.js").Session, "token" | "refused" | "expire" | "user">} session
   * @param {string} deviceId
   * @param {{ fetch: typeof fetch, random: () => number, sleep: (ms: number) => Promise<void> }} world
   */
  constructor(url, session, deviceId, world) {
    this.url = url.replace(/\/$/, "");
    this.session = session;
    this.deviceId = deviceId;
    this.world = world;
    const service = new Capabilities();
    this.#opening = new Batcher(
      {
        idOf: ({ key }) => key,
        single: ({ upload, key }, epoch, signal) => this.#createOne(upload, { key, epoch, signal }),
        batch: (items, epoch) => {
          const uploads = items.map(({ upload, key }) => ({ ...upload, idempotencyKey: key }));
          return this.#authorized("POST", "/uploads/batch", { body: { uploads }, epoch });
        },
        output: ({ upload }) => upload,
        discard: ({ uploadId }) => void this.abortUpload(uploadId).catch(() => {}),
      },
      service,
      world.sleep,
    );
    this.#completing = new Batcher(
      {
        idOf: (uploadId) => uploadId,
        single: (uploadId, epoch, signal) => this.#authorized("POST", `/uploads/${uploadId}/complete`, { body: {}, epoch, signal }),
        batch: (uploadIds, epoch) => this.#authorized("POST", "/uploads/batch/complete", { body: { uploadIds }, epoch }),
        output: ({ change }) => change,
      },
      service,
      world.sleep,
    );
  }

  // ------------------------------------------------------------------------------------------------ Spaces

  /**
   * The caller's spaces, and the current epoch, which all later requests name.
   *
   * @returns {Promise<{ spaces: import("./types.js").Space[], epoch: string }>}
   */
  async listSpaces() {
    // This request names no epoch, so it succeeds in any.
    this.#epoch = undefined;
    const [spaces, { epoch }] = await this.#all("/spaces", "spaces");
    this.#epoch = epoch;
    return { spaces, epoch };
  }

  /** The epoch of the newest list of spaces. */
  get epoch() {
    return this.#epoch;
  }

  /**
   * @param {string} spaceId
   * @returns {Promise<import("./types.js").Space>}
   */
  showSpace(spaceId) {
    return this.#send("GET", `/spaces/${spaceId}`, {});
  }

  /**
   * @param {string} spaceId
   * @param {string} name
   * @returns {Promise<import("./types.js").Space>}
   */
  renameSpace(spaceId, name) {
    return this.#send("PATCH", `/spaces/${spaceId}`, { body: { name, deviceId: this.deviceId } });
  }

  /**
   * @param {string} name
   * @param {string} [key] the idempotency key, with which a repetition makes no second space
   * @returns {Promise<import("./types.js").Space>}
   */
  createSpace(name, key = crypto.randomUUID()) {
    return this.#send("POST", "/spaces", { body: { name, deviceId: this.deviceId }, key });
  }

  /**
   * Deletes a space for all of its members. Its owners can restore it for a time.
   *
   * @param {string} spaceId
   * @returns {Promise<void>}
   */
  deleteSpace(spaceId) {
    return this.#send("DELETE", `/spaces/${spaceId}`, { query: { deviceId: this.deviceId } });
  }

  /** The deleted spaces that the caller can restore. @returns {Promise<import("./types.js").DeletedSpace[]>} */
  deletedSpaces() {
    return this.#all("/spaces", "spaces", { deleted: "true" }).then(([spaces]) => spaces);
  }

  /**
   * @param {string} spaceId
   * @returns {Promise<import("./types.js").Space>}
   */
  restoreSpace(spaceId) {
    return this.#send("POST", `/spaces/${spaceId}/restore`, { body: { deviceId: this.deviceId } });
  }

  /**
   * @param {string} spaceId
   * @returns {Promise<import("./types.js").Member[]>}
   */
  listMembers(spaceId) {
    return this.#all(`/spaces/${spaceId}/members`, "members").then(([members]) => members);
  }

  /**
   * @param {string} spaceId
   * @param {string} userId
   * @returns {Promise<import("./types.js").Member>}
   */
  showMember(spaceId, userId) {
    return this.#send("GET", `/spaces/${spaceId}/members/${encodeURIComponent(userId)}`, {});
  }

  /**
   * @param {string} spaceId
   * @param {string} userId
   * @param {Role} role
   * @returns {Promise<import("./types.js").Member>}
   */
  setMember(spaceId, userId, role) {
    const path = `/spaces/${spaceId}/members/${encodeURIComponent(userId)}`;
    return this.#send("PUT", path, { body: { role, deviceId: this.deviceId } });
  }

  /**
   * @param {string} spaceId
   * @param {string} userId
   * @returns {Promise<void>}
   */
  removeMember(spaceId, userId) {
    const path = `/spaces/${spaceId}/members/${encodeURIComponent(userId)}`;
    return this.#send("DELETE", path, { query: { deviceId: this.deviceId } });
  }

  /**
   * @param {string} spaceId
   * @param {{ userId: string } | { email: string }} person
   * @param {Role} role
   * @returns {Promise<import("./types.js").Invitation>}
   */
  invite(spaceId, person, role) {
    return this.#send("POST", `/spaces/${spaceId}/invitations`, { body: { ...person, role, deviceId: this.deviceId } });
  }

  /**
   * @param {string} spaceId
   * @returns {Promise<import("./types.js").Invitation[]>}
   */
  listInvitations(spaceId) {
    return this.#all(`/spaces/${spaceId}/invitations`, "invitations").then(([invitations]) => invitations);
  }

  /**
   * @param {string} spaceId
   * @param {string} invitationId
   * @returns {Promise<void>}
   */
  withdrawInvitation(spaceId, invitationId) {
    return this.#send("DELETE", `/spaces/${spaceId}/invitations/${invitationId}`, {});
  }

  /** @returns {Promise<import("./types.js").ReceivedInvitation[]>} */
  receivedInvitations() {
    return this.#all("/invitations", "invitations").then(([invitations]) => invitations);
  }

  /**
   * @param {string} invitationId
   * @returns {Promise<import("./types.js").Member>}
   */
  acceptInvitation(invitationId) {
    return this.#send("POST", `/invitations/${invitationId}/accept`, { body: { deviceId: this.deviceId } });
  }

  /**
   * @param {string} invitationId
   * @param {boolean} block whether to see no more invitations of the same person
   * @returns {Promise<void>}
   */
  declineInvitation(invitationId, block) {
    return this.#send("POST", `/invitations/${invitationId}/decline`, { body: { block } });
  }

  // ------------------------------------------------------------------------------------------------ Account

  /** @returns {Promise<import("./types.js").Account>} */
  showAccount() {
    return this.#send("GET", "/me", {});
  }

  /** Erases the account for good. From then on the caller's requests are refused. @returns {Promise<void>} */
  eraseAccount() {
    return this.#send("DELETE", "/me", {});
  }

  // ------------------------------------------------------------------------------------------------ Changes

  /**
   * @param {string} spaceId
   * @param {number} after
   * @param {number} limit
   * @returns {Promise<import("./types.js").ChangeList>}
   */
  listChanges(spaceId, after, limit) {
    return this.#send("GET", "/changes", { query: { spaceId, after, limit } });
  }

  /** @returns {Promise<import("./types.js").Ticket>} */
  createTicket() {
    return this.#send("POST", "/tickets", { body: { deviceId: this.deviceId } });
  }

  // ------------------------------------------------------------------------------------------------ Files

  /**
   * @param {string} spaceId
   * @param {string | undefined} pageToken
   * @returns {Promise<{ files: import("./types.js").FileView[], nextPageToken?: string }>}
   */
  listFiles(spaceId, pageToken) {
    return this.#send("GET", "/files", { query: { spaceId, limit: 500, pageToken } });
  }

  /**
   * All files whose paths begin with a prefix, such as those of a folder and its subfolders, in the order of their paths.
   *
   * @param {string} [spaceId] by default the personal space
   * @param {string} [prefix] such as `/Docs/`
   * @returns {AsyncGenerator<import("./types.js").FileView, void, void>}
   */
  async *files(spaceId, prefix) {
    /** @type {string | undefined} */
    let pageToken;
    do {
      /** @type {{ files: import("./types.js").FileView[], nextPageToken?: string }} */
      const page = await this.#send("GET", "/files", { query: { spaceId, prefix, limit: 1_000, pageToken } });
      yield* page.files;
      pageToken = page.nextPageToken;
    } while (pageToken);
  }

  /**
   * A page of what a folder contains directly.
   *
   * @param {string | undefined} spaceId by default the personal space
   * @param {string} folder such as `/Docs`; an empty string for the root
   * @param {string} [pageToken]
   * @returns {Promise<import("./types.js").FolderList>}
   */
  listFolder(spaceId, folder, pageToken) {
    return this.#send("GET", "/files", { query: { spaceId, folder, limit: 500, pageToken } });
  }

  /**
   * Moves and deletes up to 100 files. Each action has its own result, in their order; those of one space are committed together.
   *
   * @param {import("./types.js").FileAction[]} changes
   * @returns {Promise<import("./types.js").FileActionResult[]>}
   */
  async changeFiles(changes) {
    const { results } = await this.#send("POST", "/files/batch", { body: { changes, deviceId: this.deviceId } });
    return results;
  }

  /**
   * The file, and a page of its versions, newest first.
   *
   * @param {string} fileId
   * @param {string} [pageToken]
   * @returns {Promise<import("./types.js").FileDetail>}
   */
  showFile(fileId, pageToken) {
    return this.#send("GET", `/files/${fileId}`, { query: { pageToken } });
  }

  /**
   * A page of the trash of a space, newest deletion first.
   *
   * @param {string} spaceId
   * @param {string | undefined} pageToken
   * @returns {Promise<{ files: import("./types.js").DeletedFile[], nextPageToken?: string }>}
   */
  listTrash(spaceId, pageToken) {
    return this.#send("GET", "/files", { query: { deleted: "true", spaceId, limit: 100, pageToken } });
  }

  /**
   * Restores a file from the trash, with all of its versions.
   *
   * @param {string} fileId
   * @param {string} [path] the new path; by default the path that the file had
   * @returns {Promise<import("./types.js").FileChanged>}
   */
  restoreFile(fileId, path) {
    return this.#send("POST", `/files/${fileId}/restore`, { body: { path, deviceId: this.deviceId } });
  }

  /**
   * Makes an old version the newest one.
   *
   * @param {string} fileId
   * @param {number} version
   * @param {number} baseVersion the newest version that was seen
   * @returns {Promise<import("./types.js").FileChanged>}
   */
  restoreVersion(fileId, version, baseVersion) {
    return this.#send("POST", `/files/${fileId}/versions/${version}/restore`, { body: { baseVersion, deviceId: this.deviceId } });
  }

  /**
   * Erases a file with all of its versions, in the trash or not. Only owners of the space can.
   *
   * @param {Seen} file as it was seen
   * @returns {Promise<import("./types.js").FileChanged>}
   */
  eraseFile({ fileId, version, path: basePath }) {
    return this.#send("DELETE", `/files/${fileId}`, { query: { permanently: "true", baseVersion: version, basePath, deviceId: this.deviceId } });
  }

  /**
   * Returns the URL of a version's content, valid for some minutes.
   *
   * @param {string} fileId
   * @param {number} version
   * @returns {Promise<{ url: string }>}
   */
  locate(fileId, version) {
    return this.#send("GET", `/files/${fileId}/content`, { query: { version } });
  }

  /**
   * @param {Seen} file as it was seen
   * @param {string} path the new path
   * @returns {Promise<import("./types.js").FileChanged>}
   */
  moveFile({ fileId, version, path: basePath }, path) {
    const body = { path, baseVersion: version, deviceId: this.deviceId };
    return this.#sendNewer("PATCH", `/files/${fileId}`, { body: { ...body, basePath } }, { body });
  }

  /**
   * @param {Seen} file as it was seen
   * @returns {Promise<import("./types.js").FileChanged>}
   */
  deleteFile({ fileId, version, path: basePath }) {
    const query = { baseVersion: version, deviceId: this.deviceId };
    return this.#sendNewer("DELETE", `/files/${fileId}`, { query: { ...query, basePath } }, { query });
  }

  // ------------------------------------------------------------------------------------------------ Uploads

  /** Uploads that are neither complete nor ended, of all devices of the user. @returns {Promise<import("./types.js").PendingUpload[]>} */
  pendingUploads() {
    return this.#all("/uploads", "uploads").then(([uploads]) => uploads);
  }

  /**
   * Opens an upload, in one request with others that are opened at the same time.
   *
   * @param {NewUpload} upload
   * @param {string} key
   * @param {AbortSignal} signal
   * @returns {Promise<import("./types.js").CreatedUpload>}
   */
  createUpload(upload, key, signal) {
    const epoch = this.#epoch;
    return this.#retried(() => this.#opening.call({ upload, key }, epoch, signal), signal);
  }

  /**
   * @param {NewUpload} upload
   * @param {{ key: string, epoch: string | undefined, signal: AbortSignal }} parameters
   * @returns {Promise<import("./types.js").CreatedUpload>}
   */
  #createOne(upload, parameters) {
    const { baseFileId, modifiedAt, executable, ...former } = upload;
    const isFormer = baseFileId === undefined && modifiedAt === undefined && executable === undefined;
    const send = (/** @type {unknown} */ body) => this.#authorized("POST", "/uploads", { ...parameters, body });
    return isFormer ? send(former) : inFormerWords(() => send(upload), () => send(former));
  }

  /**
   * @param {string} uploadId
   * @param {{ partNumber: number, sha256: string }[]} parts
   * @param {AbortSignal} signal
   * @returns {Promise<{ parts: (import("./types.js").PresignedPut & { partNumber: number })[] }>}
   */
  presignParts(uploadId, parts, signal) {
    return this.#send("POST", `/uploads/${uploadId}/parts`, { body: { parts }, signal });
  }

  /**
   * @param {string} uploadId
   * @param {AbortSignal} signal
   * @returns {Promise<import("./types.js").UploadView>}
   */
  showUpload(uploadId, signal) {
    return this.#send("GET", `/uploads/${uploadId}`, { signal });
  }

  /**
   * Completes an upload, in one request with others that are completed at the same time.
   *
   * @param {string} uploadId
   * @param {AbortSignal} signal
   * @returns {Promise<import("./types.js").FileChanged>}
   */
  completeUpload(uploadId, signal) {
    const epoch = this.#epoch;
    return this.#retried(() => this.#completing.call(uploadId, epoch, signal), signal);
  }

  /**
   * @param {string} uploadId
   * @returns {Promise<void>}
   */
  abortUpload(uploadId) {
    return this.#send("DELETE", `/uploads/${uploadId}`, {});
  }

  // ------------------------------------------------------------------------------------------------ Requests

  /**
   * @param {string} path
   * @param {string} name of the list in the answer
   * @param {Record<string, string>} [query]
   * @returns {Promise<[any[], any]>} the items of all pages, and the last page
   */
  async #all(path, name, query = {}) {
    const all = [];
    /** @type {any} */
    let page;
    /** @type {string | undefined} */
    let pageToken;
    do {
      page = await this.#send("GET", path, { query: { ...query, limit: 1_000, pageToken } });
      all.push(...page[name]);
      pageToken = page.nextPageToken;
    } while (pageToken);
    return [all, page];
  }

  /**
   * Sends a request, and repeats it a few times until it is answered.
   *
   * @param {string} method
   * @param {string} path
   * @param {Parameters} parameters
   * @returns {Promise<any>}
   */
  #send(method, path, parameters) {
    return this.#retried(() => this.#authorized(method, path, parameters), parameters.signal);
  }

  /**
   * @template T
   * @param {() => Promise<T>} attempt
   * @param {AbortSignal | undefined} signal
   * @returns {Promise<T>}
   */
  async #retried(attempt, signal) {
    for (let failures = 0; ; failures += 1) {
      try {
        return await attempt();
      } catch (error) {
        if (error instanceof ProblemError && error.code === "feed-reset") this.onfeedreset();
        const retryAfter = error instanceof ProblemError ? error.retryAfter : 0;
        // The caller decides about a longer time.
        if (!isPassing(error) || failures + 1 >= ATTEMPTS || retryAfter > RETRY.limit) throw error;
        await this.world.sleep(retryAfter + fullJitter(failures, RETRY, this.world.random));
        signal?.throwIfAborted();
      }
    }
  }

  /**
   * Sends a request in the form of the newest release of the service, or in the previous form.
   *
   * @param {string} method
   * @param {string} path
   * @param {Parameters} newest
   * @param {Parameters} former
   */
  #sendNewer(method, path, newest, former) {
    return inFormerWords(() => this.#send(method, path, newest), () => this.#send(method, path, former));
  }

  /**
   * Sends a request with a token. If the token is refused, sends it again with a new one.
   *
   * @param {string} method
   * @param {string} path
   * @param {Parameters} parameters
   */
  async #authorized(method, path, parameters) {
    for (const last of [false, true]) {
      const token = await this.session.token();
      const answer = await this.#once(method, path, parameters, token);
      if (answer.status !== 401) return read(answer);
      this.session.refused(token);
      if (last) this.session.expire();
    }
    throw new SessionExpiredError();
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {Parameters} parameters
   * @param {string} token
   */
  async #once(method, path, { query = {}, body, key, epoch = this.#epoch, signal }, token) {
    const url = new URL(this.url + path);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    /** @type {Record<string, string>} */
    const headers = { Accept: "application/json", Authorization: `Bearer ${token}` };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (key !== undefined) headers["Idempotency-Key"] = key;
    if (epoch !== undefined) headers["Syncsphere-Epoch"] = epoch;
    const timeout = AbortSignal.timeout(TIMEOUT);
    try {
      return await this.world.fetch(url, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        cache: "no-store",
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      });
    } catch (error) {
      signal?.throwIfAborted();
      throw new UnreachableError(error);
    }
  }
}

/**
 * Sends a request in the form of the newest release of the service. If the previous release answers, as during a deployment, it refuses unknown
 * fields without any effect, and the request is sent again in the previous form.
 *
 * @template T
 * @param {() => Promise<T>} newest
 * @param {() => Promise<T>} former
 * @returns {Promise<T>}
 */
async function inFormerWords(newest, former) {
  try {
    return await newest();
  } catch (error) {
    if (!(error instanceof ProblemError && error.code === "invalid-request")) throw error;
    return former();
  }
}

/** @param {Response} answer */
async function read(answer) {
  let text;
  try {
    text = await answer.text();
  } catch (error) {
    throw new UnreachableError(error);
  }
  if (answer.ok) return text ? JSON.parse(text) : undefined;
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    body = {};
  }
  const retryAfter = Number(answer.headers.get("Retry-After")) || undefined;
  throw new ProblemError(answer.status, { retryAfter, ...body });
}
