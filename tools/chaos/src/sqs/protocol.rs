//! The protocol of SQS (AWS JSON 1.0), with injected errors and lost answers.
//!
//! Amazon SQS Developer Guide, "Making requests using the AWS JSON protocol".

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use fakes::md5;

use super::{NAMES, Sqs, VISIBILITY, Which};
use crate::faults::Kind;
use crate::queue::Received;

/// Serves requests; never returns.
pub(super) async fn listen(listener: TcpListener, sqs: Arc<Sqs>) {
    let app = Router::new()
        .fallback(post(serve))
        .with_state(sqs)
        .into_make_service_with_connect_info::<SocketAddr>();
    let _ = axum::serve(listener, app).await;
}

impl Sqs {
    /// Carries out an action. `None` if the action is unknown.
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
    if down || sqs.faults.inject(Kind::QueueUnavailable) {
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
        && sqs.faults.inject(Kind::QueueAnswerLost)
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
