//! From the queue to API Gateway: fan-out.

use super::state::{
    DEVICES, FanOut, IDS, MEMBERSHIP, Message, NEWCOMER, Outcome, Phase, Recipient, Set, Socket, State,
    address,
};
use super::{Action, Broken, Protocol};

impl Protocol {
    /// What can happen to messages.
    pub(super) fn offer_delivering(&self, state: &State, actions: &mut Vec<Action>) {
        for (fan_out, doing) in state.fan_outs.iter().enumerate() {
            if doing.batch.is_empty() {
                // Idle ones are alike, unless they remember something.
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
        // One that meets no open socket might as well have failed.
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
            if message.event == MEMBERSHIP {
                continue;
            }
            for second in first + 1..queue.len() {
                let other = queue[second];
                let seen = second > first + 1 && queue[second - 1] == other;
                // What is for others, or in another space, goes through a batch as it does through two.
                if !seen && other.event != MEMBERSHIP && other.to == message.to {
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

    /// SQS hands out one message or two, and `notify::notify` asks `db::audience::RECIPIENTS` for the connections of all who
    /// may see their spaces; of a message to `Recipients::Only`, those that it names. This is one step, because until it has
    /// asked, a fan-out has done nothing that anybody sees: dying before is as if it had not received anything.
    ///
    /// With `again`, SQS will hand the message out once more, as a standard queue may; this also stands for a fan-out that
    /// outlives its visibility timeout, and for one that dies when all is done.
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
        if self.breaks(Broken::AudienceRemembered) && batch[0].event != MEMBERSHIP {
            doing.remembered.clone_from(&audience);
        }
        // With nobody to tell, the message is done with: dying now would again be as if it had not been received.
        if !audience.is_empty() {
            doing.batch = batch;
            doing.recipients = audience;
        }
    }

    fn audience(&self, state: &State, fan_out: usize, batch: &[Message]) -> Vec<Recipient> {
        let remembered = &state.fan_outs[fan_out].remembered;
        if !remembered.is_empty() && batch[0].event != MEMBERSHIP {
            let frame = batch
                .iter()
                .fold(Set::EMPTY, |frame, message| frame.and(Set::of(message.event)));
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
                    if named && (unchecked || state.may_see(device, message.event)) {
                        frame.insert(message.event);
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

    /// `posting::post_all`: API Gateway answers by what it thinks of the id. Posts run at once, so in any order. What a 410 means
    /// is judged by the connection's age at a moment before the post: if it was at least `CONNECT_GRACE`, the connection is dead,
    /// and else to be tried again. It can be that old once its `$connect` is over, which API Gateway ends after 29 s; and it can
    /// be younger for as long as one likes.
    ///
    /// A post that is tried again by the same fan-out is one that was made later. The device handles the frame in the same step:
    /// were it later, it would be as if the post had been; what gets lost between the two is what [`Socket::Abandoned`] loses.
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

    /// `posting::Outcome::Failed` or `Refused`: 429, 5xx, 403 or no answer, as often as it is tried. The frame may have come
    /// through all the same.
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

    /// `notify::forget` and `db::connections::REMOVE_GONE_CONNECTIONS`: by id and `connected_at`. That it fails leaves rows that
    /// will be found dead again.
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

    /// `notify::carried_over`, once all posts are made: what failed goes back to the queue in a message of its own that names
    /// only those who have not got it. Then the event source mapping deletes what was received.
    ///
    /// After `MAX_ATTEMPTS`, and if it was refused, it goes to the dead-letter queue, from where `relay_events::redrive` brings it
    /// back: that is a message that comes late.
    ///
    /// This belongs to the step before it. To die in between, or that sending fails, makes all that was received come again, which
    /// is like dying before that step, or like receiving `again` what is done.
    fn carry_over(state: &mut State, fan_out: usize) {
        let doing = &mut state.fan_outs[fan_out];
        if doing.recipients.iter().any(|to| to.outcome != Outcome::Failed) {
            return;
        }
        let failed = std::mem::take(&mut doing.recipients);
        for Message { event, .. } in std::mem::take(&mut doing.batch) {
            let mut to = Set::EMPTY;
            for failed in failed.iter().filter(|failed| failed.frame.has(event)) {
                to.insert(address(failed.device, failed.id));
            }
            if !to.is_empty() {
                state.queue.push(Message { event, to });
            }
        }
    }

    /// Lambda ends the function, or `fan_out::handle` reports its records as failed: they become visible again.
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
    /// Whether a recipient's `$connect` is still running.
    pub(super) fn is_connecting(&self, to: Recipient) -> bool {
        let of = &self.devices[to.device];
        of.phase == Phase::Connecting && to.connection + 1 == of.connections
    }
}
