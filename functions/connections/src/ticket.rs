//! `POST /tickets`: issues tickets for the WebSocket API.

use api::Problem;
use api::http::{Request, Response, json};
use db::NewTicket;
use http::StatusCode;
use model::{CreateTicketRequest, CreatedTicket};
use platform::secret;

use crate::{App, TICKET_LIFETIME};

/// Issues a ticket for the caller. The answer contains the URL to connect to.
pub(crate) async fn create(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    let CreateTicketRequest { device_id } = request.json()?;

    let ticket = secret::new_secret().map_err(Problem::unavailable)?;
    let expires_at = app.clock.now() + TICKET_LIFETIME;
    let hash = secret::secret_hash(&ticket);
    let adding = app.db.add_ticket(NewTicket {
        hash: &hash,
        caller: &caller,
        device_id,
        expires_at,
    });
    adding.await?;

    let url = format!("{}?ticket={ticket}", app.websocket_url);
    json(
        StatusCode::CREATED,
        &CreatedTicket {
            ticket,
            url,
            expires_at,
        },
    )
}
