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

/// How many messages may wait in the queue for fan-out to count as healthy: what it works off within seconds.
const HEALTHY_BACKLOG: u64 = 1_000;

/// How many batches of dead letters a run brings back at most. So those that fail again and again are tried at a steady rate.
const BATCHES: usize = 20;

/// How many messages a request takes (Amazon SQS API Reference, `ReceiveMessage`).
const BATCH: i32 = 10;

/// For how many seconds a dead letter that was looked at is not shown again: this run need not see it twice.
const VISIBILITY_SECONDS: i32 = 20;

/// Brings dead letters back that can be read, each to be tried as if for the first time.
pub(crate) async fn redrive(app: &App, stop: Instant) -> Result<usize, Error> {
    let mut redriven = 0;
    for _ in 0..BATCHES {
        if Instant::now() >= stop {
            break;
        }
        let letters = receive(app).await?;
        if letters.is_empty() || (redriven == 0 && !is_healthy(app).await?) {
            break;
        }
        redriven += bring_back(app, &letters).await?;
    }
    if redriven > 0 {
        counter!(REDRIVEN).increment(u64::try_from(redriven).unwrap_or(u64::MAX));
        info!(messages = redriven, "brought back {redriven} dead letters");
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
    let visible = QueueAttributeName::ApproximateNumberOfMessages;
    let answer = request.attribute_names(visible.clone()).send().await;
    let answer = answer.map_err(|error| Error::Queue(error.into()))?;
    let waiting = answer
        .attributes
        .and_then(|attributes| attributes.get(&visible).cloned());
    let waiting: Option<u64> = waiting.and_then(|waiting| waiting.parse().ok());
    Ok(waiting.is_some_and(|waiting| waiting <= HEALTHY_BACKLOG))
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
            .message_body(body);
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
