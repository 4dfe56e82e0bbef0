/**
 * Receives every change of every space, each exactly once and in order, also when the network fails.
 *
 * A frame is a hint: it may come twice, late, out of order or not at all. The feed, `GET /changes`, is the truth. A change that follows the
 * last applied one is applied at once, and older ones are ignored. Whenever a number jumps, and after every connect, the client reads the
 * feed from its own number.
 */

import { Connection } from "./connection.js";
import { ProblemError, SessionExpiredError, UnreachableError } from "./errors.js";
import { Feed } from "./feed.js";
import { POLL_INTERVAL, PULL_RETRY, RECONNECT_LIMIT, RECONNECT_SPREAD, ROTATION, ROTATION_RETRY, STABLE_AFTER, between, fullJitter } from "./timing.js";

/** Changes per request, the API's maximum. */
const PAGE = 1_000;

/**
 * @typedef {import("./connection.js").Socket} Socket
 * @typedef {import("./connection.js").Timers} Timers
 * @typedef {import("./types.js").Space} Space
 * @typedef {import("./types.js").Change} Change
 *
 * @typedef {object} Source The HTTP requests that the watcher needs.
 * @property {() => Promise<{ url: string }>} createTicket
 * @property {() => Promise<{ spaces: Space[], epoch: string }>} listSpaces
 * @property {(spaceId: string, after: number, limit: number) => Promise<{ changes: Change[], hasMore: boolean }>} listChanges
 *
 * @typedef {{ phase: "connecting" | "catching-up" | "live" | "polling" | "expired" } | { phase: "waiting", until: number }} State `polling`: no
 *   WebSocket can be opened, for example because the network refuses them, and the feed is read every 30 to 60 s.
 *
 * @typedef {object} Options
 * @property {Source} source
 * @property {(url: string) => Socket} openSocket
 * @property {Timers} timers
 * @property {() => number} random from 0 to 1
 * @property {(space: Space) => number} startAt The last sequence number that the caller has applied in a space that is new to the watcher.
 * @property {string} [epoch] The epoch of these numbers, if the caller has stored one.
 * @property {string} [spaceId] The only space to watch.
 * @property {(change: Change, heardAt: number | null) => void} onChange `heardAt`, in milliseconds, is null for changes from the feed.
 * @property {(spaces: Space[]) => void} onSpaces
 * @property {(space: Space) => void} onRewound The space no longer has the last applied change, because the service's database was restored. From
 *   then on the space is new to the watcher; `onSpaces` follows.
 * @property {(state: State) => void} onState `polling` comes each time that the feed was read.
 * @property {(epoch: string) => void} [onEpoch] receives the epoch at the start, and each other one after `onRewound` was called for all spaces
 * @property {(error: unknown) => void} [onEnd] receives the error with which the watcher has stopped: the user has no access to `spaceId` any more
 * @property {() => boolean} [isFull] whether the caller takes no more changes now
 * @property {() => Promise<void>} [drained] settles when the caller takes changes again
 */

export class Watcher {
  /** @type {Options} */ #options;
  /** @type {Map<string, Feed>} */ #feeds = new Map();
  /** @type {Connection | null} */ #connection = null;
  /** Whether the last ping was answered, in which case connections without an answer are dead. */ #pings = { answered: true };
  /** @type {State} */ #state = { phase: "connecting" };
  #stopped = false;
  #dialing = false;
  #failures = 0;
  /** @type {unknown} */ #reconnectTimer = null;
  /** @type {unknown} */ #rotationTimer = null;
  /** Whether the feed is read without a connection, because none can be opened. */ #polls = false;
  /** @type {unknown} */ #pollTimer = null;
  /** The time of the next attempt to connect. */ #reconnectAt = 0;

