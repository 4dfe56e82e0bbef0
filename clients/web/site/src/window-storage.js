/**
 * A storage of this window that other open windows of the page share, so that a second one is signed in. Like `sessionStorage` it is not written to
 * disk, and is gone with the last window. Windows pass each other the value by a `BroadcastChannel`, which only pages of the same origin can use.
 */

/** Time in milliseconds within which another window answers. */
const ANSWER = 250;

export class WindowStorage extends EventTarget {
  #storage;
  #channel;

  /**
   * @param {Storage} storage
   * @param {BroadcastChannel} channel
   */
  constructor(storage, channel) {
    super();
    this.#storage = storage;
    this.#channel = channel;
    channel.addEventListener("message", ({ data: { asked, name, value, signedOut } }) => {
      const own = asked === undefined ? null : storage.getItem(asked);
      if (own !== null) channel.postMessage({ name: asked, value: own });
      if (signedOut) this.dispatchEvent(new Event("signed-out"));
      if (name !== undefined && storage.getItem(name) === null) this.dispatchEvent(new CustomEvent("answer", { detail: { name, value } }));
    });
  }

  /**
   * Gets a value that another window has and this one has not. A window that was duplicated has its own copy already.
   *
   * @param {string} name
   * @returns {Promise<void>}
   */
  async ask(name) {
    if (this.#storage.getItem(name) !== null) return;
    await new Promise((/** @type {(value?: undefined) => void} */ resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.removeEventListener("answer", take);
        resolve();
      };
      const take = (/** @type {Event} */ event) => {
        const { detail } = /** @type {CustomEvent<{ name: string, value: string }>} */ (event);
        if (detail.name !== name) return;
        this.#storage.setItem(name, detail.value);
        end();
      };
      const timer = setTimeout(end, ANSWER);
      this.addEventListener("answer", take);
      this.#channel.postMessage({ asked: name });
    });
  }

  /** Tells the other windows that the user has signed out. */
  tellSignedOut() {
    this.#channel.postMessage({ signedOut: true });
  }

  /** @param {string} name */
  getItem(name) {
    return this.#storage.getItem(name);
  }

  /**
   * @param {string} name
   * @param {string} value
   */
  setItem(name, value) {
    this.#storage.setItem(name, value);
  }

  /** @param {string} name */
  removeItem(name) {
    this.#storage.removeItem(name);
  }
}
