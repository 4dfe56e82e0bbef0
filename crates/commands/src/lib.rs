//! The steps that all commands share: begin a change before the commit, and publish its event after it.
//!
//! A failure after the commit does not fail the request: the event stays in the outbox, and `maintenance`
//! sends it later.

#![warn(missing_docs)]

use db::{Database, Effect, NewChange};
use metrics::counter;
use model::{Caller, DeviceId, Event};
use platform::metrics::Metric;
use platform::{Clock, ids, summary};
use queue::{PUBLISHED, Queue, publish};
use time::Duration;

/// The duration of the lease with which a request's event enters the outbox. Only the request sends the event
/// until the lease ends. Committing takes at most 3 s and sending at most 2.5 s. A shorter lease would send
/// events twice; a longer one would delay the event of a sender that died.
const OUTBOX_LEASE: Duration = Duration::seconds(10);

/// The metric that counts committed changes.
pub const COMMITTED: &str = "EventsCommitted";

/// The metrics that functions with commands write.
pub const METRICS: [Metric; 2] = [Metric::Count(COMMITTED), Metric::Count(PUBLISHED)];

/// The AWS actions that each function of this crate needs.
pub const ACTIONS: &[(&str, &[&str])] = &[("finish", &["sqs:SendMessage"])];

/// Prepares the change of a request: the ids, time and lease of its events. `max_changes_per_minute` is the
/// limit of each user.
pub fn begin<'a>(
    clock: &Clock,
    caller: &'a Caller,
    device_id: Option<DeviceId>,
    max_changes_per_minute: i64,
) -> NewChange<'a> {
    let now = clock.now();
    NewChange {
        event_ids: std::array::from_fn(|_| ids::new_id().into()),
        now,
        leased_until: now + OUTBOX_LEASE,
        caller,
        device_id,
        max_changes_per_minute,
    }
}

/// Finishes a command and publishes the events of the changes that it made. Returns the event of the change
/// that has the requested effect, whether made now or by an earlier request; `None` if no change was needed.
pub async fn finish(queue: &Queue, db: &Database, clock: &Clock, effect: Effect) -> Option<Event> {
    match effect {
        Effect::Applied(events) => {
            events.iter().for_each(name);
            counter!(COMMITTED).increment(u64::try_from(events.len()).unwrap_or(u64::MAX));
            publish(queue, db, clock, &events).await;
            events.into_iter().next()
        }
        Effect::AlreadyApplied(event) => {
            name(&event);
            Some(*event)
        }
        Effect::NoOp => None,
    }
}

/// Names a change in the request's line of the log.
fn name(event: &Event) {
    summary::record("event_ids", event.event_id);
    summary::record("space_ids", event.space_id);
}
