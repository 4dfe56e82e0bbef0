//! The state of a virtual disk: inodes and folders in the page cache, and what of them is on the platter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;

use crate::disk::{DiskError, DiskErrorKind, Identity, Kind, Meta, Stamp, Volume};
use crate::names::Names;
use crate::path::{Area, LocalPath, Place};

/// Properties of a virtual disk.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent property of the disk"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// Names that differ in case are one name.
    pub ignores_case: bool,
    /// `exchange` works.
    pub exchanges: bool,
    /// Inode numbers stay with a file.
    pub stable_inodes: bool,
    /// Inode numbers of removed files are given to new ones at once.
    pub reuses_inodes: bool,
    /// Files have a time of birth.
    pub has_birth: bool,
    /// The step of time stamps in nanoseconds.
    pub granularity: i64,
    /// The clock stands still.
    pub is_frozen: bool,
    /// A crash may keep any of the renames that were not made durable, and not only the first ones.
    pub is_hostile: bool,
}

impl Modes {
    /// A common Linux disk.
    pub const LINUX: Self = Self {
        ignores_case: false,
        exchanges: true,
        stable_inodes: true,
        reuses_inodes: false,
        has_birth: true,
        granularity: 1_000,
        is_frozen: false,
        is_hostile: false,
    };

    /// Random properties, often those of a common disk.
    pub fn random(rng: &mut Rng) -> Self {
        let rare = |rng: &mut Rng| rng.u8(..6) == 0;
        Self {
            ignores_case: rare(rng),
            exchanges: !rare(rng),
            stable_inodes: !rare(rng),
            reuses_inodes: rare(rng),
            has_birth: !rare(rng),
            granularity: [1_000, 1_000, 1_000, 1_000, 10_000_000, 2_000_000_000][rng.usize(..6)],
            is_frozen: rare(rng) && rare(rng),
            is_hostile: rare(rng) || rare(rng),
        }
    }

    /// As the engine sees them.
    pub fn volume(&self) -> Volume {
        Volume {
            ignores_case: self.ignores_case,
            keeps_case: true,
            ignores_form: false,
            renames_without_replacing: true,
            exchanges: self.exchanges,
            stable_inodes: self.stable_inodes,
            has_birth: self.has_birth,
            granularity: self.granularity,
        }
    }
}

pub(crate) type Bytes = Arc<[u8]>;
type Entries = BTreeMap<String, u64>;

#[derive(Clone, Debug)]
enum Body {
    File(Bytes),
    Folder,
    Link,
    Special,
}

#[derive(Clone, Debug)]
struct Inode {
    body: Body,
    modified: i64,
    changed: i64,
    birth: i64,
    is_executable: bool,
    /// The last content that is on the platter.
    durable: Option<Bytes>,
    /// Whether the content in the page cache is on the platter.
    is_durable: bool,
    /// Whether a user wrote the content, and not the engine.
    is_by_user: bool,
}

/// A change of a folder that is not on the platter yet.
#[derive(Clone, Debug)]
enum Entry {
    Add(u64, String, u64),
    Remove(u64, String, u64),
    /// With the inode that is replaced.
    Rename((u64, String), (u64, String), u64, Option<u64>),
    Exchange((u64, String, u64), (u64, String, u64)),
}

/// The state of a disk.
#[derive(Clone, Debug)]
pub struct DiskState {
    modes: Modes,
    names: Names,
    /// The present in nanoseconds since 1970.
    pub clock: i64,
    inodes: BTreeMap<u64, Inode>,
    free: Vec<u64>,
    next: u64,
    folders: BTreeMap<u64, Entries>,
    platter: BTreeMap<u64, Entries>,
    journal: Vec<Entry>,
    /// Inodes that the engine removed while a program had them open.
    pub purged: BTreeSet<u64>,
    /// Inodes that programs have open.
    open: BTreeMap<u64, u32>,
    /// Folders with changed entries, for the watcher.
    pub touched: BTreeSet<LocalPath>,
}

const ROOT: u64 = 1;

fn area_inode(area: Area) -> u64 {
    match area {
        Area::Parts => 2,
        Area::Aside => 3,
        Area::Trash => 4,
    }
}

