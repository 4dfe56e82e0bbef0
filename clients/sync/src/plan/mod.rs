//! What to do with each file: pure functions of the trees.

use serde::{Deserialize, Serialize};

/// The reason why a path is not synced for now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Hold {
    /// A folder here, a file there.
    TypeClash,
    /// A link or a special file has the name.
    NotAFile,
    /// Another file of the space has the same name on this volume.
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
