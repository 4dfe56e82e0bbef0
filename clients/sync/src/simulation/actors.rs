//! What users do.

use fastrand::Rng;

use super::disk::{Bytes, DiskState};
use super::ledger::{Ledger, brief};
use crate::disk::Kind;
use crate::path::{LocalPath, Place};

/// Names that collide often, also by case and by Unicode form.
pub const PATHS: [&str; 10] = [
    "/a",
    "/b",
    "/d/a",
    "/d/b",
    "/A",
    "/d/e/a",
    "/\u{e4}",
    "/a\u{308}",
    "/d",
    "/e/a",
];

/// Folders.
pub const FOLDERS: [&str; 4] = ["/d", "/d/e", "/e", "/f"];

/// A step of a user. Paths are numbers of [`PATHS`] or [`FOLDERS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Creates a file, or replaces its content in place.
    Write(usize),
    /// Writes a file in two pieces; the second comes later.
    WriteBeginning(usize),
    /// Writes another file and renames it over.
    SaveByRename(usize),
    /// Renames the file to a backup, and creates a new one.
    SaveWithBackup(usize),
    /// Replaces the content by one of the same size, and sets the modification time back.
    EditUnseen(usize),
    /// Opens a file; a later [`Step::WriteOpen`] writes through the handle.
    Open(usize),
    /// Writes through the oldest handle.
    WriteOpen,
    /// Sets the modification time.
    Touch(usize),
    /// Switches the executable bit.
    Executable(usize),
    /// Renames a file.
    Rename(usize, usize),
    /// Exchanges two files by way of a third name.
    Swap(usize, usize),
    /// Copies a file.
    Copy(usize, usize),
    /// Deletes a file.
    Delete(usize),
    /// Renames a folder.
    RenameFolder(usize, usize),
    /// Deletes a folder with all that is in it.
    DeleteFolder(usize),
    /// Makes an empty folder.
    MakeFolder(usize),
    /// Replaces a file by a link.
    Link(usize),
    /// Makes a pipe.
    Pipe(usize),
}

impl Step {
    /// A random step. Links and pipes are rare, because what they hold is held for good.
    pub fn random(rng: &mut Rng) -> Self {
        let path = rng.usize(..PATHS.len());
        let other = rng.usize(..PATHS.len());
        let folder = rng.usize(..FOLDERS.len());
        match rng.u8(..64) {
            0..=19 => Self::Write(path),
            20..=21 => Self::WriteBeginning(path),
            22..=25 => Self::SaveByRename(path),
            26..=27 => Self::SaveWithBackup(path),
            28..=29 => Self::EditUnseen(path),
            30..=32 => Self::Open(path),
            33 => Self::Touch(path),
            35 => Self::Executable(path),
            36..=41 => Self::Rename(path, other),
            42..=44 => Self::Swap(path, other),
            45..=46 => Self::Copy(path, other),
            47..=53 => Self::Delete(path),
            54..=56 => Self::RenameFolder(folder, rng.usize(..FOLDERS.len())),
            57..=58 => Self::DeleteFolder(folder),
            59 => Self::MakeFolder(folder),
            34 | 60..=61 => Self::WriteOpen,
            62 => Self::Link(path),
            _ => Self::Pipe(path),
        }
    }
}

/// A user at a disk.
#[derive(Clone, Debug, Default)]
pub struct User {
    /// The name in the log.
    pub name: String,
    handles: Vec<u64>,
    /// The second piece of a write.
    unfinished: Option<(Place, Bytes)>,
    /// Steps that removed files.
    pub deletes: u32,
    /// Whether links and pipes are made.
    pub makes_others: bool,
}

fn place(path: usize) -> Place {
    Place::Tree(LocalPath::new(PATHS[path]))
}

fn folder(folder: usize) -> LocalPath {
    LocalPath::new(FOLDERS[folder])
}

