//! Derives the remaining work from the outcomes of posts. Pure: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};

use db::Recipient;
use model::{Delivery, Recipients};
use tracing::error;

use crate::delivery::{Outcome, Post};
use crate::plan::Plan;
use crate::queue::{Destination, OutgoingMessage, backoff_seconds};
use crate::{MAX_ATTEMPTS, MAX_TIMED_OUT_ATTEMPTS};

/// Posts with their outcomes.
pub(crate) type Outcomes<'a> = Vec<(Post<'a>, Outcome)>;

/// Connections that took no posts in all attempts of a message. Each connection is returned once.
pub(crate) fn unresponsive<'a>(outcomes: &Outcomes<'a>) -> Vec<&'a Recipient> {
    let mut unresponsive: BTreeMap<&str, &Recipient> = BTreeMap::new();
    for (post, outcome) in outcomes {
        let attempts = match outcome {
            Outcome::Failed => MAX_ATTEMPTS,
            Outcome::TimedOut => MAX_TIMED_OUT_ATTEMPTS,
            _ => continue,
        };
        let mut records = post.group.records.iter();
        if records.any(|record| record.message.delivery.attempt + 1 >= attempts) {
            unresponsive.insert(&post.recipient.connection_id, post.recipient);
        }
    }
    unresponsive.into_values().collect()
}

/// Sets the outcome of posts to closed connections to [`Outcome::Closed`], except of delivered posts.
pub(crate) fn mark_closed(outcomes: &mut Outcomes<'_>, closed: &[&Recipient]) {
    let closed: BTreeSet<&str> = closed
        .iter()
        .map(|closed| closed.connection_id.as_str())
        .collect();
    for (post, outcome) in outcomes {
        let is_closed = closed.contains(post.recipient.connection_id.as_str());
        if is_closed && !matches!(outcome, Outcome::Delivered(_)) {
            *outcome = Outcome::Closed;
        }
    }
}

/// The work that remains after posting.
pub(crate) struct FollowUp<'a> {
    /// Messages for the recipients that were not reached, and for next pages.
    pub(crate) messages: Vec<OutgoingMessage<'a>>,
    /// Connections to delete from the database.
    pub(crate) gone: Vec<&'a Recipient>,
}

/// The reason why recipients were not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unreached {
    NotAttempted,
    Failed,
    Refused,
}

/// Plans one message per record and reason for the recipients that were not reached. Recipients that a retry
/// may reach get a delayed message in the queue. Recipients whose post was refused get a message in the
/// dead-letter queue, for operators. If a record was received more than once, the message for its next page
/// is also sent here.
pub(crate) fn follow_up<'a>(plan: &'a Plan<'a>, outcomes: &Outcomes<'a>) -> FollowUp<'a> {
    let gone = (outcomes.iter())
        .filter(|(_, outcome)| matches!(outcome, Outcome::Gone | Outcome::Closed))
        .map(|(post, _)| post.recipient)
        .collect();
    let mut messages = plan.next_pages(|record| record.receive_count > 1);
    for group in &plan.groups {
        let mut unreached: BTreeMap<Unreached, BTreeSet<String>> = BTreeMap::new();
        for (post, outcome) in outcomes
            .iter()
            .filter(|(post, _)| std::ptr::eq(post.group, group))
        {
            let reason = match outcome {
                Outcome::Delivered(_) | Outcome::Gone | Outcome::Closed => continue,
                Outcome::NotAttempted => Unreached::NotAttempted,
                Outcome::Failed | Outcome::TimedOut => Unreached::Failed,
                Outcome::Refused => Unreached::Refused,
            };
            let connections = unreached.entry(reason).or_default();
            connections.insert(post.recipient.connection_id.clone());
        }
        for (reason, connections) in unreached {
            for record in group.records.iter().copied() {
                messages.extend(message(record, reason, &connections));
            }
        }
    }
    FollowUp { messages, gone }
}

fn message<'a>(
    record: &'a crate::records::Record,
    reason: Unreached,
    connections: &BTreeSet<String>,
) -> Option<OutgoingMessage<'a>> {
    let attempted = u32::from(reason != Unreached::NotAttempted);
    let attempt = record.message.delivery.attempt.saturating_add(attempted);
    let (destination, delay_seconds) = if reason == Unreached::Refused {
        let event_id = record.message.event.event_id;
        error!(
            %event_id,
            connections = connections.len(),
            attempt,
            "event {event_id} could not be delivered to all: dead-lettering the rest"
        );
        (Destination::DeadLetters, 0)
    } else {
        (Destination::Queue, backoff_seconds(attempt))
    };
    let delivery = Delivery {
        attempt,
        to: Recipients::Only(connections.clone()),
    };
    OutgoingMessage::new(destination, record, delivery, delay_seconds)
}
