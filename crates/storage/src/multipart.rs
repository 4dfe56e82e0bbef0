//! Multipart uploads to S3.

use std::time::Duration;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::operation::abort_multipart_upload::AbortMultipartUploadError;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use model::{ByteCount, ContentType, PartNumber, Sha256};
use thiserror::Error as ThisError;

use crate::{BoxError, Error, Storage};

/// A part that S3 has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The part's number, from 1.
    pub number: PartNumber,
    /// Size in bytes.
    pub size: ByteCount,
    /// The SHA-256 that S3 verified.
    pub sha256: Sha256,
    /// The `ETag` that S3 gave the part. It changes when the part is replaced.
    pub e_tag: Option<String>,
}

/// The reason why parts were not assembled.
#[derive(Debug, ThisError)]
pub enum MultipartError {
    /// S3 refused: the parts were assembled or aborted by another call, or a part was replaced.
    #[error("storage refused to assemble the parts")]
    Refused(#[source] BoxError),
    /// S3 failed or did not respond.
    #[error(transparent)]
    Unavailable(Error),
}

impl From<MultipartError> for Error {
    fn from(error: MultipartError) -> Self {
        match error {
            MultipartError::Refused(cause) => Self::new(cause),
            MultipartError::Unavailable(error) => error,
        }
    }
}

impl Storage {
    /// Begins a multipart upload and returns its id.
    pub async fn create_multipart(
        &self,
        key: &str,
        content_type: Option<&ContentType>,
    ) -> Result<String, Error> {
        let creating = self.s3.create_multipart_upload().bucket(&self.bucket).key(key);
        let created = creating
            .set_content_type(content_type.map(|content_type| content_type.as_str().to_owned()))
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_type(ChecksumType::Composite)
            .send()
            .await
            .map_err(Error::new)?;
        let id = created.upload_id().map(str::to_owned);
        id.ok_or_else(|| Error::new("a multipart upload without an id"))
    }

    /// Lists the parts that S3 has, in order; `None` once they are assembled or aborted. S3 lists 1,000 parts
    /// at a time, so this makes at most ten calls.
    pub async fn list_parts(&self, key: &str, multipart_id: &str) -> Result<Option<Vec<Part>>, Error> {
        let listing = self.s3.list_parts().bucket(&self.bucket).key(key);
        let mut pages = listing.upload_id(multipart_id).into_paginator().send();
        let mut parts = Vec::new();
        while let Some(page) = pages.next().await {
            match page {
                Ok(page) => parts.extend(page.parts().iter().filter_map(part)),
                // The SDK has no error type for this case, so the error code is compared.
                Err(error) if error.code() == Some("NoSuchUpload") => return Ok(None),
                Err(error) => return Err(Error::new(error)),
            }
        }
        Ok(Some(parts))
    }

    /// Assembles the parts into an object. S3 refuses if the composite SHA-256 or the size differs, or if the
    /// object exists.
    ///
    /// S3 may take minutes for the largest objects, longer than the timeouts of other calls. `timeout`
    /// replaces them here.
    pub async fn complete_multipart(
        &self,
        key: &str,
        multipart_id: &str,
        parts: &[Part],
        composite: Sha256,
        timeout: Duration,
    ) -> Result<(), MultipartError> {
        let completed = parts.iter().map(|part| {
            CompletedPart::builder()
                .set_part_number(i32::try_from(part.number.get()).ok())
                .set_e_tag(part.e_tag.clone())
                .checksum_sha256(part.sha256.to_string())
                .build()
        });
        let upload = CompletedMultipartUpload::builder().set_parts(Some(completed.collect()));
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(timeout)
            .operation_timeout(timeout)
            .read_timeout(timeout)
            .build();
        let completing = self.s3.complete_multipart_upload().bucket(&self.bucket).key(key);
        let request = completing
            .upload_id(multipart_id)
            .multipart_upload(upload.build())
            .checksum_sha256(format!("{composite}-{}", parts.len()))
            .mpu_object_size(parts.iter().map(|part| part.size.get()).sum())
            .if_none_match("*")
            .customize()
            .config_override(aws_sdk_s3::config::Builder::default().timeout_config(timeouts));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(refusal)) if refusal.raw().status().as_u16() < 500 => {
                Err(MultipartError::Refused(SdkError::ServiceError(refusal).into()))
            }
            Err(error) => Err(MultipartError::Unavailable(Error::new(error))),
        }
    }

    /// Aborts a multipart upload, which frees its parts. Aborting one that does not exist succeeds.
    pub async fn abort_multipart(&self, key: &str, multipart_id: &str) -> Result<(), Error> {
        let aborting = self.s3.abort_multipart_upload().bucket(&self.bucket).key(key);
        match aborting.upload_id(multipart_id).send().await {
            Ok(_) => Ok(()),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(AbortMultipartUploadError::is_no_such_upload) =>
            {
                Ok(())
            }
            Err(error) => Err(Error::new(error)),
        }
    }
}

/// Converts a listed part; `None` if number, size or SHA-256 is missing or invalid.
fn part(part: &aws_sdk_s3::types::Part) -> Option<Part> {
    Some(Part {
        number: i64::from(part.part_number()?).try_into().ok()?,
        size: part.size()?.try_into().ok()?,
        sha256: part.checksum_sha256()?.parse().ok()?,
        e_tag: part.e_tag().map(str::to_owned),
    })
}
