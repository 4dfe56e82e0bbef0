//! Blocks, unblocks and shows users.

use db::{User, UserLimits};
use futures_util::stream::{self, StreamExt as _};
use model::{EmailAddress, PersonName, UserId};
use platform::error_chain;
use serde::Serialize;
use time::OffsetDateTime;
use time::serde::rfc3339;
use tracing::{info, warn};

use crate::{App, Error, Limits};

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
    /// The number of uploads that are neither completed nor aborted.
    pub pending_uploads: i32,
    /// The user's own maximums.
    pub limits: Limits,
}

impl From<User> for UserReport {
    fn from(user: User) -> Self {
        Self {
            user_id: user.user_id,
            name: user.name,
            email: user.email,
            seen_at: user.seen_at,
            blocked_at: user.blocked_at,
            pending_uploads: user.pending_uploads,
            limits: Limits {
                changes_per_minute: shown(user.limits.changes_per_minute),
                pending_uploads: shown(user.limits.pending_uploads),
                spaces: shown(user.limits.spaces),
                invitations_per_day: shown(user.limits.invitations_per_day),
                received_invitations: shown(user.limits.received_invitations),
            },
        }
    }
}

/// Only requests of this function set maximums, so each fits.
fn shown(maximum: Option<i64>) -> Option<u32> {
    maximum.and_then(|maximum| maximum.try_into().ok())
}

pub(crate) async fn block(app: &App, user_id: UserId) -> Result<UserReport, Error> {
    let blocked = app.db.block_user(&user_id, app.clock.now()).await?;
    let Some(connections) = blocked else {
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
    show(app, user_id).await
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

pub(crate) async fn set_limits(app: &App, user_id: UserId, limits: Limits) -> Result<UserReport, Error> {
    let limits = UserLimits {
        changes_per_minute: limits.changes_per_minute.map(i64::from),
        pending_uploads: limits.pending_uploads.map(i64::from),
        spaces: limits.spaces.map(i64::from),
        invitations_per_day: limits.invitations_per_day.map(i64::from),
        received_invitations: limits.received_invitations.map(i64::from),
    };
    match app.db.set_user_limits(&user_id, limits).await? {
        Some(user) => {
            info!(%user_id, ?limits, "set limits of user {user_id}");
            Ok(user.into())
        }
        None => Err(Error::UnknownUser(user_id)),
    }
}

pub(crate) async fn show(app: &App, user_id: UserId) -> Result<UserReport, Error> {
    let user = app.db.load_user(&user_id).await?;
    user.map(UserReport::from).ok_or(Error::UnknownUser(user_id))
}
