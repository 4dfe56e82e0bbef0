//! A queue of the emulator for each test.

use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use model::{Event, Message};

use crate::aws;

/// A queue that no other test uses.
pub struct TestQueue {
    /// Its URL.
    pub url: String,
    sqs: aws_sdk_sqs::Client,
}

impl TestQueue {
    /// The queue as a function has it.
    pub fn queue(&self) -> ::queue::Queue {
        ::queue::Queue::new(self.sqs.config().to_builder(), &self.url)
    }

    /// Makes one.
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

    /// Takes all bodies out.
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

    /// The trace that each of the next messages goes on with, which stay.
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

    /// Takes all events out.
    pub async fn events(&self) -> Vec<Event> {
        let messages = self.messages().await;
        messages.into_iter().map(|message| message.event).collect()
    }

    /// Takes all messages out.
    pub async fn messages(&self) -> Vec<Message> {
        let bodies = self.drain().await;
        bodies.iter().map(|body| Message::decode(body).unwrap()).collect()
    }

    /// Sends bodies.
    pub async fn send(&self, bodies: impl IntoIterator<Item = String>) {
        for body in bodies {
            let request = self.sqs.send_message().queue_url(&self.url);
            request.message_body(body).send().await.unwrap();
        }
    }

    /// How many messages wait for the end of their delay.
    pub async fn delayed(&self) -> u64 {
        self.count(&[QueueAttributeName::ApproximateNumberOfMessagesDelayed])
            .await
    }

    /// How many messages there are, visible or not.
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

    /// Empties the queue, of hidden messages too.
    pub async fn purge(&self) {
        self.sqs.purge_queue().queue_url(&self.url).send().await.unwrap();
    }

    /// Sends a body, and receives it as a record that a function can be given.
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

    /// Waits for the next message, up to SQS's 20 s. Tells after how long a hidden one came back.
    pub async fn wait_for_one(&self) -> Option<String> {
        let waiting = self
            .sqs
            .receive_message()
            .queue_url(&self.url)
            .wait_time_seconds(20);
        // The shared configuration gives up sooner than a long poll lasts.
        let patience = aws_sdk_sqs::config::timeout::TimeoutConfig::builder()
            .operation_attempt_timeout(std::time::Duration::from_secs(25))
            .operation_timeout(std::time::Duration::from_secs(25))
            .build();
        let patient = aws_sdk_sqs::config::Builder::default().timeout_config(patience);
        let batch = waiting.customize().config_override(patient).send().await.unwrap();
        batch
            .messages()
            .first()
            .and_then(|message| message.body().map(str::to_owned))
    }
}
