//! Content in S3. No other crate uses `aws-sdk-s3`.
//!
//! Object keys are made by [`model::UploadId::object_key`]. Every call uses the timeouts and retries of the
//! configuration that is passed to [`Storage::new`].

#![warn(missing_docs)]

mod multipart;
mod object;
mod presign;
mod purge;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use thiserror::Error as ThisError;

pub use multipart::{MultipartError, Part};
pub use object::Object;
pub use presign::{Download, Put};
pub use purge::Batch;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The AWS actions that each method needs (Service Authorization Reference; Amazon S3 User Guide, "Required
/// permissions for Amazon S3 API operations"). A presigned request has the permissions of the function that
/// signed it.
pub const ACTIONS: &[(&str, &[&str])] = &[
    // Without ListBucket, S3 responds with 403 instead of 404 if the object does not exist.
    ("head", &["s3:GetObject", "s3:ListBucket"]),
    ("presign_put", &["s3:PutObject"]),
    ("presign_part", &["s3:PutObject"]),
    ("presign_get", &["s3:GetObject"]),
    ("create_multipart", &["s3:PutObject"]),
    ("list_parts", &["s3:ListMultipartUploadParts"]),
    ("complete_multipart", &["s3:PutObject"]),
    ("abort_multipart", &["s3:AbortMultipartUpload"]),
    ("delete", &["s3:DeleteObject"]),
    (
        "purge",
        &[
            "s3:ListBucketVersions",
            "s3:DeleteObject",
            "s3:DeleteObjectVersion",
        ],
    ),
    (
        "delete_versions",
        &[
            "s3:ListBucketVersions",
            "s3:DeleteObject",
            "s3:DeleteObjectVersion",
        ],
    ),
    (
        "abort_multiparts",
        &["s3:ListBucketMultipartUploads", "s3:AbortMultipartUpload"],
    ),
];

/// S3 refused a request, failed or did not respond.
#[derive(Debug, ThisError)]
#[error("storage did not answer")]
pub struct Error(#[source] BoxError);

impl Error {
    pub(crate) fn new(cause: impl Into<BoxError>) -> Self {
        Self(cause.into())
    }
}

/// A client for the bucket that holds all content.
#[derive(Clone, Debug)]
pub struct Storage {
    s3: Client,
    bucket: String,
}

impl Storage {
    /// Makes a client from an SDK configuration, such as `&SdkConfig`. Sends no request.
    pub fn new(config: impl Into<Builder>, bucket: impl Into<String>) -> Self {
        Self {
            s3: Client::from_conf(config.into().build()),
            bucket: bucket.into(),
        }
    }

    /// The name of the bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }
}
