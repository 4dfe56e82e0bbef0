//! The queue's side of a batch: reading records, carrying over what is left of one, setting the hopeless aside, bringing the
//! failed back soon.

use std::collections::{BTreeSet, HashMap};

use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, MessageSystemAttributeNameForSends,
    MessageSystemAttributeValue, SendMessageBatchRequestEntry,
};
use futures_util::future::join_all;
use metrics::counter;
use model::Message;
use platform::panics::contain;
use platform::{chain, trace};
use tracing::{error, warn};

use crate::{App, MAX_ATTEMPTS, Record, counts};

/// The longest wait in seconds before something that failed is tried again. Ten attempts then span well over the 30 s in which
/// a connection settles.
const MAX_BACKOFF_SECONDS: i32 = 10;

/// How many entries a batch request takes (Amazon SQS API Reference, `SendMessageBatch`).
const MAX_BATCH_ENTRIES: usize = 10;

/// How many bytes the messages of a batch request have together at most. SQS takes 1 MiB (Amazon SQS Developer Guide, "Amazon SQS
/// message quotas").
const MAX_BATCH_BYTES: usize = 512 * 1024;

/// The wait in seconds before the next attempt at a connection that takes no posts and could not be closed
/// either.
const LATE_BACKOFF_SECONDS: i32 = 60;

/// Which of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// Where the records come from: to be tried again.
    Queue,
    /// Where operators look.
    DeadLetters,
}

/// A message to send, and the record that comes again if it cannot be sent.
pub(crate) struct Sending {
    pub(crate) to: To,
    pub(crate) record: usize,
    pub(crate) body: String,
    pub(crate) delay_seconds: i32,
}

/// Reads each record on its own. What is no message goes to the dead-letter queue at once, for no retry can mend it; the ids
/// that come back are of those that could not even be set aside.
pub(crate) async fn decode(app: &App, batch: SqsEvent) -> (Vec<Record>, Vec<String>) {
    let (mut records, mut unreadable) = (Vec::new(), Vec::new());
    for message in batch.records {
        let message_id = message.message_id.clone().unwrap_or_default();
        let body = message.body.as_deref().unwrap_or_default();
        let reason = match contain(|| Message::decode(body)) {
            Ok(Ok(decoded)) => {
                records.push(Record {
                    message_id,
                    receive_count: receive_count(&message),
                    trace: message.attributes.get("AWSTraceHeader").cloned(),
                    receipt_handle: message.receipt_handle.unwrap_or_default(),
                    message: decoded,
                });
                continue;
            }
            Ok(Err(reason)) => chain(&reason),
            Err(panic) => panic.to_string(),
        };
        error!(
            message_id,
            error = reason,
            "message {message_id} cannot be read: dead-lettering it"
        );
        unreadable.push((message_id, body.to_owned()));
    }
    let sendings = unreadable.iter().enumerate().map(|(record, (_, body))| Sending {
        to: To::DeadLetters,
        record,
        // SQS takes no empty body.
        body: if body.is_empty() {
            "(empty)".to_owned()
        } else {
            body.clone()
        },
        delay_seconds: 0,
    });
    let unsent = send(app, sendings.collect()).await;
    count_dead_letters(unreadable.len() - unsent.len());
    let kept = unreadable.into_iter().enumerate();
    let failed = kept.filter_map(|(i, (message_id, _))| unsent.contains(&i).then_some(message_id));
    (records, failed.collect())
}

/// Sends messages, and returns the records of those that could not be sent.
pub(crate) async fn send(app: &App, sendings: Vec<Sending>) -> BTreeSet<usize> {
    let (again, dead): (Vec<_>, Vec<_>) = sendings.into_iter().partition(|sending| sending.to == To::Queue);
    let again = batches(again).into_iter().map(|batch| (&app.queue_url, batch));
    let dead = batches(dead)
        .into_iter()
        .map(|batch| (&app.dead_letter_queue_url, batch));
    let sent = join_all(again.chain(dead).map(|(url, batch)| send_batch(app, url, batch))).await;
    sent.into_iter().flatten().collect()
}

