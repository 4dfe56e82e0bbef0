//! The rows of the three trees.

use model::{Epoch, FileId, ModifiedAt, Sequence, Sha256, SpacePath, Version};
use serde::{Deserialize, Serialize};

use crate::disk::Stamp;
use crate::path::LocalPath;

/// A file of the space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteRow {
    /// The path in the space.
    pub path: SpacePath,
    /// The current version.
    pub version: Version,
    /// The size in bytes.
    pub size: u64,
    /// The SHA-256 of the content.
    pub sha256: Sha256,
    /// The modification time that the version carries.
    pub modified_at: Option<ModifiedAt>,
    /// The executable bit that the version carries.
    pub executable: Option<bool>,
}

/// An entry of the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LocalEntry {
    /// A regular file.
    File(LocalFile),
    /// A folder.
    Folder(FolderState),
    /// A symbolic link. Links are not synced, and not followed.
    Link,
    /// A pipe, socket or device. Not synced, and not opened.
    Special,
}

/// A regular file of the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalFile {
    /// Identity, size and times when it was last looked at.
    pub stamp: Stamp,
    /// The SHA-256 of the content with this stamp; `None` if it was not read yet.
    pub sha256: Option<Sha256>,
    /// Whether the stamp was so young when the content was read that a later edit may have the same stamp.
    pub is_racy: bool,
    /// The executable bit; `None` if the volume has none.
    pub executable: Option<bool>,
}

/// What is known of the entries of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FolderState {
    /// Not listed since it was found. Its entries are unknown.
    Unlisted,
    /// Listed from the beginning to the end: what is not in the tree is not in the folder.
    Listed,
    /// The last listing failed. Its entries are unknown.
    Unreadable,
    /// Another file system is mounted here. Its entries are unknown, and not synced.
    Mount,
}

/// The last state in which the folder and the space agreed about a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncedRow {
    /// The path in the space.
    pub path: SpacePath,
    /// The path on the disk, as the disk spells it.
    pub local: LocalPath,
    /// The version.
    pub version: Version,
    /// The size in bytes.
    pub size: u64,
    /// The SHA-256 of the content.
    pub sha256: Sha256,
    /// The executable bit that both had; `None` if the volume has none or the version does not say.
    pub executable: Option<bool>,
    /// The stamp of the file with this content.
    pub stamp: Stamp,
    /// The own change of the space that led to this state. While the cursor is before it, the remote tree is
    /// older than this row.
    pub sequence: Option<Sequence>,
}

/// A change of the feed, as far as the engine needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteChange {
    /// The number of the change.
    pub sequence: Sequence,
    /// The subject.
    pub subject: Subject,
}

/// The subject of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A file is at a path with a version: a new version, a move, or a file that is back from the trash.
    File(FileId, Box<RemoteRow>),
    /// A file was deleted.
    Deleted(FileId),
    /// The name, the members or the existence of the space changed: the role may be another.
    Space,
    /// Nothing that the engine knows.
    Unknown,
}

/// A position in the history of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The epoch.
    pub epoch: Epoch,
    /// The number of the newest change of the space; 0 if there is none.
    pub latest: model::Cursor,
    /// The number of the newest change when the epoch began; `None` in the first epoch.
    pub restored_at: Option<model::Cursor>,
}
