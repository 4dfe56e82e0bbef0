//! Questions to a running sync, and its answers, as they are sent through its socket.

use model::SpaceId;
use serde::{Deserialize, Serialize};

use crate::effect::Command;
use crate::path::LocalPath;
use crate::plan::Hold;
use crate::store::{ConflictRow, Explained};

/// A question or a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Question {
    /// The state.
    Status,
    /// The held paths, with their reasons.
    Held,
    /// The conflict copies.
    Conflicts,
    /// The states of a path.
    Explain(String),
    /// [`Command::Pause`].
    Pause,
    /// [`Command::Resume`].
    Resume,
    /// [`Command::Confirm`].
    Confirm,
    /// [`Command::Undo`].
    Undo,
    /// [`Command::Stop`].
    Stop,
}

impl Question {
    /// The command, if it is one.
    pub fn command(&self) -> Option<Command> {
        match self {
            Self::Status | Self::Held | Self::Conflicts | Self::Explain(_) => None,
            Self::Pause => Some(Command::Pause),
            Self::Resume => Some(Command::Resume),
            Self::Confirm => Some(Command::Confirm),
            Self::Undo => Some(Command::Undo),
            Self::Stop => Some(Command::Stop),
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// To [`Question::Status`].
    Status(Box<Status>),
    /// To [`Question::Held`].
    Held(Vec<Held>),
    /// To [`Question::Conflicts`].
    Conflicts(Vec<(LocalPath, ConflictRow)>),
    /// To [`Question::Explain`].
    Explained(Box<Explained>, Option<Held>),
    /// To a command.
    Done,
    /// The database failed.
    Failed(String),
}

/// The state of a sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The service.
    pub url: String,
    /// The space.
    pub space_id: SpaceId,
    /// Whether it runs.
    pub running: bool,
    /// Whether the user paused it.
    pub paused: bool,
    /// Whether everything is equal, except what is held; `None` if it does not run.
    pub current: Option<bool>,
    /// Files in agreement.
    pub files: usize,
    /// Held paths; `None` if it does not run.
    pub held: Option<usize>,
    /// Conflict copies.
    pub conflicts: usize,
    /// Deletions in the space and in the folder that wait for the user.
    pub deletions_held: Option<(usize, usize)>,
    /// Files that are uploaded now.
    pub uploads: usize,
    /// Files that are downloaded now.
    pub downloads: usize,
    /// The number of the last change of the space that is known.
    pub cursor: i64,
    /// How changes of others arrive: `live`, `polling` or `offline`; `None` if it does not run.
    pub push: Option<String>,
    /// Whether all folders are watched; otherwise they are scanned each minute.
    pub watched: Option<bool>,
    /// Why the service could not be reached at the last attempt.
    pub unavailable: Option<String>,
}

/// A held path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The path.
    pub path: String,
    /// Why.
    pub reason: Hold,
    /// Since when, in milliseconds since 1970.
    pub since: i64,
}
