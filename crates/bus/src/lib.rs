//! Events on an EventBridge bus, for other services. No other crate uses `aws-sdk-eventbridge`.
//!
//! Every call uses the timeouts and retries of the configuration that is passed to [`Bus::new`].

#![warn(missing_docs)]

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::config::Builder;
use aws_sdk_eventbridge::operation::put_events::PutEventsOutput;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use futures_util::stream::{self, StreamExt as _};
use model::{Event, EventId};
use platform::{error_chain, trace};
use tracing::{error, warn};

/// The AWS actions that each method needs (Service Authorization Reference).
pub const ACTIONS: &[(&str, &[&str])] = &[("put_all", &["events:PutEvents"])];

/// The source of every event. Rules match it.
pub const SOURCE: &str = "syncsphere";

/// The maximum number of entries in a request (Amazon EventBridge API Reference, `PutEvents`).
const MAX_ENTRIES: usize = 10;

/// The maximum size of all entries in a request, in bytes. The limit is 256 KB (Amazon EventBridge User Guide,
/// "Calculating `PutEvents` event entry size").
const MAX_BYTES: usize = 240 * 1000;

/// The size of an entry's time, as EventBridge counts it.
const TIME_BYTES: usize = 14;

/// The maximum number of concurrent requests: a hundred events are put in one round.
const CONCURRENT_REQUESTS: usize = 10;

/// Error codes of entries that EventBridge may take the next time (Amazon EventBridge API Reference,
/// `PutEventsResultEntry`).
const TRANSIENT: [&str; 3] = ["InternalFailure", "InternalException", "ThrottlingException"];

/// The outcome of putting an event on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The bus took the event.
    Put,
    /// The bus refused this event, or it cannot be written.
    Refused,
    /// The request or the bus failed, so the bus may or may not have the event.
    Unreached,
}

/// A client for one bus.
#[derive(Clone, Debug)]
pub struct Bus {
    eventbridge: Client,
    name: String,
}

/// An event that was encoded.
struct Encoded {
    event_id: EventId,
    entry: PutEventsRequestEntry,
    bytes: usize,
}

impl Bus {
    /// Makes a client from an SDK configuration, such as `&SdkConfig`. Sends no request.
    pub fn new(config: impl Into<Builder>, name: impl Into<String>) -> Self {
        Self {
            eventbridge: Client::from_conf(config.into().build()),
            name: name.into(),
        }
    }

    /// Puts events on the bus in as few requests as possible. Returns their outcomes in the same order. Every
    /// event that the bus did not take is logged.
    pub async fn put_all(&self, events: &[Event]) -> Vec<PutOutcome> {
        let encoded: Vec<Option<Encoded>> = events.iter().map(|event| self.encode(event)).collect();
        let written: Vec<bool> = encoded.iter().map(Option::is_some).collect();
        let requests = (batches(encoded.into_iter().flatten()).into_iter()).map(|batch| self.put(batch));
        let put: Vec<_> = stream::iter(requests)
            .buffered(CONCURRENT_REQUESTS)
            .collect()
            .await;
        let mut put = put.into_iter().flatten();
        let outcomes = written.into_iter().map(|written| {
            if written {
                put.next().unwrap_or(PutOutcome::Unreached)
            } else {
                PutOutcome::Refused
            }
        });
        outcomes.collect()
    }

    /// Makes the entry of an event: its type is the type of the change, and its detail the event as devices
    /// get it.
    fn encode(&self, event: &Event) -> Option<Encoded> {
        let event_id = event.event_id;
        let detail = match serde_json::to_value(event) {
            Ok(detail) => detail,
            Err(error) => {
                error!(%event_id, error = error_chain(&error), "event {event_id} cannot be written, and so not be put on the bus");
                return None;
            }
        };
        let detail_type = detail["eventType"].as_str().unwrap_or_default().to_owned();
        let detail = detail.to_string();
        let bytes = TIME_BYTES + SOURCE.len() + detail_type.len() + detail.len();
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(&self.name)
            .source(SOURCE)
            .detail_type(detail_type)
            .detail(detail)
            .time(DateTime::from_secs(event.occurred_at.unix_timestamp()))
            .set_trace_header(trace::header())
            .build();
        Some(Encoded {
            event_id,
            entry,
            bytes,
        })
    }

    async fn put(&self, batch: Vec<Encoded>) -> Vec<PutOutcome> {
        let (ids, entries): (Vec<EventId>, Vec<_>) = batch
            .into_iter()
            .map(|encoded| (encoded.event_id, encoded.entry))
            .unzip();
        let request = self.eventbridge.put_events().set_entries(Some(entries));
        match request.send().await {
            Ok(answer) => outcomes(&ids, &answer),
            Err(error) => {
                let events = ids.len();
                warn!(
                    error = error_chain(&error),
                    events, "the event bus did not take {events} events"
                );
                vec![PutOutcome::Unreached; events]
            }
        }
    }
}

/// The outcomes of a request's entries, which are answered in their order.
fn outcomes(ids: &[EventId], answer: &PutEventsOutput) -> Vec<PutOutcome> {
    let mut results = answer.entries().iter();
    let outcomes = ids.iter().map(|event_id| {
        let Some(result) = results.next() else {
            return PutOutcome::Unreached;
        };
        if result.event_id().is_some_and(|id| !id.is_empty()) {
            return PutOutcome::Put;
        }
        let (code, reason) = (result.error_code().unwrap_or("unknown"), result.error_message());
        if TRANSIENT.contains(&code) {
            warn!(%event_id, code, reason, "the event bus did not take event {event_id}");
            return PutOutcome::Unreached;
        }
        error!(%event_id, code, reason, "the event bus refused event {event_id}");
        PutOutcome::Refused
    });
    outcomes.collect()
}

/// Splits events into batches of at most `MAX_ENTRIES` entries and `MAX_BYTES` bytes.
fn batches(events: impl Iterator<Item = Encoded>) -> Vec<Vec<Encoded>> {
    let (mut batches, mut bytes): (Vec<Vec<Encoded>>, usize) = (Vec::new(), 0);
    for event in events {
        bytes += event.bytes;
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_ENTRIES && bytes <= MAX_BYTES => batch.push(event),
            _ => {
                bytes = event.bytes;
                batches.push(vec![event]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use aws_sdk_eventbridge::types::PutEventsResultEntry;

    use super::*;

    #[test]
    fn a_batch_is_no_larger_than_a_request_takes() {
        let sizes = |events: usize, bytes: usize| {
            let event = || Encoded {
                event_id: EventId::from(platform::ids::new_id()),
                entry: PutEventsRequestEntry::builder().build(),
                bytes,
            };
            let batches = batches((0..events).map(|_| event()));
            batches.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(25, 1_000), [10, 10, 5]);
        assert_eq!(sizes(5, 100_000), [2, 2, 1]);
        assert_eq!(sizes(2, 250_000), [1, 1]);
        assert_eq!(sizes(0, 1), [0; 0]);
    }

    #[test]
    fn an_entry_without_an_answer_is_not_taken() {
        let ids = [platform::ids::new_id(), platform::ids::new_id()].map(EventId::from);
        let entry = PutEventsResultEntry::builder().event_id("1").build();
        let answer = PutEventsOutput::builder().entries(entry).build();
        assert_eq!(outcomes(&ids, &answer), [PutOutcome::Put, PutOutcome::Unreached]);
    }
}
