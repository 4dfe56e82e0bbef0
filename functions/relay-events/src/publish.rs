//! Events whose sender failed or died: from the outbox to the queue.

use std::time::Duration as StdDuration;

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use commands::{PUBLISHED, trace_attribute};
use futures_util::stream::{self, StreamExt as _};
use metrics::{counter, histogram};
use model::{Event, EventId, Message};
use platform::chain;
use time::{Duration, OffsetDateTime};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

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
    histogram!(WAITING).record(waiting.events as f64);
    histogram!(OLDEST).record(age.unwrap_or_default().as_seconds_f64().max(0.0));
    outcome
}

async fn publish_all(app: &App, started: OffsetDateTime, stop: Instant) -> Result<usize, Error> {
    let (mut published, mut refused) = (0, 0);
    while Instant::now() < stop {
        let now = app.clock.now();
        let events = app.db.claim_events(now, now + LEASE, CLAIM).await?;
        if events.is_empty() {
            if refused > 0 || app.db.waiting_events(started).await?.claimable_at.is_none() {
                break;
            }
            sleep(POLL).await;
            continue;
        }
        let sent = send(app, &events).await;
        if !sent.unreached.is_empty() {
            app.db.release_events(&sent.unreached, app.clock.now()).await?;
        }
        if sent.unreached.len() == events.len() {
            return Err(Error::NotTaken(events.len()));
        }
        let removed = app.db.remove_published(&sent.taken).await?;
        counter!(PUBLISHED).increment(u64::try_from(removed).unwrap_or(u64::MAX));
        published += sent.taken.len();
        // They keep their lease, so that they keep nobody else waiting.
        refused += sent.refused.len();
        info!(
            events = sent.taken.len(),
            "published {} events of the outbox",
            sent.taken.len()
        );
    }
    if refused > 0 {
        return Err(Error::NotTaken(refused));
    }
    Ok(published)
}

/// What became of events that were to be sent.
#[derive(Default)]
struct Sent {
    /// The queue has them.
    taken: Vec<EventId>,
    /// The queue does not want them, or they cannot be written.
    refused: Vec<EventId>,
    /// The queue did not answer.
    unreached: Vec<EventId>,
}

/// Sends events, many at once.
async fn send(app: &App, events: &[Event]) -> Sent {
    let requests = events.chunks(BATCH).map(|batch| send_batch(app, batch));
    let parts: Vec<Sent> = stream::iter(requests)
        .buffer_unordered(CONCURRENT_REQUESTS)
        .collect()
        .await;
    parts.into_iter().fold(Sent::default(), |mut all, part| {
        all.taken.extend(part.taken);
        all.refused.extend(part.refused);
        all.unreached.extend(part.unreached);
        all
    })
}

async fn send_batch(app: &App, events: &[Event]) -> Sent {
    let mut sent = Sent::default();
    let mut request = app.queue.sqs.send_message_batch().queue_url(&app.queue.url);
    let mut sending = Vec::new();
    for event in events {
        let event_id = event.event_id;
        let entry = entry(sending.len(), event);
        match entry {
            Ok(entry) => {
                request = request.entries(entry);
                sending.push(event_id);
            }
            Err(error) => {
                error!(%event_id, error = chain(error.as_ref()), "event {event_id} cannot be written, and so not be published");
                sent.refused.push(event_id);
            }
        }
    }
    if sending.is_empty() {
        return sent;
    }
    match request.send().await {
        Ok(answer) => {
            let named = |id: &str| id.parse().ok().and_then(|i: usize| sending.get(i)).copied();
            let taken = answer.successful().iter();
            sent.taken.extend(taken.filter_map(|entry| named(entry.id())));
            for failure in answer.failed() {
                let Some(event_id) = named(failure.id()) else {
                    continue;
                };
                warn!(%event_id, code = failure.code(), "the queue refused event {event_id}");
                sent.refused.push(event_id);
            }
        }
        Err(error) => {
            warn!(
                error = chain(&error),
                events = sending.len(),
                "the queue did not take {} events",
                sending.len()
            );
            sent.unreached.extend(sending);
        }
    }
    sent
}

fn entry(
    i: usize,
    event: &Event,
) -> Result<SendMessageBatchRequestEntry, Box<dyn std::error::Error + Send + Sync>> {
    let body = Message::from(event.clone()).encode()?;
    let entry = SendMessageBatchRequestEntry::builder()
        .id(i.to_string())
        .message_body(body)
        .set_message_system_attributes(trace_attribute());
    Ok(entry.build()?)
}
