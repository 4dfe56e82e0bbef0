//! Random histories of several users, compared with a small model of the expected state.
//!
//! A request may be interrupted at any await point, as if its function had died there, and is then retried,
//! as clients do. Functions, PostgreSQL, storage and queue are real. A failing history is shrunk to a minimal
//! one.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use model::{
    ChangeList, CreatedUpload, FileChanged, FileId, FileList, InvitationId, InvitationView,
    ReceivedInvitationList, Role, SpaceId, SpaceList, SpaceView,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::{Value, json};
use tests::{Answer, Call, Environment, TestContext, put_to_storage, report, upload_body};

/// Environment variable with the number of histories in a run.
const HISTORIES: &str = "SYNCSPHERE_HISTORIES";

/// Number of histories without that variable. CI runs 1,000.
const DEFAULT_HISTORIES: u32 = 250;

/// Number of threads; each runs a share of the histories on its own database.
const THREADS: u32 = 4;

/// Environment variable with the seed, to repeat a run.
const SEED: &str = "SYNCSPHERE_HISTORIES_SEED";

const USERS: usize = 3;
const PATHS: [&str; 6] = ["/a", "/b", "/Docs", "/Docs/a", "/Docs/ü", "/a/x"];

/// Base of a request: the version, and for uploads the file or for moves and deletes the path.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Base {
    Unsaid,
    Current,
    Stale,
    /// The current version, with the current file or path.
    Named,
    /// The current version, with another file or path.
    Elsewhere,
}

/// A path at which no file is ever created.
const NOWHERE: &str = "/nowhere";

/// A user's action. Indexes select one of the existing spaces or files.
#[derive(Clone, Debug)]
enum Act {
    Upload {
        space: usize,
        path: usize,
        base: Base,
    },
    Race {
        other: usize,
        space: usize,
        path: usize,
    },
    Move {
        file: usize,
        path: usize,
        base: Base,
    },
    Delete {
        file: usize,
        base: Base,
    },
    CreateSpace,
    Share {
        space: usize,
        member: usize,
        role: Role,
    },
    Unshare {
        space: usize,
        member: usize,
    },
    /// Answers the oldest invitation that the user has.
    Accept,
    Decline {
        block: bool,
    },
    Withdraw {
        space: usize,
        member: usize,
    },
    Rename {
        space: usize,
    },
    DeleteSpace {
        space: usize,
    },
    RestoreSpace {
        space: usize,
    },
}

/// An action, its user, and the number of await points after which its function dies, if it does.
#[derive(Clone, Debug)]
struct Step {
    user: usize,
    act: Act,
    dies_after: Option<usize>,
}

fn step() -> impl Strategy<Value = Step> {
    let base = || {
        prop_oneof![
            3 => Just(Base::Unsaid), 2 => Just(Base::Current), 1 => Just(Base::Stale), 2 => Just(Base::Named),
            1 => Just(Base::Elsewhere),
        ]
    };
    let role = prop_oneof![Just(Role::Owner), Just(Role::Editor), Just(Role::Viewer)];
    let (space, file, path) = (0..5_usize, 0..8_usize, 0..PATHS.len());
    let act = prop_oneof![
        6 => (space.clone(), path.clone(), base()).prop_map(|(space, path, base)| Act::Upload { space, path, base }),
        1 => (0..USERS, space.clone(), path.clone())
            .prop_map(|(other, space, path)| Act::Race { other, space, path }),
        3 => (file.clone(), path, base()).prop_map(|(file, path, base)| Act::Move { file, path, base }),
        2 => (file, base()).prop_map(|(file, base)| Act::Delete { file, base }),
        2 => Just(Act::CreateSpace),
        4 => (space.clone(), 0..USERS, role).prop_map(|(space, member, role)| Act::Share { space, member, role }),
        2 => (space.clone(), 0..USERS).prop_map(|(space, member)| Act::Unshare { space, member }),
        5 => Just(Act::Accept),
        1 => any::<bool>().prop_map(|block| Act::Decline { block }),
        1 => (space.clone(), 0..USERS).prop_map(|(space, member)| Act::Withdraw { space, member }),
        1 => space.clone().prop_map(|space| Act::Rename { space }),
        1 => space.clone().prop_map(|space| Act::DeleteSpace { space }),
        2 => space.prop_map(|space| Act::RestoreSpace { space }),
    ];
    let dies_after = prop_oneof![3 => Just(None), 1 => (1..14_usize).prop_map(Some)];
    (0..USERS, act, dies_after).prop_map(|(user, act, dies_after)| Step {
        user,
        act,
        dies_after,
    })
}

