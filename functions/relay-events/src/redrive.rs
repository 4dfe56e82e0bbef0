//! From the dead-letter queue back to the queue, once what made them fail is over.
//!
//! Not by SQS's own redrive, which would bring back what cannot be read too. That stays where operators look.

use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, Message as Letter, QueueAttributeName, SendMessageBatchRequestEntry,
};
use metrics::counter;
use model::{Delivery, Message};
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

/// Brings dead letters back that can be read, each to be tried as if for the first time.
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
    let mut any = false;
    for (i, letter) in letters.iter().enumerate() {
        let Ok(message) = Message::decode(letter.body().unwrap_or_default()) else {
            continue;
        };
        let delivery = Delivery {
            attempt: 0,
            ..message.delivery.clone()
        };
        let body = Message { delivery, ..message }.encode()?;
        let entry = SendMessageBatchRequestEntry::builder()
            .id(i.to_string())
            .message_body(body)
            .set_message_system_attributes(changes::trace_attribute());
        sending = sending.entries(entry.build().map_err(|error| Error::Queue(error.into()))?);
        any = true;
    }
    if !any {
        return Ok(0);
    }
    let sent = sending.send().await.map_err(|error| Error::Queue(error.into()))?;
    let mut deleting = sqs.delete_message_batch().queue_url(&app.dead_letter_queue_url);
    for entry in sent.successful() {
        let letter = entry.id().parse().ok().and_then(|i: usize| letters.get(i));
        let Some(handle) = letter.and_then(Letter::receipt_handle) else {
            continue;
        };
        let entry = DeleteMessageBatchRequestEntry::builder()
            .id(entry.id())
            .receipt_handle(handle)
            .build();
        deleting = deleting.entries(entry.map_err(|error| Error::Queue(error.into()))?);
    }
    let taken = sent.successful().len();
    counter!(REDRIVEN).increment(u64::try_from(taken).unwrap_or(u64::MAX));
    if taken > 0 {
        deleting
            .send()
            .await
            .map_err(|error| Error::Queue(error.into()))?;
    }
    let refused = sent.failed().len();
    if refused > 0 {
        return Err(Error::NotTaken(refused));
    }
    Ok(taken)
}
