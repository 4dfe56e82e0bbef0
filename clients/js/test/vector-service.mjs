// A fake of the service for the vectors of clients/vectors, in virtual time. Its faults are given by the vectors.

import { ProblemError, UnreachableError } from "../src/errors.js";

const MINUTE = 60_000;

/** API Gateway's limits for a connection. */
const IDLE_LIMIT = 10 * MINUTE;
const AGE_LIMIT = 120 * MINUTE;

/** Fates, one letter each, repeated. */
class Fates {
  #next = 0;

  constructor(letters) {
    this.letters = letters;
  }

  next() {
    return this.letters[this.#next++ % this.letters.length];
  }
}

export class VectorService {
  epoch = "epoch 0";
  /** The feeds by space. */
  feeds = new Map();
  visible = new Set(["0", "1"]);
  #epochs = 0;
  #events = 0;
  #sockets = new Set();
  /** Open sockets that the restored database does not know. */
  #forgotten = new Set();
  #tickets = new Set();
  /** A frame that the next one overtakes. */
  #delayed = null;

  constructor(time) {
    this.time = time;
    this.setFaults({ frames: ".", requests: ".", pings: "." });
  }

  setFaults({ frames, requests, pings }) {
    this.fates = { frames: new Fates(frames), requests: new Fates(requests), pings: new Fates(pings) };
  }

  feed(space) {
    if (!this.feeds.has(space)) this.feeds.set(space, []);
    return this.feeds.get(space);
  }

  // ---------------------------------------------------------------------------------------------- Steps

  commit(space, count = 1, more = {}) {
    const feed = this.feed(space);
    for (let added = 0; added < count; added += 1) {
      this.#events += 1;
      const change = { eventType: "FILE_UPDATED", ...more, sequence: feed.length + 1, eventId: `event ${this.#events}`, spaceId: space, userId: "alice", occurredAt: "2026-01-02T03:04:05Z" };
      feed.push(change);
      this.#frame({ type: "changes", epoch: this.epoch, spaceId: space, changes: [change] });
    }
  }

  share(space) {
    this.visible.add(space);
    this.commit("0", 1, { eventType: "SPACE_SHARED", subjectSpaceId: space, role: "viewer" });
  }

  leave(space) {
    this.visible.delete(space);
    this.commit("0", 1, { eventType: "SPACE_LEFT", subjectSpaceId: space });
  }

  drop() {
    for (const socket of [...this.#sockets, ...this.#forgotten]) socket.end();
  }

  kill() {
    for (const socket of [...this.#sockets, ...this.#forgotten]) socket.dead = true;
  }

  restore({ keep, forget }) {
    for (const feed of this.feeds.values()) feed.length = Math.floor((feed.length * keep) / 100);
    this.#epochs += 1;
    this.epoch = `epoch ${this.#epochs}`;
    if (forget) {
      for (const socket of this.#sockets) this.#forgotten.add(socket);
      this.#sockets.clear();
    }
  }

  // ---------------------------------------------------------------------------------------------- Frames

  #frame(frame) {
    const fate = this.fates.frames.next();
    if (fate === "o" && this.#delayed === null) {
      this.#delayed = frame;
      return;
    }
    if (fate === "b") this.drop();
    else if (fate !== "l") for (let time = 0; time < (fate === "d" ? 2 : 1); time += 1) this.#push(frame);
    if (this.#delayed !== null) {
      this.#push(this.#delayed);
      this.#delayed = null;
    }
  }

  #push(frame) {
    // Not at once, as a network.
    for (const socket of this.#sockets) this.time.after(20, () => socket.receive(frame));
  }

  // ---------------------------------------------------------------------------------------------- Requests

  /** The requests of one client, which names the epoch of its newest list. */
  source() {
    let known;
    return {
      createTicket: () =>
        this.#request(() => {
          const url = `ticket ${this.#tickets.size} ${this.#events} ${this.time.timers.now()}`;
          this.#tickets.add(url);
          return { url };
        }),
      listSpaces: async () => {
        const listed = await this.#request(() => ({
          spaces: [...this.visible].map((spaceId) => ({ spaceId, kind: "shared", role: "viewer", latestSequence: this.feed(spaceId).length })),
          epoch: this.epoch,
        }));
        known = listed.epoch;
        return listed;
      },
      listChanges: (spaceId, after, limit) => {
        const epoch = known;
        return this.#request(() => {
          if (epoch !== undefined && epoch !== this.epoch) throw new ProblemError(410, { code: "feed-reset" });
          if (!this.visible.has(spaceId)) throw new ProblemError(404, { code: "not-found" });
          const rest = this.feed(spaceId).slice(after);
          return { changes: rest.slice(0, limit), hasMore: rest.length > limit };
        });
      },
    };
  }

  /** Carries a request out after 100 ms. It may fail before or after. */
  #request(act) {
    const fate = this.fates.requests.next();
    return new Promise((resolve, reject) => {
      this.time.after(100, () => {
        try {
          if (fate === "b") throw new UnreachableError("before");
          const answer = act();
          if (fate === "a") throw new UnreachableError("after");
          resolve(answer);
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  // ---------------------------------------------------------------------------------------------- Connections

  open(url) {
    const socket = new VectorSocket(this);
    this.time.after(50, () => {
      if (socket.closed) return;
      if (!this.#tickets.delete(url)) {
        socket.end();
        return;
      }
      this.#sockets.add(socket);
      socket.touch();
      this.time.after(AGE_LIMIT, () => socket.end());
      socket.onopen?.({});
    });
    return socket;
  }

  forget(socket) {
    this.#sockets.delete(socket);
    this.#forgotten.delete(socket);
  }

  /** Whether a ping is answered. */
  answers() {
    return this.fates.pings.next() !== "n";
  }
}

/** The client's side of a connection. */
class VectorSocket {
  onopen = null;
  onmessage = null;
  onclose = null;
  closed = false;
  dead = false;
  #idle = null;

  constructor(service) {
    this.service = service;
  }

  touch() {
    const { time } = this.service;
    if (this.#idle !== null) time.timers.clear(this.#idle);
    this.#idle = time.after(IDLE_LIMIT, () => this.end());
  }

  send() {
    if (this.closed || this.dead) return;
    this.touch();
    if (this.service.answers()) this.service.time.after(20, () => this.receive({ type: "pong" }));
  }

  receive(frame) {
    if (this.closed || this.dead) return;
    this.touch();
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  /** Ends the connection. A dead one ends without a word. */
  end() {
    this.service.forget(this);
    if (this.closed || this.dead) return;
    this.closed = true;
    this.onclose?.({});
  }

  close() {
    this.closed = true;
    this.service.forget(this);
  }
}