/// Expected state of a file.
#[derive(Clone, Debug, PartialEq)]
struct File {
    path: String,
    version: i64,
    content: String,
}

/// Expected state of a space.
#[derive(Debug, Default)]
struct Space {
    id: Option<SpaceId>,
    personal: bool,
    deleted: bool,
    name: String,
    members: BTreeMap<usize, Role>,
    files: BTreeMap<FileId, File>,
    /// For each change: event type, acting user, and the path and version of the file or the other space.
    feed: Vec<(&'static str, usize, Value)>,
}

impl Space {
    fn at(&self, path: &str) -> Option<(FileId, &File)> {
        let mut files = self.files.iter();
        files
            .find(|(_, file)| file.path == path)
            .map(|(id, file)| (*id, file))
    }

    /// Files, except `except`, that block this path: no path can be both a file and a folder.
    fn in_the_way(&self, path: &str, except: Option<FileId>) -> Vec<FileId> {
        let below =
            |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
        let files = self.files.iter().filter(|(id, _)| Some(**id) != except);
        files
            .filter(|(_, file)| below(&file.path, path) || below(path, &file.path))
            .map(|(id, _)| *id)
            .collect()
    }

    fn owners(&self) -> usize {
        self.members.values().filter(|role| **role == Role::Owner).count()
    }
}

/// Expected state of a pending invitation.
#[derive(Clone, Debug)]
struct Invitation {
    id: InvitationId,
    space: usize,
    invited: usize,
    inviter: usize,
    role: Role,
}

/// Expected state of the service: first the users' personal spaces, then the shared spaces.
struct World {
    spaces: Vec<Space>,
    /// Pending invitations, oldest first.
    invitations: Vec<Invitation>,
    /// Users and the inviters whom they refuse.
    refused: BTreeSet<(usize, usize)>,
}

/// Expected response: the status, and the problem code if the request is refused.
type Expected = (i64, &'static str);

const NOT_FOUND: Expected = (404, "not-found");
const FORBIDDEN: Expected = (403, "forbidden");
const CONFLICT: Expected = (409, "version-conflict");
const TAKEN: Expected = (409, "path-taken");

impl World {
    fn new() -> Self {
        let personal = |user| Space {
            personal: true,
            members: BTreeMap::from([(user, Role::Owner)]),
            ..Space::default()
        };
        Self {
            spaces: (0..USERS).map(personal).collect(),
            invitations: Vec::new(),
            refused: BTreeSet::new(),
        }
    }

    /// Selects an existing space. A user's personal space has no id before its first use.
    fn space(&self, user: usize, index: usize) -> usize {
        let index = index % (self.spaces.len() + 1);
        let space = index.checked_sub(1).unwrap_or(user);
        if self.spaces[space].id.is_some() {
            space
        } else {
            user
        }
    }

    /// Selects an existing file; returns its space's index and its id.
    fn file(&self, index: usize) -> Option<(usize, FileId)> {
        let all = self.spaces.iter().enumerate();
        let all: Vec<(usize, FileId)> = all
            .flat_map(|(space, it)| it.files.keys().map(move |file| (space, *file)))
            .collect();
        (!all.is_empty()).then(|| all[index % all.len()])
    }

    /// The user's role in a space that is not deleted.
    fn role(&self, user: usize, space: usize) -> Option<Role> {
        let space = &self.spaces[space];
        space.members.get(&user).copied().filter(|_| !space.deleted)
    }

    /// Expected refusal if the user may not manage the shared space.
    fn refuses_managing(&self, user: usize, space: usize) -> Option<Expected> {
        match self.role(user, space) {
            None => Some(NOT_FOUND),
            Some(_) if self.spaces[space].personal => Some((403, "personal-space")),
            Some(Role::Owner) => None,
            Some(_) => Some(FORBIDDEN),
        }
    }

    /// The invitations that the user sees.
    fn received(&self, user: usize) -> impl Iterator<Item = &Invitation> {
        self.invitations.iter().filter(move |it| {
            it.invited == user
                && !self.refused.contains(&(user, it.inviter))
                && !self.spaces[it.space].deleted
        })
    }

    /// Expected refusal if the user may not write to the space.
    fn refuses(&self, user: usize, space: usize) -> Option<Expected> {
        match self.role(user, space) {
            None => Some(NOT_FOUND),
            Some(Role::Viewer) => Some(FORBIDDEN),
            Some(_) => None,
        }
    }
}

/// One history: the functions and the model that they are compared with.
struct History<'a> {
    apps: &'a TestContext,
    environment: Environment,
    world: World,
    /// Part of the user names, so that each history has its own users.
    id: String,
    counter: usize,
}

impl History<'_> {
    fn user(&self, user: usize) -> String {
        format!("{}-{user}", self.id)
    }

