//! `GET` and `DELETE /me`.

use api::Problem;
use api::http::{Request, Response, empty, json};
use db::{Error, Rejection};
use http::StatusCode;

use crate::App;

/// Shows the caller's profile, which the claims of the token update, and the caller's use of each limit.
pub(crate) async fn show(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    request.no_query()?;
    let now = app.clock.now();
    app.db.record_user(&caller, now).await?;
    let profile = app.db.load_profile(&caller, &app.maximums, now).await?;
    json(StatusCode::OK, &profile)
}

/// Erases the caller's account. `maintenance` does what is left to do. A repeated request changes nothing.
pub(crate) async fn erase(app: &App, request: Request<'_>) -> Result<Response, Problem> {
    let caller = request.caller()?;
    request.no_query()?;
    let new = commands::begin(&app.clock, &caller, None, app.maximums.changes_per_minute);
    match app
        .db
        .erase_account(&caller, new.commit.now, new.commit.leased_until)
        .await
    {
        Ok(decision) => {
            commands::finish(&app.queue, &app.db, &app.clock, decision?).await;
        }
        Err(Error::Rejected(Rejection::Erased)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(empty(StatusCode::NO_CONTENT))
}
