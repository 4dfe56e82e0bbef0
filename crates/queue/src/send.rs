//! Sending messages in batches.

use std::collections::HashMap;

use aws_sdk_sqs::operation::send_message::SendMessageError;
use aws_sdk_sqs::types::{
    MessageSystemAttributeNameForSends, MessageSystemAttributeValue, SendMessageBatchRequestEntry,
};
use futures_util::stream::{self, StreamExt as _};
use platform::{error_chain, trace};
use tracing::warn;

use crate::{MAX_BATCH_ENTRIES, Queue};

/// The maximum size of all bodies in a batch request, in bytes. The SQS limit is 1 MiB (Amazon SQS Developer
/// Guide, "Amazon SQS message quotas").
const MAX_BATCH_BYTES: usize = 512 * 1024;

/// The maximum number of concurrent requests.
const CONCURRENT_REQUESTS: usize = 10;

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The body. SQS refuses an empty one.
    pub body: String,
    /// The delay before the message can be received, in seconds.
    pub delay_seconds: i32,
}

/// The outcome of sending a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// SQS accepted the message.
    Sent,
    /// SQS refused this message of a batch.
    Refused,
    /// The request failed, so SQS may or may not have the message.
    Unreached,
}

impl Queue {
    /// Sends messages in as few requests as possible. Returns their outcomes in the same order. Each message
    /// continues the trace of this invocation. A failed request is logged as a warning.
    pub async fn send_all(&self, messages: Vec<Outgoing>) -> Vec<SendOutcome> {
        let requests = batches(messages).into_iter().map(|batch| self.send(batch));
        let outcomes: Vec<_> = stream::iter(requests)
            .buffered(CONCURRENT_REQUESTS)
            .collect()
            .await;
        outcomes.concat()
    }

    async fn send(&self, mut batch: Vec<Outgoing>) -> Vec<SendOutcome> {
        match batch.pop() {
            Some(message) if batch.is_empty() => vec![self.send_one(message).await],
            last => {
                batch.extend(last);
                self.send_batch(batch).await
            }
        }
    }

    async fn send_one(&self, message: Outgoing) -> SendOutcome {
        let request = self.sqs.send_message().queue_url(&self.url);
        let request = request
            .message_body(message.body)
            .delay_seconds(message.delay_seconds)
            .set_message_system_attributes(trace_attribute());
        match request.send().await {
            Ok(_) => SendOutcome::Sent,
            Err(error) => {
                warn!(error = error_chain(&error), "the queue did not take a message");
                let refused = error
                    .as_service_error()
                    .is_some_and(SendMessageError::is_invalid_message_contents);
                if refused {
                    SendOutcome::Refused
                } else {
                    SendOutcome::Unreached
                }
            }
        }
    }

    async fn send_batch(&self, batch: Vec<Outgoing>) -> Vec<SendOutcome> {
        let mut outcomes = vec![SendOutcome::Unreached; batch.len()];
        let mut request = self.sqs.send_message_batch().queue_url(&self.url);
        for (i, message) in batch.into_iter().enumerate() {
            let entry = SendMessageBatchRequestEntry::builder()
                .id(i.to_string())
                .message_body(message.body)
                .delay_seconds(message.delay_seconds)
                .set_message_system_attributes(trace_attribute());
            match entry.build() {
                Ok(entry) => request = request.entries(entry),
                Err(error) => warn!(error = error_chain(&error), "a message cannot be sent"),
            }
        }
        let mut set = |id: &str, outcome| {
            let index = id.parse::<usize>().ok();
            if let Some(message) = index.and_then(|index| outcomes.get_mut(index)) {
                *message = outcome;
            }
        };
        match request.send().await {
            Ok(answer) => {
                for sent in answer.successful() {
                    set(sent.id(), SendOutcome::Sent);
                }
                for refused in answer.failed() {
                    warn!(code = refused.code(), "the queue refused a message");
                    set(refused.id(), SendOutcome::Refused);
                }
            }
            Err(error) => warn!(
                error = error_chain(&error),
                messages = outcomes.len(),
                "the queue did not take {} messages",
                outcomes.len()
            ),
        }
        outcomes
    }
}

/// Splits messages into batches of at most `MAX_BATCH_ENTRIES` messages and `MAX_BATCH_BYTES` bytes.
fn batches(messages: Vec<Outgoing>) -> Vec<Vec<Outgoing>> {
    let (mut batches, mut bytes): (Vec<Vec<Outgoing>>, usize) = (Vec::new(), 0);
    for message in messages {
        bytes += message.body.len();
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_BATCH_ENTRIES && bytes <= MAX_BATCH_BYTES => batch.push(message),
            _ => {
                bytes = message.body.len();
                batches.push(vec![message]);
            }
        }
    }
    batches
}

/// The message attribute with which the receiver continues the sender's trace (AWS X-Ray Developer Guide,
/// "Amazon SQS and AWS X-Ray"); `None` outside of a trace.
fn trace_attribute() -> Option<HashMap<MessageSystemAttributeNameForSends, MessageSystemAttributeValue>> {
    let value = MessageSystemAttributeValue::builder().data_type("String");
    let value = value.string_value(trace::header()?).build().ok()?;
    Some([(MessageSystemAttributeNameForSends::AwsTraceHeader, value)].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_no_larger_than_a_request_takes() {
        let message = |bytes| Outgoing {
            body: "x".repeat(bytes),
            delay_seconds: 0,
        };
        let sizes = |messages| batches(messages).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes((0..25).map(|_| message(10)).collect()), [10, 10, 5]);
        assert_eq!(sizes((0..5).map(|_| message(200 * 1024)).collect()), [2, 2, 1]);
        assert!(sizes(Vec::new()).is_empty());
    }
}