    /// Makes a request; if its function dies, repeats the request.
    async fn call(&mut self, user: usize, call: Call, dies_after: Option<usize>) -> Answer {
        if let Some(waits) = dies_after {
            let answered = die_after(waits, self.environment.call(&self.user(user), call.clone())).await;
            if let Some(answer) = answered {
                return answer;
            }
            self.environment = self.apps.environment();
            self.apps.database.wait_until_disconnected().await;
        }
        self.environment.call(&self.user(user), call).await
    }

    async fn step(&mut self, step: Step) {
        let Step {
            user,
            act,
            dies_after,
        } = step;
        match act {
            Act::Upload { space, path, base } => {
                self.upload(user, space, PATHS[path], base, dies_after).await;
            }
            Act::Race { other, space, path } => self.race([user, other], space, PATHS[path]).await,
            Act::Move { file, path, base } => {
                self.rename(user, file, PATHS[path], base, dies_after).await;
            }
            Act::Delete { file, base } => self.delete(user, file, base, dies_after).await,
            Act::CreateSpace => self.create_space(user, dies_after).await,
            Act::Share { space, member, role } => {
                self.share(user, space, member, role, dies_after).await;
            }
            Act::Unshare { space, member } => self.unshare(user, space, member, dies_after).await,
            Act::Accept => self.accept(user, dies_after).await,
            Act::Decline { block } => self.decline(user, block, dies_after).await,
            Act::Withdraw { space, member } => self.withdraw(user, space, member, dies_after).await,
            Act::Rename { space } => self.rename_space(user, space, dies_after).await,
            Act::DeleteSpace { space } => self.delete_space(user, space, dies_after).await,
            Act::RestoreSpace { space } => self.restore_space(user, space, dies_after).await,
        }
    }

    fn base(base: Base, current: i64) -> Option<i64> {
        match base {
            Base::Unsaid => None,
            Base::Current | Base::Named | Base::Elsewhere => Some(current),
            Base::Stale => Some(current + 1),
        }
    }

    fn base_path(base: Base, current: &str) -> Option<String> {
        match base {
            Base::Named => Some(current.to_owned()),
            Base::Elsewhere => Some(NOWHERE.to_owned()),
            Base::Unsaid | Base::Current | Base::Stale => None,
        }
    }

    /// Opens an upload and sends its content; returns the response if opening is refused.
    async fn put(
        &mut self,
        user: usize,
        space: usize,
        path: &str,
        base: Option<i64>,
        base_file: Option<FileId>,
    ) -> Result<(CreatedUpload, String), Answer> {
        self.counter += 1;
        let content = format!("{} {}", self.id, self.counter);
        let mut body = upload_body(path, content.as_bytes());
        if let Some(id) = self.world.spaces[space].id {
            body["spaceId"] = json!(id);
        }
        if let Some(base) = base {
            body["baseVersion"] = json!(base);
        }
        if let Some(file) = base_file {
            body["baseFileId"] = json!(file);
        }
        let answer = self.call(user, Call::new("POST /uploads").body(body), None).await;
        if answer.status != 201 {
            return Err(answer);
        }
        let created: CreatedUpload = answer.parsed();
        put_to_storage(created.put().unwrap(), content.as_bytes()).await;
        Ok((created, content))
    }

    async fn upload(&mut self, user: usize, space: usize, path: &str, base: Base, dies_after: Option<usize>) {
        let space = self.world.space(user, space);
        let there = self.world.spaces[space].at(path);
        let (current, file) = there.map_or((0, None), |(id, file)| (file.version, Some(id)));
        let base_file = match base {
            Base::Named => file,
            Base::Elsewhere => Some(FileId::from(platform::ids::new_id())),
            Base::Unsaid | Base::Current | Base::Stale => None,
        };
        // Version 0 with a file id is contradictory.
        let base = Self::base(base, current).filter(|base| *base > 0 || base_file.is_none());
        let conflict = base.is_some_and(|base| base != current) || base_file.is_some() && base_file != file;
        let taken = file.is_none() && !self.world.spaces[space].in_the_way(path, None).is_empty();
        let refused = self
            .world
            .refuses(user, space)
            .or(conflict.then_some(CONFLICT))
            .or(taken.then_some(TAKEN));
        match (self.put(user, space, path, base, base_file).await, refused) {
            (Err(answer), Some(expected)) => assert_eq!(answer.problem(), expected),
            (Ok((created, content)), None) => {
                let call = Call::new("POST /uploads/{uploadId}/complete").path("uploadId", created.upload_id);
                let answer = self.call(user, call, dies_after).await;
                self.uploaded(user, space, path, content, &answer.parsed());
            }
            (put, expected) => panic!("{put:?} where {expected:?} is right"),
        }
    }

