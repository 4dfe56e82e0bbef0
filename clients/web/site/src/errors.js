/** Errors, distinguished by the possible reaction. */

/** Messages for users by problem code of the API (docs/openapi.yaml). The API's `detail` is for developers of clients. */
export const WORDS = new Map([
  ["invalid-request", "The service does not take this as it was entered. Check it, and try again."],
  ["unauthorized", "You are not signed in."],
  ["forbidden", "You may not do this here. Viewers see the files of a space, editors change them too, and owners also say who its members are. Ask one of its owners."],
  ["not-found", "It is not there any more, or you have no access to it."],
  ["personal-space", "Your own files cannot be shared. Make a new space to share files."],
  ["version-conflict", "It was changed on another device meanwhile. Look at what is there now, and try again."],
  ["path-taken", "Another file or folder has this name already. Choose another name."],
  ["upload-incomplete", "A part of the file has not arrived. Try again."],
  ["upload-completed", "This upload is complete already."],
  ["upload-expired", "The upload took longer than it may. Add the file again."],
  ["not-multipart", "The upload cannot be continued. Add the file again."],
  ["checksum-mismatch", "What arrived is not the file as it was read. Add it again."],
  ["size-mismatch", "What arrived is not the file as it was read. Add it again."],
  ["sha256-conflict", "This upload was completed with other content. Add the file again."],
  ["sha256-required", "The upload cannot be completed. Add the file again."],
  ["undeclared-headers", "The file was sent in a way that was not declared. Add it again."],
  ["upload-too-large", "The file is larger than this service takes."],
  ["body-too-large", "This is more than the service takes at once."],
  ["idempotency-key-reused", "This was asked for before, with something else. Try again."],
  ["last-owner", "A space needs an owner. Make somebody else an owner first."],
  ["already-member", "They are a member of this space already. Change their role in the list of members."],
  ["unknown-user", "Nobody with this user ID has used the service yet. Check the ID, or enter their e-mail address."],
  ["too-many-members", "The space has as many members as it may have. Remove somebody first."],
  ["account-blocked", "This account is blocked. Nothing of it is deleted. Ask whoever runs the service."],
  ["account-erased", "This account was erased, and cannot be used any more."],
  ["feed-reset", "The service was restored from a backup, and nothing was changed. Look at what is there now, and try again."],
  ["quota-exceeded", "You have reached a limit of this service. Wait a minute, or make room, and try again."],
  ["unavailable", "The service has a problem. Nothing is lost: try again in a minute."],
  ["internal-error", "The service has a problem. If it stays, tell whoever runs it."],
]);

/**
 * @param {number} status
 * @param {{ code?: string, requestId?: string, current?: { version: number } }} body
 */
function wordsOf(status, { code = "", requestId, current }) {
  const request = requestId ? ` (Request ${requestId}.)` : "";
  if (code === "version-conflict" && current?.version === 0) return "It was deleted or moved on another device meanwhile.";
  if (code === "version-conflict" && current) return `It was changed on another device meanwhile, to version ${current.version}. Look at that, and try again.`;
  if (code === "internal-error") return (WORDS.get(code) ?? "") + request;
  const words = WORDS.get(code);
  if (words) return words;
  if (status === 429) return "The service has too much to do. Try again in a minute.";
  if (status >= 500) return `The service has a problem. Nothing is lost: try again in a minute.${request}`;
  return `The service does not take this. Reload this page and try again; if that does not help, tell whoever runs the service.${request}`;
}

/** The service refused a request or failed, with the reason. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {{ code?: string, requestId?: string, current?: { version: number, fileId?: string }, retryAfter?: number }} body
   */
  constructor(status, body) {
    super(wordsOf(status, body));
    this.name = "Problem";
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
export class Unreachable extends Error {
  /** @param {unknown} cause */
  constructor(cause) {
    super("The service cannot be reached.", { cause });
    this.name = "Unreachable";
  }
}

/** The service throttled the request: there are too many requests. */
export class Busy extends Unreachable {
  /** @param {unknown} cause */
  constructor(cause) {
    super(cause);
    this.name = "Busy";
    this.message = "The service has too much to do. Try again in a minute.";
  }
}

/** The session has expired. */
export class SessionExpired extends Error {
  constructor() {
    super("Your session has expired.");
    this.name = "SessionExpired";
  }
}

/**
 * Whether the same action may succeed later.
 *
 * @param {unknown} error
 */
export function isPassing(error) {
  return error instanceof Unreachable || (error instanceof Problem && error.passing);
}

/**
 * Whether the error is a requested cancellation.
 *
 * @param {unknown} error
 */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}
