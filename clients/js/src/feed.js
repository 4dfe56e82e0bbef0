/** The position of a client in the feed of a space. */

/** @typedef {import("./types.js").Change} Change */

export class Feed {
  #newest = 0;
  /** The id of the last applied change; null before the first one. @type {string | null} */ appliedId = null;

  /**
   * @param {number} applied the last applied sequence number
   * @param {(change: Change, heardAt: number | null) => void} apply
   */
  constructor(applied, apply) {
    this.applied = applied;
    this.apply = apply;
  }

  /**
   * Whether a change up to `latest`, or one that was received, is not applied yet.
   *
   * @param {number} latest
   */
  isBehind(latest) {
    return Math.max(latest, this.#newest) > this.applied;
  }

  /** Notes received changes without applying them. @param {Change[]} changes */
  note(changes) {
    for (const { sequence } of changes) this.#newest = Math.max(this.#newest, sequence);
  }

  /**
   * Applies the changes that follow the last applied one. Returns false if changes before a received one are missing.
   *
   * @param {Change[]} changes in order
   * @param {number | null} heardAt
   */
  offer(changes, heardAt) {
    for (const change of changes) {
      this.#newest = Math.max(this.#newest, change.sequence);
      if (change.sequence === this.applied + 1) {
        this.applied = change.sequence;
        this.appliedId = change.eventId;
        this.apply(change, heardAt);
      }
    }
    return this.#newest <= this.applied;
  }
}
