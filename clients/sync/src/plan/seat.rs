//! Where the file of a synced row is on the disk, and what is at a place.

use model::FileId;

use super::{Decision, Hold, Planner};
use crate::names::space_path;
use crate::path::LocalPath;
use crate::tree::{Certainty, FolderState, LocalEntry, LocalFile, SyncedRow};

/// Where the file of a synced row is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seat {
    /// At its place, or moved to this one.
    At(LocalPath, LocalFile),
    /// It is gone, and was looked for twice.
    Gone,
    /// It is gone, and a folder has its place.
    Folder,
    /// A link or a special file has its place, or is on the way.
    Other,
    /// Something must be scanned or read first.
    Pending,
    /// It cannot be known.
    Unknown,
}

/// What is at a place.
pub(super) enum Occupant {
    /// Nothing.
    Free,
    /// The file for which the place is asked, under a name that the volume takes for the same.
    Itself(LocalPath),
    /// A file without a synced row.
    Stranger(LocalPath, LocalFile),
    /// A file that belongs to another synced row: at its place, or moved here.
    Owned(FileId),
    /// Something else: wait or hold.
    Blocked(Decision),
}

impl Planner<'_> {
    /// Where the file of a row is.
    pub(super) fn seat(&self, id: FileId, row: &SyncedRow) -> Seat {
        let entry = self.trees.local(&row.local);
        if let Some(LocalEntry::File(file)) = entry {
            return Seat::At(row.local.clone(), file);
        }
        if let Some(path) = self.trees.moved_to(id)
            && let Some(file) = self.trees.local_file(&path)
        {
            return Seat::At(path, file);
        }
        let gone = match entry {
            Some(LocalEntry::Folder(FolderState::Mount)) => return Seat::Unknown,
            Some(LocalEntry::Folder(_)) => Seat::Folder,
            Some(LocalEntry::Link | LocalEntry::Special) => return Seat::Other,
            Some(LocalEntry::File(_)) | None => match self.trees.certainty(&row.local) {
                Certainty::Certain => Seat::Gone,
                Certainty::NotYet => return Seat::Pending,
                Certainty::Unreadable => return Seat::Unknown,
                Certainty::BehindLink => return Seat::Other,
            },
        };
        let is_confirmed = self
            .trees
            .absent()
            .get(&id)
            .is_some_and(|absence| absence.is_confirmed);
        // A file that was not read yet may be this one, at another place.
        if is_confirmed && self.settings.is_scanned && !self.trees.has_unread_of_size(row.size) {
            gone
        } else {
            Seat::Pending
        }
    }

    /// What is at a place that a file of the space wants. `id` is that file.
    pub(super) fn occupant(&self, place: &LocalPath, id: FileId) -> Occupant {
        let key = self.trees.names().local_key(place);
        let at: Vec<&LocalPath> = self.trees.local_with_key(&key).collect();
        // On a volume that does not ignore case, an entry in another Unicode form is another file.
        let at = at.iter().find(|path| **path == place).or(at.first());
        if let Some(path) = at {
            return self.occupant_of((*path).clone(), id);
        }
        // Is a folder on the way a file?
        for folder in place.folders() {
            let key = self.trees.names().local_key(&folder);
            let mut at = self.trees.local_with_key(&key);
            let exact = self.trees.local(&folder).map(|_| folder.clone());
            if let Some(path) = exact.or_else(|| at.next().cloned()) {
                match self.trees.local(&path) {
                    Some(LocalEntry::Folder(FolderState::Listed)) => return Occupant::Free,
                    Some(LocalEntry::Folder(FolderState::Unlisted)) => {
                        return Occupant::Blocked(Decision::Wait);
                    }
                    Some(LocalEntry::Folder(FolderState::Unreadable | FolderState::Mount)) => {
                        return Occupant::Blocked(Decision::Hold(Hold::Unreadable));
                    }
                    _ => return self.occupant_of(path, id),
                }
            }
        }
        match self.trees.local(&LocalPath::root()) {
            Some(LocalEntry::Folder(FolderState::Listed)) => Occupant::Free,
            _ => Occupant::Blocked(Decision::Wait),
        }
    }

    fn occupant_of(&self, path: LocalPath, id: FileId) -> Occupant {
        match self.trees.local(&path) {
            Some(LocalEntry::File(file)) => {
                let owner = self.trees.owner(&path).or_else(|| self.trees.moved_from(&path));
                match owner {
                    Some(owner) if owner == id => Occupant::Itself(path),
                    Some(owner) => Occupant::Owned(owner),
                    None => Occupant::Stranger(path, file),
                }
            }
            Some(LocalEntry::Folder(_)) => Occupant::Blocked(Decision::Hold(Hold::TypeClash)),
            Some(LocalEntry::Link | LocalEntry::Special) => Occupant::Blocked(Decision::Hold(Hold::NotAFile)),
            None => Occupant::Free,
        }
    }

    /// Whether the file of a row is about to leave its path in the space, because of what was done to it here.
    pub(super) fn leaves_there(&self, id: FileId) -> bool {
        let (Some(row), Some(remote)) = (self.trees.synced(id), self.trees.remote(id)) else {
            return false;
        };
        if self.settings.is_viewer || !self.settings.sends {
            return false;
        }
        let is_same = row.version == remote.version && row.path == remote.path;
        match self.seat(id, row) {
            Seat::At(path, _) => path != row.local && row.path == remote.path && space_path(&path).is_ok(),
            Seat::Gone | Seat::Folder | Seat::Pending => is_same,
            Seat::Other | Seat::Unknown => false,
        }
    }
}
