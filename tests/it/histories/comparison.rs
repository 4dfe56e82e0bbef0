//! Compares everything that each user can see with the model.

use std::collections::BTreeMap;

use ::model::{
    ChangeList, DeletedFileList, DeletedSpaceList, FileDetail, FileId, FileList, InvitationId,
    InvitationList, MemberList, ProfileView, ReceivedInvitationList, Role, SpaceId, SpaceList,
};
use serde_json::{Value, json};
use tests::Call;
use time::OffsetDateTime;

use super::History;
use super::model::{BLOCKED, Change, ERASED, FORBIDDEN, InvitationState, NOT_FOUND, Standing, State};
use super::retention::TRASH;
use super::steps::{Known, USERS};

/// The largest page.
const PAGE: i64 = 1000;

impl History<'_> {
    pub(super) async fn check(&mut self) {
        (self.known, self.dies_after) = (Known::Nothing, None);
        self.world.now = self.share.apps.clock.now();
        for user in 0..USERS {
            let standing = self.world.users[user].standing;
            if standing == Standing::Unknown {
                continue;
            }
            if self.world.users[user].blocked {
                let answer = self.send(user, Call::new("GET /spaces")).await;
                assert_eq!(answer.problem(), BLOCKED);
                // A user who is blocked no more comes back with everything.
                self.unblock(user).await;
            }
            if standing != Standing::Known {
                let answer = self.send(user, Call::new("GET /spaces")).await;
                assert_eq!(answer.problem(), ERASED);
                continue;
            }
            self.check_profile(user).await;
            self.check_spaces(user).await;
            self.check_deleted_spaces(user).await;
            self.check_received(user).await;
            for space in 0..self.world.spaces.len() {
                if self.world.role(user, space).is_some() {
                    self.check_files(user, space).await;
                    self.check_trash(user, space).await;
                    self.check_feed(user, space).await;
                    self.check_members(user, space).await;
                    self.check_invitations(user, space).await;
                } else {
                    self.check_hidden(user, space).await;
                }
            }
        }
        for space in 0..self.world.spaces.len() {
            self.check_versions(space).await;
        }
    }

    async fn get<T: serde::de::DeserializeOwned>(&mut self, user: usize, call: Call) -> T {
        let route = call.route();
        let answer = self.send(user, call).await;
        assert_eq!(answer.status, 200, "{route}: {answer:?}");
        answer.parsed()
    }

    async fn check_profile(&mut self, user: usize) {
        let profile: ProfileView = self.get(user, Call::new("GET /me")).await;
        let name = self.world.name(user);
        assert_eq!(
            (profile.user_id.as_str(), profile.epoch),
            (name.as_str(), self.world.epoch)
        );
    }

    async fn check_spaces(&mut self, user: usize) {
        let list: SpaceList = self.get(user, Call::new("GET /spaces")).await;
        assert_eq!(list.epoch, self.world.epoch);
        let seen: BTreeMap<SpaceId, (Role, i64, String)> = (list.spaces.iter())
            .map(|view| {
                let name = view.name.as_ref().map_or("", |name| name.as_str());
                let state = (view.role, view.latest_sequence.get(), name.to_owned());
                (view.space_id, state)
            })
            .collect();
        let own = (0..self.world.spaces.len()).filter_map(|index| {
            let (it, role) = (&self.world.spaces[index], self.world.role(user, index)?);
            Some((
                it.id,
                (role, i64::try_from(it.feed.len()).unwrap(), it.name.clone()),
            ))
        });
        assert_eq!(seen, own.collect());
    }

    async fn check_deleted_spaces(&mut self, user: usize) {
        let call = Call::new("GET /spaces").query("deleted", "true");
        let list: DeletedSpaceList = self.get(user, call).await;
        let seen: BTreeMap<SpaceId, [OffsetDateTime; 2]> = (list.spaces.iter())
            .map(|view| (view.space.space_id, [view.deleted_at, view.purged_at]))
            .collect();
        let restorable = self.world.spaces.iter().filter_map(|it| {
            let since = it.deleted.filter(|since| *since > self.world.now - TRASH)?;
            let owns = it.members.get(&user) == Some(&Role::Owner);
            owns.then_some((it.id, [since, since + TRASH]))
        });
        assert_eq!(seen, restorable.collect());
    }

    async fn check_received(&mut self, user: usize) {
        let list: ReceivedInvitationList = self.get(user, Call::new("GET /invitations")).await;
        let seen: Vec<(InvitationId, String, Role, OffsetDateTime)> = (list.invitations.iter())
            .map(|it| {
                (
                    it.invitation_id,
                    it.inviter_id.to_string(),
                    it.role,
                    it.expires_at,
                )
            })
            .collect();
        let expected = self.world.received(user);
        let expected: Vec<_> = expected
            .map(|it| (it.id, self.world.name(it.inviter), it.role, it.expires_at))
            .collect();
        assert_eq!(seen, expected);
    }

    /// A space of which the user is no member, or which is deleted, shows nothing.
    async fn check_hidden(&mut self, user: usize, space: usize) {
        let id = self.world.spaces[space].id;
        let calls = [
            Call::new("GET /files").query("spaceId", id),
            Call::new("GET /files")
                .query("spaceId", id)
                .query("deleted", "true"),
            Call::new("GET /changes").query("spaceId", id),
            Call::new("GET /spaces/{spaceId}/members").path("spaceId", id),
            Call::new("GET /spaces/{spaceId}/invitations").path("spaceId", id),
        ];
        // One of them each time: there are many such spaces.
        let call = calls[(user + self.counter + space) % calls.len()].clone();
        let route = call.route();
        assert_eq!(self.send(user, call).await.problem(), NOT_FOUND, "{route}");
    }

    async fn check_files(&mut self, user: usize, space: usize) {
        let it = &self.world.spaces[space];
        let call = Call::new("GET /files").query("spaceId", it.id);
        let list: FileList = self.get(user, call).await;
        let seen: BTreeMap<FileId, (String, i64, String)> = (list.files.iter())
            .map(|file| {
                let state = (file.path.to_string(), file.version.get(), file.sha256.to_string());
                (file.file_id, state)
            })
            .collect();
        let files = self.world.spaces[space].live().map(|(id, file)| {
            let newest = &file.versions[&file.version];
            (id, (file.path.clone(), file.version, newest.sha256.clone()))
        });
        assert_eq!(seen, files.collect());
    }

    async fn check_trash(&mut self, user: usize, space: usize) {
        let id = self.world.spaces[space].id;
        let call = Call::new("GET /files")
            .query("spaceId", id)
            .query("deleted", "true");
        let list: DeletedFileList = self.get(user, call).await;
        let seen: Vec<_> = (list.files.iter())
            .map(|it| {
                let by = it.deleted_by.as_ref().map(|by| by.as_str().to_owned());
                let times = (it.deleted_at, it.purged_at);
                (
                    it.file.file_id,
                    it.file.path.to_string(),
                    it.file.version.get(),
                    by,
                    times,
                )
            })
            .collect();
        let mut expected: Vec<_> = (self.world.spaces[space].files.iter())
            .filter_map(|(id, file)| {
                let State::Trash(since, by) = &file.state else {
                    return None;
                };
                let times = (*since, *since + TRASH);
                Some((*id, file.path.clone(), file.version, Some(by.clone()), times))
            })
            .collect();
        // The newest first.
        expected.sort_by_key(|(id, .., (since, _))| std::cmp::Reverse((*since, *id)));
        assert_eq!(seen, expected);
    }

    async fn check_feed(&mut self, user: usize, space: usize) {
        let id = self.world.spaces[space].id;
        let call = Call::new("GET /changes").query("spaceId", id);
        let feed: ChangeList = self.get(user, call.query("limit", PAGE)).await;
        let it = &self.world.spaces[space];
        let restored_at = feed
            .restored_at_sequence
            .map(|it| usize::try_from(it.get()).unwrap());
        assert_eq!((feed.epoch, restored_at), (self.world.epoch, it.restored_at));
        let sequences: Vec<i64> = feed.changes.iter().map(|change| change.sequence.get()).collect();
        assert_eq!(sequences, (1..=feed.latest_sequence.get()).collect::<Vec<_>>());
        let seen: Vec<(String, String, Value)> = feed.changes.iter().map(shown).collect();
        let expected = it.feed.iter();
        let expected =
            expected.map(|Change { kind, by, subject }| ((*kind).to_owned(), by.clone(), subject.clone()));
        assert_eq!(seen, expected.collect::<Vec<_>>());
    }

    async fn check_members(&mut self, user: usize, space: usize) {
        let id = self.world.spaces[space].id;
        let call = Call::new("GET /spaces/{spaceId}/members").path("spaceId", id);
        let list: MemberList = self.get(user, call).await;
        let seen: Vec<(String, Role)> = (list.members.iter())
            .map(|it| (it.user_id.to_string(), it.role))
            .collect();
        let members = self.world.spaces[space].members.iter();
        let members = members.map(|(user, role)| (self.world.name(*user), *role));
        assert_eq!(seen, members.collect::<Vec<_>>());
    }

    async fn check_invitations(&mut self, user: usize, space: usize) {
        let id = self.world.spaces[space].id;
        let call = Call::new("GET /spaces/{spaceId}/invitations").path("spaceId", id);
        if self.world.role(user, space) != Some(Role::Owner) {
            assert_eq!(self.send(user, call).await.problem(), FORBIDDEN);
            return;
        }
        let list: InvitationList = self.get(user, call).await;
        let seen: Vec<_> = (list.invitations.iter())
            .map(|it| {
                (
                    it.invitation_id,
                    it.user_id.as_ref().map(ToString::to_string),
                    it.role,
                )
            })
            .collect();
        let pending = self.world.invitations.iter().filter(|it| {
            it.space == space && it.state == InvitationState::Pending && it.expires_at > self.world.now
        });
        let pending = pending.map(|it| (it.id, Some(self.world.name(it.invited)), it.role));
        assert_eq!(seen, pending.collect::<Vec<_>>());
    }

    /// The versions of every file, as the first member sees them.
    async fn check_versions(&mut self, space: usize) {
        let members = 0..USERS;
        let member = members
            .into_iter()
            .find(|user| self.world.role(*user, space).is_some());
        let Some(user) = member else {
            return;
        };
        let files: Vec<FileId> = self.world.spaces[space].files.keys().copied().collect();
        for id in files {
            let call = Call::new("GET /files/{fileId}").path("fileId", id);
            let answer = self.send(user, call).await;
            let file = &self.world.spaces[space].files[&id];
            if file.state != State::Live {
                assert_eq!(answer.problem(), NOT_FOUND);
                continue;
            }
            let detail: FileDetail = answer.parsed();
            let seen: Vec<(i64, String, String)> = (detail.versions.iter())
                .map(|it| (it.version.get(), it.sha256.to_string(), it.user_id.to_string()))
                .collect();
            let versions = file.versions.iter().rev();
            let versions = versions.map(|(number, it)| (*number, it.sha256.clone(), it.by.clone()));
            assert_eq!(seen, versions.collect::<Vec<_>>());
        }
    }
}

/// Event type, acting user and subject of a change in a feed.
fn shown(change: &::model::Event) -> (String, String, Value) {
    let event = serde_json::to_value(change).unwrap();
    let subject = match &change.change {
        ::model::Change::SpaceShared {
            subject_space_id,
            role,
        }
        | ::model::Change::SpaceInvited {
            subject_space_id,
            role,
        } => json!([subject_space_id, role]),
        ::model::Change::SpaceRenamed { name } => json!([name]),
        ::model::Change::SpaceDeleted {} | ::model::Change::SpaceRestored {} => json!([]),
        ::model::Change::SpaceLeft { subject_space_id } => json!([subject_space_id]),
        ::model::Change::MemberChanged { member_id, role } => json!([member_id, role]),
        ::model::Change::MemberRemoved { member_id } => json!([member_id]),
        _ => json!([event["path"], event["version"]]),
    };
    let kind = event["eventType"].as_str().unwrap().to_owned();
    (kind, change.user_id.to_string(), subject)
}
