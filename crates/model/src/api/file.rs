//! Bodies about files and their versions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};
use thiserror::Error;
use time::OffsetDateTime;
use time::serde::rfc3339;

use crate::{
    ByteCount, ContentType, DeviceId, Event, EventId, FileId, FolderKey, ModifiedAt, PageToken, PersonName,
    Sequence, Sha256, SpaceId, SpacePath, UserId, Version,
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
    /// The modification time that the uploader gave, if any. Versions of earlier releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at: Option<ModifiedAt>,
    /// Whether the uploader's file was executable, if that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
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
            modified_at: file.modified_at,
            executable: file.executable,
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
    /// The modification time that the uploader gave, if any. Versions of earlier releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at: Option<ModifiedAt>,
    /// Whether the uploader's file was executable, if that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
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

/// A folder in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FolderView {
    /// The folder's path in the space.
    pub path: SpacePath,
}

/// The 200 of `GET /files?folder=`: a page of what a folder contains directly. The order is that of the paths
/// by byte, where a folder's ends with `/`; files and folders come side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FolderList {
    /// The files of the page, in order.
    pub files: Vec<FileView>,
    /// The folders of the page, in order.
    pub folders: Vec<FolderView>,
    /// The token of the next page; `None` on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<PageToken<FolderKey>>,
}

/// A file in the trash, and its current version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletedFileView {
    /// The file as it was when it was deleted.
    #[serde(flatten)]
    pub file: FileView,
    /// The time of the deletion.
    #[serde(with = "rfc3339")]
    pub deleted_at: OffsetDateTime,
    /// The user who deleted the file, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_by: Option<UserId>,
    /// The time until which the file can be restored. From then on it may be gone.
    #[serde(with = "rfc3339")]
    pub purged_at: OffsetDateTime,
}

/// The 200 of `GET /files?deleted=true`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletedFileList {
    /// The files, the newest deletion first.
    pub files: Vec<DeletedFileView>,
    /// The token of the next page; `None` on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<PageToken<TrashKey>>,
}

/// The position of a file in the trash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrashKey {
    /// The time of the deletion, in whole microseconds, as PostgreSQL stores it.
    pub deleted_at: OffsetDateTime,
    /// The id of the file.
    pub file_id: FileId,
}

/// The text is not a position in the trash.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("this is no position in the trash")]
pub struct InvalidTrashKey;

impl fmt::Display for TrashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.deleted_at.unix_timestamp_nanos() / 1_000;
        write!(f, "{micros}/{}", self.file_id)
    }
}

impl FromStr for TrashKey {
    type Err = InvalidTrashKey;

    fn from_str(text: &str) -> Result<Self, InvalidTrashKey> {
        let (micros, file_id) = text.split_once('/').ok_or(InvalidTrashKey)?;
        let micros: i64 = micros.parse().map_err(|_| InvalidTrashKey)?;
        let deleted_at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000);
        Ok(Self {
            deleted_at: deleted_at.map_err(|_| InvalidTrashKey)?,
            file_id: file_id.parse().map_err(|_| InvalidTrashKey)?,
        })
    }
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

impl fmt::Debug for DownloadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    /// The modification time that the uploader gave, if any. Versions of earlier releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at: Option<ModifiedAt>,
    /// Whether the uploader's file was executable, if that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
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

/// The body of `POST /files/{fileId}/restore`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreFileRequest {
    /// The new path of the file in its space; `None` for the path that it had.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "deserialize_new_path"
    )]
    pub path: Option<SpacePath>,
    /// The device that restores the file, if the client names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
}

pub(super) fn deserialize_new_path<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SpacePath>, D::Error> {
    let path = Option::<SpacePath>::deserialize(deserializer)?;
    path.map(SpacePath::for_new_file)
        .transpose()
        .map_err(de::Error::custom)
}

/// The body of `POST /files/{fileId}/versions/{version}/restore`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreVersionRequest {
    /// The required current version; `None` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_version: Option<Version>,
    /// The device that restores the version, if the client names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_position_in_the_trash_comes_back_as_what_it_was() {
        let key = TrashKey {
            deleted_at: datetime!(2026-01-02 03:04:05.678901 UTC),
            file_id: "0192f0c1-7a5e-7e4e-8f6a-0d5c3b2a1908".parse().unwrap(),
        };
        assert_eq!(key.to_string().parse(), Ok(key));
        for bad in [
            "",
            "1",
            "/a",
            "x/0192f0c1-7a5e-7e4e-8f6a-0d5c3b2a1908",
            "9223372036854775807/0192f0c1-7a5e-7e4e-8f6a-0d5c3b2a1908",
        ] {
            assert_eq!(bad.parse::<TrashKey>(), Err(InvalidTrashKey), "{bad}");
        }
    }
}
