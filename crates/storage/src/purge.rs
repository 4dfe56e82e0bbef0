//! Deletes objects with all of their versions, and all content of the bucket in batches.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use crate::{Error, Storage};

/// The result of deleting one batch of versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batch {
    /// The bucket has no versions or delete markers.
    Empty,
    /// This many versions and delete markers were deleted. There may be more.
    Deleted(usize),
    /// S3 refused to delete an object. Others of the batch may be deleted.
    Refused {
        /// The key of the first refused object.
        key: String,
        /// S3's error message, or its error code if there is no message.
        reason: String,
    },
}

impl Storage {
    /// Deletes up to 1,000 versions and delete markers of all objects.
    pub async fn delete_versions(&self) -> Result<Batch, Error> {
        // Each call lists from the beginning, because the versions listed earlier are deleted.
        let listing = self.s3.list_object_versions().bucket(&self.bucket);
        let page = listing.send().await.map_err(Error::new)?;
        let versions = page.versions().iter().map(|v| (v.key(), v.version_id()));
        let markers = page.delete_markers().iter().map(|m| (m.key(), m.version_id()));
        let found: Vec<ObjectIdentifier> = versions.chain(markers).filter_map(identifier).collect();
        if found.is_empty() {
            return Ok(Batch::Empty);
        }
        let count = found.len();
        let batch = Delete::builder().set_objects(Some(found)).quiet(true).build();
        let deleting = self.s3.delete_objects().bucket(&self.bucket);
        let answer = deleting.delete(batch.map_err(Error::new)?).send().await;
        let answer = answer.map_err(Error::new)?;
        Ok(match answer.errors().first() {
            None => Batch::Deleted(count),
            Some(refused) => Batch::Refused {
                key: refused.key().unwrap_or_default().to_owned(),
                reason: refused
                    .message()
                    .or(refused.code())
                    .unwrap_or_default()
                    .to_owned(),
            },
        })
    }

    /// Deletes an object with all of its versions and delete markers. Deleting one that does not exist succeeds.
    pub async fn purge(&self, key: &str) -> Result<(), Error> {
        loop {
            // Other keys may begin with this one.
            let listing = self.s3.list_object_versions().bucket(&self.bucket).prefix(key);
            let page = listing.send().await.map_err(Error::new)?;
            let versions = page.versions().iter().map(|v| (v.key(), v.version_id()));
            let markers = page.delete_markers().iter().map(|m| (m.key(), m.version_id()));
            let own = versions.chain(markers).filter(|(found, _)| *found == Some(key));
            let mut deleted = 0;
            for (_, version) in own {
                let deleting = self.s3.delete_object().bucket(&self.bucket).key(key);
                let deleting = deleting.set_version_id(version.map(str::to_owned));
                deleting.send().await.map_err(Error::new)?;
                deleted += 1;
            }
            // A page lists 1,000 versions in the order of the keys, so the object's own come first.
            if deleted == 0 || page.is_truncated() != Some(true) {
                return Ok(());
            }
        }
    }

    /// Aborts up to 1,000 multipart uploads, and stops early once `may_continue` returns `false`. Returns
    /// whether the listing was empty, that is, no upload is left.
    pub async fn abort_multiparts(&self, may_continue: impl Fn() -> bool) -> Result<bool, Error> {
        let listing = self.s3.list_multipart_uploads().bucket(&self.bucket);
        let page = listing.send().await.map_err(Error::new)?;
        for upload in page.uploads() {
            if !may_continue() {
                return Ok(false);
            }
            let aborting = self.s3.abort_multipart_upload().bucket(&self.bucket);
            let aborting = aborting
                .set_key(upload.key.clone())
                .set_upload_id(upload.upload_id.clone());
            aborting.send().await.map_err(Error::new)?;
        }
        Ok(page.uploads().is_empty())
    }
}

fn identifier((key, version): (Option<&str>, Option<&str>)) -> Option<ObjectIdentifier> {
    let identifier = ObjectIdentifier::builder()
        .key(key?)
        .set_version_id(version.map(str::to_owned));
    identifier.build().ok()
}
