//! Delivery from the queue to API Gateway by `fan-out`.

use super::state::{
    DEVICES, FanOut, IDS, MEMBERSHIP, Message, NEWCOMER, Outcome, Phase, Recipient, Set, Socket, State,
    address,
};
use super::{Action, Broken, Protocol};

impl Protocol {
    /// Adds the possible steps of `fan-out` invocations.
    pub(super) fn offer_delivering(&self, state: &State, actions: &mut Vec<Action>) {
        for (fan_out, doing) in state.fan_outs.iter().enumerate() {
            if doing.batch.is_empty() {
                // Idle invocations are interchangeable unless they remember an audience.
                let alike = fan_out > 0 && state.fan_outs[fan_out - 1] == *doing;
                if !alike {
                    Self::offer_batches(state, fan_out, actions);
                }
                continue;
            }
            for (recipient, to) in doing.recipients.iter().enumerate() {
                if to.outcome == Outcome::Waiting {
                    self.offer_posts(state, fan_out, recipient, actions);
                }
            }
            if !doing.recipients.iter().any(|to| to.outcome == Outcome::Waiting) {
                actions.push(Action::Forget(fan_out));
            }
            if state.faults > 0 {
                actions.push(Action::FanOutDies(fan_out));
            }
        }
    }

    fn offer_posts(&self, state: &State, fan_out: usize, recipient: usize, actions: &mut Vec<Action>) {
        let to = state.fan_outs[fan_out].recipients[recipient];
        let socket = state.devices[to.device].ids[to.id].socket;
        let reaches = matches!(socket, Socket::Open | Socket::Abandoned);
        actions.push(Action::Post {
            fan_out,
            recipient,
            old: false,
        });
        let always = self.breaks(Broken::NoAgeGuard) || self.breaks(Broken::AgeReadAfterPosting);
        if !reaches && (always || !state.is_connecting(to)) {
            actions.push(Action::Post {
                fan_out,
                recipient,
                old: true,
            });
        }
        // Without an open socket, a failed post has the same effect as the steps above.
        if reaches && state.faults > 0 {
            actions.push(Action::PostFails {
                fan_out,
                recipient,
                reached: false,
            });
            if socket == Socket::Open {
                actions.push(Action::PostFails {
                    fan_out,
                    recipient,
                    reached: true,
                });
            }
        }
    }

    fn offer_batches(state: &State, fan_out: usize, actions: &mut Vec<Action>) {
        let queue = &state.queue;
        for (first, message) in queue.iter().enumerate() {
            if first > 0 && queue[first - 1] == *message {
                continue;
            }
            actions.push(Action::Receive {
                fan_out,
                first,
                second: None,
                again: false,
            });
            if state.faults > 0 {
                actions.push(Action::Receive {
                    fan_out,
                    first,
                    second: None,
                    again: true,
                });
            }
            if message.events.has(MEMBERSHIP) {
                continue;
            }
            for second in first + 1..queue.len() {
                let other = queue[second];
                let seen = second > first + 1 && queue[second - 1] == other;
                // Messages to different recipients or in different spaces behave in one batch as in two.
                if !seen && !other.events.has(MEMBERSHIP) && other.to == message.to {
                    actions.push(Action::Receive {
                        fan_out,
                        first,
                        second: Some(second),
                        again: false,
                    });
                }
            }
        }
    }

    /// SQS delivers one or two messages, and `fan_out::notify` queries `db::audience::RECIPIENTS` for the
    /// connections of all users who may see the spaces; for `Recipients::Only`, only the named connections.
    /// This is one step, because a fan-out has no visible effect before the query: a crash before it is the
    /// same as no delivery.
    ///
    /// With `again`, SQS delivers the message once more, as a standard queue may. This also models a fan-out
    /// that runs longer than the visibility timeout, and one that dies after all of its work.
    pub(super) fn receive(
        &self,
        state: &mut State,
        fan_out: usize,
        places: (usize, Option<usize>),
        again: bool,
    ) {
        let (first, second) = places;
        let mut batch = vec![state.queue[first]];
        batch.extend(second.map(|second| state.queue[second]));
        if !again {
            if let Some(second) = second {
                state.queue.remove(second);
            }
            state.queue.remove(first);
        }
        let audience = self.audience(state, fan_out, &batch);
        for to in &audience {
            let stranger = to.frame.iter().any(|event| !state.may_see(to.device, event));
            state.addressed_a_stranger |= stranger;
        }
        let doing = &mut state.fan_outs[fan_out];
        if self.breaks(Broken::AudienceRemembered) && !batch[0].events.has(MEMBERSHIP) {
            doing.remembered.clone_from(&audience);
        }
        // Without recipients the message is finished. A crash at this point has the same effect as no
        // delivery.
        if !audience.is_empty() {
            doing.batch = batch;
            doing.recipients = audience;
        }
    }

    fn audience(&self, state: &State, fan_out: usize, batch: &[Message]) -> Vec<Recipient> {
        let remembered = &state.fan_outs[fan_out].remembered;
        if !remembered.is_empty() && !batch[0].events.has(MEMBERSHIP) {
            let frame = batch
                .iter()
                .fold(Set::EMPTY, |frame, message| frame.and(message.events));
            return remembered
                .iter()
                .map(|to| Recipient {
                    frame,
                    outcome: Outcome::Waiting,
                    ..*to
                })
                .collect();
        }
        let mut audience = Vec::new();
        for device in 0..DEVICES {
            for id in 0..IDS {
                let known = state.devices[device].ids[id];
                let Some(connection) = known.row else { continue };
                let mut frame = Set::EMPTY;
                for message in batch {
                    let named = message.to.has(address(device, id));
                    let unchecked = self.breaks(Broken::CarryOverUnchecked) && message.to != Set::ALL;
                    let may_see = message.events.iter().all(|event| state.may_see(device, event));
                    if named && (unchecked || may_see) {
                        frame = frame.and(message.events);
                    }
                }
                if !frame.is_empty() {
                    audience.push(Recipient {
                        device,
                        id,
                        connection,
                        frame,
                        outcome: Outcome::Waiting,
                    });
                }
            }
        }
        audience
    }

