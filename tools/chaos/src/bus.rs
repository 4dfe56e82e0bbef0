//! The faults of the event bus: errors, lost answers and refused entries.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Result;
use fakes::eventbridge::{Behaviour, Entry, EventBridge};
use fakes::http::Fault;
use model::EventId;
use serde::Deserialize;

use super::faults::{FaultInjector, Kind};

/// The value of `EVENT_BUS_NAME`.
pub(crate) const NAME: &str = "chaos";

struct FaultyBus(Arc<FaultInjector>);

/// Starts the fake.
pub(crate) async fn start(faults: Arc<FaultInjector>) -> Result<EventBridge> {
    EventBridge::start(FaultyBus(faults)).await
}

/// Takes the events that were put on the bus.
pub(crate) fn take(bus: &EventBridge) -> HashSet<EventId> {
    let entries = bus.take();
    entries
        .iter()
        .filter_map(|entry| event_id(&entry.detail))
        .collect()
}

fn event_id(detail: &str) -> Option<EventId> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        event_id: EventId,
    }
    serde_json::from_str::<Named>(detail)
        .ok()
        .map(|named| named.event_id)
}

impl Behaviour for FaultyBus {
    fn fault(&self) -> Fault {
        if self.0.inject(Kind::BusUnavailable) {
            Fault::Error(503, "ServiceUnavailable")
        } else if self.0.inject(Kind::BusAnswerLost) {
            Fault::AnswerLost
        } else {
            Fault::None
        }
    }

    fn refuses(&self, _: &Entry) -> Option<&'static str> {
        self.0.inject(Kind::BusRefused).then_some("InternalFailure")
    }
}