    fn uploaded(&mut self, user: usize, space: usize, path: &str, content: String, changed: &FileChanged) {
        let space = &mut self.world.spaces[space];
        space.id.get_or_insert(changed.space_id);
        assert_eq!(space.id, Some(changed.space_id));
        let (id, version) = match space.at(path) {
            Some((id, file)) => (id, file.version + 1),
            None => (changed.file_id, 1),
        };
        assert_eq!((changed.file_id, changed.version.get()), (id, version));
        let path = path.to_owned();
        space.feed.push(("FILE_UPDATED", user, json!([path, version])));
        assert_eq!(changed.sequence.get(), i64::try_from(space.feed.len()).unwrap());
        space.files.insert(
            id,
            File {
                path,
                version,
                content,
            },
        );
    }

    /// Two users, or two devices of one user, complete uploads from the same base at the same time.
    async fn race(&mut self, users: [usize; 2], space: usize, path: &str) {
        let space = self.world.space(users[0], space);
        if users
            .iter()
            .any(|user| self.world.refuses(*user, space).is_some())
            || self.world.spaces[space].id.is_none()
            || !self.world.spaces[space].in_the_way(path, None).is_empty()
        {
            return;
        }
        let base = Some(
            self.world.spaces[space]
                .at(path)
                .map_or(0, |(_, file)| file.version),
        );
        let one = self.put(users[0], space, path, base, None).await.unwrap();
        let other = self.put(users[1], space, path, base, None).await.unwrap();
        let call = |created: &CreatedUpload| {
            Call::new("POST /uploads/{uploadId}/complete").path("uploadId", created.upload_id)
        };
        let second = self.apps.environment();
        let names = users.map(|user| self.user(user));
        let answers = tokio::join!(
            self.environment.call(&names[0], call(&one.0)),
            second.call(&names[1], call(&other.0))
        );
        let (winner, won, lost, content) = match (answers.0.status, answers.1.status) {
            (200, 409) => (users[0], answers.0, answers.1, one.1),
            (409, 200) => (users[1], answers.1, answers.0, other.1),
            statuses => panic!("{statuses:?}"),
        };
        assert_eq!(lost.problem(), CONFLICT);
        self.uploaded(winner, space, path, content, &won.parsed());
        let current = &lost.body["current"];
        assert_eq!(current["version"], won.body["version"]);
        assert_eq!(current["fileId"], won.body["fileId"]);
    }

    async fn rename(&mut self, user: usize, file: usize, path: &str, base: Base, dies_after: Option<usize>) {
        let Some((space, id)) = self.world.file(file) else {
            return;
        };
        let before = self.world.spaces[space].files[&id].clone();
        let base_path = Self::base_path(base, &before.path);
        let base = Self::base(base, before.version);
        let mut body = json!({ "path": path });
        if let Some(base) = base {
            body["baseVersion"] = json!(base);
        }
        if let Some(base_path) = &base_path {
            body["basePath"] = json!(base_path);
        }
        let call = Call::new("PATCH /files/{fileId}").path("fileId", id).body(body);
        let answer = self.call(user, call, dies_after).await;
        let taken = self.world.spaces[space]
            .at(path)
            .is_some_and(|(other, _)| other != id)
            || before.path != path && !self.world.spaces[space].in_the_way(path, Some(id)).is_empty();
        let conflict = base.is_some_and(|base| base != before.version)
            || base_path.is_some_and(|base| base != before.path && before.path != path);
        let refused = self
            .world
            .refuses(user, space)
            .or(conflict.then_some(CONFLICT))
            .or(taken.then_some(TAKEN));
        if let Some(expected) = refused {
            assert_eq!(answer.problem(), expected);
            return;
        }
        let changed: FileChanged = answer.parsed();
        assert_eq!(
            (changed.file_id, changed.version.get(), changed.path.as_str()),
            (id, before.version, path)
        );
        if before.path != path {
            let space = &mut self.world.spaces[space];
            space
                .feed
                .push(("FILE_MOVED", user, json!([path, before.version])));
            assert_eq!(changed.sequence.get(), i64::try_from(space.feed.len()).unwrap());
            space.files.insert(
                id,
                File {
                    path: path.to_owned(),
                    ..before
                },
            );
        }
    }

