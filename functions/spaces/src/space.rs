//! `GET` and `POST /spaces`, and `GET`, `PATCH`, `DELETE` and `POST …/restore` of one space.

use api::Problem;
use api::http::{Request, Response, empty, json};
use db::{NewSpace, Rejection};
use http::StatusCode;
use model::{
    CreateSpaceRequest, DeletedSpaceList, DeviceId, IdempotencyKey, PageLimit, PageToken, RenameSpaceRequest,
    RestoreSpaceRequest, SpaceId, SpaceKind, SpaceList, SpaceView, page,
};
use platform::{ids, summary};
use serde::Deserialize;

use crate::App;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListQuery {
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    limit: PageLimit,
    page_token: Option<PageToken<SpaceId>>,
}

/// Lists the spaces that the caller is a member of, or the deleted ones that the caller can restore, oldest
/// first.
pub(crate) async fn list(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let query: ListQuery = request.query()?;
    let after = query.page_token.map(|token| token.0);
    if query.deleted {
        let now = app.clock.now();
        let listing = app
            .db
            .list_deleted_spaces(&caller, after, query.limit, now, app.trash_time);
        let (epoch, spaces) = listing.await?;
        let (spaces, next_page_token) = page(spaces, query.limit, |deleted| deleted.space.space_id);
        return json(
            StatusCode::OK,
            &DeletedSpaceList {
                spaces,
                next_page_token,
                epoch,
            },
        );
    }
    let list = || app.db.list_spaces(&caller, after, query.limit);
    if after.is_none() {
        app.db.record_user(&caller, app.clock.now()).await?;
    }
    let (mut epoch, mut spaces) = list().await?;
    // For most users this is the first request. Other users can add them to spaces only once their personal
    // space exists.
    if after.is_none() && !spaces.iter().any(|space| space.kind == SpaceKind::Personal) {
        let making = app
            .db
            .create_personal_space(ids::new_id().into(), &caller, app.clock.now());
        making.await?;
        (epoch, spaces) = list().await?;
    }
    let (spaces, next_page_token) = page(spaces, query.limit, |space| space.space_id);
    json(
        StatusCode::OK,
        &SpaceList {
            spaces,
            next_page_token,
            epoch,
        },
    )
}

/// Creates a shared space owned by the caller. A repeated request with the same idempotency key returns the
/// space that the first one created.
pub(crate) async fn create(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let key: Option<IdempotencyKey> = request.header("idempotency-key")?;
    let body: CreateSpaceRequest = request.json()?;
    let new = commands::begin(&app.clock, &caller, body.device_id, app.max_changes_per_minute);
    let creating = app.db.create_space(
        NewSpace {
            id: ids::new_id().into(),
            name: &body.name,
            max_spaces: app.max_spaces,
            key: key.as_ref(),
            new_space_id: ids::new_id().into(),
        },
        new,
    );
    let decision = creating.await?;
    let (effect, space) = decision?;
    summary::record("space_ids", space.space_id);
    commands::finish(&app.queue, &app.db, &app.clock, effect).await;
    json(StatusCode::CREATED, &space)
}

/// Shows one space to a member.
pub(crate) async fn show(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let space_id: SpaceId = request.path_parameter("spaceId")?;
    request.no_query()?;
    let space = app.db.load_space(space_id, &caller).await?;
    json(StatusCode::OK, &space.ok_or(Rejection::NotFound)?)
}

/// Gives a space another name. A repeated request changes nothing.
pub(crate) async fn rename(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let space_id: SpaceId = request.path_parameter("spaceId")?;
    let body: RenameSpaceRequest = request.json()?;
    let new = commands::begin(&app.clock, &caller, body.device_id, app.max_changes_per_minute);
    let effect = app.db.rename_space(space_id, &body.name, new).await??;
    commands::finish(&app.queue, &app.db, &app.clock, effect).await;
    let space = app.db.load_space(space_id, &caller).await?;
    // The answer is the result of this request, even if another request has renamed the space since.
    json(
        StatusCode::OK,
        &SpaceView {
            name: Some(body.name),
            ..space.ok_or(Rejection::NotFound)?
        },
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeleteQuery {
    device_id: Option<DeviceId>,
}

/// Deletes a space. Its owners can restore it for a time. A repeated request changes nothing.
pub(crate) async fn delete(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let space_id: SpaceId = request.path_parameter("spaceId")?;
    let query: DeleteQuery = request.query()?;
    let new = commands::begin(&app.clock, &caller, query.device_id, app.max_changes_per_minute);
    let effect = app.db.delete_space(space_id, new).await??;
    commands::finish(&app.queue, &app.db, &app.clock, effect).await;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Restores a deleted space with its files and members. A repeated request changes nothing.
pub(crate) async fn restore(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let space_id: SpaceId = request.path_parameter("spaceId")?;
    let body: RestoreSpaceRequest = request.json()?;
    let new = commands::begin(&app.clock, &caller, body.device_id, app.max_changes_per_minute);
    let effect = app.db.restore_space(space_id, app.trash_time, new).await??;
    commands::finish(&app.queue, &app.db, &app.clock, effect).await;
    let space = app.db.load_space(space_id, &caller).await?;
    json(StatusCode::OK, &space.ok_or(Rejection::NotFound)?)
}
