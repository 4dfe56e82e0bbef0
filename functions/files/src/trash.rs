//! `GET /files?deleted=true`, and restoring files and versions.

use api::Problem;
use api::http::{Request, Response, json};
use db::Rejection;
use http::StatusCode;
use model::{
    DeletedFileList, FileId, PageLimit, PageToken, RestoreFileRequest, RestoreVersionRequest, SpaceId,
    TrashKey, Version, page,
};
use serde::Deserialize;

use crate::App;
use crate::edit::answer;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TrashQuery {
    space_id: Option<SpaceId>,
    /// Always true, or the request would list the other files.
    #[serde(rename = "deleted")]
    _deleted: bool,
    #[serde(default)]
    limit: PageLimit,
    page_token: Option<PageToken<TrashKey>>,
}

/// Lists the files in the trash of a space, newest deletion first.
pub(crate) async fn list(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let query: TrashQuery = request.query()?;
    let after = query.page_token.map(|token| token.0);
    let listing = app
        .db
        .list_trash(query.space_id, &caller, after, query.limit, app.trash_time);
    let files = listing.await?.ok_or(Rejection::NotFound)?;
    let (files, next_page_token) = page(files, query.limit, |deleted| TrashKey {
        deleted_at: deleted.deleted_at,
        file_id: deleted.file.file_id,
    });
    json(
        StatusCode::OK,
        &DeletedFileList {
            files,
            next_page_token,
        },
    )
}

/// Brings a file back from the trash. A repeated request returns the same change.
pub(crate) async fn restore_file(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let file_id: FileId = request.path_parameter("fileId")?;
    let body: RestoreFileRequest = request.json()?;
    let new = commands::begin(&app.clock, &caller, body.device_id, app.max_changes_per_minute);
    let effect = app.db.restore_file(file_id, body.path.as_ref(), new).await??;
    answer(commands::finish(&app.queue, &app.db, &app.clock, effect).await)
}

/// Makes an old version the newest one. Nothing changes if the current version has the same content.
pub(crate) async fn restore_version(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let file_id: FileId = request.path_parameter("fileId")?;
    let version: Version = request.path_parameter("version")?;
    let body: RestoreVersionRequest = request.json()?;
    let new = commands::begin(&app.clock, &caller, body.device_id, app.max_changes_per_minute);
    let restoring = app.db.restore_version(file_id, version, body.base_version, new);
    let effect = restoring.await??;
    answer(commands::finish(&app.queue, &app.db, &app.clock, effect).await)
}