/// An error with the name of a call.
pub(crate) fn error<T>(kind: DiskErrorKind, what: &str) -> Result<T, DiskError> {
    Err(DiskError::new(kind, what))
}

impl DiskState {
    /// An empty disk.
    pub fn new(modes: Modes) -> Self {
        let mut state = Self {
            modes,
            names: Names::new(modes.ignores_case),
            clock: 1_800_000_000_000_000_000,
            inodes: BTreeMap::new(),
            free: Vec::new(),
            next: 5,
            folders: BTreeMap::new(),
            platter: BTreeMap::new(),
            journal: Vec::new(),
            purged: BTreeSet::new(),
            open: BTreeMap::new(),
            touched: BTreeSet::new(),
        };
        for inode in 1..5 {
            state.add_inode(inode, Body::Folder);
            state.folders.insert(inode, Entries::new());
            state.platter.insert(inode, Entries::new());
        }
        state
    }

    /// The properties.
    pub fn modes(&self) -> &Modes {
        &self.modes
    }

    /// The present as the disk stamps it.
    pub fn stamp_time(&self) -> i64 {
        self.clock / self.modes.granularity * self.modes.granularity
    }

    fn add_inode(&mut self, inode: u64, body: Body) {
        let now = self.stamp_time();
        let inode_body = Inode {
            body,
            modified: now,
            changed: now,
            birth: now,
            is_executable: false,
            durable: None,
            is_durable: false,
            is_by_user: true,
        };
        self.inodes.insert(inode, inode_body);
    }

    fn new_inode(&mut self, body: Body) -> u64 {
        let reused = if self.modes.reuses_inodes {
            self.free.pop()
        } else {
            None
        };
        // The number is given again only when the removal is on the platter.
        if reused.is_some() {
            self.flush_journal();
        }
        let inode = reused.unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        self.add_inode(inode, body);
        inode
    }

    fn find_name(&self, folder: u64, name: &str) -> Option<String> {
        let entries = self.folders.get(&folder)?;
        if entries.contains_key(name) {
            return Some(name.to_owned());
        }
        if !self.modes.ignores_case {
            return None;
        }
        let key = self.names.key(name);
        entries.keys().find(|other| self.names.key(other) == key).cloned()
    }

    /// The folder that contains a place, and the name in it, as it is if it exists.
    fn locate(&self, place: &Place) -> Option<(u64, String)> {
        match place {
            Place::Private(area, name) => Some((area_inode(*area), (**name).to_owned())),
            Place::Tree(path) => {
                let mut folder = ROOT;
                let parent = path.parent().unwrap_or_else(LocalPath::root);
                for segment in parent.as_str().split('/').skip(1) {
                    let name = self.find_name(folder, segment)?;
                    folder = *self.folders.get(&folder)?.get(&name)?;
                    self.folders.get(&folder)?;
                }
                let name = path.name();
                let name = self.find_name(folder, name).unwrap_or_else(|| name.to_owned());
                Some((folder, name))
            }
        }
    }

    fn inode(&self, place: &Place) -> Option<u64> {
        if let Place::Tree(path) = place
            && path.is_root()
        {
            return Some(ROOT);
        }
        let (folder, name) = self.locate(place)?;
        self.folders.get(&folder)?.get(&name).copied()
    }

    /// The metadata of a place.
    pub fn stat(&self, place: &Place) -> Option<Meta> {
        let inode = self.inode(place)?;
        self.meta(inode)
    }

    fn meta(&self, number: u64) -> Option<Meta> {
        let inode = self.inodes.get(&number)?;
        let (kind, size) = match &inode.body {
            Body::File(bytes) => (Kind::File, bytes.len() as u64),
            Body::Folder => (Kind::Folder, 0),
            Body::Link => (Kind::Link, 0),
            Body::Special => (Kind::Special, 0),
        };
        Some(Meta {
            kind,
            stamp: Stamp {
                identity: Identity {
                    device: 1,
                    inode: if self.modes.stable_inodes { number } else { 0 },
                    birth: self.modes.has_birth.then_some(inode.birth),
                },
                size,
                modified: inode.modified,
                changed: inode.changed,
            },
            executable: Some(inode.is_executable),
            links: 1,
        })
    }

