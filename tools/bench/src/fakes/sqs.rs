//! Fake of SQS. Benchmarks take messages out of it directly.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use fakes::md5;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::{Request, Server, reply};

#[derive(Default)]
struct Book {
    messages: VecDeque<String>,
    dead_letters: usize,
    requests: u64,
}

/// Fake of SQS.
pub(crate) struct Sqs {
    pub(crate) server: Server,
    book: Arc<Mutex<Book>>,
    /// Notified when a message arrives.
    pub(crate) sent: Arc<Notify>,
    tls: bool,
}

impl Sqs {
    pub(crate) async fn start(tls: Option<TlsAcceptor>) -> Result<Self> {
        let (book, sent) = (Arc::new(Mutex::new(Book::default())), Arc::new(Notify::new()));
        let (shared, notify) = (Arc::clone(&book), Arc::clone(&sent));
        let is_tls = tls.is_some();
        let service = move |request: Request| {
            let target = request.head(|head| {
                let header = head
                    .headers
                    .iter()
                    .find(|header| header.name.eq_ignore_ascii_case("x-amz-target"));
                header.map(|header| String::from_utf8_lossy(header.value).into_owned())
            });
            let action = target.ok().flatten().unwrap_or_default();
            let body: Value = serde_json::from_slice(&request.body()).unwrap_or_default();
            let mut book = shared.lock().unwrap_or_else(PoisonError::into_inner);
            book.requests += 1;
            let answer = act(&mut book, action.trim_start_matches("AmazonSQS."), &body);
            drop(book);
            notify.notify_one();
            let headers = "content-type: application/x-amz-json-1.0\r\n";
            match answer {
                Some(answer) => reply(200, headers, answer.to_string().as_bytes()),
                None => reply(400, headers, br#"{"__type":"UnsupportedOperation"}"#),
            }
        };
        Ok(Self {
            server: Server::start(tls, Arc::new(service)).await?,
            book,
            sent,
            tls: is_tls,
        })
    }

    fn url(&self, queue: &str) -> String {
        format!("{}/000000000000/{queue}", self.endpoint())
    }

    /// Endpoint with a host name, as AWS's endpoints have.
    pub(crate) fn endpoint(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.server.address.port())
    }

    pub(crate) fn queue_url(&self) -> String {
        self.url("events")
    }

    pub(crate) fn dead_letter_queue_url(&self) -> String {
        self.url("dead-letters")
    }

    /// Removes up to `most` messages, oldest first.
    pub(crate) fn receive(&self, most: usize) -> Vec<String> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let most = most.min(book.messages.len());
        book.messages.drain(..most).collect()
    }

    /// Requests since the last call.
    pub(crate) fn take_requests(&self) -> u64 {
        std::mem::take(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner).requests)
    }

    /// Number of dead-lettered messages.
    pub(crate) fn dead_letters(&self) -> usize {
        self.book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .dead_letters
    }
}

fn act(book: &mut Book, action: &str, body: &Value) -> Option<Value> {
    let dead = body["QueueUrl"]
        .as_str()
        .is_some_and(|url| url.ends_with("dead-letters"));
    let mut send = |entry: &Value| {
        let text = entry["MessageBody"].as_str().unwrap_or_default();
        if dead {
            book.dead_letters += 1;
        } else {
            book.messages.push_back(text.to_owned());
        }
        json!({ "Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": md5(text) })
    };
    let entries = body["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    Some(match action {
        "SendMessage" => send(body),
        "SendMessageBatch" => {
            json!({ "Successful": entries.iter().map(send).collect::<Vec<_>>(), "Failed": [] })
        }
        "ChangeMessageVisibilityBatch" | "DeleteMessageBatch" => {
            let done = entries.iter().map(|entry| json!({ "Id": entry["Id"] }));
            json!({ "Successful": done.collect::<Vec<_>>(), "Failed": [] })
        }
        "ReceiveMessage" => json!({ "Messages": [] }),
        "GetQueueAttributes" => json!({ "Attributes": {
            "ApproximateNumberOfMessages": "0",
            "ApproximateNumberOfMessagesNotVisible": "0",
            "ApproximateNumberOfMessagesDelayed": "0",
        } }),
        _ => return None,
    })
}
