//! Who knows what at one moment.

use std::fmt;

/// How many commands there can be: two uploads and one change of a membership.
pub(super) const COMMANDS: usize = 3;

/// The command that adds or removes the user of [`NEWCOMER`]. Lower ones are uploads: the n-th to commit is n - 1 and its
/// change has the number n.
pub(super) const MEMBERSHIP: usize = 2;

/// How many devices there can be, each of its own user. The first one's is always a member of the shared space.
pub(super) const DEVICES: usize = 2;

/// The device whose user's membership changes.
pub(super) const NEWCOMER: usize = 1;

/// How often a device connects at most.
pub(super) const CONNECTIONS: usize = 2;

/// How many connection ids API Gateway has for a device: enough for one to be given again, or not.
pub(super) const IDS: usize = 2;

/// A set of small numbers.
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

    /// One more than the greatest, 0 for none.
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

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// Who carries out each command.
    pub(super) writers: [Writer; COMMANDS],
    /// Commands whose transaction is committed. Its change and outbox row are in the same transaction.
    pub(super) committed: Set,
    /// Commands whose event has ever been in the queue.
    pub(super) announced: Set,
    /// The outbox row of each command.
    pub(super) outbox: [Outbox; COMMANDS],
    /// Invocations of relay-events that may run at once, in order, for they are alike.
    pub(super) relays: [Relay; 2],
    /// Messages to be received, in order, for their order means nothing.
    pub(super) queue: Vec<Message>,
    /// Invocations of fan-out that may run at once, in order.
    pub(super) fan_outs: [FanOut; 2],
    /// Devices whose user is a member of the shared space.
    pub(super) members: Set,
    /// How many changes the shared space had when the newcomer's user was removed.
    pub(super) removed_after: Option<usize>,
    /// The devices and what API Gateway and the database know of each.
    pub(super) devices: [Device; DEVICES],
    /// How many more things may go wrong.
    pub(super) faults: usize,
    /// A frame was addressed to somebody who was no member of its space at that moment.
    pub(super) addressed_a_stranger: bool,
    /// A frame reached somebody with a change that was committed after the removal.
    pub(super) leaked: bool,
}

/// One request that makes a change, from `commands::begin` to its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Writer {
    /// Nobody has asked yet, or the function that did it is dead and the client may ask again.
    #[default]
    Idle,
    /// Has its number but has not committed. Only with numbers that are not taken under the lock.
    Numbered,
    /// Has committed and not sent yet.
    Committed,
    /// Has answered 2xx.
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

/// One invocation of relay-events. A batch of rows is handled row by row: what is done to one says nothing of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Relay {
    #[default]
    Idle,
    /// Has this row's lease and has not sent yet.
    Claimed(usize),
}

/// A `model::Message` in the queue, or in the dead-letter queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Message {
    /// The command whose event it carries.
    pub(super) event: usize,
    /// `model::Recipients`: all, or only the connection ids that an earlier attempt did not reach, by [`address`]. There are not
    /// so many that an audience comes in pages.
    pub(super) to: Set,
}

/// Names an id of a device in [`Message::to`].
pub(super) fn address(device: usize, id: usize) -> usize {
    device * IDS + id
}

/// One invocation of fan-out; idle if it has no batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FanOut {
    /// The messages that it received. They are invisible to others until it is done or dead.
    pub(super) batch: Vec<Message>,
    /// Who is still to be dealt with. Who has got a frame is left out.
    pub(super) recipients: Vec<Recipient>,
    /// The shared space's audience, kept for later batches. Only where the rule against that is broken.
    pub(super) remembered: Vec<Recipient>,
}

/// A connection as the audience's query found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Recipient {
    pub(super) device: usize,
    pub(super) id: usize,
    /// Which connection of the device its row was of.
    pub(super) connection: usize,
    /// The changes to post to it, in one frame.
    pub(super) frame: Set,
    pub(super) outcome: Outcome,
}

/// What became of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Outcome {
    /// It is still to be made.
    Waiting,
    /// 410, and dead.
    Dead,
    /// To be carried over.
    Failed,
}

/// A device and its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Device {
    pub(super) phase: Phase,
    /// How many connections it has made so far. The newest is its only one.
    pub(super) connections: usize,
    /// The newest connection's id.
    pub(super) id: usize,
    /// What is behind each id.
    pub(super) ids: [Id; IDS],
    /// The number of the shared space's newest change that it knows.
    pub(super) cursor: usize,
    /// The changes that it really has.
    pub(super) held: Set,
}

/// What a device is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    #[default]
    Offline,
    /// Offline, has pulled and will not do so after connecting. Only where that rule is broken.
    Prepared,
    /// Its handshake is under way.
    Connecting,
    /// Connected, and has to pull: because it has only just connected, or because it saw a number jump.
    Behind,
    /// Connected, and believes that it knows all or will be told.
    Live,
}

/// One of API Gateway's connection ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Id {
    /// Which connection of the device the row of `connections` is of, if there is one. Stands for `connected_at`. The table's
    /// primary key is the id.
    pub(super) row: Option<usize>,
    pub(super) socket: Socket,
    /// A `$disconnect` is under way. Only where ids may be given again before that.
    pub(super) disconnecting: bool,
}

/// What API Gateway thinks of an id, and so what a post to it comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Socket {
    /// 410.
    #[default]
    Closed,
    /// `$connect` is running: 410.
    Connecting,
    /// The device gets it.
    Open,
    /// The device has gone and API Gateway has not noticed: posts succeed and nobody gets them.
    Abandoned,
}