    /// `delivery::deliver`: API Gateway answers by the state of the id. Posts are concurrent, so their order
    /// is arbitrary. A 410 is interpreted by the connection's age just before the post: from `CONNECT_GRACE`
    /// on the connection is gone, before that the post is retried. A connection can be that old only after
    /// its `$connect` has ended, because API Gateway ends `$connect` after 29 s. A connection may stay
    /// younger than that for any number of steps.
    ///
    /// A retry in the same fan-out is modelled as a post that was made later. The device handles the frame in
    /// the same step: handling it later is the same as posting later. A frame lost in between is covered by
    /// [`Socket::Abandoned`].
    pub(super) fn post(&self, state: &mut State, fan_out: usize, recipient: usize, old: bool) {
        let to = state.fan_outs[fan_out].recipients[recipient];
        match state.devices[to.device].ids[to.id].socket {
            Socket::Open | Socket::Abandoned => {
                self.reach(state, to);
                state.fan_outs[fan_out].recipients.remove(recipient);
            }
            Socket::Closed | Socket::Connecting => {
                let outcome = if old { Outcome::Dead } else { Outcome::Failed };
                state.fan_outs[fan_out].recipients[recipient].outcome = outcome;
            }
        }
        Self::carry_over(state, fan_out);
    }

    /// `delivery::Outcome::Failed` or `Refused`: 429, 5xx, 403 or no response in all attempts. The device may
    /// have received the frame nevertheless.
    pub(super) fn post_fails(&self, state: &mut State, fan_out: usize, recipient: usize, reached: bool) {
        if reached {
            self.reach(state, state.fan_outs[fan_out].recipients[recipient]);
        }
        state.fan_outs[fan_out].recipients[recipient].outcome = Outcome::Failed;
        Self::carry_over(state, fan_out);
    }

    fn reach(&self, state: &mut State, to: Recipient) {
        let removed = to.device == NEWCOMER && !state.members.has(NEWCOMER);
        let late = |after: usize| to.frame.iter().any(|event| event != MEMBERSHIP && event >= after);
        state.leaked |= removed && state.removed_after.is_some_and(late);
        if state.devices[to.device].ids[to.id].socket == Socket::Open {
            self.handle_frame(state, to.device, to.frame);
        }
    }

    /// `notify::delete_gone_connections` and `db::connections::REMOVE_GONE_CONNECTIONS`: deletes by id and
    /// `connected_at`. If that fails, the rows remain and a later post finds them gone again.
    pub(super) fn forget(&self, state: &mut State, fan_out: usize) {
        let mut recipients = std::mem::take(&mut state.fan_outs[fan_out].recipients);
        for to in recipients.iter_mut().filter(|to| to.outcome == Outcome::Dead) {
            if self.breaks(Broken::AgeReadAfterPosting) && state.is_connecting(*to) {
                to.outcome = Outcome::Failed;
                continue;
            }
            let row = &mut state.devices[to.device].ids[to.id].row;
            if *row == Some(to.connection) || self.breaks(Broken::DeadByIdAlone) {
                *row = None;
            }
        }
        recipients.retain(|to| to.outcome != Outcome::Dead);
        state.fan_outs[fan_out].recipients = recipients;
        Self::carry_over(state, fan_out);
    }

    /// `follow_up::follow_up`, after all posts: undelivered recipients are queued again in a new message that
    /// names only them. Then the event source mapping deletes the received messages.
    ///
    /// After `MAX_ATTEMPTS`, or if the post was refused, that message goes to the dead-letter queue.
    /// `maintenance::redrive` returns it to the queue, which is modelled as a message that arrives late.
    ///
    /// This is part of the step before it. After a crash in between, or if sending fails, all received
    /// messages are delivered again. That is the same as a crash before that step, or as receiving with
    /// `again`.
    fn carry_over(state: &mut State, fan_out: usize) {
        let doing = &mut state.fan_outs[fan_out];
        if doing.recipients.iter().any(|to| to.outcome != Outcome::Failed) {
            return;
        }
        let failed = std::mem::take(&mut doing.recipients);
        for Message { events, .. } in std::mem::take(&mut doing.batch) {
            let mut to = Set::EMPTY;
            for failed in failed.iter().filter(|failed| failed.frame.includes(events)) {
                to.insert(address(failed.device, failed.id));
            }
            if !to.is_empty() {
                state.queue.push(Message { events, to });
            }
        }
    }

    /// Lambda ends the function, or `fan_out::handle` reports its records as failed. The messages become
    /// visible again.
    pub(super) fn fan_out_dies(state: &mut State, fan_out: usize) {
        let died = std::mem::take(&mut state.fan_outs[fan_out]);
        state.fan_outs[fan_out] = FanOut {
            remembered: died.remembered,
            ..FanOut::default()
        };
        state.queue.extend(died.batch);
    }
}

impl State {
    /// Whether the `$connect` of this recipient's connection is still running.
    pub(super) fn is_connecting(&self, to: Recipient) -> bool {
        let of = &self.devices[to.device];
        of.phase == Phase::Connecting && to.connection + 1 == of.connections
    }
}
