//! Files.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::OffsetDateTime;
use time::serde::rfc3339;

use crate::{
    ByteCount, ContentType, DeviceId, Event, EventId, FileId, PageToken, Sequence, Sha256, SpaceId,
    SpacePath, UserId, Version,
};

/// What completing, moving and deleting answer: the change that the request made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileChanged {
    /// The file.
    pub file_id: FileId,
    /// The space that it is in.
    pub space_id: SpaceId,
    /// Where it is.
    pub path: SpacePath,
    /// Its version after the change.
    pub version: Version,
    /// The version's size in bytes.
    pub size: ByteCount,
    /// The version's SHA-256.
    pub sha256: Sha256,
    /// The change's number in the space.
    pub sequence: Sequence,
    /// The event that tells other devices.
    pub event_id: EventId,
    /// When the change was made.
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

/// `current` of a `version-conflict` or `path-taken` problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CurrentVersion {
    /// The version that is current; 0 if the path holds no file.
    pub version: Version,
    /// The file at the path, if there is one; of `path-taken`, the file that is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_id: Option<FileId>,
    /// Where that file is. Earlier releases don't say it. Boxed, since it is part of clients' errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Box<SpacePath>>,
}

/// What storage has proved of content that was put in parts: it has checked each part's SHA-256, and nobody
/// the whole's. Who downloads cuts the content into parts of this size and compares the SHA-256 of their
/// SHA-256s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Composite {
    /// The size of every part but the last, in bytes.
    pub part_size: ByteCount,
    /// The SHA-256 of the parts' SHA-256s, 32 bytes each, in their order.
    pub sha256: Sha256,
}

/// A file as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileView {
    /// The file.
    pub file_id: FileId,
    /// The space that it is in.
    pub space_id: SpaceId,
    /// Where it is.
    pub path: SpacePath,
    /// Its current version.
    pub version: Version,
    /// The version's size in bytes.
    pub size: ByteCount,
    /// The version's SHA-256.
    pub sha256: Sha256,
    /// What storage has proved instead of the SHA-256, if the version was put in parts. Versions of earlier
    /// releases don't say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composite: Option<Composite>,
    /// The version's media type, if the uploader said one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<ContentType>,
    /// When the file came to be.
    #[serde(with = "rfc3339")]
    pub created_at: OffsetDateTime,
    /// When its current version did.
    #[serde(with = "rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// The 200 of `GET /files`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileList {
    /// In order of their paths, by code point.
    pub files: Vec<FileView>,
    /// Where the next page begins, if there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<PageToken<SpacePath>>,
}

/// The 200 of `GET /files/{fileId}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileDetail {
    /// The file as it is.
    #[serde(flatten)]
    pub file: FileView,
    /// Its versions, newest first.
    pub versions: Vec<FileVersion>,
    /// Where the next page of versions begins, if there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<PageToken<Version>>,
}

/// The 200 of `GET /files/{fileId}/content`, for who accepts only JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DownloadUrl {
    /// Where the content is, for the next minutes. A secret until then.
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
    /// Its number.
    pub version: Version,
    /// Its size in bytes.
    pub size: ByteCount,
    /// Its SHA-256.
    pub sha256: Sha256,
    /// What storage has proved instead of the SHA-256, if it was put in parts. Versions of earlier releases
    /// don't say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composite: Option<Composite>,
    /// Its media type, if the uploader said one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<ContentType>,
    /// Who uploaded it.
    pub user_id: UserId,
    /// On which device, if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    /// When.
    #[serde(with = "rfc3339")]
    pub created_at: OffsetDateTime,
}

/// The body of `PATCH /files/{fileId}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MoveFileRequest {
    /// Where the file goes, in its space.
    #[serde(deserialize_with = "SpacePath::deserialize_new")]
    pub path: SpacePath,
    /// The version that must be current, if the caller cares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_version: Option<Version>,
    /// The path that the caller has seen the file at, if the caller cares: a move makes no version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_path: Option<SpacePath>,
    /// The device that moves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
}
