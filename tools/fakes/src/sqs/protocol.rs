//! The protocol of SQS (AWS JSON 1.0).
//!
//! Amazon SQS Developer Guide, "Making requests using the AWS JSON protocol".

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::md5::md5;
use super::{NAMES, Received, State, Which};
use crate::http::{Fault, Reply, Request, Service, reply};

/// The header line of every response.
const CONTENT_TYPE: &str = "content-type: application/x-amz-json-1.0\r\n";

impl Service for State {
    fn fault(&self, request: &Request) -> Fault {
        self.behaviour.fault(request)
    }

    fn error(&self, status: u16, code: &str) -> Reply {
        let body = json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": "refused by the fake" });
        reply(status, CONTENT_TYPE, body.to_string().as_bytes())
    }

    fn answer(&self, request: &Request) -> Reply {
        let target = request.header("x-amz-target").unwrap_or_default();
        let action = target.strip_prefix("AmazonSQS.").unwrap_or_default();
        let Ok(input) = serde_json::from_slice::<Input>(&request.body()) else {
            return self.error(400, "InvalidParameterValue");
        };
        match self.act(action, &input) {
            Some(answer) => reply(200, CONTENT_TYPE, answer.to_string().as_bytes()),
            None => self.error(400, "UnsupportedOperation"),
        }
    }
}

impl State {
    /// Carries out an action. `None` if the action is unknown.
    fn act(&self, action: &str, request: &Input) -> Option<Value> {
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
                let visibility = request
                    .visibility_timeout
                    .map_or(self.settings.visibility, Duration::from_secs);
                let most = request.max_number_of_messages.unwrap_or(1);
                let received = self.receive(which, most, visibility);
                json!({ "Messages": received.iter().map(message).collect::<Vec<_>>() })
            }
            "DeleteMessageBatch" => {
                for entry in &request.entries {
                    self.delete(which, &entry.receipt_handle);
                }
                let done = request.entries.iter().map(|entry| json!({ "Id": entry.id }));
                json!({ "Successful": done.collect::<Vec<_>>(), "Failed": [] })
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
        json!({ "MessageId": &*id, "MD5OfMessageBody": md5(&message.message_body) })
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
struct Input {
    queue_url: String,
    #[serde(flatten)]
    message: OutgoingMessage,
    visibility_timeout: Option<u64>,
    max_number_of_messages: Option<usize>,
    entries: Vec<Entry>,
}

impl Input {
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

fn message(received: &Received) -> Value {
    json!({
        "MessageId": &*received.message_id,
        "ReceiptHandle": received.receipt,
        "Body": &*received.body,
        "MD5OfBody": md5(&received.body),
        "Attributes": {
            "ApproximateReceiveCount": received.receives.to_string(),
        },
    })
}
