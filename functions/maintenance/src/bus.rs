//! Puts events on the event bus, if the stack has one. Only this function does, so that a command takes no
//! longer.

use std::time::Duration as StdDuration;

use bus::{Bus, PutOutcome};
use metrics::{counter, histogram};
use model::EventId;
use time::Duration;
use tokio::time::Instant;
use tracing::debug;

use crate::metrics::{OLDEST_FOR_BUS, PUT_ON_BUS};
use crate::{App, Error};

/// The lease of claimed events. It is longer than putting them on the bus takes, and shorter than the time
/// between two runs.
const LEASE: Duration = Duration::seconds(30);

/// The largest number of events that are claimed at once. They are put in one round of concurrent requests,
/// so an unreachable bus takes one timeout.
const CLAIM: i64 = 100;

/// The share of a run's remaining time that the bus may take. The rest is for cleaning up and purging.
const SHARE: f64 = 0.5;

/// The largest number of events that are dropped in one statement.
const DROP: usize = 1_000;

/// Puts events on the bus until none waits or the pass's share of the run is over. A refused event keeps its
/// lease, so that this run does not put it again. Without a bus, drops the events that an earlier one left.
pub(crate) async fn put(app: &App, deadline: Instant) -> Result<usize, Error> {
    let Some(bus) = &app.bus else {
        return drop_left_over(app, deadline).await;
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let outcome = put_claimed(app, bus, Instant::now() + left.mul_f64(SHARE)).await;
    let oldest = app.db.oldest_bus_event().await?;
    let age = oldest.map(|oldest| app.clock.now() - oldest);
    let age: StdDuration = age.unwrap_or_default().try_into().unwrap_or_default();
    histogram!(OLDEST_FOR_BUS).record(age.as_secs_f64());
    outcome
}

async fn put_claimed(app: &App, bus: &Bus, deadline: Instant) -> Result<usize, Error> {
    let (mut put, mut refused) = (0, 0);
    while Instant::now() < deadline {
        let now = app.clock.now();
        let events = app.db.claim_bus_events(now, now + LEASE, CLAIM).await?;
        if events.is_empty() {
            break;
        }
        let outcomes = bus.put_all(&events).await;
        let with = |outcome| {
            let events = events.iter().zip(&outcomes);
            let events = events.filter(|(_, other)| **other == outcome);
            events.map(|(event, _)| event.event_id).collect::<Vec<EventId>>()
        };
        let unreached = with(PutOutcome::Unreached);
        if !unreached.is_empty() {
            // If this fails, the lease expires.
            let _ = app.db.release_bus_events(&unreached, app.clock.now()).await;
        }
        let taken = with(PutOutcome::Put);
        if !taken.is_empty() {
            let removed = app.db.remove_bus_events(&taken).await?;
            counter!(PUT_ON_BUS).increment(u64::try_from(removed).unwrap_or(u64::MAX));
            debug!(events = removed, "put {removed} events on the event bus");
        }
        put += taken.len();
        refused += with(PutOutcome::Refused).len();
        if unreached.len() == events.len() {
            return Err(Error::NotPut(events.len()));
        }
    }
    if refused > 0 {
        return Err(Error::NotPut(refused));
    }
    Ok(put)
}

/// Drops what waits for a bus that the stack no longer has.
async fn drop_left_over(app: &App, deadline: Instant) -> Result<usize, Error> {
    let limit = i64::try_from(DROP).unwrap_or(i64::MAX);
    while Instant::now() < deadline {
        let dropped = app.db.drop_bus_events(limit).await?;
        if dropped > 0 {
            debug!(
                events = dropped,
                "dropped {dropped} events: there is no event bus"
            );
        }
        if dropped < DROP {
            break;
        }
    }
    Ok(0)
}
