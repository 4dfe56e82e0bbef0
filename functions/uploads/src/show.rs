//! `GET /uploads/{uploadId}`: the state of an upload, with the way to continue it.

use std::time::Duration;

use api::Problem;
use api::http::{Request, Response, json};
use db::{Rejection, Upload, UploadPhase};
use http::StatusCode;
use model::{Composite, StoredPart, Transfer, UploadStatus, UploadView};
use storage::{Part, Put};
use tokio::time::timeout;

use crate::url_lifetime::url_lifetime;
use crate::{App, Error, upload_and_caller};

/// Longest duration of listing the parts, which takes at most ten calls. It is well below the function's
/// timeout.
const LISTING_TIMEOUT: Duration = Duration::from_secs(10);

/// Shows the state of an upload. While it is pending, the answer also says how to continue.
pub(crate) async fn show(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let (upload_id, caller) = upload_and_caller(request)?;
    let upload = app.db.load_upload(upload_id, &caller).await?;
    let upload = upload.ok_or(Rejection::NotFound)?;
    let now = app.clock.now();
    let phase = upload.phase_at(now);
    let state = match phase {
        UploadPhase::Completed(_) => UploadStatus::Completed,
        UploadPhase::Open | UploadPhase::Arriving => UploadStatus::Pending,
        UploadPhase::Ended => UploadStatus::Aborted,
    };
    let (mut transfer, mut parts, mut object) = (None, None, None);
    if state == UploadStatus::Pending && upload.may_write {
        let (key, sendable) = (upload_id.object_key(), phase == UploadPhase::Open);
        if let Some(layout) = upload.parts() {
            transfer = sendable.then_some(Transfer::Multipart(layout));
            parts = stored_parts(app, &key, &upload).await?;
        } else if sendable {
            let put = Put {
                size: upload.size,
                sha256: upload.sha256.ok_or(Error::NoSha256 {
                    most: app.multipart_threshold_bytes,
                })?,
                content_type: upload.content_type.as_ref(),
            };
            let lifetime = url_lifetime(upload.expires_at, now);
            let presigning = app.storage.presign_put(&key, put, lifetime);
            transfer = Some(Transfer::Put(presigning.await.map_err(Error::Presign)?));
        }
        if parts.is_none() {
            object = app.storage.head(&key).await.map_err(Error::Storage)?;
        }
    }
    let composite = upload.parts().zip(object.as_ref()).and_then(|(layout, object)| {
        Some(Composite {
            part_size: layout.part_size,
            sha256: object.composite(layout.part_count)?,
        })
    });
    json(
        StatusCode::OK,
        &UploadView {
            upload_id,
            space_id: upload.space_id,
            path: upload.path,
            size: upload.size,
            sha256: upload.sha256,
            state,
            expires_at: upload.expires_at,
            stored: object.is_some() || state == UploadStatus::Completed,
            composite,
            transfer,
            parts,
        },
    )
}

/// The parts that storage has. `None` if the multipart upload no longer exists: it was assembled or aborted.
async fn stored_parts(app: &App, key: &str, upload: &Upload) -> Result<Option<Vec<StoredPart>>, Error> {
    let Some(multipart_id) = upload.multipart_id.as_deref() else {
        return Ok(Some(Vec::new()));
    };
    let listing = timeout(LISTING_TIMEOUT, app.storage.list_parts(key, multipart_id));
    let parts = listing.await.map_err(|_| Error::ListingTimeout)??;
    Ok(parts.map(|parts| parts.iter().map(stored_part).collect()))
}

fn stored_part(part: &Part) -> StoredPart {
    StoredPart {
        part_number: part.number,
        size: part.size,
        sha256: part.sha256,
    }
}
