/** One connection of a watcher. */

import { UnreachableError } from "./errors.js";
import { HEARTBEAT, OPEN_TIMEOUT, PONG_TIMEOUT, between } from "./timing.js";

/**
 * @typedef {object} Socket The used part of a WebSocket.
 * @property {((event: any) => void) | null} onopen
 * @property {((event: any) => void) | null} onmessage
 * @property {((event: any) => void) | null} onclose
 * @property {(text: string) => void} send
 * @property {() => void} close
 *
 * @typedef {object} Timers
 * @property {() => number} now in milliseconds
 * @property {(callback: () => void, ms: number) => unknown} set
 * @property {(timer: any) => void} clear
 */

/**
 * A WebSocket that a ping keeps open after each time of silence. A page cannot send pings of the protocol, so API Gateway answers the message
 * `ping`. A connection ends without an answer. If it had never answered, its successors end only after they have answered a ping: perhaps
 * the service answers none.
 */
export class Connection {
  /** @type {(frame: { type: string }) => void} */ onframe = () => {};
  /** @type {() => void} */ onend = () => {};
  /** The newest epoch that was known before the connection was opened; null if none was. @type {string | null} */ epoch = null;
  #ended = false;
  /** @type {unknown} */ #timer = null;
  /** @type {unknown} */ #pongTimer = null;
  #answered = false;
  #openedAt = 0;

  /**
   * @param {Socket} socket
   * @param {Timers} timers
   * @param {() => number} random
   * @param {{ answered: boolean }} pings
   */
  constructor(socket, timers, random, pings) {
    this.socket = socket;
    this.timers = timers;
    this.random = random;
    this.pings = pings;
    /** Settles with the handshake. */
    this.opened = new Promise((resolve, reject) => {
      this.#timer = timers.set(() => this.end(), OPEN_TIMEOUT);
      socket.onopen = () => {
        this.#openedAt = timers.now();
        if (pings.answered) this.#planPing();
        else this.probe();
        resolve(undefined);
      };
      socket.onclose = () => {
        reject(new UnreachableError("the connection could not be opened"));
        this.end();
      };
    });
    // A caller that waits handles the rejection. Without one it must not count as unhandled.
    this.opened.catch(() => {});
    socket.onmessage = (event) => this.#receive(event.data);
  }

  /** Milliseconds since the connection was opened; 0 before. */
  age() {
    return this.#openedAt ? this.timers.now() - this.#openedAt : 0;
  }

  /** Sends a ping, and ends the connection without a pong. */
  probe() {
    if (this.#ended || this.#pongTimer !== null || !this.#openedAt) return;
    if (this.#answered || this.pings.answered) {
      this.#pongTimer = this.timers.set(() => {
        this.pings.answered = this.#answered;
        this.end();
      }, PONG_TIMEOUT);
    }
    this.socket.send(JSON.stringify({ action: "ping" }));
    this.#planPing();
  }

  /** Closes the connection without calling `onend`. */
  close() {
    this.onend = () => {};
    this.end();
  }

  /** Closes the connection, and calls `onend`. */
  end() {
    if (this.#ended) return;
    this.#ended = true;
    this.timers.clear(this.#timer);
    this.timers.clear(this.#pongTimer);
    const { socket } = this;
    const refuse = this.#openedAt ? null : socket.onclose;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    refuse?.(undefined);
    this.onend();
  }

  #planPing() {
    this.timers.clear(this.#timer);
    this.#timer = this.timers.set(() => this.probe(), between(HEARTBEAT, this.random));
  }

  /** @param {unknown} text */
  #receive(text) {
    if (this.#ended) return;
    // Every message shows that the connection is alive.
    this.timers.clear(this.#pongTimer);
    this.#pongTimer = null;
    this.#planPing();
    /** @type {{ type: string }} */
    let frame;
    try {
      frame = JSON.parse(String(text));
    } catch {
      return;
    }
    if (frame.type === "pong") this.#answered = this.pings.answered = true;
    this.onframe(frame);
  }
}
