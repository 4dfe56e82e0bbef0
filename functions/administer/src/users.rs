//! Blocks, unblocks and shows users.

use db::User;
use futures_util::stream::{self, StreamExt as _};
use model::{EmailAddress, PersonName, UserId};
use platform::error_chain;
use serde::Serialize;
use time::OffsetDateTime;
use time::serde::rfc3339;
use tracing::{info, warn};

use crate::{App, Error};

/// Connections that are being closed at once.
const CONCURRENT_CLOSINGS: usize = 32;

/// The stored state of a user.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserReport {
    /// The `sub` claim of the user's tokens.
    pub user_id: UserId,
    /// The name, if a token had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<PersonName>,
    /// The verified e-mail address, if a token had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailAddress>,
    /// The time of a request of the user, at most a day before the last one.
    #[serde(with = "rfc3339")]
    pub seen_at: OffsetDateTime,
    /// The time since when the user is blocked.
    #[serde(with = "rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub blocked_at: Option<OffsetDateTime>,
}

impl From<User> for UserReport {
    fn from(user: User) -> Self {
        Self {
            user_id: user.user_id,
            name: user.name,
            email: user.email,
            seen_at: user.seen_at,
            blocked_at: user.blocked_at,
        }
    }
}

pub(crate) async fn block(app: &App, user_id: UserId) -> Result<UserReport, Error> {
    let blocked = app.db.block_user(&user_id, app.clock.now()).await?;
    let Some((user, connections)) = blocked else {
        return Err(Error::UnknownUser(user_id));
    };
    info!(%user_id, "blocked user {user_id}");
    let closings =
        connections.iter().map(
            async |connection_id| match app.closer.close(connection_id).await {
                Ok(()) => Some(connection_id),
                Err(error) => {
                    warn!(
                        connection_id,
                        error = error_chain(&error),
                        "connection {connection_id} could not be closed"
                    );
                    None
                }
            },
        );
    let closed: Vec<&String> = stream::iter(closings)
        .buffer_unordered(CONCURRENT_CLOSINGS)
        .filter_map(async |closed| closed)
        .collect()
        .await;
    app.db.remove_connections(&closed).await?;
    let open = connections.len() - closed.len();
    if open > 0 {
        return Err(Error::OpenConnections(open));
    }
    Ok(user.into())
}

pub(crate) async fn unblock(app: &App, user_id: UserId) -> Result<UserReport, Error> {
    match app.db.unblock_user(&user_id).await? {
        Some(user) => {
            info!(%user_id, "unblocked user {user_id}");
            Ok(user.into())
        }
        None => Err(Error::UnknownUser(user_id)),
    }
}

pub(crate) async fn show(app: &App, user_id: UserId) -> Result<UserReport, Error> {
    let user = app.db.load_user(&user_id).await?;
    user.map(UserReport::from).ok_or(Error::UnknownUser(user_id))
}
