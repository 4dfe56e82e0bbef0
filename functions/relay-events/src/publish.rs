//! Events whose sender failed or died: from the outbox to the queue.

use std::time::Duration as StdDuration;

use metrics::histogram;
use queue::publish_all;
use time::{Duration, OffsetDateTime};
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::{App, Error, OLDEST, WAITING};

/// How long claimed events belong to this run: longer than sending them takes, shorter than the time between two runs.
const LEASE: Duration = Duration::seconds(30);

/// How many events are claimed at once.
const CLAIM: i64 = 100;

/// How often the outbox is looked at while events that were there before this run are still being sent by their makers.
const POLL: StdDuration = StdDuration::from_millis(250);

/// Sends what nobody else is sending, until nothing is left that was committed before this run: an event is in the queue within a
/// minute of its maker's death, or of the queue's return.
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
        info!(events, "published {events} events of the outbox");
    }
    if refused > 0 {
        return Err(Error::NotTaken(refused));
    }
    Ok(sent)
}
