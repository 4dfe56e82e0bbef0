//! Bodies about uploads and their parts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

use crate::{
    ByteCount, Composite, ContentType, DeviceId, FileId, IdempotencyKey, ModifiedAt, PageToken, PartLayout,
    PartNumber, Sha256, SpaceId, SpacePath, UploadId, Version,
};

/// The body of `POST /uploads`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateUploadRequest {
    /// The path of the file in the space.
    #[serde(deserialize_with = "SpacePath::deserialize_new")]
    pub path: SpacePath,
    /// The content's exact size in bytes.
    pub size: ByteCount,
    /// The content's SHA-256. Only content in parts can do without: its SHA-256 may be given at completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// The content's media type. S3 stores it with the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<ContentType>,
    /// The modification time of the file. Whoever downloads the version can restore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at: Option<ModifiedAt>,
    /// Whether the file is executable; `None` if its file system does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
    /// The space of the file; `None` for the caller's personal space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space_id: Option<SpaceId>,
    /// The version that the device started from: 0 if the path must not hold a file, `None` to overwrite any
    /// version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_version: Option<Version>,
    /// The file that the device started from. Each file counts its versions from 1, so the version alone does
    /// not identify the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_file_id: Option<FileId>,
    /// The device that uploads, if the client names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    /// The idempotency key. A single request may have it in the header `Idempotency-Key` instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
}

/// The 201 of `POST /uploads`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedUpload {
    /// Identifies the upload in later requests.
    pub upload_id: UploadId,
    /// The space of the file.
    pub space_id: SpaceId,
    /// The path of the file in the space.
    pub path: SpacePath,
    /// The time until which the content can be sent and the upload completed.
    #[serde(with = "rfc3339")]
    pub expires_at: OffsetDateTime,
    /// The request or the part layout for sending the content.
    #[serde(flatten)]
    pub transfer: Transfer,
}

/// The way to send the content: one request or several parts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Transfer {
    /// The whole content in one request.
    Put(PresignedPut),
    /// The content in parts. Each part has its own URL.
    Multipart(PartLayout),
}

impl CreatedUpload {
    /// The request that sends the content; `None` if the content is sent in parts.
    pub fn put(&self) -> Option<&PresignedPut> {
        match &self.transfer {
            Transfer::Put(put) => Some(put),
            Transfer::Multipart(_) => None,
        }
    }
}

/// A presigned PUT request, to be sent unchanged. The URL authorizes whoever has it, so it is a secret until
/// it expires.
#[derive(Clone, Serialize, Deserialize)]
pub struct PresignedPut {
    /// The presigned URL.
    pub url: String,
    /// The signed headers, by lower-case name. All must be sent.
    pub headers: BTreeMap<String, String>,
}

impl std::fmt::Debug for PresignedPut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PresignedPut").finish_non_exhaustive()
    }
}

/// The body of `POST /uploads/{uploadId}/parts`: at most 100 parts, each part at most once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PresignPartsRequest {
    /// The parts to presign, in any order.
    pub parts: Vec<PartRequest>,
}

impl PresignPartsRequest {
    /// The maximum number of parts in one request.
    pub const MAX_PARTS: usize = 100;
}

/// A part to presign.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PartRequest {
    /// The part's number, from 1.
    pub part_number: PartNumber,
    /// The SHA-256 of the part's bytes.
    pub sha256: Sha256,
}

/// The 200 of `POST /uploads/{uploadId}/parts`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresignedParts {
    /// The presigned parts, in the order of the request.
    pub parts: Vec<PresignedPart>,
}

/// The presigned request for one part.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresignedPart {
    /// The part's number, from 1.
    pub part_number: PartNumber,
    /// The request that sends the part.
    #[serde(flatten)]
    pub put: PresignedPut,
}

/// The 200 of `GET /uploads/{uploadId}`: all data that a client needs to resume the upload after a crash.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadView {
    /// The id of the upload.
    pub upload_id: UploadId,
    /// The space of the file.
    pub space_id: SpaceId,
    /// The path of the file in the space.
    pub path: SpacePath,
    /// The content's size in bytes.
    pub size: ByteCount,
    /// The content's SHA-256; `None` until it is given at completion, if it was not given at opening.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// The state of the upload.
    pub state: UploadStatus,
    /// The time until which the content can be sent and the upload completed.
    #[serde(with = "rfc3339")]
    pub expires_at: OffsetDateTime,
    /// Whether S3 has the whole content, so that only completion remains.
    pub stored: bool,
    /// The digest that S3 has verified, if the parts are assembled and only completion remains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composite: Option<Composite>,
    /// The way to send the content; `None` if the upload is not pending or has expired, or if the caller may
    /// not write.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Transfer>,
    /// The parts that S3 has, in order, if the upload is pending and the caller may write; `None` once they
    /// are assembled, and for an upload in one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<StoredPart>>,
}

/// A pending upload in a list. `GET /uploads/{uploadId}` shows how to continue it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingUpload {
    /// The id of the upload.
    pub upload_id: UploadId,
    /// The space of the file.
    pub space_id: SpaceId,
    /// The path of the file in the space.
    pub path: SpacePath,
    /// The content's size in bytes.
    pub size: ByteCount,
    /// Whether the content is sent in parts.
    pub in_parts: bool,
    /// The device that opened the upload, if the client named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    /// The time at which the upload was opened.
    #[serde(with = "rfc3339")]
    pub created_at: OffsetDateTime,
    /// The time until which the content can be sent.
    #[serde(with = "rfc3339")]
    pub expires_at: OffsetDateTime,
}

/// The 200 of `GET /uploads`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingUploadList {
    /// The caller's pending uploads, oldest first.
    pub uploads: Vec<PendingUpload>,
    /// The token of the next page; `None` on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<PageToken<UploadId>>,
}

/// The state of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UploadStatus {
    /// The upload waits for content and completion.
    Pending,
    /// The upload is a version of its file.
    Completed,
    /// The upload was aborted by the uploader or expired.
    Aborted,
}

/// A part that S3 has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredPart {
    /// The part's number, from 1.
    pub part_number: PartNumber,
    /// The part's size in bytes.
    pub size: ByteCount,
    /// The SHA-256 of the part's bytes, verified by S3.
    pub sha256: Sha256,
}

/// The body of `POST /uploads/{uploadId}/complete`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CompleteUploadRequest {
    /// The content's SHA-256, if it was not given at opening. If it was, both must be the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
}

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
