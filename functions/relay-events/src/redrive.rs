//! From the dead-letter queue back to the queue, once what made them fail is over.
//!
//! Not by SQS's own redrive, which would bring back what cannot be read too. That stays where operators look.

use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, Message as Letter, QueueAttributeName, SendMessageBatchRequestEntry,
};
use metrics::counter;
use model::Message;
use time::Duration;
use tokio::time::Instant;
use tracing::info;

use crate::{App, Error, REDRIVEN};

/// How many messages may be in the queue, waiting, delayed or in flight, for fan-out to count as healthy: what it works off within
/// seconds. Dead letters that fail again are among these, so a cause that persists stops the run after as many.
const HEALTHY_BACKLOG: u64 = 1_000;

/// How many messages a request takes (Amazon SQS API Reference, `ReceiveMessage`).
const BATCH: i32 = 10;

/// For how many seconds a dead letter that was looked at is not shown again: this run need not see it twice.
const VISIBILITY_SECONDS: i32 = 20;

/// How long after its change a message can still reach somebody: API Gateway keeps no connection for longer
/// than two hours (Amazon API Gateway Developer Guide, "Quotas for configuring and running a WebSocket API"),
/// and whoever connects later reads the feed. A minute more for clocks that differ. So a message that fails
/// again and again comes to an end.
pub const MESSAGE_LIFETIME: Duration = Duration::minutes(121);

/// Brings dead letters back that can be read, with the attempts that were made, and drops those that can
/// reach nobody any more.
pub(crate) async fn redrive(app: &App, stop: Instant) -> Result<usize, Error> {
    let mut redriven = 0;
    while Instant::now() < stop {
        let letters = receive(app).await?;
        if letters.is_empty() || !is_healthy(app).await? {
            break;
        }
        let brought_back = bring_back(app, &letters).await?;
        redriven += brought_back;
        info!(
            messages = brought_back,
            "brought back {brought_back} dead letters"
        );
    }
    Ok(redriven)
}

async fn receive(app: &App) -> Result<Vec<Letter>, Error> {
    let request = app.queue.sqs.receive_message();
    let received = request
        .queue_url(&app.dead_letter_queue_url)
        .max_number_of_messages(BATCH)
        .visibility_timeout(VISIBILITY_SECONDS)
        .send()
        .await;
    let received = received.map_err(|error| Error::Queue(error.into()))?;
    Ok(received.messages.unwrap_or_default())
}

async fn is_healthy(app: &App) -> Result<bool, Error> {
    let request = app.queue.sqs.get_queue_attributes().queue_url(&app.queue.url);
    let counts = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
    ];
    let answer = request.set_attribute_names(Some(counts.to_vec())).send().await;
    let attributes = answer.map_err(|error| Error::Queue(error.into()))?.attributes;
    let attributes = attributes.unwrap_or_default();
    let count = |name| {
        attributes
            .get(name)
            .and_then(|count: &String| count.parse::<u64>().ok())
    };
    let total: Option<u64> = counts.iter().map(count).sum();
    Ok(total.is_some_and(|messages| messages <= HEALTHY_BACKLOG))
}

/// Sends what can be read to the queue and then deletes it here: dying in between makes it come twice.
async fn bring_back(app: &App, letters: &[Letter]) -> Result<usize, Error> {
    let sqs = &app.queue.sqs;
    let mut sending = sqs.send_message_batch().queue_url(&app.queue.url);
    let (mut any, mut settled) = (false, Vec::new());
    for (i, letter) in letters.iter().enumerate() {
        // What cannot be read stays.
        let Ok(message) = Message::decode(letter.body().unwrap_or_default()) else {
            continue;
        };
        let event_id = message.event.event_id;
        if app.clock.now() - message.event.occurred_at >= MESSAGE_LIFETIME {
            info!(%event_id, "dropped a dead letter about event {event_id}: it can reach nobody any more");
            settled.push(letter);
            continue;
        }
        let entry = SendMessageBatchRequestEntry::builder()
            .id(i.to_string())
            .message_body(message.encode()?)
            .set_message_system_attributes(commands::trace_attribute());
        sending = sending.entries(entry.build().map_err(|error| Error::Queue(error.into()))?);
        any = true;
    }
    let (mut taken, mut refused) = (0, 0);
    if any {
        let sent = sending.send().await.map_err(|error| Error::Queue(error.into()))?;
        (taken, refused) = (sent.successful().len(), sent.failed().len());
        counter!(REDRIVEN).increment(u64::try_from(taken).unwrap_or(u64::MAX));
        let of = |id: &str| id.parse().ok().and_then(|i: usize| letters.get(i));
        settled.extend(sent.successful().iter().filter_map(|entry| of(entry.id())));
    }
    delete(app, &settled).await?;
    if refused > 0 {
        return Err(Error::NotTaken(refused));
    }
    Ok(taken)
}

async fn delete(app: &App, letters: &[&Letter]) -> Result<(), Error> {
    let mut deleting = (app.queue.sqs.delete_message_batch()).queue_url(&app.dead_letter_queue_url);
    for (i, letter) in letters.iter().enumerate() {
        let entry = DeleteMessageBatchRequestEntry::builder()
            .id(i.to_string())
            .receipt_handle(letter.receipt_handle().unwrap_or_default())
            .build();
        deleting = deleting.entries(entry.map_err(|error| Error::Queue(error.into()))?);
    }
    if letters.is_empty() {
        return Ok(());
    }
    let deleted = deleting
        .send()
        .await
        .map_err(|error| Error::Queue(error.into()))?;
    match deleted.failed().len() {
        0 => Ok(()),
        kept => Err(Error::NotTaken(kept)),
    }
}
