//! Steps on spaces, members and invitations.

use ::model::{InvitationView, Role, SpaceView};
use serde_json::json;
use tests::Call;

use super::History;
use super::model::{
    Expected, FORBIDDEN, Invitation, InvitationState, LAST_OWNER, NOT_FOUND, PERSONAL, Space,
};
use super::retention::TRASH;

fn is_shared(space: &Space, role: Option<Role>) -> bool {
    !space.personal && space.deleted.is_none() && role.is_some()
}

fn is_managed(space: &Space, role: Option<Role>) -> bool {
    is_shared(space, role) && role == Some(Role::Owner)
}

fn is_restorable(space: &Space, role: Option<Role>) -> bool {
    space.deleted.is_some() && role == Some(Role::Owner)
}

impl History<'_> {
    pub(super) async fn create_space(&mut self, user: usize) {
        self.counter += 1;
        let name = format!("Space {}", self.counter);
        let refused = self.world.refuses_rate(user, 1);
        let refused = refused.or(self.world.refuses_space(user));
        let call = Call::new("POST /spaces").header("idempotency-key", self.counter);
        let call = call.body(json!({ "name": name }));
        let Some(answer) = self.ask(user, call, refused.map_or(Ok(201), Err)).await else {
            return;
        };
        let id = answer.parsed::<SpaceView>().space_id;
        let space = Space::new(id, user, Some(name), self.world.restored);
        self.world.spaces.push(space);
        let personal = self.world.users[user].personal;
        self.change(user, personal, "SPACE_SHARED", json!([id, Role::Owner]));
        self.world.count_change(user);
    }

    pub(super) async fn share(&mut self, user: usize, space: usize, member: usize, role: Role) {
        let space = self.world.space(user, space, is_managed);
        if !self.world.spaces[space].members.contains_key(&member) {
            return self.invite(user, space, member, role).await;
        }
        let it = &self.world.spaces[space];
        let own = self.world.role(user, space);
        let before = it.members[&member];
        let demoted = before == Role::Owner && role != Role::Owner;
        let refused = self
            .world
            .refuses_change(user, space, 1)
            .or(it.personal.then_some(PERSONAL))
            .or(match own {
                // Setting the role that the user already has is allowed.
                Some(own) if user == member && own == role => None,
                Some(Role::Owner) if demoted && it.owners() == 1 => Some(LAST_OWNER),
                Some(Role::Owner) => None,
                _ => Some(FORBIDDEN),
            });
        let call = Call::new("PUT /spaces/{spaceId}/members/{userId}").path("spaceId", it.id);
        let call = call.path("userId", self.world.name(member));
        let call = call.body(json!({ "role": role }));
        let Some(answer) = self.ask(user, call, refused.map_or(Ok(200), Err)).await else {
            return;
        };
        assert_eq!(answer.body["role"], json!(role));
        if before != role {
            self.world.spaces[space].members.insert(member, role);
            self.joined(user, space, member, role);
        }
    }

    /// The changes with which a member gets a role.
    fn joined(&mut self, user: usize, space: usize, member: usize, role: Role) {
        let name = self.world.name(member);
        self.change(user, space, "MEMBER_CHANGED", json!([name, role]));
        let id = self.world.spaces[space].id;
        let personal = self.world.users[member].personal;
        self.change(user, personal, "SPACE_SHARED", json!([id, role]));
        self.world.count_change(user);
    }

    pub(super) async fn unshare(&mut self, user: usize, space: usize, member: usize) {
        let space = self.world.space(user, space, is_shared);
        let it = &self.world.spaces[space];
        let id = it.id;
        let before = it.members.get(&member).copied();
        let refused = self
            .world
            .refuses_change(user, space, 1)
            .or(it.personal.then_some(PERSONAL))
            .or(match self.world.role(user, space) {
                Some(role) if role != Role::Owner && user != member => Some(FORBIDDEN),
                Some(_) if before == Some(Role::Owner) && it.owners() == 1 => Some(LAST_OWNER),
                _ => None,
            });
        let call = Call::new("DELETE /spaces/{spaceId}/members/{userId}").path("spaceId", id);
        let call = call.path("userId", self.world.name(member));
        let refused = self.world.refuses_all(user, self.known).or(refused);
        if refused.is_none() && self.dies_after.is_some() && user == member {
            // If the request that died removed the user, its repetition no longer sees the space.
            let answer = self.send(user, call).await;
            assert!(
                answer.status == 204 || answer.problem() == NOT_FOUND,
                "{answer:?}"
            );
        } else if self.ask(user, call, refused.map_or(Ok(204), Err)).await.is_none() {
            return;
        }
        if before.is_some() {
            self.world.spaces[space].members.remove(&member);
            let name = self.world.name(member);
            self.change(user, space, "MEMBER_REMOVED", json!([name]));
            let personal = self.world.users[member].personal;
            self.change(user, personal, "SPACE_LEFT", json!([id]));
            self.world.count_change(user);
        }
    }

    async fn invite(&mut self, user: usize, space: usize, member: usize, role: Role) {
        let id = self.world.spaces[space].id;
        let unknown = (!self.world.is_known(member)).then_some((422, "unknown-user"));
        let refused = self.world.refuses_managing(user, space).or(unknown);
        let call = Call::new("POST /spaces/{spaceId}/invitations").path("spaceId", id);
        let call = call.body(json!({ "userId": self.world.name(member), "role": role }));
        let Some(answer) = self.ask(user, call, refused.map_or(Ok(201), Err)).await else {
            return;
        };
        let made: InvitationView = answer.parsed();
        assert_eq!(made.role, role);
        let (now, expires_at) = (self.world.now, self.world.now + ::model::INVITATION_LIFETIME);
        let wanted = !self.world.refused.contains(&(member, user));
        let mut pending =
            self.world.invitations.iter_mut().filter(|it| {
                it.space == space && it.invited == member && it.state == InvitationState::Pending
            });
        let told = if let Some(it) = pending.next() {
            assert_eq!(made.invitation_id, it.id);
            let same = it.role == role && it.expires_at > now && (it.inviter == user || !wanted);
            if !same {
                (it.role, it.expires_at) = (role, expires_at);
                if wanted {
                    it.inviter = user;
                }
            }
            !same && wanted
        } else {
            self.world.invitations.push(Invitation {
                id: made.invitation_id,
                space,
                invited: member,
                inviter: user,
                role,
                state: InvitationState::Pending,
                expires_at,
            });
            wanted
        };
        if told {
            let personal = self.world.users[member].personal;
            self.change(user, personal, "SPACE_INVITED", json!([id, role]));
            self.world.count_change(user);
        }
    }

    /// Selects an invitation of the user: three times of four one that the user sees, if there is one, or
    /// else any.
    fn any_invitation(&self, user: usize, index: usize) -> Option<usize> {
        let seen: Vec<_> = self.world.received(user).map(|it| it.id).collect();
        let own = (0..self.world.invitations.len())
            .filter(|it| self.world.invitations[*it].invited == user)
            .filter(|it| index == 3 || seen.is_empty() || seen.contains(&self.world.invitations[*it].id));
        let own: Vec<usize> = own.collect();
        (!own.is_empty()).then(|| own[index % own.len()])
    }

    pub(super) async fn accept(&mut self, user: usize, index: usize) {
        let Some(index) = self.any_invitation(user, index) else {
            return;
        };
        let it = self.world.invitations[index].clone();
        let space = &self.world.spaces[it.space];
        let member = space.members.get(&user).copied();
        let state = it.state;
        let pending = self.world.received(user).any(|pending| pending.id == it.id);
        let ended = matches!(state, InvitationState::Declined | InvitationState::Withdrawn);
        let refused = self.world.refuses_rate(user, 1).or({
            if space.deleted.is_some() || ended || member.is_none() && !pending {
                Some(NOT_FOUND)
            } else if member.is_some() {
                None
            } else {
                self.world.refuses_space(user)
            }
        });
        let call = Call::new("POST /invitations/{invitationId}/accept").path("invitationId", it.id);
        let Some(answer) = self.ask(user, call, refused.map_or(Ok(200), Err)).await else {
            return;
        };
        assert_eq!(answer.body["role"], json!(member.unwrap_or(it.role)));
        if member.is_none() {
            self.world.invitations[index].state = InvitationState::Accepted;
            self.world.spaces[it.space].members.insert(user, it.role);
            self.joined(user, it.space, user, it.role);
        }
    }

    pub(super) async fn decline(&mut self, user: usize, index: usize, block: bool) {
        let Some(index) = self.any_invitation(user, index) else {
            return;
        };
        let it = &self.world.invitations[index];
        let (id, inviter) = (it.id, it.inviter);
        let expected = match it.state {
            InvitationState::Pending | InvitationState::Declined => Ok(204),
            InvitationState::Accepted | InvitationState::Withdrawn => Err(NOT_FOUND),
        };
        let call = Call::new("POST /invitations/{invitationId}/decline").path("invitationId", id);
        let call = call.body(json!({ "block": block }));
        if self.ask(user, call, expected).await.is_some() {
            self.world.invitations[index].state = InvitationState::Declined;
            if block {
                self.world.refused.insert((user, inviter));
            }
        }
    }

    pub(super) async fn withdraw(&mut self, user: usize, space: usize, index: usize) {
        let space = self.world.space(user, space, is_managed);
        let own = (0..self.world.invitations.len()).filter(|it| self.world.invitations[*it].space == space);
        let (pending, ended): (Vec<usize>, Vec<usize>) =
            own.partition(|it| self.world.invitations[*it].state == InvitationState::Pending);
        let own = if index == 3 || pending.is_empty() {
            ended
        } else {
            pending
        };
        if own.is_empty() {
            return;
        }
        let index = own[index % own.len()];
        let it = &self.world.invitations[index];
        let expected: Result<i64, Expected> = match (self.world.role(user, space), it.state) {
            (Some(Role::Editor | Role::Viewer), _) => Err(FORBIDDEN),
            (None, _) | (_, InvitationState::Accepted) => Err(NOT_FOUND),
            _ => Ok(204),
        };
        let call = Call::new("DELETE /spaces/{spaceId}/invitations/{invitationId}")
            .path("spaceId", self.world.spaces[space].id)
            .path("invitationId", it.id);
        if self.ask(user, call, expected).await.is_some() {
            let it = &mut self.world.invitations[index];
            if it.state == InvitationState::Pending {
                it.state = InvitationState::Withdrawn;
            }
        }
    }

    pub(super) async fn rename_space(&mut self, user: usize, space: usize) {
        let space = self.world.space(user, space, is_managed);
        self.counter += 1;
        let name = format!("Space {}", self.counter);
        let refused = self.world.refuses_managing(user, space);
        let call = Call::new("PATCH /spaces/{spaceId}").path("spaceId", self.world.spaces[space].id);
        let call = call.body(json!({ "name": name }));
        let Some(answer) = self.ask(user, call, refused.map_or(Ok(200), Err)).await else {
            return;
        };
        assert_eq!(answer.body["name"], json!(name));
        self.change(user, space, "SPACE_RENAMED", json!([name]));
        self.world.spaces[space].name = name;
        self.world.count_change(user);
    }

    pub(super) async fn delete_space(&mut self, user: usize, space: usize) {
        let space = self.world.space(user, space, is_managed);
        let it = &self.world.spaces[space];
        let deleted = it.deleted.is_some();
        let refused = match it.members.get(&user) {
            None => Some(NOT_FOUND),
            Some(role) => self
                .world
                .refuses_rate(user, 1)
                .or((deleted && *role != Role::Owner).then_some(NOT_FOUND))
                .or(it.personal.then_some(PERSONAL))
                .or((*role != Role::Owner).then_some(FORBIDDEN)),
        };
        let call = Call::new("DELETE /spaces/{spaceId}").path("spaceId", it.id);
        let answer = self.ask(user, call, refused.map_or(Ok(204), Err)).await;
        if answer.is_some() && !deleted {
            self.world.spaces[space].deleted = Some(self.world.now);
            self.change(user, space, "SPACE_DELETED", json!([]));
            self.world.count_change(user);
        }
    }

    pub(super) async fn restore_space(&mut self, user: usize, space: usize) {
        let space = self.world.space(user, space, is_restorable);
        let it = &self.world.spaces[space];
        let deleted = it.deleted;
        let late = deleted.is_some_and(|since| since <= self.world.now - TRASH);
        let refused = match it.members.get(&user) {
            None => Some(NOT_FOUND),
            Some(role) => self
                .world
                .refuses_rate(user, 1)
                .or((late || deleted.is_some() && *role != Role::Owner).then_some(NOT_FOUND))
                .or((*role != Role::Owner).then_some(FORBIDDEN)),
        };
        let call = Call::new("POST /spaces/{spaceId}/restore").path("spaceId", it.id);
        let answer = self.ask(user, call, refused.map_or(Ok(200), Err)).await;
        if answer.is_some() && deleted.is_some() {
            self.world.spaces[space].deleted = None;
            self.change(user, space, "SPACE_RESTORED", json!([]));
            self.world.count_change(user);
        }
    }
}
