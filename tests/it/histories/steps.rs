//! The steps of a history, and how likely each is.

use model::Role;
use proptest::collection::vec;
use proptest::prelude::*;
use time::Duration;

/// Number of users.
pub(super) const USERS: usize = 3;

/// Maximum number of random steps of a history, plus one.
const STEPS: usize = 18;

/// The paths that files are put at. Some are folders of others.
pub(super) const PATHS: [&str; 6] = ["/a", "/b", "/Docs", "/Docs/a", "/Docs/ü", "/a/x"];

/// A path at which no file is ever created.
pub(super) const NOWHERE: &str = "/nowhere";

/// The times that a step can wait, and how likely each is. In order: a minute, in which a user's changes are
/// counted; so long that pending uploads are aborted; so long that their content is freed; `TrashDays`, when
/// files are purged and deleted spaces can no longer be restored; then with the grace after which these are
/// purged; `VersionDays`.
const WAITS: [(u32, Duration); 6] = [
    (6, Duration::MINUTE),
    (2, Duration::hours(14)),
    (1, Duration::hours(40)),
    (2, Duration::days(30)),
    (2, Duration::days(30).saturating_add(Duration::hours(1))),
    (1, Duration::days(180)),
];

/// Base of a request: the version, and for uploads the file or for moves and deletes the path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Base {
    Unsaid,
    Current,
    Stale,
    /// The current version, with the current file or path.
    Named,
    /// The current version, with another file or path.
    Elsewhere,
}

/// The epoch that a request names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Known {
    Nothing,
    Current,
    Former,
}

/// The maximums that an operator sets for a user.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Limits {
    pub(super) changes: Option<u32>,
    pub(super) pending: Option<u32>,
    pub(super) spaces: Option<u32>,
}

/// An upload to open. Its content is sent if `send`.
#[derive(Clone, Debug)]
pub(super) struct NewUpload {
    pub(super) space: usize,
    pub(super) path: usize,
    pub(super) base: Base,
    pub(super) send: bool,
}

/// A move of a file, or without a path its deletion.
#[derive(Clone, Debug)]
pub(super) struct FileEdit {
    pub(super) file: usize,
    pub(super) to: Option<usize>,
    pub(super) base: Base,
}

/// An action of a user, an operator or the schedule. Indexes select one of the existing spaces, files,
/// uploads or invitations.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Opens an upload, sends the content and completes it.
    Upload {
        space: usize,
        path: usize,
        base: Base,
    },
    /// Opens an upload, and sends the content if `send`.
    Open {
        space: usize,
        path: usize,
        base: Base,
        send: bool,
    },
    Complete {
        upload: usize,
    },
    Abort {
        upload: usize,
    },
    /// Opens uploads with one request, and completes them with another if `complete`.
    OpenAll {
        uploads: Vec<NewUpload>,
        complete: bool,
    },
    /// Completes uploads with one request.
    CompleteAll {
        uploads: Vec<usize>,
    },
    /// Moves and deletes files with one request.
    EditAll {
        edits: Vec<FileEdit>,
    },
    /// Two devices complete uploads from the same base at once.
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
    Erase {
        file: usize,
        base: Base,
    },
    RestoreFile {
        file: usize,
        path: Option<usize>,
    },
    RestoreVersion {
        file: usize,
        version: usize,
        base: Base,
    },
    CreateSpace,
    Rename {
        space: usize,
    },
    DeleteSpace {
        space: usize,
    },
    RestoreSpace {
        space: usize,
    },
    /// Sets the role of a member, or invites somebody who is none.
    Share {
        space: usize,
        member: usize,
        role: Role,
    },
    Unshare {
        space: usize,
        member: usize,
    },
    Accept {
        invitation: usize,
    },
    Decline {
        invitation: usize,
        block: bool,
    },
    Withdraw {
        space: usize,
        invitation: usize,
    },
    /// Opens a socket.
    Connect,
    EraseAccount,
    /// An operator blocks the user.
    Block,
    Unblock,
    LimitUser {
        limits: Limits,
    },
    LimitSpace {
        space: usize,
        bytes: Option<u32>,
    },
    BeginEpoch,
    /// Time passes, and then the schedule runs `maintenance`, if `maintain`.
    Wait {
        time: Duration,
        maintain: bool,
    },
}

/// An action, its user, the epoch that the user's requests name, and the number of await points after which
/// each of their functions dies, if it does.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) user: usize,
    pub(super) act: Act,
    pub(super) known: Known,
    pub(super) dies_after: Option<usize>,
}

fn base() -> impl Strategy<Value = Base> + Clone {
    prop_oneof![
        3 => Just(Base::Unsaid), 2 => Just(Base::Current), 1 => Just(Base::Stale), 2 => Just(Base::Named),
        1 => Just(Base::Elsewhere),
    ]
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Owner), Just(Role::Editor), Just(Role::Viewer)]
}

fn files() -> impl Strategy<Value = Act> {
    let (space, file, path) = (0..16_usize, 0..32_usize, 0..PATHS.len());
    let another = prop_oneof![Just(None), path.clone().prop_map(Some)];
    prop_oneof![
        12 => (space.clone(), path.clone(), base()).prop_map(|(space, path, base)| Act::Upload { space, path, base }),
        3 => (space.clone(), path.clone(), base(), any::<bool>())
            .prop_map(|(space, path, base, send)| Act::Open { space, path, base, send }),
        3 => (0..8_usize).prop_map(|upload| Act::Complete { upload }),
        1 => (0..8_usize).prop_map(|upload| Act::Abort { upload }),
        2 => (0..USERS, space, path.clone()).prop_map(|(other, space, path)| Act::Race { other, space, path }),
        4 => (file.clone(), path, base()).prop_map(|(file, path, base)| Act::Move { file, path, base }),
        5 => (file.clone(), base()).prop_map(|(file, base)| Act::Delete { file, base }),
        2 => (file.clone(), base()).prop_map(|(file, base)| Act::Erase { file, base }),
        4 => (file.clone(), another).prop_map(|(file, path)| Act::RestoreFile { file, path }),
        4 => (file, 0..6_usize, base())
            .prop_map(|(file, version, base)| Act::RestoreVersion { file, version, base }),
    ]
}

