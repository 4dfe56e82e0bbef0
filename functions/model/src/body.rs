//! Bodies of HTTP requests and responses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

use crate::{
    ByteCount, ContentType, DeviceId, Event, EventId, FileId, Sequence, Sha256, SpaceId, SpacePath, UploadId,
    Version,
};

/// The body of `POST /uploads`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateUploadRequest {
    /// Where the file goes.
    pub path: SpacePath,
    /// The content's exact size in bytes.
    pub size: ByteCount,
    /// The content's SHA-256.
    pub sha256: Sha256,
    /// The content's media type; storage keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<ContentType>,
    /// The version that the device started from: 0 if the path must not exist, nothing to overwrite what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_version: Option<Version>,
    /// The device that uploads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
}

/// The 201 of `POST /uploads`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedUpload {
    /// Names the upload from here on.
    pub upload_id: UploadId,
    /// The space that the file goes to.
    pub space_id: SpaceId,
    /// Where the file goes.
    pub path: SpacePath,
    /// Until when the content can be put and the upload completed.
    #[serde(with = "rfc3339")]
    pub expires_at: OffsetDateTime,
    /// How to send the content.
    pub put: PresignedPut,
}

/// A PUT request to send as it is. Whoever has the URL can send it, so it is a secret until it expires.
#[derive(Clone, Serialize, Deserialize)]
pub struct PresignedPut {
    /// Where to.
    pub url: String,
    /// Headers that are signed and must be sent, by lower-case name.
    pub headers: BTreeMap<String, String>,
}

impl std::fmt::Debug for PresignedPut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PresignedPut").finish_non_exhaustive()
    }
}

/// The body of `POST /uploads/{uploadId}/complete`: no field yet.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// The 200 of `POST /uploads/{uploadId}/complete`.
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

impl From<Event> for FileChanged {
    fn from(event: Event) -> Self {
        Self {
            file_id: event.file_id,
            space_id: event.space_id,
            path: event.path,
            version: event.version,
            size: event.size,
            sha256: event.sha256,
            sequence: event.sequence,
            event_id: event.event_id,
            occurred_at: event.occurred_at,
        }
    }
}

/// `current` of a `version-conflict` problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CurrentVersion {
    /// The version that is current; 0 if the path holds no file.
    pub version: Version,
    /// The file at the path, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_id: Option<FileId>,
}

/// The body of `POST /tickets`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateTicketRequest {
    /// The device that will connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
}

/// The 201 of `POST /tickets`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedTicket {
    /// 256 random bits in unpadded base64url: the right to connect once.
    pub ticket: String,
    /// Where to connect, the ticket included.
    pub url: String,
    /// Until when.
    #[serde(with = "rfc3339")]
    pub expires_at: OffsetDateTime,
}

impl std::fmt::Debug for CreatedTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedTicket")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
