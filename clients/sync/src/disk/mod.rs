//! The disk as the engine uses it.

#[cfg(feature = "driver")]
mod real;

use model::ModifiedAt;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::path::{Area, Folder, LocalPath, Place};
#[cfg(feature = "driver")]
pub use real::RealDisk;
#[cfg(feature = "driver")]
pub(crate) use real::disk_error;
#[cfg(feature = "driver")]
pub use real::rename::{exchange, rename_with_flag};

/// A root folder and the engine's private folder in it.
///
/// All calls block. No call follows a link, leaves the root, crosses into another mounted file system, or opens
/// anything but regular files and folders. Each call is atomic towards other processes only as far as its
/// documentation says; other processes may change the folder between any two calls.
///
/// An implementation is used by several threads: calls that read may run beside others, and the engine never
/// makes two calls at the same time of which one changes something, except [`Disk::append_part`].
pub trait Disk: Send + Sync {
    /// The time before which stamps are final, in nanoseconds since 1970: a file that is changed from now on gets
    /// a later [`Stamp::changed`] than this. It is the present by the clock of the file system, less
    /// [`Volume::granularity`].
    fn settled_before(&self) -> i64;

    /// Finds out the properties of the volume by experiments in the private folder.
    fn probe(&self) -> Result<Volume, DiskError>;

    /// The identity of the root folder now, found through its path. `None` if there is no marker.
    fn root(&self) -> Result<Option<RootIdentity>, DiskError>;

    /// Makes the private folder and its areas durable, with a marker that has this id. An existing marker is
    /// replaced.
    fn create_root(&self, marker: &str) -> Result<RootIdentity, DiskError>;

    /// Identifies the run of the operating system: another one after each start of the machine. `None` if that is
    /// not known. After a power loss, files of the last minutes may be missing or damaged, without a user having
    /// done that.
    fn boot(&self) -> Option<String> {
        None
    }

    /// Lists a folder of the tree, with the metadata of each entry. The private folder is not listed.
    ///
    /// Fails if reading the folder ends with an error, if the metadata of an entry cannot be read for another
    /// reason than that the entry is gone, and with [`DiskErrorKind::NotFound`] if there is no folder at this
    /// path (nothing, a file, a link). An entry that goes during the call may be missing or not.
    fn list(&self, folder: &LocalPath) -> Result<Listing, DiskError>;

    /// The metadata of an entry; `None` if nothing is there, or if a folder of the path is missing or no folder.
    fn stat(&self, place: &Place) -> Result<Option<Meta>, DiskError>;

    /// Reads a regular file from its beginning to its end. Returns the metadata of the open file before the
    /// first read and after the last one. [`DiskErrorKind::NotFound`] also if no regular file is there.
    fn read(&self, place: &Place, each: &mut dyn FnMut(&[u8])) -> Result<(Meta, Meta), DiskError>;

    /// Renames, and never replaces: [`DiskErrorKind::AlreadyExists`] if `to` is taken. Atomic on volumes with
    /// [`Volume::renames_without_replacing`]; on others as safe as the system allows.
    ///
    /// On a volume that ignores case, a name that differs only in case from the old one is *taken*.
    fn rename(&self, from: &Place, to: &Place) -> Result<(), DiskError>;

    /// Exchanges two files atomically. [`DiskErrorKind::Unsupported`] on volumes without
    /// [`Volume::exchanges`]; [`DiskErrorKind::NotFound`] if one is missing.
    fn exchange(&self, one: &Place, other: &Place) -> Result<(), DiskError>;

    /// Makes a folder whose parent exists. [`DiskErrorKind::AlreadyExists`] if anything has the name.
    fn create_folder(&self, folder: &LocalPath) -> Result<(), DiskError>;

    /// Removes an empty folder. [`DiskErrorKind::NotEmpty`] if it has entries.
    fn remove_folder(&self, folder: &LocalPath) -> Result<(), DiskError>;

    /// Makes the content and the metadata of a file durable. After an error the content must be thrown away,
    /// and the call not be repeated: the system forgets which pages were not written.
    fn sync_file(&self, place: &Place) -> Result<(), DiskError>;

    /// Makes the entries of a folder durable.
    fn sync_folder(&self, folder: &Folder) -> Result<(), DiskError>;

    /// Makes all content of the volume durable, for many files at once. Fails as [`Disk::sync_file`] does.
    fn sync_volume(&self) -> Result<(), DiskError>;

    /// Gives a file in [`Area::Parts`] its metadata: mode, owner and extended attributes of `like` as far as the
    /// system allows, then the executable bit and the modification time if they are given. Without `like` the
    /// mode is that of a new file.
    fn dress(
        &self,
        part: &str,
        like: Option<&Place>,
        modified_at: Option<ModifiedAt>,
        executable: Option<bool>,
    ) -> Result<(), DiskError>;

    /// Sets or clears the executable bits of a file, if the volume has them. Its content is not touched.
    fn set_executable(&self, place: &Place, executable: bool) -> Result<(), DiskError>;

    /// Creates an empty file in [`Area::Parts`]; an existing one is truncated.
    fn create_part(&self, part: &str) -> Result<(), DiskError>;

    /// Appends to a file in [`Area::Parts`].
    fn append_part(&self, part: &str, bytes: &[u8]) -> Result<(), DiskError>;

