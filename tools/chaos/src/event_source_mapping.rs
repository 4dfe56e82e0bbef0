//! An event source mapping: receives batches from the queue, invokes `fan-out`, and deletes the messages that
//! it processed.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use fakes::sqs::Received;
use platform::Clock;
use serde::Deserialize;
use serde_json::json;

use super::functions::Functions;
use super::sqs::FaultySqs;
use super::violations::Violations;

/// The maximum number of records in a batch.
const BATCH: usize = 10;

/// The wait for a message before the next poll.
const IDLE: Duration = Duration::from_millis(50);

/// The mapping, with one poller for each environment of `fan-out`.
pub(crate) struct Mapping {
    sqs: Arc<FaultySqs>,
    functions: Arc<Functions>,
    violations: Arc<Violations>,
    enabled: AtomicBool,
}

impl Mapping {
    /// An enabled mapping. No poller runs yet.
    pub(crate) fn new(sqs: Arc<FaultySqs>, functions: Arc<Functions>, violations: Arc<Violations>) -> Self {
        Self {
            sqs,
            functions,
            violations,
            enabled: AtomicBool::new(true),
        }
    }

    /// Starts or stops receiving messages.
    pub(crate) fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::SeqCst);
    }

    /// Runs one poller; never returns.
    pub(crate) async fn poll(&self) {
        loop {
            let batch = if self.enabled.load(Ordering::SeqCst) {
                self.sqs.poll(BATCH)
            } else {
                Vec::new()
            };
            if batch.is_empty() {
                let _ = tokio::time::timeout(IDLE, self.sqs.fake.sent()).await;
            } else {
                self.hand_over(&batch).await;
            }
        }
    }

    async fn hand_over(&self, batch: &[Received]) {
        let now = Clock::system().now().unix_timestamp_nanos() / 1_000_000;
        let now = i64::try_from(now).unwrap_or_default();
        let records: Vec<_> = batch.iter().map(|message| message.record(now)).collect();
        let payload = json!({ "Records": records }).to_string();
        // If the whole invocation fails, all messages of the batch return after the visibility timeout.
        let Ok(answer) = self.functions.fan_out(Bytes::from(payload)).await else {
            return;
        };
        let Ok(answer) = serde_json::from_slice::<Answer>(&answer) else {
            let answer = String::from_utf8_lossy(&answer).into_owned();
            self.violations
                .unexpected("batch answer that cannot be read", answer);
            return;
        };
        let failed: HashSet<&str> = answer
            .batch_item_failures
            .iter()
            .map(|failure| failure.item_identifier.as_str())
            .collect();
        for message in batch {
            if !failed.contains(message.message_id.as_ref()) {
                self.sqs.fake.delete(&message.receipt);
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    batch_item_failures: Vec<ItemFailure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemFailure {
    item_identifier: String,
}
