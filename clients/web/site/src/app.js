/** The state and actions of this window without its views: session, watcher, spaces and uploads, and their connections. */

import { Api, Clock, SessionExpiredError, Uploads, Watcher, download, put, removeOldKeys } from "../client/index.js";
import { Downloads } from "./downloads.js";
import { HISTORY, SpaceModel } from "./spaces.js";
import { quoted } from "./names.js";
import { cutOff, lastOf } from "./words.js";

/** The id of a personal space that the service has not created yet. The service creates it with the first file. */
const NOT_MADE_YET = "";

/** Pages of 500 files that a search reads before the user is asked whether to continue. */
const SEARCHED_PAGES = 40;

/** Key in `sessionStorage` of the names of unfinished uploads while the page reloads. */
const UNFINISHED = "syncsphere.unfinished";

/** Time in milliseconds over which windows reconnect after their network has returned. */
const BACK_ONLINE_SPREAD = 1_000;

/**
 * @typedef {import("../client/index.js").CognitoSession | import("../client/oidc.js").OidcSession} SignedSession
 * @typedef {import("../client/index.js").Change} Change
 * @typedef {import("../client/index.js").Space} Space
 * @typedef {{ id: string, text: string, kind: "error" | "info", undo?: () => Promise<unknown> }} Notice
 */

/** Dispatches the event `change` when the views must be updated, and `heard` after a change by another device. */
export class App extends EventTarget {
  /** @type {Map<string, SpaceModel>} */ spaces = new Map();
  selected = NOT_MADE_YET;
  /** @type {import("../client/index.js").WatcherState} */ connection = { phase: "connecting" };
  /** The invitations that this user can accept. @type {import("../client/index.js").ReceivedInvitation[]} */ invitations = [];
  /** The latency of the newest pushed change in milliseconds. @type {number | null} */ latency = null;
  /** The last time at which everything was current. @type {number | null} */ currentAt = null;
  /** @type {Notice[]} */ notices = [];
  /** The names of spaces that this user has left. @type {Map<string, string>} */ #formerNames = new Map();
  /** The epoch of the newest list of spaces. @type {string | undefined} */ #epoch;
  /** @type {Watcher | null} */ #watcher = null;

