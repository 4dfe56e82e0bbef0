//! Devices, their connections, and the feed.

use super::state::{CONNECTIONS, Device, IDS, MEMBERSHIP, NEWCOMER, Phase, Set, Socket, State};
use super::{Action, Broken, Protocol};

impl Protocol {
    /// What devices can do, and what can happen to their connections.
    pub(super) fn offer_connecting(&self, state: &State, actions: &mut Vec<Action>) {
        for device in self.scope.devices.iter() {
            let of = &state.devices[device];
            match of.phase {
                Phase::Offline | Phase::Prepared => self.offer_connections(device, of, actions),
                Phase::Connecting => {
                    actions.push(Action::Open(device));
                    if state.faults > 0 {
                        actions.push(Action::HandshakeFails(device));
                    }
                }
                Phase::Behind | Phase::Live => {
                    if of.phase == Phase::Behind {
                        actions.push(Action::Pull(device));
                    }
                    if state.faults > 0 {
                        actions.push(Action::Drop(device));
                    }
                }
            }
            for (id, known) in of.ids.iter().enumerate() {
                if known.socket == Socket::Abandoned {
                    actions.push(Action::Notice {
                        device,
                        id,
                        disconnect: true,
                    });
                    actions.push(Action::Notice {
                        device,
                        id,
                        disconnect: false,
                    });
                }
                if known.disconnecting {
                    actions.push(Action::Disconnect { device, id });
                }
            }
        }
    }

    fn offer_connections(&self, device: usize, of: &Device, actions: &mut Vec<Action>) {
        if of.connections == CONNECTIONS {
            return;
        }
        if self.breaks(Broken::PullBeforeConnecting) && of.phase == Phase::Offline {
            actions.push(Action::Pull(device));
            return;
        }
        // At first, ids are alike.
        let ids = if of.connections == 0 { 1 } else { IDS };
        for (id, known) in of.ids.iter().enumerate().take(ids) {
            if known.socket == Socket::Closed && known.row.is_none() {
                actions.push(Action::Connect { device, id });
            }
        }
    }

    /// `$connect`: `db::connections::CONNECT` uses a ticket up and stores the row. API Gateway takes the connection for open
    /// only after the function has answered. It may give the id of an earlier connection; where that one's row is still
    /// there, the insert fails by its primary key, the ticket is kept and nothing has happened.
    pub(super) fn connect(state: &mut State, device: usize, id: usize) {
        let of = &mut state.devices[device];
        of.ids[id].row = Some(of.connections);
        of.ids[id].socket = Socket::Connecting;
        of.id = id;
        of.connections += 1;
        of.phase = Phase::Connecting;
    }

    /// The handshake is done, and posts come through. From now on the device pulls, and then listens.
    pub(super) fn open(&self, state: &mut State, device: usize) {
        let of = &mut state.devices[device];
        of.ids[of.id].socket = Socket::Open;
        of.phase = if self.breaks(Broken::PullBeforeConnecting) {
            Phase::Live
        } else {
            Phase::Behind
        };
    }

    /// `$connect` has stored the row, and then its function or the client died.
    pub(super) fn handshake_fails(state: &mut State, device: usize) {
        let of = &mut state.devices[device];
        of.ids[of.id].socket = Socket::Closed;
        of.phase = Phase::Offline;
    }

    /// `GET /changes` after the cursor, of the personal space and of each space that the user is a member of:
    /// `db::changes::LIST_CHANGES`, which checks that in the same statement. Feeds know nothing of each other, so they are
    /// read in one step; and as the device waits for the answer, reading and applying are one.
    pub(super) fn pull(state: &mut State, device: usize) {
        let (shared, sees) = (state.shared(), state.members.has(device));
        let personal = device == NEWCOMER && state.committed.has(MEMBERSHIP);
        let of = &mut state.devices[device];
        if personal {
            of.held.insert(MEMBERSHIP);
        }
        if sees {
            for change in shared.iter().filter(|change| *change >= of.cursor) {
                of.held.insert(change);
            }
            of.cursor = of.cursor.max(shared.end());
        }
        of.phase = match of.phase {
            Phase::Behind => Phase::Live,
            _ => Phase::Prepared,
        };
    }

    /// A frame comes: changes are applied by their number, one that follows the cursor at once, an old one not at all, and
    /// one that jumps makes the device pull. So does hearing that it can see another space.
    pub(super) fn handle_frame(&self, state: &mut State, device: usize, frame: Set) {
        let added = state.removed_after.is_none();
        let of = &mut state.devices[device];
        for change in frame.iter() {
            if change == MEMBERSHIP {
                let news = !of.held.has(MEMBERSHIP);
                of.held.insert(MEMBERSHIP);
                if news && added {
                    of.phase = Phase::Behind;
                }
            } else if change == of.cursor || change > of.cursor && self.breaks(Broken::JumpsIgnored) {
                of.held.insert(change);
                of.cursor = change + 1;
            } else if change > of.cursor {
                of.phase = Phase::Behind;
            }
        }
    }

    /// The device loses its network, sleeps or dies. API Gateway has not noticed yet.
    pub(super) fn drop(state: &mut State, device: usize) {
        let of = &mut state.devices[device];
        of.ids[of.id].socket = Socket::Abandoned;
        of.phase = Phase::Offline;
    }

    /// API Gateway closes the connection, and calls `$disconnect`, or does not, since it is best effort:
    /// `db::connections::REMOVE_CONNECTION`, by the id alone. So this assumes that an id is not given again before its
    /// `$disconnect` has run.
    pub(super) fn notice(&self, state: &mut State, device: usize, id: usize, disconnect: bool) {
        let known = &mut state.devices[device].ids[id];
        known.socket = Socket::Closed;
        if disconnect && self.breaks(Broken::LateDisconnect) {
            known.disconnecting = true;
        } else if disconnect {
            known.row = None;
        }
    }

    /// The `$disconnect` of an earlier connection with the id.
    pub(super) fn disconnect(state: &mut State, device: usize, id: usize) {
        let known = &mut state.devices[device].ids[id];
        known.disconnecting = false;
        known.row = None;
    }
}

impl State {
    /// Whether a device's user may see what a command changed: a membership's change is in its user's personal space.
    pub(super) fn may_see(&self, device: usize, command: usize) -> bool {
        if command == MEMBERSHIP {
            device == NEWCOMER
        } else {
            self.members.has(device)
        }
    }

    /// The shared space's changes, by number less one.
    pub(super) fn shared(&self) -> Set {
        self.committed.within(Set::up_to(MEMBERSHIP))
    }
}
