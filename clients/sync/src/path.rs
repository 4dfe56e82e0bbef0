//! Paths on the disk, and names in the engine's private folder.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A path below the root as the disk spells it, such as `/Docs/a.pdf`; the root itself is empty. The bytes are
/// those that the disk lists, which may be in another case or Unicode form than the path in the space. Names
/// that are not UTF-8 have no such path, and are never synced.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LocalPath(Arc<str>);

impl LocalPath {
    /// The root.
    pub fn root() -> Self {
        Self("".into())
    }

    /// A path from text that begins with `/`, or is empty. The text is not checked: it comes from a listing,
    /// from the store, or from a path of the space that was checked.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text.
    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The entry `name` of this folder.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        Self(format!("{}/{name}", self.0).into())
    }

    /// The folder that contains this; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.rfind('/').map(|end| Self(self.0[..end].into()))
    }

    /// The last segment; empty for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Whether this is `folder` or below it.
    pub fn is_within(&self, folder: &Self) -> bool {
        let rest = self.0.strip_prefix(&*folder.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The folders that contain this, the innermost first, without the root.
    pub fn folders(&self) -> impl Iterator<Item = Self> {
        let ends: Vec<usize> = self.0.match_indices('/').skip(1).map(|(end, _)| end).collect();
        ends.into_iter().rev().map(|end| Self(self.0[..end].into()))
    }
}

impl fmt::Debug for LocalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for LocalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

/// A folder of the engine below `.syncsphere`. All are on the file system of the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// Downloads that are not placed yet. Only these may be unlinked or overwritten.
    Parts,
    /// Files on their way. After a crash a file here belongs to the user until its SHA-256 says that the space
    /// has it.
    Aside,
    /// Files that were removed or replaced, kept for a time.
    Trash,
}

impl Area {
    /// All areas.
    pub const ALL: [Self; 3] = [Self::Parts, Self::Aside, Self::Trash];

    /// The name of the folder below `.syncsphere`.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Parts => "parts",
            Self::Aside => "aside",
            Self::Trash => "trash",
        }
    }
}

/// The name of the engine's private folder in the root. It is never synced.
pub const PRIVATE: &str = ".syncsphere";

/// A place on the disk: in the user's tree, or in an area of the engine, which has no folders.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// In the user's tree.
    Tree(LocalPath),
    /// In an area of the engine.
    Private(Area, Arc<str>),
}

impl Place {
    /// A place in an area.
    pub fn private(area: Area, name: impl Into<Arc<str>>) -> Self {
        Self::Private(area, name.into())
    }

    /// The folder that contains the place.
    pub fn folder(&self) -> Folder {
        match self {
            Self::Tree(path) => Folder::Tree(path.parent().unwrap_or_else(LocalPath::root)),
            Self::Private(area, _) => Folder::Private(*area),
        }
    }
}

impl From<LocalPath> for Place {
    fn from(path: LocalPath) -> Self {
        Self::Tree(path)
    }
}

/// A folder whose entries are made durable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// A folder of the user's tree.
    Tree(LocalPath),
    /// An area of the engine.
    Private(Area),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(path) => path.fmt(f),
            Self::Private(area, name) => write!(f, "/{PRIVATE}/{}/{name}", area.folder()),
        }
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(path) => path.fmt(f),
            Self::Private(area) => write!(f, "/{PRIVATE}/{}", area.folder()),
        }
    }
}
