//! One SQS queue of the emulator per test.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use fakes::sqs::{Settings, Sqs, Which};
use model::{Event, Message};

use crate::aws;

/// SQS queue that no other test uses.
pub struct TestQueue {
    /// Queue URL on the emulator.
    pub url: String,
    sqs: aws_sdk_sqs::Client,
}

impl TestQueue {
    /// Queue client of the type that functions use.
    pub fn queue(&self) -> ::queue::Queue {
        ::queue::Queue::new(self.sqs.config().to_builder(), &self.url)
    }

    /// Starts a fake of SQS in this process, which answers faster than the emulator. Returns it, and its
    /// queue and dead-letter queue.
    pub async fn in_process() -> (Sqs, [Self; 2]) {
        let settings = Settings {
            visibility: Duration::from_secs(30),
            max_receives: u32::MAX,
        };
        let fake = Sqs::start(None, settings, Arc::new(())).await.unwrap();
        let endpoint = fake.server.url("127.0.0.1");
        let config = ::stack::emulator::aws_config(&endpoint).unwrap();
        let sqs = aws_sdk_sqs::Client::new(&config);
        let queues = [Which::Events, Which::DeadLetters].map(|which| Self {
            url: Sqs::url(&endpoint, which),
            sqs: sqs.clone(),
        });
        (fake, queues)
    }

    /// Creates a queue.
    pub async fn create() -> Self {
        let sqs = aws_sdk_sqs::Client::new(&aws());
        let created = sqs
            .create_queue()
            .queue_name(format!("test-{}", platform::ids::new_id()))
            .send()
            .await
            .unwrap();
        Self {
            url: created.queue_url.unwrap(),
            sqs,
        }
    }

    /// ARN of the queue.
    pub async fn arn(&self) -> String {
        let request = self.sqs.get_queue_attributes().queue_url(&self.url);
        let answer = request
            .attribute_names(QueueAttributeName::QueueArn)
            .send()
            .await
            .unwrap();
        answer.attributes.unwrap()[&QueueAttributeName::QueueArn].clone()
    }

    /// Receives and deletes all visible messages, and returns their bodies.
    pub async fn drain(&self) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            let batch = self
                .sqs
                .receive_message()
                .queue_url(&self.url)
                .max_number_of_messages(10)
                .send()
                .await
                .unwrap();
            if batch.messages().is_empty() {
                return bodies;
            }
            for message in batch.messages() {
                bodies.push(message.body().unwrap().to_owned());
                let handle = message.receipt_handle().unwrap();
                self.sqs
                    .delete_message()
                    .queue_url(&self.url)
                    .receipt_handle(handle)
                    .send()
                    .await
                    .unwrap();
            }
        }
    }

    /// Trace headers (`AWSTraceHeader`) of up to ten messages, which stay in the queue.
    pub async fn traces(&self) -> Vec<String> {
        let name = MessageSystemAttributeName::AwsTraceHeader;
        let receiving = self.sqs.receive_message().queue_url(&self.url);
        let receiving = receiving
            .max_number_of_messages(10)
            .visibility_timeout(0)
            .message_system_attribute_names(name.clone());
        let received = receiving.send().await.unwrap().messages.unwrap_or_default();
        let traces = received
            .iter()
            .filter_map(|message| message.attributes()?.get(&name));
        traces.cloned().collect()
    }

    /// Receives and deletes all visible messages, and returns their events.
    pub async fn events(&self) -> Vec<Event> {
        let messages = self.messages().await;
        messages.iter().flat_map(Message::events).cloned().collect()
    }

    /// Receives and deletes all visible messages, and returns them decoded. Panics if one cannot be decoded.
    pub async fn messages(&self) -> Vec<Message> {
        let bodies = self.drain().await;
        bodies.iter().map(|body| Message::decode(body).unwrap()).collect()
    }

    /// Sends one message for each body.
    pub async fn send(&self, bodies: impl IntoIterator<Item = String>) {
        for body in bodies {
            let request = self.sqs.send_message().queue_url(&self.url);
            request.message_body(body).send().await.unwrap();
        }
    }

    /// Number of delayed messages.
    pub async fn delayed(&self) -> u64 {
        self.count(&[QueueAttributeName::ApproximateNumberOfMessagesDelayed])
            .await
    }

    /// Number of messages in the queue: visible, delayed and in flight.
    pub async fn count_all(&self) -> u64 {
        self.count(&[
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ])
        .await
    }

    async fn count(&self, names: &[QueueAttributeName]) -> u64 {
        let request = self.sqs.get_queue_attributes().queue_url(&self.url);
        let answer = request
            .set_attribute_names(Some(names.to_vec()))
            .send()
            .await
            .unwrap();
        let counts = answer.attributes.unwrap();
        counts.values().map(|count| count.parse::<u64>().unwrap()).sum()
    }

    /// Deletes all messages, also those in flight.
    pub async fn purge(&self) {
        self.sqs.purge_queue().queue_url(&self.url).send().await.unwrap();
    }

    /// Sends a message with this body, receives one message and returns it as a record of a function's batch.
    pub async fn record(&self, body: &str) -> serde_json::Value {
        self.send([body.to_owned()]).await;
        let batch = self
            .sqs
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(1)
            .send()
            .await
            .unwrap();
        let message = &batch.messages()[0];
        serde_json::json!({
            "messageId": message.message_id().unwrap(),
            "receiptHandle": message.receipt_handle().unwrap(),
            "body": message.body().unwrap(),
            "attributes": { "ApproximateReceiveCount": "1" },
            "eventSource": "aws:sqs",
        })
    }

    /// Waits up to 20 s (SQS's limit) for a message and returns its body. A test measures with it when a
    /// message that was in flight becomes visible again.
    pub async fn wait_for_one(&self) -> Option<String> {
        let waiting = self
            .sqs
            .receive_message()
            .queue_url(&self.url)
            .wait_time_seconds(20);
        // The shared configuration's timeout is shorter than a long poll.
        let patience = aws_sdk_sqs::config::timeout::TimeoutConfig::builder()
            .operation_attempt_timeout(Duration::from_secs(25))
            .operation_timeout(Duration::from_secs(25))
            .build();
        let patient = aws_sdk_sqs::config::Builder::default().timeout_config(patience);
        let batch = waiting.customize().config_override(patient).send().await.unwrap();
        batch
            .messages()
            .first()
            .and_then(|message| message.body().map(str::to_owned))
    }
}
