/** Where small values are kept: refresh tokens, and the idempotency keys with which interrupted uploads resume. */

/** Keeps values as long as the object. */
export class MemoryStorage {
  /** @type {Map<string, string>} */ #values = new Map();

  /** @param {string} name */
  getItem(name) {
    return this.#values.get(name) ?? null;
  }

  /**
   * @param {string} name
   * @param {string} value
   */
  setItem(name, value) {
    this.#values.set(name, value);
  }

  /** @param {string} name */
  removeItem(name) {
    this.#values.delete(name);
  }
}