    /// Removes a file in [`Area::Parts`]. No error if it is gone.
    fn remove_part(&self, part: &str) -> Result<(), DiskError>;

    /// Removes a file in [`Area::Trash`] for good. The engine calls it only for files whose time is over.
    fn purge(&self, trashed: &str) -> Result<(), DiskError>;

    /// Lists an area of the engine.
    fn list_area(&self, area: Area) -> Result<Vec<(String, Meta)>, DiskError>;

    /// Renames, and replaces what is there. The engine never does that: a planted defect of the simulation does.
    #[cfg(feature = "simulation")]
    fn replace(&self, from: &Place, to: &Place) -> Result<(), DiskError>;

    /// The free space of the volume.
    fn space(&self) -> Result<FreeSpace, DiskError>;
}

/// Properties of the volume that holds the root.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent property of the volume"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Whether names that differ in case are one name.
    pub ignores_case: bool,
    /// Whether listings have the case with which a name was made.
    pub keeps_case: bool,
    /// Whether names in different Unicode forms are one name.
    pub ignores_form: bool,
    /// Whether `renameat2` has `RENAME_NOREPLACE`.
    pub renames_without_replacing: bool,
    /// Whether `renameat2` has `RENAME_EXCHANGE`.
    pub exchanges: bool,
    /// Whether an inode number stays with a file while the file exists.
    pub stable_inodes: bool,
    /// Whether files have a time of birth.
    pub has_birth: bool,
    /// The step of time stamps in nanoseconds. A stamp that is younger than this is not believed.
    pub granularity: i64,
}

impl Volume {
    /// A common Linux file system.
    pub const LINUX: Self = Self {
        ignores_case: false,
        keeps_case: true,
        ignores_form: false,
        renames_without_replacing: true,
        exchanges: true,
        stable_inodes: true,
        has_birth: true,
        // Linux stamps with the time of the last timer interrupt, up to 10 ms ago.
        granularity: 20_000_000,
    };
}

/// Identifies the root folder: another folder at the same path is noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootIdentity {
    /// The id in the marker file.
    pub marker: String,
    /// The device of the folder.
    pub device: u64,
    /// The inode of the folder.
    pub inode: u64,
    /// Identifies the machine.
    pub host: String,
}

/// The entries of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The entries whose names are UTF-8, in any order.
    pub entries: Vec<(String, Meta)>,
    /// The names that are not UTF-8, with replacement characters.
    pub unreadable_names: Vec<String>,
    /// Whether the folder was the same, with the same times, before and after, below a root that is the one of
    /// [`Disk::root`] at the start. If not, an entry that is missing in the listing may exist.
    pub is_stable: bool,
}

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A folder on which another file system is mounted.
    Mount,
    /// A symbolic link.
    Link,
    /// A pipe, socket or device.
    Special,
}

/// The metadata of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The kind.
    pub kind: Kind,
    /// Identity, size and times.
    pub stamp: Stamp,
    /// Whether the owner may execute the file; `None` if the volume does not say.
    pub executable: Option<bool>,
    /// The number of names that the file has.
    pub links: u32,
}

/// Identity, size and times of a file. A file with an equal stamp has equal content, unless the stamp was too
/// young when the content was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// The identity.
    pub identity: Identity,
    /// The size in bytes.
    pub size: u64,
    /// The modification time in nanoseconds since 1970. Programs can set it.
    pub modified: i64,
    /// The time of the last change of content or metadata, in nanoseconds since 1970. Programs cannot set it. A
    /// rename may change it or not.
    pub changed: i64,
}

impl Stamp {
    /// Whether both are of one file with the same content as far as times tell, before and after a rename, which
    /// may change [`Stamp::changed`].
    pub fn is_renamed(&self, other: &Self) -> bool {
        self.identity == other.identity && self.size == other.size && self.modified == other.modified
    }
}

/// Identifies a file of a volume while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
    /// The time of birth in nanoseconds since 1970, if the volume has it.
    pub birth: Option<i64>,
}

/// The free space of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// The bytes that this user can still write.
    pub available: u64,
    /// The size of the volume in bytes.
    pub total: u64,
}

/// A failed call of a [`Disk`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{detail}")]
pub struct DiskError {
    /// What the engine decides by.
    pub kind: DiskErrorKind,
    /// For people: the call, the path and the reason.
    pub detail: String,
}

impl DiskError {
    /// An error with a detail.
    pub fn new(kind: DiskErrorKind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { kind, detail }
    }
}

/// Kinds of failed calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DiskErrorKind {
    /// There is nothing at the place, or something of another kind than the call needs (ENOENT, ENOTDIR, ELOOP).
    NotFound,
    /// The new name is taken (EEXIST).
    AlreadyExists,
    /// The folder has entries (ENOTEMPTY).
    NotEmpty,
    /// The volume cannot do this (EINVAL, ENOTSUP, EXDEV).
    Unsupported,
    /// The volume or the quota is full (ENOSPC, EDQUOT).
    NoSpace,
    /// The user may not do this (EACCES, EPERM, EROFS).
    Denied,
    /// The name is too long or not allowed on the volume (ENAMETOOLONG, EINVAL, EILSEQ).
    BadName,
    /// A passing condition (EBUSY, ETXTBSY, EMFILE, EINTR, ESTALE).
    Busy,
    /// The disk failed (EIO), or any error that is not known. The engine stops.
    Fatal,
}
