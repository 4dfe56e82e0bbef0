//! `GET` and `POST /spaces`.

use api::Problem;
use api::http::{Request, Response, json};
use db::NewSpace;
use http::StatusCode;
use model::{CreateSpaceRequest, IdempotencyKey, PageQuery, SpaceId, SpaceKind, SpaceList, page};
use platform::ids;

use crate::App;

/// Lists the spaces that the caller is a member of, oldest first.
pub(crate) async fn list(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let query: PageQuery<SpaceId> = request.query()?;
    let after = query.page_token.map(|token| token.0);
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
    commands::finish(&app.queue, &app.db, &app.clock, effect).await;
    json(StatusCode::CREATED, &space)
}
