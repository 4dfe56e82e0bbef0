//! Queue messages: changes of a space and the recipients that they still have to reach.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::frame::split;
use crate::{Event, SpaceId, UserId};

/// The version of the message format that this release writes and reads.
pub const SCHEMA_VERSION: u32 = 1;

/// A message of the queue; its JSON form is the SQS message body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The change to announce; of several, the newest. A release that reads no others announces it, and devices
    /// then fetch those before it.
    pub event: Event,
    /// The changes of the same space before it, oldest first.
    pub earlier: Vec<Event>,
    /// The recipients and the number of earlier attempts.
    pub delivery: Delivery,
}

/// The recipients of a message. They are resolved at delivery: users who have lost access to the space by
/// then are skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The number of earlier delivery attempts; 0 in the first message.
    pub attempt: u32,
    /// The recipients still to reach.
    pub to: Recipients,
}

/// A subset of an event's audience.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Recipients {
    /// All connections of all members.
    #[default]
    All,
    /// The connections of all members after this key, in the audience's order.
    After(PageKey),
    /// The connections that an earlier attempt could not reach, by API Gateway connection id.
    Only(BTreeSet<String>),
}

/// The key of a connection in an audience, which is ordered by user id and then by connection id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PageKey {
    /// The user of the last connection of the page before.
    pub user_id: UserId,
    /// The API Gateway id of that connection.
    pub connection_id: String,
}

/// The JSON form of a message: the event's fields, the earlier changes, the schema version and the delivery.
/// The earlier changes are omitted if there are none, and the delivery if it has its default value, the first
/// attempt to all.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<E> {
    schema_version: u32,
    #[serde(flatten)]
    event: E,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<E>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivery: Option<Delivery>,
}

/// The message cannot be serialized as JSON. This is a defect.
#[derive(Debug, Error)]
#[error("the message cannot be written")]
pub struct UnwritableMessage(#[from] serde_json::Error);

/// A message body that cannot be decoded. Retrying does not help.
#[derive(Debug, Error)]
pub enum UndecodableMessage {
    /// The body is not JSON, or a field is missing or invalid.
    #[error("the message body is no event")]
    Malformed(#[from] serde_json::Error),
    /// The body has another schema version than [`SCHEMA_VERSION`], given here.
    #[error("the message body has schema version {0}; this release reads {SCHEMA_VERSION}")]
    UnknownSchemaVersion(u32),
    /// The changes are not all of one space, so they have no common audience.
    #[error("the message body has changes of several spaces")]
    SeveralSpaces,
}

impl Message {
    /// Packs changes into as few messages as possible: each has changes of one space that fit a frame. The
    /// messages are addressed to all members.
    pub fn pack(events: &[Event]) -> Vec<Self> {
        let mut spaces: BTreeMap<SpaceId, Vec<&Event>> = BTreeMap::new();
        for event in events {
            spaces.entry(event.space_id).or_default().push(event);
        }
        let mut messages = Vec::new();
        for (space_id, mut events) in spaces {
            events.sort_by_key(|event| event.sequence);
            // All epochs have the same length.
            for slice in split(Uuid::nil().into(), space_id, &events) {
                let Some((event, earlier)) = slice.split_last() else {
                    continue;
                };
                messages.push(Self {
                    event: (*event).clone(),
                    earlier: earlier.iter().copied().cloned().collect(),
                    delivery: Delivery::default(),
                });
            }
        }
        messages
    }

    /// All changes, oldest first.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.earlier.iter().chain([&self.event])
    }

    /// Serializes the message as an SQS body. A body with one change has about 600 bytes, at most 3 KiB; with
    /// several changes, at most some 33 KiB. A thousand recipients add some 30 KiB. The SQS limit is 1 MiB.
    ///
    /// SQS refuses U+FFFE and U+FFFF (Amazon SQS API Reference, `SendMessage`). Paths may have them and JSON
    /// does not escape them, so they are escaped here.
    pub fn encode(&self) -> Result<String, UnwritableMessage> {
        let body = serde_json::to_string(&Body {
            schema_version: SCHEMA_VERSION,
            event: &self.event,
            earlier: self.earlier.iter().collect(),
            delivery: Some(&self.delivery)
                .filter(|delivery| **delivery != Delivery::default())
                .cloned(),
        })?;
        Ok(body.replace('\u{fffe}', r"\ufffe").replace('\u{ffff}', r"\uffff"))
    }

    /// Parses an SQS body. Unknown fields are ignored, so that newer releases can add fields.
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
        let Body::<Event> {
            event,
            earlier,
            delivery,
            ..
        } = serde_json::from_str(body)?;
        if earlier.iter().any(|earlier| earlier.space_id != event.space_id) {
            return Err(UndecodableMessage::SeveralSpaces);
        }
        Ok(Self {
            event,
            earlier,
            delivery: delivery.unwrap_or_default(),
        })
    }
}

impl From<Event> for Message {
    /// The first message about an event, addressed to all members.
    fn from(event: Event) -> Self {
        Self {
            event,
            earlier: Vec::new(),
            delivery: Delivery::default(),
        }
    }
}

#[cfg(test)]
mod tests {
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

    fn numbered(sequence: i64, space: u128) -> Event {
        Event {
            event_id: Uuid::from_u128(u128::try_from(sequence).unwrap() + 1_000 * space).into(),
            space_id: Uuid::from_u128(space).into(),
            ..event(sequence, "/Docs/a.pdf")
        }
    }

    #[test]
    fn changes_are_packed_by_space_in_order_and_none_is_lost() {
        let mut events: Vec<Event> = (1..=300).rev().map(|number| numbered(number, 1)).collect();
        events.extend([numbered(2, 2), numbered(1, 2)]);
        let messages = Message::pack(&events);
        let of = |space: u128| {
            let packed = messages
                .iter()
                .filter(move |message| message.event.space_id == Uuid::from_u128(space).into());
            packed
                .flat_map(Message::events)
                .map(|event| event.sequence.get())
                .collect::<Vec<_>>()
        };
        assert_eq!(of(1), (1..=300).collect::<Vec<_>>());
        assert_eq!(of(2), [1, 2]);
        // A frame holds a hundred changes of usual size.
        assert!((3..=4).contains(&(messages.len() - 1)), "{}", messages.len());
        for message in &messages {
            let body = message.encode().unwrap();
            assert_eq!(Message::decode(&body).unwrap(), *message);
            let frames = crate::frames(Uuid::nil().into(), message.event.space_id, message.events());
            assert_eq!(frames.unwrap().len(), 1);
        }
    }

    /// A release that reads one change from a message must find the newest.
    #[test]
    fn a_message_with_several_changes_has_the_newest_at_its_top() {
        let messages = Message::pack(&[numbered(1, 1), numbered(2, 1)]);
        let body: serde_json::Value = serde_json::from_str(&messages[0].encode().unwrap()).unwrap();
        assert_eq!(body["schemaVersion"], 1);
        assert_eq!(body["sequence"], 2);
        assert_eq!(body["earlier"][0]["sequence"], 1);
    }

    #[test]
    fn a_message_with_changes_of_several_spaces_is_refused() {
        let message = Message {
            event: numbered(1, 1),
            earlier: vec![numbered(1, 2)],
            delivery: Delivery::default(),
        };
        let body = message.encode().unwrap();
        assert!(matches!(
            Message::decode(&body),
            Err(UndecodableMessage::SeveralSpaces)
        ));
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
