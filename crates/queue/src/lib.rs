//! Messages in SQS. No other crate uses `aws-sdk-sqs`.
//!
//! Every call uses the timeouts and retries of the configuration that is passed to [`Queue::new`].

#![warn(missing_docs)]

mod outbox;
mod receive;
mod send;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Builder;
use thiserror::Error as ThisError;

pub use outbox::{PUBLISHED, Published, publish, publish_all};
pub use receive::Received;
pub use send::{Outgoing, SendOutcome};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The maximum number of entries in a batch request (Amazon SQS API Reference, `SendMessageBatch`).
const MAX_BATCH_ENTRIES: usize = 10;

/// The AWS actions that each method needs (Service Authorization Reference).
pub const ACTIONS: &[(&str, &[&str])] = &[
    ("send_all", &["sqs:SendMessage"]),
    ("receive", &["sqs:ReceiveMessage"]),
    ("delete", &["sqs:DeleteMessage"]),
    ("set_visibility", &["sqs:ChangeMessageVisibility"]),
    ("backlog", &["sqs:GetQueueAttributes"]),
    // These call `send_all`.
    ("publish", &["sqs:SendMessage"]),
    ("publish_all", &["sqs:SendMessage"]),
];

/// SQS refused a request, failed or did not respond.
#[derive(Debug, ThisError)]
#[error("the queue did not answer")]
pub struct Error(#[source] BoxError);

impl Error {
    pub(crate) fn new(cause: impl Into<BoxError>) -> Self {
        Self(cause.into())
    }
}

/// A client for one queue.
#[derive(Clone, Debug)]
pub struct Queue {
    sqs: Client,
    url: String,
}

impl Queue {
    /// Makes a client from an SDK configuration, such as `&SdkConfig`. Sends no request.
    pub fn new(config: impl Into<Builder>, url: impl Into<String>) -> Self {
        Self {
            sqs: Client::from_conf(config.into().build()),
            url: url.into(),
        }
    }

    /// Returns a client for another queue, which shares this one's connections.
    #[must_use]
    pub fn with_url(&self, url: impl Into<String>) -> Self {
        Self {
            sqs: self.sqs.clone(),
            url: url.into(),
        }
    }
}
