//! `POST /uploads/{uploadId}/parts`, `GET` and `DELETE /uploads/{uploadId}`.

use std::collections::BTreeSet;
use std::time::Duration;

use api::Problem;
use api::http::{Request, Response, empty, json};
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::operation::head_object::HeadObjectError;
use db::{IN_FLIGHT, Rejection, Upload, UploadState};
use http::StatusCode;
use model::{
    Parts, PresignPartsRequest, PresignedPart, PresignedParts, StoredPart, Transfer, UploadId,
    UploadStateName, UploadView, UserId,
};
use tokio::time::timeout;

use crate::{App, Error, presign};

/// How long listing the parts may take, in at most ten calls: well within the function's own timeout.
const LISTING_TIMEOUT: Duration = Duration::from_secs(10);

/// Presigns the PUTs of some parts.
pub(crate) async fn parts(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let (upload_id, user_id) = named(request)?;
    let PresignPartsRequest { parts: wanted } = request.json()?;
    if wanted.is_empty() || wanted.len() > PresignPartsRequest::MAX_PARTS {
        let most = PresignPartsRequest::MAX_PARTS;
        return Err(Error::Parts(format!("parts: from 1 to {most} at once")).into());
    }
    let numbers: BTreeSet<_> = wanted.iter().map(|part| part.part_number).collect();
    if numbers.len() < wanted.len() {
        return Err(Error::Parts("parts: each partNumber once".to_owned()).into());
    }

    let upload = load(app, upload_id, &user_id).await?;
    if !upload.may_write {
        return Err(Rejection::Forbidden.into());
    }
    match upload.state {
        UploadState::Completed(_) => return Err(Rejection::Completed.into()),
        UploadState::Pending if upload.expires_at > app.clock.now() => {}
        UploadState::Pending | UploadState::Aborted => return Err(Rejection::Expired.into()),
    }
    let (Some(cut), Some(multipart_id)) = (cut(&upload), upload.multipart_id.as_deref()) else {
        return Err(Error::NotMultipart.into());
    };
    let mut parts = Vec::with_capacity(wanted.len());
    for part in wanted {
        let size = cut.size_of(part.part_number, upload.size);
        let size = size.ok_or_else(|| {
            let (number, last) = (part.part_number, cut.part_count);
            Error::Parts(format!(
                "parts: there is no part {number}, the last one is {last}"
            ))
        })?;
        let put = presign::part(app, (upload_id, multipart_id), part, size, upload.expires_at).await?;
        parts.push(PresignedPart {
            part_number: part.part_number,
            put,
        });
    }
    json(StatusCode::OK, &PresignedParts { parts })
}

/// Says how far an upload got, and while it is pending how to go on.
pub(crate) async fn show(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let (upload_id, user_id) = named(request)?;
    let upload = load(app, upload_id, &user_id).await?;
    let state = match upload.state {
        UploadState::Completed(_) => UploadStateName::Completed,
        UploadState::Pending if upload.expires_at + IN_FLIGHT > app.clock.now() => UploadStateName::Pending,
        UploadState::Pending | UploadState::Aborted => UploadStateName::Aborted,
    };
    let (mut transfer, mut parts, mut stored) = (None, None, state == UploadStateName::Completed);
    let sendable = upload.expires_at > app.clock.now();
    if state == UploadStateName::Pending && upload.may_write {
        if let Some(cut) = cut(&upload) {
            transfer = sendable.then_some(Transfer::Multipart(cut));
            let listing = stored_parts(app, upload_id, upload.multipart_id.as_deref());
            parts = timeout(LISTING_TIMEOUT, listing)
                .await
                .unwrap_or_else(|elapsed| Err(Error::Storage(elapsed.into())))?;
            stored = parts.is_none() && is_stored(app, upload_id).await?;
        } else {
            stored = is_stored(app, upload_id).await?;
            let (size, sha256, expires_at) = (upload.size, upload.sha256, upload.expires_at);
            let put = presign::put(
                app,
                upload_id,
                size,
                sha256,
                upload.content_type.as_ref(),
                expires_at,
            );
            transfer = sendable.then_some(Transfer::Put(put.await?));
        }
    }
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
            stored,
            transfer,
            parts,
        },
    )
}

/// Gives an upload up and frees its parts.
pub(crate) async fn abort(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let (upload_id, user_id) = named(request)?;
    let aborting = app.db.abort_upload(upload_id, &user_id).await;
    let multipart_id = aborting??;
    if let Some(multipart_id) = multipart_id {
        presign::abort_multipart(app, upload_id, &multipart_id).await?;
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

fn named(request: Request<'_>) -> Result<(UploadId, UserId), Problem> {
    let user_id = request.subject()?;
    request.no_query()?;
    Ok((request.path_parameter("uploadId")?, user_id))
}

async fn load(app: &App, upload_id: UploadId, user_id: &UserId) -> Result<Upload, Problem> {
    let upload = app.db.load_upload(upload_id, user_id).await;
    let upload = upload?;
    upload.ok_or_else(|| Problem::from(Rejection::NotFound))
}

fn cut(upload: &Upload) -> Option<Parts> {
    upload
        .part_size
        .and_then(|part_size| Parts::with_part_size(upload.size, part_size))
}

/// The parts that storage has; nothing once they are assembled. S3 lists 1,000 at a time, so this takes at most ten calls.
async fn stored_parts(
    app: &App,
    upload_id: UploadId,
    multipart_id: Option<&str>,
) -> Result<Option<Vec<StoredPart>>, Error> {
    let Some(multipart_id) = multipart_id else {
        return Ok(Some(Vec::new()));
    };
    let mut pages = app
        .s3
        .list_parts()
        .bucket(&app.bucket)
        .key(upload_id.object_key())
        .upload_id(multipart_id)
        .into_paginator()
        .send();
    let mut parts = Vec::new();
    while let Some(page) = pages.next().await {
        let page = match page {
            Ok(page) => page,
            // It has no modelled errors, so the code is all that there is.
            Err(error) if error.code() == Some("NoSuchUpload") => return Ok(None),
            Err(error) => return Err(Error::Storage(error.into())),
        };
        parts.extend(page.parts().iter().filter_map(stored_part));
    }
    Ok(Some(parts))
}

async fn is_stored(app: &App, upload_id: UploadId) -> Result<bool, Error> {
    let head = app
        .s3
        .head_object()
        .bucket(&app.bucket)
        .key(upload_id.object_key());
    match head.send().await {
        Ok(_) => Ok(true),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(HeadObjectError::is_not_found) =>
        {
            Ok(false)
        }
        Err(error) => Err(Error::Storage(error.into())),
    }
}

fn stored_part(part: &aws_sdk_s3::types::Part) -> Option<StoredPart> {
    Some(StoredPart {
        part_number: i64::from(part.part_number()?).try_into().ok()?,
        size: part.size()?.try_into().ok()?,
        sha256: part.checksum_sha256()?.parse().ok()?,
    })
}
