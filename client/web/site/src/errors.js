/** What can go wrong, told apart by what can be done about it. */

/** The service said no, or that it could not, and why. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {{ code?: string, title?: string, detail?: string, requestId?: string, current?: { version: number, fileId?: string } }} body
   */
  constructor(status, body) {
    super(body.detail ?? body.title ?? `The service answered with status ${status}.`);
    this.name = "Problem";
    this.status = status;
    this.code = body.code ?? "";
    this.requestId = body.requestId;
    this.current = body.current;
  }

  /** Whether the same request may work later. */
  get passing() {
    return this.status === 429 || this.status >= 500;
  }
}

/** There was no answer. */
export class Unreachable extends Error {
  /** @param {unknown} cause */
  constructor(cause) {
    super("The service cannot be reached.", { cause });
    this.name = "Unreachable";
  }
}

/** The answer was to come later: there are too many requests. */
export class Busy extends Unreachable {
  /** @param {unknown} cause */
  constructor(cause) {
    super(cause);
    this.name = "Busy";
    this.message = "The service has too much to do. Try again in a minute.";
  }
}

/** Nobody is signed in any more. */
export class SessionExpired extends Error {
  constructor() {
    super("Your session has expired.");
    this.name = "SessionExpired";
  }
}

/**
 * Whether the same may work later.
 *
 * @param {unknown} error
 */
export function isPassing(error) {
  return error instanceof Unreachable || (error instanceof Problem && error.passing);
}

/**
 * Whether somebody asked for the end.
 *
 * @param {unknown} error
 */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}
