//! Aborted uploads, and the content that storage may still hold for them.
//!
//! An aborted upload keeps its row until storage is known to hold none of its content. Freeing storage can
//! therefore be killed at any moment, or run twice at once.

use model::UploadId;
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::client::Database;
use crate::error::Error;
use crate::query::Query;
use crate::row::get;
use crate::uploads::IN_FLIGHT;

pub(crate) const QUERIES: &[&Query] = &[&ABORT_EXPIRED_UPLOADS, &LIST_ABORTED_UPLOADS, &FORGET_UPLOADS];

/// An aborted upload with content that may still be in storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbortedUpload {
    /// The upload's id, from which its S3 key follows.
    pub upload_id: UploadId,
    /// S3's id of the upload's multipart upload, if it has one.
    pub multipart_id: Option<String>,
    /// When the upload expired. It may have been aborted earlier.
    pub expires_at: OffsetDateTime,
}

/// $1 time: uploads with an expiry up to it can no longer be completed, $2 maximum number of uploads.
/// Completing an upload holds the lock of its space, so it cannot interleave with this statement. Spaces and
/// users that are locked are skipped until the next run.
const ABORT_EXPIRED_UPLOADS: Query = Query::new(
    "-- abort_expired_uploads
WITH expired AS (
    SELECT u.id
    FROM uploads u
    JOIN spaces s ON s.id = u.space_id
    JOIN users o ON o.user_id = u.user_id
    WHERE u.state = 'pending' AND u.expires_at <= $1
    ORDER BY u.expires_at
    LIMIT $2
    FOR NO KEY UPDATE OF s, u, o SKIP LOCKED
)
UPDATE uploads u
SET state = 'aborted'
FROM expired
WHERE u.id = expired.id AND u.state = 'pending'
RETURNING u.id",
);

/// $1 the latest expiry, $2 and $3 expiry and id of the last upload of the page before, $4 maximum number of
/// uploads. An object that a version refers to is in use, whatever the upload's state.
const LIST_ABORTED_UPLOADS: Query = Query::new(
    "-- list_aborted_uploads
SELECT u.id, u.multipart_id, u.expires_at
FROM uploads u
WHERE u.state = 'aborted' AND u.expires_at <= $1 AND (u.expires_at, u.id) > ($2, $3)
    AND NOT EXISTS (SELECT FROM versions v WHERE v.object_key = 'objects/' || u.id)
ORDER BY u.expires_at, u.id
LIMIT $4",
);

/// $1 upload ids.
const FORGET_UPLOADS: Query = Query::new(
    "-- forget_uploads
DELETE FROM uploads
WHERE id = ANY ($1) AND state = 'aborted'",
);

impl Database {
    /// Aborts up to `limit` uploads that were not completed within [`IN_FLIGHT`] after their expiry, and
    /// returns the number aborted.
    pub async fn abort_expired_uploads(&self, now: OffsetDateTime, limit: i64) -> Result<usize, Error> {
        let late = now - IN_FLIGHT;
        let rows = self.rows(&ABORT_EXPIRED_UPLOADS, &[&late, &limit]).await?;
        Ok(rows.len())
    }

    /// Up to `limit` aborted uploads that expired at or before `expired_before`, the earliest expiry first,
    /// from after `after`.
    pub async fn aborted_uploads(
        &self,
        expired_before: OffsetDateTime,
        after: Option<&AbortedUpload>,
        limit: i64,
    ) -> Result<Vec<AbortedUpload>, Error> {
        let (expires_at, id) = match after {
            Some(last) => (last.expires_at, Uuid::from(last.upload_id)),
            None => (OffsetDateTime::UNIX_EPOCH, Uuid::nil()),
        };
        let rows = self
            .rows(
                &LIST_ABORTED_UPLOADS,
                &[&expired_before, &expires_at, &id, &limit],
            )
            .await?;
        rows.iter().map(aborted).collect()
    }

    /// Deletes the rows of aborted uploads that storage holds no content for. Uploads in other states are
    /// left alone.
    pub async fn forget_uploads(&self, uploads: &[UploadId]) -> Result<(), Error> {
        let ids: Vec<Uuid> = uploads.iter().copied().map(Uuid::from).collect();
        self.rows(&FORGET_UPLOADS, &[&ids]).await?;
        Ok(())
    }
}

fn aborted(row: &Row) -> Result<AbortedUpload, Error> {
    Ok(AbortedUpload {
        upload_id: get::<Uuid>(row, "id")?.into(),
        multipart_id: get(row, "multipart_id")?,
        expires_at: get(row, "expires_at")?,
    })
}
