//! A model of the protocol from a commit to a device. The checker (stateright) explores every history in a
//! small scope.
//!
//! The other tests run the code and see some histories. This one does not run the code; it explores all
//! histories of a few functions, a queue and a few devices with a limited number of faults: every order of
//! steps, every crash between two steps, every duplicate. Each rule of the code is a function here, and its
//! comment names the code that it models. A change to one requires a change to the other. The second half of
//! this file shows that the model detects errors: it breaks one rule at a time, and the checker finds a
//! history that violates a property.
//!
//! The model has no durations. Something that takes a bounded time in reality either has happened or has not,
//! and the bound appears as a rule: a connection can be old only after its `$connect` has ended. Faults can
//! occur at any time, but at most [`Scope::faults`] times in a history.
//!
//! Some properties apply to all states, others to all states in which the service has nothing left to do. No
//! property says that such a state is reached: stateright checks that only on paths without a cycle, and a
//! post that is retried without end is a cycle. The model checks instead that some step is always possible.

mod bases;
mod checking;
mod delivering;
mod devices;
mod publishing;
mod purges;
mod state;

use std::time::Instant;

use checking::{ANNOUNCED, CURSORS, FINAL, GAPLESS, NO_LEAK, NO_STRANGER, NOBODY_DEAF};
use state::{MEMBERSHIP, Set};
use stateright::{Checker as _, Model as _};
use tests::report;

/// Size of the modelled system. There are always two fan-outs and two relays, and each device can connect
/// twice.
#[derive(Clone, Copy, Debug)]
struct Scope {
    uploads: usize,
    /// Whether one request completes all uploads.
    batch: bool,
    /// Whether the second user is removed from or added to the shared space.
    membership: bool,
    devices: Set,
    /// Maximum number of faults of any kind in one history.
    faults: usize,
}

impl Scope {
    /// All changes.
    fn changes(&self) -> Set {
        let uploads = Set::up_to(self.uploads);
        if self.membership {
            uploads.and(Set::of(MEMBERSHIP))
        } else {
            uploads
        }
    }

    /// The changes that a command makes in one transaction.
    fn changes_of(&self, command: usize) -> Set {
        if self.batch && command == 0 {
            Set::up_to(self.uploads)
        } else {
            Set::of(command)
        }
    }

    /// The command that makes a change.
    fn command_of(&self, change: usize) -> usize {
        if self.batch && change < self.uploads {
            0
        } else {
            change
        }
    }

    fn commands(&self) -> Set {
        let mut commands = Set::EMPTY;
        for change in self.changes().iter() {
            commands.insert(self.command_of(change));
        }
        commands
    }
}

/// One member's device and two uploads: the path from a commit to a device with every possible fault.
const ONE_MEMBER: Scope = Scope {
    uploads: 2,
    batch: false,
    membership: false,
    devices: Set::MEMBER,
    faults: 2,
};

/// One member's device and two uploads that one request completes.
const BATCH: Scope = Scope {
    batch: true,
    ..ONE_MEMBER
};

/// The device of a user who is removed or added before, between or after two uploads.
const ONE_NEWCOMER: Scope = Scope {
    uploads: 2,
    batch: false,
    membership: true,
    devices: Set::NEWCOMER,
    faults: 1,
};

/// Both devices: the audience has more than one connection and changes during a delivery.
const BOTH: Scope = Scope {
    uploads: 1,
    batch: false,
    membership: true,
    devices: Set::BOTH,
    faults: 1,
};

/// Both devices, two uploads and a membership change, without faults.
const ALL: Scope = Scope {
    uploads: 2,
    batch: false,
    membership: true,
    devices: Set::BOTH,
    faults: 0,
};

/// Rules that a test can break, each described by the broken behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// A message with several changes lacks the last one.
    LastChangeLost,
    /// `maintenance` does not run.
    NoRelay,
    /// A writer deletes the outbox row before it sends the message.
    RowDeletedBeforeSending,
    /// A relay deletes the outbox row before it sends the message.
    RelayDeletesBeforeSending,
    /// A command whose commit failed is answered with success.
    UnsureCommitAnswered,
    /// Sequence numbers come from a counter that is not locked until the commit.
    NumbersWithoutLock,
    /// Recipients named in a message are not checked for membership again.
    CarryOverUnchecked,
    /// A fan-out reuses the audience of one batch for the next.
    AudienceRemembered,
    /// Every 410 means that the connection is gone, whatever its age.
    NoAgeGuard,
    /// The age of a connection that answered 410 is computed after the post, not before.
    AgeReadAfterPosting,
    /// A gone connection is deleted by its id alone, without comparing `connected_at`.
    DeadByIdAlone,
    /// API Gateway reuses an id before the `$disconnect` of the former connection has run.
    LateDisconnect,
    /// A device applies a change even if an earlier sequence number is missing.
    JumpsIgnored,
    /// A device pulls before it connects, and not again afterwards.
    PullBeforeConnecting,
}

/// The protocol in a scope, with at most one broken rule.
#[derive(Clone, Copy, Debug)]
struct Protocol {
    scope: Scope,
    broken: Option<Broken>,
    /// Name of the only property to check; all properties if `None`.
    only: Option<&'static str>,
}

impl Protocol {
    fn breaks(&self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }
}

