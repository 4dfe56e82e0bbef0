//! Actions of operators, by `aws lambda invoke`. The function has no route: IAM decides who may invoke it.
//!
//! Each action can be repeated: an action that is done already answers the same.

mod users;

use db::{Database, DatabaseUrl};
use model::{Epoch, SpaceId, UserId};
use platform::config::{ConfigError, Vars};
use platform::{Clock, ids};
use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;
use tracing::info;
use websocket::Closer;

pub use users::UserReport;

/// The function's configuration. Each field names its environment variable.
pub struct Config {
    /// `DATABASE_URL`: the PostgreSQL database that holds users and connections.
    pub database_url: DatabaseUrl,
    /// `CONNECTIONS_ENDPOINT`: the WebSocket API's management endpoint, `https://…/stage`.
    pub connections_endpoint: String,
}

impl Config {
    /// Reads the environment variables. The error names a variable that is missing or invalid.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            connections_endpoint: vars.required("CONNECTIONS_ENDPOINT")?,
        })
    }
}

/// The state that all invocations of one execution environment share.
pub struct App {
    /// The database that holds users and connections.
    pub db: Database,
    /// Closes connections of blocked users.
    pub closer: Closer,
    /// The clock. Tests set its time.
    pub clock: Clock,
}

/// A request, such as `{"action": "blockUser", "userId": "8f1f3c5a-…"}`.
#[derive(Debug, Deserialize)]
#[serde(
    tag = "action",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Request {
    /// Refuses all requests of a user from now on, closes the user's connections, invalidates tickets and
    /// aborts pending uploads. Files and memberships stay.
    BlockUser {
        /// The `sub` claim of the user's tokens.
        user_id: UserId,
    },
    /// Serves the user's requests again.
    UnblockUser {
        /// The `sub` claim of the user's tokens.
        user_id: UserId,
    },
    /// Sets the user's maximums. The stack's parameters apply where a maximum is absent. What the user has
    /// beyond a lower maximum stays.
    SetUserLimits {
        /// The `sub` claim of the user's tokens.
        user_id: UserId,
        /// The maximums.
        limits: Limits,
    },
    /// Sets the maximums of a space. The stack's parameters apply where a maximum is absent. What the space
    /// has beyond a lower maximum stays.
    SetSpaceLimits {
        /// The id of the space.
        space_id: SpaceId,
        /// The maximums.
        limits: SpaceLimits,
    },
    /// Shows a user.
    ShowUser {
        /// The `sub` claim of the user's tokens.
        user_id: UserId,
    },
    /// Begins a new epoch. Needed after the database was restored in place, which the deployment cannot detect.
    BeginEpoch {},
}

/// The maximums of one user. Where one is absent, the stack's parameter applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Changes within a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes_per_minute: Option<u32>,
    /// Uploads that are neither completed nor aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_uploads: Option<u32>,
    /// Shared spaces that the user is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spaces: Option<u32>,
    /// Invitations that the user makes within a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitations_per_day: Option<u32>,
    /// Pending invitations by the user's id, and as many by the user's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_invitations: Option<u32>,
}

/// The maximums of one space. Where one is absent, the stack's parameter applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpaceLimits {
    /// Bytes of content, with old versions and the trash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Pending invitations to the space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_invitations: Option<u32>,
}

/// The answer to a request.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The state of the user after the action.
    User(UserReport),
    /// The state of the space after the action.
    #[serde(rename_all = "camelCase")]
    Space {
        /// The id of the space.
        space_id: SpaceId,
        /// The number of bytes that it holds, with old versions and the trash.
        bytes: i64,
        /// The space's own maximums.
        limits: SpaceLimits,
    },
    /// The state of the database after the action.
    Epoch {
        /// The epoch that began.
        epoch: Epoch,
    },
}

/// The reason why an action was not done. Lambda shows the text to the operator as `errorMessage`.
#[derive(Debug, ThisError)]
pub enum Error {
    /// No user with this id has used the service.
    #[error("no user with the id {} has used the service", .0.as_str())]
    UnknownUser(UserId),
    /// There is no space with this id.
    #[error("there is no space {0}")]
    UnknownSpace(SpaceId),
    /// The maximum is above 2^63 - 1.
    #[error("limits.bytes: the maximum is too large")]
    LimitTooLarge,
    /// Some connections of a user could not be closed. Repeating the action tries again.
    #[error("{0} connections could not be closed; the user is blocked; repeat the action to close them")]
    OpenConnections(usize),
    /// The database did not answer. Repeating the action is safe.
    #[error("the database did not answer; nothing or all of it was done; repeat the action")]
    Database(#[from] db::Error),
}

/// Does what the operator requests.
pub async fn handle(app: &App, request: Request) -> Result<Answer, Error> {
    match request {
        Request::BlockUser { user_id } => users::block(app, user_id).await.map(Answer::User),
        Request::UnblockUser { user_id } => users::unblock(app, user_id).await.map(Answer::User),
        Request::SetUserLimits { user_id, limits } => {
            users::set_limits(app, user_id, limits).await.map(Answer::User)
        }
        Request::SetSpaceLimits { space_id, limits } => {
            let bytes = limits.bytes.map(i64::try_from).transpose();
            let bytes = bytes.map_err(|_| Error::LimitTooLarge)?;
            let invitations = limits.pending_invitations.map(i64::from);
            let held = app.db.set_space_limits(space_id, bytes, invitations).await?;
            let bytes = held.ok_or(Error::UnknownSpace(space_id))?;
            info!(%space_id, ?limits, "set limits of space {space_id}");
            Ok(Answer::Space {
                space_id,
                bytes,
                limits,
            })
        }
        Request::ShowUser { user_id } => users::show(app, user_id).await.map(Answer::User),
        Request::BeginEpoch {} => {
            let epoch = ids::new_id().into();
            app.db.begin_epoch(epoch).await?;
            info!(%epoch, "epoch {epoch} began: clients list everything again");
            Ok(Answer::Epoch { epoch })
        }
    }
}
