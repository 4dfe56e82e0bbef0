//! What the engine persists.

pub mod memory;
#[cfg(feature = "driver")]
mod sqlite;

use std::sync::Arc;

use model::{Cursor, Epoch, FileId, IdempotencyKey, Sha256, SpacePath, Version};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::disk::{RootIdentity, Stamp};
use crate::path::LocalPath;
use crate::tree::{LocalEntry, RemoteRow, SyncedRow};
#[cfg(feature = "driver")]
pub use sqlite::{Binding, Explained, OpenError, Opened, SqliteStore};

/// Persists rows. Each commit is atomic, and durable when it returns.
pub trait Store: Send {
    /// Loads everything. An empty store gives [`Saved::default`].
    fn load(&mut self) -> Result<Saved, StoreError>;

    /// Applies the changes in order, all or none.
    fn commit(&mut self, changes: &[RowChange]) -> Result<(), StoreError>;
}

/// The store failed. The engine must not go on, because memory and store differ.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the state of the sync cannot be saved: {0}")]
pub struct StoreError(pub String);

/// All rows of a store, each table in any order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// The single values.
    pub meta: SavedMeta,
    /// What the space has, as of [`SavedMeta::cursor`].
    pub remote: Vec<(FileId, RemoteRow)>,
    /// What the folder has. Folders are entries too; the root is not.
    pub local: Vec<(LocalPath, LocalEntry)>,
    /// The last state in which both agreed.
    pub synced: Vec<(FileId, SyncedRow)>,
    /// Files in [`Area::Aside`](crate::path::Area::Aside).
    pub intents: Vec<(Arc<str>, Intent)>,
    /// Uploads that may have been sent, whose changes were not seen yet.
    pub uploads: Vec<(IdempotencyKey, SentUpload)>,
    /// Files in [`Area::Trash`](crate::path::Area::Trash).
    pub trash: Vec<(Arc<str>, TrashRow)>,
    /// Conflict copies that were made, for the user.
    pub conflicts: Vec<(LocalPath, ConflictRow)>,
    /// Folders and files that this device does not sync.
    pub excluded: Vec<SpacePath>,
}

/// Single values. They are saved as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedMeta {
    /// The root that the rows are about; `None` before the first start.
    pub root: Option<RootIdentity>,
    /// The epoch of `remote`; `None` before the first complete listing.
    pub epoch: Option<Epoch>,
    /// The position in the feed that `remote` is at.
    pub cursor: Cursor,
    /// Identifies the rules that hide files: names, ignore file, exclusions. Empty before the first start.
    pub rules: String,
    /// Whether the user paused the sync.
    pub paused: bool,
    /// Whether the last run ended in order.
    pub ended_cleanly: bool,
    /// The run of the operating system in which the rows were saved.
    pub boot: Option<String>,
}

/// A change of a row. `None` removes the row.
#[derive(Clone, Debug, PartialEq)]
pub enum RowChange {
    /// [`Saved::meta`].
    Meta(Box<SavedMeta>),
    /// [`Saved::remote`].
    Remote(FileId, Option<Box<RemoteRow>>),
    /// [`Saved::local`].
    Local(LocalPath, Option<Box<LocalEntry>>),
    /// [`Saved::synced`].
    Synced(FileId, Option<Box<SyncedRow>>),
    /// [`Saved::intents`].
    Intent(Arc<str>, Option<Box<Intent>>),
    /// [`Saved::uploads`].
    Upload(IdempotencyKey, Option<Box<SentUpload>>),
    /// [`Saved::trash`].
    Trash(Arc<str>, Option<Box<TrashRow>>),
    /// [`Saved::conflicts`].
    Conflict(LocalPath, Option<Box<ConflictRow>>),
    /// [`Saved::excluded`]: whether the path is in it.
    Excluded(SpacePath, bool),
}

/// A file that is, or will be, in [`Area::Aside`](crate::path::Area::Aside) under the row's name. The row is
/// committed before the file is moved. After a crash the file goes to the trash if it has one of the SHA-256s,
/// which the space has, and back to its path or to a conflict name otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The path that the file comes from, or goes to.
    pub path: LocalPath,
    /// The SHA-256 of the version that is placed or was replaced. Content with one of these is in the space.
    pub known: Vec<Sha256>,
    /// Whether the file is moved by way of `aside`, so it must be put back whatever its content is.
    pub is_move: bool,
}

/// A request to add a version that may have been sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentUpload {
    /// The file on the disk.
    pub local: LocalPath,
    /// The path in the space.
    pub path: SpacePath,
    /// The declared SHA-256.
    pub sha256: Sha256,
    /// The declared size.
    pub size: u64,
    /// The stamp of the file when it was hashed.
    pub stamp: Stamp,
    /// The version that it replaces; `None` for a new file.
    pub base: Option<(FileId, Version)>,
    /// The epoch in which it was sent.
    pub epoch: Epoch,
}

/// A file in the trash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashRow {
    /// The path that it had.
    pub path: LocalPath,
    /// The SHA-256 that it had when it came here. Other content is an edit through a handle that was open.
    pub sha256: Sha256,
    /// Its stamp when it was last hashed here.
    pub stamp: Stamp,
    /// When it came here, in milliseconds since 1970.
    pub at: i64,
}

/// A conflict copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictRow {
    /// The path that the copy would have without the conflict.
    pub of: LocalPath,
    /// When it was made, in milliseconds since 1970.
    pub at: i64,
}
