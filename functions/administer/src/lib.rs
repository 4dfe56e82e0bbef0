//! Actions of operators, by `aws lambda invoke`. The function has no route: IAM decides who may invoke it.
//!
//! Each action can be repeated: an action that is done already answers the same.

mod users;

use db::{Database, DatabaseUrl};
use model::{Epoch, UserId};
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
    /// Shows a user.
    ShowUser {
        /// The `sub` claim of the user's tokens.
        user_id: UserId,
    },
    /// Begins a new epoch. Needed after the database was restored in place, which the deployment cannot detect.
    BeginEpoch {},
}

/// The answer to a request.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The state of the user after the action.
    User(UserReport),
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
        Request::ShowUser { user_id } => users::show(app, user_id).await.map(Answer::User),
        Request::BeginEpoch {} => {
            let epoch = ids::new_id().into();
            app.db.begin_epoch(epoch).await?;
            info!(%epoch, "epoch {epoch} began: clients list everything again");
            Ok(Answer::Epoch { epoch })
        }
    }
}
