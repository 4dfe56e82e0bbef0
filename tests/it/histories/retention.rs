//! What `maintenance` and the erasure of an account do to the expected state.

use std::collections::BTreeSet;

use maintenance::UPLOAD_GRACE;
use model::{DELETED_USER, Role, UploadId};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::model::{Space, Standing, State, UploadState, World};

/// `TrashDays`.
pub(super) const TRASH: Duration = Duration::days(30);

/// `VersionDays`.
const REPLACED: Duration = Duration::days(180);

/// `KeepVersions`: fewer than by default, so that histories exceed it.
pub(super) const KEPT: i64 = 1;

/// Time after erasing an account in which its row stays.
const ERASED: Duration = Duration::minutes(2);

/// Time after that in which a token may be valid.
const FORGOTTEN: Duration = Duration::days(1);

impl World {
    /// The shared spaces with other members that the user is the only owner of.
    pub(super) fn orphaned(&self, user: usize) -> Vec<usize> {
        let own = (0..self.spaces.len()).filter(|space| self.role(user, *space) == Some(Role::Owner));
        let shared = own.filter(|space| self.spaces[*space].members.len() > 1);
        shared.filter(|space| self.spaces[*space].owners() == 1).collect()
    }

    /// The user erases the account. Spaces of nobody else are purged at once.
    pub(super) fn erase_account(&mut self, user: usize) {
        let name = self.name(user);
        for space in &mut self.spaces {
            if space.members.remove(&user).is_none() {
                continue;
            }
            if space.members.is_empty() {
                space.deleted = Some(OffsetDateTime::UNIX_EPOCH);
            } else {
                space.change("MEMBER_REMOVED", name.clone(), json!([name]));
            }
        }
        self.invitations
            .retain(|it| it.invited != user && it.inviter != user);
        self.refused.retain(|(one, other)| *one != user && *other != user);
        self.connections.retain(|_, it| it.user != user);
        self.users[user].standing = Standing::Erased(self.now);
    }

    /// A run of `maintenance`.
    pub(super) fn maintain(&mut self) {
        let now = self.now;
        self.invitations.retain(|it| it.expires_at > now);
        self.connections.retain(|_, it| it.expires_at > now);
        for upload in &mut self.uploads {
            if upload.state == UploadState::Pending && upload.expires_at <= now - db::IN_FLIGHT {
                upload.state = UploadState::Aborted;
            }
        }
        self.forget_users();
        for upload in &mut self.uploads {
            if upload.state == UploadState::Aborted && upload.expires_at <= now - UPLOAD_GRACE {
                upload.state = UploadState::Gone;
                self.objects.remove(&upload.id);
            }
        }
        self.purge();
        let uploads = self.uploads.iter().filter(|it| it.state != UploadState::Gone);
        let used: BTreeSet<usize> = uploads.map(|it| it.space).collect();
        for (index, space) in self.spaces.iter_mut().enumerate() {
            let empty = space.files.values().all(|file| file.state == State::Gone);
            if empty && !used.contains(&index) && is_over(space, now) {
                space.gone = true;
                space.members.clear();
                self.invitations.retain(|it| it.space != index);
            }
        }
    }

    /// Nothing names users who have erased their accounts, and then their rows go.
    fn forget_users(&mut self) {
        for user in 0..self.users.len() {
            match self.users[user].standing {
                Standing::Erased(since) => {
                    self.rename_to_deleted(user);
                    if since < self.now - ERASED {
                        self.users[user].standing = Standing::Forgotten(self.now);
                        self.users[user].blocked = false;
                    }
                }
                Standing::Forgotten(since) if since < self.now - FORGOTTEN => {
                    self.users[user].standing = Standing::Unknown;
                }
                _ => {}
            }
        }
    }

    fn rename_to_deleted(&mut self, user: usize) {
        let name = self.name(user);
        let rename = |it: &mut String| {
            if *it == name {
                DELETED_USER.clone_into(it);
            }
        };
        for space in &mut self.spaces {
            for change in &mut space.feed {
                rename(&mut change.by);
                if change.kind.starts_with("MEMBER_") && change.subject[0] == json!(name) {
                    change.subject[0] = json!(DELETED_USER);
                }
            }
            for file in space.files.values_mut() {
                if let State::Trash(_, by) = &mut file.state {
                    rename(by);
                }
                file.versions
                    .values_mut()
                    .for_each(|version| rename(&mut version.by));
            }
        }
        for upload in self.uploads.iter_mut().filter(|it| it.user == Some(user)) {
            upload.user = None;
            if upload.state == UploadState::Pending {
                upload.state = UploadState::Aborted;
            }
        }
    }

    fn purge(&mut self) {
        let now = self.now;
        let mut freed: BTreeSet<UploadId> = BTreeSet::new();
        for space in &mut self.spaces {
            let over = is_over(space, now);
            for file in space.files.values_mut() {
                let before: BTreeSet<UploadId> = file.versions.values().map(|it| it.object).collect();
                let due = match file.state {
                    State::Live => over,
                    State::Trash(since, _) => over || since <= now - TRASH,
                    State::Erased => true,
                    State::Gone => false,
                };
                if due {
                    file.state = State::Gone;
                    file.versions.clear();
                }
                let newest = file.version;
                file.versions.retain(|number, version| {
                    let old = version.superseded_at.is_some_and(|since| since <= now - REPLACED);
                    *number == newest || !old && *number >= newest - KEPT
                });
                // All versions that name one object are of one file.
                let after: BTreeSet<UploadId> = file.versions.values().map(|it| it.object).collect();
                freed.extend(before.difference(&after));
            }
        }
        for upload in self.uploads.iter_mut().filter(|it| freed.contains(&it.id)) {
            self.objects.remove(&upload.id);
            // Content could still be sent again.
            upload.state = if upload.expires_at <= now - UPLOAD_GRACE {
                UploadState::Gone
            } else {
                UploadState::Aborted
            };
        }
    }
}

/// Whether a deleted space can no longer be restored by any request.
fn is_over(space: &Space, now: OffsetDateTime) -> bool {
    space
        .deleted
        .is_some_and(|since| since <= now - TRASH - db::PURGE_GRACE)
}
