//! `POST /uploads/{uploadId}/parts`: presigns the PUTs of parts.

use std::collections::BTreeSet;

use api::http::{Request, Response, json};
use api::{Problem, batch};
use db::{Rejection, UploadPhase};
use http::StatusCode;
use model::{PresignPartsRequest, PresignedPart, PresignedParts};

use crate::url_lifetime::url_lifetime;
use crate::{App, Error, upload_and_caller};

/// Presigns the PUTs of up to [`PresignPartsRequest::MAX_PARTS`] parts.
pub(crate) async fn parts(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let (upload_id, caller) = upload_and_caller(request)?;
    let PresignPartsRequest { parts: wanted } = request.json()?;
    batch::check_count("parts", &wanted, PresignPartsRequest::MAX_PARTS)?;
    let numbers: BTreeSet<_> = wanted.iter().map(|part| part.part_number).collect();
    if numbers.len() < wanted.len() {
        return Err(Problem::invalid("parts: each partNumber once"));
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
            Problem::invalid(format!(
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
