//! The protocol from a commit to a device as a model, of which every history in a small world is checked.
//!
//! The other tests run the code and see some histories. This one runs none of it, and sees all histories that a few functions,
//! a queue and a few devices can have in which a few things go wrong: every order, every death between two steps, every
//! duplicate. A rule of the code is a function here, whose comment names the code that it stands for. When one changes, so does
//! the other. That the model would notice is what the second half is for: it breaks one rule at a time, and the checker shows
//! what comes of it.
//!
//! Time has no length. What takes a bounded time in reality either has happened or has not, and what the bound is good for is
//! in the rule: a connection can be old only once its `$connect` is over. What goes wrong can do so at any time, but only
//! [`Scope::faults`] times in a history.
//!
//! The properties are about all states, and some about all states in which the service has nothing left to do. None says that
//! such a state is reached: stateright looks for that only on paths without a cycle, and a post that is tried again and again
//! is one. That something can always be done is checked instead.

mod bases;
mod checking;
mod delivering;
mod devices;
mod publishing;
mod state;

use std::time::Instant;

use checking::{ANNOUNCED, CURSORS, FINAL, GAPLESS, NO_LEAK, NO_STRANGER, NOBODY_DEAF};
use state::{MEMBERSHIP, Set};
use stateright::{Checker as _, Model as _};
use tests::report;

/// How much of the world there is. There are always two fan-outs and two relays, and each device can connect twice.
#[derive(Clone, Copy, Debug)]
struct Scope {
    uploads: usize,
    /// Whether the second user's membership changes: that user may be removed, or be added.
    membership: bool,
    devices: Set,
    /// How many things go wrong at most, of any kind.
    faults: usize,
}

impl Scope {
    fn commands(&self) -> Set {
        let uploads = Set::up_to(self.uploads);
        if self.membership {
            uploads.and(Set::of(MEMBERSHIP))
        } else {
            uploads
        }
    }
}

/// A member's device, and two uploads: the path from a commit to a device with whatever may happen on it.
const ONE_MEMBER: Scope = Scope {
    uploads: 2,
    membership: false,
    devices: Set::MEMBER,
    faults: 2,
};

/// The device of somebody who is removed, or added, before, between or after two uploads.
const ONE_NEWCOMER: Scope = Scope {
    uploads: 2,
    membership: true,
    devices: Set::NEWCOMER,
    faults: 1,
};

/// Both devices, so that an audience is of several and changes while it is being told.
const BOTH: Scope = Scope {
    uploads: 1,
    membership: true,
    devices: Set::BOTH,
    faults: 1,
};

/// All that there is, when nothing goes wrong.
const ALL: Scope = Scope {
    uploads: 2,
    membership: true,
    devices: Set::BOTH,
    faults: 0,
};

/// A rule to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// There is no relay-events.
    NoRelay,
    /// A writer deletes the outbox row and then sends.
    RowDeletedBeforeSending,
    /// A relay deletes the outbox row and then sends.
    RelayDeletesBeforeSending,
    /// A commit that failed is answered as if it had not.
    UnsureCommitAnswered,
    /// Numbers come from a counter that does not make others wait for the commit.
    NumbersWithoutLock,
    /// Who is named in a message need not be a member any more.
    CarryOverUnchecked,
    /// A fan-out keeps the audience of one batch for the next.
    AudienceRemembered,
    /// 410 means dead.
    NoAgeGuard,
    /// Whether a connection was old enough for its 410 to mean dead is looked up after the post.
    AgeReadAfterPosting,
    /// A dead connection is forgotten by its id, without `connected_at`.
    DeadByIdAlone,
    /// API Gateway gives an id again before the `$disconnect` of its last connection has run.
    LateDisconnect,
    /// A device applies whatever comes.
    JumpsIgnored,
    /// A device pulls, and then connects.
    PullBeforeConnecting,
}

/// The protocol in a scope, with one rule broken or none.
#[derive(Clone, Copy, Debug)]
struct Protocol {
    scope: Scope,
    broken: Option<Broken>,
    /// The only property to check, if not all.
    only: Option<&'static str>,
}

impl Protocol {
    fn breaks(&self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }
}

/// A step. Each is a function of the same name, which says what code it stands for.
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

/// Checks all histories in a scope.
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

/// Checks that a property does not hold where a rule is broken, and says how soon.
fn breaks(scope: Scope, broken: Broken, property: &'static str) {
    let protocol = Protocol {
        scope,
        broken: Some(broken),
        only: Some(property),
    };
    // One thread finds one of the shortest histories.
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
