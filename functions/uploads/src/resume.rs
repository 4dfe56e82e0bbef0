//! `POST /uploads/{uploadId}/parts`, and `GET` and `DELETE /uploads/{uploadId}`.

use std::collections::BTreeSet;
use std::time::Duration;

use api::http::{Request, Response, empty, json};
use api::{Problem, batch};
use db::{Rejection, Upload, UploadPhase};
use http::StatusCode;
use model::{
    Caller, Composite, PresignPartsRequest, PresignedPart, PresignedParts, StoredPart, Transfer, UploadId,
    UploadStatus, UploadView,
};
use storage::{Part, Put};
use tokio::time::timeout;

use crate::presign::url_lifetime;
use crate::{App, Error};

/// Longest duration of listing the parts, which takes at most ten calls. It is well below the function's
/// timeout.
const LISTING_TIMEOUT: Duration = Duration::from_secs(10);

/// Presigns the PUTs of up to [`PresignPartsRequest::MAX_PARTS`] parts.
pub(crate) async fn parts(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let (upload_id, caller) = upload_and_caller(request)?;
    let PresignPartsRequest { parts: wanted } = request.json()?;
    batch::check_count("parts", &wanted, PresignPartsRequest::MAX_PARTS)?;
    let numbers: BTreeSet<_> = wanted.iter().map(|part| part.part_number).collect();
    if numbers.len() < wanted.len() {
        return Err(Error::Parts("parts: each partNumber once".to_owned()).into());
    }

    let upload = app.db.load_upload(upload_id, &caller).await?;
    let upload = upload.ok_or(Rejection::NotFound)?;
    let now = app.clock.now();
    match upload.phase_at(now) {
        UploadPhase::Completed(_) => return Err(Rejection::Completed.into()),
        UploadPhase::Arriving | UploadPhase::Ended => return Err(Rejection::Expired.into()),
        UploadPhase::Open if !upload.may_write => return Err(Rejection::Forbidden.into()),
        UploadPhase::Open => {}
    }
    let (Some(layout), Some(multipart_id)) = (upload.parts(), upload.multipart_id.as_deref()) else {
        return Err(Error::NotMultipart.into());
    };
    let (key, lifetime) = (upload_id.object_key(), url_lifetime(upload.expires_at, now));
    let mut parts = Vec::with_capacity(wanted.len());
    for part in wanted {
        let size = layout.size_of(part.part_number, upload.size);
        let size = size.ok_or_else(|| {
            let (number, last) = (part.part_number, layout.part_count);
            Error::Parts(format!(
                "parts: there is no part {number}, the last one is {last}"
            ))
        })?;
        let presigning = app.storage.presign_part(&key, multipart_id, part, size, lifetime);
        parts.push(PresignedPart {
            part_number: part.part_number,
            put: presigning.await.map_err(Error::Presign)?,
        });
    }
    json(StatusCode::OK, &PresignedParts { parts })
}

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

/// Aborts an upload and its multipart upload, which frees the parts.
pub(crate) async fn abort(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let (upload_id, caller) = upload_and_caller(request)?;
    let multipart_id = app.db.abort_upload(upload_id, &caller).await??;
    if let Some(multipart_id) = multipart_id {
        let key = upload_id.object_key();
        let aborting = app.storage.abort_multipart(&key, &multipart_id);
        aborting.await.map_err(Error::Storage)?;
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

fn upload_and_caller(request: Request<'_>) -> Result<(UploadId, Caller), Problem> {
    let caller = request.caller()?;
    request.no_query()?;
    Ok((request.path_parameter("uploadId")?, caller))
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
