//! Decisions about files without a synced row.

use model::FileId;

use super::seat::{Occupant, Seat};
use super::synced::Blocker;
use super::{Class, Decision, Hiding, Hold, LocalClass, Op, Planner, RemoteClass};
use crate::names::{is_possible, space_path};
use crate::path::LocalPath;
use crate::planted::{Bug, is_planted};
use crate::tree::RemoteRow;

impl Planner<'_> {
    /// A file of the space.
    pub(super) fn created_there(&self, id: FileId, row: &RemoteRow) -> (Class, Decision) {
        let only = Class::new(LocalClass::Nothing, RemoteClass::Created);
        if self.hiding(&row.path) != Hiding::No {
            return (only, Decision::Nothing);
        }
        if !is_possible(&row.path) {
            let reason = "this device cannot have a file of this name".to_owned();
            return (only, Decision::Hold(Hold::BadName(reason)));
        }
        if self.is_clash(id, row) {
            return (only, Decision::Hold(Hold::NameClash));
        }
        let place = self.trees.local_path(&row.path);
        let both = Class::new(LocalClass::Created, RemoteClass::Created);
        match self.occupant(&place, id) {
            Occupant::Free => {
                let download = Op::Download {
                    id,
                    row: row.clone(),
                    to: place,
                    replaced: None,
                    keeps: None,
                };
                (only, self.receive(download))
            }
            Occupant::Stranger(path, file) => {
                let Some(sha256) = file.sha256 else {
                    return (both, Decision::Wait);
                };
                let is_same_path = space_path(&path).as_ref() == Ok(&row.path);
                if is_same_path && sha256 == row.sha256 && file.stamp.size == row.size {
                    return (both, self.same_content(id, row, path, &file));
                }
                let is_on_the_way = row.path.as_str().len() > path.as_str().len()
                    && space_path(&path).is_ok_and(|at| at.excludes(&row.path));
                if is_same_path || is_on_the_way {
                    return (both, self.set_aside(path, None));
                }
                // A name that differs in case only on a volume that ignores case: both stay as they are.
                (both, Decision::Hold(Hold::NameClash))
            }
            Occupant::Owned(other) => (both, self.wait_for(other)),
            Occupant::Itself(_) => (both, Decision::Wait),
            Occupant::Blocked(decision) => (Class::new(LocalClass::Other, RemoteClass::Created), decision),
        }
    }

    /// Whether another file of the space has the same name on this volume, and goes first: one that is placed
    /// already, or else the older one. A file also clashes with a folder of the same name.
    pub(super) fn is_clash(&self, id: FileId, row: &RemoteRow) -> bool {
        if !self.trees.names().ignores_case() {
            return false;
        }
        let goes_first = |other: FileId| {
            let Some(there) = self.trees.remote(other) else {
                return false;
            };
            if other == id || self.hiding(&there.path) != Hiding::No {
                return false;
            }
            let is_placed = |id| {
                let row = self.trees.synced(id);
                row.is_some_and(|row| {
                    matches!(self.seat(id, row), Seat::At(..) | Seat::Pending)
                        && self.trees.remote(id).is_some_and(|there| there.path == row.path)
                })
            };
            match (is_placed(id), is_placed(other)) {
                (true, false) => false,
                (false, true) => true,
                _ => other < id,
            }
        };
        let names = self.trees.names();
        let mut on_the_way = row.path.folders().flat_map(|folder| {
            let key = names.key(folder);
            self.trees.remote_with_key(&key).collect::<Vec<_>>()
        });
        self.trees.remote_within(row.path.as_str()).any(goes_first) || on_the_way.any(goes_first)
    }

    /// A file of the folder.
    pub(super) fn created_here(&self, local: &LocalPath) -> (Class, Decision) {
        let only = Class::new(LocalClass::Created, RemoteClass::Nothing);
        let Some(file) = self.trees.local_file(local) else {
            return (Class::NONE, Decision::Nothing);
        };
        // The row that it comes from decides.
        if self.trees.owner(local).is_some() || self.trees.moved_from(local).is_some() {
            return (Class::NONE, Decision::Nothing);
        }
        let path = match space_path(local) {
            Ok(path) => path,
            Err(error) => return (only, Decision::Hold(Hold::BadName(error.to_string()))),
        };
        match self.hiding(&path) {
            Hiding::No => {}
            Hiding::Ignored => return (Class::NONE, Decision::Nothing),
            Hiding::Excluded => return (only, self.clean(local, &file, &path)),
        }
        if file.sha256.is_none() {
            return (only, Decision::Wait);
        }
        if self.is_twin(local, path.as_str()) {
            return (only, Decision::Hold(Hold::NameClash));
        }
        let both = Class::new(LocalClass::Created, RemoteClass::Created);
        let key = self.trees.names().key(path.as_str());
        for id in self.trees.remote_with_key(&key) {
            let Some(row) = self.trees.remote(id) else {
                continue;
            };
            if row.path == path && self.trees.synced(id).is_none() {
                // That file's decision is about both.
                return (both, self.created_there(id, row).1);
            }
        }
        match self.blocker(None, &path) {
            Blocker::None if self.settings.is_viewer && is_planted(Bug::ViewerMirrors) => {
                let (local, then) = (local.clone(), None);
                let id = uuid::Uuid::nil().into();
                (
                    only,
                    Decision::Do(Op::Remove {
                        id,
                        local,
                        file,
                        then,
                    }),
                )
            }
            Blocker::None => {
                let upload = Op::Upload {
                    local: local.clone(),
                    file,
                    path,
                    base: None,
                };
                (only, self.send(upload))
            }
            Blocker::Leaves(_) | Blocker::Changes => (both, Decision::Wait),
            // The file of the space, or the file below this path, makes its own way.
            Blocker::Stays => (both, self.wait_for_stranger(&path, local)),
            Blocker::Folder => (both, Decision::Hold(Hold::TypeClash)),
        }
    }

    /// A file of an excluded folder goes to the trash if the space has it. Others are not touched.
    fn clean(&self, local: &LocalPath, file: &crate::tree::LocalFile, path: &model::SpacePath) -> Decision {
        let Some(sha256) = file.sha256 else {
            return Decision::Wait;
        };
        let key = self.trees.names().key(path.as_str());
        let there = self.trees.remote_with_key(&key);
        let mut same = there.filter(|id| {
            let row = self.trees.remote(*id);
            row.is_some_and(|row| row.path == *path && row.sha256 == sha256 && row.size == file.stamp.size)
        });
        match same.next() {
            Some(id) => self.receive(Op::Remove {
                id,
                local: local.clone(),
                file: *file,
                then: None,
            }),
            None => Decision::Hold(Hold::Excluded),
        }
    }

    /// A file of the space below the path of a file of the folder: the latter gets a conflict name.
    fn wait_for_stranger(&self, path: &model::SpacePath, local: &LocalPath) -> Decision {
        let below = self.trees.remote_within(path.as_str());
        let is_below = |id: FileId| {
            let row = self.trees.remote(id);
            row.is_some_and(|row| row.path != *path && row.path.excludes(path))
        };
        let mut below = below.filter(|id| is_below(*id) && self.trees.synced(*id).is_none());
        if below.next().is_some() {
            return self.set_aside(local.clone(), None);
        }
        // A read-only space or a direction keeps the file of the space where it is.
        if self.settings.is_viewer {
            Decision::Hold(Hold::ReadOnly)
        } else if self.settings.sends {
            Decision::Wait
        } else {
            Decision::Hold(Hold::Direction)
        }
    }

    /// Whether another file of the folder has the same path in the space, and goes first: one that was synced,
    /// or else the one whose name is in NFC, or else the first in the order of bytes.
    pub(super) fn is_twin(&self, local: &LocalPath, path: &str) -> bool {
        if self.trees.names().ignores_case() {
            return false;
        }
        let key = self.trees.names().local_key(local);
        self.trees.local_with_key(&key).any(|other| {
            if other == local || self.trees.local_file(other).is_none() {
                return false;
            }
            let is_synced = self.trees.owner(other).is_some() || self.trees.moved_from(other).is_some();
            is_synced || other.as_str() == path || (local.as_str() != path && other < local)
        })
    }
}