/// Counts messages that the dead-letter queue has taken.
pub(crate) fn count_dead_letters(messages: usize) {
    counter!(counts::DEAD_LETTERED).increment(u64::try_from(messages).unwrap_or(u64::MAX));
}

/// As many messages to a request as it takes.
fn batches(sendings: Vec<Sending>) -> Vec<Vec<Sending>> {
    let (mut batches, mut bytes): (Vec<Vec<Sending>>, usize) = (Vec::new(), 0);
    for sending in sendings {
        bytes += sending.body.len();
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_BATCH_ENTRIES && bytes <= MAX_BATCH_BYTES => batch.push(sending),
            _ => {
                bytes = sending.body.len();
                batches.push(vec![sending]);
            }
        }
    }
    batches
}

/// What has a message go on with the trace of this invocation. As `changes` has it, on which fan-out does not depend, and `edge` has no client of
/// SQS.
fn trace_attribute() -> Option<HashMap<MessageSystemAttributeNameForSends, MessageSystemAttributeValue>> {
    let value = MessageSystemAttributeValue::builder().data_type("String");
    let value = value.string_value(trace::header()?).build().ok()?;
    Some([(MessageSystemAttributeNameForSends::AwsTraceHeader, value)].into())
}

/// The records of which some message could not be sent.
async fn send_batch(app: &App, url: &str, batch: Vec<Sending>) -> BTreeSet<usize> {
    let mut request = app.sqs.send_message_batch().queue_url(url);
    let records: Vec<usize> = batch.iter().map(|sending| sending.record).collect();
    let mut unsent = BTreeSet::new();
    for (i, sending) in batch.into_iter().enumerate() {
        let entry = SendMessageBatchRequestEntry::builder()
            .id(i.to_string())
            .message_body(sending.body)
            .delay_seconds(sending.delay_seconds)
            .set_message_system_attributes(trace_attribute())
            .build();
        match entry {
            Ok(entry) => request = request.entries(entry),
            Err(error) => {
                warn!(error = chain(&error), "a message cannot be sent");
                unsent.insert(sending.record);
            }
        }
    }
    match request.send().await {
        Ok(answer) => {
            for failure in answer.failed() {
                warn!(code = failure.code(), "SQS did not take a message");
                let record = failure.id().parse().ok().and_then(|i: usize| records.get(i));
                unsent.extend(record);
            }
        }
        Err(error) => {
            let messages = records.len();
            warn!(
                error = chain(&error),
                messages, "messages were not sent: their records come again"
            );
            unsent.extend(records);
        }
    }
    unsent
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

/// 1, 2, 4, 8, then 10 s, by how often it was tried, and a minute once all attempts are made.
pub(crate) fn backoff_seconds(tried: u32) -> i32 {
    if tried >= MAX_ATTEMPTS {
        return LATE_BACKOFF_SECONDS;
    }
    1_i32
        .checked_shl(tried.saturating_sub(1))
        .filter(|_| tried < 5)
        .unwrap_or(i32::MAX)
        .min(MAX_BACKOFF_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_grows_to_ten_seconds_and_is_a_minute_in_the_end() {
        let waits: Vec<i32> = [0, 1, 2, 3, 4, 5, 9, 10, 1_000]
            .into_iter()
            .map(backoff_seconds)
            .collect();
        assert_eq!(waits, [1, 1, 2, 4, 8, 10, 10, 60, 60]);
        // Ten attempts, so nine waits, outlast the time in which a connection settles.
        let total: i32 = (1..10).map(backoff_seconds).sum();
        assert!(i64::from(total) > crate::SETTLING_TIME.whole_seconds());
    }

    #[test]
    fn a_batch_is_no_larger_than_a_request_takes() {
        let sending = |record, bytes| Sending {
            to: To::Queue,
            record,
            body: "x".repeat(bytes),
            delay_seconds: 0,
        };
        let sizes = |sendings| batches(sendings).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes((0..25).map(|i| sending(i, 10)).collect()), [10, 10, 5]);
        assert_eq!(sizes((0..5).map(|i| sending(i, 200 * 1024)).collect()), [2, 2, 1]);
        assert!(sizes(Vec::new()).is_empty());
    }
}
