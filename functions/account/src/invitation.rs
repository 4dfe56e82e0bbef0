//! `GET /invitations`, and `POST …/accept` and `…/decline` of one invitation.

use api::Problem;
use api::http::{Request, Response, empty, json};
use db::Rejection;
use http::StatusCode;
use model::{
    AcceptInvitationRequest, DeclineInvitationRequest, InvitationId, PageQuery, ReceivedInvitationList, page,
};
use platform::{ids, summary};

use crate::App;

/// Lists the caller's pending invitations, by user id and by the address that the token proves, oldest first.
pub(crate) async fn list(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let query: PageQuery<InvitationId> = request.query()?;
    let after = query.page_token.map(|token| token.0);
    let listing = app
        .db
        .list_received_invitations(&caller, after, query.limit, app.clock.now());
    let invitations = listing.await?;
    let (invitations, next_page_token) =
        page(invitations, query.limit, |invitation| invitation.invitation_id);
    json(
        StatusCode::OK,
        &ReceivedInvitationList {
            invitations,
            next_page_token,
        },
    )
}

/// Makes the caller a member of the space. A repeated request changes nothing.
pub(crate) async fn accept(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let id: InvitationId = request.path_parameter("invitationId")?;
    let body: AcceptInvitationRequest = request.json()?;
    let new = commands::begin(
        &app.clock,
        &caller,
        body.device_id,
        app.maximums.changes_per_minute,
    );
    let accepting = app
        .db
        .accept_invitation(id, ids::new_id().into(), app.maximums.spaces, new);
    let decision = accepting.await?;
    let (effect, space_id) = decision?;
    summary::record("space_ids", space_id);
    commands::finish(&app.queue, &app.db, &app.clock, effect).await;
    let member = app.db.load_member(space_id, &caller, &caller.user_id).await?;
    json(StatusCode::OK, &member.ok_or(Rejection::NotFound)?)
}

/// Ends the invitation. A repeated request changes nothing.
pub(crate) async fn decline(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let id: InvitationId = request.path_parameter("invitationId")?;
    let body: DeclineInvitationRequest = request.json()?;
    let refuse = body.block.unwrap_or(false);
    let declining = app.db.decline_invitation(id, &caller, refuse, app.clock.now());
    declining.await??;
    Ok(empty(StatusCode::NO_CONTENT))
}
