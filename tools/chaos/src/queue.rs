//! A standard queue of SQS, without the network: visibility, receipts, redelivery.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a message is handed out before it is set aside: `maxReceiveCount` of the template.
pub(crate) const MAX_RECEIVES: u32 = 10;

/// A message that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// SQS's name of the message. A duplicate has the same.
    pub(crate) message_id: Arc<str>,
    /// What deleting it takes; another one each time.
    pub(crate) receipt: String,
    /// What was sent.
    pub(crate) body: Arc<str>,
    /// How often it was handed out, this time included.
    pub(crate) receives: u32,
    /// When it was sent, in milliseconds of the Unix epoch.
    pub(crate) sent_ms: i64,
}

/// How many messages are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Ready to be received.
    pub(crate) visible: usize,
    /// Received and not deleted.
    pub(crate) in_flight: usize,
    /// Not yet to be received.
    pub(crate) delayed: usize,
}

impl Sizes {
    /// All together.
    #[cfg(test)]
    pub(crate) fn total(self) -> usize {
        self.visible + self.in_flight + self.delayed
    }
}

struct Message {
    id: Arc<str>,
    body: Arc<str>,
    receives: u32,
    sent_ms: i64,
    /// While it is hidden.
    hidden_until: Option<Instant>,
}

/// The queue.
pub(crate) struct Queue {
    most_receives: u32,
    messages: HashMap<u64, Message>,
    ready: VecDeque<u64>,
    hidden: BinaryHeap<Reverse<(Instant, u64)>>,
    next: u64,
}

impl Queue {
    /// An empty one, which hands a message out this often at most.
    pub(crate) fn new(most_receives: u32) -> Self {
        Self {
            most_receives,
            messages: HashMap::new(),
            ready: VecDeque::new(),
            hidden: BinaryHeap::new(),
            next: 0,
        }
    }

    /// Adds a message that can be received from `visible_at` on.
    pub(crate) fn send(
        &mut self,
        id: Arc<str>,
        body: Arc<str>,
        sent_ms: i64,
        now: Instant,
        visible_at: Instant,
    ) {
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
                sent_ms,
                hidden_until,
            },
        );
    }

    /// Hands out up to `most` messages and hides them. `pick` chooses which of so many comes next. Messages that were handed
    /// out too often already come second, taken out of the queue.
    pub(crate) fn receive(
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

    /// Deletes a message, if this is its newest receipt. Returns its body.
    pub(crate) fn delete(&mut self, receipt: &str) -> Option<Received> {
        let key = self.newest(receipt)?;
        self.messages
            .remove(&key)
            .map(|message| handed_out(key, &message))
    }

    /// Hides a message for so long from now, if this is its newest receipt and it is in flight.
    pub(crate) fn change_visibility(&mut self, receipt: &str, visibility: Duration, now: Instant) -> bool {
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

    /// How many messages there are.
    pub(crate) fn sizes(&mut self, now: Instant) -> Sizes {
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

    /// Whether there is nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The bodies of all messages.
    pub(crate) fn bodies(&self) -> Vec<Arc<str>> {
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
            // Else it was deleted, or hidden anew.
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
        sent_ms: message.sent_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VISIBILITY: Duration = Duration::from_secs(10);

    fn queue(bodies: &[&str], now: Instant) -> Queue {
        let mut queue = Queue::new(MAX_RECEIVES);
        for body in bodies {
            queue.send((*body).into(), (*body).into(), 0, now, now);
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
    fn a_message_is_set_aside_after_ten_receives() {
        let mut now = Instant::now();
        let mut queue = queue(&["a"], now);
        for _ in 0..MAX_RECEIVES {
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
        queue.send("d".into(), "d".into(), 0, now, now + VISIBILITY);
        assert_eq!(queue.sizes(now).delayed, 1);
        let (received, _) = queue.receive(10, 2 * VISIBILITY, now, |count| count - 1);
        let bodies: Vec<&str> = received.iter().map(|message| message.body.as_ref()).collect();
        assert_eq!(bodies, ["c", "a", "b"]);
        assert_eq!(receive(&mut queue, now + VISIBILITY)[0].body.as_ref(), "d");
        let sizes = queue.sizes(now + VISIBILITY);
        assert_eq!((sizes.in_flight, sizes.total()), (4, 4));
    }
}