impl User {
    /// A user.
    pub fn new(name: String, makes_others: bool) -> Self {
        Self {
            name,
            makes_others,
            ..Self::default()
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each step")]
    /// Does a step. Steps that are not possible now do something near.
    pub fn act(&mut self, disk: &mut DiskState, ledger: &mut Ledger, step: &Step, rng: &mut Rng) {
        ledger.log(|| format!("{}: {step:?}", self.name));
        if let Some((place, bytes)) = self.unfinished.take() {
            self.write(disk, ledger, &place, &bytes, rng);
        }
        match step {
            Step::Write(path) => {
                let bytes = ledger.new_content(rng.u32(..2));
                self.write(disk, ledger, &place(*path), &bytes, rng);
            }
            Step::WriteBeginning(path) => {
                let bytes = ledger.new_content(1);
                let beginning: Bytes = bytes[..20].into();
                ledger.began(&beginning);
                let before = disk.content(&place(*path));
                if before.is_some() {
                    if let Some(before) = before {
                        ledger.deleted(&before);
                    }
                    disk.write(&place(*path), beginning, false).ok();
                    self.unfinished = Some((place(*path), bytes));
                }
            }
            Step::SaveByRename(path) => {
                self.deletes += 1;
                let bytes = ledger.new_content(0);
                let temporary = Place::Tree(LocalPath::new("/save.swp"));
                // A crash may have left it.
                if let Some(before) = disk.content(&temporary) {
                    ledger.deleted(&before);
                    disk.remove(&temporary).ok();
                }
                if disk.create(&temporary, bytes.clone(), true).is_err() {
                    return;
                }
                self.replace(disk, ledger, &temporary, &place(*path), &bytes);
            }
            Step::SaveWithBackup(path) => {
                self.deletes += 1;
                let backup = Place::Tree(LocalPath::new(format!("{}~", PATHS[*path])));
                if let Some(before) = disk.content(&backup) {
                    ledger.deleted(&before);
                    disk.remove(&backup).ok();
                }
                disk.rename(&place(*path), &backup, false).ok();
                let bytes = ledger.new_content(0);
                self.write(disk, ledger, &place(*path), &bytes, rng);
            }
            Step::EditUnseen(path) => {
                let Some(before) = disk.content(&place(*path)) else {
                    return;
                };
                let times = disk.stat(&place(*path)).map(|meta| meta.stamp.modified);
                let mut bytes = ledger.new_content(0).to_vec();
                bytes.resize(before.len().max(14), b'.');
                self.write(disk, ledger, &place(*path), &bytes.into(), rng);
                disk.set_times(&place(*path), times, None);
            }
            Step::Open(path) => self.handles.extend(disk.open(&place(*path))),
            Step::WriteOpen => {
                if self.handles.is_empty() {
                    return;
                }
                let handle = self.handles.remove(0);
                let Some(before) = disk.open_content(handle) else {
                    return;
                };
                // What is written to a file without a name is nobody's.
                if disk.has_name(handle) || disk.purged.contains(&handle) {
                    let bytes = ledger.new_content(0);
                    ledger.log(|| format!("    {} over {}", brief(&bytes), brief(&before)));
                    ledger.wrote(&self.name, &bytes, Some(&before));
                    disk.write_open(handle, bytes).ok();
                }
            }
            Step::Touch(path) => {
                let now = disk.clock;
                disk.set_times(&place(*path), Some(now), None);
            }
            Step::Executable(path) => {
                let is = disk.stat(&place(*path)).and_then(|meta| meta.executable);
                disk.set_times(&place(*path), None, is.map(|is| !is));
            }
            Step::Rename(from, to) => {
                if disk.content(&place(*from)).is_some() {
                    disk.rename(&place(*from), &place(*to), false).ok();
                }
            }
            Step::Swap(one, other) => {
                let third = Place::Tree(LocalPath::new("/third.swp"));
                let both = [*one, *other].map(|path| disk.content(&place(path)).is_some());
                if one != other && both == [true, true] && disk.rename(&place(*one), &third, false).is_ok() {
                    disk.rename(&place(*other), &place(*one), false).ok();
                    disk.rename(&third, &place(*other), false).ok();
                }
            }
            Step::Copy(from, to) => {
                if let Some(bytes) = disk.content(&place(*from)) {
                    self.write(disk, ledger, &place(*to), &bytes, rng);
                }
            }
            Step::Delete(path) => {
                if let Some(before) = disk.content(&place(*path)) {
                    ledger.log(|| format!("    deleted {}", brief(&before)));
                    ledger.deleted(&before);
                }
                disk.remove(&place(*path)).ok();
                self.deletes += 1;
            }
            Step::RenameFolder(from, to) => {
                let (from, to) = (folder(*from), folder(*to));
                if disk.list(&from).is_some() {
                    disk.rename(&from.into(), &to.into(), false).ok();
                }
            }
            Step::DeleteFolder(path) => {
                Self::delete_folder(disk, ledger, &folder(*path));
                self.deletes += 1;
            }
            Step::MakeFolder(path) => {
                disk.create_other(&folder(*path).into(), Kind::Folder).ok();
            }
            Step::Link(path) if self.makes_others => {
                self.deletes += 1;
                if let Some(before) = disk.content(&place(*path)) {
                    ledger.deleted(&before);
                    disk.remove(&place(*path)).ok();
                }
                disk.create_other(&place(*path), Kind::Link).ok();
            }
            Step::Pipe(path) if self.makes_others => {
                disk.create_other(&place(*path), Kind::Special).ok();
            }
            Step::Link(_) | Step::Pipe(_) => {}
        }
    }

    /// Finishes what was begun, before the end of the run.
    pub fn finish(&mut self, disk: &mut DiskState, ledger: &mut Ledger, rng: &mut Rng) {
        if let Some((place, bytes)) = self.unfinished.take() {
            self.write(disk, ledger, &place, &bytes, rng);
        }
    }

    fn write(
        &mut self,
        disk: &mut DiskState,
        ledger: &mut Ledger,
        place: &Place,
        bytes: &Bytes,
        rng: &mut Rng,
    ) {
        let is_synced = rng.u8(..4) != 0;
        if let Place::Tree(path) = place
            && let Some(parent) = path.parent()
            && !parent.is_root()
            && disk.stat(&parent.clone().into()).is_none()
        {
            for folder in path.folders().collect::<Vec<_>>().into_iter().rev() {
                disk.create_other(&folder.into(), Kind::Folder).ok();
            }
        }
        let before = disk.content(place);
        let done = match &before {
            Some(_) => disk.write(place, bytes.clone(), is_synced),
            None => disk.create(place, bytes.clone(), is_synced),
        };
        if done.is_ok() {
            ledger.log(|| {
                let over = before
                    .as_ref()
                    .map_or(String::new(), |before| format!(" over {}", brief(before)));
                format!("    {} at {place:?}{over}", brief(bytes))
            });
            ledger.wrote(&self.name, bytes, before.as_ref());
        }
    }

    fn replace(
        &mut self,
        disk: &mut DiskState,
        ledger: &mut Ledger,
        from: &Place,
        to: &Place,
        bytes: &Bytes,
    ) {
        let before = disk.content(to);
        if disk.rename(from, to, true).is_ok() {
            ledger.log(|| {
                let over = before
                    .as_ref()
                    .map_or(String::new(), |before| format!(" over {}", brief(before)));
                format!("    {} at {to:?}{over}", brief(bytes))
            });
            ledger.wrote(&self.name, bytes, before.as_ref());
        } else {
            disk.remove(from).ok();
        }
    }

    fn delete_folder(disk: &mut DiskState, ledger: &mut Ledger, folder: &LocalPath) {
        for (name, meta) in disk.list(folder).unwrap_or_default() {
            let path = folder.join(&name);
            if meta.kind == Kind::Folder {
                Self::delete_folder(disk, ledger, &path);
                continue;
            }
            if let Some(before) = disk.content(&path.clone().into()) {
                ledger.deleted(&before);
            }
            disk.remove(&path.into()).ok();
        }
        disk.remove_folder(folder).ok();
    }
}
