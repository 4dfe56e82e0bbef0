//! A fake of SQS with two queues. It duplicates and reorders messages and can be put out of service.

mod protocol;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use model::EventId;
use platform::{Clock, ids};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::faults::{FaultInjector, Kind};
use super::proxy::Proxy;
use super::queue::{MAX_RECEIVES, Queue, Received, Sizes};

/// The visibility timeout. The template says 180 s; shorter here to keep a run short.
pub(crate) const VISIBILITY: Duration = Duration::from_secs(10);

/// The prefix of the bodies of poison messages, which no function can decode.
pub(crate) const POISON: &str = "poison ";

/// The names of the queues, in the order of `Which`.
const NAMES: [&str; 2] = ["events", "dead-letters"];

/// One of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The queue that `fan-out` consumes.
    Events = 0,
    /// The dead-letter queue.
    DeadLetters = 1,
}

/// The running fake.
pub(crate) struct Sqs {
    queues: [Mutex<Queue>; 2],
    /// Notified when a message becomes visible.
    pub(crate) sent: Notify,
    faults: Arc<FaultInjector>,
    down: AtomicBool,
    refused: AtomicU64,
    proxy: OnceLock<Proxy>,
    announced: Mutex<HashSet<EventId>>,
    poison_receives: Mutex<HashMap<Arc<str>, u32>>,
    exhausted: Mutex<Vec<Arc<str>>>,
}

impl Sqs {
    /// Starts the fake behind a proxy.
    pub(crate) async fn start(
        faults: Arc<FaultInjector>,
        tasks: &mut JoinSet<()>,
    ) -> Result<(Arc<Self>, Proxy)> {
        let sqs = Arc::new(Self {
            queues: [MAX_RECEIVES, u32::MAX].map(|most| Mutex::new(Queue::new(most))),
            sent: Notify::new(),
            faults,
            down: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            proxy: OnceLock::new(),
            announced: Mutex::default(),
            poison_receives: Mutex::default(),
            exhausted: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let proxy = Proxy::start(listener.local_addr().context("cannot listen")?).await?;
        let _ = sqs.proxy.set(proxy.clone());
        tasks.spawn(protocol::listen(listener, Arc::clone(&sqs)));
        Ok((sqs, proxy))
    }

    /// The queue's URL for `QUEUE_URL` and `DEAD_LETTER_QUEUE_URL`.
    pub(crate) fn url(proxy: &Proxy, which: Which) -> String {
        format!("http://{}/000000000000/{}", proxy.address, NAMES[which as usize])
    }

    /// Starts or ends an outage, in which every request is answered with 503.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// The number of requests that were answered with 503 because of an outage.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Sends a message as a sender outside of the system would.
    pub(crate) fn inject(&self, body: &str) {
        if body.starts_with(POISON) {
            self.poison_receives
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(body.into(), 0);
        }
        self.send(Which::Events, body, Duration::ZERO);
    }

    /// Receives messages for the event source mapping. Returns none during an outage.
    pub(crate) fn poll(&self, most: usize) -> Vec<Received> {
        if self.down.load(Ordering::SeqCst) {
            return Vec::new();
        }
        self.receive(Which::Events, most, VISIBILITY)
    }

    /// Deletes a message that the event source mapping has processed. As a fault, the message is sometimes
    /// delivered again.
    pub(crate) fn delete(&self, which: Which, receipt: &str) {
        let mut queue = self.queue(which);
        let deleted = queue.delete(receipt);
        if let Some(message) = deleted
            && which == Which::Events
            && self.faults.inject(Kind::Undeleted)
        {
            let now = Instant::now();
            queue.send(
                message.message_id,
                message.body,
                message.sent_ms,
                now,
                now + VISIBILITY,
            );
        }
    }

    /// The number of messages in each state in a queue.
    pub(crate) fn sizes(&self, which: Which) -> Sizes {
        self.queue(which).sizes(Instant::now())
    }

    /// Whether a queue has no message in any state.
    pub(crate) fn is_empty(&self, which: Which) -> bool {
        self.queue(which).is_empty()
    }

    /// Whether the dead-letter queue contains an event, not only poison messages.
    pub(crate) fn has_dead_events(&self) -> bool {
        self.bodies(Which::DeadLetters)
            .iter()
            .any(|body| !body.starts_with(POISON))
    }

    /// The bodies of all messages in a queue.
    pub(crate) fn bodies(&self, which: Which) -> Vec<Arc<str>> {
        self.queue(which).bodies()
    }

    /// The events that were sent to the queue.
    pub(crate) fn announced(&self) -> HashSet<EventId> {
        self.announced
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The number of events that were sent to the queue at least once.
    pub(crate) fn announced_count(&self) -> usize {
        self.announced
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// The number of receives of each injected poison message.
    pub(crate) fn poison_receives(&self) -> HashMap<Arc<str>, u32> {
        self.poison_receives
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The bodies of messages that moved to the dead-letter queue after too many receives.
    pub(crate) fn exhausted(&self) -> Vec<Arc<str>> {
        self.exhausted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn queue(&self, which: Which) -> std::sync::MutexGuard<'_, Queue> {
        self.queues[which as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, which: Which, body: &str, delay: Duration) -> String {
        let id = ids::new_id().to_string();
        let body: Arc<str> = body.into();
        let now = Instant::now();
        let sent_ms = i64::try_from(Clock::system().now().unix_timestamp_nanos() / 1_000_000);
        let sent_ms = sent_ms.unwrap_or_default();
        if which == Which::Events
            && let Some(event_id) = event_id(&body)
        {
            self.announced
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(event_id);
        }
        let copies = if which == Which::Events && self.faults.inject(Kind::Duplicated) {
            2
        } else {
            1
        };
        let mut queue = self.queue(which);
        for _ in 0..copies {
            queue.send(id.as_str().into(), Arc::clone(&body), sent_ms, now, now + delay);
        }
        drop(queue);
        self.sent.notify_one();
        id
    }

    fn receive(&self, which: Which, most: usize, visibility: Duration) -> Vec<Received> {
        let pick = |count: usize| {
            if count > 1 && self.faults.inject(Kind::Reordered) {
                self.faults.number(Kind::Reordered, 0..count)
            } else {
                0
            }
        };
        let now = Instant::now();
        let (received, exhausted) = self.queue(which).receive(most, visibility, now, pick);
        if which == Which::Events {
            let mut counts = self
                .poison_receives
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for message in &received {
                if message.body.starts_with(POISON) {
                    *counts.entry(Arc::clone(&message.body)).or_default() += 1;
                }
            }
        }
        for message in exhausted {
            self.exhausted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Arc::clone(&message.body));
            let mut dead = self.queue(Which::DeadLetters);
            dead.send(message.message_id, message.body, message.sent_ms, now, now);
        }
        received
    }

    fn change_visibility(&self, which: Which, receipt: &str, seconds: Option<u64>) -> bool {
        let visibility = Duration::from_secs(seconds.unwrap_or_default());
        self.queue(which)
            .change_visibility(receipt, visibility, Instant::now())
    }
}

/// The event in a message body; `None` if the body has no event.
pub(crate) fn event_id(body: &str) -> Option<EventId> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        event_id: EventId,
    }
    serde_json::from_str::<Named>(body)
        .ok()
        .map(|named| named.event_id)
}
