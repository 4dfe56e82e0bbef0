//! The local tree: scans and reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{FileId, Sha256};
use ring::digest::{Context, SHA256};

use super::config::{
    ABSENT, ATTEMPTS, MAX_ITEMS, MAX_READERS, QUIET, RETRY_MOST, SCAN_ALL, SCAN_DELAY, SCAN_LATEST,
};
use super::feed::delay;
use super::{Engine, Flight};
use crate::disk::{DiskError, DiskErrorKind, Kind, Listing, Meta};
use crate::effect::{Effect, Stopped};
use crate::execute::{Failure, Job};
use crate::path::LocalPath;
use crate::plan::{Hiding, Hold};
use crate::planted::{Bug, is_planted};
use crate::tree::{FolderState, Item, LocalEntry, LocalFile, SyncedRow, Trees};

/// The largest file that is compared with zeros after a power loss.
const MAX_ZEROS: u64 = 64 * 1024 * 1024;

/// Whether this is the SHA-256 of nothing, or of zeros only.
fn is_zeros(size: u64, sha256: &Sha256) -> bool {
    if size > MAX_ZEROS {
        return false;
    }
    let mut context = Context::new(&SHA256);
    let block = [0; 4096];
    let mut left = usize::try_from(size).unwrap_or_default();
    while left > 0 {
        let length = left.min(block.len());
        context.update(&block[..length]);
        left -= length;
    }
    context.finish().as_ref() == sha256.as_bytes()
}

/// What is to be scanned and read.
#[derive(Clone, Debug, Default)]
pub(super) struct Folders {
    due: BTreeMap<LocalPath, Due>,
    scanning: BTreeSet<LocalPath>,
    /// Rows that get their second look when a folder is scanned.
    second_looks: BTreeMap<LocalPath, BTreeSet<FileId>>,
    /// Folders that could not be listed: failures so far.
    failures: BTreeMap<LocalPath, u32>,
    /// When a file may be read.
    quiet: BTreeMap<LocalPath, Quiet>,
    reading: BTreeSet<LocalPath>,
    /// When a file is read again, because its stamp was too young.
    pub(super) rechecks: BTreeMap<LocalPath, u64>,
    /// Names that are not UTF-8.
    pub(super) bad_names: BTreeMap<LocalPath, Vec<String>>,
    /// Rows whose absence is confirmed once the root is known to be the same.
    pub(super) confirming: BTreeSet<FileId>,
    pub(super) is_checking_root: bool,
    must_check_root: bool,
    scan_all_at: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    first: u64,
    at: u64,
    /// Whether the folders in it are scanned too.
    is_deep: bool,
}

#[derive(Clone, Copy, Debug)]
struct Quiet {
    at: u64,
    tries: u32,
}

impl Folders {
    /// Whether a file was read so often in vain.
    pub(super) fn is_unreadable(&self, path: &LocalPath) -> bool {
        self.quiet.get(path).is_some_and(|quiet| quiet.tries >= ATTEMPTS)
    }

    /// What cannot be read.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = (Arc<str>, Hold)> {
        let folders = self
            .failures
            .keys()
            .map(|folder| (folder.text(), Hold::Unreadable));
        let files = self.quiet.iter().filter(|(_, quiet)| quiet.tries >= ATTEMPTS);
        let reason = "it cannot be read, or a program writes to it all the time";
        folders.chain(files.map(move |(path, _)| (path.text(), Hold::Disk(reason.to_owned()))))
    }

    /// The next time at which something is due.
    pub(super) fn next_time(&self, trees: &Trees) -> Option<u64> {
        let scans = self.due.values().map(|due| due.at);
        let reads = self.quiet.values().map(|quiet| quiet.at);
        let looks = trees.unconfirmed().first().map(|(since, _)| since + ABSENT);
        let times = scans.chain(reads).chain(looks).chain(self.scan_all_at);
        times.chain(self.rechecks.values().copied()).min()
    }
}

