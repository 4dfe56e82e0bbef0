//! Sends messages to the queue and to the dead-letter queue, and sets the visibility timeout of failed
//! records.

use ::metrics::counter;
use ::queue::{Outgoing, Queue, SendOutcome};
use model::{Delivery, Message};
use platform::error_chain;
use tracing::{error, warn};

use crate::records::{Record, Unreadable};
use crate::{App, MAX_ATTEMPTS, metrics};

/// The longest wait in seconds before one of the first ten attempts. Ten attempts span well over
/// [`crate::CONNECT_GRACE`].
const MAX_BACKOFF_SECONDS: i32 = 10;

/// The wait in seconds before each attempt after the tenth, at a connection that takes no posts and could not
/// be closed.
const LATE_BACKOFF_SECONDS: i32 = 60;

/// The queue that a message is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The queue that the records come from.
    Queue,
    /// The dead-letter queue, which operators inspect.
    DeadLetters,
}

/// A message to send, and the record that is retried if it cannot be sent.
pub(crate) struct OutgoingMessage<'a> {
    destination: Destination,
    record: &'a Record,
    message: Outgoing,
}

impl<'a> OutgoingMessage<'a> {
    /// A message with the changes of a record for other recipients; `None` if it cannot be encoded.
    pub(crate) fn new(
        destination: Destination,
        record: &'a Record,
        delivery: Delivery,
        delay_seconds: i32,
    ) -> Option<Self> {
        let message = Message {
            delivery,
            ..record.message.clone()
        };
        match message.encode() {
            Ok(body) => Some(Self {
                destination,
                record,
                message: Outgoing { body, delay_seconds },
            }),
            Err(error) => {
                error!(error = error_chain(&error), "a message cannot be encoded");
                None
            }
        }
    }
}

/// Sends messages and returns the records of those that could not be sent.
pub(crate) async fn send<'a>(app: &App, messages: Vec<OutgoingMessage<'a>>) -> Vec<&'a Record> {
    let (queue, dead): (Vec<_>, Vec<_>) =
        (messages.into_iter()).partition(|message| message.destination == Destination::Queue);
    let dead_letters = dead.len();
    let (mut unsent, not_dead_lettered) =
        tokio::join!(send_to(&app.queue, queue), send_to(&app.dead_letters, dead));
    count_dead_letters(dead_letters - not_dead_lettered.len());
    unsent.extend(not_dead_lettered);
    unsent
}

async fn send_to<'a>(queue: &Queue, messages: Vec<OutgoingMessage<'a>>) -> Vec<&'a Record> {
    let records: Vec<&Record> = messages.iter().map(|message| message.record).collect();
    let messages = messages.into_iter().map(|message| message.message).collect();
    let outcomes = queue.send_all(messages).await;
    let sent = records.into_iter().zip(outcomes);
    sent.filter(|(_, outcome)| *outcome != SendOutcome::Sent)
        .map(|(record, _)| record)
        .collect()
}

/// Sends unreadable records to the dead-letter queue at once, because no retry can help. Returns the ids of
/// the records that could not be sent.
pub(crate) async fn dead_letter(app: &App, unreadable: Vec<Unreadable>) -> Vec<String> {
    let messages = unreadable.iter().map(|record| Outgoing {
        // SQS does not accept an empty body.
        body: Some(record.body.clone())
            .filter(|body| !body.is_empty())
            .unwrap_or_else(|| "(empty)".to_owned()),
        delay_seconds: 0,
    });
    let outcomes = app.dead_letters.send_all(messages.collect()).await;
    let unsent: Vec<String> = (unreadable.iter().zip(outcomes))
        .filter(|(_, outcome)| *outcome != SendOutcome::Sent)
        .map(|(record, _)| record.message_id.clone())
        .collect();
    count_dead_letters(unreadable.len() - unsent.len());
    unsent
}

fn count_dead_letters(messages: usize) {
    counter!(metrics::DEAD_LETTERED).increment(u64::try_from(messages).unwrap_or(u64::MAX));
}

/// Makes failed records visible again after a short back-off, instead of after the queue's visibility
/// timeout. If this fails, the records are only retried later.
pub(crate) async fn shorten_visibility(app: &App, records: &[&Record]) {
    let timeouts: Vec<(&str, i32)> = (records.iter())
        .map(|record| {
            (
                record.receipt_handle.as_str(),
                backoff_seconds(record.receive_count),
            )
        })
        .collect();
    if let Err(error) = app.queue.set_visibility(&timeouts).await {
        warn!(
            error = error_chain(&error),
            records = records.len(),
            "failed records come again only after the visibility timeout"
        );
    }
}

/// The wait in seconds before the next attempt: 1, 2, 4, 8, then 10, and 60 after [`MAX_ATTEMPTS`] attempts.
pub(crate) fn backoff_seconds(attempts: u32) -> i32 {
    if attempts >= MAX_ATTEMPTS {
        return LATE_BACKOFF_SECONDS;
    }
    1_i32
        .checked_shl(attempts.saturating_sub(1))
        .filter(|_| attempts < 5)
        .unwrap_or(i32::MAX)
        .min(MAX_BACKOFF_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_grows_to_ten_seconds_and_is_a_minute_in_the_end() {
        let waits: Vec<i32> = [0, 1, 2, 3, 4, 5, 9, 10, 1_000]
            .into_iter()
            .map(backoff_seconds)
            .collect();
        assert_eq!(waits, [1, 1, 2, 4, 8, 10, 10, 60, 60]);
        // Nine waits are longer than the time in which a handshake may still be running.
        let total: i32 = (1..10).map(backoff_seconds).sum();
        assert!(i64::from(total) > crate::CONNECT_GRACE.whole_seconds());
    }
}
