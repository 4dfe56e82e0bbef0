//! A fake of SQS with a queue and its dead-letter queue.

mod md5;
mod protocol;
mod queue;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::http::{Fault, Request, Server};

use self::queue::Queue;
pub use self::queue::{Received, Sizes};

/// The names of the queues, in the order of `Which`.
const NAMES: [&str; 2] = ["events", "dead-letters"];

/// One of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The queue that `fan-out` consumes.
    Events = 0,
    /// The dead-letter queue.
    DeadLetters = 1,
}

/// The settings of the queue for events, as in the template.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Default visibility timeout.
    pub visibility: Duration,
    /// The number of receives after which a message moves to the dead-letter queue.
    pub max_receives: u32,
}

/// Observes the queue for events, and makes it differ from a queue that is in order and delivers each message
/// once.
pub trait Behaviour: Send + Sync + 'static {
    /// Chooses the fault of a request.
    fn fault(&self, request: &Request) -> Fault {
        let _ = request;
        Fault::None
    }

    /// A message was sent. Returns the number of copies that the queue gets.
    fn sent(&self, body: &str) -> usize {
        let _ = body;
        1
    }

    /// Chooses the index of the next message among `count` visible messages, oldest first.
    fn pick(&self, count: usize) -> usize {
        let _ = count;
        0
    }

    /// A message was received.
    fn received(&self, body: &Arc<str>) {
        let _ = body;
    }

    /// A message was deleted. Returns whether it is delivered once more nevertheless.
    fn redelivers(&self) -> bool {
        false
    }

    /// A message moved to the dead-letter queue after too many receives.
    fn exhausted(&self, body: &Arc<str>) {
        let _ = body;
    }
}

/// A queue without faults.
impl Behaviour for () {}

/// The running fake.
pub struct Sqs {
    /// The server, for its counters and latency.
    pub server: Server,
    state: Arc<State>,
}

struct State {
    queues: [Mutex<Queue>; 2],
    messages: AtomicU64,
    settings: Settings,
    behaviour: Arc<dyn Behaviour>,
    sent: Notify,
}

impl Sqs {
    /// Starts the fake; with `tls`, it serves HTTPS.
    pub async fn start(
        tls: Option<TlsAcceptor>,
        settings: Settings,
        behaviour: Arc<dyn Behaviour>,
    ) -> Result<Self> {
        let state = Arc::new(State {
            queues: [settings.max_receives, u32::MAX].map(|most| Mutex::new(Queue::new(most))),
            messages: AtomicU64::new(0),
            settings,
            behaviour,
            sent: Notify::new(),
        });
        Ok(Self {
            server: Server::start(tls, Arc::clone(&state)).await?,
            state,
        })
    }

    /// The URL of a queue at this endpoint.
    pub fn url(endpoint: &str, which: Which) -> String {
        format!("{endpoint}/000000000000/{}", NAMES[which as usize])
    }

    /// Waits until a message is sent. Each message wakes one of those who wait.
    pub async fn sent(&self) {
        self.state.sent.notified().await;
    }

    /// Sends a message as a sender outside of the system would.
    pub fn inject(&self, body: &str) {
        self.state.send(Which::Events, body, Duration::ZERO);
    }

    /// Receives up to `most` messages for an event source mapping.
    pub fn receive(&self, most: usize) -> Vec<Received> {
        self.state
            .receive(Which::Events, most, self.state.settings.visibility)
    }

    /// Deletes a message that an event source mapping has processed.
    pub fn delete(&self, receipt: &str) {
        self.state.delete(Which::Events, receipt);
    }

    /// Removes up to `most` messages in any state, oldest first, and returns their bodies.
    pub fn take(&self, most: usize) -> Vec<Arc<str>> {
        self.state.lock(Which::Events).take(most)
    }

    /// Whether a queue has no message in any state.
    pub fn is_empty(&self, which: Which) -> bool {
        self.state.lock(which).is_empty()
    }

    /// The bodies of all messages in a queue.
    pub fn bodies(&self, which: Which) -> Vec<Arc<str>> {
        self.state.lock(which).bodies()
    }
}

impl State {
    fn lock(&self, which: Which) -> MutexGuard<'_, Queue> {
        self.queues[which as usize].lock()
    }

    fn send(&self, which: Which, body: &str, delay: Duration) -> Arc<str> {
        let copies = match which {
            Which::Events => self.behaviour.sent(body),
            Which::DeadLetters => 1,
        };
        let body: Arc<str> = body.into();
        let now = Instant::now();
        let number = self.messages.fetch_add(1, Ordering::Relaxed);
        let id: Arc<str> = format!("message-{number}").into();
        let mut queue = self.lock(which);
        for _ in 0..copies {
            queue.send(Arc::clone(&id), Arc::clone(&body), now, now + delay);
        }
        drop(queue);
        self.sent.notify_one();
        id
    }

    fn receive(&self, which: Which, most: usize, visibility: Duration) -> Vec<Received> {
        let now = Instant::now();
        let pick = |count| match which {
            Which::Events => self.behaviour.pick(count),
            Which::DeadLetters => 0,
        };
        let (received, exhausted) = self.lock(which).receive(most, visibility, now, pick);
        if which == Which::Events {
            for message in &received {
                self.behaviour.received(&message.body);
            }
        }
        for message in exhausted {
            self.behaviour.exhausted(&message.body);
            let mut dead = self.lock(Which::DeadLetters);
            dead.send(message.message_id, message.body, now, now);
        }
        received
    }

    fn delete(&self, which: Which, receipt: &str) {
        let mut queue = self.lock(which);
        if let Some(message) = queue.delete(receipt)
            && which == Which::Events
            && self.behaviour.redelivers()
        {
            let now = Instant::now();
            let visible_at = now + self.settings.visibility;
            queue.send(message.message_id, message.body, now, visible_at);
        }
    }

    fn change_visibility(&self, which: Which, receipt: &str, seconds: Option<u64>) -> bool {
        let visibility = Duration::from_secs(seconds.unwrap_or_default());
        let mut queue = self.lock(which);
        queue.change_visibility(receipt, visibility, Instant::now())
    }

    fn sizes(&self, which: Which) -> Sizes {
        self.lock(which).sizes(Instant::now())
    }
}
