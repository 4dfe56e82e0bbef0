//! Rows and columns of the planner's table.

/// A cell of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// The row.
    pub local: LocalClass,
    /// The column.
    pub remote: RemoteClass,
}

impl Class {
    /// There is nothing to decide about.
    pub const NONE: Self = Self {
        local: LocalClass::Nothing,
        remote: RemoteClass::Nothing,
    };

    /// A cell.
    pub const fn new(local: LocalClass, remote: RemoteClass) -> Self {
        Self { local, remote }
    }
}

/// What happened to a file in the folder since both sides agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LocalClass {
    /// The same content at the same place.
    Same,
    /// Other content.
    Edited,
    /// It is gone.
    Deleted,
    /// Another place.
    Moved,
    /// Another place and other content.
    MovedEdited,
    /// A folder has its place.
    Folder,
    /// A link or a special file has its place, or is on the way to it.
    Other,
    /// It is not known yet.
    Pending,
    /// It cannot be known.
    Unknown,
    /// There is no synced row, and a file.
    Created,
    /// There is no synced row, and no file.
    Nothing,
}

/// What happened to a file in the space since both sides agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RemoteClass {
    /// The same version at the same path.
    Same,
    /// Another version.
    Edited,
    /// It is gone.
    Deleted,
    /// Another path.
    Moved,
    /// Another path and another version.
    MovedEdited,
    /// The remote tree is older than the synced row.
    Behind,
    /// There is no synced row, and a file.
    Created,
    /// There is no synced row, and no file.
    Nothing,
}
