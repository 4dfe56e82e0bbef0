//! The start: the root, the volume, the rows of the store, and what a crash left behind.

use super::config::UNSAFE_TIME;
use super::{Engine, Flight, Phase};
use crate::disk::{RootIdentity, Volume};
use crate::effect::{Stopped, Told};
use crate::execute::{Job, Recovered, RecoveredTo};
use crate::planted::{Bug, is_planted};
use crate::store::{RowChange, Saved};
use crate::tree::{FolderState, LocalEntry, Trees};

impl Engine {
    pub(super) fn open(&mut self) {
        self.phase = Phase::Opening;
        // A root that was synced before must still have its marker.
        let marker = self.meta.root.is_none().then(|| self.config.nonce.clone());
        self.queue.push((Job::Open(marker), Flight::Open));
    }

    pub(super) fn opened(&mut self, volume: Volume, root: Option<RootIdentity>, boot: Option<String>) {
        let Some(root) = root else {
            self.stop(Stopped::RootMissing(
                "the folder has no marker of a sync".to_owned(),
            ));
            return;
        };
        let saved = *self.loading.take().unwrap_or_default();
        let known = self.meta.root.clone();
        let is_other_sync = known.as_ref().is_some_and(|known| known.marker != root.marker);
        if is_other_sync && !self.config.accepts_other_root && !is_planted(Bug::RootNotChecked) {
            let reason = "the folder belongs to another sync".to_owned();
            self.stop(Stopped::RootMissing(reason));
            return;
        }
        let is_moved = known.as_ref().is_some_and(|known| *known != root);
        self.load(volume, saved);
        if is_moved && !is_planted(Bug::RootNotChecked) {
            // A copy, or a backup of another time: it says nothing about what its user deleted.
            let ids: Vec<_> = self.trees.all_synced().keys().copied().collect();
            for id in ids {
                self.trees.set_synced(id, None);
            }
            self.tell(Told::Rejoined);
        }
        if !self.meta.ended_cleanly && self.meta.boot.is_some() && self.meta.boot != boot {
            self.distrust();
        }
        if self.meta.boot.is_none() {
            self.meta.boot.clone_from(&boot);
        }
        self.boot = boot;
        self.meta.root = Some(root);
        self.meta.ended_cleanly = false;
        self.save_meta();
        self.phase = Phase::Recovering;
        let intents = self
            .intents
            .iter()
            .map(|(name, intent)| (name.clone(), intent.clone()));
        let job = Job::Recover {
            intents: intents.collect(),
            trash: self.trash.keys().cloned().collect(),
            label: self.label().into(),
        };
        self.flush();
        self.queue.push((job, Flight::Recover));
    }

    /// The machine lost power: the files of the last minutes are read again.
    fn distrust(&mut self) {
        let rows = self.trees.all_synced().values().map(|row| row.stamp.changed);
        let files = self.trees.all_local().values().filter_map(|entry| match entry {
            LocalEntry::File(file) => Some(file.stamp.changed),
            _ => None,
        });
        let Some(newest) = rows.chain(files).max() else {
            return;
        };
        let since = newest.saturating_sub(UNSAFE_TIME);
        self.damaged_since = Some(since);
        let is_young =
            |entry: &LocalEntry| matches!(entry, LocalEntry::File(file) if file.stamp.changed >= since);
        let young = self.trees.all_local().iter().filter(|(_, entry)| is_young(entry));
        let young: Vec<_> = young.map(|(path, _)| path.clone()).collect();
        for path in young {
            self.folders.rechecks.insert(path, self.now.monotonic);
        }
    }

    fn load(&mut self, volume: Volume, saved: Saved) {
        let mut trees = Trees::new(volume);
        trees.now = self.now.monotonic;
        trees.cursor = saved.meta.cursor;
        for (id, row) in saved.remote {
            trees.set_remote(id, Some(row));
        }
        for (path, entry) in saved.local {
            // A folder is listed again before anything is concluded from what it lacks.
            let entry = match entry {
                LocalEntry::Folder(FolderState::Listed | FolderState::Unreadable) => {
                    LocalEntry::Folder(FolderState::Unlisted)
                }
                entry => entry,
            };
            trees.set_local(&path, Some(entry));
        }
        for (id, row) in saved.synced {
            trees.set_synced(id, Some(row));
        }
        trees.take_changes();
        self.trees = trees;
        self.uploads = saved
            .uploads
            .into_iter()
            .map(|(key, upload)| (key.as_str().to_owned(), upload))
            .collect();
        self.intents = saved.intents.into_iter().collect();
        self.trash = saved.trash.into_iter().collect();
        self.rules.excluded = saved.excluded.into_iter().collect();
    }

    pub(super) fn recovered(&mut self, recovered: Vec<Recovered>) {
        for one in recovered {
            match one.now {
                RecoveredTo::Trash(mut row) => {
                    row.at = self.now.wall;
                    self.trash.insert(one.aside.clone(), row.clone());
                    self.trees
                        .record(RowChange::Trash(one.aside.clone(), Some(Box::new(row))));
                }
                RecoveredTo::Tree(_) | RecoveredTo::Nowhere => {}
            }
            self.forget_intent(&one.aside);
        }
        self.phase = Phase::Running;
        self.feed.is_unknown = true;
        self.scan_all();
        self.trees.mark_all();
    }

    pub(super) fn forget_intent(&mut self, name: &std::sync::Arc<str>) {
        if self.intents.remove(name).is_some() {
            self.trees.record(RowChange::Intent(name.clone(), None));
        }
    }
}
