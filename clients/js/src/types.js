/**
 * The types of the API (docs/openapi.yaml, docs/asyncapi.yaml).
 *
 * @typedef {"owner" | "editor" | "viewer"} Role
 * @typedef {{ spaceId: string, kind: "personal" | "shared", name?: string, role: Role, latestSequence: number, bytes?: number }} Space
 * @typedef {Space & { deletedAt: string, purgedAt: string }} DeletedSpace
 * @typedef {{ spaceId: string, userId: string, userName?: string, role: Role, addedAt: string }} Member
 * @typedef {{ invitationId: string, spaceId: string, userId?: string, email?: string, role: Role, inviterId: string, inviterName?: string,
 *   createdAt: string, expiresAt: string }} Invitation
 * @typedef {{ invitationId: string, spaceId: string, spaceName: string, role: Role, inviterId: string, inviterName?: string, createdAt: string,
 *   expiresAt: string }} ReceivedInvitation
 * @typedef {{ partSize: number, sha256: string }} Composite
 * @typedef {{ fileId: string, spaceId: string, path: string, version: number, size: number, sha256: string, composite?: Composite,
 *   contentType?: string, modifiedAt?: string, executable?: boolean, createdAt: string, updatedAt: string }} FileView
 * @typedef {{ version: number, size: number, sha256: string, composite?: Composite, contentType?: string, modifiedAt?: string, executable?: boolean, userId: string, userName?: string, deviceId?: string,
 *   createdAt: string }} FileVersion
 * @typedef {FileView & { versions: FileVersion[], nextPageToken?: string }} FileDetail
 * @typedef {{ files: FileView[], folders: { path: string }[], nextPageToken?: string }} FolderList A page of what a folder contains directly.
 * @typedef {FileView & { deletedAt: string, deletedBy?: string, purgedAt: string }} DeletedFile
 *
 * @typedef {{ used: number, maximum: number }} LimitUse
 * @typedef {{ changesPerMinute: LimitUse, pendingUploads: LimitUse, spaces: LimitUse, spaceBytes: LimitUse, invitationsPerDay: LimitUse }} Usage
 * @typedef {{ userId: string, name?: string, email?: string, usage?: Usage }} Account
 *
 * @typedef {"FILE_UPDATED" | "FILE_MOVED" | "FILE_DELETED" | "SPACE_SHARED" | "SPACE_INVITED" | "SPACE_LEFT" | "SPACE_RENAMED" | "SPACE_DELETED" | "SPACE_RESTORED" | "MEMBER_CHANGED" | "MEMBER_REMOVED"} EventType
 * @typedef {object} Change
 * @property {number} sequence
 * @property {string} eventId
 * @property {EventType} eventType
 * @property {string} spaceId
 * @property {string} userId
 * @property {string} [userName]
 * @property {string} [deviceId]
 * @property {string} occurredAt
 * @property {string} [fileId]
 * @property {string} [path]
 * @property {number} [version]
 * @property {number} [size]
 * @property {string} [sha256]
 * @property {string} [subjectSpaceId]
 * @property {Role} [role]
 * @property {string} [memberId]
 * @property {string} [name]
 * @typedef {{ changes: Change[], latestSequence: number, hasMore: boolean }} ChangeList
 *
 * @typedef {{ url: string, headers: Record<string, string> }} PresignedPut
 * @typedef {{ partSize: number, partCount: number }} Parts
 * @typedef {{ uploadId: string, spaceId: string, path: string, expiresAt: string, put?: PresignedPut, multipart?: Parts }} CreatedUpload
 * @typedef {CreatedUpload & { state: "pending" | "completed" | "aborted", stored: boolean,
 *   parts?: { partNumber: number, size: number, sha256: string }[] }} UploadView
 * @typedef {{ uploadId: string, spaceId: string, path: string, size: number, expiresAt: string }} PendingUpload
 * @typedef {{ action: "move", fileId: string, path: string, baseVersion?: number, basePath?: string } | { action: "delete", fileId: string,
 *   baseVersion?: number, basePath?: string }} FileAction
 * @typedef {{ status: number, change?: FileChanged, problem?: { code: string, current?: { version: number, fileId?: string }, retryAfter?: number } }} FileActionResult
 * @typedef {{ fileId: string, spaceId: string, path: string, version: number, size: number, sha256: string, sequence: number,
 *   eventId: string, occurredAt: string }} FileChanged
 * @typedef {{ ticket: string, url: string, expiresAt: string }} Ticket
 */
export {};
