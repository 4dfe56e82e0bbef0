//! A fake of an EventBridge bus without rules: it keeps the entries that it took.
//!
//! Amazon EventBridge API Reference, `PutEvents` (AWS JSON 1.1).

use std::sync::Arc;

use anyhow::Result;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::http::{Fault, Reply, Request, Server, Service, reply};

/// The header line of every response.
const CONTENT_TYPE: &str = "content-type: application/x-amz-json-1.1\r\n";

/// The maximum number of entries in a request.
const MAX_ENTRIES: usize = 10;

/// The maximum size of all entries in a request, in bytes (Amazon EventBridge User Guide, "Calculating
/// `PutEvents` event entry size").
const MAX_BYTES: usize = 256 * 1024;

/// The size of an entry's time, as EventBridge counts it.
const TIME_BYTES: usize = 14;

/// An entry of a request.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// The name of the bus.
    pub event_bus_name: String,
    /// The service that the event comes from.
    pub source: String,
    /// The type of the event.
    pub detail_type: String,
    /// The event as JSON.
    pub detail: String,
    /// The time of the event, in seconds since 1970.
    pub time: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    entries: Vec<Entry>,
}

/// Makes the bus differ from one that takes every event.
pub trait Behaviour: Send + Sync + 'static {
    /// Chooses the fault of a request.
    fn fault(&self) -> Fault {
        Fault::None
    }

    /// Chooses the error code of an entry; `None` if the bus takes it.
    fn refuses(&self, entry: &Entry) -> Option<&'static str> {
        let _ = entry;
        None
    }
}

/// A bus without faults.
impl Behaviour for () {}

/// The running fake.
pub struct EventBridge {
    /// The server, for its counters and latency.
    pub server: Server,
    state: Arc<State>,
}

struct State {
    behaviour: Box<dyn Behaviour>,
    entries: Mutex<Vec<Entry>>,
    taken: Notify,
}

impl EventBridge {
    /// Starts the fake.
    pub async fn start(behaviour: impl Behaviour) -> Result<Self> {
        let state = Arc::new(State {
            behaviour: Box::new(behaviour),
            entries: Mutex::default(),
            taken: Notify::new(),
        });
        Ok(Self {
            server: Server::start(None, Arc::clone(&state)).await?,
            state,
        })
    }

    /// Waits until the bus takes an event, before it answers the request.
    pub async fn taken(&self) {
        self.state.taken.notified().await;
    }

    /// Removes and returns the entries that the bus has taken, in their order.
    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.state.entries.lock())
    }
}

impl State {
    fn put(&self, entry: Entry) -> Value {
        if let Some(code) = self.behaviour.refuses(&entry) {
            return json!({ "ErrorCode": code, "ErrorMessage": "refused by the fake" });
        }
        let mut entries = self.entries.lock();
        entries.push(entry);
        let id = format!("event-{}", entries.len());
        self.taken.notify_one();
        json!({ "EventId": id })
    }
}

impl Service for State {
    fn fault(&self, _: &Request) -> Fault {
        self.behaviour.fault()
    }

    fn error(&self, status: u16, code: &str) -> Reply {
        let body = json!({ "__type": code, "message": "refused by the fake" });
        reply(status, CONTENT_TYPE, body.to_string().as_bytes())
    }

    fn answer(&self, request: &Request) -> Reply {
        if request.header("x-amz-target").as_deref() != Some("AWSEvents.PutEvents") {
            return self.error(400, "UnknownOperationException");
        }
        let Ok(Input { entries }) = serde_json::from_slice(&request.body()) else {
            return self.error(400, "SerializationException");
        };
        let size = |entry: &Entry| {
            let time = entry.time.map_or(0, |_| TIME_BYTES);
            time + entry.source.len() + entry.detail_type.len() + entry.detail.len()
        };
        let bytes: usize = entries.iter().map(size).sum();
        if entries.is_empty() || entries.len() > MAX_ENTRIES || bytes > MAX_BYTES {
            return self.error(400, "ValidationException");
        }
        let results: Vec<Value> = entries.into_iter().map(|entry| self.put(entry)).collect();
        let failed = results.iter().filter(|result| result.get("ErrorCode").is_some());
        let answer = json!({ "FailedEntryCount": failed.count(), "Entries": results });
        reply(200, CONTENT_TYPE, answer.to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use crate::http::tests::send;

    use super::*;

    struct RefusesMoves;

    impl Behaviour for RefusesMoves {
        fn refuses(&self, entry: &Entry) -> Option<&'static str> {
            (entry.detail_type == "FILE_MOVED").then_some("InternalFailure")
        }
    }

    #[tokio::test]
    async fn entries_are_kept_or_refused_one_by_one_within_the_limits() {
        let bus = EventBridge::start(RefusesMoves).await.unwrap();
        let entry = |kind: &str, detail: &str| json!({ "EventBusName": "b", "Source": "s", "DetailType": kind, "Detail": detail });
        let put = async |entries: &[Value]| {
            let head = "POST / HTTP/1.1\r\nx-amz-target: AWSEvents.PutEvents";
            send(&bus.server, head, &json!({ "Entries": entries }).to_string()).await
        };
        let answer = put(&[entry("FILE_MOVED", "{}"), entry("FILE_UPDATED", "{}")]).await;
        assert!(answer.contains(r#""FailedEntryCount":1"#), "{answer}");
        let kept: Vec<String> = bus.take().into_iter().map(|entry| entry.detail_type).collect();
        assert_eq!(kept, ["FILE_UPDATED"]);
        let large = "x".repeat(MAX_BYTES / 2);
        for refused in [
            vec![],
            vec![entry("FILE_UPDATED", "{}"); MAX_ENTRIES + 1],
            vec![entry("FILE_UPDATED", &large); 2],
        ] {
            let answer = put(&refused).await;
            assert!(answer.contains("ValidationException"), "{answer}");
        }
        assert!(bus.take().is_empty());
    }
}