impl Engine {
    /// Whether no folder waits for a scan.
    pub(super) fn is_scanned(&self) -> bool {
        let soon = self.now.monotonic + SCAN_LATEST;
        self.folders.scanning.is_empty()
            && self.folders.due.iter().all(|(path, due)| {
                // A folder that cannot be read is tried again much later.
                due.at > soon && self.folders.failures.contains_key(path)
            })
    }

    /// Scans a folder after its events have calmed down.
    pub(super) fn scan_later(&mut self, folder: &LocalPath) {
        let now = self.now.monotonic;
        let new = Due {
            first: now,
            at: now + SCAN_DELAY,
            is_deep: false,
        };
        let due = self.folders.due.entry(folder.clone()).or_insert(new);
        due.at = (now + SCAN_DELAY)
            .min(due.first + SCAN_LATEST)
            .min(due.at.max(now + SCAN_DELAY));
    }

    pub(super) fn scan_now(&mut self, folder: &LocalPath, is_deep: bool) {
        let now = self.now.monotonic;
        let due = self.folders.due.entry(folder.clone()).or_insert(Due {
            first: now,
            at: now,
            is_deep,
        });
        due.at = now;
        due.is_deep |= is_deep;
    }

    /// Scans the folder that contains a path, or the nearest one that exists.
    pub(super) fn scan_around(&mut self, path: &LocalPath) {
        let folder = self.trees.nearest_folder(path).unwrap_or_else(LocalPath::root);
        self.scan_now(&folder, false);
    }

    pub(super) fn scan_all(&mut self) {
        self.scan_now(&LocalPath::root(), true);
        self.effects.push(Effect::Watch(LocalPath::root()));
        self.folders.scan_all_at = Some(self.now.monotonic + SCAN_ALL);
        self.trash_looks.insert(self.now.monotonic);
    }

    pub(super) fn drive_folders(&mut self) {
        let now = self.now.monotonic;
        if self.folders.scan_all_at.is_some_and(|at| at <= now) && !is_planted(Bug::OverflowIgnored) {
            self.scan_all();
        }
        self.look_twice();
        self.start_scans();
        self.start_reads();
    }

    /// Scans the folders of rows that have been absent for some time.
    fn look_twice(&mut self) {
        let now = self.now.monotonic;
        let due = self
            .trees
            .unconfirmed()
            .iter()
            .take_while(|(since, _)| since + ABSENT <= now);
        let ids: Vec<FileId> = due.map(|(_, id)| *id).collect();
        for id in ids {
            if self.folders.confirming.contains(&id) {
                continue;
            }
            let Some(row) = self.trees.synced(id) else {
                continue;
            };
            let local = row.local.clone();
            let folder = self.trees.nearest_folder(&local).unwrap_or_else(LocalPath::root);
            let looks = self.folders.second_looks.entry(folder.clone()).or_default();
            if looks.insert(id) {
                self.scan_now(&folder, false);
            }
        }
    }

    fn start_scans(&mut self) {
        let now = self.now.monotonic;
        while self.readers < MAX_READERS && !self.is_writing && self.queue.is_empty() {
            let due = self
                .folders
                .due
                .iter()
                .filter(|(path, due)| due.at <= now && !self.folders.scanning.contains(*path));
            let folders: Vec<LocalPath> = due.map(|(path, _)| path.clone()).take(MAX_ITEMS / 4).collect();
            if folders.is_empty() {
                return;
            }
            let mut deep = Vec::new();
            for folder in &folders {
                if self.folders.due.remove(folder).is_some_and(|due| due.is_deep) {
                    deep.push(folder.clone());
                }
                self.folders.scanning.insert(folder.clone());
            }
            let job = Job::Scan(folders);
            self.start_job(job, Flight::Scan(deep, now));
        }
    }

