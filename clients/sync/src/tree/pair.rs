//! Pairing of rows whose files are gone with files that have no row: such a file was moved.
//!
//! A wrong pair costs only history, never content, because every rule of the planner keeps content by itself.

use model::FileId;

use super::{LocalFile, SyncedRow, Trees, content, first_id};
use crate::path::LocalPath;
use crate::planted::{Bug, is_planted};

impl Trees {
    /// The file that an absent row has moved to.
    pub fn moved_to(&self, id: FileId) -> Option<LocalPath> {
        if !self.absent.contains_key(&id) {
            return None;
        }
        let row = self.synced.get(&id)?;
        let path = self.best_file(row)?;
        let file = self.local_file(&path)?;
        (self.best_row(&path, &file) == Some(id)).then_some(path)
    }

    /// The absent row that has moved to a file without a row.
    pub fn moved_from(&self, path: &LocalPath) -> Option<FileId> {
        if !self.unowned.contains(path) {
            return None;
        }
        let file = self.local_file(path)?;
        let id = self.best_row(path, &file)?;
        let row = self.synced.get(&id)?;
        (self.best_file(row).as_ref() == Some(path)).then_some(id)
    }

    fn best_file(&self, row: &SyncedRow) -> Option<LocalPath> {
        let identity = row.stamp.identity;
        if self.volume.stable_inodes {
            let range = self.unowned_identities.range((identity, LocalPath::root())..);
            let same = range
                .take_while(|(other, _)| *other == identity)
                .map(|(_, path)| path);
            let same = same.filter(|path| self.local_file(path).is_some_and(|file| is_same_file(row, &file)));
            if let Some(best) = same.min_by_key(|path| distance(&row.local, path)) {
                return Some(best.clone());
            }
        }
        if row.size == 0 {
            return None;
        }
        let content = content(row.size, row.sha256);
        let range = self.unowned_contents.range((content, LocalPath::root())..);
        let same = range
            .take_while(|(other, _)| *other == content)
            .map(|(_, path)| path);
        only_nearest(same, |path| distance(&row.local, path)).cloned()
    }

    fn best_row(&self, path: &LocalPath, file: &LocalFile) -> Option<FileId> {
        let identity = file.stamp.identity;
        if self.volume.stable_inodes {
            let range = self.absent_identities.range((identity, first_id())..);
            let same = range
                .take_while(|(other, _)| *other == identity)
                .map(|(_, id)| *id);
            let same = same.filter_map(|id| Some((id, self.synced.get(&id)?)));
            let same = same.filter(|(_, row)| is_same_file(row, file));
            if let Some((id, _)) = same.min_by_key(|(id, row)| (distance(&row.local, path), *id)) {
                return Some(id);
            }
        }
        let sha256 = file.sha256.filter(|_| file.stamp.size > 0)?;
        let content = content(file.stamp.size, sha256);
        let range = self.absent_contents.range((content, first_id())..);
        let same = range
            .take_while(|(other, _)| *other == content)
            .map(|(_, id)| *id);
        let same = same.filter_map(|id| Some((id, &self.synced.get(&id)?.local)));
        only_nearest(same, |(_, local)| distance(local, path)).map(|(id, _)| id)
    }
}

/// Whether a file with the identity of a row is its file. Inode numbers are given to new files, so without a time
/// of birth only equal content shows it.
fn is_same_file(row: &SyncedRow, file: &LocalFile) -> bool {
    if is_planted(Bug::PairByInodeOnly) {
        return true;
    }
    row.stamp.identity.birth.is_some() || file.sha256 == Some(row.sha256)
}

/// Smaller is nearer: the same name in another folder, then another name in the same folder, then the rest.
fn distance(one: &LocalPath, other: &LocalPath) -> u8 {
    if one.name() == other.name() {
        0
    } else if one.parent() == other.parent() {
        1
    } else {
        2
    }
}

/// The nearest item; `None` if two are equally near.
fn only_nearest<T>(items: impl Iterator<Item = T>, distance: impl Fn(&T) -> u8) -> Option<T> {
    let mut best: Option<(u8, T)> = None;
    let mut is_tie = false;
    for item in items {
        let near = distance(&item);
        match &best {
            Some((least, _)) if near > *least => {}
            Some((least, _)) if near == *least => is_tie = true,
            _ => {
                best = Some((near, item));
                is_tie = false;
            }
        }
    }
    best.filter(|_| !is_tie).map(|(_, item)| item)
}
