//! A change on its way to devices.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::OffsetDateTime;
use time::serde::rfc3339;

use crate::{
    ByteCount, DeviceId, EventId, FileId, Role, Sequence, Sha256, SpaceId, SpacePath, UserId, Version,
};

/// The version of the queue's message format that this code writes and reads.
pub const SCHEMA_VERSION: u32 = 1;

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

/// The SQS message body: an event and the version of its format.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<E> {
    schema_version: u32,
    #[serde(flatten)]
    event: E,
}

/// Why a message body is no event. Retrying cannot help.
#[derive(Debug, Error)]
pub enum UndecodableEvent {
    /// Not JSON, or not of this shape.
    #[error("the message body is no event")]
    Malformed(#[from] serde_json::Error),
    /// Written by a release that this one does not know.
    #[error("the message body has schema version {0}; this release reads {SCHEMA_VERSION}")]
    UnknownSchemaVersion(u32),
}

impl Event {
    /// The SQS message body, about 600 bytes and at most 3 KiB, far under SQS's 1 MiB.
    pub fn to_message(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&Message {
            schema_version: SCHEMA_VERSION,
            event: self,
        })
    }

    /// Reads an SQS message body. Unknown fields are ignored, so that a newer release may add some.
    pub fn from_message(body: &str) -> Result<Self, UndecodableEvent> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct SchemaVersion {
            schema_version: u32,
        }
        let SchemaVersion { schema_version } = serde_json::from_str(body)?;
        if schema_version != SCHEMA_VERSION {
            return Err(UndecodableEvent::UnknownSchemaVersion(schema_version));
        }
        let Message { event, .. } = serde_json::from_str(body)?;
        Ok(event)
    }

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

    #[test]
    fn a_message_says_its_schema_version_and_reads_back() {
        let message = event(7, "/Docs/a.pdf").to_message().unwrap();
        assert!(
            message.starts_with(r#"{"schemaVersion":1,"sequence":7,"eventId":"00000000-"#),
            "{message}"
        );
        assert!(
            message.contains(r#""eventType":"FILE_UPDATED""#) && !message.contains("deviceId"),
            "{message}"
        );
        assert!(
            message.ends_with(r#""occurredAt":"2026-01-02T03:04:05.678Z"}"#),
            "{message}"
        );
        assert_eq!(Event::from_message(&message).unwrap(), event(7, "/Docs/a.pdf"));
    }

    #[test]
    fn every_kind_of_change_has_its_name_and_its_subject() {
        let Change::FileUpdated(file) = event(1, "/a").change else {
            unreachable!()
        };
        let subject_space_id = SpaceId::from(Uuid::from_u128(4));
        let role = Role::Viewer;
        let subject = r#""subjectSpaceId":"00000000-0000-0000-0000-000000000004""#;
        let cases = [
            (Change::FileMoved(file.clone()), "FILE_MOVED", r#""path":"/a""#),
            (Change::FileDeleted(file), "FILE_DELETED", r#""path":"/a""#),
            (
                Change::SpaceShared {
                    subject_space_id,
                    role,
                },
                "SPACE_SHARED",
                subject,
            ),
            (Change::SpaceLeft { subject_space_id }, "SPACE_LEFT", subject),
        ];
        for (change, name, part) in cases {
            let event = Event {
                change,
                ..event(1, "/a")
            };
            let message = event.to_message().unwrap();
            assert!(
                message.contains(&format!(r#""eventType":"{name}""#)) && message.contains(part),
                "{message}"
            );
            assert_eq!(Event::from_message(&message).unwrap(), event);
        }
    }

    #[test]
    fn a_newer_schema_is_named_rather_than_misread() {
        let message = r#"{"schemaVersion":2,"whatever":true}"#;
        assert!(matches!(
            Event::from_message(message),
            Err(UndecodableEvent::UnknownSchemaVersion(2))
        ));
        assert!(matches!(
            Event::from_message("nonsense"),
            Err(UndecodableEvent::Malformed(_))
        ));
    }
}
