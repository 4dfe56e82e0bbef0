//! Decisions about files that were synced.

use std::collections::BTreeSet;

use model::{FileId, SpacePath};

use super::seat::{Occupant, Seat};
use super::{Class, Decision, Forgotten, Hiding, Hold, LocalClass, Move, Op, Planner, RemoteClass};
use crate::names::{conflict_name, space_path};
use crate::path::LocalPath;
use crate::planted::{Bug, is_planted};
use crate::tree::{LocalFile, RemoteRow, SyncedRow};

impl Planner<'_> {
    pub(super) fn synced(&self, id: FileId, row: &SyncedRow) -> (Class, Decision) {
        let remote = self.remote_class(id, row);
        let seat = self.seat(id, row);
        let class = Class::new(local_class(row, &seat), remote);
        if remote == RemoteClass::Behind {
            return (class, Decision::Wait);
        }
        let there = self.trees.remote(id).filter(|_| remote != RemoteClass::Deleted);
        let decision = match (seat, there) {
            (Seat::Pending, _) => Decision::Wait,
            (Seat::Unknown, _) => Decision::Hold(Hold::Unreadable),
            (Seat::At(_, file), _) if file.sha256.is_none() => Decision::Wait,
            (Seat::At(path, file), Some(there)) => self.present(id, row, there, path, file),
            (Seat::At(path, file), None) => self.deleted_there(id, row, path, file),
            (seat, there) => self.absent(id, row, &seat, there, remote),
        };
        (class, decision)
    }

    fn remote_class(&self, id: FileId, row: &SyncedRow) -> RemoteClass {
        if row
            .sequence
            .is_some_and(|sequence| self.trees.cursor < sequence.into())
        {
            return RemoteClass::Behind;
        }
        let there = self
            .trees
            .remote(id)
            .filter(|there| self.hiding(&there.path) == Hiding::No || is_planted(Bug::HidingKeepsRows));
        match there {
            None => RemoteClass::Deleted,
            Some(there) => match (there.version == row.version, there.path == row.path) {
                (true, true) => RemoteClass::Same,
                (false, true) => RemoteClass::Edited,
                (true, false) => RemoteClass::Moved,
                (false, false) => RemoteClass::MovedEdited,
            },
        }
    }

    /// The file is not in the folder.
    fn absent(
        &self,
        id: FileId,
        row: &SyncedRow,
        seat: &Seat,
        there: Option<&RemoteRow>,
        remote: RemoteClass,
    ) -> Decision {
        match (seat, there, remote) {
            (_, None, _) => Decision::Do(Op::Forget(id, Forgotten::Gone)),
            // A deletion counts only against exactly the state that its user saw.
            (Seat::Gone | Seat::Folder, Some(there), RemoteClass::Same) => self.send(Op::DeleteThere {
                id,
                version: row.version,
                path: there.path.clone(),
            }),
            (Seat::Gone, Some(_), _) => Decision::Do(Op::Forget(id, Forgotten::ChangedThere)),
            (Seat::Folder, Some(_), RemoteClass::Edited) => Decision::Hold(Hold::TypeClash),
            (Seat::Other, Some(_), RemoteClass::Same | RemoteClass::Edited) => Decision::Hold(Hold::NotAFile),
            _ => Decision::Do(Op::Forget(id, Forgotten::Replaced)),
        }
    }

    /// The file is in the folder, and not in the space.
    fn deleted_there(&self, id: FileId, row: &SyncedRow, path: LocalPath, file: LocalFile) -> Decision {
        let is_same = !is_edited(row, &file) && path == row.local;
        if is_same || is_planted(Bug::EditLosesToDelete) {
            self.receive(Op::Remove {
                id,
                local: path,
                file,
                then: None,
            })
        } else {
            Decision::Do(Op::Forget(id, Forgotten::ChangedHere))
        }
    }

    /// The file is on both sides: first its place, then its content.
    fn present(
        &self,
        id: FileId,
        row: &SyncedRow,
        there: &RemoteRow,
        path: LocalPath,
        file: LocalFile,
    ) -> Decision {
        if there.path != row.path {
            if path != row.local && space_path(&path).as_ref() == Ok(&there.path) {
                return agree(id, row, there.path.clone(), path);
            }
            return self.move_here(id, row, there, path, file);
        }
        if path != row.local {
            return match space_path(&path) {
                // On a volume that does not keep case, or in another Unicode form, the name in the space stays.
                Ok(to) if to == there.path => agree(id, row, to, path),
                Ok(to) => self.move_there(id, there, &path, to),
                Err(error) => Decision::Hold(Hold::BadName(error.to_string())),
            };
        }
        let is_edited_there = there.version != row.version;
        let set = set_bit(row, &file);
        match (is_edited(row, &file), is_edited_there) {
            (false, false) => Decision::Nothing,
            (true, false) => self.send(Op::Upload {
                local: path,
                file,
                path: there.path.clone(),
                base: Some((id, row.version)),
            }),
            (_, true) if file.sha256 == Some(there.sha256) => match set {
                // What its user has set is not undone: it is an edit of the new version.
                Some(bit) => {
                    let executable = Some(there.executable.unwrap_or(!bit));
                    let row = synced_row(there, path, &file);
                    Decision::Do(Op::Agree(id, Box::new(SyncedRow { executable, ..row })))
                }
                None => self.same_content(id, there, path, &file),
            },
            // The other content and the executable bit of this device do not exclude each other.
            (_, true) if !has_other_content(row, &file) => self.receive(Op::Download {
                id,
                row: there.clone(),
                to: path,
                replaced: Some(file),
                keeps: set,
            }),
            (_, true) => Decision::Do(Op::Forget(id, Forgotten::Conflict)),
        }
    }

    /// Both sides have the same content at the same path.
    pub(super) fn same_content(
        &self,
        id: FileId,
        there: &RemoteRow,
        path: LocalPath,
        file: &LocalFile,
    ) -> Decision {
        let row = Box::new(synced_row(there, path, file));
        match (there.executable, file.executable) {
            (Some(wanted), Some(is)) if wanted != is => self.receive(Op::SetExecutable(id, row, wanted)),
            _ => Decision::Do(Op::Agree(id, row)),
        }
    }

    /// The space has moved the file.
    fn move_here(
        &self,
        id: FileId,
        row: &SyncedRow,
        there: &RemoteRow,
        from: LocalPath,
        file: LocalFile,
    ) -> Decision {
        let to = self.trees.local_path(&there.path);
        let agreed = |local: &LocalPath| SyncedRow {
            path: there.path.clone(),
            local: local.clone(),
            ..row.clone()
        };
        let one = Move {
            id,
            from: from.clone(),
            file,
            to: to.clone(),
            path: there.path.clone(),
        };
        if self.is_clash(id, there) {
            return Decision::Hold(Hold::NameClash);
        }
        match self.occupant(&to, id) {
            Occupant::Itself(path) if path == to => Decision::Do(Op::Agree(id, Box::new(agreed(&path)))),
            // The volume takes the old and the new name for one, or the old place is a folder of the new one.
            Occupant::Free | Occupant::Itself(_) => self.receive(Op::MoveHere(vec![one])),
            Occupant::Stranger(path, other) => {
                if other.sha256.is_none() {
                    return Decision::Wait;
                }
                // The same content is there already: the old place is given up.
                let is_unchanged = !is_edited(row, &file) && there.version == row.version;
                if path == to && other.sha256 == file.sha256 && is_unchanged {
                    let then = Some(Box::new(SyncedRow {
                        stamp: other.stamp,
                        executable: other.executable,
                        ..agreed(&path)
                    }));
                    return self.receive(Op::Remove {
                        id,
                        local: from,
                        file,
                        then,
                    });
                }
                self.set_aside(path, None)
            }
            Occupant::Owned(other) => match self.cycle(id) {
                Some(moves) if moves.iter().map(|one| one.id).min() == Some(id) => {
                    self.receive(Op::MoveHere(moves))
                }
                Some(_) => Decision::Wait,
                None => self.wait_for(other),
            },
            // The folder has nothing but this file: it goes when the file leaves.
            Occupant::Blocked(Decision::Hold(Hold::TypeClash)) if self.is_alone_in(&from, &to) => {
                self.receive(Op::MoveHere(vec![one]))
            }
            Occupant::Blocked(decision) => decision,
        }
    }

    fn is_alone_in(&self, file: &LocalPath, folder: &LocalPath) -> bool {
        let key = self.trees.names().local_key(folder);
        // A volume that ignores case may have been written to by one that does not.
        let is_only = self.trees.local_with_key(&key).count() == 1;
        let mut below = self.trees.local_below(folder);
        is_only && file != folder && file.is_within(folder) && below.all(|(path, _)| file.is_within(path))
    }

    /// Waits for a file that is about to leave a place of the folder, because of what was done in the space or
    /// will be done there. If it stays, the volume takes two names of the space for one.
    pub(super) fn wait_for(&self, other: FileId) -> Decision {
        let (Some(row), Some(there)) = (self.trees.synced(other), self.trees.remote(other)) else {
            return Decision::Wait;
        };
        let is_at_rest = there.path == row.path
            && matches!(self.seat(other, row), Seat::At(path, _) if path == row.local)
            && self.hiding(&there.path) == Hiding::No;
        if is_at_rest {
            Decision::Hold(Hold::NameClash)
        } else {
            Decision::Wait
        }
    }

    /// The move that the space wants for a file.
    fn wanted_move(&self, id: FileId) -> Option<Move> {
        let (row, there) = (self.trees.synced(id)?, self.trees.remote(id)?);
        let Seat::At(from, file) = self.seat(id, row) else {
            return None;
        };
        if there.path == row.path
            || file.sha256.is_none()
            || self.remote_class(id, row) == RemoteClass::Behind
        {
            return None;
        }
        let to = self.trees.local_path(&there.path);
        (to != from).then(|| Move {
            id,
            from,
            file,
            to,
            path: there.path.clone(),
        })
    }

    /// Files that take each other's places, beginning with this one.
    fn cycle(&self, id: FileId) -> Option<Vec<Move>> {
        let mut moves: Vec<Move> = Vec::new();
        let mut next = id;
        loop {
            let one = self.wanted_move(next)?;
            let to = one.to.clone();
            moves.push(one);
            match self.occupant(&to, next) {
                Occupant::Owned(other) if other == id => return Some(moves),
                Occupant::Owned(other) if moves.iter().all(|one| one.id != other) => next = other,
                _ => return None,
            }
        }
    }

    /// The folder has moved the file.
    fn move_there(&self, id: FileId, there: &RemoteRow, from: &LocalPath, to: SpacePath) -> Decision {
        match self.hiding(&to) {
            Hiding::No => {}
            Hiding::Ignored => return Decision::Wait,
            Hiding::Excluded => return Decision::Hold(Hold::Excluded),
        }
        if self.is_twin(from, to.as_str()) {
            return Decision::Hold(Hold::NameClash);
        }
        if self.settings.is_viewer {
            return Decision::Hold(Hold::ReadOnly);
        }
        if !self.settings.sends {
            return Decision::Hold(Hold::Direction);
        }
        let op = |to, local| Op::MoveThere {
            id,
            version: there.version,
            from: there.path.clone(),
            to,
            local,
        };
        match self.blocker(Some(id), &to) {
            Blocker::None => Decision::Do(op(to, Some(from.clone()))),
            Blocker::Leaves(other) if self.is_in_cycle_there(id, other) => {
                let Ok(way) = self.free_name_there(&LocalPath::root().join(from.name())) else {
                    return Decision::Wait;
                };
                Decision::Do(op(way, None))
            }
            Blocker::Leaves(_) | Blocker::Changes => Decision::Wait,
            Blocker::Folder => Decision::Hold(Hold::TypeClash),
            Blocker::Stays => self.set_aside(from.clone(), Some(id)),
        }
    }

    /// The path that the folder wants for a file in the space.
    fn wanted_path(&self, id: FileId) -> Option<SpacePath> {
        let (row, there) = (self.trees.synced(id)?, self.trees.remote(id)?);
        let Seat::At(at, _) = self.seat(id, row) else {
            return None;
        };
        (at != row.local && there.path == row.path).then(|| space_path(&at).ok())?
    }

    /// Whether `other`, which must leave first, waits in turn for `id`; the smallest id goes by way of a free
    /// name.
    fn is_in_cycle_there(&self, id: FileId, other: FileId) -> bool {
        let mut seen = BTreeSet::from([id]);
        let mut next = other;
        loop {
            if next == id {
                return seen.first() == Some(&id);
            }
            if !seen.insert(next) {
                return false;
            }
            let Some(path) = self.wanted_path(next) else {
                return false;
            };
            match self.blocker(Some(next), &path) {
                Blocker::Leaves(other) => next = other,
                _ => return false,
            }
        }
    }

    /// A path of the space that nothing has. In the root, because folders on the way may be files yet.
    fn free_name_there(&self, near: &LocalPath) -> Result<SpacePath, ()> {
        for number in 1..100 {
            let name = conflict_name(near, self.settings.label, number);
            let path = space_path(&name).map_err(|_| ())?;
            if matches!(self.blocker(None, &path), Blocker::None) && self.trees.local(&name).is_none() {
                return Ok(path);
            }
        }
        Err(())
    }

    /// Who has a path in the space that a file of the folder wants.
    pub(super) fn blocker(&self, id: Option<FileId>, path: &SpacePath) -> Blocker {
        let mut found = Blocker::None;
        for other in self.trees.remote_within(path.as_str()) {
            let Some(row) = self.trees.remote(other) else {
                continue;
            };
            // Another case is another path.
            if Some(other) == id || !row.path.excludes(path) {
                continue;
            }
            if self.leaves_there(other) {
                found = Blocker::Leaves(other);
            } else if self.is_behind(other) {
                return Blocker::Changes;
            } else {
                return Blocker::Stays;
            }
        }
        for folder in path.folders() {
            let key = self.trees.names().key(folder);
            for other in self.trees.remote_with_key(&key) {
                let Some(row) = self.trees.remote(other) else {
                    continue;
                };
                if row.path.as_str() != folder || Some(other) == id {
                    continue;
                }
                if self.leaves_there(other) {
                    found = Blocker::Leaves(other);
                } else {
                    return Blocker::Folder;
                }
            }
        }
        found
    }

    fn is_behind(&self, id: FileId) -> bool {
        let row = self.trees.synced(id);
        row.is_some_and(|row| self.remote_class(id, row) == RemoteClass::Behind)
    }

    /// A file that is in the way gets a conflict name.
    pub(super) fn set_aside(&self, local: LocalPath, owner: Option<FileId>) -> Decision {
        let copy = conflict_name(&local, self.settings.label, 1);
        self.receive(Op::SetAside { local, copy, owner })
    }
}

