//! Disk jobs: short sequences of calls that observe, or that capture, verify and then dispose.
//!
//! Between the last look at a file and a rename, its owner may save it. So a file is first captured, by a rename
//! or by an exchange into [`Area::Aside`](crate::path::Area::Aside), then read there, and only then moved to the
//! trash. What turns out to be an edit goes back to its place if that is free, and gets a conflict name if not.

mod capture;
mod inspect;
mod place;
mod recover;
mod shift;

use std::sync::Arc;

use model::{ModifiedAt, Sha256};

use crate::disk::{Disk, DiskError, DiskErrorKind, Listing, Meta, RootIdentity, Stamp, Volume};
use crate::path::LocalPath;
use crate::store::{Intent, TrashRow};
use crate::tree::LocalFile;

/// A sequence of calls of a [`Disk`](crate::disk::Disk). Items of a job are independent of each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Finds the root and the properties of its volume. With an id, makes the root first if it has no marker.
    Open(Option<String>),
    /// Compares the root with this identity.
    CheckRoot(RootIdentity),
    /// Takes everything out of [`Area::Aside`](crate::path::Area::Aside) and empties the parts that are not
    /// listed.
    Recover {
        /// The rows of the store.
        intents: Vec<(Arc<str>, Intent)>,
        /// Files in the trash that have rows.
        trash: Vec<Arc<str>>,
        /// The label of conflict names.
        label: Arc<str>,
    },
    /// Lists folders.
    Scan(Vec<LocalPath>),
    /// Reads files.
    Hash(Vec<LocalPath>),
    /// Puts complete parts in their places.
    Place(Vec<Placement>),
    /// Moves files to the trash, because the space has deleted them.
    Remove(Vec<Removal>),
    /// Moves files within the tree.
    Move(Vec<Rename>),
    /// Gives files a conflict name.
    SetAside(Vec<SettingAside>),
    /// Sets executable bits.
    SetExecutable(Vec<(LocalPath, Stamp, bool)>),
    /// Looks whether files in the trash were written to.
    CheckTrash(Vec<(Arc<str>, TrashRow)>),
    /// Moves files out of the trash.
    Rescue(Vec<Rescue>),
    /// Removes files from the trash for good.
    Purge(Vec<Arc<str>>),
    /// Removes parts that nobody needs.
    Discard(Vec<Arc<str>>),
}

impl Job {
    /// The name of the kind of job, for logs and counters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::CheckRoot(_) => "check root",
            Self::Recover { .. } => "recover",
            Self::Scan(_) => "scan",
            Self::Hash(_) => "hash",
            Self::Place(_) => "place",
            Self::Remove(_) => "remove",
            Self::Move(_) => "move",
            Self::SetAside(_) => "set aside",
            Self::SetExecutable(_) => "set executable",
            Self::CheckTrash(_) => "check trash",
            Self::Rescue(_) => "rescue",
            Self::Purge(_) => "purge",
            Self::Discard(_) => "discard",
        }
    }

    /// Whether the job changes nothing in the root folder. Several such jobs may run at the same time.
    pub fn is_read_only(&self) -> bool {
        matches!(
            self,
            Self::CheckRoot(_) | Self::Scan(_) | Self::Hash(_) | Self::CheckTrash(_)
        )
    }
}

/// A part that goes to its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The complete part.
    pub part: Arc<str>,
    /// Its SHA-256, which was verified.
    pub sha256: Sha256,
    /// The place.
    pub to: LocalPath,
    /// The file that must be there; `None` if the place must be free.
    pub replaced: Option<(Stamp, Sha256)>,
    /// The name in [`Area::Aside`](crate::path::Area::Aside) and in the trash for the replaced file.
    pub aside: Arc<str>,
    /// Whether the volume exchanges files atomically.
    pub exchanges: bool,
    /// The modification time.
    pub modified_at: Option<ModifiedAt>,
    /// The executable bit.
    pub executable: Option<bool>,
    /// The label of a conflict name, for what cannot be put back.
    pub label: Arc<str>,
}