  /** The epoch of the newest list of spaces, or that of the caller. @type {string | null} */ #epoch = null;
  /** The epoch of which the caller knows. @type {string | null} */ #toldEpoch = null;
  /** Whether the spaces were listed. */ #hasListed = false;
  /** @type {Promise<void> | null} */ #sweep = null;
  #sweepAgain = false;
  #sweepFailures = 0;
  /** @type {unknown} */ #sweepTimer = null;

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    this.#epoch = options.epoch ?? null;
  }

  get state() {
    return this.#state;
  }

  start() {
    void this.#connect();
  }

  /** Connects at once, or checks the connection. Call it when the network, the window or the session is back. */
  wake() {
    if (this.#stopped) return;
    if (this.#connection) {
      this.#connection.probe();
      if (this.#state.phase !== "live") void this.#catchUp();
    } else if (!this.#dialing) {
      this.#clear();
      this.#failures = 0;
      void this.#connect();
    }
  }

  /** Reads everything again. Call it when the service has said that its database was restored. */
  listAgain() {
    if (this.#connection && !this.#stopped) void this.#catchUp();
  }

  /** Drops the connection. Call it when the network is known to be down. */
  lose() {
    this.#connection?.end();
  }

  stop() {
    this.#stopped = true;
    this.#clear();
    this.#connection?.close();
    this.#connection = null;
  }

  // ------------------------------------------------------------------------------------------------ Connecting

  async #connect() {
    if (this.#state.phase !== "polling") this.#enter({ phase: "connecting" });
    try {
      this.#adopt(await this.#dial());
    } catch (error) {
      this.#reconnect(error);
      // All other clients may have lost their connections at the same moment, so only who cannot open one polls.
      if (!this.#stopped && this.#reconnectTimer !== null) this.#poll();
      return;
    }
    await this.#catchUp();
  }

  /** @returns {Promise<Connection>} */
  async #dial() {
    const { source, openSocket, timers, random } = this.#options;
    this.#dialing = true;
    try {
      const epoch = this.#epoch;
      const { url } = await source.createTicket();
      if (this.#stopped) throw new UnreachableError("stopped");
      const connection = new Connection(openSocket(url), timers, random, this.#pings);
      connection.epoch = epoch;
      connection.onframe = (frame) => this.#hear(frame);
      connection.onend = () => this.#lost(connection);
      await connection.opened;
      return connection;
    } finally {
      this.#dialing = false;
    }
  }

  /** @param {Connection} connection */
  #adopt(connection) {
    if (this.#stopped) {
      connection.close();
      return;
    }
    const former = this.#connection;
    this.#connection = connection;
    this.#polls = false;
    this.#options.timers.clear(this.#pollTimer);
    if (this.#isCurrent(connection)) this.#planRotation(between(ROTATION, this.#options.random));
    else this.#planReplacement();
    if (former) {
      // Changes that were pushed only to the former connection are in the feed now.
      void this.#catchUp().finally(() => former.close());
    }
  }

  /** @param {number} ms */
  #planRotation(ms) {
    const { timers } = this.#options;
    timers.clear(this.#rotationTimer);
    this.#rotationTimer = timers.set(() => void this.#rotate(), ms);
  }

  /** Whether a connection was opened in the current epoch. A database that was restored to an earlier time does not know others. @param {Connection} connection */
  #isCurrent(connection) {
    return connection.epoch === null || connection.epoch === this.#epoch;
  }

  /** Replaces a connection that the service does not know any more. Many windows may notice at once. */
  #planReplacement() {
    this.#planRotation(fullJitter(0, { first: RECONNECT_SPREAD, limit: RECONNECT_LIMIT }, this.#options.random));
  }

  /** Opens the next connection before API Gateway closes this one at its age limit. */
  async #rotate() {
    try {
      const next = await this.#dial();
      this.#adopt(next);
    } catch {
      if (this.#connection) this.#planRotation(between(ROTATION_RETRY, this.#options.random));
    }
  }

  /** @param {Connection} connection */
  #lost(connection) {
    if (connection !== this.#connection || this.#stopped) return;
    this.#connection = null;
    if (connection.age() >= STABLE_AFTER) this.#failures = 0;
    this.#reconnect(new UnreachableError("the connection was lost"));
  }

  /** @param {unknown} error */
  #reconnect(error) {
    if (this.#stopped) return;
    this.#clear();
    if (error instanceof SessionExpiredError) {
      this.#polls = false;
      this.#enter({ phase: "expired" });
      return;
    }
    const { timers, random } = this.#options;
    const window = { first: RECONNECT_SPREAD, limit: RECONNECT_LIMIT };
    const ms = fullJitter(this.#failures, window, random);
    this.#failures += 1;
    this.#reconnectAt = timers.now() + ms;
    this.#reconnectTimer = timers.set(() => {
      this.#reconnectTimer = null;
      void this.#connect();
    }, ms);
    if (!this.#polls) this.#enter({ phase: "waiting", until: this.#reconnectAt });
  }

  /** Reads the feed now, and again and again until a connection is open or the feed cannot be read either. */
  #poll() {
    if (this.#stopped || this.#connection) return;
    const { timers, random } = this.#options;
    this.#polls = true;
    timers.clear(this.#pollTimer);
    this.#pollTimer = timers.set(() => this.#poll(), between(POLL_INTERVAL, random));
    void this.#catchUp();
  }

  #clear() {
    const { timers } = this.#options;
    for (const timer of [this.#reconnectTimer, this.#rotationTimer, this.#sweepTimer, this.#pollTimer]) timers.clear(timer);
    this.#reconnectTimer = null;
  }

  /** Whether the feed is read. */
  #mayRead() {
    return !this.#stopped && (this.#connection !== null || this.#polls);
  }

  /** @param {unknown} error */
  #end(error) {
    this.stop();
    this.#options.onEnd?.(error);
  }

  /** @param {State} state */
  #enter(state) {
    this.#state = state;
    if (!this.#stopped) this.#options.onState(state);
  }

  // ------------------------------------------------------------------------------------------------ Applying

  /** @param {{ type: string, epoch?: string, spaceId?: string, changes?: Change[] }} frame */
  #hear(frame) {
    if (frame.type !== "changes" || !frame.spaceId || !frame.changes) return;
    if (this.#epoch !== null && frame.epoch !== undefined && frame.epoch !== this.#epoch) {
      // Sequence numbers of different epochs cannot be compared.
      void this.#catchUp();
      return;
    }
    const { isFull, spaceId } = this.#options;
    if (spaceId !== undefined && frame.spaceId !== spaceId) {
      // A change of the personal space may say that access has ended.
      if (frame.changes.some(({ eventType }) => !eventType.startsWith("FILE_"))) void this.#catchUp();
      return;
    }
    const feed = this.#feeds.get(frame.spaceId);
    if (!feed) {
      // The space was shared a moment ago.
      void this.#catchUp();
    } else if (isFull?.()) {
      // They are read from the feed when the caller takes them.
      feed.note(frame.changes);
      void this.#catchUp();
    } else if (!feed.offer(frame.changes, this.#options.timers.now())) {
      // A number jumped.
      void this.#catchUp();
    }
  }

  /** Reads the missing changes of every space. There is one run at a time; calls during a run cause one more run. */
  #catchUp() {
    this.#sweepAgain = true;
    this.#sweep ??= this.#sweepUntilQuiet().finally(() => {
      this.#sweep = null;
      // Called between the last check of the loop and now.
      if (this.#sweepAgain && this.#mayRead()) void this.#catchUp();
    });
    return this.#sweep;
  }

  async #sweepUntilQuiet() {
    const { timers, random } = this.#options;
    timers.clear(this.#sweepTimer);
    try {
      while (this.#sweepAgain && this.#mayRead()) {
        this.#sweepAgain = false;
        if (this.#connection) this.#enter({ phase: "catching-up" });
        await this.#sweepOnce();
      }
      this.#sweepFailures = 0;
      // Until a connection that the service does not know is replaced, nothing is pushed.
      if (this.#connection && this.#isCurrent(this.#connection)) this.#enter({ phase: "live" });
      else if (!this.#connection && this.#polls) this.#enter({ phase: "polling" });
    } catch (error) {
      this.#sweepAgain = false;
      if (this.#polls && !this.#connection) this.#stopPolling();
      // Without a connection, the next connect catches up.
      if (!this.#connection || this.#stopped) return;
      if (error instanceof SessionExpiredError) {
        this.#enter({ phase: "expired" });
        return;
      }
      const ms = fullJitter(this.#sweepFailures, PULL_RETRY, random);
      this.#sweepFailures += 1;
      this.#sweepTimer = timers.set(() => void this.#catchUp(), ms);
    }
  }

  /** The service cannot be reached by requests either. The next attempt to connect is planned already. */
  #stopPolling() {
    this.#polls = false;
    this.#options.timers.clear(this.#pollTimer);
    if (this.#reconnectTimer !== null) this.#enter({ phase: "waiting", until: this.#reconnectAt });
  }

  async #sweepOnce() {
    const { source, onSpaces, onRewound, startAt, spaceId: only } = this.#options;
    // The state before the request. The answer may lack changes that are applied while the request is in progress.
    const applied = new Map([...this.#feeds].map(([spaceId, feed]) => [spaceId, feed.applied]));
    const { spaces: all, epoch } = await source.listSpaces();
    if (this.#stopped) return;
    const spaces = only === undefined ? all : all.filter(({ spaceId }) => spaceId === only);
    const restored = this.#epoch !== null && this.#epoch !== epoch;
    this.#epoch = epoch;
    if (restored) this.#planReplacement();
    else if (this.#connection) this.#connection.epoch ??= epoch;
    for (const space of spaces) {
      const known = applied.get(space.spaceId);
      if (known === undefined || (!restored && space.latestSequence >= known)) continue;
      this.#feeds.delete(space.spaceId);
      onRewound(space);
    }
    onSpaces(spaces);
    const ids = new Set(spaces.map((space) => space.spaceId));
    for (const spaceId of this.#feeds.keys()) {
      if (!ids.has(spaceId)) this.#feeds.delete(spaceId);
    }
    for (const space of spaces) {
      if (this.#feeds.has(space.spaceId)) continue;
      // The caller's number is of a former epoch, or of changes that a restored database does not have.
      const stored = startAt(space);
      if (stored > space.latestSequence || (stored > 0 && restored && !this.#hasListed)) onRewound(space);
      this.#feeds.set(space.spaceId, new Feed(startAt(space), (change, heardAt) => this.#apply(change, heardAt)));
    }
    this.#hasListed = true;
    if (this.#toldEpoch !== epoch) {
      this.#toldEpoch = epoch;
      this.#options.onEpoch?.(epoch);
    }
    if (only !== undefined && spaces.length === 0) {
      this.#end(new ProblemError(404, { code: "not-found" }));
      return;
    }
    // One request at a time, because thousands of clients may reconnect together.
    for (const space of spaces) {
      const feed = this.#feeds.get(space.spaceId);
      if (feed && feed.isBehind(space.latestSequence)) await this.#pull(space, feed);
    }
  }

  /**
   * @param {Space} space
   * @param {Feed} feed
   */
  async #pull(space, feed) {
    const { spaceId } = space;
    // Includes the last applied change, if it is known. A restored database may have another change with the same number.
    const { applied, appliedId } = feed;
    let after = appliedId === null ? applied : applied - 1;
    try {
      for (let more = true; more && !this.#stopped;) {
        await this.#options.drained?.();
        if (this.#stopped) return;
        const page = await this.#options.source.listChanges(spaceId, after, PAGE);
        if (this.#stopped) return;
        if (after < applied && page.changes.some(({ sequence, eventId }) => sequence === applied && eventId !== appliedId)) {
          this.#sweepAgain = true;
          this.#feeds.delete(spaceId);
          this.#options.onRewound(space);
          return;
        }
        feed.offer(page.changes, null);
        const last = page.changes.at(-1);
        if (last ? feed.applied < last.sequence : page.hasMore) throw new UnreachableError("the feed has a gap");
        more = page.hasMore;
        after = feed.applied;
      }
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      // The database was restored after the spaces were listed.
      if (error.code === "feed-reset") this.#sweepAgain = true;
      // The user left or was removed after the spaces were listed.
      else if (error.status === 404) {
        this.#sweepAgain = true;
        this.#feeds.delete(spaceId);
      } else throw error;
    }
  }

  /**
   * @param {Change} change
   * @param {number | null} heardAt
   */
  #apply(change, heardAt) {
    this.#options.onChange(change, heardAt);
    if (!change.eventType.startsWith("FILE_")) void this.#catchUp();
  }
}