/// A step. Each variant has a function of the same name, whose comment names the code that it models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    TakeNumber(usize),
    Commit(usize),
    CommitFails(usize),
    AnswerAgain(usize),
    Publish(usize),
    PublishFails {
        command: usize,
        sent: bool,
    },
    WriterDies {
        command: usize,
        sent: bool,
    },
    DeleteRow(usize),
    LeaseRunsOut {
        command: usize,
        early: bool,
    },
    Claim {
        relay: usize,
        command: usize,
    },
    RelayPublishes(usize),
    RelayDies {
        relay: usize,
        sent: bool,
    },
    Receive {
        fan_out: usize,
        first: usize,
        second: Option<usize>,
        again: bool,
    },
    Post {
        fan_out: usize,
        recipient: usize,
        old: bool,
    },
    PostFails {
        fan_out: usize,
        recipient: usize,
        reached: bool,
    },
    Forget(usize),
    FanOutDies(usize),
    Connect {
        device: usize,
        id: usize,
    },
    Open(usize),
    HandshakeFails(usize),
    Pull(usize),
    Drop(usize),
    Notice {
        device: usize,
        id: usize,
        disconnect: bool,
    },
    Disconnect {
        device: usize,
        id: usize,
    },
}

/// Explores all histories in a scope and asserts every property.
fn check(name: &str, scope: Scope) {
    let began = Instant::now();
    let protocol = Protocol {
        scope,
        broken: None,
        only: None,
    };
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    let (states, steps) = (checker.unique_state_count(), checker.state_count());
    let seconds = began.elapsed().as_secs_f64();
    report(&format!(
        "protocol, {name}: {states} states, {steps} steps between them, in {seconds:.1} s"
    ));
}

/// Asserts that a broken rule violates a property, and reports the length of the history that shows it.
fn breaks(scope: Scope, broken: Broken, property: &'static str) {
    let protocol = Protocol {
        scope,
        broken: Some(broken),
        only: Some(property),
    };
    // With one thread, breadth-first search finds a history of minimal length.
    let checker = protocol.checker().spawn_bfs().join();
    let history = checker.assert_any_discovery(property).into_actions();
    let (steps, states) = (history.len(), checker.unique_state_count());
    report(&format!(
        "protocol, {broken:?}: not \"{property}\" after {steps} steps, found among {states} states"
    ));
}

#[test]
fn every_history_of_a_member_keeps_every_promise() {
    check("a member", ONE_MEMBER);
}

#[test]
fn every_history_of_a_batch_keeps_every_promise() {
    check("a batch", BATCH);
}

#[test]
fn every_history_of_a_newcomer_keeps_every_promise() {
    check("a newcomer", ONE_NEWCOMER);
}

#[test]
fn every_history_of_both_keeps_every_promise() {
    check("both", BOTH);
}

#[test]
fn every_history_without_faults_keeps_every_promise() {
    check("all, without faults", ALL);
}

#[test]
fn a_message_that_loses_its_last_change_leaves_it_unannounced() {
    breaks(BATCH, Broken::LastChangeLost, ANNOUNCED);
    breaks(BATCH, Broken::LastChangeLost, NOBODY_DEAF);
}

#[test]
fn without_the_relay_a_change_is_never_announced() {
    breaks(ONE_MEMBER, Broken::NoRelay, ANNOUNCED);
    breaks(ONE_MEMBER, Broken::NoRelay, NOBODY_DEAF);
}

#[test]
fn a_writer_that_deletes_the_row_before_sending_loses_a_change() {
    breaks(ONE_MEMBER, Broken::RowDeletedBeforeSending, ANNOUNCED);
}

#[test]
fn a_relay_that_deletes_the_row_before_sending_loses_a_change() {
    breaks(ONE_MEMBER, Broken::RelayDeletesBeforeSending, ANNOUNCED);
}

#[test]
fn answering_an_unsure_commit_promises_what_is_not_there() {
    breaks(ONE_MEMBER, Broken::UnsureCommitAnswered, FINAL);
}

#[test]
fn numbers_taken_without_the_lock_commit_out_of_order_and_a_device_misses_a_change() {
    breaks(ONE_MEMBER, Broken::NumbersWithoutLock, GAPLESS);
    breaks(ONE_MEMBER, Broken::NumbersWithoutLock, CURSORS);
    breaks(ONE_MEMBER, Broken::NumbersWithoutLock, NOBODY_DEAF);
}

#[test]
fn carrying_over_without_asking_again_addresses_who_was_removed() {
    breaks(BOTH, Broken::CarryOverUnchecked, NO_STRANGER);
}

#[test]
fn remembering_an_audience_tells_who_was_removed_what_came_after() {
    breaks(ONE_NEWCOMER, Broken::AudienceRemembered, NO_LEAK);
}

#[test]
fn without_the_age_guard_a_live_device_goes_deaf() {
    breaks(ONE_MEMBER, Broken::NoAgeGuard, NOBODY_DEAF);
}

#[test]
fn with_the_age_read_after_the_post_a_live_device_goes_deaf() {
    breaks(ONE_MEMBER, Broken::AgeReadAfterPosting, NOBODY_DEAF);
}

#[test]
fn with_the_dead_forgotten_by_id_alone_a_live_device_goes_deaf() {
    breaks(ONE_MEMBER, Broken::DeadByIdAlone, NOBODY_DEAF);
}

#[test]
fn with_a_disconnect_that_is_overtaken_by_its_id_a_live_device_goes_deaf() {
    breaks(ONE_MEMBER, Broken::LateDisconnect, NOBODY_DEAF);
}

#[test]
fn a_device_that_ignores_jumps_misses_a_change() {
    breaks(ONE_MEMBER, Broken::JumpsIgnored, NOBODY_DEAF);
}

#[test]
fn a_device_that_pulls_before_it_connects_misses_a_change() {
    breaks(ONE_MEMBER, Broken::PullBeforeConnecting, NOBODY_DEAF);
}
