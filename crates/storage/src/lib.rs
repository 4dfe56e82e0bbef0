//! Content in S3. Nothing else uses `aws-sdk-s3`.
//!
//! Keys are those of [`model::UploadId::object_key`]. Every call has the timeouts and retries of the configuration that
//! the client is made of.

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

/// The AWS actions that each method needs (Service Authorization Reference; Amazon S3 User Guide, "Required permissions
/// for Amazon S3 API operations"). A presigned request is authorized as the function that signed it.
pub const ACTIONS: &[(&str, &[&str])] = &[
    // Without ListBucket, the answer for an object that does not exist is 403 instead of 404.
    ("head", &["s3:GetObject", "s3:ListBucket"]),
    ("delete", &["s3:DeleteObject"]),
    ("presign_put", &["s3:PutObject"]),
    ("presign_part", &["s3:PutObject"]),
    ("presign_get", &["s3:GetObject"]),
    ("create_multipart", &["s3:PutObject"]),
    ("list_parts", &["s3:ListMultipartUploadParts"]),
    ("complete_multipart", &["s3:PutObject"]),
    ("abort_multipart", &["s3:AbortMultipartUpload"]),
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

/// S3 did not do what it was asked for.
#[derive(Debug, ThisError)]
#[error("storage did not answer")]
pub struct Error(#[source] BoxError);

impl Error {
    pub(crate) fn new(cause: impl Into<BoxError>) -> Self {
        Self(cause.into())
    }
}

/// The bucket that holds all content.
#[derive(Clone, Debug)]
pub struct Storage {
    s3: Client,
    bucket: String,
}

impl Storage {
    /// Makes a client from a configuration, such as `&SdkConfig`. Sends nothing.
    pub fn new(config: impl Into<Builder>, bucket: impl Into<String>) -> Self {
        Self {
            s3: Client::from_conf(config.into().build()),
            bucket: bucket.into(),
        }
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }
}

#[cfg(test)]
mod tests {
    use super::ACTIONS;

    #[test]
    fn every_method_that_calls_s3_has_its_actions() {
        let sources = [
            include_str!("multipart.rs"),
            include_str!("object.rs"),
            include_str!("presign.rs"),
            include_str!("purge.rs"),
        ];
        let mut methods: Vec<&str> = (sources.iter())
            .flat_map(|source| source.split("pub async fn ").skip(1))
            .filter_map(|rest| rest.split('(').next())
            .collect();
        let mut listed: Vec<&str> = ACTIONS.iter().map(|(method, _)| *method).collect();
        methods.sort_unstable();
        listed.sort_unstable();
        assert_eq!(methods, listed);
    }
}
