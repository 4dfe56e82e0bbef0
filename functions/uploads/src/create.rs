//! `POST /uploads`: opens an upload.

use api::Problem;
use api::http::{Request, Response, json};
use db::{NewUpload, OpenUpload};
use http::StatusCode;
use model::{
    ContentType, CreateUploadRequest, CreatedUpload, IdempotencyKey, PartLayout, Transfer, UploadId,
};
use platform::{digest, ids};
use storage::Put;
use tracing::info;

use crate::presign::url_lifetime;
use crate::{App, Error, MULTIPART_LIFETIME, PUT_LIFETIME};

/// Opens an upload. A repeated request with the same idempotency key returns the upload that the first one
/// opened.
pub(crate) async fn create(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let header: Option<IdempotencyKey> = request.header("idempotency-key")?;
    let mut body: CreateUploadRequest = request.json()?;
    let key = match (header, body.idempotency_key.take()) {
        (Some(header), Some(key)) if header != key => {
            let detail = "idempotencyKey: the header Idempotency-Key has another one. Send one of them.";
            return Err(Problem::invalid(detail));
        }
        (header, key) => header.or(key),
    };
    if body.size.get() > app.max_upload_bytes {
        return Err(Error::TooLarge {
            most: app.max_upload_bytes,
        }
        .into());
    }
    if body.base_file_id.is_some() && body.base_version.is_some_and(|version| version.get() == 0) {
        let detail = "baseFileId: with baseVersion 0 the path must hold no file, so there is none to name. Leave one of them out.";
        return Err(Problem::invalid(detail));
    }
    let parts = Some(body.size)
        .filter(|size| size.get() > app.multipart_threshold_bytes)
        .and_then(PartLayout::of);
    // The hash covers the parsed request, so that field order and white space do not matter.
    let request_hash = serde_json::to_vec(&body).map_err(Problem::internal)?;

    let created_at = app.clock.now();
    let lifetime = if parts.is_some() {
        MULTIPART_LIFETIME
    } else {
        PUT_LIFETIME
    };
    let opening = app.db.open_upload(NewUpload {
        id: ids::new_id().into(),
        space_id: body.space_id,
        new_space_id: ids::new_id().into(),
        caller: &caller,
        device_id: body.device_id,
        path: &body.path,
        size: body.size,
        sha256: body.sha256,
        content_type: body.content_type.as_ref(),
        modified_at: body.modified_at,
        executable: body.executable,
        base_version: body.base_version,
        base_file_id: body.base_file_id,
        max_space_bytes: app.max_space_bytes,
        max_pending_uploads: app.max_pending_uploads,
        part_size: parts.map(|parts| parts.part_size),
        key: key.as_ref().map(|key| (key, digest::sha256(&request_hash))),
        created_at,
        expires_at: created_at + lifetime,
    });
    let upload = opening.await??;

    let upload_id = upload.id;
    info!(%upload_id, size = body.size.get(), "upload {upload_id} is open");
    let transfer = transfer(app, &upload, &body).await?;
    json(
        StatusCode::CREATED,
        &CreatedUpload {
            upload_id,
            space_id: upload.space_id,
            path: body.path,
            expires_at: upload.expires_at,
            transfer,
        },
    )
}

async fn transfer(app: &App, upload: &OpenUpload, body: &CreateUploadRequest) -> Result<Transfer, Error> {
    let parts = upload
        .part_size
        .and_then(|part_size| PartLayout::with_part_size(body.size, part_size));
    let Some(parts) = parts else {
        let put = Put {
            size: body.size,
            sha256: body.sha256,
            content_type: body.content_type.as_ref(),
        };
        let (key, lifetime) = (
            upload.id.object_key(),
            url_lifetime(upload.expires_at, app.clock.now()),
        );
        let presigning = app.storage.presign_put(&key, put, lifetime);
        return Ok(Transfer::Put(presigning.await.map_err(Error::Presign)?));
    };
    // An earlier request that died before this point left the upload without a multipart upload. Its retry
    // creates one.
    if upload.multipart_id.is_none() {
        begin_multipart(app, upload.id, body.content_type.as_ref()).await?;
    }
    Ok(Transfer::Multipart(parts))
}

async fn begin_multipart(
    app: &App,
    upload_id: UploadId,
    content_type: Option<&ContentType>,
) -> Result<(), Error> {
    let key = upload_id.object_key();
    let multipart_id = app.storage.create_multipart(&key, content_type).await?;
    if !app.db.set_multipart_id(upload_id, &multipart_id).await? {
        // Another request with the same key created a multipart upload first. That one is used.
        app.storage.abort_multipart(&key, &multipart_id).await?;
    }
    Ok(())
}
