//! The state of the model: commands, queue, functions, devices and connections at one moment.

use std::fmt;

/// Maximum number of commands: two uploads and one membership change.
pub(super) const COMMANDS: usize = 3;

/// The command that adds or removes the user of [`NEWCOMER`]. Commands with lower indexes are uploads: the
/// n-th upload to commit has the index n - 1, and its change has the sequence number n. With
/// [`super::Scope::batch`], the first command commits all uploads.
pub(super) const MEMBERSHIP: usize = 2;

/// Maximum number of devices, each of a different user. The first device's user is always a member of the
/// shared space.
pub(super) const DEVICES: usize = 2;

/// The device whose user's membership changes.
pub(super) const NEWCOMER: usize = 1;

/// Maximum number of connections that a device makes.
pub(super) const CONNECTIONS: usize = 2;

/// Connection ids per device. With two, a later connection can either reuse the earlier id or get a new one.
pub(super) const IDS: usize = 2;

/// Set of small integers, stored as bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Set(u8);

impl Set {
    pub(super) const EMPTY: Self = Self(0);
    pub(super) const ALL: Self = Self(u8::MAX);
    pub(super) const MEMBER: Self = Self(1);
    pub(super) const NEWCOMER: Self = Self(1 << NEWCOMER);
    pub(super) const BOTH: Self = Self(1 | 1 << NEWCOMER);

    pub(super) fn of(member: usize) -> Self {
        Self(1 << member)
    }

    pub(super) fn up_to(end: usize) -> Self {
        Self((1 << end) - 1)
    }

    pub(super) fn has(self, member: usize) -> bool {
        self.0 & (1 << member) != 0
    }

    pub(super) fn includes(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn insert(&mut self, member: usize) {
        self.0 |= 1 << member;
    }

    pub(super) fn remove(&mut self, member: usize) {
        self.0 &= !(1 << member);
    }

    /// The largest element plus one; 0 for the empty set.
    pub(super) fn end(self) -> usize {
        (u8::BITS - self.0.leading_zeros()) as usize
    }

    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..self.end()).filter(move |member| self.has(*member))
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("all");
        }
        f.debug_set().entries(self.iter()).finish()
    }
}

/// State of the whole system.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// State of the request that carries out each command.
    pub(super) writers: [Writer; COMMANDS],
    /// Changes whose transaction is committed. The transaction includes the change and the outbox row. A change
    /// has the index of its command, or in a batch the index of its item.
    pub(super) committed: Set,
    /// Changes whose event has been sent to the queue at least once.
    pub(super) announced: Set,
    /// State of each change's outbox row.
    pub(super) outbox: [Outbox; COMMANDS],
    /// Concurrent invocations of `maintenance`. They are sorted because they are interchangeable.
    pub(super) relays: [Relay; 2],
    /// Messages in the queue. They are sorted because their order has no meaning.
    pub(super) queue: Vec<Message>,
    /// Concurrent invocations of `fan-out`, sorted.
    pub(super) fan_outs: [FanOut; 2],
    /// Devices whose user is a member of the shared space.
    pub(super) members: Set,
    /// Number of the shared space's changes when the newcomer's user was removed; `None` if never removed.
    pub(super) removed_after: Option<usize>,
    /// Each device, with the state of its connections in API Gateway and in the database.
    pub(super) devices: [Device; DEVICES],
    /// Number of faults that may still occur.
    pub(super) faults: usize,
    /// A frame was addressed to a user who was not a member of its space at that moment.
    pub(super) addressed_a_stranger: bool,
    /// A removed user received a change that was committed after the removal.
    pub(super) leaked: bool,
}

/// One request that makes a change, from `commands::begin` to its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Writer {
    /// The request has not been made, or its function died and the client may retry.
    #[default]
    Idle,
    /// Has a sequence number and has not committed. Used only if numbers are not taken under the lock.
    Numbered,
    /// Has committed and has not sent the event.
    Committed,
    /// Has responded 2xx.
    Answered,
}

/// A row of `outbox`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Outbox {
    #[default]
    None,
    /// `leased_until` is in the future.
    Leased,
    /// `leased_until` has passed: any relay may claim it.
    Free,
}

/// One invocation of `maintenance`. Rows of a batch are modelled one by one, because they are independent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Relay {
    #[default]
    Idle,
    /// Holds the lease of this change's row and has not sent the event.
    Claimed(usize),
}

/// A `model::Message` in the queue or in the dead-letter queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Message {
    /// Changes of one space that the message contains.
    pub(super) events: Set,
    /// `model::Recipients`, encoded with [`address`]: all recipients, or only the connection ids that an
    /// earlier attempt did not reach. Paging is not modelled, because the audience fits in one page.
    pub(super) to: Set,
}

/// Index of a device's connection id in [`Message::to`].
pub(super) fn address(device: usize, id: usize) -> usize {
    device * IDS + id
}

/// One invocation of `fan-out`; idle if its batch is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FanOut {
    /// Received messages. They are invisible to other invocations until this one ends.
    pub(super) batch: Vec<Message>,
    /// Recipients that have not yet received their frame.
    pub(super) recipients: Vec<Recipient>,
    /// Audience of the shared space, kept for later batches. Used only with
    /// [`super::Broken::AudienceRemembered`].
    pub(super) remembered: Vec<Recipient>,
}

/// A connection as returned by the audience query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Recipient {
    pub(super) device: usize,
    pub(super) id: usize,
    /// Index, among the device's connections, of the connection that the row described.
    pub(super) connection: usize,
    /// Changes to post to the connection, in one frame.
    pub(super) frame: Set,
    pub(super) outcome: Outcome,
}

/// Result of a post to a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Outcome {
    /// Not posted yet.
    Waiting,
    /// Answered 410, and the connection is old enough to be gone.
    Dead,
    /// Failed; the recipient will be queued again.
    Failed,
}

/// A device and its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Device {
    pub(super) phase: Phase,
    /// Number of connections made so far. Only the newest can be open.
    pub(super) connections: usize,
    /// Id of the newest connection.
    pub(super) id: usize,
    /// State of each connection id.
    pub(super) ids: [Id; IDS],
    /// Sequence number of the newest change of the shared space that the device has processed.
    pub(super) cursor: usize,
    /// Changes that the device has received.
    pub(super) held: Set,
}

/// Phase of a device's connection and synchronisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    #[default]
    Offline,
    /// Offline; has pulled and will not pull after connecting. Used only with
    /// [`super::Broken::PullBeforeConnecting`].
    Prepared,
    /// The WebSocket handshake is running.
    Connecting,
    /// Connected and about to pull, because it has just connected or a sequence number was missing.
    Behind,
    /// Connected; expects to receive every further change in a frame.
    Live,
}

/// One of API Gateway's connection ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Id {
    /// Index of the device's connection in the row of `connections`; `None` without a row. It stands for
    /// `connected_at`. The id is the table's primary key.
    pub(super) row: Option<usize>,
    pub(super) socket: Socket,
    /// A `$disconnect` of an earlier connection has not run yet. Used only with
    /// [`super::Broken::LateDisconnect`].
    pub(super) disconnecting: bool,
}

/// State of an id in API Gateway, which decides the result of a post.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Socket {
    /// Posts are answered 410.
    #[default]
    Closed,
    /// `$connect` is running; posts are answered 410.
    Connecting,
    /// Posts succeed and reach the device.
    Open,
    /// The device is gone and API Gateway has not noticed: posts succeed and reach no device.
    Abandoned,
}
