//! Devices, their connections and their change feeds.

use super::state::{CONNECTIONS, Device, IDS, MEMBERSHIP, NEWCOMER, Phase, Set, Socket, State};
use super::{Action, Broken, Protocol};

impl Protocol {
    /// Adds the possible steps of devices and of their connections.
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
        // Unused ids are interchangeable.
        let ids = if of.connections == 0 { 1 } else { IDS };
        for (id, known) in of.ids.iter().enumerate().take(ids) {
            if known.socket == Socket::Closed && known.row.is_none() {
                actions.push(Action::Connect { device, id });
            }
        }
    }

    /// `$connect`: `db::connections::CONNECT` consumes a ticket and stores the row. API Gateway opens the
    /// connection only after the function has responded. It may assign the id of an earlier connection. If
    /// that connection's row still exists, the insert violates the primary key, the ticket is kept and
    /// nothing changes.
    pub(super) fn connect(state: &mut State, device: usize, id: usize) {
        let of = &mut state.devices[device];
        of.ids[id].row = Some(of.connections);
        of.ids[id].socket = Socket::Connecting;
        of.id = id;
        of.connections += 1;
        of.phase = Phase::Connecting;
    }

    /// The handshake is complete, and posts reach the device. The device pulls now, and then listens.
    pub(super) fn open(&self, state: &mut State, device: usize) {
        let of = &mut state.devices[device];
        of.ids[of.id].socket = Socket::Open;
        of.phase = if self.breaks(Broken::PullBeforeConnecting) {
            Phase::Live
        } else {
            Phase::Behind
        };
    }

    /// The function or the client died after `$connect` had stored the row.
    pub(super) fn handshake_fails(state: &mut State, device: usize) {
        let of = &mut state.devices[device];
        of.ids[of.id].socket = Socket::Closed;
        of.phase = Phase::Offline;
    }

    /// `GET /changes` after the cursor, for the personal space and each space of which the user is a member:
    /// `db::changes::LIST_CHANGES`, which checks membership in the same statement. Feeds are independent, so
    /// they are read in one step. The device waits for the response, so reading and applying are one step.
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

    /// A frame arrives. The device applies a change that follows its cursor, ignores an old change, and pulls
    /// if a sequence number is missing. It also pulls when it learns of another space that it can see.
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

    /// API Gateway closes the connection and calls `$disconnect` or not, since the call is best effort.
    /// `db::connections::REMOVE_CONNECTION` deletes by the id alone, which assumes that an id is not reused
    /// before its `$disconnect` has run.
    pub(super) fn notice(&self, state: &mut State, device: usize, id: usize, disconnect: bool) {
        let known = &mut state.devices[device].ids[id];
        known.socket = Socket::Closed;
        if disconnect && self.breaks(Broken::LateDisconnect) {
            known.disconnecting = true;
        } else if disconnect {
            known.row = None;
        }
    }

    /// The `$disconnect` of an earlier connection with the same id.
    pub(super) fn disconnect(state: &mut State, device: usize, id: usize) {
        let known = &mut state.devices[device].ids[id];
        known.disconnecting = false;
        known.row = None;
    }
}

impl State {
    /// Whether a device's user may see a command's change. A membership change is in the personal space of
    /// the added or removed user.
    pub(super) fn may_see(&self, device: usize, command: usize) -> bool {
        if command == MEMBERSHIP {
            device == NEWCOMER
        } else {
            self.members.has(device)
        }
    }

    /// Changes of the shared space, by sequence number minus one.
    pub(super) fn shared(&self) -> Set {
        self.committed.within(Set::up_to(MEMBERSHIP))
    }
}
