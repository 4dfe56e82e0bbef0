//! From a request to the queue: the functions that make changes, the outbox, and relay-events.

use super::state::{COMMANDS, MEMBERSHIP, Message, NEWCOMER, Outbox, Relay, Set, State, Writer};
use super::{Action, Broken, Protocol};

impl Protocol {
    /// What can happen to requests.
    pub(super) fn offer_writing(&self, state: &State, actions: &mut Vec<Action>) {
        for command in 0..COMMANDS {
            if !self.scope.commands().has(command) {
                continue;
            }
            match state.writers[command] {
                Writer::Idle if state.committed.has(command) => actions.push(Action::AnswerAgain(command)),
                Writer::Idle => self.offer_beginning(state, command, actions),
                Writer::Numbered => actions.push(Action::Commit(command)),
                Writer::Committed => {
                    if self.breaks(Broken::RowDeletedBeforeSending) && state.outbox[command] != Outbox::None {
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
        // Uploads are alike: the first to be given its number is called the first.
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

    /// What can happen to outbox rows.
    pub(super) fn offer_relaying(&self, state: &State, actions: &mut Vec<Action>) {
        for (command, row) in state.outbox.iter().enumerate() {
            match row {
                Outbox::Leased => {
                    let early = state.is_held(command);
                    if !early || state.faults > 0 {
                        actions.push(Action::LeaseRunsOut { command, early });
                    }
                }
                Outbox::Free if !self.breaks(Broken::NoRelay) => {
                    // Those that are idle are alike.
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

impl State {
    /// The rule's breach: a number from a counter that other transactions need not wait for.
    pub(super) fn take_number(&mut self, command: usize) {
        self.writers[command] = Writer::Numbered;
    }

    /// `db::changes::command!` by `Database::command`, for `uploads::COMPLETE_UPLOAD`, `spaces::SET_MEMBER` and
    /// `spaces::REMOVE_MEMBER`: one transaction takes the next number, and writes change and outbox row, leased to the writer.
    /// It holds the space's lock from before it takes the number until it has committed, and nobody sees anything of it
    /// before, so it is one step. Changes of members lock the shared space too, so they have their place among its changes.
    ///
    /// A commit that fails, or whose function dies before, changes nothing and is not modelled. One whose answer gets lost is
    /// one whose writer dies after it: the client hears no 2xx, or `Database::exchange` repeats the statement and finds that it
    /// was done.
    pub(super) fn commit(&mut self, command: usize) {
        self.committed.insert(command);
        self.outbox[command] = Outbox::Leased;
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

    /// The rule's breach: taking a commit for done that was not.
    pub(super) fn commit_fails(&mut self, command: usize) {
        self.writers[command] = Writer::Answered;
    }

    /// `db::Effect::AlreadyApplied` and `commands::finish`: asking again for what was done answers the same and sends nothing.
    pub(super) fn answer_again(&mut self, command: usize) {
        self.writers[command] = Writer::Answered;
    }

    /// `changes::publish`: `SendMessage`, then `db::outbox::REMOVE_PUBLISHED`, and the answer. Between the two, nobody sees the
    /// row but a relay that claims it because the lease is over, which it could have done as well before. So this is one step; to
    /// end in the middle of it is what [`Self::publish_fails`] and [`Self::writer_dies`] are for.
    pub(super) fn publish(&mut self, command: usize) {
        self.announce(command);
        self.outbox[command] = Outbox::None;
        self.writers[command] = Writer::Answered;
    }

    /// The rule's breach: first the row, then the message.
    pub(super) fn delete_row(&mut self, command: usize) {
        self.outbox[command] = Outbox::None;
    }

    /// `changes::publish`: a failure to send, or to delete the row, leaves the row and is one warning; the answer is 2xx. The queue
    /// may have the message all the same. `db::outbox::RELEASE_EVENTS` ends the lease, which may be somebody else's by now.
    pub(super) fn publish_fails(&mut self, command: usize, sent: bool) {
        self.writer_dies(command, sent);
        self.writers[command] = Writer::Answered;
        if self.outbox[command] != Outbox::None {
            self.outbox[command] = Outbox::Free;
        }
    }

    /// Lambda ends the function before or after it has sent, and the client hears nothing.
    pub(super) fn writer_dies(&mut self, command: usize, sent: bool) {
        if sent {
            self.announce(command);
        }
        self.writers[command] = Writer::Idle;
    }

    /// `changes::OUTBOX_LEASE`, or a relay's lease, is over. It is longer than its holder can take, so that this happens while
    /// the holder lives is something that goes wrong.
    pub(super) fn lease_runs_out(&mut self, command: usize) {
        self.outbox[command] = Outbox::Free;
    }

    /// `db::outbox::CLAIM_EVENTS`: a relay claims a row whose lease is over, in one statement.
    pub(super) fn claim(&mut self, relay: usize, command: usize, broken: bool) {
        self.outbox[command] = if broken { Outbox::None } else { Outbox::Leased };
        self.relays[relay] = Relay::Claimed(command);
    }

    /// `relay_events::publish`, for one row: `SendMessageBatch`, then `db::outbox::REMOVE_PUBLISHED`, if the row is still there.
    /// One step for the reason that is given at [`Self::publish`].
    pub(super) fn relay_publishes(&mut self, relay: usize) {
        if let Relay::Claimed(command) = self.relays[relay] {
            self.announce(command);
            self.outbox[command] = Outbox::None;
        }
        self.relays[relay] = Relay::Idle;
    }

    /// Lambda ends the function, or sending or deleting fails. The row's lease runs out some day, or is ended at once.
    pub(super) fn relay_dies(&mut self, relay: usize, sent: bool) {
        if let (Relay::Claimed(command), true) = (self.relays[relay], sent) {
            self.announce(command);
        }
        self.relays[relay] = Relay::Idle;
    }

    /// Whether whoever has the row's lease is still at it.
    fn is_held(&self, command: usize) -> bool {
        self.writers[command] == Writer::Committed || self.relays.contains(&Relay::Claimed(command))
    }

    fn announce(&mut self, command: usize) {
        self.announced.insert(command);
        self.queue.push(Message {
            event: command,
            to: Set::ALL,
        });
    }
}
