//! A standard SQS queue without its network protocol: visibility timeouts, receipts and redelivery.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::md5::md5;

/// A message as a receiver gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The message ID of SQS. A duplicate has the same ID.
    pub message_id: Arc<str>,
    /// The receipt handle that deletes the message. Every receive issues a new one.
    pub receipt: String,
    /// The message body.
    pub body: Arc<str>,
    /// The number of receives, including this one.
    pub receives: u32,
}

impl Received {
    /// The record with which an event source mapping hands the message to a function. `sent_at` is a time in
    /// milliseconds since 1970 (AWS Lambda Developer Guide, "Using Lambda with Amazon SQS").
    pub fn record(&self, sent_at: i64) -> Value {
        json!({
            "messageId": self.message_id,
            "receiptHandle": self.receipt,
            "body": self.body,
            "attributes": {
                "ApproximateReceiveCount": self.receives.to_string(),
                "SentTimestamp": sent_at.to_string(),
                "SenderId": "AROAEXAMPLE:syncsphere",
                "ApproximateFirstReceiveTimestamp": sent_at.to_string(),
            },
            "messageAttributes": {},
            "md5OfBody": md5(&self.body),
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:events",
            "awsRegion": "us-east-1",
        })
    }
}

/// The number of messages in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Ready to be received.
    pub visible: usize,
    /// Received and not deleted.
    pub in_flight: usize,
    /// Sent with a delay that has not passed yet.
    pub delayed: usize,
}

impl Sizes {
    /// The sum over all states.
    #[cfg(test)]
    pub fn total(self) -> usize {
        self.visible + self.in_flight + self.delayed
    }
}

struct Message {
    id: Arc<str>,
    body: Arc<str>,
    receives: u32,
    /// The time until which receivers do not see the message; `None` if it is visible.
    hidden_until: Option<Instant>,
}

/// A queue in memory.
pub(super) struct Queue {
    most_receives: u32,
    messages: BTreeMap<u64, Message>,
    ready: VecDeque<u64>,
    hidden: BinaryHeap<Reverse<(Instant, u64)>>,
    next: u64,
}

impl Queue {
    /// An empty queue in which a message can be received `most_receives` times at most.
    pub fn new(most_receives: u32) -> Self {
        Self {
            most_receives,
            messages: BTreeMap::new(),
            ready: VecDeque::new(),
            hidden: BinaryHeap::new(),
            next: 0,
        }
    }

    /// Adds a message that becomes visible at `visible_at`.
    pub fn send(&mut self, id: Arc<str>, body: Arc<str>, now: Instant, visible_at: Instant) {
        let key = self.next;
        self.next += 1;
        let hidden_until = (visible_at > now).then_some(visible_at);
        match hidden_until {
            Some(until) => self.hidden.push(Reverse((until, key))),
            None => self.ready.push_back(key),
        }
        self.messages.insert(
            key,
            Message {
                id,
                body,
                receives: 0,
                hidden_until,
            },
        );
    }

    /// Receives up to `most` messages and hides them for `visibility`. `pick` gets the number of visible
    /// messages and chooses the index of the next one. The second list has the messages with too many
    /// receives, which are removed from the queue.
    pub fn receive(
        &mut self,
        most: usize,
        visibility: Duration,
        now: Instant,
        mut pick: impl FnMut(usize) -> usize,
    ) -> (Vec<Received>, Vec<Received>) {
        self.reveal(now);
        let (mut received, mut exhausted) = (Vec::new(), Vec::new());
        while received.len() < most && !self.ready.is_empty() {
            let chosen = pick(self.ready.len()).min(self.ready.len() - 1);
            self.ready.swap(0, chosen);
            let Some(key) = self.ready.pop_front() else { break };
            let Some(message) = self.messages.get_mut(&key) else {
                continue;
            };
            if message.receives >= self.most_receives {
                exhausted.push(handed_out(key, message));
                self.messages.remove(&key);
                continue;
            }
            message.receives += 1;
            received.push(handed_out(key, message));
            let until = now + visibility;
            message.hidden_until = Some(until);
            self.hidden.push(Reverse((until, key)));
        }
        (received, exhausted)
    }

    /// Removes up to `most` messages in any state, oldest first, and returns their bodies.
    pub fn take(&mut self, most: usize) -> Vec<Arc<str>> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some((_, message)) = self.messages.pop_first()
        {
            taken.push(message.body);
        }
        if self.messages.is_empty() {
            self.ready.clear();
            self.hidden.clear();
        }
        taken
    }

    /// Deletes a message if this is its newest receipt handle, and returns it.
    pub fn delete(&mut self, receipt: &str) -> Option<Received> {
        let key = self.newest(receipt)?;
        self.messages
            .remove(&key)
            .map(|message| handed_out(key, &message))
    }

    /// Hides a message for `visibility` from now on, if this is its newest receipt handle and it is in
    /// flight.
    pub fn change_visibility(&mut self, receipt: &str, visibility: Duration, now: Instant) -> bool {
        self.reveal(now);
        let Some(key) = self.newest(receipt) else {
            return false;
        };
        let Some(message) = self.messages.get_mut(&key) else {
            return false;
        };
        if message.hidden_until.is_none() {
            return false;
        }
        let until = now + visibility;
        message.hidden_until = Some(until);
        self.hidden.push(Reverse((until, key)));
        true
    }

    /// The number of messages in each state at `now`.
    pub fn sizes(&mut self, now: Instant) -> Sizes {
        self.reveal(now);
        let mut sizes = Sizes::default();
        for message in self.messages.values() {
            match message.hidden_until {
                None => sizes.visible += 1,
                Some(_) if message.receives == 0 => sizes.delayed += 1,
                Some(_) => sizes.in_flight += 1,
            }
        }
        sizes
    }

    /// Whether the queue has no message in any state.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The bodies of all messages in any state.
    pub fn bodies(&self) -> Vec<Arc<str>> {
        self.messages
            .values()
            .map(|message| Arc::clone(&message.body))
            .collect()
    }

    fn newest(&self, receipt: &str) -> Option<u64> {
        let (key, receives) = receipt.split_once('-')?;
        let (key, receives) = (key.parse().ok()?, receives.parse::<u32>().ok()?);
        let message = self.messages.get(&key)?;
        (message.receives == receives).then_some(key)
    }

    fn reveal(&mut self, now: Instant) {
        while let Some(Reverse((until, key))) = self.hidden.peek().copied() {
            if until > now {
                break;
            }
            self.hidden.pop();
            // Otherwise the message was deleted, or its visibility timeout was changed.
            if let Some(message) = self.messages.get_mut(&key)
                && message.hidden_until == Some(until)
            {
                message.hidden_until = None;
                self.ready.push_back(key);
            }
        }
    }
}

