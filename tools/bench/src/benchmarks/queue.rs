//! What an event source mapping does: hands what is in the queue to environments of `fan-out`, ten at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::fakes::sqs::Sqs;
use crate::process::{Measured, Process};
use crate::stage::Stage;

/// How many records a batch has at most, as the template says.
pub(crate) const BATCH: usize = 10;

/// Makes batches of messages.
pub(crate) struct Batches {
    sample: Value,
}

impl Batches {
    pub(crate) fn new(stage: &Stage) -> Result<Self> {
        let sample = stage.event("fan-out.batch.json")?;
        Ok(Self {
            sample: sample["Records"][0].clone(),
        })
    }

    /// Of these messages.
    pub(crate) fn of(&self, bodies: &[String]) -> String {
        let records = bodies.iter().enumerate().map(|(i, body)| {
            let mut record = self.sample.clone();
            record["messageId"] = json!(format!("m{i}"));
            record["body"] = json!(body);
            record
        });
        json!({ "Records": records.collect::<Vec<_>>() }).to_string()
    }

    /// The message of the sample, about another space.
    pub(crate) fn message(&self, space_id: uuid::Uuid, sequence: usize) -> Result<String> {
        let mut body: Value = serde_json::from_str(self.sample["body"].as_str().unwrap_or_default())?;
        body["spaceId"] = json!(space_id);
        body["eventId"] = json!(platform::ids::new_id());
        body["sequence"] = json!(sequence);
        Ok(body.to_string())
    }
}

/// Hands a batch over; all of it must be delivered.
pub(crate) async fn hand_over(process: &mut Process, batch: String) -> Result<Measured> {
    let measured = process.invoke(batch).await?;
    let answer: Value = serde_json::from_slice(&measured.answer)?;
    let failures = answer["batchItemFailures"].as_array().map_or(0, Vec::len);
    ensure!(failures == 0, "{failures} records failed");
    Ok(measured)
}

/// Hands over what comes, until it is told to stop and nothing is left.
pub(crate) async fn poll(
    sqs: &Sqs,
    batches: &Batches,
    process: &mut Process,
    stop: &std::sync::atomic::AtomicBool,
) -> Result<()> {
    loop {
        let messages = sqs.receive(BATCH);
        if messages.is_empty() {
            if stop.load(std::sync::atomic::Ordering::SeqCst) {
                return Ok(());
            }
            // Another poller may be told instead of this one.
            let _ = tokio::time::timeout(Duration::from_millis(20), sqs.sent.notified()).await;
            continue;
        }
        hand_over(process, batches.of(&messages)).await?;
    }
}

/// Messages that several take from.
pub(crate) type Pile = Arc<Mutex<VecDeque<String>>>;

/// Takes up to a batch.
pub(crate) fn take(pile: &Pile) -> Vec<String> {
    let mut pile = pile.lock().unwrap_or_else(PoisonError::into_inner);
    let most = BATCH.min(pile.len());
    pile.drain(..most).collect()
}
