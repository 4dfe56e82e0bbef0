//! Simulates the event source mapping: passes batches of up to ten messages to environments of `fan-out`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use fakes::sqs::Sqs;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::harness::Harness;
use crate::process::{Measured, Process};

/// Maximum number of records in a batch, as in the template.
pub(crate) const BATCH: usize = 10;

/// Builds batches of messages.
pub(crate) struct Batches {
    sample: Value,
}

impl Batches {
    pub(crate) fn new(harness: &Harness) -> Result<Self> {
        let sample = harness.event("fan-out.batch.json")?;
        Ok(Self {
            sample: sample["Records"][0].clone(),
        })
    }

    /// The batch event with these message bodies.
    pub(crate) fn of(&self, bodies: &[Arc<str>]) -> String {
        let records = bodies.iter().enumerate().map(|(i, body)| {
            let mut record = self.sample.clone();
            record["messageId"] = json!(format!("m{i}"));
            record["body"] = json!(body);
            record
        });
        json!({ "Records": records.collect::<Vec<_>>() }).to_string()
    }

    /// The sample message, changed to this space and sequence number.
    pub(crate) fn message(&self, space_id: uuid::Uuid, sequence: usize) -> Result<Arc<str>> {
        let mut body: Value = serde_json::from_str(self.sample["body"].as_str().unwrap_or_default())?;
        body["spaceId"] = json!(space_id);
        body["eventId"] = json!(platform::ids::new_id());
        body["sequence"] = json!(sequence);
        Ok(body.to_string().into())
    }
}

/// Invokes the function with a batch. It is an error if a record fails.
pub(crate) async fn hand_over(process: &mut Process, batch: String) -> Result<Measured> {
    let measured = process.invoke(batch).await?;
    let answer: Value = serde_json::from_slice(&measured.answer)?;
    let failures = answer["batchItemFailures"].as_array().map_or(0, Vec::len);
    ensure!(failures == 0, "{failures} records failed");
    Ok(measured)
}

/// Passes arriving messages to the function until `stop` is set and the queue is empty.
pub(crate) async fn poll(
    sqs: &Sqs,
    batches: &Batches,
    process: &mut Process,
    stop: &std::sync::atomic::AtomicBool,
) -> Result<()> {
    loop {
        let messages = sqs.take(BATCH);
        if messages.is_empty() {
            if stop.load(std::sync::atomic::Ordering::SeqCst) {
                return Ok(());
            }
            // The notification may wake a different poller, so the wait has a timeout.
            let _ = tokio::time::timeout(Duration::from_millis(20), sqs.sent()).await;
            continue;
        }
        hand_over(process, batches.of(&messages)).await?;
    }
}

/// Messages shared by several consumers.
pub(crate) type Pile = Arc<Mutex<VecDeque<Arc<str>>>>;

/// Removes up to one batch of messages.
pub(crate) fn take(pile: &Pile) -> Vec<Arc<str>> {
    let mut pile = pile.lock();
    let most = BATCH.min(pile.len());
    pile.drain(..most).collect()
}
