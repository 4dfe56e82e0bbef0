//! The three trees of observations, and the indexes that the planner needs.

mod pair;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use model::{Cursor, FileId, Sha256, SpacePath};
use uuid::Uuid;

use crate::disk::{Identity, Volume};
use crate::names::{Key, Names};
use crate::path::LocalPath;
use crate::store::RowChange;
pub use rows::{FolderState, LocalEntry, LocalFile, Position, RemoteChange, RemoteRow, Subject, SyncedRow};

/// Something that the planner decides about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// A file of the space, or one that was synced.
    File(FileId),
    /// A file of the folder that belongs to no synced row.
    Local(LocalPath),
}

/// A synced row whose place has no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absence {
    /// When this was first seen, in milliseconds of the monotonic clock.
    pub since: u64,
    /// Whether a second look, some time after the first, found the same.
    pub is_confirmed: bool,
}

/// Size and SHA-256.
type Content = (u64, [u8; 32]);

fn content(size: u64, sha256: Sha256) -> Content {
    (size, *sha256.as_bytes())
}

/// The three trees. Each change of a row is recorded for the store, and marks what the planner must look at.
#[derive(Clone, Debug)]
pub struct Trees {
    volume: Volume,
    names: Names,
    /// The position in the feed that the remote tree is at.
    pub cursor: Cursor,
    /// The present, in milliseconds of the monotonic clock.
    pub now: u64,
    remote: BTreeMap<FileId, RemoteRow>,
    remote_keys: BTreeSet<(Key, FileId)>,
    local: BTreeMap<LocalPath, LocalEntry>,
    local_keys: BTreeSet<(Key, LocalPath)>,
    root: FolderState,
    synced: BTreeMap<FileId, SyncedRow>,
    places: BTreeMap<LocalPath, FileId>,
    absent: BTreeMap<FileId, Absence>,
    absent_identities: BTreeSet<(Identity, FileId)>,
    absent_contents: BTreeSet<(Content, FileId)>,
    unowned: BTreeSet<LocalPath>,
    unowned_identities: BTreeSet<(Identity, LocalPath)>,
    unowned_contents: BTreeSet<(Content, LocalPath)>,
    /// Sizes of files without an owner that were not read yet.
    unread_sizes: BTreeMap<u64, usize>,
    /// Files without a SHA-256.
    unread: BTreeSet<LocalPath>,
    /// Absent rows that were not looked for twice, by the time of the first look.
    unconfirmed: BTreeSet<(u64, FileId)>,
    /// Synced rows whose files the space does not have.
    remoteless: BTreeSet<FileId>,
    dirty: BTreeSet<Item>,
    changes: Vec<RowChange>,
    revision: u64,
}

const FIRST_ID: Uuid = Uuid::nil();

fn first_id() -> FileId {
    FIRST_ID.into()
}

impl Trees {
    /// Empty trees on a volume.
    pub fn new(volume: Volume) -> Self {
        Self {
            volume,
            names: Names::from(&volume),
            cursor: Cursor::START,
            now: 0,
            remote: BTreeMap::new(),
            remote_keys: BTreeSet::new(),
            local: BTreeMap::new(),
            local_keys: BTreeSet::new(),
            root: FolderState::Unlisted,
            synced: BTreeMap::new(),
            places: BTreeMap::new(),
            absent: BTreeMap::new(),
            absent_identities: BTreeSet::new(),
            absent_contents: BTreeSet::new(),
            unowned: BTreeSet::new(),
            unowned_identities: BTreeSet::new(),
            unowned_contents: BTreeSet::new(),
            unread_sizes: BTreeMap::new(),
            unread: BTreeSet::new(),
            unconfirmed: BTreeSet::new(),
            remoteless: BTreeSet::new(),
            dirty: BTreeSet::new(),
            changes: Vec::new(),
            revision: 0,
        }
    }

    /// The volume.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// How the volume compares names.
    pub fn names(&self) -> Names {
        self.names
    }

    /// A file of the space.
    pub fn remote(&self, id: FileId) -> Option<&RemoteRow> {
        self.remote.get(&id)
    }

    /// All files of the space.
    pub fn all_remote(&self) -> &BTreeMap<FileId, RemoteRow> {
        &self.remote
    }

