//! The deletion guard: a mass deletion waits for the user.

use super::config::GUARD_WINDOW;
use super::{Engine, Guard};
use crate::effect::Told;
use crate::planted::{Bug, is_planted};

/// Deletions of the recent past, and what the user said.
#[derive(Clone, Debug, Default)]
pub(super) struct Guarded {
    /// Times of deletions in the space, and on the disk.
    there: Vec<u64>,
    here: Vec<u64>,
    /// Files in agreement when nothing was deleted.
    files: usize,
    pub(super) is_confirmed: bool,
    told: (usize, usize),
}

impl Guarded {
    pub(super) fn note_there(&mut self, now: u64) {
        self.there.push(now);
    }

    pub(super) fn note_here(&mut self, now: u64) {
        self.here.push(now);
    }
}

fn is_too_much(guard: &Guard, deletions: usize, files: usize) -> bool {
    deletions > guard.most || (deletions > guard.count && deletions * 100 > files * guard.percent)
}

impl Engine {
    /// Whether deletions in the space, and on the disk, are held. Those of the last minutes count together with
    /// those to come, after files that moved were found.
    pub(super) fn guarded(&mut self) -> (bool, bool) {
        let since = self.now.monotonic.saturating_sub(GUARD_WINDOW);
        self.guarded.there.retain(|time| *time >= since);
        self.guarded.here.retain(|time| *time >= since);
        let counts_moves = is_planted(Bug::GuardCountsMoves);
        let absent = self.trees.absent().iter();
        let gone = absent.filter(|(id, absence)| {
            counts_moves || (absence.is_confirmed && self.trees.moved_to(**id).is_none())
        });
        let there = gone.count();
        let here = self.trees.remoteless().len();
        let files = self.trees.all_synced().len();
        let recent = self.guarded.there.len() + self.guarded.here.len();
        self.guarded.files = if there + here + recent == 0 {
            files
        } else {
            self.guarded.files.max(files)
        };
        if there == 0 && here == 0 {
            self.guarded.is_confirmed = false;
        }
        if self.guarded.is_confirmed {
            return (false, false);
        }
        let guard = &self.config.guard;
        let files = self.guarded.files;
        let held = (
            is_too_much(guard, there + self.guarded.there.len(), files),
            is_too_much(guard, here + self.guarded.here.len(), files),
        );
        let told = (if held.0 { there } else { 0 }, if held.1 { here } else { 0 });
        if told != self.guarded.told {
            self.guarded.told = told;
            if told != (0, 0) {
                self.tell(Told::DeletionsHeld {
                    there: told.0,
                    here: told.1,
                });
            }
        }
        held
    }

    /// Brings back what the guard holds: the agreement about these files is forgotten, so they are new on the side
    /// that has them.
    pub(super) fn undo_deletions(&mut self) {
        let gone = self
            .trees
            .absent()
            .keys()
            .filter(|id| self.trees.moved_to(**id).is_none());
        let ids: Vec<model::FileId> = gone.chain(self.trees.remoteless()).copied().collect();
        for id in ids {
            self.trees.set_synced(id, None);
        }
    }
}
