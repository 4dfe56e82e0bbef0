//! The rules as a stateright model, and the properties.

use stateright::{Model, Property};

use super::state::{
    DEVICES, Device, IDS, MEMBERSHIP, NEWCOMER, Outbox, Outcome, Phase, Recipient, Relay, Set, Socket, State,
    Writer,
};
use super::{Action, Broken, Protocol, Scope};

pub(super) const GAPLESS: &str = "a space's numbers are 1 to n in the order of their commits";
pub(super) const FINAL: &str = "what was answered 2xx is committed";
pub(super) const ANNOUNCED: &str = "in the end every change has been in the queue";
pub(super) const NOBODY_DEAF: &str = "in the end every connected device has all that it may see";
pub(super) const CURSORS: &str = "a cursor stands for all changes up to it";
pub(super) const NO_STRANGER: &str = "nobody is addressed who may not see the space at that moment";
pub(super) const NO_LEAK: &str = "no change after a removal reaches the removed";
pub(super) const NEVER_STUCK: &str = "as long as something is left to be done, something can be done";

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let state = |members| State {
            writers: Default::default(),
            committed: Set::EMPTY,
            announced: Set::EMPTY,
            outbox: Default::default(),
            relays: Default::default(),
            queue: Vec::new(),
            fan_outs: Default::default(),
            members,
            removed_after: None,
            devices: Default::default(),
            faults: self.scope.faults,
            addressed_a_stranger: false,
            leaked: false,
        };
        let mut states = vec![state(Set::up_to(DEVICES))];
        if self.scope.membership {
            states.push(state(Set::up_to(NEWCOMER)));
        }
        states
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.offer_writing(state, actions);
        self.offer_relaying(state, actions);
        self.offer_delivering(state, actions);
        self.offer_connecting(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        if action.is_fault() {
            state.faults -= 1;
        }
        match action {
            Action::TakeNumber(command) => state.take_number(command),
            Action::Commit(command) => state.commit(command, self.scope.changes_of(command)),
            Action::CommitFails(command) => state.commit_fails(command),
            Action::AnswerAgain(command) => state.answer_again(command),
            Action::Publish(command) => {
                state.publish(command, self.scope.changes_of(command), self.packed(command));
            }
            Action::PublishFails { command, sent } => {
                let sent = if sent { self.packed(command) } else { Set::EMPTY };
                state.publish_fails(command, self.scope.changes_of(command), sent);
            }
            Action::WriterDies { command, sent } => {
                let sent = if sent { self.packed(command) } else { Set::EMPTY };
                state.writer_dies(command, sent);
            }
            Action::DeleteRow(command) => state.delete_rows(self.scope.changes_of(command)),
            Action::LeaseRunsOut { command, .. } => state.lease_runs_out(command),
            Action::Claim { relay, command } => {
                state.claim(relay, command, self.breaks(Broken::RelayDeletesBeforeSending));
            }
            Action::RelayPublishes(relay) => state.relay_publishes(relay),
            Action::RelayDies { relay, sent } => state.relay_dies(relay, sent),
            Action::Receive {
                fan_out,
                first,
                second,
                again,
            } => {
                self.receive(&mut state, fan_out, (first, second), again);
            }
            Action::Post {
                fan_out,
                recipient,
                old,
            } => self.post(&mut state, fan_out, recipient, old),
            Action::PostFails {
                fan_out,
                recipient,
                reached,
            } => {
                self.post_fails(&mut state, fan_out, recipient, reached);
            }
            Action::Forget(fan_out) => self.forget(&mut state, fan_out),
            Action::FanOutDies(fan_out) => Self::fan_out_dies(&mut state, fan_out),
            Action::Connect { device, id } => Self::connect(&mut state, device, id),
            Action::Open(device) => self.open(&mut state, device),
            Action::HandshakeFails(device) => Self::handshake_fails(&mut state, device),
            Action::Pull(device) => Self::pull(&mut state, device),
            Action::Drop(device) => Self::drop(&mut state, device),
            Action::Notice {
                device,
                id,
                disconnect,
            } => self.notice(&mut state, device, id, disconnect),
            Action::Disconnect { device, id } => Self::disconnect(&mut state, device, id),
        }
        state.order();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(GAPLESS, |_, state: &State| {
                state.shared() == Set::up_to(state.shared().end())
            }),
            Property::always(FINAL, |_, state: &State| {
                (state.writers.iter().enumerate())
                    .all(|(command, writer)| *writer != Writer::Answered || state.committed.has(command))
            }),
            Property::always(ANNOUNCED, |model: &Self, state: &State| {
                !model.is_settled(state) || state.announced == state.committed
            }),
            Property::always(NOBODY_DEAF, |model: &Self, state: &State| {
                !model.is_settled(state) || (0..DEVICES).all(|device| state.has_all(device))
            }),
            Property::always(CURSORS, |_, state: &State| {
                state
                    .devices
                    .iter()
                    .all(|of| of.held.includes(Set::up_to(of.cursor)))
            }),
            Property::always(NO_STRANGER, |_, state: &State| !state.addressed_a_stranger),
            Property::always(NO_LEAK, |_, state: &State| !state.leaked),
            Property::always(NEVER_STUCK, |model: &Self, state: &State| {
                let mut actions = Vec::new();
                model.is_settled(state) || {
                    model.actions(state, &mut actions);
                    actions.iter().any(|action| !action.is_fault())
                }
            }),
        ];
        properties.extend(situations(&self.scope));
        properties.retain(|property| self.only.is_none_or(|only| only == property.name));
        properties
    }
}

