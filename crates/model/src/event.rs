//! Events: changes as they are delivered to devices.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

use crate::{
    ByteCount, DeviceId, EventId, FileId, ModifiedAt, PersonName, Role, Sequence, Sha256, SpaceId, SpaceName,
    SpacePath, UserId, Version,
};

/// One change, with all data that a device needs to apply it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The change's number in its space: 1, 2, 3 … without gaps.
    pub sequence: Sequence,
    /// Identifies this event. It is the same on every delivery, so devices can drop duplicates.
    pub event_id: EventId,
    /// The type of the change and its subject.
    #[serde(flatten)]
    pub change: Change,
    /// The space whose feed has the change.
    pub space_id: SpaceId,
    /// The user who made the change.
    pub user_id: UserId,
    /// The user's name when the event was read, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_name: Option<PersonName>,
    /// The device that made the change, if the request named one. A device uses it to ignore its own changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    /// The time of the change in UTC.
    #[serde(with = "rfc3339")]
    pub occurred_at: OffsetDateTime,
}

/// The type of a change and its subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "eventType",
    rename_all = "SCREAMING_SNAKE_CASE",
    rename_all_fields = "camelCase"
)]
pub enum Change {
    /// A file has a new version. A new file's first version counts.
    FileUpdated(FileState),
    /// A file has another path. Its version stays the same.
    FileMoved(FileState),
    /// A file was deleted. The state is its last one before the deletion.
    FileDeleted(FileState),
    /// Only in the feed of a personal space: its owner was added to a shared space, or has a new role in it.
    SpaceShared {
        /// The id of the shared space.
        subject_space_id: SpaceId,
        /// The user's role in the shared space since the change.
        role: Role,
    },
    /// Only in the feed of a personal space: its owner is invited to a shared space. The owner has no access
    /// to that space before accepting.
    SpaceInvited {
        /// The id of the shared space.
        subject_space_id: SpaceId,
        /// The role that accepting gives.
        role: Role,
    },
    /// Only in the feed of a personal space: its owner is no longer a member of a shared space.
    SpaceLeft {
        /// The id of the shared space.
        subject_space_id: SpaceId,
    },
    /// The shared space has another name.
    SpaceRenamed {
        /// The new name.
        name: SpaceName,
    },
    /// The shared space was deleted. It can be restored for a time; until then nobody has access to it.
    SpaceDeleted {},
    /// The deleted shared space is back, with its files and members.
    SpaceRestored {},
    /// The shared space has a new member, or a member has another role.
    MemberChanged {
        /// The user id of the member.
        member_id: UserId,
        /// The member's role since the change.
        role: Role,
    },
    /// A user is no longer a member of the shared space.
    MemberRemoved {
        /// The user id of the former member.
        member_id: UserId,
    },
}

/// The state of a file after a change, or before its deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileState {
    /// The id of the file.
    pub file_id: FileId,
    /// The file's path in the space.
    pub path: SpacePath,
    /// The file's current version.
    pub version: Version,
    /// The version's size in bytes.
    pub size: ByteCount,
    /// The SHA-256 of the version's content.
    pub sha256: Sha256,
    /// The modification time that the uploader gave, if any. Versions of earlier releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at: Option<ModifiedAt>,
    /// Whether the uploader's file was executable, if that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
}

impl Event {
    /// The changed file; `None` for a change of a space or a membership.
    pub fn file(&self) -> Option<&FileState> {
        match &self.change {
            Change::FileUpdated(file) | Change::FileMoved(file) | Change::FileDeleted(file) => Some(file),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;

    /// A `FILE_UPDATED` event with this sequence number and path.
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
                modified_at: None,
                executable: None,
            }),
            space_id: Uuid::from_u128(3).into(),
            user_id: "alice".to_owned().try_into().unwrap(),
            user_name: None,
            device_id: None,
            occurred_at: datetime!(2026-01-02 03:04:05.678 UTC),
        }
    }

    #[test]
    fn an_event_of_an_earlier_release_has_no_modification_time() {
        let mut event = event(1, "/a");
        let text = serde_json::to_value(&event).unwrap();
        assert!(text.get("modifiedAt").is_none() && text.get("executable").is_none());
        assert_eq!(serde_json::from_value::<Event>(text).unwrap(), event);
        let Change::FileUpdated(file) = &mut event.change else {
            panic!("{event:?}")
        };
        file.modified_at = datetime!(2026-01-02 03:04:05.678901 UTC).try_into().ok();
        file.executable = Some(true);
        let text = serde_json::to_value(&event).unwrap();
        assert_eq!(text["modifiedAt"], "2026-01-02T03:04:05.678901Z");
        assert_eq!(serde_json::from_value::<Event>(text).unwrap(), event);
    }
}
