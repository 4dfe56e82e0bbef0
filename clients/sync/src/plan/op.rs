//! Operations and holds.

use std::fmt;

use model::{FileId, SpacePath, Version};
use serde::{Deserialize, Serialize};

use crate::path::LocalPath;
use crate::tree::{LocalFile, RemoteRow, SyncedRow};

/// The reason why a path is not synced for now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Hold {
    /// A folder here, a file there.
    TypeClash,
    /// A link or a special file has the name.
    NotAFile,
    /// Another file has the same name on this volume or in the space.
    NameClash,
    /// The name is not UTF-8, or the service or this system refuses it.
    BadName(String),
    /// A folder on the way cannot be read.
    Unreadable,
    /// The user may only read the space.
    ReadOnly,
    /// The direction is switched off (`--up`, `--down`).
    Direction,
    /// The deletion waits for the user.
    DeletionGuard,
    /// The path is excluded on this device, but has a file.
    Excluded,
    /// The file is being written all the time.
    Busy,
    /// The volume is full.
    NoSpace,
    /// The disk refused.
    Disk(String),
    /// The service refused.
    Refused(String),
    /// The content of the version does not have its SHA-256.
    WrongContent,
    /// The service or the network failed; it is tried again.
    Unavailable(String),
}

/// Something to do, which is independent of the other operations of its plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Add a version. Without a base the path must be free in the space.
    Upload {
        /// The file.
        local: LocalPath,
        /// What was seen of it, with its SHA-256.
        file: LocalFile,
        /// The path in the space.
        path: SpacePath,
        /// The version that it replaces.
        base: Option<(FileId, Version)>,
    },
    /// Move a file of the space.
    MoveThere {
        /// The file.
        id: FileId,
        /// The version that it must have.
        version: Version,
        /// The path that it must have.
        from: SpacePath,
        /// The new path.
        to: SpacePath,
        /// Where its file is on the disk; `None` if the new path is only on the way.
        local: Option<LocalPath>,
    },
    /// Delete a file of the space.
    DeleteThere {
        /// The file.
        id: FileId,
        /// The version that it must have.
        version: Version,
        /// The path that it must have.
        path: SpacePath,
    },
    /// Download a version and place it.
    Download {
        /// The file.
        id: FileId,
        /// The version.
        row: RemoteRow,
        /// The place.
        to: LocalPath,
        /// The file that it replaces, which must have this SHA-256; `None` if the place must be free.
        replaced: Option<LocalFile>,
        /// The executable bit of the replaced file, if its user has set it since both sides agreed. The placed
        /// file keeps it, and it goes to the space with the next version.
        keeps: Option<bool>,
    },
    /// Move a file to the trash of this device.
    Remove {
        /// The file.
        id: FileId,
        /// The place.
        local: LocalPath,
        /// What was seen there, with the SHA-256 of the synced version.
        file: LocalFile,
        /// The synced row afterwards: another file with the same content is at another place. `None`: the space
        /// has deleted the file.
        then: Option<Box<SyncedRow>>,
    },
    /// Move files on the disk. Several take each other's places.
    MoveHere(Vec<Move>),
    /// Give a file that is in the way a conflict name.
    SetAside {
        /// The file.
        local: LocalPath,
        /// The first name to try.
        copy: LocalPath,
        /// The synced row that follows it.
        owner: Option<FileId>,
    },
    /// Both sides agree: save this row.
    Agree(FileId, Box<SyncedRow>),
    /// Set the executable bit, and then save this row.
    SetExecutable(FileId, Box<SyncedRow>, bool),
    /// Forget that both sides agreed.
    Forget(FileId, Forgotten),
}

/// A file that moves on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The file.
    pub id: FileId,
    /// The place.
    pub from: LocalPath,
    /// What was seen there.
    pub file: LocalFile,
    /// The new place.
    pub to: LocalPath,
    /// The path in the space.
    pub path: SpacePath,
}

/// Why a synced row is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// The file is gone on both sides.
    Gone,
    /// Both sides have other content.
    Conflict,
    /// It was deleted here, and changed there.
    ChangedThere,
    /// It was deleted there, and changed here.
    ChangedHere,
    /// Its place has something that is not synced.
    Replaced,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upload {
                local,
                path,
                base: None,
                ..
            } => write!(f, "send {local} as the new file {path}"),
            Self::Upload {
                local,
                path,
                base: Some((_, version)),
                ..
            } => {
                write!(f, "send {local} as the version of {path} after {version}")
            }
            Self::MoveThere { from, to, .. } => write!(f, "move {from} to {to} in the space"),
            Self::DeleteThere { path, version, .. } => {
                write!(f, "delete {path}, version {version}, in the space")
            }
            Self::Download {
                row, to, replaced, ..
            } => {
                let replaced = if replaced.is_some() { ", replacing" } else { "" };
                write!(
                    f,
                    "download {}, version {}, to {to}{replaced}",
                    row.path, row.version
                )
            }
            Self::Remove {
                local, then: None, ..
            } => write!(f, "move {local} to the trash"),
            Self::Remove {
                local,
                then: Some(row),
                ..
            } => {
                write!(f, "move {local} to the trash, because {} is the same", row.local)
            }
            Self::MoveHere(moves) => {
                f.write_str("move here")?;
                for one in moves {
                    write!(f, " {} to {}", one.from, one.to)?;
                }
                Ok(())
            }
            Self::SetAside { local, .. } => write!(f, "give {local} a conflict name"),
            Self::Agree(_, row) => write!(f, "note that {} and {} agree", row.local, row.path),
            Self::SetExecutable(_, row, bit) => write!(f, "set the executable bit of {} to {bit}", row.local),
            Self::Forget(id, why) => write!(f, "forget the agreement about {id}: {why:?}"),
        }
    }
}
