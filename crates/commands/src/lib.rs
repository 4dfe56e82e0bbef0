//! The steps that all commands share: begin a change before the commit, and publish its event after it.
//!
//! A failure after the commit does not fail the request: the event stays in the outbox, and `maintenance`
//! sends it later.

#![warn(missing_docs)]

mod metrics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use ::metrics::counter;
use db::{Commit, Database, Effect, NewChange, Rejection};
use model::{Caller, DeviceId, Event, SpaceId};
use platform::{Clock, ids, summary};
use queue::{Queue, publish};
use time::Duration;
use tokio::time::Instant;

pub use metrics::{COMMITTED, METRICS};

/// The duration of the lease with which a request's event enters the outbox. Only the request sends the event
/// until the lease ends. Committing takes at most 3 s and sending at most 2.5 s. A shorter lease would send
/// events twice; a longer one would delay the event of a sender that died.
const OUTBOX_LEASE: Duration = Duration::seconds(10);

/// The time after which the commits of a request end. The client then repeats the request for the other spaces.
const COMMIT_TIME: StdDuration = StdDuration::from_secs(3);

/// The AWS actions that each function of this crate needs.
pub const ACTIONS: &[(&str, &[&str])] = &[
    ("finish", &["sqs:SendMessage"]),
    ("commit_by_space", &["sqs:SendMessage"]),
];

/// Prepares the change of a request: the ids, time and lease of its events. `max_changes_per_minute` is the
/// limit of each user.
pub fn begin<'a>(
    clock: &Clock,
    caller: &'a Caller,
    device_id: Option<DeviceId>,
    max_changes_per_minute: i64,
) -> NewChange<'a> {
    change(begin_all(clock, caller, max_changes_per_minute), device_id)
}

/// Prepares the changes of a request: their time and the lease of their events.
pub fn begin_all<'a>(clock: &Clock, caller: &'a Caller, max_changes_per_minute: i64) -> Commit<'a> {
    let now = clock.now();
    Commit {
        now,
        leased_until: now + OUTBOX_LEASE,
        caller,
        max_changes_per_minute,
    }
}

/// Prepares one of the changes of a request: the ids of its events.
pub fn change(commit: Commit<'_>, device_id: Option<DeviceId>) -> NewChange<'_> {
    NewChange {
        event_ids: std::array::from_fn(|_| ids::new_id().into()),
        device_id,
        commit,
    }
}

/// Finishes a command and publishes the events of the changes that it made. Returns the event of the change
/// that has the requested effect, whether made now or by an earlier request; `None` if no change was needed.
pub async fn finish(queue: &Queue, db: &Database, clock: &Clock, effect: Effect) -> Option<Event> {
    finish_all(queue, db, clock, vec![effect]).await.pop().flatten()
}

/// Commits changes of several spaces, and publishes their events together. `commit` commits those of one space,
/// in one transaction, and returns the result of each. A failure of one space does not undo the others. Returns
/// the event of each change, as [`finish`] does, in the order of `changes`.
pub async fn commit_by_space<T>(
    queue: &Queue,
    db: &Database,
    clock: &Clock,
    changes: impl IntoIterator<Item = (SpaceId, T)>,
    commit: impl AsyncFn(SpaceId, &[T]) -> Result<Vec<Result<Effect, Rejection>>, db::Error>,
) -> Vec<Result<Option<Event>, Arc<db::Error>>> {
    let mut spaces: BTreeMap<SpaceId, (Vec<usize>, Vec<T>)> = BTreeMap::new();
    for (index, (space_id, change)) in changes.into_iter().enumerate() {
        let (indices, items) = spaces.entry(space_id).or_default();
        indices.push(index);
        items.push(change);
    }
    let (mut results, mut made, mut effects) = (BTreeMap::new(), Vec::new(), Vec::new());
    let deadline = Instant::now() + COMMIT_TIME;
    let mut failure = None;
    for (space_id, (indices, items)) in spaces {
        // After a failure of the database, the other spaces would only wait for it too.
        if failure.is_none() && Instant::now() >= deadline {
            failure = Some(Arc::new(db::Error::QueryTimeout {
                query: "commit_by_space",
                after: COMMIT_TIME,
            }));
        }
        let decisions = match &failure {
            None => commit(space_id, &items).await.map_err(Arc::new),
            Some(error) => Err(Arc::clone(error)),
        };
        match decisions {
            Ok(decisions) => {
                for (index, decision) in indices.into_iter().zip(decisions) {
                    match decision {
                        Ok(effect) => {
                            made.push(index);
                            effects.push(effect);
                        }
                        Err(rejection) => {
                            results.insert(index, Err(Arc::new(db::Error::Rejected(rejection))));
                        }
                    }
                }
            }
            Err(error) => {
                results.extend(indices.into_iter().map(|index| (index, Err(Arc::clone(&error)))));
                if !matches!(*error, db::Error::Rejected(_)) {
                    failure = Some(error);
                }
            }
        }
    }
    let events = finish_all(queue, db, clock, effects).await;
    results.extend(made.into_iter().zip(events.into_iter().map(Ok)));
    results.into_values().collect()
}

/// Finishes several commands, as [`finish`] does one, and publishes all events together.
async fn finish_all(queue: &Queue, db: &Database, clock: &Clock, effects: Vec<Effect>) -> Vec<Option<Event>> {
    let (mut made, mut requested) = (Vec::new(), Vec::new());
    for effect in effects {
        requested.push(match effect {
            Effect::Applied(events) => {
                events.iter().for_each(name);
                let first = events.first().cloned();
                made.extend(events);
                first
            }
            Effect::AlreadyApplied(event) => {
                name(&event);
                Some(*event)
            }
            Effect::NoOp => None,
        });
    }
    if !made.is_empty() {
        counter!(COMMITTED).increment(u64::try_from(made.len()).unwrap_or(u64::MAX));
        publish(queue, db, clock, &made).await;
    }
    requested
}

/// Names a change in the request's line of the log.
fn name(event: &Event) {
    summary::record("event_ids", event.event_id);
    summary::record("space_ids", event.space_id);
}
