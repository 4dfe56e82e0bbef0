/**
 * Estimates the service's clock, for the latency of changes: a computer's own clock may be wrong by seconds.
 *
 * A ticket contains its expiry, which is a known time after its creation, and it was created between the request and the answer. The faster
 * the answer, the more accurate the estimate (Cristian's algorithm).
 */

/** Lifetime of a ticket in milliseconds (docs/asyncapi.yaml). */
const TICKET_LIFETIME = 30_000;

/** Number of recent answers of which the fastest is used. Older answers expire, so that a corrected clock is noticed. */
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
   * Returns the milliseconds from a time on the service's clock to a time on this computer's clock.
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
