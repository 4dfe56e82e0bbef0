//! What every function that changes a space does around the commit: name the change before, publish its event after.
//!
//! What fails after the commit is left to the outbox and cannot fail the request.

use aws_sdk_sqs::Client;
use db::{Changed, Database, NewChange, Refusal};
use edge::{Clock, Problem, chain, ids};
use model::{DeviceId, Event, UserId};
use time::Duration;
use tracing::{info, warn};

/// How long the event belongs to the call that made it, before anybody else may send it: longer than the call can take.
const OUTBOX_LEASE: Duration = Duration::seconds(30);

/// The queue that takes events to devices.
#[derive(Clone, Debug)]
pub struct Queue {
    /// The client, whose timeouts bound each send.
    pub sqs: Client,
    /// Its URL.
    pub url: String,
}

/// Names the change that a request is about to make.
pub fn new_change<'a>(clock: &Clock, user_id: &'a UserId, device_id: Option<DeviceId>) -> NewChange<'a> {
    let now = clock.now();
    NewChange {
        event_id: ids::new_id().into(),
        now,
        leased_until: now + OUTBOX_LEASE,
        user_id,
        device_id,
    }
}

/// Ends a request that was to change something: publishes the event of a change that it made, and answers with the change
/// that did what was asked for, now or earlier; nothing if nothing had to be done.
pub async fn settle(
    queue: &Queue,
    db: &Database,
    outcome: Result<Result<Changed, Refusal>, db::Error>,
) -> Result<Option<Event>, Problem> {
    match outcome.map_err(Problem::unavailable)? {
        Ok(Changed::Now(event)) => {
            publish(queue, db, &event).await;
            Ok(Some(*event))
        }
        Ok(Changed::Earlier(event)) => Ok(Some(*event)),
        Ok(Changed::Nothing) => Ok(None),
        Err(refusal) => Err(refusals::problem(refusal)),
    }
}

/// Sends a committed event to the queue and takes it out of the outbox. Failing leaves it there, which is one warning.
async fn publish(queue: &Queue, db: &Database, event: &Event) {
    let (event_id, sequence) = (event.event_id, event.sequence.get());
    info!(%event_id, space_id = %event.space_id, sequence, "committed event {event_id}");
    if let Err(error) = try_publish(queue, db, event).await {
        let error = chain(error.as_ref());
        warn!(%event_id, error, "event {event_id} stays in the outbox: it may not be in the queue");
    }
}

async fn try_publish(
    queue: &Queue,
    db: &Database,
    event: &Event,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    queue
        .sqs
        .send_message()
        .queue_url(&queue.url)
        .message_body(event.to_message()?)
        .send()
        .await?;
    db.remove_published(event.event_id).await?;
    Ok(())
}
