//! SQS: two queues behind its protocol, AWS JSON 1.0, which duplicate, reorder, fail and lose answers.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use edge::{Clock, ids};
use md5::{Digest as _, Md5};
use model::EventId;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::proxy::Proxy;
use super::queue::{MAX_RECEIVES, Queue, Received, Sizes};
use super::weather::{Kind, Weather};

/// How long a received message is hidden. The template says 180 s; a run should not take that long.
pub(crate) const VISIBILITY: Duration = Duration::from_secs(10);

/// How the bodies of messages that no function can read begin.
pub(crate) const POISON: &str = "poison ";

/// The queues' names.
const NAMES: [&str; 2] = ["events", "dead-letters"];

/// Which queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Events on their way to `fan-out`.
    Events = 0,
    /// What was set aside.
    DeadLetters = 1,
}

/// The service.
pub(crate) struct Sqs {
    queues: [Mutex<Queue>; 2],
    /// Something can be received.
    pub(crate) sent: Notify,
    weather: Arc<Weather>,
    down: AtomicBool,
    refused: AtomicU64,
    proxy: OnceLock<Proxy>,
    announced: Mutex<HashSet<EventId>>,
    poison_receives: Mutex<HashMap<Arc<str>, u32>>,
    exhausted: Mutex<Vec<Arc<str>>>,
}

