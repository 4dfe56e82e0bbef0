/**
 * Concurrent calls of one route, gathered into requests with several items.
 *
 * The first call is sent at once and alone. Calls that arrive while a request is in flight wait, and go together in the next one, as commits wait for
 * a log in a group commit. So nothing is delayed on purpose, and the number of items in a request grows with the load. Another request is sent beside
 * the first if it is full, or if the first takes long.
 */

import { ProblemError, UnreachableError } from "./errors.js";
import { MESSAGES } from "./messages.js";

/** Maximum number of items in a request, the API's limit. */
export const MOST_ITEMS = 100;

/** Requests of a route that are in flight at the same time. */
const REQUESTS = 4;

/** Time in milliseconds from which a request in flight holds back no others, because it may never be answered. */
const SLOW = 1_000;

/** Requests in flight with a service of an earlier release. Browsers open six connections to a server without HTTP/2. */
const SINGLE_REQUESTS = 6;

/**
 * @typedef {{ status: number, problem?: ConstructorParameters<typeof ProblemError>[1] }} Result
 */

/**
 * @template Item
 * @template Output
 * @typedef {object} Route A route that takes one item, and another one that takes several.
 * @property {(item: Item, epoch: string | undefined, signal: AbortSignal) => Promise<Output>} single
 * @property {(items: Item[], epoch: string | undefined) => Promise<{ results: Result[] }>} batch
 * @property {(result: any) => Output} output the output in the result of an item that succeeded
 * @property {(item: Item) => string} idOf No request has two items with the same id.
 * @property {(output: Output) => void} [discard] receives the output of a call that was cancelled while its request was in flight
 */

/**
 * @template Item
 * @template Output
 * @typedef {{ item: Item, epoch: string | undefined, signal: AbortSignal, resolve: (output: Output) => void, reject: (reason: unknown) => void }} Call
 */

/** The knowledge about the service that all routes share. */
export class Capabilities {
  /** Whether a request with several items was answered. */ hasBatches = false;
  /** Whether the service is of an earlier release, which has no routes for several items. */ onlySingle = false;
}

/**
 * @template Item
 * @template Output
 */
export class Batcher {
  /** @type {Call<Item, Output>[]} */ #waiting = [];
  /** Requests in flight. */ #requests = 0;
  /** Those of them that are not slow. */ #recent = 0;

  /**
   * @param {Route<Item, Output>} route
   * @param {Capabilities} service
   * @param {(ms: number) => Promise<void>} sleep
   */
  constructor(route, service, sleep) {
    this.route = route;
    this.service = service;
    this.sleep = sleep;
  }

  /**
   * Makes a call, in one request with other calls if there are some. A cancelled call does not end the request of others.
   *
   * @param {Item} item
   * @param {string | undefined} epoch Calls of different epochs are in different requests.
   * @param {AbortSignal} signal
   * @returns {Promise<Output>}
   */
  call(item, epoch, signal) {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const abort = () => {
        this.#waiting = this.#waiting.filter((other) => other !== call);
        reject(signal.reason);
      };
      /** @type {<T>(settle: (value: T) => void) => (value: T) => void} */
      const ending = (settle) => (value) => {
        signal.removeEventListener("abort", abort);
        settle(value);
      };
      /** @type {Call<Item, Output>} */
      const call = { item, epoch, signal, resolve: ending(resolve), reject: ending(reject) };
      signal.addEventListener("abort", abort, { once: true });
      this.#waiting.push(call);
      this.#start();
    });
  }

  /** Starts requests for the calls that wait, as many as may be in flight. */
  #start() {
    while (this.#waiting.length > 0 && this.#mayStart()) void this.#request(this.#next());
  }

  #mayStart() {
    if (this.service.onlySingle) return this.#requests < SINGLE_REQUESTS;
    return this.#requests < REQUESTS && (this.#recent === 0 || this.#waiting.length >= MOST_ITEMS);
  }

  /** Takes the calls of the next request, in the order in which they were made. */
  #next() {
    const most = this.service.onlySingle ? 1 : MOST_ITEMS;
    const epoch = this.#waiting[0]?.epoch;
    const ids = new Set();
    /** @type {Call<Item, Output>[]} */ const calls = [];
    /** @type {Call<Item, Output>[]} */ const others = [];
    for (const call of this.#waiting) {
      const id = this.route.idOf(call.item);
      if (calls.length < most && call.epoch === epoch && !ids.has(id)) {
        ids.add(id);
        calls.push(call);
      } else {
        others.push(call);
      }
    }
    this.#waiting = others;
    return calls;
  }

  /** @param {Call<Item, Output>[]} calls */
  async #request(calls) {
    let recent = true;
    const retire = () => {
      if (recent) this.#recent -= 1;
      recent = false;
    };
    this.#requests += 1;
    this.#recent += 1;
    void this.sleep(SLOW).then(() => {
      retire();
      this.#start();
    });
    const [first] = calls;
    if (first && calls.length === 1) await this.#sendOne(first);
    else await this.#send(calls);
    retire();
    this.#requests -= 1;
    this.#start();
  }

  /**
   * Sends a call alone, and returns whether the service has answered.
   *
   * @param {Call<Item, Output>} call
   */
  async #sendOne({ item, epoch, signal, resolve, reject }) {
    try {
      resolve(await this.route.single(item, epoch, signal));
      return true;
    } catch (error) {
      reject(error);
      return error instanceof ProblemError;
    }
  }

  /** @param {Call<Item, Output>[]} calls */
  async #send(calls) {
    const items = calls.map(({ item }) => item);
    try {
      const { results } = await this.route.batch(items, calls[0]?.epoch);
      if (results.length !== calls.length) throw new Error(MESSAGES.incompleteBatch);
      this.service.hasBatches = true;
      calls.forEach((call, index) => this.#settle(call, /** @type {Result} */ (results[index])));
    } catch (error) {
      if (error instanceof ProblemError && error.status === 404) this.#sendSingly(calls);
      else if (this.#mayBeUnknown(error)) await this.#sendFirst(calls, error);
      else for (const { reject } of calls) reject(error);
    }
  }

  /**
   * @param {Call<Item, Output>} call
   * @param {Result} result
   */
  #settle({ signal, resolve, reject }, result) {
    if (result.problem) {
      reject(new ProblemError(result.status, result.problem));
      return;
    }
    const output = this.route.output(result);
    if (signal.aborted) this.route.discard?.(output);
    resolve(output);
  }

  /**
   * Whether an error may be the 404 of API Gateway for an unknown route. Without CORS headers a browser does not show an answer to the page.
   *
   * @param {unknown} error
   */
  #mayBeUnknown(error) {
    return !this.service.hasBatches && error instanceof UnreachableError && error.cause instanceof TypeError;
  }

  /**
   * Sends the first call alone. If the service answers that, it has no route for several.
   *
   * @param {Call<Item, Output>[]} calls
   * @param {unknown} error
   */
  async #sendFirst(calls, error) {
    const [first, ...others] = calls.filter(({ signal }) => !signal.aborted);
    if (first && (await this.#sendOne(first))) this.#sendSingly(others);
    else for (const { reject } of others) reject(error);
  }

  /** Sends these calls and all later ones one by one. @param {Call<Item, Output>[]} calls */
  #sendSingly(calls) {
    this.service.onlySingle = true;
    this.#waiting.unshift(...calls.filter(({ signal }) => !signal.aborted));
  }
}