    async fn delete(&mut self, user: usize, file: usize, base: Base, dies_after: Option<usize>) {
        let Some((space, id)) = self.world.file(file) else {
            return;
        };
        let before = self.world.spaces[space].files[&id].clone();
        let base_path = Self::base_path(base, &before.path);
        let base = Self::base(base, before.version);
        let mut call = Call::new("DELETE /files/{fileId}").path("fileId", id);
        if let Some(base) = base {
            call = call.query("baseVersion", base);
        }
        if let Some(base_path) = &base_path {
            call = call.query("basePath", base_path);
        }
        let answer = self.call(user, call, dies_after).await;
        let conflict = base.is_some_and(|base| base != before.version)
            || base_path.is_some_and(|base| base != before.path);
        if let Some(expected) = self.world.refuses(user, space).or(conflict.then_some(CONFLICT)) {
            assert_eq!(answer.problem(), expected);
            return;
        }
        let changed: FileChanged = answer.parsed();
        let space = &mut self.world.spaces[space];
        space
            .feed
            .push(("FILE_DELETED", user, json!([before.path, before.version])));
        assert_eq!(changed.sequence.get(), i64::try_from(space.feed.len()).unwrap());
        space.files.remove(&id);
    }

    async fn create_space(&mut self, user: usize, dies_after: Option<usize>) {
        self.counter += 1;
        let call = Call::new("POST /spaces").header("idempotency-key", self.counter);
        let call = call.body(json!({ "name": format!("Space {}", self.counter) }));
        let view: SpaceView = self.call(user, call, dies_after).await.parsed();
        self.world.spaces.push(Space {
            id: Some(view.space_id),
            members: BTreeMap::from([(user, Role::Owner)]),
            name: format!("Space {}", self.counter),
            ..Space::default()
        });
        self.world.spaces[user]
            .feed
            .push(("SPACE_SHARED", user, json!([view.space_id, "owner"])));
    }

    async fn share(
        &mut self,
        user: usize,
        space: usize,
        member: usize,
        role: Role,
        dies_after: Option<usize>,
    ) {
        let space = self.world.space(user, space);
        let Some(id) = self.world.spaces[space].id else {
            return;
        };
        if !self.world.spaces[space].members.contains_key(&member) {
            return self.invite(user, space, member, role, dies_after).await;
        }
        let call = Call::new("PUT /spaces/{spaceId}/members/{userId}").path("spaceId", id);
        let call = call
            .path("userId", self.user(member))
            .body(json!({ "role": role }));
        let answer = self.call(user, call, dies_after).await;
        let own = self.world.role(user, space);
        let it = &mut self.world.spaces[space];
        let before = it.members.get(&member).copied();
        let demoted = before == Some(Role::Owner) && role != Role::Owner;
        let refused = match own {
            None => Some(NOT_FOUND),
            Some(_) if it.personal => Some((403, "personal-space")),
            // Setting the role that the user already has is allowed.
            Some(own) if user == member && own == role => None,
            Some(Role::Owner) if demoted && it.owners() == 1 => Some((409, "last-owner")),
            Some(Role::Owner) => None,
            Some(_) => Some(FORBIDDEN),
        };
        if let Some(expected) = refused {
            assert_eq!(answer.problem(), expected);
            return;
        }
        assert_eq!((answer.status, &answer.body["role"]), (200, &json!(role)));
        it.members.insert(member, role);
        if before != Some(role) {
            let subject = json!([self.user(member), role]);
            self.world.spaces[space]
                .feed
                .push(("MEMBER_CHANGED", user, subject));
            self.world.spaces[member]
                .feed
                .push(("SPACE_SHARED", user, json!([id, role])));
        }
    }

    async fn unshare(&mut self, user: usize, space: usize, member: usize, dies_after: Option<usize>) {
        let space = self.world.space(user, space);
        let Some(id) = self.world.spaces[space].id else {
            return;
        };
        let call = Call::new("DELETE /spaces/{spaceId}/members/{userId}").path("spaceId", id);
        let answer = self
            .call(user, call.path("userId", self.user(member)), dies_after)
            .await;
        let own = self.world.role(user, space);
        let it = &mut self.world.spaces[space];
        let before = it.members.get(&member).copied();
        let refused = match own {
            None => Some(NOT_FOUND),
            Some(_) if it.personal => Some((403, "personal-space")),
            Some(role) if role != Role::Owner && user != member => Some(FORBIDDEN),
            Some(_) if before == Some(Role::Owner) && it.owners() == 1 => Some((409, "last-owner")),
            Some(_) => None,
        };
        if let Some(expected) = refused {
            assert_eq!(answer.problem(), expected);
            return;
        }
        // If the interrupted request removed the user, its repetition no longer sees the space.
        let left = dies_after.is_some() && user == member && answer.problem() == NOT_FOUND;
        assert!(answer.status == 204 || left, "{answer:?}");
        it.members.remove(&member);
        if before.is_some() {
            let subject = json!([self.user(member)]);
            self.world.spaces[space]
                .feed
                .push(("MEMBER_REMOVED", user, subject));
            self.world.spaces[member]
                .feed
                .push(("SPACE_LEFT", user, json!([id])));
        }
    }