impl Sqs {
    /// Starts it, behind a proxy.
    pub(crate) async fn start(weather: Arc<Weather>, tasks: &mut JoinSet<()>) -> Result<(Arc<Self>, Proxy)> {
        let sqs = Arc::new(Self {
            queues: [MAX_RECEIVES, u32::MAX].map(|most| Mutex::new(Queue::new(most))),
            sent: Notify::new(),
            weather,
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
        let app = Router::new()
            .fallback(post(serve))
            .with_state(Arc::clone(&sqs))
            .into_make_service_with_connect_info::<SocketAddr>();
        tasks.spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok((sqs, proxy))
    }

    /// What `QUEUE_URL` and `DEAD_LETTER_QUEUE_URL` are set to.
    pub(crate) fn url(proxy: &Proxy, which: Which) -> String {
        format!("http://{}/000000000000/{}", proxy.address, NAMES[which as usize])
    }

    /// Answers nothing but 503 from now on, or works again.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// How many requests were answered with 503 because it was down.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Sends a message as somebody outside of the system would.
    pub(crate) fn inject(&self, body: &str) {
        if body.starts_with(POISON) {
            self.poison_receives
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(body.into(), 0);
        }
        self.send(Which::Events, body, Duration::ZERO);
    }

    /// What an event source mapping receives: nothing while the queue is down.
    pub(crate) fn poll(&self, most: usize) -> Vec<Received> {
        if self.down.load(Ordering::SeqCst) {
            return Vec::new();
        }
        self.receive(Which::Events, most, VISIBILITY)
    }

    /// Deletes what an event source mapping is done with. Sometimes a message comes again nevertheless.
    pub(crate) fn delete(&self, which: Which, receipt: &str) {
        let mut queue = self.queue(which);
        let deleted = queue.delete(receipt);
        if let Some(message) = deleted
            && which == Which::Events
            && self.weather.strikes(Kind::Undeleted)
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

    /// How full a queue is.
    pub(crate) fn sizes(&self, which: Which) -> Sizes {
        self.queue(which).sizes(Instant::now())
    }

    /// Whether a queue has no message in any state.
    pub(crate) fn is_empty(&self, which: Which) -> bool {
        self.queue(which).is_empty()
    }

    /// Whether there is an event in the dead-letter queue, and not only what cannot be read.
    pub(crate) fn has_dead_events(&self) -> bool {
        self.bodies(Which::DeadLetters)
            .iter()
            .any(|body| !body.starts_with(POISON))
    }

    /// All bodies in a queue.
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

    /// How many events were sent to the queue.
    pub(crate) fn announced_count(&self) -> usize {
        self.announced
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// How often each poison message that was injected was received.
    pub(crate) fn poison_receives(&self) -> HashMap<Arc<str>, u32> {
        self.poison_receives
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What was set aside because it had been received too often.
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
        let copies = if which == Which::Events && self.weather.strikes(Kind::Duplicated) {
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
            if count > 1 && self.weather.strikes(Kind::Reordered) {
                self.weather.number(Kind::Reordered, 0..count)
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

    /// Does what a request asks for; nothing if the action is not known.
    fn act(&self, action: &str, request: &Request) -> Option<Value> {
        let which = request.which();
        Some(match action {
            "SendMessage" => self.send_one(which, &request.message),
            "SendMessageBatch" => {
                let sent = request.entries.iter().map(|entry| {
                    let mut answer = self.send_one(which, &entry.message);
                    answer["Id"] = entry.id.clone().into();
                    answer
                });
                json!({ "Successful": sent.collect::<Vec<_>>(), "Failed": [] })
            }
            "ReceiveMessage" => {
                let visibility = request.visibility_timeout.map_or(VISIBILITY, Duration::from_secs);
                let most = request.max_number_of_messages.unwrap_or(1);
                let received = self.receive(which, most, visibility);
                json!({ "Messages": received.iter().map(message).collect::<Vec<_>>() })
            }
            "DeleteMessage" => {
                self.delete(which, &request.receipt_handle);
                json!({})
            }
            "DeleteMessageBatch" => {
                for entry in &request.entries {
                    self.delete(which, &entry.receipt_handle);
                }
                let done = request.entries.iter().map(|entry| json!({ "Id": entry.id }));
                json!({ "Successful": done.collect::<Vec<_>>(), "Failed": [] })
            }
            "ChangeMessageVisibility" => {
                self.change_visibility(which, &request.receipt_handle, request.visibility_timeout);
                json!({})
            }
            "ChangeMessageVisibilityBatch" => {
                let (mut done, mut failed) = (Vec::new(), Vec::new());
                for entry in &request.entries {
                    if self.change_visibility(which, &entry.receipt_handle, entry.visibility_timeout) {
                        done.push(json!({ "Id": entry.id }));
                    } else {
                        failed.push(
                            json!({ "Id": entry.id, "Code": "MessageNotInflight", "SenderFault": true }),
                        );
                    }
                }
                json!({ "Successful": done, "Failed": failed })
            }
            "GetQueueAttributes" => {
                let sizes = self.sizes(which);
                json!({ "Attributes": {
                    "ApproximateNumberOfMessages": sizes.visible.to_string(),
                    "ApproximateNumberOfMessagesNotVisible": sizes.in_flight.to_string(),
                    "ApproximateNumberOfMessagesDelayed": sizes.delayed.to_string(),
                    "QueueArn": format!("arn:aws:sqs:us-east-1:000000000000:{}", NAMES[which as usize]),
                } })
            }
            _ => return None,
        })
    }

    fn send_one(&self, which: Which, message: &OutgoingMessage) -> Value {
        let delay = Duration::from_secs(message.delay_seconds.unwrap_or_default());
        let id = self.send(which, &message.message_body, delay);
        json!({ "MessageId": id, "MD5OfMessageBody": md5(&message.message_body) })
    }

    fn change_visibility(&self, which: Which, receipt: &str, seconds: Option<u64>) -> bool {
        let visibility = Duration::from_secs(seconds.unwrap_or_default());
        self.queue(which)
            .change_visibility(receipt, visibility, Instant::now())
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct OutgoingMessage {
    message_body: String,
    delay_seconds: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Request {
    queue_url: String,
    #[serde(flatten)]
    message: OutgoingMessage,
    receipt_handle: String,
    visibility_timeout: Option<u64>,
    max_number_of_messages: Option<usize>,
    entries: Vec<Entry>,
}

impl Request {
    fn which(&self) -> Which {
        if self.queue_url.ends_with(NAMES[Which::DeadLetters as usize]) {
            Which::DeadLetters
        } else {
            Which::Events
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Entry {
    id: String,
    #[serde(flatten)]
    message: OutgoingMessage,
    receipt_handle: String,
    visibility_timeout: Option<u64>,
}

async fn serve(
    State(sqs): State<Arc<Sqs>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let down = sqs.down.load(Ordering::SeqCst);
    if down {
        sqs.refused.fetch_add(1, Ordering::Relaxed);
    }
    if down || sqs.weather.strikes(Kind::QueueUnavailable) {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
    }
    let target = headers
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok());
    let action = target
        .and_then(|target| target.strip_prefix("AmazonSQS."))
        .unwrap_or_default();
    let Ok(request) = serde_json::from_slice::<Request>(&body) else {
        return refusal(StatusCode::BAD_REQUEST, "InvalidParameterValue");
    };
    let Some(answer) = sqs.act(action, &request) else {
        return refusal(StatusCode::BAD_REQUEST, "UnsupportedOperation");
    };
    if let Some(proxy) = sqs.proxy.get()
        && sqs.weather.strikes(Kind::QueueAnswerLost)
    {
        proxy.cut(peer);
        return std::future::pending().await;
    }
    (
        [("content-type", "application/x-amz-json-1.0")],
        answer.to_string(),
    )
        .into_response()
}

fn refusal(status: StatusCode, code: &str) -> Response {
    let body = json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": "as told" });
    (
        status,
        [("content-type", "application/x-amz-json-1.0")],
        body.to_string(),
    )
        .into_response()
}

fn message(received: &Received) -> Value {
    json!({
        "MessageId": received.message_id,
        "ReceiptHandle": received.receipt,
        "Body": received.body,
        "MD5OfBody": md5(&received.body),
        "Attributes": {
            "ApproximateReceiveCount": received.receives.to_string(),
            "SentTimestamp": received.sent_ms.to_string(),
        },
    })
}

/// In hexadecimal, as SQS has it and its clients check it.
pub(crate) fn md5(body: &str) -> String {
    let digest = Md5::digest(body.as_bytes());
    digest.iter().fold(String::with_capacity(32), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The event that a message is about; nothing if it is about none.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_digest_that_clients_expect() {
        assert_eq!(md5(""), "d41d8cd98f00b204e9800998ecf8427e");
    }
}
