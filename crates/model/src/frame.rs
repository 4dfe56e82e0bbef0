//! Frames that the service sends over WebSockets.

use serde::Serialize;

use crate::{Epoch, Event, SpaceId};

/// The maximum size of a frame in bytes. API Gateway bills a frame of this size as one message (Amazon API
/// Gateway pricing, WebSocket APIs) and carries up to 128 KB, four times as much.
pub const MAX_FRAME_BYTES: usize = 32 * 1024;

#[derive(Serialize)]
#[serde(tag = "type", rename = "changes", rename_all = "camelCase")]
struct Changes<'a> {
    epoch: Epoch,
    space_id: SpaceId,
    #[serde(rename = "changes")]
    events: &'a [&'a Event],
}

/// Packs the changes of one space into as few frames as [`MAX_FRAME_BYTES`] allows, in order of their
/// sequence numbers. An event that occurs twice is packed once.
pub fn frames<'a>(
    epoch: Epoch,
    space_id: SpaceId,
    events: impl IntoIterator<Item = &'a Event>,
) -> Result<Vec<String>, serde_json::Error> {
    let mut ordered: Vec<&Event> = events.into_iter().collect();
    ordered.sort_by_key(|event| event.sequence);
    ordered.dedup_by_key(|event| event.event_id);
    let frames = split(epoch, space_id, &ordered).into_iter().map(|events| {
        serde_json::to_string(&Changes {
            epoch,
            space_id,
            events,
        })
    });
    frames.collect()
}

/// Splits changes of one space into as few slices as fit a frame each. An event that cannot be serialized is
/// alone.
pub(crate) fn split<'a, 'e>(
    epoch: Epoch,
    space_id: SpaceId,
    events: &'a [&'e Event],
) -> Vec<&'a [&'e Event]> {
    let length = |text: Result<String, _>| text.map_or(MAX_FRAME_BYTES, |text| text.len());
    let envelope = length(serde_json::to_string(&Changes {
        epoch,
        space_id,
        events: &[],
    }));
    let (mut slices, mut start, mut bytes) = (Vec::new(), 0, envelope);
    for (i, event) in events.iter().enumerate() {
        let added = length(serde_json::to_string(event)) + 1;
        if i > start && bytes + added > MAX_FRAME_BYTES {
            slices.push(&events[start..i]);
            start = i;
            bytes = envelope;
        }
        bytes += added;
    }
    if start < events.len() {
        slices.push(&events[start..]);
    }
    slices
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::event::tests::event;

    fn epoch() -> Epoch {
        Uuid::from_u128(9).into()
    }

    fn numbered(sequence: i64, path: &str) -> Event {
        let id = Uuid::from_u128(u128::try_from(sequence).unwrap()).into();
        Event {
            event_id: id,
            ..event(sequence, path)
        }
    }

    fn sequences(frame: &str) -> Vec<i64> {
        let frame: serde_json::Value = serde_json::from_str(frame).unwrap();
        assert_eq!(frame["type"], "changes");
        frame["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|change| change["sequence"].as_i64().unwrap())
            .collect()
    }

    #[test]
    fn changes_are_ordered_and_duplicates_dropped() {
        let events = [
            numbered(3, "/c"),
            numbered(1, "/a"),
            numbered(3, "/c"),
            numbered(2, "/b"),
        ];
        let frames = frames(epoch(), events[0].space_id, &events).unwrap();
        assert_eq!(
            frames.iter().map(|frame| sequences(frame)).collect::<Vec<_>>(),
            [vec![1, 2, 3]]
        );
    }

    #[test]
    fn no_frame_is_larger_than_the_limit_and_none_is_lost() {
        // JSON escapes each quote with a second byte, so these changes have the largest possible paths.
        let path = format!("/{}", "\"".repeat(1023));
        let events: Vec<Event> = (1..=100).map(|sequence| numbered(sequence, &path)).collect();
        let frames = frames(epoch(), events[0].space_id, &events).unwrap();
        assert!(frames.iter().all(|frame| frame.len() <= MAX_FRAME_BYTES));
        assert!(frames.len() < 10, "{} frames", frames.len());
        let all: Vec<i64> = frames.iter().flat_map(|frame| sequences(frame)).collect();
        assert_eq!(all, (1..=100).collect::<Vec<_>>());
    }

    /// The limit holds for all sizes of changes: the commas between changes count too.
    #[test]
    fn no_frame_is_a_byte_too_large() {
        let mut largest = 0;
        for length in (1..1_000).step_by(3) {
            let path = format!("/{}", "x".repeat(length));
            let events: Vec<Event> = (1_000..1_110).map(|number| numbered(number, &path)).collect();
            let frames = frames(epoch(), events[0].space_id, &events).unwrap();
            assert!(frames.len() > 1);
            largest = largest.max(frames[0].len());
        }
        assert!(
            (MAX_FRAME_BYTES - 16..=MAX_FRAME_BYTES).contains(&largest),
            "{largest}"
        );
    }

    /// A comma is counted for every change, although the last change has none. A full frame is one byte
    /// smaller than the limit.
    #[test]
    fn a_frame_is_filled_up() {
        let path = |length| format!("/{}", "x".repeat(length));
        let lengths = |events: &[Event]| {
            let frames = frames(epoch(), events[0].space_id, events).unwrap();
            frames.iter().map(String::len).collect::<Vec<_>>()
        };
        let mut events: Vec<Event> = Vec::new();
        for number in 1_000.. {
            events.push(numbered(number, &path(1)));
            let missing = MAX_FRAME_BYTES - 1 - lengths(&events)[0];
            events.pop();
            if missing > 900 {
                events.push(numbered(number, &path(900)));
                continue;
            }
            let filled = |missing| [events.as_slice(), &[numbered(number, &path(1 + missing))]].concat();
            assert_eq!(lengths(&filled(missing)), [MAX_FRAME_BYTES - 1]);
            assert_eq!(lengths(&filled(missing + 1)).len(), 2);
            break;
        }
    }
}
