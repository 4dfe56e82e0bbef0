//! A store in memory, for simulations and tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{FileId, SpacePath};

use super::{ConflictRow, Intent, RowChange, Saved, SavedMeta, SentUpload, Store, StoreError, TrashRow};
use crate::path::LocalPath;
use crate::tree::{LocalEntry, RemoteRow, SyncedRow};

/// A store in memory. A copy of it is what a crash leaves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryStore {
    meta: SavedMeta,
    remote: BTreeMap<FileId, RemoteRow>,
    local: BTreeMap<LocalPath, LocalEntry>,
    synced: BTreeMap<FileId, SyncedRow>,
    intents: BTreeMap<Arc<str>, Intent>,
    uploads: BTreeMap<String, SentUpload>,
    trash: BTreeMap<Arc<str>, TrashRow>,
    conflicts: BTreeMap<LocalPath, ConflictRow>,
    excluded: BTreeSet<SpacePath>,
}

fn set<K: Ord + Clone, V: Clone>(rows: &mut BTreeMap<K, V>, key: &K, row: Option<&V>) {
    match row {
        Some(row) => rows.insert(key.clone(), row.clone()),
        None => rows.remove(key),
    };
}

impl MemoryStore {
    /// Whether both say the same about the folder and the space. When something was looked at does not count.
    #[cfg(feature = "simulation")]
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let paths = |store: &Self| store.local.keys().cloned().collect::<Vec<_>>();
        let synced = |store: &Self| {
            let rows = store.synced.iter();
            rows.map(|(id, row)| (*id, row.path.clone(), row.local.clone(), row.version))
                .collect::<Vec<_>>()
        };
        self.remote == other.remote && paths(self) == paths(other) && synced(self) == synced(other)
    }
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Saved, StoreError> {
        let uploads = self.uploads.iter().map(|(key, row)| {
            let key = key.parse().map_err(|_| StoreError(format!("{key} is no key")));
            key.map(|key| (key, row.clone()))
        });
        Ok(Saved {
            meta: self.meta.clone(),
            remote: self.remote.clone().into_iter().collect(),
            local: self.local.clone().into_iter().collect(),
            synced: self.synced.clone().into_iter().collect(),
            intents: self.intents.clone().into_iter().collect(),
            uploads: uploads.collect::<Result<_, _>>()?,
            trash: self.trash.clone().into_iter().collect(),
            conflicts: self.conflicts.clone().into_iter().collect(),
            excluded: self.excluded.iter().cloned().collect(),
        })
    }

    fn commit(&mut self, changes: &[RowChange]) -> Result<(), StoreError> {
        for change in changes {
            match change {
                RowChange::Meta(meta) => self.meta.clone_from(meta),
                RowChange::Remote(id, row) => set(&mut self.remote, id, row.as_deref()),
                RowChange::Local(path, row) => set(&mut self.local, path, row.as_deref()),
                RowChange::Synced(id, row) => set(&mut self.synced, id, row.as_deref()),
                RowChange::Intent(name, row) => set(&mut self.intents, name, row.as_deref()),
                RowChange::Upload(key, row) => {
                    set(&mut self.uploads, &key.as_str().to_owned(), row.as_deref());
                }
                RowChange::Trash(name, row) => set(&mut self.trash, name, row.as_deref()),
                RowChange::Conflict(path, row) => set(&mut self.conflicts, path, row.as_deref()),
                RowChange::Excluded(path, true) => {
                    self.excluded.insert(path.clone());
                }
                RowChange::Excluded(path, false) => {
                    self.excluded.remove(path);
                }
            }
        }
        Ok(())
    }
}
