//! `PATCH` and `DELETE /files/{fileId}`.

use api::Problem;
use api::http::{Request, Response, json};
use db::Base;
use http::StatusCode;
use model::{DeviceId, Event, FileChanged, FileId, MoveFileRequest, SpacePath, Version};
use serde::Deserialize;

use crate::App;

/// Moves a file. A move to the current path changes nothing and returns the file's newest change. A repeated
/// move returns the change that the first request made, even if the file has changed since.
pub(crate) async fn rename(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let file_id: FileId = request.path_parameter("fileId")?;
    let body: MoveFileRequest = request.json()?;
    let new = commands::begin(&app.clock, &caller, body.device_id, app.max_changes_per_minute);
    let base = Base {
        version: body.base_version,
        path: body.base_path.as_ref(),
    };
    let effect = app.db.move_file(file_id, &body.path, base, new).await??;
    answer(commands::finish(&app.queue, &app.db, &app.clock, effect).await)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeleteQuery {
    base_version: Option<Version>,
    base_path: Option<SpacePath>,
    device_id: Option<DeviceId>,
    #[serde(default)]
    permanently: bool,
}

/// Moves a file to the trash, or erases it. A repeated request returns the same change.
pub(crate) async fn delete(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let file_id: FileId = request.path_parameter("fileId")?;
    let query: DeleteQuery = request.query()?;
    let new = commands::begin(&app.clock, &caller, query.device_id, app.max_changes_per_minute);
    let base = Base {
        version: query.base_version,
        path: query.base_path.as_ref(),
    };
    let effect = if query.permanently {
        app.db.erase_file(file_id, base, new).await??
    } else {
        app.db.delete_file(file_id, base, new).await??
    };
    answer(commands::finish(&app.queue, &app.db, &app.clock, effect).await)
}

pub(crate) fn answer(event: Option<Event>) -> Result<Response, Problem> {
    let event = event.ok_or_else(|| Problem::internal("a file's change without an event"))?;
    let changed = FileChanged::try_from(event).map_err(Problem::internal)?;
    json(StatusCode::OK, &changed)
}