  /**
   * @param {string} url of the HTTP API
   * @param {SignedSession} session
   */
  constructor(url, session) {
    super();
    this.session = session;
    this.deviceId = deviceId();
    this.openedAt = Date.now();
    this.clock = new Clock();
    removeOldKeys(localStorage, this.openedAt);
    this.api = new Api(url, session, this.deviceId, { fetch: fetch.bind(window), random: Math.random, sleep });
    this.uploads = new Uploads({
      api: this.api,
      pause: (ms, signal) => untilEvent(window, "online", signal, ms),
      signedIn: (signal) => session.signedIn(signal),
      epoch: () => this.#epoch,
      storage: localStorage,
      now: Date.now,
      put,
      random: Math.random,
    });
    this.downloads = new Downloads({
      locate: (fileId, version) => this.api.locate(fileId, version),
      download,
      save: saveAs,
      fail: (context, error) => this.fail(error, context),
    });
    for (const transfers of [this.uploads, this.downloads]) transfers.addEventListener("change", () => this.tell());
    session.addEventListener("change", () => this.#sessionChanged());
    window.addEventListener("online", () => setTimeout(() => this.#watcher?.wake(), Math.random() * BACK_ONLINE_SPREAD));
    window.addEventListener("offline", () => this.#watcher?.lose());
    window.addEventListener("pagehide", () => {
      const names = this.uploads.unfinished(this.userId).map(lastOf);
      if (names.length > 0) sessionStorage.setItem(UNFINISHED, JSON.stringify({ userId: this.userId, names }));
    });
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#watcher?.wake();
    });
  }

  get userId() {
    return this.session.user?.userId ?? "";
  }

  /** @returns {SpaceModel | undefined} */
  get space() {
    return this.spaces.get(this.selected);
  }

  /** Checks or opens the connection at once. */
  reconnect() {
    this.#watcher?.wake();
  }

  tell() {
    this.dispatchEvent(new Event("change"));
  }

  // ------------------------------------------------------------------------------------------------ Session

  #sessionChanged() {
    if (this.session.state === "active") {
      if (this.#watcher) this.#watcher.wake();
      else this.#begin();
    } else if (this.session.state === "signed-out") {
      this.#watcher?.stop();
      this.#watcher = null;
      this.uploads.remove(this.uploads.all);
      // Nothing of the former user's data remains, neither on the page nor in memory. A provider signs the user out on its page.
      const page = "signOutPage" in this.session ? this.session.signOutPage : null;
      if (page) location.assign(page);
      else location.reload();
    }
    this.tell();
  }

  #begin() {
    this.#personalSpace();
    const unfinished = sessionStorage.getItem(UNFINISHED);
    sessionStorage.removeItem(UNFINISHED);
    if (unfinished) {
      const { userId, names } = JSON.parse(unfinished);
      if (userId === this.userId) this.notify("info", cutOff(names));
    }
    this.#watcher = new Watcher({
      source: {
        createTicket: async () => {
          const askedAt = Date.now();
          const ticket = await this.api.createTicket();
          this.clock.learn(ticket.expiresAt, askedAt, Date.now());
          return ticket;
        },
        listSpaces: async () => {
          const listed = await this.api.listSpaces();
          this.#epoch = listed.epoch;
          return listed;
        },
        listChanges: (spaceId, after, limit) => this.api.listChanges(spaceId, after, limit),
      },
      openSocket: (url) => new WebSocket(url),
      timers: { now: Date.now, set: (callback, ms) => setTimeout(callback, ms), clear: (timer) => clearTimeout(timer) },
      random: Math.random,
      // Older changes than the displayed ones are already part of the list of files.
      startAt: (space) => Math.max(0, space.latestSequence - HISTORY),
      onChange: (change, heardAt) => this.#apply(change, heardAt),
      onSpaces: (spaces) => this.#updateSpaces(spaces),
      onRewound: (space) => this.#rewound(space),
      onState: (state) => {
        this.connection = state;
        if (state.phase === "live" || state.phase === "polling") {
          this.currentAt = Date.now();
          void this.#readInvitations();
        }
        this.tell();
      },
    });
    this.api.onfeedreset = () => this.#watcher?.listAgain();
    this.#watcher.start();
  }

  // ------------------------------------------------------------------------------------------------ Spaces

  #personalSpace() {
    const space = new SpaceModel({ spaceId: NOT_MADE_YET, kind: "personal", role: "owner", latestSequence: 0 });
    space.listing = "loaded";
    this.spaces.set(NOT_MADE_YET, space);
  }

  /** @param {Space[]} spaces */
  #updateSpaces(spaces) {
    const personal = spaces.find((space) => space.kind === "personal");
    if (personal && this.spaces.delete(NOT_MADE_YET) && this.selected === NOT_MADE_YET) this.selected = personal.spaceId;
    const ids = new Set(spaces.map((space) => space.spaceId));
    for (const [spaceId, space] of this.spaces) {
      if (ids.has(spaceId) || spaceId === NOT_MADE_YET) continue;
      this.spaces.delete(spaceId);
      if (space.space.kind === "personal") {
        // Restored to a time before the service made it, which makes another one.
        this.#tellRestored(space);
        if (this.selected === spaceId) this.selected = personal?.spaceId ?? NOT_MADE_YET;
        continue;
      }
      this.#formerNames.set(spaceId, space.name);
      const [last] = space.happenings.filter(({ change }) => change.eventType === "SPACE_DELETED" || change.eventType === "SPACE_RESTORED");
      if (last?.change.eventType !== "SPACE_DELETED") this.notify("info", `You have no access to ${quoted(space.name)} any more.`);
      // This window's own deletion has a notice already.
      else if (last.change.deviceId !== this.deviceId) this.notify("info", `${quoted(space.name)} was deleted. Its owners can restore it for a time.`);
      if (this.selected === spaceId) this.selected = personal?.spaceId ?? NOT_MADE_YET;
    }
    for (const space of spaces) {
      const known = this.spaces.get(space.spaceId);
      if (known) known.space = { ...space, latestSequence: Math.max(space.latestSequence, known.space.latestSequence) };
      else this.spaces.set(space.spaceId, new SpaceModel(space));
    }
    this.select(this.selected);
  }

  /**
   * Handles a restore of the service's database to an earlier state. The window only shows the space, so it reads the space again.
   *
   * @param {Space} space
   */
  #rewound(space) {
    const anew = new SpaceModel(space);
    this.spaces.set(space.spaceId, anew);
    this.#tellRestored(anew);
  }

  /** @param {SpaceModel} space */
  #tellRestored({ name }) {
    this.notify("error", `${quoted(name)} was restored to an earlier state. What was changed since may be missing: look through it, and add again what is not there.`);
  }

  /** @param {string} spaceId */
  select(spaceId) {
    this.selected = spaceId;
    const space = this.space;
    if (space && (space.listing === "new" || space.listing === "failed")) this.load();
    this.tell();
  }

  /** Reads the next page of the selected space's files. */
  load() {
    const { space } = this;
    if (space) this.#show(space.load((spaceId, pageToken) => this.#listFiles(spaceId, pageToken)));
  }

  /**
   * Reads more of the selected space's files for a search.
   *
   * @param {() => boolean} isWanted
   */
  search(isWanted) {
    const { space } = this;
    if (space) this.#show(space.readOn((spaceId, pageToken) => this.#listFiles(spaceId, pageToken), SEARCHED_PAGES, isWanted));
  }

  /**
   * @param {string} spaceId
   * @param {string | undefined} pageToken
   */
  async #listFiles(spaceId, pageToken) {
    // Updates the progress.
    this.tell();
    return this.api.listFiles(spaceId, pageToken);
  }

  /** @param {Promise<void>} reading */
  #show(reading) {
    this.tell();
    reading.catch((error) => this.fail(error)).finally(() => this.tell());
  }

  /**
   * @param {Change} change
   * @param {number | null} heardAt
   */
  #apply(change, heardAt) {
    const latency = heardAt === null ? null : this.clock.latency(change.occurredAt, heardAt);
    if (latency !== null) this.latency = latency;
    // The service's clock and this one may differ. The difference affects only the displayed text.
    const past = Date.parse(change.occurredAt) < this.openedAt;
    this.spaces.get(change.spaceId)?.apply(change, latency, past);
    if (latency !== null && (change.eventType === "SPACE_INVITED" || change.eventType === "SPACE_SHARED")) void this.#readInvitations();
    if (latency !== null && change.deviceId !== this.deviceId) {
      this.dispatchEvent(new CustomEvent("heard", { detail: { change, latency } }));
    }
    this.tell();
  }

  async #readInvitations() {
    try {
      this.invitations = await this.api.receivedInvitations();
    } catch (error) {
      this.fail(error, "Your invitations could not be read. ");
    }
    this.tell();
  }

  /**
   * Accepts or declines an invitation.
   *
   * @param {import("../client/index.js").ReceivedInvitation} invitation
   * @param {"accept" | "decline" | "block"} answer
   */
  async answerInvitation({ invitationId }, answer) {
    try {
      if (answer === "accept") await this.api.acceptInvitation(invitationId);
      else await this.api.declineInvitation(invitationId, answer === "block");
    } catch (error) {
      this.fail(error);
    }
    await this.#readInvitations();
  }

  /** @param {string} spaceId */
  spaceName(spaceId) {
    return this.spaces.get(spaceId)?.name ?? this.#formerNames.get(spaceId);
  }

  // ------------------------------------------------------------------------------------------------ Files

  /**
   * Uploads a file to a place in a space.
   *
   * @param {SpaceModel} space
   * @param {File} file
   * @param {import("./adding.js").Place} place
   */
  upload(space, file, place) {
    // The personal space is that of the user, whatever its id.
    this.uploads.add(file, { userId: this.userId, spaceId: space.space.kind === "personal" ? NOT_MADE_YET : space.id, ...place });
  }

  /** The space of an upload. Uploads to the personal space do not name it. @param {string} spaceId */
  spaceOf(spaceId) {
    return this.spaces.get(spaceId) ?? (spaceId === NOT_MADE_YET ? [...this.spaces.values()].find(({ space }) => space.kind === "personal") : undefined);
  }

  // ------------------------------------------------------------------------------------------------ Notices

  /**
   * Shows a notice of a failure, except of an expired session, which has its own view.
   *
   * @param {unknown} error
   */
  fail(error, context = "") {
    if (!(error instanceof SessionExpiredError)) this.notify("error", context + String(/** @type {Error} */ (error).message));
  }

  /**
   * @param {"error" | "info"} kind
   * @param {string} text
   */
  notify(kind, text) {
    // The same text is shown only once.
    this.notices = [...this.notices.filter((notice) => notice.text !== text), { id: crypto.randomUUID(), text, kind }].slice(-3);
    this.tell();
  }

  /**
   * Shows a notice that offers to undo what was done. It replaces the offer for what was done before.
   *
   * @param {string} text
   * @param {() => Promise<unknown>} undo
   */
  offerUndo(text, undo) {
    this.notices = [...this.notices.filter((notice) => !notice.undo), { id: crypto.randomUUID(), text, kind: /** @type {const} */ ("info"), undo }].slice(-3);
    this.tell();
  }

  /** @param {Notice} notice */
  dismiss(notice) {
    this.notices = this.notices.filter(({ id }) => id !== notice.id);
    this.tell();
  }
}

/** The device id of this window, which distinguishes its own changes from others. */
function deviceId() {
  const id = sessionStorage.getItem("syncsphere.device") ?? crypto.randomUUID();
  sessionStorage.setItem("syncsphere.device", id);
  return id;
}

/** @param {number} ms @returns {Promise<void>} */
function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * Waits for an event, at most for the given time.
 *
 * @param {EventTarget} target
 * @param {string} type
 * @param {AbortSignal} signal
 * @param {number} [ms]
 * @returns {Promise<void>}
 */
function untilEvent(target, type, signal, ms) {
  return new Promise((resolve, reject) => {
    const ended = new AbortController();
    const end = (/** @type {() => void} */ settle) => () => {
      ended.abort();
      settle();
    };
    target.addEventListener(type, end(resolve), { signal: ended.signal });
    signal.addEventListener("abort", end(() => reject(signal.reason)), { signal: ended.signal });
    if (ms !== undefined) {
      const timer = setTimeout(end(resolve), ms);
      ended.signal.addEventListener("abort", () => clearTimeout(timer));
    }
  });
}

/**
 * @param {Blob} content
 * @param {string} name
 */
function saveAs(content, name) {
  const url = URL.createObjectURL(content);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The browser has started to save the file by then.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
