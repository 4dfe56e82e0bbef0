//! From the dead-letter queue back to the queue, once what made them fail is over.
//!
//! Not by SQS's own redrive, which would bring back what cannot be read too. That stays where operators look.

use metrics::counter;
use model::Message;
use queue::{Outgoing, Received, SendOutcome};
use time::Duration;
use tokio::time::Instant;
use tracing::info;

use crate::{App, Error, REDRIVEN};

/// How many messages may be in the queue, waiting, delayed or in flight, for fan-out to count as healthy: what it works off within
/// seconds. Dead letters that fail again are among these, so a cause that persists stops the run after as many.
const HEALTHY_BACKLOG: u64 = 1_000;

/// For how many seconds a dead letter that was looked at is not shown again: this run need not see it twice.
const VISIBILITY_SECONDS: i32 = 20;

/// How long after its change a message can still reach somebody: API Gateway keeps no connection for longer
/// than two hours (Amazon API Gateway Developer Guide, "Quotas for configuring and running a WebSocket API"),
/// and whoever connects later reads the feed. A minute more for clocks that differ. So a message that fails
/// again and again comes to an end.
pub const MESSAGE_LIFETIME: Duration = Duration::minutes(121);

/// Brings dead letters back that can be read, with the attempts that were made, and drops those that can
/// reach nobody any more.
pub(crate) async fn redrive(app: &App, deadline: Instant) -> Result<usize, Error> {
    let mut redriven = 0;
    while Instant::now() < deadline {
        let letters = app.dead_letters.receive(VISIBILITY_SECONDS).await?;
        if letters.is_empty() || !is_healthy(app).await? {
            break;
        }
        let requeued = requeue(app, &letters).await?;
        redriven += requeued;
        info!(messages = requeued, "requeued {requeued} dead letters");
    }
    Ok(redriven)
}

/// Fan-out works off a healthy backlog within seconds.
async fn is_healthy(app: &App) -> Result<bool, Error> {
    let backlog = app.queue.backlog().await?;
    Ok(backlog.is_some_and(|messages| messages <= HEALTHY_BACKLOG))
}

/// Sends readable dead letters to the queue and then deletes them here. Dying in between makes them come twice.
async fn requeue(app: &App, letters: &[Received]) -> Result<usize, Error> {
    let (mut done, mut sending, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    for letter in letters {
        // Unreadable ones stay.
        let Ok(message) = Message::decode(&letter.body) else {
            continue;
        };
        let event_id = message.event.event_id;
        if app.clock.now() - message.event.occurred_at >= MESSAGE_LIFETIME {
            info!(%event_id, "dropped a dead letter about event {event_id}: every connection of that time has ended");
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
