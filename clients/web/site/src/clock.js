/**
 * The service's time, to say how old a change was when it was heard of: what a computer takes for the time may be seconds off.
 *
 * A ticket says when it expires, which is a known time after it was made, and it was made between the request and the answer. The faster
 * the answer, the better that is known (Cristian's algorithm).
 */

/** How long a ticket is valid, in milliseconds (docs/asyncapi.yaml). */
const TICKET_LIFETIME = 30_000;

/** Of how many of the last answers the fastest counts, so that a clock that is set right is believed again. */
const REMEMBERED = 5;

export class Clock {
  /** @type {{ offset: number, uncertainty: number }[]} */ #samples = [];

  /**
   * @param {string} expiresAt of a ticket
   * @param {number} askedAt
   * @param {number} answeredAt
   */
  learn(expiresAt, askedAt, answeredAt) {
    const made = Date.parse(expiresAt) - TICKET_LIFETIME;
    const sample = { offset: made - (askedAt + answeredAt) / 2, uncertainty: (answeredAt - askedAt) / 2 };
    this.#samples = [...this.#samples, sample].slice(-REMEMBERED);
  }

  /**
   * Milliseconds from a time of the service to one of this computer.
   *
   * @param {string} occurredAt
   * @param {number} heardAt
   */
  latency(occurredAt, heardAt) {
    const best = this.#samples.reduce(
      (best, sample) => (sample.uncertainty < best.uncertainty ? sample : best),
      { offset: 0, uncertainty: Infinity },
    );
    return Math.max(0, heardAt + best.offset - Date.parse(occurredAt));
  }
}