/// Situations that must occur in some history of a scope, so that the properties are tested on relevant
/// histories.
fn situations(scope: &Scope) -> Vec<Property<Protocol>> {
    let mut situations = vec![
        Property::sometimes("all is said and done", |model: &Protocol, state: &State| {
            model.is_settled(state)
                && state.committed == model.scope.changes()
                && (model.scope.devices.iter())
                    .all(|device| state.devices[device].phase == Phase::Live && state.has_all(device))
        }),
        Property::sometimes("a device gets a change twice", |_, state: &State| {
            state.about_to_reach(|device, frame| device.held.includes(frame))
        }),
        Property::sometimes(
            "a post meets a $connect that is still running",
            |_, state: &State| {
                state
                    .recipients()
                    .any(|to| to.outcome == Outcome::Waiting && state.is_connecting(*to))
            },
        ),
    ];
    if scope.uploads > 1 {
        situations.push(Property::sometimes(
            "a device sees a number jump",
            |_, state: &State| {
                state.about_to_reach(|device, frame| {
                    let jumps = |change| change != MEMBERSHIP && change > device.cursor;
                    device.phase == Phase::Live && !frame.has(device.cursor) && frame.iter().any(jumps)
                })
            },
        ));
    }
    if scope.membership {
        situations.push(Property::sometimes(
            "a member is removed while being told",
            |_, state: &State| {
                state.recipients().any(|to| {
                    to.outcome == Outcome::Waiting
                        && to.frame.iter().any(|event| !state.may_see(to.device, event))
                })
            },
        ));
        situations.push(Property::sometimes(
            "a member is removed before being told what failed",
            |_, state: &State| {
                state.queue.iter().any(|message| {
                    let mut named = message.to.iter();
                    message.to != Set::ALL
                        && named.any(|address| {
                            message
                                .events
                                .iter()
                                .any(|event| !state.may_see(address / IDS, event))
                        })
                })
            },
        ));
    }
    if scope.faults > 0 {
        situations.push(Property::sometimes(
            "a function dies after its commit",
            |model: &Protocol, state: &State| {
                let commands = model.scope.commands();
                let mut committed = commands.within(state.committed).iter();
                committed.any(|command| state.writers[command] == Writer::Idle)
            },
        ));
        situations.push(Property::sometimes(
            "an id that is dead has been given again",
            |_, state: &State| {
                state.recipients().any(|to| {
                    let row = state.devices[to.device].ids[to.id].row;
                    to.outcome == Outcome::Dead && row.is_some_and(|connection| connection > to.connection)
                })
            },
        ));
    }
    if scope.faults > 1 {
        situations.push(Property::sometimes(
            "two relays send the same event",
            |_, state: &State| {
                matches!(state.relays, [Relay::Claimed(one), Relay::Claimed(other)] if one == other)
            },
        ));
    }
    situations
}

impl Protocol {
    /// Whether the service has nothing left to do: no event will be sent or delivered without a new request.
    fn is_settled(&self, state: &State) -> bool {
        let rests = |writer: &Writer| matches!(writer, Writer::Idle | Writer::Answered);
        let relayed = |row: &Outbox| *row == Outbox::None || self.breaks(Broken::NoRelay);
        state.queue.is_empty()
            && state.writers.iter().all(rests)
            && state.outbox.iter().all(relayed)
            && state.relays.iter().all(|relay| *relay == Relay::Idle)
            && state.fan_outs.iter().all(|fan_out| fan_out.batch.is_empty())
    }
}

impl State {
    /// Sorts the collections whose order has no meaning, so that equivalent states compare equal.
    fn order(&mut self) {
        self.queue.sort_unstable();
        self.relays.sort_unstable();
        self.fan_outs.sort_unstable();
    }

    /// Whether a device that is [`Phase::Live`] has every change that its user may see; true in any other
    /// phase.
    fn has_all(&self, device: usize) -> bool {
        let Device {
            phase, cursor, held, ..
        } = self.devices[device];
        let personal = device == NEWCOMER && self.committed.has(MEMBERSHIP);
        let shared = self.shared();
        phase != Phase::Live
            || (!personal || held.has(MEMBERSHIP))
                && (!self.members.has(device) || cursor == shared.end() && held.includes(shared))
    }

    /// Whether a fan-out is about to post a frame that satisfies `is` to a device with an open socket.
    fn about_to_reach(&self, is: impl Fn(&Device, Set) -> bool) -> bool {
        self.recipients().any(|to| {
            let device = &self.devices[to.device];
            to.outcome == Outcome::Waiting && device.ids[to.id].socket == Socket::Open && is(device, to.frame)
        })
    }

    fn recipients(&self) -> impl Iterator<Item = &Recipient> {
        self.fan_outs.iter().flat_map(|fan_out| &fan_out.recipients)
    }
}

impl Action {
    /// Whether the step counts as a fault, limited by [`Scope::faults`].
    fn is_fault(self) -> bool {
        matches!(
            self,
            Self::CommitFails(_)
                | Self::PublishFails { .. }
                | Self::WriterDies { .. }
                | Self::LeaseRunsOut { early: true, .. }
                | Self::RelayDies { .. }
                | Self::Receive { again: true, .. }
                | Self::PostFails { .. }
                | Self::FanOutDies(_)
                | Self::HandshakeFails(_)
                | Self::Drop(_)
        )
    }
}
