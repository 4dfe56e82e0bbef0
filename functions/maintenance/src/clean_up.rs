//! Removes expired tickets, connections and uploads, and the content of expired uploads from storage.

use db::AbortedUpload;
use futures_util::future::join_all;
use model::UploadId;
use platform::error_chain;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::{App, Error, UPLOAD_GRACE};

/// The largest number of rows that one statement deletes or aborts.
const ROWS: usize = 1_000;

/// Uploads whose content is deleted concurrently, between two statements. Each takes at most 5 s: two calls
/// of 2.5 s each.
const UPLOADS: usize = 16;

/// Deletes expired tickets and invitations, and connections that API Gateway has closed by now. Returns their
/// number.
pub(crate) async fn forget_expired(app: &App, deadline: Instant) -> Result<usize, Error> {
    let now = app.clock.now();
    let limit = i64::try_from(ROWS).unwrap_or(i64::MAX);
    let tickets =
        repeat_in_batches(deadline, async || app.db.remove_expired_tickets(now, limit).await).await?;
    let connections = repeat_in_batches(deadline, async || {
        app.db.remove_expired_connections(now, limit).await
    })
    .await?;
    let invitations = repeat_in_batches(deadline, async || {
        app.db.remove_expired_invitations(now, limit).await
    })
    .await?;
    Ok(tickets + connections + invitations)
}

/// Aborts uploads that were not completed in time, and returns their number.
pub(crate) async fn abort_expired(app: &App, deadline: Instant) -> Result<usize, Error> {
    let now = app.clock.now();
    let limit = i64::try_from(ROWS).unwrap_or(i64::MAX);
    repeat_in_batches(deadline, async || app.db.abort_expired_uploads(now, limit).await).await
}

/// Repeats a statement until it affects fewer than [`ROWS`] rows or the deadline passes. Returns the total of
/// rows.
async fn repeat_in_batches(
    deadline: Instant,
    statement: impl AsyncFn() -> Result<usize, db::Error>,
) -> Result<usize, Error> {
    let mut total = 0;
    while Instant::now() < deadline {
        let rows = statement().await?;
        total += rows;
        if rows < ROWS {
            break;
        }
    }
    Ok(total)
}

/// Deletes the content of aborted uploads from storage once no more of it can arrive, and then deletes their
/// rows. An upload whose content cannot be deleted does not block the others.
pub(crate) async fn free_storage(app: &App, deadline: Instant) -> Result<usize, Error> {
    let expired_before = app.clock.now() - UPLOAD_GRACE;
    let limit = i64::try_from(UPLOADS).unwrap_or(i64::MAX);
    let (mut freed, mut kept) = (0, 0);
    let mut last: Option<AbortedUpload> = None;
    while Instant::now() < deadline {
        let aborted_uploads = app
            .db
            .aborted_uploads(expired_before, last.as_ref(), limit)
            .await?;
        let Some(newest) = aborted_uploads.last() else {
            break;
        };
        last = Some(newest.clone());
        let freeing = aborted_uploads.iter().map(|aborted| free(app, aborted));
        let done: Vec<UploadId> = join_all(freeing).await.into_iter().flatten().collect();
        app.db.forget_uploads(&done).await?;
        freed += done.len();
        kept += aborted_uploads.len() - done.len();
        debug!(
            uploads = done.len(),
            "freed what storage held of {} uploads",
            done.len()
        );
    }
    if kept > 0 {
        return Err(Error::Storage(kept));
    }
    Ok(freed)
}

/// Deletes the parts and the object of one upload, and returns its id if that succeeded. It may safely be
/// repeated.
async fn free(app: &App, aborted: &AbortedUpload) -> Option<UploadId> {
    let upload_id = aborted.upload_id;
    let key = upload_id.object_key();
    let freeing = async {
        if let Some(multipart_id) = &aborted.multipart_id {
            app.storage.abort_multipart(&key, multipart_id).await?;
        }
        app.storage.delete(&key).await
    };
    if let Err(error) = freeing.await {
        warn!(%upload_id, error = error_chain(&error), "the content of upload {upload_id} is not freed");
        return None;
    }
    Some(upload_id)
}