    async fn invite(
        &mut self,
        user: usize,
        space: usize,
        member: usize,
        role: Role,
        dies_after: Option<usize>,
    ) {
        let Some(id) = self.world.spaces[space].id else {
            return;
        };
        let call = Call::new("POST /spaces/{spaceId}/invitations").path("spaceId", id);
        let call = call.body(json!({ "userId": self.user(member), "role": role }));
        let answer = self.call(user, call, dies_after).await;
        if let Some(expected) = self.world.refuses_managing(user, space) {
            assert_eq!(answer.problem(), expected);
            return;
        }
        assert_eq!(answer.status, 201, "{answer:?}");
        let made: InvitationView = answer.parsed();
        let refused = self.world.refused.contains(&(member, user));
        let mut pending = self.world.invitations.iter_mut();
        let pending = pending.find(|it| it.space == space && it.invited == member);
        let told = if let Some(it) = pending {
            assert_eq!(made.invitation_id, it.id);
            let changed = it.role != role || it.inviter != user;
            it.role = role;
            if !refused {
                it.inviter = user;
            }
            changed
        } else {
            self.world.invitations.push(Invitation {
                id: made.invitation_id,
                space,
                invited: member,
                inviter: user,
                role,
            });
            true
        };
        if told && !refused {
            self.world.spaces[member]
                .feed
                .push(("SPACE_INVITED", user, json!([id, role])));
        }
    }

    async fn accept(&mut self, user: usize, dies_after: Option<usize>) {
        let Some(invitation) = self.world.received(user).next().cloned() else {
            return;
        };
        let call = Call::new("POST /invitations/{invitationId}/accept").path("invitationId", invitation.id);
        let answer = self.call(user, call, dies_after).await;
        assert_eq!(
            (answer.status, &answer.body["role"]),
            (200, &json!(invitation.role))
        );
        self.world.invitations.retain(|it| it.id != invitation.id);
        let subject = json!([self.user(user), invitation.role]);
        let space = &mut self.world.spaces[invitation.space];
        space.members.insert(user, invitation.role);
        space.feed.push(("MEMBER_CHANGED", user, subject));
        let subject = json!([space.id, invitation.role]);
        self.world.spaces[user].feed.push(("SPACE_SHARED", user, subject));
    }

    async fn decline(&mut self, user: usize, block: bool, dies_after: Option<usize>) {
        let Some(invitation) = self.world.received(user).next().cloned() else {
            return;
        };
        let call = Call::new("POST /invitations/{invitationId}/decline").path("invitationId", invitation.id);
        let answer = self
            .call(user, call.body(json!({ "block": block })), dies_after)
            .await;
        assert_eq!(answer.status, 204, "{answer:?}");
        self.world.invitations.retain(|it| it.id != invitation.id);
        if block {
            self.world.refused.insert((user, invitation.inviter));
        }
    }

    async fn withdraw(&mut self, user: usize, space: usize, member: usize, dies_after: Option<usize>) {
        let mut pending = self.world.invitations.iter();
        let space = self.world.space(user, space);
        let Some(invitation) = pending.find(|it| it.space == space && it.invited == member) else {
            return;
        };
        let invitation = invitation.clone();
        let call = Call::new("DELETE /spaces/{spaceId}/invitations/{invitationId}")
            .path("spaceId", self.world.spaces[space].id.unwrap())
            .path("invitationId", invitation.id);
        let answer = self.call(user, call, dies_after).await;
        if let Some(expected) = self.world.refuses_managing(user, space) {
            assert_eq!(answer.problem(), expected);
            return;
        }
        assert_eq!(answer.status, 204, "{answer:?}");
        self.world.invitations.retain(|it| it.id != invitation.id);
    }

