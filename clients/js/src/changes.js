/** The updates of a watcher as an asynchronous iterator. */

import { SessionExpiredError } from "./errors.js";
import { Watcher } from "./watcher.js";

/** Updates that wait for the caller. While there are more, nothing further is read. */
const BUFFER = 256;

/**
 * @typedef {object} WatchOptions
 * @property {string} [epoch] the stored epoch
 * @property {Record<string, number> | Map<string, number>} [cursors] the stored `sequence` by space, of this epoch. A space without one begins at
 *   its first change.
 * @property {"beginning" | "now"} [from] where spaces without a cursor begin; by default at their first change. Spaces that are shared later begin
 *   at theirs in any case.
 * @property {string} [spaceId] the only space to watch. When the user has no access to it any more, the iterator throws a `ProblemError`.
 * @property {AbortSignal} [signal] ends the iterator
 *
 * @typedef {{ type: "change", change: import("./types.js").Change }
 *   | { type: "live" }
 *   | { type: "polling" }
 *   | { type: "offline", retryAt: Date }
 *   | { type: "cursor-reset", spaceId: string }
 *   | { type: "epoch", epoch: string }} Update
 *
 * - `change`: the next change of a space. After you have processed it, its `sequence` is the cursor of the space.
 * - `live`: all changes so far were delivered; later ones are delivered as they happen.
 * - `polling`: as `live`, but no WebSocket can be opened, so changes are read every 30 to 60 s.
 * - `offline`: the service cannot be reached. The next attempt is at `retryAt`.
 * - `cursor-reset`: the service's database was restored from a backup. Discard the state and the cursor of the space; all its changes follow from
 *   the first. Do not delete or replace what the user has beyond them.
 * - `epoch`: the epoch of the changes that follow. Store it with the cursors, after the resets before it.
 */

/** Delivers every change of the user's spaces, each once and in order. Ends when the loop over it ends, or with `close`. */
export class ChangeStream {
  /** @type {Update[]} */ #updates = [];
  /** The last change in the buffer, or before, of each space. @type {Map<string, number>} */ #cursors;
  /** @type {string | undefined} */ #epoch;
  #watcher;
  #closed = false;
  /** Called at the end. */ #hasClosed = () => {};
  /** Settles when the stream has ended, for whatever reason. */
  closed = new Promise((/** @type {(value?: undefined) => void} */ resolve) => {
    this.#hasClosed = resolve;
  });
  /** @type {unknown} */ #error = null;
  /** Called when there is an update, or the end. */ #wake = () => {};
  /** Called when the buffer has room again. @type {(() => void)[]} */ #drained = [];
  /** The last state that the caller received. */ #told = "";

  /**
   * @param {import("./api.js").Api} api
   * @param {(url: string) => import("./watcher.js").Socket} openSocket
   * @param {WatchOptions} options
   * @param {{ timers?: import("./watcher.js").Timers, random?: () => number, source?: import("./watcher.js").Source }} [world]
   */
  constructor(api, openSocket, { epoch, cursors = {}, from = "beginning", spaceId, signal }, world = {}) {
    this.#cursors = new Map(cursors instanceof Map ? cursors : Object.entries(cursors));
    this.#epoch = epoch;
    let first = true;
    this.#watcher = new Watcher({
      source: world.source ?? api,
      openSocket,
      timers: world.timers ?? { now: Date.now, set: (callback, ms) => setTimeout(callback, ms), clear: (timer) => clearTimeout(timer) },
      random: world.random ?? Math.random,
      epoch,
      spaceId,
      startAt: (space) => this.#cursors.get(space.spaceId) ?? (first && from === "now" ? space.latestSequence : 0),
      isFull: () => this.#updates.length >= BUFFER,
      drained: () => this.#untilDrained(),
      onChange: (change) => {
        this.#cursors.set(change.spaceId, change.sequence);
        this.#push({ type: "change", change });
      },
      onSpaces: () => {},
      onRewound: ({ spaceId }) => this.#reset(spaceId),
      onEpoch: (epoch) => {
        first = false;
        // Also the cursors of spaces that the user does not see now are of the former epoch.
        if (this.#epoch !== undefined && this.#epoch !== epoch) for (const [spaceId, cursor] of this.#cursors) if (cursor > 0) this.#reset(spaceId);
        this.#epoch = epoch;
        this.#push({ type: "epoch", epoch });
      },
      onState: (state) => this.#tell(state),
      onEnd: (error) => this.#end(error),
    });
    const close = () => this.#end(null);
    if (signal?.aborted) {
      close();
    } else {
      signal?.addEventListener("abort", close, { once: true });
      this.#watcher.start();
    }
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** Returns the next update. Throws `SessionExpiredError` when the session has ended. @returns {Promise<IteratorResult<Update, undefined>>} */
  async next() {
    for (;;) {
      const update = this.#updates.shift();
      if (update) {
        if (this.#updates.length < BUFFER) for (const settle of this.#drained.splice(0)) settle();
        return { done: false, value: update };
      }
      if (this.#error !== null) {
        const error = this.#error;
        this.#error = null;
        throw error;
      }
      if (this.#closed) return { done: true, value: undefined };
      await new Promise((/** @type {(value?: undefined) => void} */ resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Ends the iterator; a `for await` loop calls it. @returns {Promise<IteratorResult<Update, undefined>>} */
  async return() {
    this.close();
    return { done: true, value: undefined };
  }

  close() {
    this.#updates.length = 0;
    this.#end(null);
  }

  /** Connects at once, or checks the connection. Call it when the network or the window is back. */
  reconnectNow() {
    this.#watcher.wake();
  }

  /** Reads everything again. The client calls it when the service has said that its database was restored. */
  listAgain() {
    this.#watcher.listAgain();
  }

  /** From its first change, also in a stream of new changes only. @param {string} spaceId */
  #reset(spaceId) {
    this.#cursors.set(spaceId, 0);
    this.#push({ type: "cursor-reset", spaceId });
  }

  /** @param {Update} update */
  #push(update) {
    if (this.#closed) return;
    this.#updates.push(update);
    this.#wake();
  }

  /** @param {import("./watcher.js").State} state */
  #tell(state) {
    if (state.phase === "expired") {
      this.#end(new SessionExpiredError());
    } else if (state.phase === "waiting") {
      const told = `waiting until ${state.until}`;
      if (this.#told === told) return;
      this.#told = told;
      this.#push({ type: "offline", retryAt: new Date(state.until) });
    } else if ((state.phase === "live" || state.phase === "polling") && this.#told !== state.phase) {
      this.#told = state.phase;
      this.#push({ type: state.phase });
    }
  }

  /** @param {unknown} error */
  #end(error) {
    if (this.#closed) return;
    this.#closed = true;
    this.#error = error;
    this.#watcher.stop();
    this.#hasClosed();
    for (const settle of this.#drained.splice(0)) settle();
    this.#wake();
  }

  /** @returns {Promise<void>} */
  #untilDrained() {
    if (this.#updates.length < BUFFER || this.#closed) return Promise.resolve();
    return new Promise((resolve) => this.#drained.push(resolve));
  }
}
