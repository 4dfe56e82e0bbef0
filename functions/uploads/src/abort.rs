//! `DELETE /uploads/{uploadId}`: aborts an upload.

use api::Problem;
use api::http::{Request, Response, empty};
use http::StatusCode;

use crate::{App, Error, upload_and_caller};

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
