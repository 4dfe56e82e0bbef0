/** All messages for users. A client with its own words, or in another language, shows those by `code` and the class of the error. */

/** Messages without a problem code. */
export const MESSAGES = {
  unreachable: "The service cannot be reached.",
  busy: "The service has too much to do. Try again in a minute.",
  sessionExpired: "Your session has expired.",
  incompleteBatch: "The service has not answered for each of the files. Try again.",
};

/** Messages about transfers to and from storage. */
export const STORAGE_MESSAGES = {
  changed: "The file has changed since it was read. Add it again.",
  unreadable: "The file cannot be read, or has changed. Add it again.",
  lost: "The content of this version is lost in storage. Tell whoever runs the service.",
  longer: "What arrives is longer than the file is said to be. It was not saved.",
  otherContent: "What arrived is not what was uploaded. It was not saved.",
  /** @param {string} reason */
  refused: (reason) => `Storage does not take the file (${reason}). Try again; if that does not help, tell whoever runs the service.`,
};

/** Messages about signing in. */
export const SIGN_IN_MESSAGES = {
  unknownChallenge: "This account signs in in a way that this page does not know. Ask whoever runs the service.",
  challengeEnded: "That took too long, or there were too many attempts. Enter your password again.",
  refused: "The user pool refused.",
  denied: "You were not signed in, because you or the sign-in page refused it.",
  providerRefused: "The sign-in page's answer cannot be used. Sign in again; if that does not help, tell whoever runs the service.",
  unknownProvider: "This sign-in page works in a way that is not supported. Ask whoever runs the service.",
};

/** Messages for users by Cognito's error code, in place of its own messages that use terms of its API. */
export const COGNITO_MESSAGES = new Map([
  ["CodeMismatchException", "That is not the code. Enter the one that your authenticator app shows now."],
  ["ExpiredCodeException", "That code is no longer good. Enter the one that your authenticator app shows now."],
  ["EnableSoftwareTokenMFAException", "That code was used before. Wait for the next one."],
  ["PasswordResetRequiredException", "Your password was reset. Ask whoever runs the service for a new one."],
  ["UserNotConfirmedException", "This account is not confirmed yet. Ask whoever runs the service."],
]);

/** Messages for users by problem code of the API (docs/openapi.yaml). The API's `detail` is for developers of clients. */
export const PROBLEM_MESSAGES = new Map([
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
export function messageOf(status, { code = "", requestId, current }) {
  const request = requestId ? ` (Request ${requestId}.)` : "";
  if (code === "version-conflict" && current?.version === 0) return "It was deleted or moved on another device meanwhile.";
  if (code === "version-conflict" && current) return `It was changed on another device meanwhile, to version ${current.version}. Look at that, and try again.`;
  if (code === "internal-error") return (PROBLEM_MESSAGES.get(code) ?? "") + request;
  const message = PROBLEM_MESSAGES.get(code);
  if (message) return message;
  if (status === 429) return MESSAGES.busy;
  if (status >= 500) return `The service has a problem. Nothing is lost: try again in a minute.${request}`;
  return `The service does not take this. Reload this page and try again; if that does not help, tell whoever runs the service.${request}`;
}