/// A file that goes to the trash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The place.
    pub path: LocalPath,
    /// The stamp that it must have.
    pub stamp: Stamp,
    /// The SHA-256 that it must have.
    pub sha256: Sha256,
    /// The name in the trash.
    pub aside: Arc<str>,
    /// The label of a conflict name, for what cannot be put back.
    pub label: Arc<str>,
}

/// A file that moves. Moves of one job are made in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// The place.
    pub from: LocalPath,
    /// The new place, which must be free when it is this file's turn.
    pub to: LocalPath,
    /// The stamp that it must have.
    pub stamp: Stamp,
    /// If given, all files with a name here first go to [`Area::Aside`](crate::path::Area::Aside), so that files
    /// can take each other's places.
    pub aside: Option<Arc<str>>,
    /// The label of a conflict name, for what cannot be put back.
    pub label: Arc<str>,
}

/// A file that gets a conflict name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingAside {
    /// The path that the file has, or had.
    pub path: LocalPath,
    /// The label of the conflict name.
    pub label: Arc<str>,
}

/// A file that leaves the trash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescue {
    /// The name in the trash.
    pub name: Arc<str>,
    /// The path that the file had.
    pub path: LocalPath,
    /// Whether it goes back to its path if that is free. If not, it gets a conflict name.
    pub goes_back: bool,
    /// The label of the conflict name.
    pub label: Arc<str>,
}

/// The result of a job. Items are in the order of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Of [`Job::Open`].
    Open {
        /// The properties of the volume.
        volume: Box<Volume>,
        /// The root; `None` if it has no marker and none was to be made.
        root: Option<RootIdentity>,
        /// The run of the operating system.
        boot: Option<String>,
    },
    /// Of [`Job::CheckRoot`]: whether it is the same.
    Root(bool),
    /// Of [`Job::Recover`].
    Recovered(Vec<Recovered>),
    /// Of [`Job::Scan`].
    Scanned(Vec<(LocalPath, Result<Listing, DiskError>)>),
    /// Of [`Job::Hash`].
    Hashed(Vec<(LocalPath, Result<LocalFile, Failure>)>),
    /// Of [`Job::Place`].
    Placed(Vec<Result<Placed, Failure>>),
    /// Of [`Job::Remove`]: the stamp of the file in the trash.
    Removed(Vec<Result<(Stamp, Folders), Failure>>),
    /// Of [`Job::Move`]: the stamp of the file at its new place.
    Moved(Vec<Result<(Stamp, Folders), Failure>>),
    /// Of [`Job::SetAside`]: the new path, and the file there.
    SetAside(Vec<Result<(LocalPath, Stamp), Failure>>),
    /// Of [`Job::SetExecutable`]: the new stamp.
    SetExecutable(Vec<Result<Stamp, Failure>>),
    /// Of [`Job::CheckTrash`]: the files that have other content now, and the new stamps of the others whose
    /// stamps are other ones.
    TrashChecked(Vec<(Arc<str>, TrashState)>),
    /// Of [`Job::Rescue`]: where the files are.
    Rescued(Vec<Result<LocalPath, Failure>>),
    /// Of [`Job::Purge`].
    Purged(Vec<Result<(), Failure>>),
    /// Of [`Job::Discard`].
    Discarded,
}

/// A file that was found in [`Area::Aside`](crate::path::Area::Aside) at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Its name there.
    pub aside: Arc<str>,
    /// Where it is now.
    pub now: RecoveredTo,
}

/// Where a recovered file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveredTo {
    /// In the tree.
    Tree(LocalPath),
    /// In the trash, under the same name.
    Trash(TrashRow),
    /// There was no such file: the move had not been made, or had been finished.
    Nowhere,
}

