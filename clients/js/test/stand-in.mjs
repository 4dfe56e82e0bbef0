// A fake of the service that injects faults of the network and the platform, chosen by a seed, and virtual time.

import { ProblemError, UnreachableError } from "../src/errors.js";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/** API Gateway's limits for a connection. */
const IDLE_LIMIT = 10 * MINUTE;
const AGE_LIMIT = 120 * MINUTE;

/** Reproducible random numbers from 0 to 1 (mulberry32). */
export function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Virtual time, which advances on request, timer by timer. */
export class VirtualTime {
  #now = 0;
  #next = 1;
  #timers = new Map();

  timers = {
    now: () => this.#now,
    set: (callback, ms) => {
      const id = this.#next++;
      this.#timers.set(id, { at: this.#now + Math.max(0, ms), id, callback });
      return id;
    },
    clear: (id) => void this.#timers.delete(id),
  };

  after(ms, callback) {
    return this.timers.set(callback, ms);
  }

  /** Advances the time, and runs all due timers. */
  async pass(ms) {
    const end = this.#now + ms;
    for (;;) {
      await settle();
      let due = null;
      for (const timer of this.#timers.values()) {
        if (timer.at <= end && (!due || timer.at < due.at || (timer.at === due.at && timer.id < due.id))) due = timer;
      }
      if (!due) break;
      this.#timers.delete(due.id);
      this.#now = Math.max(this.#now, due.at);
      due.callback();
    }
    this.#now = end;
  }
}

/** Waits until all promises that can settle have settled. */
function settle() {
  return new Promise((resolve) => setImmediate(resolve));
}

export class Service {
  spaces = new Map();
  epoch = "first";
  asked = { createTicket: 0, listSpaces: 0, listChanges: 0 };
  handshakes = [];
  pings = [];
  drops = 0;
  mostOpen = 0;
  /** Whether pings get no answer. */
  mute = false;
  /** Creates the error with which every request fails, or null. */
  refuse = null;
  /** A sequence number to omit once, from the next answer that contains it. */
  skipOnce = 0;
  /** The number of the message to the client before which every connection is cut. */
  cutAt = 0;
  #messages = 0;
  #sockets = new Set();
  /** Open sockets of connections that the database does not have. */
  #unknown = new Set();
  #tickets = new Set();
  #ticketNumber = 0;

  /** `hostility` is the probability of faults, from 0 to 1. */
  constructor(time, random, { hostility }) {
    this.time = time;
    this.random = random;
    this.hostility = hostility;
  }

  calm() {
    this.hostility = 0;
  }

