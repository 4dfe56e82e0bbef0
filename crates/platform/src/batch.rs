//! Partial batch responses for SQS event sources.

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse};

/// Lists the records that SQS delivers again; the event source mapping deletes all others from the queue.
/// Requires `ReportBatchItemFailures` (AWS Lambda Developer Guide, "Handling errors for an SQS event source
/// in Lambda").
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
