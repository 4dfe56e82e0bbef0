//! Metadata and deletion of whole objects.

use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::types::ChecksumMode;
use model::{PartNumber, Sha256};

use crate::{Error, Storage};

/// The description of an object in S3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// Size in bytes.
    pub size: i64,
    /// The SHA-256 that S3 stores, in base64. For an object that was put in one request, it is that of the
    /// content. For an assembled object, it is the SHA-256 of the parts' SHA-256s, a hyphen and the number of
    /// parts (Amazon S3 User Guide, "Checking object integrity").
    pub sha256: Option<String>,
    /// Whether the object has a `Content-Encoding`.
    pub has_content_encoding: bool,
}

impl Object {
    /// The SHA-256 of the parts' SHA-256s, if the object was assembled from this number of parts.
    pub fn composite(&self, parts: PartNumber) -> Option<Sha256> {
        let digest = self.sha256.as_deref()?.strip_suffix(&format!("-{parts}"))?;
        digest.parse().ok()
    }
}

impl Storage {
    /// Reads the metadata of an object; `None` if it does not exist.
    pub async fn head(&self, key: &str) -> Result<Option<Object>, Error> {
        let request =
            (self.s3.head_object().bucket(&self.bucket).key(key)).checksum_mode(ChecksumMode::Enabled);
        match request.send().await {
            Ok(object) => Ok(Some(Object {
                size: object.content_length().unwrap_or_default(),
                sha256: object.checksum_sha256().map(str::to_owned),
                has_content_encoding: object.content_encoding().is_some(),
            })),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(HeadObjectError::is_not_found) =>
            {
                Ok(None)
            }
            Err(error) => Err(Error::new(error)),
        }
    }

    /// Deletes an object. Its content remains as a noncurrent version for as long as the bucket's lifecycle rules
    /// say. Deleting one that does not exist succeeds.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        let request = self.s3.delete_object().bucket(&self.bucket).key(key);
        request.send().await.map_err(Error::new)?;
        Ok(())
    }
}
