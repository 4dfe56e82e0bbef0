//! Receiving messages, deleting them and changing their visibility.

use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, QueueAttributeName,
};

use crate::{Error, MAX_BATCH_ENTRIES, Queue};

/// A message that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The body as text; empty if SQS sent none.
    pub body: String,
    /// The handle for deleting the message or changing its visibility.
    pub receipt_handle: String,
}

impl Queue {
    /// Receives up to ten messages, without long polling. Other receivers do not get them for
    /// `visibility_seconds`.
    pub async fn receive(&self, visibility_seconds: i32) -> Result<Vec<Received>, Error> {
        let receiving = self.sqs.receive_message().queue_url(&self.url);
        let received = receiving
            .max_number_of_messages(i32::try_from(MAX_BATCH_ENTRIES).unwrap_or(i32::MAX))
            .visibility_timeout(visibility_seconds)
            .send()
            .await
            .map_err(Error::new)?;
        let messages = received.messages.unwrap_or_default().into_iter();
        let messages = messages.map(|message| Received {
            body: message.body.unwrap_or_default(),
            receipt_handle: message.receipt_handle.unwrap_or_default(),
        });
        Ok(messages.collect())
    }

    /// Deletes messages by receipt handle. Returns the number of messages that SQS refused to delete.
    pub async fn delete(&self, receipt_handles: &[&str]) -> Result<usize, Error> {
        let mut refused = 0;
        for handles in receipt_handles.chunks(MAX_BATCH_ENTRIES) {
            let mut request = self.sqs.delete_message_batch().queue_url(&self.url);
            for (i, handle) in handles.iter().enumerate() {
                let entry = DeleteMessageBatchRequestEntry::builder()
                    .id(i.to_string())
                    .receipt_handle(*handle);
                request = request.entries(entry.build().map_err(Error::new)?);
            }
            refused += request.send().await.map_err(Error::new)?.failed().len();
        }
        Ok(refused)
    }

    /// Sets the visibility timeouts of received messages, given as pairs of receipt handle and seconds.
    pub async fn set_visibility(&self, messages: &[(&str, i32)]) -> Result<(), Error> {
        for messages in messages.chunks(MAX_BATCH_ENTRIES) {
            let mut request = (self.sqs.change_message_visibility_batch()).queue_url(&self.url);
            for (i, (receipt_handle, seconds)) in messages.iter().enumerate() {
                let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(i.to_string())
                    .receipt_handle(*receipt_handle)
                    .visibility_timeout(*seconds);
                request = request.entries(entry.build().map_err(Error::new)?);
            }
            request.send().await.map_err(Error::new)?;
        }
        Ok(())
    }

    /// The approximate number of messages that are visible, delayed or in flight; `None` if SQS did not
    /// report all three.
    pub async fn backlog(&self) -> Result<Option<u64>, Error> {
        let counts = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let request = self.sqs.get_queue_attributes().queue_url(&self.url);
        let answer = request.set_attribute_names(Some(counts.to_vec())).send().await;
        let attributes = answer.map_err(Error::new)?.attributes.unwrap_or_default();
        let count = |name| {
            attributes
                .get(name)
                .and_then(|count: &String| count.parse::<u64>().ok())
        };
        Ok(counts.iter().map(count).sum())
    }
}
