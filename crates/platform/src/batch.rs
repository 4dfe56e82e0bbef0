//! Partial failures of an SQS batch.

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse};

/// Tells the event source mapping which records to deliver again; all others are deleted from the queue. Needs
/// `ReportBatchItemFailures` (AWS Lambda Developer Guide, "Handling errors for an SQS event source in Lambda").
pub fn batch_item_failures(message_ids: impl IntoIterator<Item = String>) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = message_ids
        .into_iter()
        .map(|id| {
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = id;
            failure
        })
        .collect();
    response
}
