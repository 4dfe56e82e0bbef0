//! `PATCH` and `DELETE /files/{fileId}`, and `POST /files/batch`.

use std::collections::HashMap;

use api::http::{Request, Response, json};
use api::{Problem, batch};
use db::{Base, FileCommand, NewChange, Rejection};
use http::StatusCode;
use model::{
    ChangeFilesRequest, ChangeOutcome, DeviceId, Event, FileChange, FileChanged, FileId, MAX_BATCH_ITEMS,
    MoveFileRequest, SpaceId, SpacePath, Version,
};
use serde::Deserialize;
use serde_json::Value;

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
    let command = FileCommand::Move(file_id, &body.path, base);
    let effect = app.db.change_file(command, new).await??;
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
        app.db
            .change_file(FileCommand::Delete(file_id, base), new)
            .await??
    };
    answer(commands::finish(&app.queue, &app.db, &app.clock, effect).await)
}

/// Moves and deletes files, those of one space in one transaction.
pub(crate) async fn change_all(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let ChangeFilesRequest::<Value> { changes, device_id } = request.json()?;
    batch::check_count("changes", &changes, MAX_BATCH_ITEMS)?;
    let changes: Vec<Result<FileChange, Problem>> = changes.into_iter().map(batch::item).collect();
    let valid: Vec<(usize, &FileChange)> = changes
        .iter()
        .enumerate()
        .filter_map(|(index, change)| Some((index, change.as_ref().ok()?)))
        .collect();
    let file_ids: Vec<FileId> = valid.iter().map(|(_, change)| change.file_id()).collect();
    let spaces = app.db.find_spaces_of_files(&file_ids, &caller).await?;
    let found: Vec<(usize, SpaceId, &FileChange)> = valid
        .into_iter()
        .filter_map(|(index, change)| Some((index, *spaces.get(&change.file_id())?, change)))
        .collect();

    let by_space = found.iter().map(|(_, space_id, change)| (*space_id, *change));
    let committed = commands::commit_by_space(
        &app.queue,
        &app.db,
        &app.clock,
        by_space,
        async |space_id, changes| {
            let commit = commands::begin_all(&app.clock, &caller, app.max_changes_per_minute);
            let changes: Vec<(FileCommand<'_>, NewChange<'_>)> = changes
                .iter()
                .map(|change| (command_of(change), commands::change(commit, device_id)))
                .collect();
            app.db.change_files(space_id, &changes, commit).await
        },
    );
    let committed = committed.await.into_iter().map(|event| changed(event?));
    let mut committed: HashMap<usize, Result<FileChanged, Problem>> =
        found.iter().map(|(index, ..)| *index).zip(committed).collect();

    let results = changes.into_iter().enumerate().map(|(index, change)| {
        change?;
        let not_found = || Err(Rejection::NotFound.into());
        committed.remove(&index).unwrap_or_else(not_found)
    });
    batch::results(
        request,
        StatusCode::OK,
        results.collect(),
        ChangeOutcome::Change,
        ChangeOutcome::Problem,
    )
}

fn command_of(change: &FileChange) -> FileCommand<'_> {
    match change {
        FileChange::Move {
            file_id,
            path,
            base_version,
            base_path,
        } => {
            let base = Base {
                version: *base_version,
                path: base_path.as_ref(),
            };
            FileCommand::Move(*file_id, path, base)
        }
        FileChange::Delete {
            file_id,
            base_version,
            base_path,
        } => {
            let base = Base {
                version: *base_version,
                path: base_path.as_ref(),
            };
            FileCommand::Delete(*file_id, base)
        }
    }
}

pub(crate) fn answer(event: Option<Event>) -> Result<Response, Problem> {
    json(StatusCode::OK, &changed(event)?)
}

fn changed(event: Option<Event>) -> Result<FileChanged, Problem> {
    let event = event.ok_or_else(|| Problem::internal("a file's change without an event"))?;
    FileChanged::try_from(event).map_err(Problem::internal)
}
