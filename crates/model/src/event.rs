//! A change on its way to devices.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

use crate::{
    ByteCount, DeviceId, EventId, FileId, Role, Sequence, Sha256, SpaceId, SpacePath, UserId, Version,
};

/// One change with all that a device needs to act on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The change's number in its space.
    pub sequence: Sequence,
    /// Names this event; the same on every delivery.
    pub event_id: EventId,
    /// What happened, and to what.
    #[serde(flatten)]
    pub change: Change,
    /// The space in whose feed the change is.
    pub space_id: SpaceId,
    /// Who did it.
    pub user_id: UserId,
    /// On which device, if it said so: a device ignores its own echo by this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    /// When the change was made, in UTC.
    #[serde(with = "rfc3339")]
    pub occurred_at: OffsetDateTime,
}

/// What happened, and to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "eventType",
    rename_all = "SCREAMING_SNAKE_CASE",
    rename_all_fields = "camelCase"
)]
pub enum Change {
    /// A file has a new version; its first one too.
    FileUpdated(FileState),
    /// A file has another path.
    FileMoved(FileState),
    /// A file is gone. The state is what it was.
    FileDeleted(FileState),
    /// The owner of the feed's personal space became a member of a shared space, or has another role in it.
    SpaceShared {
        /// The shared space.
        subject_space_id: SpaceId,
        /// The role from now on.
        role: Role,
    },
    /// The owner of the feed's personal space is no longer a member of a shared space.
    SpaceLeft {
        /// The shared space.
        subject_space_id: SpaceId,
    },
}

/// A file after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileState {
    /// The file.
    pub file_id: FileId,
    /// Where it is.
    pub path: SpacePath,
    /// Its version.
    pub version: Version,
    /// The version's size in bytes.
    pub size: ByteCount,
    /// The version's SHA-256.
    pub sha256: Sha256,
}

impl Event {
    /// The file that the change is about, if it is about one.
    pub fn file(&self) -> Option<&FileState> {
        match &self.change {
            Change::FileUpdated(file) | Change::FileMoved(file) | Change::FileDeleted(file) => Some(file),
            Change::SpaceShared { .. } | Change::SpaceLeft { .. } => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;

    /// A complete event with the given number and path.
    pub(crate) fn event(sequence: i64, path: &str) -> Event {
        Event {
            sequence: sequence.try_into().unwrap(),
            event_id: Uuid::from_u128(1).into(),
            change: Change::FileUpdated(FileState {
                file_id: Uuid::from_u128(2).into(),
                path: path.parse().unwrap(),
                version: 3.try_into().unwrap(),
                size: 52.try_into().unwrap(),
                sha256: [7; 32].into(),
            }),
            space_id: Uuid::from_u128(3).into(),
            user_id: "alice".to_owned().try_into().unwrap(),
            device_id: None,
            occurred_at: datetime!(2026-01-02 03:04:05.678 UTC),
        }
    }
}
