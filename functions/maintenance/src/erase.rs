//! Finishes the erasure of accounts: nothing names an erased user any more, and then the row of the user is
//! deleted.

use time::Duration;
use tokio::time::Instant;
use tracing::debug;

use crate::{App, Error};

/// The largest number of rows of a table that one statement changes.
const ROWS: usize = 1_000;

/// The largest number of users in a run.
const USERS: i64 = 100;

/// How long a token may be valid after its user erased the account. Cognito's last an hour, and those of
/// other identity providers seldom longer than a day.
const TOKEN_LIFETIME: Duration = Duration::days(1);

/// Finishes erasures and returns their number. Each statement may be repeated, so a run may be killed anywhere.
pub(crate) async fn finish(app: &App, deadline: Instant) -> Result<usize, Error> {
    let limit = i64::try_from(ROWS).unwrap_or(i64::MAX);
    let mut finished = 0;
    for user_id in app.db.erased_accounts(USERS).await? {
        app.db.end_late_memberships(&user_id, app.clock.now()).await?;
        loop {
            if Instant::now() >= deadline {
                return Ok(finished);
            }
            if app.db.forget_user(&user_id, limit).await? < ROWS {
                break;
            }
        }
        if app.db.finish_erasure(&user_id, app.clock.now()).await? {
            finished += 1;
            debug!("erased an account");
        }
    }
    let before = app.clock.now() - TOKEN_LIFETIME;
    app.db.remove_erased_users(before).await?;
    Ok(finished)
}
