//! Uploads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

use crate::{
    ByteCount, ContentType, DeviceId, FileId, PartLayout, PartNumber, Sha256, SpaceId, SpacePath, UploadId,
    Version,
};

/// The body of `POST /uploads`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateUploadRequest {
    /// Where the file goes.
    #[serde(deserialize_with = "SpacePath::deserialize_new")]
    pub path: SpacePath,
    /// The content's exact size in bytes.
    pub size: ByteCount,
    /// The content's SHA-256.
    pub sha256: Sha256,
    /// The content's media type; storage keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<ContentType>,
    /// The space that the file goes to; the caller's personal one if none is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space_id: Option<SpaceId>,
    /// The version that the device started from: 0 if the path must not exist, nothing to overwrite what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_version: Option<Version>,
    /// The file that the device started from. Each file counts its versions from 1, so the version alone does
    /// not name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_file_id: Option<FileId>,
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
    /// Until when the content can be sent and the upload completed.
    #[serde(with = "rfc3339")]
    pub expires_at: OffsetDateTime,
    /// How to send the content.
    #[serde(flatten)]
    pub transfer: Transfer,
}

/// How to send the content.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Transfer {
    /// In one request.
    Put(PresignedPut),
    /// In parts, each with a URL of its own.
    Multipart(PartLayout),
}

impl CreatedUpload {
    /// The request that sends the content, if it is sent in one.
    pub fn put(&self) -> Option<&PresignedPut> {
        match &self.transfer {
            Transfer::Put(put) => Some(put),
            Transfer::Multipart(_) => None,
        }
    }
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

/// The body of `POST /uploads/{uploadId}/parts`: at most 100 parts, each once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PresignPartsRequest {
    /// The parts to presign.
    pub parts: Vec<PartRequest>,
}

impl PresignPartsRequest {
    /// How many parts are presigned at once.
    pub const MAX_PARTS: usize = 100;
}

/// A part to presign.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PartRequest {
    /// Its number, from 1.
    pub part_number: PartNumber,
    /// The SHA-256 of its bytes.
    pub sha256: Sha256,
}

/// The 200 of `POST /uploads/{uploadId}/parts`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresignedParts {
    /// In the order of the request.
    pub parts: Vec<PresignedPart>,
}

/// How to send one part.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresignedPart {
    /// Its number.
    pub part_number: PartNumber,
    /// The request to send.
    #[serde(flatten)]
    pub put: PresignedPut,
}

/// The 200 of `GET /uploads/{uploadId}`: all that is needed to go on after a crash.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadView {
    /// The upload.
    pub upload_id: UploadId,
    /// The space that the file goes to.
    pub space_id: SpaceId,
    /// Where the file goes.
    pub path: SpacePath,
    /// The content's size in bytes.
    pub size: ByteCount,
    /// The content's SHA-256.
    pub sha256: Sha256,
    /// How far the upload got.
    pub state: UploadStatus,
    /// Until when the content can be sent and the upload completed.
    #[serde(with = "rfc3339")]
    pub expires_at: OffsetDateTime,
    /// Whether storage has the whole content, so that only completing is left.
    pub stored: bool,
    /// How to send the content, while the upload is pending.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Transfer>,
    /// The parts that storage has, in order, until they are assembled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<StoredPart>>,
}

/// How far an upload got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UploadStatus {
    /// Waiting for content and completion.
    Pending,
    /// Done.
    Completed,
    /// Given up, by the uploader or because it expired.
    Aborted,
}

/// A part that storage has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredPart {
    /// Its number.
    pub part_number: PartNumber,
    /// Its size in bytes.
    pub size: ByteCount,
    /// The SHA-256 of its bytes, which storage has checked.
    pub sha256: Sha256,
}

/// A body without fields.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presigned_put_is_not_shown() {
        let put = PresignedPut {
            url: "https://bucket.example/key?X-Amz-Signature=secret".to_owned(),
            headers: BTreeMap::new(),
        };
        assert_eq!(format!("{put:?}"), "PresignedPut { .. }");
    }
}