    pub(super) fn scanned(
        &mut self,
        deep: &[LocalPath],
        began: u64,
        scanned: Vec<(LocalPath, Result<Listing, DiskError>)>,
    ) {
        for (folder, listing) in scanned {
            self.folders.scanning.remove(&folder);
            match listing {
                Ok(listing) => {
                    self.folders.failures.remove(&folder);
                    let is_stable = listing.is_stable;
                    self.merge(&folder, listing, deep.contains(&folder));
                    if is_stable {
                        self.confirm(&folder, began);
                    }
                }
                Err(error) if error.kind == DiskErrorKind::NotFound => {
                    self.folders.failures.remove(&folder);
                    self.folders.second_looks.remove(&folder);
                    if folder.is_root() {
                        let reason = "the folder is gone".to_owned();
                        self.stop(Stopped::RootMissing(reason));
                        return;
                    }
                    self.scan_around(&folder);
                }
                Err(_) => {
                    self.folders.second_looks.remove(&folder);
                    self.set_folder(&folder, FolderState::Unreadable);
                    let tries = self.folders.failures.entry(folder.clone()).or_default();
                    *tries += 1;
                    let at = self.now.monotonic + delay(*tries).min(RETRY_MOST / 5);
                    let is_deep = true;
                    let first = at;
                    self.folders.due.insert(folder, Due { first, at, is_deep });
                }
            }
        }
        if self.is_scanned() {
            self.sweep();
        }
    }

    fn set_folder(&mut self, folder: &LocalPath, state: FolderState) {
        if folder.is_root() {
            self.trees.set_root(state);
        } else if matches!(self.trees.local(folder), Some(LocalEntry::Folder(_))) {
            self.trees.set_local(folder, Some(LocalEntry::Folder(state)));
        }
    }

    fn merge(&mut self, folder: &LocalPath, listing: Listing, is_deep: bool) {
        if !folder.is_root() && !matches!(self.trees.local(folder), Some(LocalEntry::Folder(_))) {
            // It was replaced since. Its parent says by what.
            self.scan_around(folder);
            return;
        }
        let mut found = BTreeSet::new();
        for (name, meta) in listing.entries {
            let path = folder.join(&name);
            let hiding = self.rules.hiding(path.as_str());
            let is_hidden = hiding == Hiding::Excluded && is_planted(Bug::HidingKeepsRows);
            if hiding == Hiding::Ignored || is_hidden {
                continue;
            }
            self.merge_entry(&path, &meta, is_deep);
            found.insert(path);
        }
        if listing.unreadable_names.is_empty() {
            self.folders.bad_names.remove(folder);
        } else {
            self.folders
                .bad_names
                .insert(folder.clone(), listing.unreadable_names);
        }
        if listing.is_stable {
            for path in self.trees.children(folder) {
                if !found.contains(&path) {
                    self.trees.remove_local_tree(&path);
                }
            }
            self.set_folder(folder, FolderState::Listed);
        } else {
            self.folders.must_check_root |= folder.is_root();
            self.scan_later(folder);
        }
    }

    fn merge_entry(&mut self, path: &LocalPath, meta: &Meta, is_deep: bool) {
        let old = self.trees.local(path);
        match meta.kind {
            Kind::File => {
                if matches!(old, Some(LocalEntry::Folder(_))) {
                    self.trees.remove_local_tree(path);
                }
                self.merge_file(path, meta);
            }
            Kind::Folder => match old {
                Some(LocalEntry::Folder(state)) if state != FolderState::Mount => {
                    if is_deep || state == FolderState::Unlisted {
                        self.scan_now(path, is_deep);
                    }
                    if state == FolderState::Unlisted {
                        self.effects.push(Effect::Watch(path.clone()));
                    }
                }
                _ => self.add_folder(path),
            },
            Kind::Mount => {
                self.trees.remove_local_tree(path);
                self.trees
                    .set_local(path, Some(LocalEntry::Folder(FolderState::Mount)));
            }
            Kind::Link => {
                self.trees.remove_local_tree(path);
                self.trees.set_local(path, Some(LocalEntry::Link));
            }
            Kind::Special => {
                self.trees.remove_local_tree(path);
                self.trees.set_local(path, Some(LocalEntry::Special));
            }
        }
    }

