//! Inputs and effects of the engine.

use std::sync::Arc;

use model::{Cursor, FileId, IdempotencyKey, ModifiedAt, Role, Sequence, Sha256, SpacePath, Version};

use crate::disk::{DiskError, Stamp};
use crate::execute::{Job, Report};
use crate::path::LocalPath;
use crate::plan::Hold;
use crate::store::RowChange;
use crate::tree::{Position, RemoteChange, RemoteRow};

/// The present, which the driver passes with each input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Milliseconds of a clock that never goes back, such as that of `std::time::Instant`.
    pub monotonic: u64,
    /// Milliseconds since 1970. Only labels use it.
    pub wall: i64,
}

/// Identifies an effect that has a result. Ids are not used again while the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectId(pub u64);

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The time of an [`Effect::Wake`] has come. It may come late, early or more than once.
    Tick,
    /// A disk job ended. An error ends the engine: the driver drops it and reports the reason.
    Disk(EffectId, Result<Report, DiskError>),
    /// An [`Effect::Fetch`] ended. `Ok`: the part is complete and has the SHA-256.
    Fetched(EffectId, Result<(), RemoteError>),
    /// An [`Effect::Upload`] ended.
    Uploaded(EffectId, Result<Committed, RemoteError>),
    /// An [`Effect::Request`] ended.
    Answered(EffectId, Result<Answer, RemoteError>),
    /// A page of the listing that [`Request::List`] asked for, before its [`Input::Answered`].
    Listed(EffectId, Vec<(FileId, RemoteRow)>),
    /// The service has a newer change than the cursor. Changes that came with the hint are not passed: the feed
    /// is the truth, and the engine reads it.
    Pushed,
    /// These folders, or entries of them, may have changed.
    Watched(Vec<LocalPath>),
    /// Events of the watcher were lost, or a watch could not be added: anything may have changed.
    WatchOverflow,
    /// The user wants something.
    Command(Command),
}

/// What the user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start nothing new that changes the folder or the space. Observing goes on.
    Pause,
    /// End the pause.
    Resume,
    /// Make the deletions that the guard holds.
    Confirm,
    /// Bring back what the guard holds, on both sides.
    Undo,
    /// Do not sync this folder or file on this device any more. Its unchanged files go to the trash.
    Exclude(SpacePath),
    /// Sync it again.
    Include(SpacePath),
    /// Look at everything again: the folder, the trash and the feed.
    Rescan,
    /// End in order: start nothing, save that the end was clean. [`Effect::Stopped`] follows.
    Stop,
}

/// Something to do. The module documentation of the crate has the rules.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Make these rows durable, before anything that follows.
    Commit(Vec<RowChange>),
    /// Run [`execute::run`](crate::execute::run) with this job. The result is [`Input::Disk`].
    Disk(EffectId, Job),
    /// Download a version into a part. The result is [`Input::Fetched`].
    Fetch(EffectId, Fetch),
    /// Add a version. The result is [`Input::Uploaded`].
    Upload(EffectId, Box<Upload>),
    /// Call the service. The result is [`Input::Answered`].
    Request(EffectId, Request),
    /// Stop a fetch or an upload as soon as possible. Its result is still passed.
    Cancel(EffectId),
    /// Pass [`Input::Tick`] at this time of [`Now::monotonic`]. A new wish replaces the former one.
    Wake(u64),
    /// Report changes of the entries of this folder from now on by [`Input::Watched`]. The folder is listed
    /// afterwards, so that nothing is missed in between.
    Watch(LocalPath),
    /// Something for people and logs.
    Tell(Told),
    /// The engine ended, and takes no more inputs.
    Stopped(Stopped),
}

/// A version to download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The file.
    pub file_id: FileId,
    /// The version.
    pub version: Version,
    /// The size in bytes.
    pub size: u64,
    /// The SHA-256 that the content must have.
    pub sha256: Sha256,
    /// The name of the file in [`Area::Parts`](crate::path::Area::Parts). It may exist from an attempt before:
    /// its content is then checked and continued, or thrown away.
    pub part: Arc<str>,
}

/// A version to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The file on the disk. It is opened as a [`Disk`](crate::disk::Disk) opens: no link, no other kind.
    pub local: LocalPath,
    /// The stamp when it was hashed. If the open file has another one, the upload ends with
    /// [`RemoteError::ContentChanged`].
    pub stamp: Stamp,
    /// The path in the space.
    pub path: SpacePath,
    /// The size in bytes.
    pub size: u64,
    /// The SHA-256. Content with another one must never be committed: the bytes are hashed while they are sent.
    pub sha256: Sha256,
    /// The version that it replaces; `None` if the path must be free (`baseVersion` 0).
    pub base: Option<(FileId, Version)>,
    /// The idempotency key, which was committed before.
    pub key: IdempotencyKey,
    /// The modification time of the version.
    pub modified_at: Option<ModifiedAt>,
    /// The executable bit of the version.
    pub executable: Option<bool>,
}

