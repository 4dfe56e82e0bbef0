//! Uploads that came to nothing, and what storage may still hold of them.
//!
//! An upload that is aborted keeps its row until storage is known to hold nothing of it. So whoever frees storage can be killed
//! at any moment, or run twice at once.

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

/// An aborted upload of which storage may hold something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbortedUpload {
    /// The upload.
    pub upload_id: UploadId,
    /// S3's id of its multipart upload, if it has one.
    pub multipart_id: Option<String>,
    /// When it expired.
    pub expires_at: OffsetDateTime,
}

/// $1 the expiry up to which it is too late to complete, $2 how many. Completing an upload holds its space's
/// lock, so it comes before or after, never in between; a space that is busy is left for the next time.
const ABORT_EXPIRED_UPLOADS: Query = Query::new(
    "-- abort_expired_uploads
WITH expired AS (
    SELECT u.id
    FROM uploads u
    JOIN spaces s ON s.id = u.space_id
    WHERE u.state = 'pending' AND u.expires_at <= $1
    ORDER BY u.expires_at
    LIMIT $2
    FOR NO KEY UPDATE OF s, u SKIP LOCKED
)
UPDATE uploads u
SET state = 'aborted'
FROM expired
WHERE u.id = expired.id AND u.state = 'pending'
RETURNING u.id",
);

/// $1 the latest expiry, $2 and $3 the expiry and id after which to begin, $4 how many. An object that a version names is no
/// aborted upload, whatever the upload's state.
const LIST_ABORTED_UPLOADS: Query = Query::new(
    "-- list_aborted_uploads
SELECT u.id, u.multipart_id, u.expires_at
FROM uploads u
WHERE u.state = 'aborted' AND u.expires_at <= $1 AND (u.expires_at, u.id) > ($2, $3)
    AND NOT EXISTS (SELECT FROM versions v WHERE v.object_key = 'objects/' || u.id)
ORDER BY u.expires_at, u.id
LIMIT $4",
);

/// $1 uploads.
const FORGET_UPLOADS: Query = Query::new(
    "-- forget_uploads
DELETE FROM uploads
WHERE id = ANY ($1) AND state = 'aborted'",
);

impl Database {
    /// Aborts up to `limit` uploads that were not completed in time, and returns how many those were.
    pub async fn abort_expired_uploads(&self, now: OffsetDateTime, limit: i64) -> Result<usize, Error> {
        let late = now - IN_FLIGHT;
        let rows = self.rows(&ABORT_EXPIRED_UPLOADS, &[&late, &limit]).await?;
        Ok(rows.len())
    }

    /// Up to `limit` aborted uploads that expired before a time, the oldest first, after the one given.
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

    /// Forgets aborted uploads of which storage holds nothing any more.
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
