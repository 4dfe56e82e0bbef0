//! The expected state of the service, and the refusals that follow from it.

use std::collections::{BTreeMap, BTreeSet};

use model::{Epoch, FileId, InvitationId, Role, SpaceId, UploadId};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::steps::{Known, Limits};

/// Expected response: the status, and the problem code if the request is refused.
pub(super) type Expected = (i64, &'static str);

pub(super) const NOT_FOUND: Expected = (404, "not-found");
pub(super) const FORBIDDEN: Expected = (403, "forbidden");
pub(super) const PERSONAL: Expected = (403, "personal-space");
pub(super) const CONFLICT: Expected = (409, "version-conflict");
pub(super) const TAKEN: Expected = (409, "path-taken");
pub(super) const LAST_OWNER: Expected = (409, "last-owner");
pub(super) const EXPIRED: Expected = (410, "upload-expired");
pub(super) const BLOCKED: Expected = (403, "account-blocked");
pub(super) const ERASED: Expected = (403, "account-erased");
pub(super) const RESET: Expected = (410, "feed-reset");
/// Too many changes in a minute, or too many pending uploads.
pub(super) const WAIT: Expected = (429, "quota-exceeded");
pub(super) const TOO_MANY_SPACES: Expected = (409, "quota-exceeded");
pub(super) const TOO_MANY_BYTES: Expected = (413, "quota-exceeded");

/// Time after an upload's expiry in which it can still be completed.
const IN_FLIGHT: Duration = db::IN_FLIGHT;

/// Expected state of a version.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Version {
    pub(super) sha256: String,
    pub(super) size: i64,
    /// The upload that the object came from.
    pub(super) object: UploadId,
    pub(super) by: String,
    pub(super) superseded_at: Option<OffsetDateTime>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    Live,
    /// In the trash since then, by this user.
    Trash(OffsetDateTime, String),
    /// Nobody can restore it. The next run of `maintenance` purges it.
    Erased,
    /// No row is left.
    Gone,
}

/// Expected state of a file.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) version: i64,
    pub(super) versions: BTreeMap<i64, Version>,
    pub(super) state: State,
}

/// Expected change in a feed: event type, acting user, and the path and version of the file, the other space
/// or the member.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) kind: &'static str,
    pub(super) by: String,
    pub(super) subject: Value,
}

/// Expected state of a space.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) id: SpaceId,
    pub(super) personal: bool,
    pub(super) name: String,
    pub(super) deleted: Option<OffsetDateTime>,
    /// No row is left.
    pub(super) gone: bool,
    pub(super) members: BTreeMap<usize, Role>,
    pub(super) files: BTreeMap<FileId, File>,
    pub(super) feed: Vec<Change>,
    /// The number of changes before the current epoch; `None` in the first epoch.
    pub(super) restored_at: Option<usize>,
    pub(super) max_bytes: Option<u32>,
}

impl Space {
    pub(super) fn new(id: SpaceId, owner: usize, name: Option<String>, restored: bool) -> Self {
        Self {
            id,
            personal: name.is_none(),
            name: name.unwrap_or_default(),
            deleted: None,
            gone: false,
            members: BTreeMap::from([(owner, Role::Owner)]),
            files: BTreeMap::new(),
            feed: Vec::new(),
            restored_at: restored.then_some(0),
            max_bytes: None,
        }
    }

    pub(super) fn live(&self) -> impl Iterator<Item = (FileId, &File)> {
        let files = self.files.iter();
        files
            .filter(|(_, file)| file.state == State::Live)
            .map(|(id, file)| (*id, file))
    }

    pub(super) fn at(&self, path: &str) -> Option<(FileId, &File)> {
        self.live().find(|(_, file)| file.path == path)
    }

    /// Whether a file, except `except`, blocks this path: no path can be both a file and a folder.
    pub(super) fn is_blocked(&self, path: &str, except: Option<FileId>) -> bool {
        let below =
            |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
        self.live()
            .filter(|(id, _)| Some(*id) != except)
            .any(|(_, file)| below(&file.path, path) || below(path, &file.path))
    }