/// A placed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The file at its place.
    pub file: LocalFile,
    /// The stamp of the replaced file in the trash.
    pub trashed: Option<Stamp>,
    /// Whether the file was still the placed one when it was looked at afterwards.
    pub is_settled: bool,
    /// Folders that were made for it.
    pub folders: Folders,
}

/// Folders that a job made and removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folders {
    /// Made, the outermost first.
    pub created: Vec<LocalPath>,
    /// Removed because they had become empty, the innermost first.
    pub removed: Vec<LocalPath>,
}

/// The state of a file in the trash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrashState {
    /// Its content is the same, and this is its stamp.
    Same(Stamp),
    /// Its content is another one.
    Written,
    /// It is gone.
    Gone,
}

/// Why an item of a job was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The disk is not as the engine thought. These folders must be scanned again. Nothing of the user is lost:
    /// what was captured is back in its place, or has the conflict name that is given.
    Changed(Option<LocalPath>),
    /// The same, and the version that was placed for a moment is in the trash under the item's name with this
    /// stamp, because a program may have opened it.
    Undone(Stamp),
    /// The file was written to while it was read. This is what it is now.
    Busy(Meta),
    /// The disk refused. Nothing was changed.
    Disk(DiskError),
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        match error.kind {
            DiskErrorKind::NotFound | DiskErrorKind::AlreadyExists | DiskErrorKind::NotEmpty => {
                Self::Changed(None)
            }
            _ => Self::Disk(error),
        }
    }
}

/// Runs a job. An error means that the disk failed: the engine must end.
pub fn run(disk: &dyn Disk, job: &Job) -> Result<Report, DiskError> {
    Ok(match job {
        Job::Open(marker) => inspect::open(disk, marker.as_deref())?,
        Job::CheckRoot(root) => Report::Root(disk.root()?.as_ref() == Some(root)),
        Job::Recover {
            intents,
            trash,
            label,
        } => Report::Recovered(recover::recover(disk, intents, trash, label)?),
        Job::Scan(folders) => Report::Scanned(inspect::scan(disk, folders)?),
        Job::Hash(paths) => Report::Hashed(inspect::hash_all(disk, paths)?),
        Job::Place(items) => Report::Placed(place::place(disk, items)?),
        Job::Remove(items) => Report::Removed(capture::remove(disk, items)?),
        Job::Move(items) => Report::Moved(shift::shift(disk, items)?),
        Job::SetAside(items) => Report::SetAside(shift::set_aside(disk, items)?),
        Job::SetExecutable(items) => Report::SetExecutable(shift::set_executable(disk, items)?),
        Job::CheckTrash(items) => Report::TrashChecked(recover::check_trash(disk, items)?),
        Job::Rescue(items) => Report::Rescued(recover::rescue(disk, items)?),
        Job::Purge(names) => {
            let purged = names
                .iter()
                .map(|name| item(disk.purge(name).map_err(Stop::from)));
            Report::Purged(purged.collect::<Result<_, _>>()?)
        }
        Job::Discard(parts) => {
            for part in parts {
                item(disk.remove_part(part).map_err(Stop::from))?.ok();
            }
            Report::Discarded
        }
    })
}

/// Why an item ends early.
enum Stop {
    /// The disk failed.
    Fatal(DiskError),
    /// Only this item failed.
    Failed(Failure),
}

impl From<DiskError> for Stop {
    fn from(error: DiskError) -> Self {
        if error.kind == DiskErrorKind::Fatal {
            Self::Fatal(error)
        } else {
            Self::Failed(error.into())
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The result of an item, unless the disk failed.
fn item<T>(result: Result<T, Stop>) -> Result<Result<T, Failure>, DiskError> {
    match result {
        Ok(done) => Ok(Ok(done)),
        Err(Stop::Failed(failure)) => Ok(Err(failure)),
        Err(Stop::Fatal(error)) => Err(error),
    }
}
