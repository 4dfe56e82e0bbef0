//! `POST /uploads` and `POST /uploads/batch`: open uploads.

use api::http::{Request, Response, json};
use api::{Problem, batch};
use db::{NewUpload, OpenUpload, Opening};
use futures_util::stream::{self, StreamExt as _};
use http::StatusCode;
use model::{
    Caller, ContentType, CreateUploadRequest, CreateUploadsRequest, CreatedUpload, IdempotencyKey,
    MAX_BATCH_ITEMS, OpeningOutcome, PartLayout, Transfer, UploadId,
};
use platform::{digest, ids, summary};
use serde_json::Value;
use storage::Put;

use crate::url_lifetime::url_lifetime;
use crate::{App, Error, MULTIPART_LIFETIME, PUT_LIFETIME};

/// The largest number of multipart uploads that one request creates in S3 at the same time.
const CONCURRENT_TRANSFERS: usize = 16;

/// Opens an upload. A repeated request with the same idempotency key returns the upload that the first one
/// opened.
pub(crate) async fn create(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let header: Option<IdempotencyKey> = request.header("idempotency-key")?;
    let mut body: CreateUploadRequest = request.json()?;
    if let Some(header) = header
        && body.idempotency_key.get_or_insert_with(|| header.clone()) != &header
    {
        let detail = "idempotencyKey: the header Idempotency-Key has another one. Send one of them.";
        return Err(Problem::invalid(detail));
    }
    let mut opened = open(app, &caller, vec![Ok(body)]).await?;
    let created = opened
        .pop()
        .ok_or_else(|| Problem::internal("no upload was opened"))??;
    json(StatusCode::CREATED, &created)
}

/// Opens uploads independently of each other.
pub(crate) async fn create_all(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let CreateUploadsRequest::<Value> { uploads } = request.json()?;
    batch::check_count("uploads", &uploads, MAX_BATCH_ITEMS)?;
    let opened = open(app, &caller, uploads.into_iter().map(batch::item).collect()).await?;
    batch::results(
        request,
        StatusCode::CREATED,
        opened,
        OpeningOutcome::Upload,
        OpeningOutcome::Problem,
    )
}

/// A valid request, and the properties of its upload that do not depend on the database.
struct Wanted {
    body: CreateUploadRequest,
    id: UploadId,
    key: Option<IdempotencyKey>,
    request_hash: [u8; 32],
    parts: Option<PartLayout>,
}

/// Opens the uploads of valid requests. Returns the result of each request.
async fn open(
    app: &App,
    caller: &Caller,
    requests: Vec<Result<CreateUploadRequest, Problem>>,
) -> Result<Vec<Result<CreatedUpload, Problem>>, Problem> {
    let wanted: Vec<Result<Wanted, Problem>> = requests
        .into_iter()
        .map(|body| body.and_then(|body| check(app, body)))
        .collect();
    let created_at = app.clock.now();
    let new: Vec<NewUpload<'_>> = wanted
        .iter()
        .flatten()
        .map(|wanted| NewUpload {
            id: wanted.id,
            space_id: wanted.body.space_id,
            device_id: wanted.body.device_id,
            path: &wanted.body.path,
            size: wanted.body.size,
            sha256: wanted.body.sha256,
            content_type: wanted.body.content_type.as_ref(),
            modified_at: wanted.body.modified_at,
            executable: wanted.body.executable,
            base_version: wanted.body.base_version,
            base_file_id: wanted.body.base_file_id,
            part_size: wanted.parts.map(|parts| parts.part_size),
            key: wanted.key.as_ref().map(|key| (key, wanted.request_hash)),
            expires_at: created_at
                + if wanted.parts.is_some() {
                    MULTIPART_LIFETIME
                } else {
                    PUT_LIFETIME
                },
        })
        .collect();
    let opening = Opening {
        caller,
        new_space_id: ids::new_id().into(),
        max_space_bytes: app.max_space_bytes,
        max_pending_uploads: app.max_pending_uploads,
        created_at,
    };
    let mut opened = app.db.open_uploads(&new, opening).await?.into_iter();
    let opened: Vec<Result<_, Problem>> = wanted
        .into_iter()
        .map(|wanted| {
            let wanted = wanted?;
            let upload = opened
                .next()
                .ok_or_else(|| Problem::internal("an upload is missing"))??;
            Ok((wanted.body, upload))
        })
        .collect();
    let created = stream::iter(opened).map(async |opened| {
        let (body, upload) = opened?;
        created(app, body, &upload).await
    });
    Ok(created.buffered(CONCURRENT_TRANSFERS).collect().await)
}

fn check(app: &App, mut body: CreateUploadRequest) -> Result<Wanted, Problem> {
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
    if parts.is_none() && body.sha256.is_none() {
        return Err(Error::NoSha256 {
            most: app.multipart_threshold_bytes,
        }
        .into());
    }
    if let Some(space_id) = body.space_id {
        summary::record("space_ids", space_id);
    }
    let key = body.idempotency_key.take();
    // The hash covers the parsed request without its key, so that field order and white space do not matter.
    let text = serde_json::to_vec(&body).map_err(Problem::internal)?;
    Ok(Wanted {
        id: ids::new_id().into(),
        key,
        request_hash: digest::sha256(&text),
        parts,
        body,
    })
}

async fn created(
    app: &App,
    body: CreateUploadRequest,
    upload: &OpenUpload,
) -> Result<CreatedUpload, Problem> {
    let upload_id = upload.id;
    summary::record("upload_ids", upload_id);
    summary::record("space_ids", upload.space_id);
    let transfer = transfer(app, upload, &body).await?;
    Ok(CreatedUpload {
        upload_id,
        space_id: upload.space_id,
        path: body.path,
        expires_at: upload.expires_at,
        transfer,
    })
}

async fn transfer(app: &App, upload: &OpenUpload, body: &CreateUploadRequest) -> Result<Transfer, Error> {
    let parts = upload
        .part_size
        .and_then(|part_size| PartLayout::with_part_size(body.size, part_size));
    let Some(parts) = parts else {
        let put = Put {
            size: body.size,
            sha256: body.sha256.ok_or(Error::NoSha256 {
                most: app.multipart_threshold_bytes,
            })?,
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