  #countMessage() {
    this.#messages += 1;
    // From that message on, until there is a connection to cut.
    if (this.cutAt && this.#messages >= this.cutAt && this.#sockets.size > 0) {
      this.cutAt = 0;
      this.cutAll();
    }
  }

  #chance(probability) {
    return this.random() < probability * this.hostility;
  }

  // ---------------------------------------------------------------------------------------------- Changes

  /** Commits changes to a space, and may push them to all connections, in frames of at most 100 changes. */
  commit(spaceId, count = 1, more = {}) {
    const log = this.spaces.get(spaceId) ?? [];
    this.spaces.set(spaceId, log);
    const committed = [];
    for (let added = 0; added < count; added += 1) {
      const sequence = log.length + 1;
      const change = { eventType: "FILE_UPDATED", ...more, sequence, spaceId, eventId: `${spaceId}-${sequence}`, userId: "somebody", occurredAt: "2026-01-01T00:00:00Z" };
      log.push(change);
      committed.push(change);
    }
    while (committed.length > 0) {
      const changes = committed.splice(0, 100);
      for (const socket of this.#sockets) if (!this.#unknown.has(socket)) this.#push(socket, changes);
    }
  }

  /** Pushes changes: never, twice, late, out of order, together with older ones, or correctly. */
  #push(socket, changes) {
    if (this.#chance(0.15)) return;
    const times = this.#chance(0.2) ? 2 : 1;
    for (let time = 0; time < times; time += 1) {
      const delay = this.#chance(0.3) ? this.random() * 10 * SECOND : this.random() * 200;
      this.time.after(delay, () => {
        this.#countMessage();
        if (this.#chance(0.1)) {
          this.#drop(socket);
          return;
        }
        const [first] = changes;
        const log = this.spaces.get(first.spaceId) ?? [];
        const sent = this.#chance(0.1) ? log.slice(Math.max(0, first.sequence - 3), changes.at(-1).sequence) : changes;
        socket.receive({ type: "changes", epoch: this.epoch, spaceId: first.spaceId, changes: sent });
      });
    }
  }

  // ---------------------------------------------------------------------------------------------- HTTP

  source() {
    return {
      createTicket: () =>
        this.#answer("createTicket", () => {
          const ticket = `ticket-${(this.#ticketNumber += 1)}`;
          this.#tickets.add(ticket);
          return { url: ticket };
        }),
      listSpaces: () =>
        this.#answer("listSpaces", () => ({
          spaces: [...this.spaces].map(([spaceId, log]) => ({ spaceId, kind: "shared", role: "editor", latestSequence: log.length })),
          epoch: this.epoch,
        })),
      listChanges: (spaceId, after, limit) =>
        this.#answer("listChanges", () => {
          const log = this.spaces.get(spaceId);
          if (!log) throw new ProblemError(404, { code: "not-found" });
          // Sometimes fewer than requested.
          const most = this.#chance(0.3) ? 1 + Math.floor(this.random() * 3) : limit;
          let changes = log.slice(after, after + most);
          if (changes.some(({ sequence }) => sequence === this.skipOnce)) {
            changes = changes.filter(({ sequence }) => sequence !== this.skipOnce);
            this.skipOnce = 0;
          }
          return { changes, hasMore: after + most < log.length };
        }),
    };
  }

  /** A delayed answer, computed at the time of the request or of the answer, or lost. */
  #answer(name, compute) {
    this.asked[name] += 1;
    return new Promise((resolve, reject) => {
      const settled = (act) => {
        this.#countMessage();
        try {
          if (this.refuse) throw this.refuse();
          if (this.#chance(0.1)) throw new UnreachableError("lost");
          if (this.#chance(0.05)) throw new ProblemError(503, { code: "unavailable" });
          resolve(act());
        } catch (error) {
          reject(error);
        }
      };
      const delay = this.#chance(0.2) ? this.random() * 20 * SECOND : this.random() * 100;
      if (this.random() < 0.5) {
        this.time.after(delay, () => settled(compute));
        return;
      }
      // The state at the time of the request, without later commits.
      let early;
      try {
        const value = compute();
        early = () => value;
      } catch (error) {
        early = () => {
          throw error;
        };
      }
      this.time.after(delay, () => settled(early));
    });
  }

  // ---------------------------------------------------------------------------------------------- Sockets

  open(url) {
    const socket = new StandInSocket(this);
    this.time.after(this.random() * 50, () => {
      const valid = this.#tickets.delete(url);
      if (socket.closed) return;
      if (!valid || this.#chance(0.15)) {
        socket.end();
        return;
      }
      if (this.#chance(0.05)) return;
      this.#sockets.add(socket);
      this.handshakes.push(this.time.timers.now());
      this.mostOpen = Math.max(this.mostOpen, this.#sockets.size);
      socket.touch();
      this.time.after(AGE_LIMIT, () => this.#drop(socket));
      socket.onopen?.({});
      if (this.#chance(0.2)) this.time.after(this.random() * 30 * SECOND, () => this.#drop(socket));
    });
    return socket;
  }

  /** Restores the database to a time before the connections were made. They stay open, and nothing is pushed to them any more. */
  restore(epoch) {
    this.epoch = epoch;
    this.#unknown = new Set(this.#sockets);
  }

  openSockets() {
    return this.#sockets.size;
  }

  cutAll() {
    for (const socket of [...this.#sockets]) this.#drop(socket);
  }

  /** Ends a connection. The client is notified, or not, as when a network fails. */
  #drop(socket) {
    if (!this.#sockets.delete(socket)) return;
    this.drops += 1;
    if (this.#chance(0.3)) socket.dead = true;
    else socket.end();
  }

  forget(socket) {
    this.#sockets.delete(socket);
  }

  ping(socket) {
    this.pings.push(this.time.timers.now());
    if (!this.#sockets.has(socket)) return;
    socket.touch();
    if (this.mute) return;
    this.time.after(this.random() * 50, () => socket.receive({ type: "pong" }));
  }

  idle(socket) {
    this.#drop(socket);
  }

  idleLimit = IDLE_LIMIT;
}

/** The client's side of a connection. */
class StandInSocket {
  onopen = null;
  onmessage = null;
  onclose = null;
  closed = false;
  dead = false;
  #idle = 0;

  constructor(service) {
    this.service = service;
  }

  /** Restarts the idle timer. API Gateway closes an idle connection when it ends. */
  touch() {
    const { time } = this.service;
    time.timers.clear(this.#idle);
    this.#idle = time.after(this.service.idleLimit, () => this.service.idle(this));
  }

  send(text) {
    if (!this.closed && !this.dead && JSON.parse(text).action === "ping") this.service.ping(this);
  }

  receive(frame) {
    if (this.closed || this.dead) return;
    this.touch();
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  end() {
    if (this.closed) return;
    this.closed = true;
    this.onclose?.({});
  }

  close() {
    this.closed = true;
    this.service.forget(this);
  }
}