    /// An entry of the folder; the root is a folder.
    pub fn local(&self, path: &LocalPath) -> Option<LocalEntry> {
        if path.is_root() {
            return Some(LocalEntry::Folder(self.root));
        }
        self.local.get(path).cloned()
    }

    /// A regular file of the folder.
    pub fn local_file(&self, path: &LocalPath) -> Option<LocalFile> {
        match self.local.get(path) {
            Some(LocalEntry::File(file)) => Some(*file),
            _ => None,
        }
    }

    /// All entries of the folder, without the root.
    pub fn all_local(&self) -> &BTreeMap<LocalPath, LocalEntry> {
        &self.local
    }

    /// The last state in which both agreed about a file.
    pub fn synced(&self, id: FileId) -> Option<&SyncedRow> {
        self.synced.get(&id)
    }

    /// All synced rows.
    pub fn all_synced(&self) -> &BTreeMap<FileId, SyncedRow> {
        &self.synced
    }

    /// The synced row that has its place here.
    pub fn owner(&self, path: &LocalPath) -> Option<FileId> {
        self.places.get(path).copied()
    }

    /// Synced rows whose places have no file.
    pub fn absent(&self) -> &BTreeMap<FileId, Absence> {
        &self.absent
    }

    /// Files of the folder that belong to no synced row.
    pub fn unowned(&self) -> &BTreeSet<LocalPath> {
        &self.unowned
    }

    /// Files of the folder whose content was not read yet, or must be read again.
    pub fn unread(&self) -> &BTreeSet<LocalPath> {
        &self.unread
    }

    /// Whether a file without an owner of this size was not read yet.
    pub fn has_unread_of_size(&self, size: u64) -> bool {
        self.unread_sizes.contains_key(&size)
    }

    /// The files of the space with this key.
    pub fn remote_with_key(&self, key: &Key) -> impl Iterator<Item = FileId> {
        let from = (key.clone(), first_id());
        let range = self.remote_keys.range(from..);
        range
            .take_while(move |(other, _)| other == key)
            .map(|(_, id)| *id)
    }

    /// The files of the space at this path or below it.
    pub fn remote_within(&self, path: &str) -> impl Iterator<Item = FileId> {
        let key = self.names.key(path);
        let below: Key = format!("{key}/").into();
        let at: Vec<FileId> = self.remote_with_key(&key).collect();
        let range = self.remote_keys.range((below.clone(), first_id())..);
        let below = range.take_while(move |(other, _)| other.starts_with(&*below));
        at.into_iter().chain(below.map(|(_, id)| *id))
    }

    /// The entries of the folder with this key.
    pub fn local_with_key(&self, key: &Key) -> impl Iterator<Item = &LocalPath> {
        let from = (key.clone(), LocalPath::root());
        let range = self.local_keys.range(from..);
        range
            .take_while(move |(other, _)| other == key)
            .map(|(_, path)| path)
    }

    /// The entries below a folder, however deep.
    pub fn local_below(&self, folder: &LocalPath) -> impl Iterator<Item = (&LocalPath, &LocalEntry)> {
        let below = format!("{}/", folder.as_str());
        let from = LocalPath::new(&*below);
        let range = self.local.range((Bound::Included(from), Bound::Unbounded));
        range.take_while(move |(path, _)| path.as_str().starts_with(&below))
    }

    /// The path on the disk for a path of the space: folders that exist are named as they are.
    pub fn local_path(&self, path: &SpacePath) -> LocalPath {
        let mut local = LocalPath::root();
        let mut segments = path.as_str().split('/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            let exact = local.join(segment);
            if segments.peek().is_none() || self.local.contains_key(&exact) {
                local = exact;
                continue;
            }
            let key = self.names.local_key(&exact);
            let folder = self.local_with_key(&key).find(|path| {
                path.parent().as_ref() == Some(&local)
                    && matches!(self.local.get(*path), Some(LocalEntry::Folder(_)))
            });
            local = folder.cloned().unwrap_or(exact);
        }
        local
    }

    /// What the planner must look at.
    pub fn dirty(&self) -> &BTreeSet<Item> {
        &self.dirty
    }

