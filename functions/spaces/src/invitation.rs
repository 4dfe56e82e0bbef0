//! `GET` and `POST /spaces/{spaceId}/invitations`, and `DELETE` of one invitation.

use api::Problem;
use api::http::{Request, Response, empty, json};
use db::{Invited, NewInvitation};
use http::StatusCode;
use model::{INVITATION_LIFETIME, InvitationId, InvitationList, InviteRequest, PageQuery, SpaceId, page};
use platform::ids;

use crate::App;

/// Invites a person, or gives a pending invitation another role. A repeated request changes nothing.
pub(crate) async fn create(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let space_id: SpaceId = request.path_parameter("spaceId")?;
    let body: InviteRequest = request.json()?;
    let invited = match (&body.user_id, &body.email) {
        (Some(user_id), None) => Invited::User(user_id),
        (None, Some(email)) => Invited::Email(email),
        _ => return Err(Problem::invalid("Send either userId or email, and not both.")),
    };
    let new = commands::begin(&app.clock, &caller, body.device_id, app.max_changes_per_minute);
    let inviting = app.db.invite(
        NewInvitation {
            id: ids::new_id().into(),
            space_id,
            invited,
            role: body.role,
            expires_at: new.commit.now + INVITATION_LIFETIME,
            limits: app.invitation_limits,
        },
        new,
    );
    let decision = inviting.await?;
    let (effect, mut invitation) = decision?;
    commands::finish(&app.queue, &app.db, &app.clock, effect).await;
    // The answer is the result of this request, even if another request has changed the invitation since.
    invitation.role = body.role;
    json(StatusCode::CREATED, &invitation)
}

/// Lists the pending invitations to a space to one of its owners, oldest first.
pub(crate) async fn list(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let space_id: SpaceId = request.path_parameter("spaceId")?;
    let query: PageQuery<InvitationId> = request.query()?;
    let after = query.page_token.map(|token| token.0);
    let listing = app
        .db
        .list_invitations(space_id, &caller, after, query.limit, app.clock.now());
    let invitations = listing.await??;
    let (invitations, next_page_token) =
        page(invitations, query.limit, |invitation| invitation.invitation_id);
    json(
        StatusCode::OK,
        &InvitationList {
            invitations,
            next_page_token,
        },
    )
}

/// Withdraws an invitation. A repeated request changes nothing.
pub(crate) async fn withdraw(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let space_id: SpaceId = request.path_parameter("spaceId")?;
    let id: InvitationId = request.path_parameter("invitationId")?;
    request.no_query()?;
    app.db.withdraw_invitation(space_id, id, &caller).await??;
    Ok(empty(StatusCode::NO_CONTENT))
}