    /// Whether a file, except `except`, is at this path or blocks it.
    pub(super) fn is_taken(&self, path: &str, except: FileId) -> bool {
        self.at(path).is_some_and(|(other, _)| other != except) || self.is_blocked(path, Some(except))
    }

    pub(super) fn owners(&self) -> usize {
        self.members.values().filter(|role| **role == Role::Owner).count()
    }

    /// The sum of the sizes of the distinct objects.
    pub(super) fn bytes(&self) -> i64 {
        let versions = self.files.values().flat_map(|file| file.versions.values());
        let objects: BTreeMap<UploadId, i64> = versions.map(|it| (it.object, it.size)).collect();
        objects.values().sum()
    }

    /// Whether this many bytes more are above the space's maximum.
    pub(super) fn is_full(&self, more: i64) -> bool {
        self.max_bytes
            .is_some_and(|most| self.bytes() + more > i64::from(most))
    }

    pub(super) fn change(&mut self, kind: &'static str, by: String, subject: Value) {
        self.feed.push(Change { kind, by, subject });
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum UploadState {
    Pending,
    Completed,
    Aborted,
    /// No row is left.
    Gone,
}

/// Expected state of an upload.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) id: UploadId,
    /// `None` if the user has erased the account.
    pub(super) user: Option<usize>,
    pub(super) space: usize,
    pub(super) path: String,
    pub(super) content: String,
    pub(super) base_version: Option<i64>,
    pub(super) base_file: Option<FileId>,
    pub(super) sent: bool,
    /// Whether the content is sent in parts. The upload is then opened without its SHA-256.
    pub(super) in_parts: bool,
    pub(super) state: UploadState,
    pub(super) expires_at: OffsetDateTime,
    /// The file and the version that completing made.
    pub(super) made: Option<(FileId, i64)>,
}

/// The SHA-256 in a request that completes an upload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Given {
    Nothing,
    /// That of the content.
    Right,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum InvitationState {
    Pending,
    Accepted,
    Declined,
    Withdrawn,
}

/// Expected state of an invitation.
#[derive(Clone, Debug)]
pub(super) struct Invitation {
    pub(super) id: InvitationId,
    pub(super) space: usize,
    pub(super) invited: usize,
    pub(super) inviter: usize,
    pub(super) role: Role,
    pub(super) state: InvitationState,
    pub(super) expires_at: OffsetDateTime,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Standing {
    Known,
    /// Has erased the account then, and still has a row.
    Erased(OffsetDateTime),
    /// Has no row since then; a hash of the id is kept for as long as a token may be valid.
    Forgotten(OffsetDateTime),
    /// May begin anew.
    Unknown,
}

/// Expected state of a user.
#[derive(Debug)]
pub(super) struct User {
    pub(super) standing: Standing,
    /// Index of the personal space.
    pub(super) personal: usize,
    pub(super) blocked: bool,
    pub(super) limits: Limits,
    /// The number of changes since the beginning of the current minute, and this beginning.
    pub(super) changes: (u32, OffsetDateTime),
}

impl User {
    pub(super) fn new(personal: usize) -> Self {
        Self {
            standing: Standing::Known,
            personal,
            blocked: false,
            limits: Limits::default(),
            changes: (0, OffsetDateTime::UNIX_EPOCH),
        }
    }
}

/// Expected state of an open socket.
#[derive(Debug, PartialEq)]
pub(super) struct Connection {
    pub(super) user: usize,
    pub(super) expires_at: OffsetDateTime,
}

/// Expected state of the service.
pub(super) struct World {
    /// Part of the user names, so that each history has its own users.
    pub(super) id: String,
    /// The time at which the current step began.
    pub(super) now: OffsetDateTime,
    pub(super) epoch: Epoch,
    /// An epoch that is not the current one.
    pub(super) former: Epoch,
    /// Whether an epoch has begun in this history.
    pub(super) restored: bool,
    pub(super) users: Vec<User>,
    pub(super) spaces: Vec<Space>,
    pub(super) uploads: Vec<Upload>,
    /// Oldest first.
    pub(super) invitations: Vec<Invitation>,
    /// Users and the inviters whom they refuse.
    pub(super) refused: BTreeSet<(usize, usize)>,
    pub(super) connections: BTreeMap<String, Connection>,
    /// Sockets that an operator has closed.
    pub(super) closed: BTreeSet<String>,
    /// What storage holds.
    pub(super) objects: BTreeSet<UploadId>,
}

impl World {
    pub(super) fn new(id: String, now: OffsetDateTime) -> Self {
        Self {
            id,
            now,
            epoch: platform::ids::new_id().into(),
            former: platform::ids::new_id().into(),
            restored: false,
            users: Vec::new(),
            spaces: Vec::new(),
            uploads: Vec::new(),
            invitations: Vec::new(),
            refused: BTreeSet::new(),
            connections: BTreeMap::new(),
            closed: BTreeSet::new(),
            objects: BTreeSet::new(),
        }
    }

