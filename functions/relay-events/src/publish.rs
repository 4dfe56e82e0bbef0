//! Events whose sender failed or died: from the outbox to the queue.

use std::time::Duration as StdDuration;

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use changes::PUBLISHED;
use edge::chain;
use futures_util::stream::{self, StreamExt as _};
use metrics::{counter, gauge};
use model::{Event, EventId, Message};
use time::{Duration, OffsetDateTime};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::{App, Error, OLDEST, WAITING};

/// How long claimed events belong to this run: longer than sending them takes, shorter than the time between two runs.
const LEASE: Duration = Duration::seconds(30);

/// How many events are claimed at once.
const CLAIM: i64 = 100;

/// How many messages a request takes (Amazon SQS API Reference, `SendMessageBatch`).
const BATCH: usize = 10;

/// How many requests are under way at once.
const CONCURRENT_REQUESTS: usize = 10;

/// How often the outbox is looked at while events that were there before this run are still being sent by their makers.
const POLL: StdDuration = StdDuration::from_millis(250);

/// Sends what nobody else is sending, until nothing is left that was committed before this run: an event is in the queue within a
/// minute of its maker's death, or of the queue's return.
pub(crate) async fn publish(app: &App, stop: Instant) -> Result<usize, Error> {
    let outcome = publish_all(app, app.clock.now(), stop).await;
    let waiting = app.db.waiting_events(app.clock.now()).await?;
    let age = waiting.oldest.map(|oldest| app.clock.now() - oldest);
    #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
    gauge!(WAITING).set(waiting.events as f64);
    gauge!(OLDEST).set(age.unwrap_or_default().as_seconds_f64().max(0.0));
    outcome
}

async fn publish_all(app: &App, started: OffsetDateTime, stop: Instant) -> Result<usize, Error> {
    let mut published = 0;
    while Instant::now() < stop {
        let now = app.clock.now();
        let events = app.db.claim_events(now, now + LEASE, CLAIM).await?;
        if events.is_empty() {
            if app.db.waiting_events(started).await?.claimable_at.is_none() {
                break;
            }
            sleep(POLL).await;
            continue;
        }
        let claimed: Vec<EventId> = events.iter().map(|event| event.event_id).collect();
        let sent = send(app, &events).await;
        let unsent: Vec<EventId> = claimed.into_iter().filter(|id| !sent.contains(id)).collect();
        if !unsent.is_empty() {
            app.db.release_events(&unsent, app.clock.now()).await?;
        }
        if sent.is_empty() {
            return Err(Error::NotTaken(unsent.len()));
        }
        let removed = app.db.remove_published(&sent).await?;
        counter!(PUBLISHED).increment(u64::try_from(removed).unwrap_or(u64::MAX));
        published += sent.len();
        info!(
            events = sent.len(),
            "published {} events of the outbox",
            sent.len()
        );
    }
    Ok(published)
}

/// Sends events, and returns those that the queue has taken.
async fn send(app: &App, events: &[Event]) -> Vec<EventId> {
    let requests = events.chunks(BATCH).map(|batch| send_batch(app, batch));
    let sent: Vec<Vec<EventId>> = stream::iter(requests)
        .buffer_unordered(CONCURRENT_REQUESTS)
        .collect()
        .await;
    sent.into_iter().flatten().collect()
}

async fn send_batch(app: &App, events: &[Event]) -> Vec<EventId> {
    let mut request = app.queue.sqs.send_message_batch().queue_url(&app.queue.url);
    for (i, event) in events.iter().enumerate() {
        let event_id = event.event_id;
        let entry = Message::from(event.clone()).encode().map(|body| {
            SendMessageBatchRequestEntry::builder()
                .id(i.to_string())
                .message_body(body)
                .build()
        });
        match entry {
            Ok(Ok(entry)) => request = request.entries(entry),
            Ok(Err(error)) => warn!(%event_id, error = chain(&error), "event {event_id} cannot be sent"),
            Err(error) => warn!(%event_id, error = chain(&error), "event {event_id} cannot be written"),
        }
    }
    match request.send().await {
        Ok(answer) => {
            for failure in answer.failed() {
                warn!(code = failure.code(), "the queue did not take an event");
            }
            let taken = answer.successful().iter().filter_map(|entry| {
                let i: usize = entry.id().parse().ok()?;
                events.get(i).map(|event| event.event_id)
            });
            taken.collect()
        }
        Err(error) => {
            warn!(
                error = chain(&error),
                events = events.len(),
                "the queue did not take {} events",
                events.len()
            );
            Vec::new()
        }
    }
}
