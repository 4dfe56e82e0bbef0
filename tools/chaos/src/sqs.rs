//! The faults of SQS: outages, errors, lost answers, duplicates and reordering. Records what the checker needs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use fakes::http::{Fault, Request};
use fakes::sqs::{Behaviour, Received, Settings, Sqs, Which};
use model::{EventId, Message};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::faults::{FaultInjector, Kind};

/// The template's maximum number of receives. Its visibility timeout is 180 s; shorter here to keep a run
/// short.
const SETTINGS: Settings = Settings {
    visibility: Duration::from_secs(10),
    max_receives: 10,
};

/// The prefix of the bodies of poison messages, which no function can decode.
pub(crate) const POISON: &str = "poison ";

/// SQS with faults.
pub(crate) struct FaultySqs {
    /// The fake without the faults.
    pub(crate) fake: Sqs,
    queue: Arc<FaultyQueue>,
}

struct FaultyQueue {
    faults: Arc<FaultInjector>,
    down: AtomicBool,
    refused: AtomicU64,
    sent_events: Mutex<HashSet<EventId>>,
    poison_receives: Mutex<HashMap<Arc<str>, u32>>,
    exhausted: Mutex<Vec<Arc<str>>>,
    watched: Mutex<Vec<Watched>>,
}

/// A request that is not to be answered.
struct Watched {
    /// Texts of which the request has one.
    texts: Vec<String>,
    arrived: oneshot::Sender<()>,
}

impl FaultySqs {
    /// Starts the fake.
    pub(crate) async fn start(faults: Arc<FaultInjector>) -> Result<Self> {
        let queue = Arc::new(FaultyQueue {
            faults,
            down: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            sent_events: Mutex::default(),
            poison_receives: Mutex::default(),
            exhausted: Mutex::default(),
            watched: Mutex::default(),
        });
        let behaviour: Arc<FaultyQueue> = Arc::clone(&queue);
        Ok(Self {
            fake: Sqs::start(None, SETTINGS, behaviour).await?,
            queue,
        })
    }

    /// Starts or ends an outage, in which every request is answered with 503.
    pub(crate) fn set_down(&self, down: bool) {
        self.queue.down.store(down, Ordering::SeqCst);
    }

    /// The number of requests that were answered with 503 because of an outage.
    pub(crate) fn refused(&self) -> u64 {
        self.queue.refused.load(Ordering::Relaxed)
    }

    /// Resolves when the next request that has one of these texts arrives. That request is never answered and
    /// not carried out.
    pub(crate) fn hang_next(&self, texts: Vec<String>) -> oneshot::Receiver<()> {
        let (arrived, next) = oneshot::channel();
        self.queue.watched.lock().push(Watched { texts, arrived });
        next
    }

    /// Receives messages for the event source mapping. Returns none during an outage.
    pub(crate) fn poll(&self, most: usize) -> Vec<Received> {
        if self.queue.down.load(Ordering::SeqCst) {
            return Vec::new();
        }
        self.fake.receive(most)
    }

    /// Whether the dead-letter queue contains an event, not only poison messages.
    pub(crate) fn has_dead_events(&self) -> bool {
        self.fake
            .bodies(Which::DeadLetters)
            .iter()
            .any(|body| !body.starts_with(POISON))
    }

    /// The events that were sent to the queue.
    pub(crate) fn sent_events(&self) -> HashSet<EventId> {
        self.queue.sent_events.lock().clone()
    }

    /// The number of events that were sent to the queue at least once.
    pub(crate) fn sent_event_count(&self) -> usize {
        self.queue.sent_events.lock().len()
    }

    /// The number of receives of each poison message.
    pub(crate) fn poison_receives(&self) -> HashMap<Arc<str>, u32> {
        self.queue.poison_receives.lock().clone()
    }

    /// The bodies of messages that moved to the dead-letter queue after too many receives.
    pub(crate) fn exhausted(&self) -> Vec<Arc<str>> {
        self.queue.exhausted.lock().clone()
    }
}

impl FaultyQueue {
    /// Whether somebody waits for this request.
    fn is_watched(&self, request: &Request) -> bool {
        let mut watched = self.watched.lock();
        watched.retain(|watched| !watched.arrived.is_closed());
        if watched.is_empty() {
            return false;
        }
        let body = request.body();
        let body = String::from_utf8_lossy(&body);
        let found = watched
            .iter()
            .position(|watched| watched.texts.iter().any(|text| body.contains(text)));
        found.is_some_and(|found| watched.swap_remove(found).arrived.send(()).is_ok())
    }
}

impl Behaviour for FaultyQueue {
    fn fault(&self, request: &Request) -> Fault {
        if self.is_watched(request) {
            return Fault::Hang;
        }
        let down = self.down.load(Ordering::SeqCst);
        if down {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        if down || self.faults.inject(Kind::QueueUnavailable) {
            Fault::Error(503, "ServiceUnavailable")
        } else if self.faults.inject(Kind::QueueAnswerLost) {
            Fault::AnswerLost
        } else {
            Fault::None
        }
    }

    fn sent(&self, body: &str) -> usize {
        self.sent_events.lock().extend(event_ids(body));
        if body.starts_with(POISON) {
            self.poison_receives.lock().entry(body.into()).or_default();
        }
        if self.faults.inject(Kind::Duplicated) {
            2
        } else {
            1
        }
    }

    fn pick(&self, count: usize) -> usize {
        if count > 1 && self.faults.inject(Kind::Reordered) {
            self.faults.number(Kind::Reordered, 0..count)
        } else {
            0
        }
    }

    fn received(&self, body: &Arc<str>) {
        if body.starts_with(POISON) {
            *self.poison_receives.lock().entry(Arc::clone(body)).or_default() += 1;
        }
    }

    fn redelivers(&self) -> bool {
        self.faults.inject(Kind::Undeleted)
    }

    fn exhausted(&self, body: &Arc<str>) {
        self.exhausted.lock().push(Arc::clone(body));
    }
}

/// The events in a message body; none if it cannot be decoded.
pub(crate) fn event_ids(body: &str) -> Vec<EventId> {
    let message = Message::decode(body);
    message.map_or_else(
        |_| Vec::new(),
        |message| message.events().map(|event| event.event_id).collect(),
    )
}

#[cfg(test)]
mod tests {
    use model::Change;

    use super::super::replica::tests::{event, file, space};
    use super::*;

    #[test]
    fn a_message_announces_all_of_its_changes() {
        let change = |number| event(space(1), number, Change::FileUpdated(file(7, "/a", number)));
        let events = [change(1), change(2), change(3)];
        let [message] = &Message::pack(&events)[..] else {
            panic!()
        };
        let ids = events.map(|event| event.event_id);
        assert_eq!(event_ids(&message.encode().unwrap()), ids);
        assert!(event_ids("poison 1").is_empty());
    }
}
