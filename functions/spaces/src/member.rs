//! `GET /spaces/{spaceId}/members`, and `GET`, `PUT` and `DELETE` of one member.

use api::Problem;
use api::http::{Request, Response, empty, json};
use db::{Membership, Rejection};
use http::StatusCode;
use model::{DeviceId, MemberList, MemberView, PageQuery, SetMemberRequest, SpaceId, UserId, page};
use serde::Deserialize;

use crate::App;

/// Lists the members of a space to one of its members.
pub(crate) async fn list(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let space_id: SpaceId = request.path_parameter("spaceId")?;
    let query: PageQuery<UserId> = request.query()?;
    let after = query.page_token.map(|token| token.0);
    let listing = app
        .db
        .list_members(space_id, &caller, after.as_ref(), query.limit);
    let members = listing.await?;
    let members = members.ok_or(Rejection::NotFound)?;
    let (members, next_page_token) = page(members, query.limit, |member| member.user_id.clone());
    json(
        StatusCode::OK,
        &MemberList {
            members,
            next_page_token,
        },
    )
}

/// Shows a member of a space to another member.
pub(crate) async fn show(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let space_id: SpaceId = request.path_parameter("spaceId")?;
    let member_id: UserId = request.path_parameter("userId")?;
    request.no_query()?;
    let loading = app.db.load_member(space_id, &caller, &member_id);
    let member = loading.await?;
    let member = member.ok_or(Rejection::NotFound)?;
    json(StatusCode::OK, &member)
}

/// Changes a member's role. A repeated request changes nothing.
pub(crate) async fn set(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let space_id: SpaceId = request.path_parameter("spaceId")?;
    let member_id: UserId = request.path_parameter("userId")?;
    let body: SetMemberRequest = request.json()?;
    let new = commands::begin(&app.clock, &caller, body.device_id, app.max_changes_per_minute);
    let loading = app.db.load_member(space_id, &caller, &member_id);
    let before = loading.await?;
    let setting = app.db.set_member(
        Membership {
            space_id,
            member_id: &member_id,
            role: body.role,
        },
        new,
    );
    commands::finish(&app.queue, &app.db, &app.clock, setting.await??).await;
    // The answer is the result of this request, even if another request has changed the membership since.
    json(
        StatusCode::OK,
        &MemberView {
            space_id,
            user_id: member_id,
            user_name: before.as_ref().and_then(|member| member.user_name.clone()),
            role: body.role,
            added_at: before.map_or(new.commit.now, |member| member.added_at),
        },
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RemoveQuery {
    device_id: Option<DeviceId>,
}

/// Ends a membership. An owner may end any membership; other members may end only their own.
pub(crate) async fn remove(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let space_id: SpaceId = request.path_parameter("spaceId")?;
    let member_id: UserId = request.path_parameter("userId")?;
    let query: RemoveQuery = request.query()?;
    let new = commands::begin(&app.clock, &caller, query.device_id, app.max_changes_per_minute);
    let effect = app.db.remove_member(space_id, &member_id, new).await??;
    commands::finish(&app.queue, &app.db, &app.clock, effect).await;
    Ok(empty(StatusCode::NO_CONTENT))
}
