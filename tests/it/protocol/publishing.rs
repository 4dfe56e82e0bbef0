//! From a request to the queue: the functions that make changes, the outbox and `maintenance`.

use super::state::{COMMANDS, MEMBERSHIP, Message, NEWCOMER, Outbox, Relay, Set, State, Writer};
use super::{Action, Broken, Protocol};

impl Protocol {
    /// Adds the possible steps of requests.
    pub(super) fn offer_writing(&self, state: &State, actions: &mut Vec<Action>) {
        for command in 0..COMMANDS {
            if !self.scope.commands().has(command) {
                continue;
            }
            let is_in_outbox = |change| state.outbox[change] != Outbox::None;
            match state.writers[command] {
                Writer::Idle if state.committed.has(command) => actions.push(Action::AnswerAgain(command)),
                Writer::Idle => self.offer_beginning(state, command, actions),
                Writer::Numbered => actions.push(Action::Commit(command)),
                Writer::Committed => {
                    if self.breaks(Broken::RowDeletedBeforeSending)
                        && self.scope.changes_of(command).iter().any(is_in_outbox)
                    {
                        actions.push(Action::DeleteRow(command));
                        continue;
                    }
                    actions.push(Action::Publish(command));
                    if state.faults > 0 {
                        for sent in [false, true] {
                            actions.push(Action::PublishFails { command, sent });
                            actions.push(Action::WriterDies { command, sent });
                        }
                    }
                }
                Writer::Answered => {}
            }
        }
    }

    fn offer_beginning(&self, state: &State, command: usize, actions: &mut Vec<Action>) {
        // Uploads are interchangeable: the upload that gets its number first has the lowest index.
        let first =
            |earlier: &usize| state.writers[*earlier] == Writer::Idle && !state.committed.has(*earlier);
        if command != MEMBERSHIP && (0..command).any(|earlier| first(&earlier)) {
            return;
        }
        if self.breaks(Broken::NumbersWithoutLock) && command != MEMBERSHIP {
            actions.push(Action::TakeNumber(command));
        } else {
            actions.push(Action::Commit(command));
        }
        if self.breaks(Broken::UnsureCommitAnswered) && state.faults > 0 {
            actions.push(Action::CommitFails(command));
        }
    }

    /// Adds the possible steps of outbox rows and relays.
    pub(super) fn offer_relaying(&self, state: &State, actions: &mut Vec<Action>) {
        for (command, row) in state.outbox.iter().enumerate() {
            match row {
                Outbox::Leased => {
                    let early = self.is_held(state, command);
                    if !early || state.faults > 0 {
                        actions.push(Action::LeaseRunsOut { command, early });
                    }
                }
                Outbox::Free if !self.breaks(Broken::NoRelay) => {
                    // Idle relays are interchangeable.
                    let idle = state.relays.iter().position(|relay| *relay == Relay::Idle);
                    actions.extend(idle.map(|relay| Action::Claim { relay, command }));
                }
                Outbox::Free | Outbox::None => {}
            }
        }
        for (relay, doing) in state.relays.iter().enumerate() {
            if *doing != Relay::Idle {
                actions.push(Action::RelayPublishes(relay));
                if state.faults > 0 {
                    for sent in [false, true] {
                        actions.push(Action::RelayDies { relay, sent });
                    }
                }
            }
        }
    }
}

impl Protocol {
    /// Whether the holder of the row's lease is still running.
    fn is_held(&self, state: &State, change: usize) -> bool {
        state.writers[self.scope.command_of(change)] == Writer::Committed
            || state.relays.contains(&Relay::Claimed(change))
    }

    /// The changes of a message that `queue::publish` sends for a command: `Message::pack`.
    pub(super) fn packed(&self, command: usize) -> Set {
        let mut packed = self.scope.changes_of(command);
        let last = packed.end() - 1;
        if self.breaks(Broken::LastChangeLost) && packed != Set::of(last) {
            packed.remove(last);
        }
        packed
    }
}

impl State {
    /// Broken rule: takes a number from a counter that does not lock out other transactions.
    pub(super) fn take_number(&mut self, command: usize) {
        self.writers[command] = Writer::Numbered;
    }