/// Who has a path in the space.
pub(super) enum Blocker {
    /// Nobody.
    None,
    /// This file, which is about to leave.
    Leaves(FileId),
    /// A synced file whose own decision changes what is known of the path.
    Changes,
    /// A file that stays, at the path or below it.
    Stays,
    /// A file that stays, where the path has a folder.
    Folder,
}

/// Both sides have the file at the same path, which is not that of the row.
fn agree(id: FileId, row: &SyncedRow, path: SpacePath, local: LocalPath) -> Decision {
    let agreed = SyncedRow {
        path,
        local,
        ..row.clone()
    };
    Decision::Do(Op::Agree(id, Box::new(agreed)))
}

/// The row of a state in which both sides agree.
pub(super) fn synced_row(there: &RemoteRow, local: LocalPath, file: &LocalFile) -> SyncedRow {
    SyncedRow {
        path: there.path.clone(),
        local,
        version: there.version,
        size: there.size,
        sha256: there.sha256,
        executable: file.executable,
        stamp: file.stamp,
        sequence: None,
    }
}

/// Whether the content or the executable bit is another one than that of the row.
pub(super) fn is_edited(row: &SyncedRow, file: &LocalFile) -> bool {
    has_other_content(row, file) || set_bit(row, file).is_some()
}

fn has_other_content(row: &SyncedRow, file: &LocalFile) -> bool {
    file.sha256.is_some_and(|sha256| sha256 != row.sha256)
}

/// The executable bit, if it is another one than that of the row.
fn set_bit(row: &SyncedRow, file: &LocalFile) -> Option<bool> {
    file.executable
        .filter(|is| row.executable.is_some_and(|was| was != *is))
}

fn local_class(row: &SyncedRow, seat: &Seat) -> LocalClass {
    match seat {
        Seat::At(_, file) if file.sha256.is_none() => LocalClass::Pending,
        Seat::At(path, file) => match (*path == row.local, is_edited(row, file)) {
            (true, false) => LocalClass::Same,
            (true, true) => LocalClass::Edited,
            (false, false) => LocalClass::Moved,
            (false, true) => LocalClass::MovedEdited,
        },
        Seat::Gone => LocalClass::Deleted,
        Seat::Folder => LocalClass::Folder,
        Seat::Other => LocalClass::Other,
        Seat::Pending => LocalClass::Pending,
        Seat::Unknown => LocalClass::Unknown,
    }
}
