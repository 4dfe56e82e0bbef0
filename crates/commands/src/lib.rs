//! What every function that changes a space does around the commit: name the change before, publish its event after.
//!
//! What fails after the commit is left to the outbox and cannot fail the request.

use std::collections::HashMap;

use api::Problem;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{MessageSystemAttributeNameForSends, MessageSystemAttributeValue};
use db::{Changed, Database, NewChange, Rejection};
use metrics::counter;
use model::{DeviceId, Event, Message, UserId};
use platform::metrics::Metric;
use platform::{Clock, chain, ids, trace};
use time::Duration;
use tracing::{info, warn};

/// How long the event belongs to the call that made it, before anybody else may send it: longer than committing and sending
/// take at most, 3 and 2.5 s. Were it shorter, the event would be sent twice; longer, and one whose sender died would wait.
const OUTBOX_LEASE: Duration = Duration::seconds(10);

/// Changes that were committed.
pub const COMMITTED: &str = "EventsCommitted";

/// Events that the queue has taken: each counts once, when it leaves the outbox. So what was committed is what was published and
/// what waits.
pub const PUBLISHED: &str = "EventsPublished";

/// What functions that change spaces count.
pub const METRICS: [Metric; 2] = [Metric::Count(COMMITTED), Metric::Count(PUBLISHED)];

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
    clock: &Clock,
    outcome: Result<Result<Changed, Rejection>, db::Error>,
) -> Result<Option<Event>, Problem> {
    match outcome.map_err(Problem::unavailable)? {
        Ok(Changed::Now(event)) => {
            counter!(COMMITTED).increment(1);
            publish(queue, db, clock, &event).await;
            Ok(Some(*event))
        }
        Ok(Changed::Earlier(event)) => Ok(Some(*event)),
        Ok(Changed::Nothing) => Ok(None),
        Err(refusal) => Err(Problem::from(refusal)),
    }
}

/// Sends a committed event to the queue and takes it out of the outbox. Failing leaves it there for `relay-events`, which is one
/// warning.
async fn publish(queue: &Queue, db: &Database, clock: &Clock, event: &Event) {
    let (event_id, sequence) = (event.event_id, event.sequence.get());
    info!(%event_id, space_id = %event.space_id, sequence, "committed event {event_id}");
    let error = match send(queue, event).await {
        Ok(()) => match db.remove_published(&[event_id]).await {
            Ok(removed) => return counter!(PUBLISHED).increment(u64::try_from(removed).unwrap_or(u64::MAX)),
            Err(error) => chain(&error),
        },
        Err(error) => {
            // So that it need not wait for the lease to end. If this fails too, it does.
            let _ = db.release_events(&[event_id], clock.now()).await;
            chain(error.as_ref())
        }
    };
    warn!(%event_id, error, "event {event_id} stays in the outbox: it may not be in the queue");
}

/// What has a message go on with the trace of who sends it (AWS X-Ray Developer Guide, "Amazon SQS and AWS X-Ray").
pub fn trace_attribute() -> Option<HashMap<MessageSystemAttributeNameForSends, MessageSystemAttributeValue>> {
    let value = MessageSystemAttributeValue::builder().data_type("String");
    let value = value.string_value(trace::header()?).build().ok()?;
    Some([(MessageSystemAttributeNameForSends::AwsTraceHeader, value)].into())
}

async fn send(queue: &Queue, event: &Event) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    queue
        .sqs
        .send_message()
        .queue_url(&queue.url)
        .message_body(Message::from(event.clone()).encode()?)
        .set_message_system_attributes(trace_attribute())
        .send()
        .await?;
    Ok(())
}
