//! What every command does before and after its commit: begin the change, publish its event.
//!
//! A failure after the commit is left to the outbox and cannot fail the request.

use db::{Database, Effect, NewChange};
use metrics::counter;
use model::{DeviceId, Event, UserId};
use platform::metrics::Metric;
use platform::{Clock, ids};
use queue::{PUBLISHED, Queue, publish};
use time::Duration;

/// How long the event belongs to the request that made it, before anybody else may send it: longer than committing and sending
/// take at most, 3 and 2.5 s. A shorter lease would send events twice; with a longer one, an event whose sender died would
/// wait.
const OUTBOX_LEASE: Duration = Duration::seconds(10);

/// Counts changes that were committed.
pub const COMMITTED: &str = "EventsCommitted";

/// The metrics of functions that run commands.
pub const METRICS: [Metric; 2] = [Metric::Count(COMMITTED), Metric::Count(PUBLISHED)];

/// The AWS actions that each function needs.
pub const ACTIONS: &[(&str, &[&str])] = &[("finish", &["sqs:SendMessage"])];

/// Begins the change that a request is about to make: its event's id, time and lease.
pub fn begin<'a>(clock: &Clock, user_id: &'a UserId, device_id: Option<DeviceId>) -> NewChange<'a> {
    let now = clock.now();
    NewChange {
        event_id: ids::new_id().into(),
        now,
        leased_until: now + OUTBOX_LEASE,
        user_id,
        device_id,
    }
}

/// Finishes a command: publishes the event of a change that it made. Returns the event of the change that does what was asked
/// for, now or earlier; `None` if nothing had to change.
pub async fn finish(queue: &Queue, db: &Database, clock: &Clock, effect: Effect) -> Option<Event> {
    match effect {
        Effect::Applied(event) => {
            counter!(COMMITTED).increment(1);
            publish(queue, db, clock, &event).await;
            Some(*event)
        }
        Effect::AlreadyApplied(event) => Some(*event),
        Effect::NoOp => None,
    }
}