    /// A folder that was not known: it is watched, and then listed.
    pub(super) fn add_folder(&mut self, path: &LocalPath) {
        self.trees
            .set_local(path, Some(LocalEntry::Folder(FolderState::Unlisted)));
        self.effects.push(Effect::Watch(path.clone()));
        self.scan_now(path, true);
    }

    fn merge_file(&mut self, path: &LocalPath, meta: &Meta) {
        let now = self.now.monotonic;
        if let Some(file) = self.file(path) {
            let is_same = if is_planted(Bug::StampWithoutChangeTime) {
                file.stamp.is_renamed(&meta.stamp)
            } else {
                file.stamp == meta.stamp
            };
            if is_same {
                if file.is_racy && file.sha256.is_some() {
                    self.folders.rechecks.entry(path.clone()).or_insert(now);
                } else if file.sha256.is_none() {
                    // An earlier run ended before it was read.
                    self.folders
                        .quiet
                        .entry(path.clone())
                        .or_insert(Quiet { at: now, tries: 0 });
                }
                return;
            }
        }
        let known = if is_planted(Bug::PairByInodeOnly) {
            let mut absent = self.trees.absent().keys().filter_map(|id| self.trees.synced(*id));
            let same = absent.find(|row| row.stamp.identity.inode == meta.stamp.identity.inode);
            same.map(|row| row.sha256)
        } else {
            None
        };
        let file = LocalFile {
            stamp: meta.stamp,
            sha256: known,
            is_racy: known.is_none(),
            executable: meta.executable,
        };
        self.trees.set_local(path, Some(LocalEntry::File(file)));
        let changed = meta.stamp.changed.max(meta.stamp.modified) / 1_000_000;
        let quiet = i64::try_from(QUIET).unwrap_or(i64::MAX);
        let is_quiet = changed.saturating_add(quiet) < self.now.wall;
        let at = if is_quiet { now } else { now + QUIET };
        self.folders.quiet.insert(path.clone(), Quiet { at, tries: 0 });
    }

    fn start_reads(&mut self) {
        let now = self.now.monotonic;
        while self.readers < MAX_READERS && !self.is_writing && self.queue.is_empty() {
            let reading = &self.folders.reading;
            let quiet = self.folders.quiet.iter().filter(|(_, quiet)| quiet.at <= now);
            let rechecks = self.folders.rechecks.iter().filter(|(_, at)| **at <= now);
            let paths = quiet.map(|(path, _)| path).chain(rechecks.map(|(path, _)| path));
            let paths: BTreeSet<LocalPath> = paths
                .filter(|path| !reading.contains(*path))
                .take(MAX_ITEMS)
                .cloned()
                .collect();
            if paths.is_empty() {
                return;
            }
            let paths: Vec<LocalPath> = paths.into_iter().collect();
            self.folders.reading.extend(paths.iter().cloned());
            self.start_job(Job::Hash(paths), Flight::Hash);
        }
    }

