//! Bodies about files and their versions.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::OffsetDateTime;
use time::serde::rfc3339;

use crate::{
    ByteCount, ContentType, DeviceId, Event, EventId, FileId, PageToken, PersonName, Sequence, Sha256,
    SpaceId, SpacePath, UserId, Version,
};

/// The 200 of completing an upload, and of moving and deleting a file: the change that the request made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileChanged {
    /// The id of the file.
    pub file_id: FileId,
    /// The space that contains the file.
    pub space_id: SpaceId,
    /// The file's path in the space.
    pub path: SpacePath,
    /// The file's version after the change. Moving and deleting do not increment it.
    pub version: Version,
    /// The version's size in bytes.
    pub size: ByteCount,
    /// The SHA-256 of the version's content.
    pub sha256: Sha256,
    /// The change's sequence number in the space.
    pub sequence: Sequence,
    /// The event by which devices learn of the change.
    pub event_id: EventId,
    /// The time of the change in UTC.
    #[serde(with = "rfc3339")]
    pub occurred_at: OffsetDateTime,
}

/// The change is not about a file.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the change is not about a file")]
pub struct NoFile;

impl TryFrom<Event> for FileChanged {
    type Error = NoFile;

    fn try_from(event: Event) -> Result<Self, NoFile> {
        let file = event.file().ok_or(NoFile)?.clone();
        Ok(Self {
            file_id: file.file_id,
            space_id: event.space_id,
            path: file.path,
            version: file.version,
            size: file.size,
            sha256: file.sha256,
            sequence: event.sequence,
            event_id: event.event_id,
            occurred_at: event.occurred_at,
        })
    }
}

/// The member `current` of a `version-conflict` or `path-taken` problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CurrentVersion {
    /// The current version; 0 if the path holds no file.
    pub version: Version,
    /// The file at the path, if there is one. For `path-taken`, the file that blocks the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_id: Option<FileId>,
    /// The path of that file. Responses of earlier releases do not have it. Boxed to keep the clients' error
    /// types small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Box<SpacePath>>,
}

/// The verified checksum of content that was uploaded in parts. S3 verified the SHA-256 of each part; the
/// SHA-256 of the whole content was not verified. A downloader splits the content into parts of this size and
/// compares the SHA-256 of their SHA-256s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Composite {
    /// The size of every part but the last, in bytes.
    pub part_size: ByteCount,
    /// The SHA-256 of the concatenated SHA-256s of the parts, 32 bytes each, in the parts' order.
    pub sha256: Sha256,
}

/// A file and its current version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileView {
    /// The id of the file.
    pub file_id: FileId,
    /// The space that contains the file.
    pub space_id: SpaceId,
    /// The file's path in the space.
    pub path: SpacePath,
    /// The number of the current version.
    pub version: Version,
    /// The version's size in bytes.
    pub size: ByteCount,
    /// The SHA-256 of the version's content.
    pub sha256: Sha256,
    /// The verified checksum of a version that was uploaded in parts. Versions of earlier releases do not
    /// have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composite: Option<Composite>,
    /// The version's media type, if the uploader gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<ContentType>,
    /// The time at which the file's first version was added.
    #[serde(with = "rfc3339")]
    pub created_at: OffsetDateTime,
    /// The time at which the current version was added. A move does not change it.
    #[serde(with = "rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// The 200 of `GET /files`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileList {
    /// The files, ordered by path (by code point).
    pub files: Vec<FileView>,
    /// The token of the next page; `None` on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<PageToken<SpacePath>>,
}

/// The 200 of `GET /files/{fileId}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileDetail {
    /// The file and its current version.
    #[serde(flatten)]
    pub file: FileView,
    /// The file's versions, newest first.
    pub versions: Vec<FileVersion>,
    /// The token of the next page of versions; `None` on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<PageToken<Version>>,
}

/// The 200 of `GET /files/{fileId}/content` for clients that accept only JSON. Other clients get a redirect.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DownloadUrl {
    /// The presigned URL of the content. It expires after some minutes, and is a secret until it expires.
    pub url: String,
}

impl std::fmt::Debug for DownloadUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DownloadUrl").finish_non_exhaustive()
    }
}

/// A version of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileVersion {
    /// The version's number, from 1.
    pub version: Version,
    /// The version's size in bytes.
    pub size: ByteCount,
    /// The SHA-256 of the version's content.
    pub sha256: Sha256,
    /// The verified checksum of a version that was uploaded in parts. Versions of earlier releases do not
    /// have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composite: Option<Composite>,
    /// The version's media type, if the uploader gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<ContentType>,
    /// The user who uploaded the version.
    pub user_id: UserId,
    /// The user's name, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_name: Option<PersonName>,
    /// The device that uploaded the version, if the request named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    /// The time at which the version was added.
    #[serde(with = "rfc3339")]
    pub created_at: OffsetDateTime,
}

/// The body of `PATCH /files/{fileId}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MoveFileRequest {
    /// The new path of the file in its space.
    #[serde(deserialize_with = "SpacePath::deserialize_new")]
    pub path: SpacePath,
    /// The required current version; `None` to move the file at any version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_version: Option<Version>,
    /// The required current path; `None` to move the file from any path. A move makes no version, so
    /// `base_version` does not detect an earlier move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_path: Option<SpacePath>,
    /// The device that moves the file, if the client names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
}
