//! `GET /me`.

use api::Problem;
use api::http::{Request, Response, json};
use http::StatusCode;

use crate::App;

/// Shows the caller's profile, which the claims of the token update.
pub(crate) async fn show(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    request.no_query()?;
    app.db.record_user(&caller, app.clock.now()).await?;
    json(StatusCode::OK, &app.db.load_profile(&caller).await?)
}