    /// `db::changes::command!` and `Database::command`, for `uploads::COMPLETE_UPLOAD`, `spaces::SET_MEMBER`
    /// and `spaces::REMOVE_MEMBER`. One transaction takes the next sequence number and writes the change and
    /// the outbox row, leased to the writer. It holds the space's lock from before it takes the number until
    /// the commit. Nothing of it is visible before the commit, so it is one step. Membership changes lock the
    /// shared space too, and are therefore ordered among its changes. A batch (`Database::complete_uploads`)
    /// makes several changes in one transaction, with consecutive numbers.
    ///
    /// A commit that fails, or a crash before the commit, changes nothing and is not modelled. A commit whose
    /// response is lost is modelled as a writer that dies after the commit: the client receives no 2xx, or
    /// `Database` repeats the statement and finds the change already applied.
    pub(super) fn commit(&mut self, command: usize, changes: Set) {
        for change in changes.iter() {
            self.committed.insert(change);
            self.outbox[change] = Outbox::Leased;
        }
        self.writers[command] = Writer::Committed;
        if command != MEMBERSHIP {
            return;
        }
        if self.members.has(NEWCOMER) {
            self.members.remove(NEWCOMER);
            self.removed_after = Some(self.shared().end());
        } else {
            self.members.insert(NEWCOMER);
        }
    }

    /// Broken rule: treats a failed commit as successful.
    pub(super) fn commit_fails(&mut self, command: usize) {
        self.writers[command] = Writer::Answered;
    }

    /// `db::Effect::AlreadyApplied` and `commands::finish`: a repeated request gets the same response and
    /// sends no event.
    pub(super) fn answer_again(&mut self, command: usize) {
        self.writers[command] = Writer::Answered;
    }

    /// `queue::publish`: `SendMessage`, then `db::outbox::REMOVE_PUBLISHED`, then the response. Between the
    /// two, only a relay that claims the row after its lease has expired sees the row, and the relay could
    /// have claimed it before. So this is one step. [`Self::publish_fails`] and [`Self::writer_dies`] model
    /// an end in the middle of it.
    pub(super) fn publish(&mut self, command: usize, changes: Set, packed: Set) {
        self.announce(packed);
        self.delete_rows(changes);
        self.writers[command] = Writer::Answered;
    }

    /// Deletes the outbox rows of a command; before sending the message if that rule is broken.
    pub(super) fn delete_rows(&mut self, changes: Set) {
        for change in changes.iter() {
            self.outbox[change] = Outbox::None;
        }
    }

    /// `queue::publish`: if sending the message or deleting the row fails, the row remains, a warning is
    /// logged and the response is 2xx. The queue may have accepted the message nevertheless.
    /// `db::outbox::RELEASE_EVENTS` ends the lease, which another relay may hold by then.
    pub(super) fn publish_fails(&mut self, command: usize, changes: Set, sent: Set) {
        self.writer_dies(command, sent);
        self.writers[command] = Writer::Answered;
        for change in changes.iter() {
            if self.outbox[change] != Outbox::None {
                self.outbox[change] = Outbox::Free;
            }
        }
    }

    /// Lambda ends the function before or after it has sent the message with its events. The client receives no
    /// response.
    pub(super) fn writer_dies(&mut self, command: usize, sent: Set) {
        if !sent.is_empty() {
            self.announce(sent);
        }
        self.writers[command] = Writer::Idle;
    }

    /// The lease (`commands::OUTBOX_LEASE`, or a relay's) expires. It is longer than its holder can run, so
    /// an expiry during the holder's life counts as a fault.
    pub(super) fn lease_runs_out(&mut self, command: usize) {
        self.outbox[command] = Outbox::Free;
    }

    /// `db::outbox::CLAIM_EVENTS`: a relay claims a row whose lease has expired, in one statement.
    pub(super) fn claim(&mut self, relay: usize, command: usize, broken: bool) {
        self.outbox[command] = if broken { Outbox::None } else { Outbox::Leased };
        self.relays[relay] = Relay::Claimed(command);
    }

    /// `maintenance::publish`, for one row: `SendMessageBatch`, then `db::outbox::REMOVE_PUBLISHED` if the
    /// row still exists. It is one step for the reason given at [`Self::publish`].
    pub(super) fn relay_publishes(&mut self, relay: usize) {
        if let Relay::Claimed(command) = self.relays[relay] {
            self.announce(Set::of(command));
            self.outbox[command] = Outbox::None;
        }
        self.relays[relay] = Relay::Idle;
    }

    /// Lambda ends the function, or sending or deleting fails. The row's lease is released or expires later.
    pub(super) fn relay_dies(&mut self, relay: usize, sent: bool) {
        if let (Relay::Claimed(command), true) = (self.relays[relay], sent) {
            self.announce(Set::of(command));
        }
        self.relays[relay] = Relay::Idle;
    }

    fn announce(&mut self, events: Set) {
        self.announced = self.announced.and(events);
        self.queue.push(Message { events, to: Set::ALL });
    }
}