    async fn rename_space(&mut self, user: usize, space: usize, dies_after: Option<usize>) {
        let space = self.world.space(user, space);
        let Some(id) = self.world.spaces[space].id else {
            return;
        };
        self.counter += 1;
        let name = format!("Space {}", self.counter);
        let call = Call::new("PATCH /spaces/{spaceId}").path("spaceId", id);
        let answer = self
            .call(user, call.body(json!({ "name": name })), dies_after)
            .await;
        if let Some(expected) = self.world.refuses_managing(user, space) {
            assert_eq!(answer.problem(), expected);
            return;
        }
        assert_eq!((answer.status, &answer.body["name"]), (200, &json!(name)));
        let space = &mut self.world.spaces[space];
        space.feed.push(("SPACE_RENAMED", user, json!([name])));
        space.name = name;
    }

    async fn delete_space(&mut self, user: usize, space: usize, dies_after: Option<usize>) {
        let space = self.world.space(user, space);
        let Some(id) = self.world.spaces[space].id else {
            return;
        };
        let call = Call::new("DELETE /spaces/{spaceId}").path("spaceId", id);
        let answer = self.call(user, call, dies_after).await;
        let owns = self.world.spaces[space].members.get(&user) == Some(&Role::Owner);
        if let Some(expected) = self.world.refuses_managing(user, space) {
            if self.world.spaces[space].deleted && owns {
                assert_eq!(answer.status, 204);
            } else {
                assert_eq!(answer.problem(), expected);
            }
            return;
        }
        assert_eq!(answer.status, 204, "{answer:?}");
        let space = &mut self.world.spaces[space];
        space.deleted = true;
        space.feed.push(("SPACE_DELETED", user, json!([])));
    }

    async fn restore_space(&mut self, user: usize, space: usize, dies_after: Option<usize>) {
        let space = self.world.space(user, space);
        let Some(id) = self.world.spaces[space].id else {
            return;
        };
        let call = Call::new("POST /spaces/{spaceId}/restore").path("spaceId", id);
        let answer = self.call(user, call, dies_after).await;
        let it = &mut self.world.spaces[space];
        match it.members.get(&user) {
            Some(Role::Owner) => {
                assert_eq!(answer.status, 200, "{answer:?}");
                if it.deleted {
                    it.deleted = false;
                    it.feed.push(("SPACE_RESTORED", user, json!([])));
                }
            }
            Some(_) if !it.deleted => assert_eq!(answer.problem(), FORBIDDEN),
            _ => assert_eq!(answer.problem(), NOT_FOUND),
        }
    }

    /// Compares everything that each user can see with the model.
    async fn check(&mut self) {
        for user in 0..USERS {
            let personal = self.call(user, Call::new("GET /changes"), None).await;
            self.check_feed(&personal.parsed(), user);
            let list: SpaceList = self.call(user, Call::new("GET /spaces"), None).await.parsed();
            let listed: BTreeMap<SpaceId, (Role, i64)> = list
                .spaces
                .iter()
                .map(|view| (view.space_id, (view.role, view.latest_sequence.get())))
                .collect();
            let mut expected = BTreeMap::new();
            for space in 0..self.world.spaces.len() {
                let it = &self.world.spaces[space];
                // A personal space that was created by a notification and has not been used yet.
                let id = it.id.or_else(|| {
                    let own = list
                        .spaces
                        .iter()
                        .find(|view| view.kind == model::SpaceKind::Personal);
                    own.filter(|_| space == user).map(|view| view.space_id)
                });
                let Some(id) = id else { continue };
                let role = self.world.role(user, space);
                if let Some(role) = role {
                    expected.insert(id, (role, i64::try_from(it.feed.len()).unwrap()));
                }
                self.world.spaces[space].id = Some(id);
                let files = self
                    .call(user, Call::new("GET /files").query("spaceId", id), None)
                    .await;
                let feed = Call::new("GET /changes")
                    .query("spaceId", id)
                    .query("limit", 1000);
                let feed = self.call(user, feed, None).await;
                if role.is_none() {
                    assert_eq!((files.problem(), feed.problem()), (NOT_FOUND, NOT_FOUND));
                    continue;
                }
                self.check_files(&files.parsed(), space);
                self.check_feed(&feed.parsed(), space);
            }
            assert_eq!(listed, expected);
            for view in &list.spaces {
                let space = self.world.spaces.iter().find(|it| it.id == Some(view.space_id));
                let name = space.map_or("", |space| space.name.as_str());
                assert_eq!(view.name.as_ref().map_or("", |name| name.as_str()), name);
            }
            let call = Call::new("GET /invitations");
            let list: ReceivedInvitationList = self.call(user, call, None).await.parsed();
            let seen = list.invitations.iter();
            let seen: Vec<_> = seen
                .map(|it| (it.invitation_id, it.inviter_id.to_string(), it.role))
                .collect();
            let expected = self.world.received(user);
            let expected: Vec<_> = expected
                .map(|it| (it.id, self.user(it.inviter), it.role))
                .collect();
            assert_eq!(seen, expected);
        }
    }

