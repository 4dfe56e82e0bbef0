//! Decodes the records of a batch.

use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use model::Message;
use platform::error_chain;
use platform::panics::catch_panic;
use tracing::error;

/// A record whose body is a message.
pub(crate) struct Record {
    pub(crate) message_id: String,
    pub(crate) receipt_handle: String,
    /// The number of times that SQS has delivered the record, including this one.
    pub(crate) receive_count: u32,
    /// The X-Ray trace header of the sender; `None` if the record has none.
    pub(crate) trace: Option<String>,
    pub(crate) message: Message,
}

/// A record whose body cannot be decoded.
pub(crate) struct Unreadable {
    pub(crate) message_id: String,
    pub(crate) body: String,
}

/// Decodes each record on its own, so that a bad record does not fail the others.
pub(crate) fn decode(batch: SqsEvent) -> (Vec<Record>, Vec<Unreadable>) {
    let (mut records, mut unreadable) = (Vec::new(), Vec::new());
    for record in batch.records {
        let message_id = record.message_id.clone().unwrap_or_default();
        let body = record.body.as_deref().unwrap_or_default();
        let reason = match catch_panic(|| Message::decode(body)) {
            Ok(Ok(message)) => {
                records.push(Record {
                    message_id,
                    receive_count: receive_count(&record),
                    trace: record.attributes.get("AWSTraceHeader").cloned(),
                    receipt_handle: record.receipt_handle.unwrap_or_default(),
                    message,
                });
                continue;
            }
            Ok(Err(reason)) => error_chain(&reason),
            Err(panic) => panic.to_string(),
        };
        error!(
            message_id,
            error = reason,
            "message {message_id} cannot be read: dead-lettering it"
        );
        let body = body.to_owned();
        unreadable.push(Unreadable { message_id, body });
    }
    (records, unreadable)
}

fn receive_count(message: &SqsMessage) -> u32 {
    message
        .attributes
        .get("ApproximateReceiveCount")
        .and_then(|count| count.parse().ok())
        .unwrap_or(1)
}