    pub(super) fn name(&self, user: usize) -> String {
        format!("{}-{user}", self.id)
    }

    pub(super) fn is_known(&self, user: usize) -> bool {
        self.users[user].standing == Standing::Known
    }

    /// Selects a space: three times of four one that is wanted by its state and the user's role, if there is
    /// one, or else any, deleted and purged ones included.
    pub(super) fn space(&self, user: usize, index: usize, wanted: fn(&Space, Option<Role>) -> bool) -> usize {
        let all = self.spaces.iter().enumerate();
        let wanted = all.filter(|(_, it)| wanted(it, it.members.get(&user).copied()));
        let wanted: Vec<usize> = wanted.map(|(space, _)| space).collect();
        select(index, &wanted).unwrap_or(index / 4 % self.spaces.len())
    }

    /// Selects a file: three times of four one that is wanted and that the user sees, if there is one, or
    /// else any, purged ones included. Returns its space's index and its id.
    pub(super) fn file(
        &self,
        user: usize,
        index: usize,
        wanted: fn(&File) -> bool,
    ) -> Option<(usize, FileId)> {
        let (mut all, mut preferred) = (Vec::new(), Vec::new());
        for (space, it) in self.spaces.iter().enumerate() {
            for (id, file) in &it.files {
                all.push((space, *id));
                if wanted(file) && self.role(user, space).is_some() {
                    preferred.push((space, *id));
                }
            }
        }
        select(index, &preferred).or((!all.is_empty()).then(|| all[index / 4 % all.len()]))
    }

    /// The user's role in a space that is not deleted.
    pub(super) fn role(&self, user: usize, space: usize) -> Option<Role> {
        let space = &self.spaces[space];
        space
            .members
            .get(&user)
            .copied()
            .filter(|_| space.deleted.is_none())
    }

    /// Expected refusal of any request of the user that names this epoch.
    pub(super) fn refuses_all(&self, user: usize, known: Known) -> Option<Expected> {
        let it = &self.users[user];
        match it.standing {
            _ if it.blocked => Some(BLOCKED),
            Standing::Erased(_) | Standing::Forgotten(_) => Some(ERASED),
            _ if known == Known::Former => Some(RESET),
            _ => None,
        }
    }

    /// Expected refusal if the user has no access to the space, or may not make this many changes now.
    pub(super) fn refuses_change(&self, user: usize, space: usize, more: u32) -> Option<Expected> {
        if self.role(user, space).is_none() {
            return Some(NOT_FOUND);
        }
        self.refuses_rate(user, more)
    }

    /// Expected refusal if the user may not make this many changes now.
    pub(super) fn refuses_rate(&self, user: usize, more: u32) -> Option<Expected> {
        let most = self.users[user].limits.changes?;
        (self.changes(user) + more > most).then_some(WAIT)
    }

    /// The number of changes in the current minute of the user.
    fn changes(&self, user: usize) -> u32 {
        let (changes, since) = self.users[user].changes;
        if since > self.now - Duration::MINUTE {
            changes
        } else {
            0
        }
    }

    /// Counts a change of the user.
    pub(super) fn count_change(&mut self, user: usize) {
        let changes = self.changes(user);
        let since = if changes == 0 {
            self.now
        } else {
            self.users[user].changes.1
        };
        self.users[user].changes = (changes + 1, since);
    }