fn handed_out(key: u64, message: &Message) -> Received {
    Received {
        message_id: Arc::clone(&message.id),
        receipt: format!("{key}-{}", message.receives),
        body: Arc::clone(&message.body),
        receives: message.receives,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VISIBILITY: Duration = Duration::from_secs(10);

    fn queue(bodies: &[&str], now: Instant) -> Queue {
        let mut queue = Queue::new(10);
        for body in bodies {
            queue.send((*body).into(), (*body).into(), now, now);
        }
        queue
    }

    fn receive(queue: &mut Queue, now: Instant) -> Vec<Received> {
        queue.receive(10, VISIBILITY, now, |_| 0).0
    }

    #[test]
    fn a_received_message_is_hidden_until_its_visibility_timeout_and_then_comes_again() {
        let now = Instant::now();
        let mut queue = queue(&["a"], now);
        assert_eq!(receive(&mut queue, now).len(), 1);
        assert!(receive(&mut queue, now + Duration::from_millis(9_999)).is_empty());
        let again = receive(&mut queue, now + VISIBILITY);
        assert_eq!(again[0].receives, 2);
    }

    #[test]
    fn changing_the_visibility_brings_a_message_back_sooner_or_later() {
        let now = Instant::now();
        let mut queue = queue(&["a", "b"], now);
        let received = receive(&mut queue, now);
        let second = Duration::from_secs(1);
        assert!(queue.change_visibility(&received[0].receipt, second, now));
        assert!(queue.change_visibility(&received[1].receipt, 2 * VISIBILITY, now));
        assert_eq!(receive(&mut queue, now + second)[0].body.as_ref(), "a");
        assert!(!queue.change_visibility(&received[0].receipt, second, now));
        let later = receive(&mut queue, now + second + VISIBILITY);
        assert_eq!(
            later
                .iter()
                .map(|message| message.body.as_ref())
                .collect::<Vec<_>>(),
            ["a"]
        );
        assert_eq!(receive(&mut queue, now + 2 * VISIBILITY)[0].body.as_ref(), "b");
    }

    #[test]
    fn only_the_newest_receipt_deletes() {
        let now = Instant::now();
        let mut queue = queue(&["a"], now);
        let old = receive(&mut queue, now);
        let new = receive(&mut queue, now + VISIBILITY);
        assert!(queue.delete(&old[0].receipt).is_none());
        assert!(queue.delete(&new[0].receipt).is_some() && queue.is_empty());
    }

    #[test]
    fn messages_are_taken_oldest_first_in_any_state() {
        let now = Instant::now();
        let mut queue = queue(&["a", "b"], now);
        queue.send("c".into(), "c".into(), now, now + VISIBILITY);
        assert_eq!(receive(&mut queue, now).len(), 2);
        assert_eq!(
            queue.take(2).iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
            ["a", "b"]
        );
        assert_eq!(receive(&mut queue, now + VISIBILITY)[0].body.as_ref(), "c");
        assert_eq!((queue.take(2).len(), queue.is_empty()), (1, true));
    }

    #[test]
    fn a_message_is_set_aside_after_ten_receives() {
        let mut now = Instant::now();
        let mut queue = queue(&["a"], now);
        for _ in 0..10 {
            assert_eq!(receive(&mut queue, now).len(), 1);
            now += VISIBILITY;
        }
        let (received, exhausted) = queue.receive(10, VISIBILITY, now, |_| 0);
        assert!(received.is_empty() && exhausted.len() == 1 && queue.is_empty());
    }

    #[test]
    fn a_delayed_message_comes_after_its_delay_and_the_order_is_what_was_picked() {
        let now = Instant::now();
        let mut queue = queue(&["a", "b", "c"], now);
        queue.send("d".into(), "d".into(), now, now + VISIBILITY);
        assert_eq!(queue.sizes(now).delayed, 1);
        let (received, _) = queue.receive(10, 2 * VISIBILITY, now, |count| count - 1);
        let bodies: Vec<&str> = received.iter().map(|message| message.body.as_ref()).collect();
        assert_eq!(bodies, ["c", "a", "b"]);
        assert_eq!(receive(&mut queue, now + VISIBILITY)[0].body.as_ref(), "d");
        let sizes = queue.sizes(now + VISIBILITY);
        assert_eq!((sizes.in_flight, sizes.total()), (4, 4));
    }
}
