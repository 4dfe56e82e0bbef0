/**
 * SyncSphere's client for browsers and Node.js.
 *
 * @module
 *
 * @typedef {import("./api.js").NewUpload} NewUpload
 * @typedef {import("./api.js").Seen} Seen
 * @typedef {import("./changes.js").Update} Update
 * @typedef {import("./changes.js").WatchOptions} WatchOptions
 * @typedef {import("./client.js").ClientOptions} ClientOptions
 * @typedef {import("./client.js").UploadOptions} UploadOptions
 * @typedef {import("./client.js").VersionOfFile} VersionOfFile
 * @typedef {import("./cognito.js").Challenge} Challenge
 * @typedef {import("./cognito.js").CognitoOptions} CognitoOptions
 * @typedef {import("./download.js").Wanted} WantedContent
 * @typedef {import("./session.js").KeyValueStorage} KeyValueStorage
 * @typedef {import("./session.js").SessionState} SessionState
 * @typedef {import("./session.js").User} User
 * @typedef {import("./upload.js").Content} Content
 * @typedef {import("./upload.js").Phase} UploadPhase
 * @typedef {import("./upload.js").Target} UploadTarget
 * @typedef {import("./upload.js").World} UploadWorld
 * @typedef {import("./watcher.js").Options} WatcherOptions
 * @typedef {import("./connection.js").Socket} WatcherSocket
 * @typedef {import("./watcher.js").Source} WatcherSource
 * @typedef {import("./connection.js").Timers} WatcherTimers
 * @typedef {import("./watcher.js").State} WatcherState
 */

export { Api } from "./api.js";
export { ChangeStream } from "./changes.js";
export { Client } from "./client.js";
export { Clock } from "./clock.js";
export { CognitoSession } from "./cognito.js";
export { sha256 } from "./digest.js";
export { download, read as readContent } from "./download.js";
export * from "./errors.js";
export * from "./messages.js";
export { pathOf } from "./paths.js";
export { put } from "./put.js";
export { Session, TokenSession } from "./session.js";
export { MemoryStorage } from "./storage.js";
export * from "./types.js";
export { Upload, removeOldKeys } from "./upload.js";
export { Uploads } from "./uploads.js";
export { Watcher } from "./watcher.js";