    pub(super) fn hashed(&mut self, hashed: Vec<(LocalPath, Result<LocalFile, Failure>)>) {
        let now = self.now.monotonic;
        for (path, result) in hashed {
            self.folders.reading.remove(&path);
            let recheck = self.folders.rechecks.remove(&path);
            let tries = self.folders.quiet.remove(&path).map_or(0, |quiet| quiet.tries);
            let Some(known) = self.file(&path) else { continue };
            match result {
                Ok(file) if file.stamp == known.stamp => {
                    self.note_damage(&path, &file);
                    // It is read once more when its stamp is old enough. If the clock stands still, that does not
                    // help, and the next scan does.
                    if file.is_racy && recheck.is_none() {
                        let wait = self.trees.volume().granularity.unsigned_abs() / 1_000_000 + 100;
                        self.folders.rechecks.insert(path.clone(), now + wait);
                    }
                    self.trees.set_local(&path, Some(LocalEntry::File(file)));
                    self.failed.remove(&Item::Local(path.clone()));
                }
                Ok(_) | Err(Failure::Changed(_) | Failure::Undone(_)) => {
                    if known.sha256.is_none() {
                        let at = now + QUIET;
                        self.folders.quiet.insert(path.clone(), Quiet { at, tries });
                    }
                    self.scan_around(&path);
                }
                Err(Failure::Busy(_) | Failure::Disk(_)) => {
                    let tries = tries + 1;
                    let at = now + delay(tries).min(RETRY_MOST / 5);
                    if known.sha256.is_none() {
                        self.folders.quiet.insert(path.clone(), Quiet { at, tries });
                    } else {
                        self.folders.rechecks.insert(path.clone(), at);
                    }
                }
            }
        }
    }

    /// A power loss has emptied a file, or filled it with zeros, and no program has written to it since: that is no
    /// edit. The version is downloaded again, and the damaged file goes to the trash.
    fn note_damage(&mut self, path: &LocalPath, file: &LocalFile) {
        if self.damaged_since.is_none_or(|since| file.stamp.changed < since) {
            return;
        }
        let (Some(id), Some(sha256)) = (self.trees.owner(path), file.sha256) else {
            return;
        };
        let Some(row) = self.trees.synced(id).cloned() else {
            return;
        };
        let is_untouched = row.stamp.modified == file.stamp.modified && row.sha256 != sha256;
        if is_untouched && is_zeros(file.stamp.size, &sha256) {
            // Version 0 is older than any that the space has.
            let Ok(version) = 0.try_into() else { return };
            let (size, stamp) = (file.stamp.size, file.stamp);
            self.trees.set_synced(
                id,
                Some(SyncedRow {
                    version,
                    size,
                    sha256,
                    stamp,
                    ..row
                }),
            );
        }
    }

    /// Rows that a second look found absent. The root is compared before they count: an empty folder may be one
    /// on which no disk is mounted.
    fn confirm(&mut self, folder: &LocalPath, began: u64) {
        let Some(ids) = self.folders.second_looks.remove(folder) else {
            return;
        };
        for id in ids {
            let absence = self.trees.absent().get(&id);
            let is_late = absence.is_some_and(|absence| absence.since + ABSENT <= began);
            if is_late {
                self.folders.confirming.insert(id);
            }
        }
    }

    pub(super) fn drive_root_check(&mut self) {
        if (self.folders.confirming.is_empty() && !self.folders.must_check_root)
            || self.folders.is_checking_root
            || self.is_writing
        {
            return;
        }
        if is_planted(Bug::RootNotChecked) {
            self.root_checked(true);
            return;
        }
        let Some(root) = self.meta.root.clone() else {
            return;
        };
        self.folders.is_checking_root = true;
        self.start_job(Job::CheckRoot(root), Flight::Root);
    }

    pub(super) fn root_checked(&mut self, is_same: bool) {
        self.folders.is_checking_root = false;
        self.folders.must_check_root = false;
        if !is_same {
            let reason = "another folder is in its place, or its disk is not mounted".to_owned();
            self.stop(Stopped::RootMissing(reason));
            return;
        }
        for id in std::mem::take(&mut self.folders.confirming) {
            let changed = self.trees.synced(id).map(|row| row.stamp.changed);
            // After a power loss a young file may be missing without anybody having deleted it.
            let is_lost = self
                .damaged_since
                .zip(changed)
                .is_some_and(|(since, changed)| changed >= since);
            if is_lost && self.trees.absent().contains_key(&id) && self.trees.moved_to(id).is_none() {
                self.trees.set_synced(id, None);
            } else {
                self.trees.confirm_absence(id);
            }
        }
    }
}