    fn check_files(&self, list: &FileList, space: usize) {
        let seen: BTreeMap<FileId, (String, i64, String)> = list
            .files
            .iter()
            .map(|file| {
                let state = (file.path.to_string(), file.version.get(), file.sha256.to_string());
                (file.file_id, state)
            })
            .collect();
        let files = self.world.spaces[space].files.iter();
        let expected = files.map(|(id, file)| {
            let sha256 = client::sha256(file.content.as_bytes()).to_string();
            (*id, (file.path.clone(), file.version, sha256))
        });
        assert_eq!(seen, expected.collect());
    }

    fn check_feed(&self, feed: &ChangeList, space: usize) {
        let sequences: Vec<i64> = feed.changes.iter().map(|change| change.sequence.get()).collect();
        assert_eq!(sequences, (1..=feed.latest_sequence.get()).collect::<Vec<_>>());
        let seen: Vec<(String, String, Value)> = feed
            .changes
            .iter()
            .map(|change| {
                let event = serde_json::to_value(change).unwrap();
                let subject = match &change.change {
                    model::Change::SpaceShared {
                        subject_space_id,
                        role,
                    }
                    | model::Change::SpaceInvited {
                        subject_space_id,
                        role,
                    } => json!([subject_space_id, role]),
                    model::Change::SpaceRenamed { name } => json!([name]),
                    model::Change::SpaceDeleted {} | model::Change::SpaceRestored {} => json!([]),
                    model::Change::SpaceLeft { subject_space_id } => json!([subject_space_id]),
                    model::Change::MemberChanged { member_id, role } => json!([member_id, role]),
                    model::Change::MemberRemoved { member_id } => json!([member_id]),
                    _ => json!([event["path"], event["version"]]),
                };
                (
                    event["eventType"].as_str().unwrap().to_owned(),
                    change.user_id.to_string(),
                    subject,
                )
            })
            .collect();
        let expected = self.world.spaces[space].feed.iter();
        let expected =
            expected.map(|(kind, user, subject)| ((*kind).to_owned(), self.user(*user), subject.clone()));
        assert_eq!(seen, expected.collect::<Vec<_>>());
    }
}

/// Runs a function to its end, or drops it after this number of await points; then returns `None`.
pub(crate) async fn die_after<T>(waits: usize, function: impl Future<Output = T>) -> Option<T> {
    let mut function = pin!(function);
    let mut waited = 0;
    poll_fn(|context| match function.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if waited == waits => Poll::Ready(None),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}

fn run_share(seed: u64, histories: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let apps = runtime.block_on(TestContext::create());
    let config = Config {
        cases: histories / THREADS,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_iters: 500,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&vec(step(), 1..16), |steps| {
        runtime.block_on(async {
            let mut history = History {
                apps: &apps,
                environment: apps.environment(),
                world: World::new(),
                id: platform::ids::new_id().to_string(),
                counter: 0,
            };
            // A user can become a member only after using the service once.
            for user in 0..USERS {
                history.call(user, Call::new("GET /spaces"), None).await;
            }
            for step in steps {
                history.step(step).await;
            }
            history.check().await;
        });
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}\nrepeat with {SEED}={seed}");
    }
}

#[test]
fn random_histories_show_what_a_small_model_says() {
    let number = std::env::var_os(HISTORIES).map(|number| number.to_str().unwrap().parse().unwrap());
    let histories = number.unwrap_or(DEFAULT_HISTORIES);
    let given = std::env::var_os(SEED).map(|seed| seed.to_str().unwrap().parse::<u64>().unwrap());
    let seed = given.unwrap_or_else(|| platform::ids::new_id().as_u64_pair().1);
    // Reported first, so that a failed run can be repeated.
    report(&format!(
        "{histories} histories in {THREADS} shares from {SEED}={seed}"
    ));
    let shares: Vec<_> = (0..THREADS)
        .map(|share| {
            let seed = if given.is_some() {
                seed
            } else {
                seed.wrapping_add(u64::from(share))
            };
            std::thread::spawn(move || run_share(seed, histories))
        })
        .collect();
    for share in shares {
        share.join().unwrap();
    }
}