/// Requests with several items.
fn batches() -> impl Strategy<Value = Act> {
    let path = 0..PATHS.len();
    let send = prop_oneof![1 => Just(false), 4 => Just(true)];
    let upload = (0..16_usize, path.clone(), base(), send).prop_map(|(space, path, base, send)| NewUpload {
        space,
        path,
        base,
        send,
    });
    let to = prop_oneof![2 => Just(None), 3 => path.prop_map(Some)];
    let edit = (0..32_usize, to, base()).prop_map(|(file, to, base)| FileEdit { file, to, base });
    prop_oneof![
        4 => (vec(upload, 1..7), prop_oneof![1 => Just(false), 2 => Just(true)])
            .prop_map(|(uploads, complete)| Act::OpenAll { uploads, complete }),
        3 => vec(0..8_usize, 1..6).prop_map(|uploads| Act::CompleteAll { uploads }),
        4 => vec(edit, 1..7).prop_map(|edits| Act::EditAll { edits }),
    ]
}

fn spaces() -> impl Strategy<Value = Act> {
    let (space, invitation) = (0..16_usize, 0..4_usize);
    prop_oneof![
        5 => Just(Act::CreateSpace),
        1 => space.clone().prop_map(|space| Act::Rename { space }),
        2 => space.clone().prop_map(|space| Act::DeleteSpace { space }),
        2 => space.clone().prop_map(|space| Act::RestoreSpace { space }),
        8 => (space.clone(), 0..USERS, role()).prop_map(|(space, member, role)| Act::Share { space, member, role }),
        3 => (space.clone(), 0..USERS).prop_map(|(space, member)| Act::Unshare { space, member }),
        7 => invitation.clone().prop_map(|invitation| Act::Accept { invitation }),
        3 => (invitation.clone(), any::<bool>())
            .prop_map(|(invitation, block)| Act::Decline { invitation, block }),
        3 => (space, invitation).prop_map(|(space, invitation)| Act::Withdraw { space, invitation }),
    ]
}

fn others() -> impl Strategy<Value = Act> {
    let maximum = || prop_oneof![1 => Just(None), 1 => (1..5_u32).prop_map(Some)];
    let limits = (maximum(), maximum(), maximum()).prop_map(|(changes, pending, spaces)| Limits {
        changes,
        pending,
        spaces,
    });
    let waits = WAITS.map(|(weight, time)| (weight, Just(time)));
    let waits = proptest::strategy::Union::new_weighted(waits.to_vec());
    // An object has about 40 bytes, and one of parts 50.
    let bytes = prop_oneof![1 => Just(None), 3 => (1..5_u32).prop_map(|objects| Some(objects * 40))];
    prop_oneof![
        3 => Just(Act::Connect),
        2 => Just(Act::EraseAccount),
        2 => Just(Act::Block),
        3 => Just(Act::Unblock),
        3 => limits.prop_map(|limits| Act::LimitUser { limits }),
        2 => (0..16_usize, bytes).prop_map(|(space, bytes)| Act::LimitSpace { space, bytes }),
        1 => Just(Act::BeginEpoch),
        7 => (waits, prop_oneof![1 => Just(false), 3 => Just(true)])
            .prop_map(|(time, maintain)| Act::Wait { time, maintain }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let act = prop_oneof![8 => files(), 4 => batches(), 6 => spaces(), 4 => others()];
    let known = prop_oneof![6 => Just(Known::Nothing), 3 => Just(Known::Current), 1 => Just(Known::Former)];
    let dies_after = prop_oneof![3 => Just(None), 1 => (1..14_usize).prop_map(Some)];
    // Those who share a space at first do most.
    let user = prop_oneof![5 => Just(0), 4 => Just(1), 2 => Just(2_usize)];
    (user, act, known, dies_after).prop_map(|(user, act, known, dies_after)| Step {
        user,
        act,
        known,
        dies_after,
    })
}

/// Steps after which two users share a space with a file that has two versions. Without them, a few steps
/// seldom reach what takes a shared space.
fn shared_space(role: Role) -> Vec<Step> {
    let upload = |path| Act::Upload {
        space: 0,
        path,
        base: Base::Unsaid,
    };
    let acts = [
        (0, Act::CreateSpace),
        (
            0,
            Act::Share {
                space: 0,
                member: 1,
                role,
            },
        ),
        (1, Act::Accept { invitation: 0 }),
        (0, upload(0)),
        (0, upload(0)),
    ];
    let step = |(user, act)| Step {
        user,
        act,
        known: Known::Nothing,
        dies_after: None,
    };
    acts.map(step).to_vec()
}

/// The steps of a history: first those that share a space, in two of three histories, then random ones.
pub(super) fn history() -> impl Strategy<Value = (Option<Vec<Step>>, Vec<Step>)> {
    let shared = role().prop_map(|role| Some(shared_space(role)));
    (prop_oneof![1 => Just(None), 2 => shared], vec(step(), 1..STEPS))
}
