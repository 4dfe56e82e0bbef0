//! Defects that the simulation plants, to show that it finds them. Without the feature `simulation` none exists.

/// A defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// A replaced file is renamed over, without a look at it.
    ReplaceWithoutCapture,
    /// A captured file is removed at once, so what an open handle writes to it later is lost.
    CapturedFileIsUnlinked,
    /// The synced row is committed before the file is placed.
    CommitBeforePlacing,
    /// The content of a part is not made durable.
    NoSync,
    /// An error while a folder is read is taken for its end.
    ListingErrorIsEnd,
    /// Pages of a listing are used before the last one.
    PartialListing,
    /// Files are paired by inode number, without their birth or content.
    PairByInodeOnly,
    /// The base of an upload does not name the file.
    BaseWithoutFile,
    /// An edited file that was deleted in the space is removed.
    EditLosesToDelete,
    /// A conflict copy replaces a file of its name.
    ConflictCopyReplaces,
    /// Synced rows of paths that are hidden now are kept.
    HidingKeepsRows,
    /// Lost events of the watcher are ignored, and nothing is scanned hourly.
    OverflowIgnored,
    /// Another epoch is not noticed.
    EpochIgnored,
    /// Stamps are compared without their change time, and young stamps are believed.
    StampWithoutChangeTime,
    /// Keys keep the case on volumes that ignore it.
    KeyWithoutCaseFold,
    /// Changes that this device made are not applied to the remote tree.
    OwnChangesSkipped,
    /// Files of an excluded folder are removed before the exclusion is saved.
    ExcludeRemovesFirst,
    /// The identity of the root is not compared.
    RootNotChecked,
    /// The deletion guard counts files that moved.
    GuardCountsMoves,
    /// The content of an upload is not compared with its SHA-256.
    UploadNotCompared,
    /// Local files are removed to mirror a space that may only be read.
    ViewerMirrors,
}

impl Bug {
    /// All defects.
    pub const ALL: [Self; 21] = [
        Self::ReplaceWithoutCapture,
        Self::CapturedFileIsUnlinked,
        Self::CommitBeforePlacing,
        Self::NoSync,
        Self::ListingErrorIsEnd,
        Self::PartialListing,
        Self::PairByInodeOnly,
        Self::BaseWithoutFile,
        Self::EditLosesToDelete,
        Self::ConflictCopyReplaces,
        Self::HidingKeepsRows,
        Self::OverflowIgnored,
        Self::EpochIgnored,
        Self::StampWithoutChangeTime,
        Self::KeyWithoutCaseFold,
        Self::OwnChangesSkipped,
        Self::ExcludeRemovesFirst,
        Self::RootNotChecked,
        Self::GuardCountsMoves,
        Self::UploadNotCompared,
        Self::ViewerMirrors,
    ];
}

#[cfg(feature = "simulation")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a defect in this thread, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether the defect is planted in this thread.
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(not(feature = "simulation"))]
mod switch {
    /// No defect is planted.
    #[inline]
    pub const fn is_planted(_bug: super::Bug) -> bool {
        false
    }
}

pub(crate) use switch::is_planted;
#[cfg(feature = "simulation")]
pub use switch::plant;
