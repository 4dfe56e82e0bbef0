//! Publishes events from the outbox whose sender failed or died.

use std::time::Duration as StdDuration;

use metrics::histogram;
use queue::publish_all;
use time::{Duration, OffsetDateTime};
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::metrics::{OLDEST, WAITING};
use crate::{App, Error};

/// The lease of claimed events. It is longer than sending them takes, and shorter than the time between two
/// runs.
const LEASE: Duration = Duration::seconds(30);

/// The largest number of events that are claimed at once.
const CLAIM: i64 = 100;

/// Pause between two looks at the outbox while other senders still hold leases on events from before this
/// run.
const POLL: StdDuration = StdDuration::from_millis(250);

/// Sends all events that no other sender holds a lease on, until no event that was committed before this run
/// is left. An event is therefore in the queue within a minute after its sender died, or after the queue
/// became available again.
pub(crate) async fn publish(app: &App, deadline: Instant) -> Result<usize, Error> {
    let outcome = publish_claimed(app, app.clock.now(), deadline).await;
    let waiting = app.db.waiting_events(app.clock.now()).await?;
    let age = waiting.oldest.map(|oldest| app.clock.now() - oldest);
    #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
    histogram!(WAITING).record(waiting.events as f64);
    histogram!(OLDEST).record(age.unwrap_or_default().as_seconds_f64().max(0.0));
    outcome
}

async fn publish_claimed(app: &App, started: OffsetDateTime, deadline: Instant) -> Result<usize, Error> {
    let (mut sent, mut refused) = (0, 0);
    while Instant::now() < deadline {
        let now = app.clock.now();
        let events = app.db.claim_events(now, now + LEASE, CLAIM).await?;
        if events.is_empty() {
            if refused > 0 || app.db.waiting_events(started).await?.claimable_at.is_none() {
                break;
            }
            sleep(POLL).await;
            continue;
        }
        let published = publish_all(&app.queue, &app.db, &app.clock, &events).await?;
        if published.unreached.len() == events.len() {
            return Err(Error::NotTaken(events.len()));
        }
        sent += published.sent.len();
        refused += published.refused.len();
        let events = published.sent.len();
        debug!(events, "published {events} events of the outbox");
    }
    if refused > 0 {
        return Err(Error::NotTaken(refused));
    }
    Ok(sent)
}