    /// Expected refusal if the user may not manage the shared space.
    pub(super) fn refuses_managing(&self, user: usize, space: usize) -> Option<Expected> {
        self.refuses_change(user, space, 1)
            .or(self.spaces[space].personal.then_some(PERSONAL))
            .or((self.role(user, space) != Some(Role::Owner)).then_some(FORBIDDEN))
    }

    /// The number of the user's pending uploads.
    pub(super) fn pending(&self, user: usize) -> u32 {
        let pending = self.uploads.iter();
        let pending = pending.filter(|it| it.user == Some(user) && it.state == UploadState::Pending);
        u32::try_from(pending.count()).unwrap()
    }

    /// Expected refusal if the user may not open this many uploads more.
    pub(super) fn refuses_opening(&self, user: usize, more: u32) -> Option<Expected> {
        let most = self.users[user].limits.pending?;
        (self.pending(user) + more > most).then_some(WAIT)
    }

    /// Expected refusal if the user may not be a member of one more shared space. Deleted spaces count until
    /// they are purged.
    pub(super) fn refuses_space(&self, user: usize) -> Option<Expected> {
        let most = self.users[user].limits.spaces?;
        let own = self.spaces.iter();
        let own = own.filter(|space| !space.personal && space.members.contains_key(&user));
        (own.count() + 1 > usize::try_from(most).unwrap()).then_some(TOO_MANY_SPACES)
    }

    /// The invitations that the user sees.
    pub(super) fn received(&self, user: usize) -> impl Iterator<Item = &Invitation> {
        self.invitations.iter().filter(move |it| {
            it.invited == user
                && it.state == InvitationState::Pending
                && it.expires_at > self.now
                && !self.refused.contains(&(user, it.inviter))
                && self.spaces[it.space].deleted.is_none()
        })
    }

    /// Expected refusal of completing an upload before storage is asked to assemble its parts.
    pub(super) fn refuses_assembling(&self, user: usize, upload: &Upload, given: Given) -> Option<Expected> {
        let role = self.role(user, upload.space);
        let is_conflict = given == Given::Other && !(upload.in_parts && upload.state == UploadState::Pending);
        match upload.state {
            _ if upload.user != Some(user) || role.is_none() => Some(NOT_FOUND),
            UploadState::Gone => Some(NOT_FOUND),
            UploadState::Aborted => Some(EXPIRED),
            UploadState::Pending if self.now >= upload.expires_at + IN_FLIGHT => Some(EXPIRED),
            UploadState::Pending if role == Some(Role::Viewer) => Some(FORBIDDEN),
            _ if is_conflict => Some((409, "sha256-conflict")),
            UploadState::Pending if upload.in_parts && given == Given::Nothing => {
                Some((422, "sha256-required"))
            }
            UploadState::Pending if !upload.sent => Some((409, "upload-incomplete")),
            UploadState::Completed | UploadState::Pending => None,
        }
    }

    /// Expected refusal of completing an upload.
    pub(super) fn refuses_completing(&self, user: usize, upload: &Upload, given: Given) -> Option<Expected> {
        let refused = self.refuses_assembling(user, upload, given);
        if refused.is_some() || upload.state == UploadState::Completed {
            return refused;
        }
        let space = &self.spaces[upload.space];
        let there = space.at(&upload.path);
        let current = there.map_or(0, |(_, file)| file.version);
        let conflict = upload.base_version.is_some_and(|base| base != current)
            || upload.base_file.is_some() && upload.base_file != there.map(|(id, _)| id);
        self.refuses_rate(user, 1)
            .or(conflict.then_some(CONFLICT))
            .or((there.is_none() && space.is_blocked(&upload.path, None)).then_some(TAKEN))
            .or(space
                .is_full(i64::try_from(upload.content.len()).unwrap())
                .then_some(TOO_MANY_BYTES))
    }
}

/// Selects a wanted item, three times of four.
fn select<T: Copy>(index: usize, wanted: &[T]) -> Option<T> {
    (index % 4 < 3 && !wanted.is_empty()).then(|| wanted[index / 4 % wanted.len()])
}