    /// The entries of a folder of the tree.
    pub fn list(&self, folder: &LocalPath) -> Option<Vec<(String, Meta)>> {
        let inode = self.inode(&Place::Tree(folder.clone()))?;
        let entries = self.folders.get(&inode)?;
        Some(
            entries
                .iter()
                .filter_map(|(name, inode)| Some((name.clone(), self.meta(*inode)?)))
                .collect(),
        )
    }

    /// The entries of an area.
    pub fn list_area(&self, area: Area) -> Vec<(String, Meta)> {
        let entries = self.folders.get(&area_inode(area));
        let entries = entries.into_iter().flatten();
        entries
            .filter_map(|(name, inode)| Some((name.clone(), self.meta(*inode)?)))
            .collect()
    }

    /// The content of a regular file.
    pub fn content(&self, place: &Place) -> Option<Bytes> {
        match &self.inodes.get(&self.inode(place)?)?.body {
            Body::File(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// All files of the tree with their contents.
    pub fn files(&self) -> BTreeMap<String, Bytes> {
        let mut files = BTreeMap::new();
        self.collect(ROOT, "", &mut files);
        files
    }

    fn collect(&self, folder: u64, path: &str, files: &mut BTreeMap<String, Bytes>) {
        for (name, inode) in self.folders.get(&folder).into_iter().flatten() {
            let path = format!("{path}/{name}");
            match self.inodes.get(inode).map(|inode| &inode.body) {
                Some(Body::File(bytes)) => {
                    files.insert(path, bytes.clone());
                }
                Some(Body::Folder) => self.collect(*inode, &path, files),
                _ => {}
            }
        }
    }

    /// Whether anything but files and folders is in the tree.
    pub fn has_others(&self) -> bool {
        self.inodes
            .values()
            .any(|inode| matches!(inode.body, Body::Link | Body::Special))
    }

    /// All contents, in the areas too.
    pub fn contents(&self) -> Vec<Bytes> {
        let mut contents: Vec<Bytes> = self.files().into_values().collect();
        for area in [Area::Aside, Area::Trash] {
            for (name, _) in self.list_area(area) {
                contents.extend(self.content(&Place::private(area, name)));
            }
        }
        contents
    }

    fn touch_folder(&mut self, place: &Place) {
        if let Place::Tree(path) = place {
            let parent = path.parent().unwrap_or_else(LocalPath::root);
            self.touched.insert(parent);
        }
        let now = self.stamp_time();
        if let Some((folder, _)) = self.locate(place)
            && let Some(inode) = self.inodes.get_mut(&folder)
        {
            inode.modified = now;
            inode.changed = now;
        }
    }

    fn drop_inode(&mut self, number: u64) {
        if !self.open.contains_key(&number) {
            self.inodes.remove(&number);
            self.free.push(number);
        }
    }

    fn add_entry(&mut self, place: &Place, inode: u64) -> Result<(), DiskError> {
        let Some((folder, name)) = self.locate(place) else {
            return error(DiskErrorKind::NotFound, "no folder");
        };
        let Some(entries) = self.folders.get_mut(&folder) else {
            return error(DiskErrorKind::NotFound, "no folder");
        };
        if entries.contains_key(&name) {
            return error(DiskErrorKind::AlreadyExists, "taken");
        }
        entries.insert(name.clone(), inode);
        self.journal.push(Entry::Add(folder, name, inode));
        self.touch_folder(place);
        Ok(())
    }

    /// Creates a file. `is_synced`: it is on the platter at once.
    pub fn create(&mut self, place: &Place, bytes: Bytes, is_synced: bool) -> Result<(), DiskError> {
        if self.inode(place).is_some() {
            return error(DiskErrorKind::AlreadyExists, "taken");
        }
        let inode = self.new_inode(Body::File(bytes.clone()));
        if let Err(failed) = self.add_entry(place, inode) {
            self.inodes.remove(&inode);
            return Err(failed);
        }
        if is_synced && let Some(file) = self.inodes.get_mut(&inode) {
            file.durable = Some(bytes);
            file.is_durable = true;
            self.flush_journal();
        }
        Ok(())
    }

    /// Creates a folder, a link or a special file.
    pub fn create_other(&mut self, place: &Place, kind: Kind) -> Result<(), DiskError> {
        if self.inode(place).is_some() {
            return error(DiskErrorKind::AlreadyExists, "taken");
        }
        let body = match kind {
            Kind::Link => Body::Link,
            Kind::Special => Body::Special,
            _ => Body::Folder,
        };
        let is_folder = matches!(body, Body::Folder);
        let inode = self.new_inode(body);
        if is_folder {
            self.folders.insert(inode, Entries::new());
            self.platter.insert(inode, Entries::new());
        }
        let added = self.add_entry(place, inode);
        if added.is_err() {
            self.inodes.remove(&inode);
            self.folders.remove(&inode);
        }
        added
    }

    /// Replaces the content of a file in place.
    pub fn write(&mut self, place: &Place, bytes: Bytes, is_synced: bool) -> Result<(), DiskError> {
        let Some(inode) = self.inode(place) else {
            return error(DiskErrorKind::NotFound, "no file");
        };
        let is_by_user = matches!(place, Place::Tree(_));
        self.write_inode(inode, bytes, is_synced, is_by_user)?;
        if let Place::Tree(path) = place {
            self.touched.insert(path.parent().unwrap_or_else(LocalPath::root));
        }
        Ok(())
    }

    fn write_inode(
        &mut self,
        inode: u64,
        bytes: Bytes,
        is_synced: bool,
        is_by_user: bool,
    ) -> Result<(), DiskError> {
        let now = self.stamp_time();
        let Some(inode) = self.inodes.get_mut(&inode) else {
            return error(DiskErrorKind::NotFound, "no file");
        };
        let Body::File(content) = &mut inode.body else {
            return error(DiskErrorKind::NotFound, "no file");
        };
        *content = bytes.clone();
        inode.modified = now;
        inode.changed = now;
        inode.is_durable = is_synced;
        inode.is_by_user = is_by_user;
        if is_synced {
            inode.durable = Some(bytes);
            self.flush_journal();
        }
        Ok(())
    }

    /// Opens a file for writing. The handle stays with the file when it is renamed or removed.
    pub fn open(&mut self, place: &Place) -> Option<u64> {
        let inode = self.inode(place)?;
        matches!(self.inodes.get(&inode)?.body, Body::File(_)).then(|| {
            *self.open.entry(inode).or_default() += 1;
            inode
        })
    }

    /// The content of an open file.
    pub fn open_content(&self, handle: u64) -> Option<Bytes> {
        match &self.inodes.get(&handle)?.body {
            Body::File(bytes) if self.open.contains_key(&handle) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// The metadata of an open file.
    pub fn open_meta(&self, handle: u64) -> Option<Meta> {
        self.meta(handle)
    }

    /// Closes a file.
    pub fn close(&mut self, handle: u64) {
        let left = self.open.get(&handle).map_or(0, |count| count - 1);
        if left == 0 {
            self.open.remove(&handle);
        } else {
            self.open.insert(handle, left);
        }
        if !self.has_name(handle) {
            self.drop_inode(handle);
        }
    }

    /// Whether an open file still has a name.
    pub fn has_name(&self, handle: u64) -> bool {
        self.folders
            .values()
            .any(|entries| entries.values().any(|inode| *inode == handle))
    }

    /// Writes through a handle, and closes it.
    pub fn write_open(&mut self, handle: u64, bytes: Bytes) -> Result<(), DiskError> {
        let written = self.write_inode(handle, bytes, true, true);
        self.mark_touched_file(handle);
        self.close(handle);
        written
    }

    fn mark_touched_file(&mut self, inode: u64) {
        let mut paths = Vec::new();
        self.find_paths(ROOT, "", inode, &mut paths);
        for path in paths {
            self.touched
                .insert(LocalPath::new(path).parent().unwrap_or_else(LocalPath::root));
        }
    }

    fn find_paths(&self, folder: u64, path: &str, wanted: u64, paths: &mut Vec<String>) {
        for (name, inode) in self.folders.get(&folder).into_iter().flatten() {
            let path = format!("{path}/{name}");
            if *inode == wanted {
                paths.push(path.clone());
            }
            self.find_paths(*inode, &path, wanted, paths);
        }
    }

    /// Sets the modification time, and the executable bit if given.
    pub fn set_times(&mut self, place: &Place, modified: Option<i64>, executable: Option<bool>) {
        let now = self.stamp_time();
        let inode = self.inode(place);
        if let Some(inode) = inode.and_then(|inode| self.inodes.get_mut(&inode)) {
            inode.modified = modified.unwrap_or(inode.modified);
            inode.is_executable = executable.unwrap_or(inode.is_executable);
            inode.changed = now;
        }
        if let Place::Tree(path) = place {
            self.touched.insert(path.parent().unwrap_or_else(LocalPath::root));
        }
    }

    /// Renames. `replaces`: what is there is removed.
    pub fn rename(&mut self, from: &Place, to: &Place, replaces: bool) -> Result<(), DiskError> {
        let Some(inode) = self.inode(from) else {
            return error(DiskErrorKind::NotFound, "rename: nothing there");
        };
        let (Some(source), Some(mut target)) = (self.locate(from), self.locate(to)) else {
            return error(DiskErrorKind::NotFound, "rename: no folder");
        };
        if let (Place::Tree(from), Place::Tree(to)) = (from, to)
            && to.is_within(from)
        {
            return error(DiskErrorKind::Unsupported, "rename: into itself");
        }
        let mut loser = None;
        if let Some(other) = self.inode(to) {
            if !replaces {
                return error(DiskErrorKind::AlreadyExists, "rename: taken");
            }
            if other == inode {
                // Another case of the same name.
                if let Place::Tree(path) = to {
                    path.name().clone_into(&mut target.1);
                }
            } else if matches!(self.inodes.get(&other).map(|it| &it.body), Some(Body::File(_))) {
                loser = Some(other);
            } else {
                return error(DiskErrorKind::AlreadyExists, "rename: a folder");
            }
        }
        if !self.folders.contains_key(&target.0) {
            return error(DiskErrorKind::NotFound, "rename: no folder");
        }
        self.touch_folder(from);
        let now = self.stamp_time();
        if let Some(entries) = self.folders.get_mut(&source.0) {
            entries.remove(&source.1);
        }
        if let Some(entries) = self.folders.get_mut(&target.0) {
            entries.insert(target.1.clone(), inode);
        }
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.changed = now;
        }
        self.journal.push(Entry::Rename(source, target, inode, loser));
        if let Some(other) = loser {
            self.drop_inode(other);
        }
        self.touch_folder(to);
        Ok(())
    }

    /// Exchanges two files.
    pub fn exchange(&mut self, one: &Place, other: &Place) -> Result<(), DiskError> {
        if !self.modes.exchanges {
            return error(DiskErrorKind::Unsupported, "exchange");
        }
        let (Some(a), Some(b)) = (self.inode(one), self.inode(other)) else {
            return error(DiskErrorKind::NotFound, "exchange: nothing there");
        };
        let (Some(x), Some(y)) = (self.locate(one), self.locate(other)) else {
            return error(DiskErrorKind::NotFound, "exchange: no folder");
        };
        let now = self.stamp_time();
        for (folder, name, inode) in [(x.0, &x.1, b), (y.0, &y.1, a)] {
            if let Some(entries) = self.folders.get_mut(&folder) {
                entries.insert(name.clone(), inode);
            }
            if let Some(inode) = self.inodes.get_mut(&inode) {
                inode.changed = now;
            }
        }
        self.journal.push(Entry::Exchange((x.0, x.1, a), (y.0, y.1, b)));
        self.touch_folder(one);
        self.touch_folder(other);
        Ok(())
    }

    /// Removes a file, link or special file.
    pub fn remove(&mut self, place: &Place) -> Result<(), DiskError> {
        let (Some(inode), Some((folder, name))) = (self.inode(place), self.locate(place)) else {
            return error(DiskErrorKind::NotFound, "remove: nothing there");
        };
        if self.folders.contains_key(&inode) {
            return error(DiskErrorKind::NotFound, "remove: a folder");
        }
        self.touch_folder(place);
        if let Some(entries) = self.folders.get_mut(&folder) {
            entries.remove(&name);
        }
        self.journal.push(Entry::Remove(folder, name, inode));
        self.drop_inode(inode);
        Ok(())
    }

    /// Removes a file for the engine. A program that has it open may write to it still.
    pub fn purge(&mut self, place: &Place) -> Result<(), DiskError> {
        if let Some(inode) = self.inode(place).filter(|inode| self.open.contains_key(inode)) {
            self.purged.insert(inode);
        }
        self.remove(place)
    }

    /// Removes an empty folder.
    pub fn remove_folder(&mut self, folder: &LocalPath) -> Result<(), DiskError> {
        let place = Place::Tree(folder.clone());
        let (Some(inode), Some((parent, name))) = (self.inode(&place), self.locate(&place)) else {
            return error(DiskErrorKind::NotFound, "rmdir: nothing there");
        };
        match self.folders.get(&inode) {
            None => return error(DiskErrorKind::NotFound, "rmdir: no folder"),
            Some(entries) if !entries.is_empty() => return error(DiskErrorKind::NotEmpty, "rmdir"),
            Some(_) => {}
        }
        self.touch_folder(&place);
        if let Some(entries) = self.folders.get_mut(&parent) {
            entries.remove(&name);
        }
        self.folders.remove(&inode);
        self.inodes.remove(&inode);
        self.journal.push(Entry::Remove(parent, name, inode));
        Ok(())
    }

    /// Makes a file's content durable.
    pub fn sync_file(&mut self, place: &Place) {
        let inode = self.inode(place);
        if let Some(inode) = inode.and_then(|inode| self.inodes.get_mut(&inode)) {
            sync_inode(inode);
        }
    }

    /// Makes all contents durable.
    pub fn sync_volume(&mut self) {
        self.inodes.values_mut().for_each(sync_inode);
        self.flush_journal();
    }

    /// Makes the entries of a folder durable.
    pub fn sync_folder(&mut self, folder: Option<&LocalPath>, area: Option<Area>) -> Result<(), DiskError> {
        let inode = match (folder, area) {
            (Some(path), _) => self.inode(&Place::Tree(path.clone())),
            (None, Some(area)) => Some(area_inode(area)),
            _ => None,
        };
        let Some(inode) = inode.filter(|inode| self.folders.contains_key(inode)) else {
            return error(DiskErrorKind::NotFound, "fsync: no folder");
        };
        if !self.modes.is_hostile {
            self.flush_journal();
            return Ok(());
        }
        // What happened to the files that entered or left the folder is on the platter too: no system keeps an
        // entry of a file in one folder, and the entry from which it was renamed in another.
        let journal = std::mem::take(&mut self.journal);
        let mut files: BTreeSet<u64> = BTreeSet::new();
        loop {
            let before = files.len();
            for entry in &journal {
                if entry.touches(inode) || entry.inodes().iter().any(|it| files.contains(it)) {
                    files.extend(entry.inodes());
                }
            }
            if files.len() == before {
                break;
            }
        }
        for entry in journal {
            if entry.inodes().iter().any(|it| files.contains(it)) {
                entry.apply(&mut self.platter);
            } else {
                self.journal.push(entry);
            }
        }
        Ok(())
    }

    fn flush_journal(&mut self) {
        for entry in std::mem::take(&mut self.journal) {
            entry.apply(&mut self.platter);
        }
    }

    /// Power is lost. Returns the contents that users wrote and that the crash has destroyed or torn, with what is
    /// there now.
    pub fn crash(&mut self, rng: &mut Rng) -> Vec<(Bytes, Bytes)> {
        self.open.clear();
        let journal = std::mem::take(&mut self.journal);
        let kept = rng.usize(..=journal.len());
        for (at, entry) in journal.into_iter().enumerate() {
            let is_kept = if self.modes.is_hostile {
                rng.bool()
            } else {
                at < kept
            };
            if is_kept {
                entry.apply(&mut self.platter);
            }
        }
        self.folders = self.platter.clone();
        let mut reachable = BTreeSet::from([1, 2, 3, 4]);
        let mut stack = vec![1, 2, 3, 4];
        while let Some(folder) = stack.pop() {
            for inode in self
                .folders
                .get(&folder)
                .into_iter()
                .flatten()
                .map(|(_, inode)| *inode)
            {
                if reachable.insert(inode) {
                    stack.push(inode);
                }
            }
        }
        self.folders.retain(|inode, _| reachable.contains(inode));
        // An inode that was removed, and whose removal is not on the platter, is there again.
        let known: Vec<u64> = self.inodes.keys().copied().collect();
        for entries in self.folders.values_mut() {
            entries.retain(|_, inode| known.contains(inode));
        }
        self.platter = self.folders.clone();
        let mut torn = Vec::new();
        for (number, inode) in &self.inodes {
            if let Body::File(bytes) = &inode.body
                && !inode.is_durable
                && inode.is_by_user
                && !reachable.contains(number)
            {
                torn.push((bytes.clone(), Bytes::default()));
            }
        }
        self.inodes.retain(|inode, _| reachable.contains(inode));
        for inode in self.inodes.values_mut() {
            let Body::File(bytes) = &mut inode.body else {
                continue;
            };
            if inode.is_durable {
                continue;
            }
            let old: Bytes = inode.durable.clone().unwrap_or_default();
            let half = bytes.len() / 2;
            let now: Bytes = match rng.u8(..5) {
                0 => old,
                1 => Bytes::default(),
                2 => bytes[..half].into(),
                3 => vec![0; bytes.len()].into(),
                _ => bytes.clone(),
            };
            if now != *bytes && inode.is_by_user {
                torn.push((bytes.clone(), now.clone()));
            }
            *bytes = now.clone();
            inode.durable = Some(now);
            inode.is_durable = true;
        }
        torn
    }
}

fn sync_inode(inode: &mut Inode) {
    if let Body::File(bytes) = &inode.body {
        inode.durable = Some(bytes.clone());
        inode.is_durable = true;
    }
}

impl Entry {
    fn touches(&self, folder: u64) -> bool {
        match self {
            Self::Add(at, ..) | Self::Remove(at, ..) => *at == folder,
            Self::Rename(from, to, ..) => from.0 == folder || to.0 == folder,
            Self::Exchange(one, other) => one.0 == folder || other.0 == folder,
        }
    }

    fn inodes(&self) -> Vec<u64> {
        match self {
            Self::Add(_, _, inode) | Self::Remove(_, _, inode) | Self::Rename(_, _, inode, None) => {
                vec![*inode]
            }
            Self::Rename(_, _, inode, Some(other)) => vec![*inode, *other],
            Self::Exchange(one, other) => vec![one.2, other.2],
        }
    }

    /// Applies a change, if the folder is as it was before the change.
    fn apply(&self, folders: &mut BTreeMap<u64, Entries>) {
        let is_at = |folders: &BTreeMap<u64, Entries>, folder: u64, name: &str, inode: u64| {
            folders.get(&folder).and_then(|entries| entries.get(name)) == Some(&inode)
        };
        match self {
            Self::Add(folder, name, inode) => {
                folders
                    .entry(*folder)
                    .or_default()
                    .entry(name.clone())
                    .or_insert(*inode);
            }
            Self::Remove(folder, name, inode) => {
                if is_at(folders, *folder, name, *inode)
                    && let Some(entries) = folders.get_mut(folder)
                {
                    entries.remove(name);
                }
            }
            Self::Rename(from, to, inode, replaced) => {
                let at = folders.get(&to.0).and_then(|entries| entries.get(&to.1));
                let is_free = at.is_none() || at == replaced.as_ref();
                if is_at(folders, from.0, &from.1, *inode) && is_free {
                    if let Some(entries) = folders.get_mut(&from.0) {
                        entries.remove(&from.1);
                    }
                    folders.entry(to.0).or_default().insert(to.1.clone(), *inode);
                }
            }
            Self::Exchange(one, other) => {
                if is_at(folders, one.0, &one.1, one.2) && is_at(folders, other.0, &other.1, other.2) {
                    folders.entry(one.0).or_default().insert(one.1.clone(), other.2);
                    folders.entry(other.0).or_default().insert(other.1.clone(), one.2);
                }
            }
        }
    }
}
