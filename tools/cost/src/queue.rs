//! An event source mapping: receives batches from the queue, invokes `fan-out`, and deletes the messages.

use std::sync::Arc;

use anyhow::{Result, ensure};
use axum::body::Bytes;
use fakes::sqs::{Received, Sqs};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::counts::Meter;
use crate::functions::Functions;

/// The running mapping, which stops when dropped.
pub(crate) struct Mapping(JoinHandle<()>);

impl Drop for Mapping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Mapping {
    /// Starts one poller, which hands over at most `batch` messages at once.
    pub(crate) fn start(sqs: Arc<Sqs>, functions: Arc<Functions>, meter: Arc<Meter>, batch: usize) -> Self {
        Self(tokio::spawn(async move {
            loop {
                // Before receiving, so that no message is missed in between.
                let sent = sqs.sent();
                let received = sqs.receive(batch);
                if received.is_empty() {
                    sent.await;
                } else if let Err(error) = hand_over(&sqs, &functions, &meter, &received).await {
                    meter.fail(format!("{error:#}"));
                }
            }
        }))
    }
}

/// Counts one receive and one delete for the batch. Receives without a message are those of an idle queue,
/// whose number depends on the time alone.
async fn hand_over(sqs: &Sqs, functions: &Functions, meter: &Meter, batch: &[Received]) -> Result<()> {
    meter.sqs(
        "ReceiveMessage",
        batch.iter().map(|message| message.body.len()).sum(),
    );
    // No figure depends on the time.
    let records: Vec<_> = batch.iter().map(|message| message.record(0)).collect();
    let payload = json!({ "Records": records }).to_string();
    let answer = functions.invoke("fan-out", Bytes::from(payload)).await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    let failed = answer["batchItemFailures"].as_array().map_or(0, Vec::len);
    ensure!(failed == 0, "fan-out failed {failed} of {} messages", batch.len());
    meter.sqs("DeleteMessageBatch", 0);
    for message in batch {
        sqs.delete(&message.receipt);
    }
    Ok(())
}