    /// Marks an item for the planner.
    pub fn mark(&mut self, item: Item) {
        self.dirty.insert(item);
    }

    /// Marks everything.
    pub fn mark_all(&mut self) {
        let files = self
            .remote
            .keys()
            .chain(self.synced.keys())
            .map(|id| Item::File(*id));
        let items: Vec<Item> = files
            .chain(self.unowned.iter().cloned().map(Item::Local))
            .collect();
        self.dirty.extend(items);
    }

    /// Takes an item off the list.
    pub fn unmark(&mut self, item: &Item) {
        self.dirty.remove(item);
    }

    /// A number that grows with each change of a row.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Absent rows that were not looked for twice, with the time of the first look, the oldest first.
    pub fn unconfirmed(&self) -> &BTreeSet<(u64, FileId)> {
        &self.unconfirmed
    }

    /// Synced rows whose files the space does not have.
    pub fn remoteless(&self) -> &BTreeSet<FileId> {
        &self.remoteless
    }

    /// The direct entries of a folder.
    pub fn children(&self, folder: &LocalPath) -> Vec<LocalPath> {
        let below = format!("{}/", folder.as_str());
        let mut children = Vec::new();
        let mut from = LocalPath::new(&*below);
        loop {
            let mut range = self.local.range((Bound::Included(&from), Bound::Unbounded));
            let mut next = None;
            for (path, _) in range.by_ref() {
                let Some(rest) = path.as_str().strip_prefix(&*below) else {
                    break;
                };
                if let Some(end) = rest.find('/') {
                    // Skips what is deeper: 0 is the character after /.
                    next = Some(LocalPath::new(format!("{below}{}0", &rest[..end])));
                    break;
                }
                children.push(path.clone());
            }
            match next {
                Some(path) => from = path,
                None => return children,
            }
        }
    }

    /// The innermost folder on the way to a path that exists.
    pub fn nearest_folder(&self, path: &LocalPath) -> Option<LocalPath> {
        let mut folder = path.parent()?;
        loop {
            match self.local(&folder) {
                Some(LocalEntry::Folder(_)) => return Some(folder),
                _ => folder = folder.parent()?,
            }
        }
    }

    /// The rows that changed since the last call.
    pub fn take_changes(&mut self) -> Vec<RowChange> {
        std::mem::take(&mut self.changes)
    }

    /// Records another change for the store, together with those of the trees.
    pub fn record(&mut self, change: RowChange) {
        self.changes.push(change);
    }

    /// Marks what has this key on either side.
    fn mark_key(&mut self, key: &Key) {
        let ids: Vec<FileId> = self.remote_with_key(key).collect();
        let paths: Vec<LocalPath> = self.local_with_key(key).cloned().collect();
        self.dirty.extend(ids.into_iter().map(Item::File));
        for path in paths {
            self.mark_place(&path);
        }
    }

    fn mark_place(&mut self, path: &LocalPath) {
        if let Some(id) = self.owner(path) {
            self.dirty.insert(Item::File(id));
        } else if self.unowned.contains(path) {
            self.dirty.insert(Item::Local(path.clone()));
        }
    }

    /// Sets or removes a row of the remote tree.
    pub fn set_remote(&mut self, id: FileId, row: Option<RemoteRow>) {
        if self.remote.get(&id) == row.as_ref() {
            return;
        }
        self.changes
            .push(RowChange::Remote(id, row.clone().map(Box::new)));
        let key = |trees: &Self, row: &RemoteRow| trees.names.key(row.path.as_str());
        let new = row.as_ref().map(|row| key(self, row));
        let old = match row {
            Some(row) => self.remote.insert(id, row),
            None => self.remote.remove(&id),
        };
        let old = old.map(|row| key(self, &row));
        if let Some(key) = &old {
            self.remote_keys.remove(&(key.clone(), id));
        }
        if let Some(key) = &new {
            self.remote_keys.insert((key.clone(), id));
        }
        self.note_remoteless(id);
        self.dirty.insert(Item::File(id));
        for key in [old, new].into_iter().flatten() {
            self.mark_key(&key);
        }
    }

