//! What the driver knows about the state of the sync, for those who ask.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use model::{Cursor, Epoch, SpaceId};

use super::question::{Held, Question, Reply, Status};
use crate::effect::{EffectId, Told};
use crate::path::LocalPath;
use crate::plan::Hold;
use crate::store::{Binding, ConflictRow, RowChange, Saved, SavedMeta, SqliteStore};

/// How changes of others arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Push {
    Live,
    Polling,
    Offline,
}

/// The kind of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transfer {
    Upload,
    Download,
}

/// The state, as it was told.
#[derive(Debug)]
pub(super) struct View {
    binding: Binding,
    meta: SavedMeta,
    files: usize,
    is_current: bool,
    held: BTreeMap<Arc<str>, (Hold, i64)>,
    conflicts: BTreeMap<LocalPath, ConflictRow>,
    deletions_held: Option<(usize, usize)>,
    transfers: HashMap<EffectId, Transfer>,
    unavailable: Option<String>,
    pub(super) push: Push,
}

impl View {
    pub(super) fn new(binding: &Binding, saved: &Saved) -> Self {
        Self {
            binding: binding.clone(),
            meta: saved.meta.clone(),
            files: saved.synced.len(),
            is_current: false,
            held: BTreeMap::new(),
            conflicts: saved.conflicts.iter().cloned().collect(),
            deletions_held: None,
            transfers: HashMap::new(),
            unavailable: None,
            push: Push::Offline,
        }
    }

    /// The state of a sync that does not run.
    pub(super) fn status_of(binding: &Binding, saved: &Saved) -> Status {
        Status {
            running: false,
            current: None,
            held: None,
            push: None,
            watched: None,
            ..Self::new(binding, saved).status(false)
        }
    }

    pub(super) fn space_id(&self) -> SpaceId {
        self.binding.space_id
    }

    pub(super) fn position(&self) -> (Option<Epoch>, Cursor) {
        (self.meta.epoch, self.meta.cursor)
    }

    pub(super) fn started(&mut self, id: EffectId, transfer: Transfer) {
        self.transfers.insert(id, transfer);
    }

    pub(super) fn ended(&mut self, id: EffectId) {
        self.transfers.remove(&id);
    }

    pub(super) fn committed(&mut self, changes: &[RowChange]) {
        for change in changes {
            match change {
                RowChange::Meta(meta) => self.meta = (**meta).clone(),
                RowChange::Conflict(path, Some(row)) => {
                    self.conflicts.insert(path.clone(), (**row).clone());
                }
                RowChange::Conflict(path, None) => {
                    self.conflicts.remove(path);
                }
                _ => {}
            }
        }
    }

    pub(super) fn told(&mut self, told: &Told, now: i64) {
        match told {
            Told::Held(path, hold) => {
                self.held.insert(Arc::clone(path), (hold.clone(), now));
            }
            Told::Released(path) => {
                self.held.remove(path);
            }
            Told::Current { files, .. } => {
                (self.files, self.is_current, self.unavailable) = (*files, true, None);
            }
            Told::Working => (self.is_current, self.unavailable) = (false, None),
            Told::DeletionsHeld { there, here } => {
                self.deletions_held = (there + here > 0).then_some((*there, *here));
            }
            Told::Unavailable(reason) => self.unavailable = Some(reason.clone()),
            _ => {}
        }
    }

    /// Files that are uploaded, and files that are downloaded.
    pub(super) fn transfers(&self) -> (usize, usize) {
        let count = |wanted| self.transfers.values().filter(|kind| **kind == wanted).count();
        (count(Transfer::Upload), count(Transfer::Download))
    }

    /// What is held.
    pub(super) fn held(&self) -> Vec<Held> {
        let held = self.held.iter();
        held.map(|(path, (reason, since))| Held {
            path: path.to_string(),
            reason: reason.clone(),
            since: *since,
        })
        .collect()
    }

    pub(super) fn answer(&self, question: &Question, store: &SqliteStore, is_incomplete: bool) -> Reply {
        match question {
            Question::Status => Reply::Status(Box::new(self.status(is_incomplete))),
            Question::Held => Reply::Held(self.held()),
            Question::Conflicts => {
                let conflicts = self.conflicts.iter();
                Reply::Conflicts(conflicts.map(|(path, row)| (path.clone(), row.clone())).collect())
            }
            Question::Explain(path) => match store.explain(path) {
                Ok(explained) => {
                    let held = self.held().into_iter().find(|held| held.path == *path);
                    Reply::Explained(Box::new(explained), held)
                }
                Err(error) => Reply::Failed(error.to_string()),
            },
            _ => Reply::Done,
        }
    }

    fn status(&self, is_incomplete: bool) -> Status {
        let (uploads, downloads) = self.transfers();
        let push = match self.push {
            Push::Live => "live",
            Push::Polling => "polling",
            Push::Offline => "offline",
        };
        Status {
            url: self.binding.url.clone(),
            space_id: self.binding.space_id,
            running: true,
            paused: self.meta.paused,
            current: Some(self.is_current),
            files: self.files,
            held: Some(self.held.len()),
            conflicts: self.conflicts.len(),
            deletions_held: self.deletions_held,
            uploads,
            downloads,
            cursor: self.meta.cursor.get(),
            push: Some(push.to_owned()),
            watched: Some(!is_incomplete),
            unavailable: self.unavailable.clone(),
        }
    }
}
