//! Moves dead letters back to the queue once fan-out is healthy again.
//!
//! SQS's own redrive is not used, because it would also move unreadable messages. Those stay in the
//! dead-letter queue, which operators inspect.

use metrics::counter;
use model::Message;
use platform::summary;
use queue::{Outgoing, Received, SendOutcome};
use time::Duration;
use tokio::time::Instant;
use tracing::debug;

use crate::metrics::REDRIVEN;
use crate::{App, DROPPED, Error};

/// The largest number of messages in the queue (waiting, delayed or in flight) with which fan-out counts as
/// healthy. Fan-out handles this many within seconds. Dead letters that fail again are among them, so if
/// their cause persists, redriving stops after this many.
const HEALTHY_BACKLOG: u64 = 1_000;

/// Seconds for which a received dead letter stays invisible, so that a run need not receive it twice.
const VISIBILITY_SECONDS: i32 = 20;

/// How long after its change a message can still reach a connection. API Gateway closes a connection after at
/// most two hours (Amazon API Gateway Developer Guide, "Quotas for configuring and running a WebSocket API"),
/// and a client that connects later reads the feed. One minute is added for clock differences. The limit ends
/// the retries of a message that always fails.
pub const MESSAGE_LIFETIME: Duration = Duration::minutes(121);

/// Requeues readable dead letters with their attempt counts, and deletes those that are too old to reach a
/// connection. Returns the number of requeued messages.
pub(crate) async fn redrive(app: &App, deadline: Instant) -> Result<usize, Error> {
    let mut redriven = 0;
    while Instant::now() < deadline {
        let letters = app.dead_letters.receive(VISIBILITY_SECONDS).await?;
        if letters.is_empty() || !is_healthy(app).await? {
            break;
        }
        let requeued = requeue(app, &letters).await?;
        redriven += requeued;
        debug!(messages = requeued, "requeued {requeued} dead letters");
    }
    Ok(redriven)
}

/// Whether the queue's backlog is at most [`HEALTHY_BACKLOG`]. An unknown backlog is not healthy.
async fn is_healthy(app: &App) -> Result<bool, Error> {
    let backlog = app.queue.backlog().await?;
    Ok(backlog.is_some_and(|messages| messages <= HEALTHY_BACKLOG))
}

/// Sends readable dead letters to the queue, and then deletes them from the dead-letter queue. If the
/// function dies in between, they are delivered twice.
async fn requeue(app: &App, letters: &[Received]) -> Result<usize, Error> {
    let (mut done, mut sending, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    for letter in letters {
        // Unreadable messages stay in the dead-letter queue.
        let Ok(message) = Message::decode(&letter.body) else {
            continue;
        };
        let event_id = message.event.event_id;
        if app.clock.now() - message.event.occurred_at >= MESSAGE_LIFETIME {
            debug!(%event_id, "dropped a dead letter about event {event_id}: every connection of that time has ended");
            summary::record(DROPPED, event_id);
            done.push(letter.receipt_handle.as_str());
            continue;
        }
        sending.push(letter.receipt_handle.as_str());
        messages.push(Outgoing {
            body: message.encode()?,
            delay_seconds: 0,
        });
    }
    let outcomes = app.queue.send_all(messages).await;
    let sent = sending.iter().zip(&outcomes);
    let sent = sent.filter(|(_, outcome)| **outcome == SendOutcome::Sent);
    let sent: Vec<&str> = sent.map(|(receipt_handle, _)| *receipt_handle).collect();
    counter!(REDRIVEN).increment(u64::try_from(sent.len()).unwrap_or(u64::MAX));
    done.extend(&sent);
    let kept = app.dead_letters.delete(&done).await? + outcomes.len() - sent.len();
    if kept > 0 {
        return Err(Error::NotTaken(kept));
    }
    Ok(sent.len())
}