    /// Sets the state of the root folder.
    pub fn set_root(&mut self, state: FolderState) {
        self.root = state;
    }

    /// Sets or removes an entry of the folder.
    pub fn set_local(&mut self, path: &LocalPath, entry: Option<LocalEntry>) {
        if path.is_root() || self.local.get(path) == entry.as_ref() {
            return;
        }
        self.changes
            .push(RowChange::Local(path.clone(), entry.clone().map(Box::new)));
        self.unindex_local(path);
        let key = self.names.local_key(path);
        if let Some(entry) = entry {
            self.local_keys.insert((key.clone(), path.clone()));
            self.local.insert(path.clone(), entry);
        } else {
            self.local_keys.remove(&(key.clone(), path.clone()));
            self.local.remove(path);
        }
        self.index_local(path);
        if let Some(id) = self.owner(path) {
            self.place(id);
        }
        self.mark_place(path);
        self.mark_key(&key);
    }

    /// Removes an entry and all below it.
    pub fn remove_local_tree(&mut self, path: &LocalPath) {
        let below: Vec<LocalPath> = self.local_below(path).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.set_local(&path, None);
        }
        self.set_local(path, None);
    }

    /// Takes a file out of the indexes of files, before its entry or its owner changes.
    fn unindex_local(&mut self, path: &LocalPath) {
        self.unread.remove(path);
        let Some(file) = self.local_file(path) else { return };
        if !self.unowned.remove(path) {
            return;
        }
        self.dirty.remove(&Item::Local(path.clone()));
        self.unowned_identities
            .remove(&(file.stamp.identity, path.clone()));
        match file.sha256 {
            Some(sha256) => {
                self.unowned_contents
                    .remove(&(content(file.stamp.size, sha256), path.clone()));
            }
            None => {
                if let Some(count) = self.unread_sizes.get_mut(&file.stamp.size) {
                    *count -= 1;
                    if *count == 0 {
                        self.unread_sizes.remove(&file.stamp.size);
                    }
                }
            }
        }
        self.mark_absent_like(&file);
    }

    fn index_local(&mut self, path: &LocalPath) {
        let Some(file) = self.local_file(path) else { return };
        if file.sha256.is_none() {
            self.unread.insert(path.clone());
        }
        if self.places.contains_key(path) {
            return;
        }
        self.unowned.insert(path.clone());
        self.unowned_identities
            .insert((file.stamp.identity, path.clone()));
        match file.sha256 {
            Some(sha256) => {
                self.unowned_contents
                    .insert((content(file.stamp.size, sha256), path.clone()));
            }
            None => *self.unread_sizes.entry(file.stamp.size).or_default() += 1,
        }
        self.dirty.insert(Item::Local(path.clone()));
        self.mark_absent_like(&file);
    }

    /// Marks the absent rows that may be this file.
    fn mark_absent_like(&mut self, file: &LocalFile) {
        let from = (file.stamp.identity, first_id());
        let range = self.absent_identities.range(from..);
        let same = range.take_while(|(identity, _)| *identity == file.stamp.identity);
        let mut ids: Vec<FileId> = same.map(|(_, id)| *id).collect();
        if let Some(sha256) = file.sha256 {
            let content = content(file.stamp.size, sha256);
            let range = self.absent_contents.range((content, first_id())..);
            ids.extend(
                range
                    .take_while(|(other, _)| *other == content)
                    .map(|(_, id)| *id),
            );
        }
        self.dirty.extend(ids.into_iter().map(Item::File));
    }

    /// Sets or removes a synced row. If another row has its place there, that row is removed: the newer
    /// agreement is right about the place.
    pub fn set_synced(&mut self, id: FileId, row: Option<SyncedRow>) {
        if self.synced.get(&id) == row.as_ref() {
            return;
        }
        if let Some(row) = &row
            && let Some(other) = self.owner(&row.local)
            && other != id
        {
            self.set_synced(other, None);
        }
        self.changes
            .push(RowChange::Synced(id, row.clone().map(Box::new)));
        let old_place = self.synced.get(&id).map(|row| row.local.clone());
        self.unplace(id);
        if let Some(old) = &old_place {
            self.unindex_local(old);
            self.places.remove(old);
        }
        let new_place = row.as_ref().map(|row| row.local.clone());
        if let Some(new) = &new_place {
            self.unindex_local(new);
            self.places.insert(new.clone(), id);
        }
        match row {
            Some(row) => self.synced.insert(id, row),
            None => self.synced.remove(&id),
        };
        for place in [old_place, new_place].into_iter().flatten() {
            self.index_local(&place);
            let key = self.names.local_key(&place);
            self.mark_key(&key);
        }
        self.place(id);
        self.note_remoteless(id);
        self.dirty.insert(Item::File(id));
    }

    fn note_remoteless(&mut self, id: FileId) {
        if self.synced.contains_key(&id) && !self.remote.contains_key(&id) {
            self.remoteless.insert(id);
        } else {
            self.remoteless.remove(&id);
        }
    }

    /// Takes a row out of the indexes of absent rows.
    fn unplace(&mut self, id: FileId) {
        let Some(absence) = self.absent.remove(&id) else {
            return;
        };
        self.unconfirmed.remove(&(absence.since, id));
        if let Some(row) = self.synced.get(&id) {
            self.absent_identities.remove(&(row.stamp.identity, id));
            self.absent_contents.remove(&(content(row.size, row.sha256), id));
        }
    }

    /// Puts a row into the indexes of absent rows, or takes it out.
    fn place(&mut self, id: FileId) {
        let Some(row) = self.synced.get(&id) else { return };
        if matches!(self.local.get(&row.local), Some(LocalEntry::File(_))) {
            self.unplace(id);
        } else if !self.absent.contains_key(&id) {
            let (since, is_confirmed) = (self.now, false);
            self.absent_identities.insert((row.stamp.identity, id));
            self.absent_contents.insert((content(row.size, row.sha256), id));
            self.absent.insert(id, Absence { since, is_confirmed });
            self.unconfirmed.insert((since, id));
            self.dirty.insert(Item::File(id));
            self.mark_unowned_like(id);
        }
    }

    /// Marks the files that may be this absent row.
    fn mark_unowned_like(&mut self, id: FileId) {
        let Some(row) = self.synced.get(&id) else { return };
        let identity = row.stamp.identity;
        let content = content(row.size, row.sha256);
        let range = self.unowned_identities.range((identity, LocalPath::root())..);
        let same = range
            .take_while(|(other, _)| *other == identity)
            .map(|(_, path)| path);
        let mut paths: Vec<LocalPath> = same.cloned().collect();
        let range = self.unowned_contents.range((content, LocalPath::root())..);
        paths.extend(
            range
                .take_while(|(other, _)| *other == content)
                .map(|(_, path)| path.clone()),
        );
        self.dirty.extend(paths.into_iter().map(Item::Local));
    }

    /// Notes that a second look found the file of a row absent.
    pub fn confirm_absence(&mut self, id: FileId) {
        if let Some(absence) = self.absent.get_mut(&id)
            && !absence.is_confirmed
        {
            absence.is_confirmed = true;
            self.unconfirmed.remove(&(absence.since, id));
            self.revision += 1;
            self.dirty.insert(Item::File(id));
        }
    }

    /// Whether there is certainly nothing at this path: the innermost folder on the way that exists was listed.
    pub fn certainty(&self, path: &LocalPath) -> Certainty {
        let mut folder = path.parent();
        while let Some(path) = folder {
            match self.local(&path) {
                None => folder = path.parent(),
                Some(LocalEntry::Folder(FolderState::Listed) | LocalEntry::File(_)) => {
                    return Certainty::Certain;
                }
                Some(LocalEntry::Folder(FolderState::Unlisted)) => return Certainty::NotYet,
                Some(LocalEntry::Folder(FolderState::Unreadable | FolderState::Mount)) => {
                    return Certainty::Unreadable;
                }
                Some(LocalEntry::Link | LocalEntry::Special) => return Certainty::BehindLink,
            }
        }
        Certainty::NotYet
    }
}

/// What is known about a path that has no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// Nothing is there.
    Certain,
    /// A folder on the way was not listed yet.
    NotYet,
    /// A folder on the way cannot be listed.
    Unreadable,
    /// A link or a special file is on the way.
    BehindLink,
}
