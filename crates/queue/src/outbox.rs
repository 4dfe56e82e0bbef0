//! Publishes events: sends an event to the queue, then removes its row from the outbox. If the sender dies in
//! between, the event is sent twice, which is harmless. If sending fails, the row stays and its lease is
//! released.

use db::Database;
use metrics::counter;
use model::{Event, EventId, Message};
use platform::{Clock, error_chain};
use tracing::{debug, error, warn};

use crate::{Outgoing, Queue, SendOutcome};

/// The metric that counts published events. Each event is counted once, when its row leaves the outbox, so
/// committed events = published events + events in the outbox.
pub const PUBLISHED: &str = "EventsPublished";

/// Sends the events of changes that were just committed by one command. A failure is logged as one warning for
/// each event; `maintenance` sends the event later.
pub async fn publish(queue: &Queue, db: &Database, clock: &Clock, events: &[Event]) {
    for event in events {
        let (event_id, sequence) = (event.event_id, event.sequence.get());
        debug!(%event_id, space_id = %event.space_id, sequence, "committed event {event_id}");
    }
    let outcome = publish_all(queue, db, clock, events).await;
    for event in events {
        let event_id = event.event_id;
        match &outcome {
            Ok(published) if published.sent.contains(&event_id) => {}
            Ok(_) => warn!(%event_id, "event {event_id} stays in the outbox"),
            Err(error) => {
                warn!(%event_id, error = error_chain(error), "event {event_id} stays in the outbox: it may not be in the queue");
            }
        }
    }
}

/// The outcome of sending events, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Events that the queue accepted. They are no longer in the outbox.
    pub sent: Vec<EventId>,
    /// Events that the queue refused or that cannot be encoded. They stay in the outbox and keep their lease,
    /// so that they do not delay others.
    pub refused: Vec<EventId>,
    /// Events for which the queue did not respond. They stay in the outbox, and their lease is released.
    pub unreached: Vec<EventId>,
}

/// Sends events to the queue, those of one space in as few messages as possible. The caller must hold their
/// leases.
pub async fn publish_all(
    queue: &Queue,
    db: &Database,
    clock: &Clock,
    events: &[Event],
) -> Result<Published, db::Error> {
    let mut published = Published::default();
    let refused = send(queue, Message::pack(events), &mut published).await;
    // One event can be the reason for which its message was refused, so each is sent alone.
    let alone = events.iter().filter(|event| refused.contains(&event.event_id));
    let alone = alone.cloned().map(Message::from).collect();
    published.refused = send(queue, alone, &mut published).await;
    if !published.sent.is_empty() {
        let removed = db.remove_published(&published.sent).await?;
        counter!(PUBLISHED).increment(u64::try_from(removed).unwrap_or(u64::MAX));
    }
    if !published.unreached.is_empty() {
        // If this fails too, the lease expires.
        let _ = db.release_events(&published.unreached, clock.now()).await;
    }
    Ok(published)
}

/// Sends messages, and adds the outcomes of their events to `published`. Returns those that the queue refused
/// or that cannot be encoded; of a message with several events, all.
async fn send(queue: &Queue, messages: Vec<Message>, published: &mut Published) -> Vec<EventId> {
    let (mut refused, mut ids, mut encoded) = (Vec::new(), Vec::new(), Vec::new());
    for message in messages {
        let events: Vec<EventId> = message.events().map(|event| event.event_id).collect();
        match message.encode() {
            Ok(body) => {
                ids.push(events);
                encoded.push(Outgoing {
                    body,
                    delay_seconds: 0,
                });
            }
            Err(error) => {
                error!(
                    events = events.len(),
                    first = %message.event.event_id,
                    error = error_chain(&error),
                    "a message cannot be encoded"
                );
                refused.extend(events);
            }
        }
    }
    for (events, outcome) in ids.into_iter().zip(queue.send_all(encoded).await) {
        match outcome {
            SendOutcome::Sent => published.sent.extend(events),
            SendOutcome::Refused => refused.extend(events),
            SendOutcome::Unreached => published.unreached.extend(events),
        }
    }
    refused
}
