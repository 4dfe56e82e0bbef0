//! Disk jobs: several that read, or one that changes something.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::FileId;

use super::config::{MAX_ITEMS, TRASH_LOOKS, TRASH_TIME};
use super::{Engine, Flight};
use crate::effect::Effect;
use crate::execute::{Job, Rescue, TrashState};
use crate::path::LocalPath;
use crate::store::{RowChange, TrashRow};
use crate::tree::{LocalEntry, RemoteRow};

impl Engine {
    /// Starts a job. Its place in the queue must have come.
    pub(super) fn start_job(&mut self, job: Job, flight: Flight) {
        if job.is_read_only() {
            self.readers += 1;
        } else {
            self.is_writing = true;
        }
        self.flush();
        let id = self.next_id();
        self.flights.insert(id, flight);
        self.effects.push(Effect::Disk(id, job));
    }

    /// Starts a job that changes something when no other job is under way.
    pub(super) fn start_queued(&mut self) {
        self.drive_root_check();
        if self.readers == 0 && !self.is_writing && !self.queue.is_empty() {
            let (job, flight) = self.queue.remove(0);
            self.start_job(job, flight);
        }
    }

    pub(super) fn job_ended(&mut self, flight: &Flight) {
        let is_reader = matches!(
            flight,
            Flight::Root | Flight::Scan(..) | Flight::Hash | Flight::CheckTrash
        );
        if is_reader {
            self.readers -= 1;
        } else {
            self.is_writing = false;
        }
    }

    /// Remembers a file in the trash.
    pub(super) fn trashed(&mut self, name: &Arc<str>, row: TrashRow) {
        self.trash.insert(name.clone(), row.clone());
        self.trees
            .record(RowChange::Trash(name.clone(), Some(Box::new(row))));
        for after in TRASH_LOOKS {
            // Looks that are near to each other are one.
            let at = (self.now.monotonic + after).next_multiple_of(1_000);
            self.trash_looks.insert(at);
        }
    }

    pub(super) fn drive_trash(&mut self) {
        let now = self.now.monotonic;
        if self.trash_looks.first().is_none_or(|at| *at > now) || self.is_writing {
            return;
        }
        self.trash_looks = self.trash_looks.split_off(&(now + 1));
        let old = self
            .trash
            .iter()
            .filter(|(_, row)| row.at + TRASH_TIME < self.now.wall);
        let old: Vec<Arc<str>> = old.map(|(name, _)| name.clone()).take(MAX_ITEMS).collect();
        if !old.is_empty() {
            self.queue.push((Job::Purge(old.clone()), Flight::Purge(old)));
        }
        if !self.trash.is_empty() {
            let rows = self.trash.iter().map(|(name, row)| (name.clone(), row.clone()));
            let job = Job::CheckTrash(rows.collect());
            self.start_job(job, Flight::CheckTrash);
        }
    }

    pub(super) fn trash_checked(&mut self, checked: Vec<(Arc<str>, TrashState)>) {
        let mut rescued = Vec::new();
        for (name, state) in checked {
            let Some(row) = self.trash.get(&name).cloned() else {
                continue;
            };
            match state {
                TrashState::Same(stamp) => {
                    let row = TrashRow { stamp, ..row };
                    self.trash.insert(name.clone(), row.clone());
                    self.trees.record(RowChange::Trash(name, Some(Box::new(row))));
                }
                TrashState::Written => rescued.push((name, row.path)),
                TrashState::Gone => self.forget_trash(&name),
            }
        }
        self.rescue(rescued, false);
    }

    /// Takes files out of the trash.
    pub(super) fn rescue(&mut self, files: Vec<(Arc<str>, LocalPath)>, goes_back: bool) {
        if files.is_empty() {
            return;
        }
        let label: Arc<str> = self.label().into();
        let items = files.iter().map(|(name, path)| Rescue {
            name: name.clone(),
            path: path.clone(),
            goes_back,
            label: label.clone(),
        });
        self.queue
            .push((Job::Rescue(items.collect()), Flight::Rescue(files)));
    }

    /// Files of the trash whose contents the space had, and has no longer since it was restored from a backup, if
    /// the folder does not have them either. `now` is what the space has now.
    pub(super) fn lost_but_in_trash(&self, now: &BTreeMap<FileId, RemoteRow>) -> Vec<(Arc<str>, LocalPath)> {
        if self.meta.epoch.is_none() || self.trash.is_empty() {
            return Vec::new();
        }
        let contents = |rows: &BTreeMap<FileId, RemoteRow>| -> BTreeSet<[u8; 32]> {
            rows.values().map(|row| *row.sha256.as_bytes()).collect()
        };
        let (before, now) = (contents(self.trees.all_remote()), contents(now));
        let files = self.trees.all_local().values().filter_map(|entry| match entry {
            LocalEntry::File(file) => file.sha256,
            _ => None,
        });
        let here: BTreeSet<[u8; 32]> = files.map(|sha256| *sha256.as_bytes()).collect();
        let mut lost = BTreeMap::new();
        for (name, row) in &self.trash {
            let content = *row.sha256.as_bytes();
            if before.contains(&content) && !now.contains(&content) && !here.contains(&content) {
                lost.insert(content, (name.clone(), row.path.clone()));
            }
        }
        lost.into_values().collect()
    }

    pub(super) fn forget_trash(&mut self, name: &Arc<str>) {
        if self.trash.remove(name).is_some() {
            self.trees.record(RowChange::Trash(name.clone(), None));
        }
    }

    pub(super) fn note_conflict(&mut self, of: &LocalPath, copy: &LocalPath) {
        let row = crate::store::ConflictRow {
            of: of.clone(),
            at: self.now.wall,
        };
        self.trees
            .record(RowChange::Conflict(copy.clone(), Some(Box::new(row))));
        self.tell(crate::effect::Told::Conflict {
            of: of.clone(),
            copy: copy.clone(),
        });
    }
}
