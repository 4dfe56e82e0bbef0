//! The queue's side of a batch: reading records, setting the unreadable aside, bringing the failed back soon.

use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use aws_sdk_sqs::types::ChangeMessageVisibilityBatchRequestEntry;
use edge::chain;
use model::Event;
use tracing::{error, warn};

use crate::{App, Record};

/// The longest wait in seconds before a failed record comes again. Ten receives then span well over the 30 s in which a
/// connection settles.
const MAX_BACKOFF_SECONDS: i32 = 10;

/// How many entries one `ChangeMessageVisibilityBatch` takes (Amazon SQS API Reference).
const MAX_BATCH_ENTRIES: usize = 10;

/// Reads each record on its own. What is no event goes to the dead-letter queue at once, for no retry can mend it; the ids
/// that come back are of those that could not even be set aside.
pub(crate) async fn decode(app: &App, batch: SqsEvent) -> (Vec<Record>, Vec<String>) {
    let (mut records, mut failed) = (Vec::new(), Vec::new());
    for message in batch.records {
        let message_id = message.message_id.clone().unwrap_or_default();
        match Event::from_message(message.body.as_deref().unwrap_or_default()) {
            Ok(event) => records.push(Record {
                message_id,
                receive_count: receive_count(&message),
                receipt_handle: message.receipt_handle.unwrap_or_default(),
                event,
            }),
            Err(reason) => {
                error!(
                    message_id,
                    error = chain(&reason),
                    "message {message_id} cannot be read: dead-lettering it"
                );
                if let Err(error) = set_aside(app, &message).await {
                    warn!(
                        message_id,
                        error = chain(error.as_ref()),
                        "message {message_id} was not dead-lettered"
                    );
                    failed.push(message_id);
                }
            }
        }
    }
    (records, failed)
}

async fn set_aside(app: &App, message: &SqsMessage) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // SQS takes no empty body.
    let body = message
        .body
        .as_deref()
        .filter(|body| !body.is_empty())
        .unwrap_or("(empty)");
    app.sqs
        .send_message()
        .queue_url(&app.dead_letter_queue_url)
        .message_body(body)
        .send()
        .await?;
    Ok(())
}

/// Makes failed records visible again after a short back-off instead of after the queue's visibility timeout. Failing here
/// only makes them come later.
pub(crate) async fn hasten(app: &App, records: &[&Record]) {
    for chunk in records.chunks(MAX_BATCH_ENTRIES) {
        let mut request = app
            .sqs
            .change_message_visibility_batch()
            .queue_url(&app.queue_url);
        for (i, record) in chunk.iter().enumerate() {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(i.to_string())
                .receipt_handle(&record.receipt_handle)
                .visibility_timeout(backoff_seconds(record.receive_count))
                .build();
            match entry {
                Ok(entry) => request = request.entries(entry),
                Err(error) => warn!(error = chain(&error), "a record cannot be hastened"),
            }
        }
        if let Err(error) = request.send().await {
            warn!(
                error = chain(&error),
                records = chunk.len(),
                "failed records come again only after the visibility timeout"
            );
        }
    }
}

fn receive_count(message: &SqsMessage) -> u32 {
    message
        .attributes
        .get("ApproximateReceiveCount")
        .and_then(|count| count.parse().ok())
        .unwrap_or(1)
}

/// 1, 2, 4, 8, then 10 s.
fn backoff_seconds(receive_count: u32) -> i32 {
    1_i32
        .checked_shl(receive_count.saturating_sub(1))
        .filter(|_| receive_count < 5)
        .unwrap_or(i32::MAX)
        .min(MAX_BACKOFF_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_grows_to_ten_seconds() {
        let waits: Vec<i32> = [0, 1, 2, 3, 4, 5, 10, 1_000]
            .into_iter()
            .map(backoff_seconds)
            .collect();
        assert_eq!(waits, [1, 1, 2, 4, 8, 10, 10, 10]);
        // Ten receives, so nine waits, outlast the time in which a connection settles.
        let total: i32 = (1..10).map(backoff_seconds).sum();
        assert!(i64::from(total) > crate::SETTLING_TIME.whole_seconds());
    }
}
