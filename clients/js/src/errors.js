/** Errors, distinguished by the possible reaction. Their messages are for users (`messages.js`). */

import { MESSAGES, messageOf } from "./messages.js";

/** The service refused a request or failed, with the reason. */
export class ProblemError extends Error {
  /**
   * @param {number} status
   * @param {{ code?: string, requestId?: string, current?: { version: number, fileId?: string }, retryAfter?: number }} body
   */
  constructor(status, body) {
    super(messageOf(status, body));
    this.name = "ProblemError";
    this.status = status;
    this.code = body.code ?? "";
    this.requestId = body.requestId;
    this.current = body.current;
    /** Time in milliseconds before which the request does not succeed; 0 if it is unknown. */
    this.retryAfter = (body.retryAfter ?? 0) * 1_000;
  }

  /** Whether the same request may succeed later. */
  get passing() {
    return this.status === 429 || this.status >= 500;
  }
}

/** The service did not answer. */
export class UnreachableError extends Error {
  /** @param {unknown} cause */
  constructor(cause) {
    super(MESSAGES.unreachable, { cause });
    this.name = "UnreachableError";
  }
}

/** The service throttled the request: there are too many requests. */
export class ThrottledError extends UnreachableError {
  /** @param {unknown} cause */
  constructor(cause) {
    super(cause);
    this.name = "ThrottledError";
    this.message = MESSAGES.busy;
  }
}

/** Storage no longer accepts this URL. Request a new one. */
export class UrlExpiredError extends Error {}

/** Storage refuses the request. Repeating it does not help. */
export class StorageRefusedError extends Error {}

/** The content in storage or from storage differs from the declaration. */
export class ContentMismatchError extends Error {}

/** Storage does not have content that the service refers to. */
export class ContentMissingError extends Error {}

/** The session has expired. */
export class SessionExpiredError extends Error {
  constructor() {
    super(MESSAGES.sessionExpired);
    this.name = "SessionExpiredError";
  }
}

/** The user pool or the identity provider refused to sign in. The message is for users. */
export class SignInError extends Error {}

/** The user pool accepts no further answer to this challenge. */
export class ChallengeEndedError extends SignInError {}

/**
 * Whether the same action may succeed later.
 *
 * @param {unknown} error
 */
export function isPassing(error) {
  return error instanceof UnreachableError || (error instanceof ProblemError && error.passing);
}

/**
 * Whether the error is a requested cancellation.
 *
 * @param {unknown} error
 */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}
