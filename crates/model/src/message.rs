//! What travels through the queue: an event, and whom it still has to reach.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Event, UserId};

/// The version of the queue's message format that this code writes and reads.
pub const SCHEMA_VERSION: u32 = 1;

/// An SQS message body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The change.
    pub event: Event,
    /// Whom it is for.
    pub delivery: Delivery,
}

/// Whom a message is for. Whoever of them may not see the space any more when it is addressed gets nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// How often it was tried before.
    pub attempt: u32,
    /// Whom it is to reach.
    pub to: Recipients,
}

/// A part of an event's audience.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Recipients {
    /// All connections of all members.
    #[default]
    All,
    /// The same, from a place in their order on.
    After(PageKey),
    /// These connections, named by API Gateway's ids: those that an earlier attempt could not reach.
    Only(BTreeSet<String>),
}

/// A place in the order of an audience, which is by user and connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PageKey {
    /// Whose connection was the last.
    pub user_id: UserId,
    /// The last connection.
    pub connection_id: String,
}

/// The body's form: the event's fields, the version, and the delivery unless it is the first to all.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<E> {
    schema_version: u32,
    #[serde(flatten)]
    event: E,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivery: Option<Delivery>,
}

/// A message that cannot be written as JSON: a defect.
#[derive(Debug, Error)]
#[error("the message cannot be written")]
pub struct UnwritableMessage(#[from] serde_json::Error);

/// Why a message body is no message. Retrying cannot help.
#[derive(Debug, Error)]
pub enum UndecodableMessage {
    /// Not JSON, or not of this shape.
    #[error("the message body is no event")]
    Malformed(#[from] serde_json::Error),
    /// Written by a release that this one does not know.
    #[error("the message body has schema version {0}; this release reads {SCHEMA_VERSION}")]
    UnknownSchemaVersion(u32),
}

impl Message {
    /// Writes the body: about 600 bytes and at most 3 KiB, and with a thousand recipients some 30 KiB more; SQS takes 1 MiB.
    ///
    /// Of all characters that JSON leaves as they are and paths may have, SQS refuses two (Amazon SQS API Reference,
    /// `SendMessage`); these are escaped.
    pub fn encode(&self) -> Result<String, UnwritableMessage> {
        let body = serde_json::to_string(&Body {
            schema_version: SCHEMA_VERSION,
            event: &self.event,
            delivery: Some(&self.delivery)
                .filter(|delivery| **delivery != Delivery::default())
                .cloned(),
        })?;
        Ok(body.replace('\u{fffe}', r"\ufffe").replace('\u{ffff}', r"\uffff"))
    }

    /// Reads a body. Unknown fields are ignored, so that a newer release may add some.
    pub fn decode(body: &str) -> Result<Self, UndecodableMessage> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct SchemaVersion {
            schema_version: u32,
        }
        let SchemaVersion { schema_version } = serde_json::from_str(body)?;
        if schema_version != SCHEMA_VERSION {
            return Err(UndecodableMessage::UnknownSchemaVersion(schema_version));
        }
        let Body { event, delivery, .. } = serde_json::from_str(body)?;
        Ok(Self {
            event,
            delivery: delivery.unwrap_or_default(),
        })
    }
}

impl From<Event> for Message {
    /// The first message about an event, for everybody.
    fn from(event: Event) -> Self {
        Self {
            event,
            delivery: Delivery::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::event::tests::event;
    use crate::{Change, Role, SpaceId};

    #[test]
    fn a_message_says_its_schema_version_and_reads_back() {
        let message = Message::from(event(7, "/Docs/a.pdf"));
        let body = message.encode().unwrap();
        assert!(
            body.starts_with(r#"{"schemaVersion":1,"sequence":7,"eventId":"00000000-"#),
            "{body}"
        );
        assert!(
            body.contains(r#""eventType":"FILE_UPDATED""#) && !body.contains("deviceId"),
            "{body}"
        );
        assert!(
            body.ends_with(r#""occurredAt":"2026-01-02T03:04:05.678Z"}"#),
            "{body}"
        );
        assert_eq!(Message::decode(&body).unwrap(), message);
    }

    #[test]
    fn no_character_is_one_that_the_queue_refuses() {
        let message = Message::from(event(7, "/\u{fffe}\u{ffff}\u{fffd}"));
        let body = message.encode().unwrap();
        let taken = |c: char| matches!(c, '\u{20}'..='\u{fffd}' | '\u{10000}'..);
        assert!(body.chars().all(taken), "{body}");
        assert_eq!(Message::decode(&body).unwrap(), message);
    }

    #[test]
    fn what_is_left_of_an_audience_reads_back() {
        let place = PageKey {
            user_id: "alice".parse().unwrap(),
            connection_id: "c1=".to_owned(),
        };
        for (to, text) in [
            (Recipients::All, r#""to":"all""#),
            (
                Recipients::After(place),
                r#""to":{"after":{"userId":"alice","connectionId":"c1="}}"#,
            ),
            (
                Recipients::Only(["c1=".to_owned(), "c2=".to_owned()].into()),
                r#""to":{"only":["c1=","c2="]}"#,
            ),
        ] {
            let delivery = Delivery { attempt: 2, to };
            let message = Message {
                delivery,
                ..event(7, "/a").into()
            };
            let body = message.encode().unwrap();
            assert!(
                body.contains(&format!(r#""delivery":{{"attempt":2,{text}}}"#)),
                "{body}"
            );
            assert_eq!(Message::decode(&body).unwrap(), message);
        }
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
            let message = Message::from(Event {
                change,
                ..event(1, "/a")
            });
            let body = message.encode().unwrap();
            assert!(
                body.contains(&format!(r#""eventType":"{name}""#)) && body.contains(part),
                "{body}"
            );
            assert_eq!(Message::decode(&body).unwrap(), message);
        }
    }

    #[test]
    fn a_newer_schema_is_named_rather_than_misread() {
        let message = r#"{"schemaVersion":2,"whatever":true}"#;
        assert!(matches!(
            Message::decode(message),
            Err(UndecodableMessage::UnknownSchemaVersion(2))
        ));
        assert!(matches!(
            Message::decode("nonsense"),
            Err(UndecodableMessage::Malformed(_))
        ));
    }
}