/// A call of the service. All calls are made in the epoch that the engine knows
/// ([`Effect::Request`] is not sent before the first [`Answer::Position`]), and changes carry the device id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The role of the user, the epoch and the newest change.
    Position,
    /// All files of the space, page by page.
    List,
    /// A page of the feed after this position.
    Changes(Cursor),
    /// Moves a file that has this version and this path.
    Move {
        /// The file.
        file_id: FileId,
        /// The new path.
        to: SpacePath,
        /// The version that it must have.
        base_version: Version,
        /// The path that it must have.
        base_path: SpacePath,
    },
    /// Moves a file that has this version and this path to the trash of the space.
    Delete {
        /// The file.
        file_id: FileId,
        /// The version that it must have.
        base_version: Version,
        /// The path that it must have.
        base_path: SpacePath,
    },
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Request::Position`].
    Position(Role, Position),
    /// To [`Request::List`]: all pages were passed. The listing was made in this epoch from its first page to
    /// its last.
    Listed(model::Epoch),
    /// To [`Request::Changes`].
    Changes(ChangePage),
    /// To a move or a deletion.
    Committed(Committed),
}

/// A page of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangePage {
    /// The changes after the position of the request, in order and without gaps.
    pub changes: Vec<RemoteChange>,
    /// Whether more follow.
    pub has_more: bool,
    /// Epoch and newest change when the page was read.
    pub position: Position,
}

/// A change of the space that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The file.
    pub file_id: FileId,
    /// Its path after the change, or before its deletion.
    pub path: SpacePath,
    /// Its version.
    pub version: Version,
    /// The number of the change.
    pub sequence: Sequence,
}

/// A failed upload, fetch or request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteError {
    /// The network or the service failed, or was busy, after the retries of the client. Try again later.
    Unavailable(String),
    /// The space is not as the engine thought: a version conflict, a taken path, a file that is gone
    /// (409, 404). Read the feed and plan again.
    Outdated(String),
    /// The upload expired (410): send it with another key.
    Expired,
    /// Another epoch began (410 `feed-reset`). Nothing was changed.
    OtherEpoch,
    /// The role does not allow it (403).
    Forbidden(String),
    /// The service refuses this for good (400, 413, 422, a full quota).
    Refused(String),
    /// The user is not a member of the space any more, or it was deleted (404 on the space).
    SpaceGone,
    /// The sign-in is over (401).
    SignedOut,
    /// The file on the disk changed while it was read. Nothing was committed.
    ContentChanged,
    /// The content of the version does not have its SHA-256. Fetching it again does not help.
    WrongContent,
    /// The disk failed while reading or writing.
    Disk(DiskError),
    /// [`Effect::Cancel`] ended it.
    Cancelled,
}

/// What people may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A version was placed at this path.
    Placed(LocalPath, Version),
    /// A version was sent.
    Sent(SpacePath, Version),
    /// A file went to the trash of this device, because the space deleted it.
    Trashed(LocalPath),
    /// A file was deleted in the space.
    Deleted(SpacePath),
    /// A file moved on the disk.
    MovedHere(LocalPath, LocalPath),
    /// A file moved in the space.
    MovedThere(SpacePath, SpacePath),
    /// A file was kept under another name.
    Conflict {
        /// The name that it had.
        of: LocalPath,
        /// The name that it has.
        copy: LocalPath,
    },
    /// A file that was deleted here is back, because it was changed elsewhere.
    CameBack(SpacePath),
    /// A file that was deleted elsewhere is sent again, because it was changed here.
    Restored(LocalPath),
    /// A path waits for something. Told once while the reason stays.
    Held(Arc<str>, Hold),
    /// A path waits no longer.
    Released(Arc<str>),
    /// Everything is equal, except what is held. The numbers are files in agreement and held paths.
    Current {
        /// Files in agreement.
        files: usize,
        /// Held paths.
        held: usize,
    },
    /// Work began after [`Told::Current`].
    Working,
    /// Deletions wait for [`Command::Confirm`] or [`Command::Undo`].
    DeletionsHeld {
        /// Deletions in the space, of files that were deleted here.
        there: usize,
        /// Deletions here, of files that were deleted in the space.
        here: usize,
    },
    /// The service was restored from a backup. What this device has beyond it is kept.
    OtherEpoch,
    /// The root folder is a copy, or was moved: nothing is deleted, and everything is compared again.
    Rejoined,
    /// The service cannot be reached; the engine tries again.
    Unavailable(String),
    /// The user may only read this space: changes made here are held.
    ReadOnly,
}

/// Why the engine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// [`Command::Stop`].
    Asked,
    /// The root folder is missing, or is another one, such as the mount point of a disk that is not mounted.
    RootMissing(String),
    /// The disk failed.
    Disk(DiskError),
    /// The user is not a member of the space any more, or it was deleted. Nothing was removed here.
    SpaceGone,
    /// The sign-in is over.
    SignedOut,
    /// 200 rounds of planning without a new observation: a defect of the engine.
    NoProgress(String),
}
