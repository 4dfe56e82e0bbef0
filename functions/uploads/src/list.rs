//! `GET /uploads`: the caller's pending uploads.

use api::Problem;
use api::http::{Request, Response, json};
use http::StatusCode;
use model::{PageQuery, PendingUploadList, UploadId, page};

use crate::App;

/// Lists the caller's pending uploads of all devices, oldest first.
pub(crate) async fn list(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let query: PageQuery<UploadId> = request.query()?;
    let after = query.page_token.map(|token| token.0);
    let listing = app
        .db
        .list_pending_uploads(&caller, after, query.limit, app.clock.now());
    let (uploads, next_page_token) = page(listing.await?, query.limit, |upload| upload.upload_id);
    json(
        StatusCode::OK,
        &PendingUploadList {
            uploads,
            next_page_token,
        },
    )
}
