//! Capture, verify, dispose.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::Sha256;

use super::inspect::{expect_file, hash};
use super::{Failure, Folders, Removal, Stop, item};
use crate::disk::{Disk, DiskError, DiskErrorKind, Stamp};
use crate::names::conflict_name;
use crate::path::{Area, Folder, LocalPath, Place};
use crate::planted::{Bug, is_planted};

/// Folders whose entries changed, to be made durable together.
#[derive(Default)]
pub(super) struct Changed(BTreeSet<Folder>);

impl Changed {
    pub(super) fn add(&mut self, place: &Place) {
        self.0.insert(place.folder());
    }

    pub(super) fn add_folder(&mut self, folder: Folder) {
        self.0.insert(folder);
    }

    /// Makes the entries durable. A folder that is gone needs nothing.
    pub(super) fn sync(&mut self, disk: &dyn Disk) -> Result<(), DiskError> {
        for folder in std::mem::take(&mut self.0) {
            match disk.sync_folder(&folder) {
                Err(error) if error.kind != DiskErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Makes the missing folders of a path.
pub(super) fn make_folders(
    disk: &dyn Disk,
    path: &LocalPath,
    changed: &mut Changed,
    made: &mut Vec<LocalPath>,
) -> Result<(), Stop> {
    let folders: Vec<LocalPath> = path.folders().collect();
    // The innermost is usually there.
    let is_there = |folder: &LocalPath| Ok::<_, DiskError>(disk.stat(&folder.clone().into())?.is_some());
    let mut missing = Vec::new();
    for folder in folders {
        if is_there(&folder)? {
            break;
        }
        missing.push(folder);
    }
    for folder in missing.into_iter().rev() {
        match disk.create_folder(&folder) {
            Ok(()) => {
                changed.add(&folder.clone().into());
                made.push(folder);
            }
            Err(error) if error.kind == DiskErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Removes the folders of a path that are empty, the innermost first.
pub(super) fn remove_folders(
    disk: &dyn Disk,
    path: &LocalPath,
    changed: &mut Changed,
    removed: &mut Vec<LocalPath>,
) -> Result<(), Stop> {
    for folder in path.folders() {
        match disk.remove_folder(&folder) {
            Ok(()) => {
                changed.add(&folder.clone().into());
                removed.push(folder);
            }
            Err(error) if error.kind == DiskErrorKind::Fatal => return Err(error.into()),
            Err(_) => break,
        }
    }
    Ok(())
}

/// Moves a captured file to where its owner finds it: to its place if that is free, else to a conflict name.
/// Returns the conflict name.
pub(super) fn put_back(
    disk: &dyn Disk,
    from: &Place,
    path: &LocalPath,
    label: &str,
    changed: &mut Changed,
) -> Result<Option<LocalPath>, Stop> {
    let mut made = Vec::new();
    make_folders(disk, path, changed, &mut made).or_else(ignore_failure)?;
    changed.add(from);
    match disk.rename(from, &path.clone().into()) {
        Ok(()) => {
            changed.add(&path.clone().into());
            Ok(None)
        }
        Err(error) if error.kind == DiskErrorKind::Fatal => Err(error.into()),
        Err(_) => to_conflict_name(disk, from, path, label, changed).map(Some),
    }
}

/// A failed attempt to make a folder shows when it is needed.
fn ignore_failure(stop: Stop) -> Result<(), Stop> {
    match stop {
        Stop::Fatal(error) => Err(Stop::Fatal(error)),
        Stop::Failed(_) => Ok(()),
    }
}

/// Conflict names that are tried.
const MAX_CONFLICT_NAMES: u32 = 10_000;

/// Gives a file the first conflict name of `path` that is free. If the folder cannot have it, the root has it.
pub(super) fn to_conflict_name(
    disk: &dyn Disk,
    from: &Place,
    path: &LocalPath,
    label: &str,
    changed: &mut Changed,
) -> Result<LocalPath, Stop> {
    let in_root = LocalPath::root().join(path.name());
    let mut last = DiskError::new(DiskErrorKind::AlreadyExists, "all conflict names are taken");
    for base in [path, &in_root] {
        for number in 1..MAX_CONFLICT_NAMES {
            let copy = conflict_name(base, label, number);
            let to = Place::Tree(copy.clone());
            if to == *from {
                continue;
            }
            #[cfg(feature = "simulation")]
            if is_planted(Bug::ConflictCopyReplaces) {
                disk.replace(from, &to)?;
                changed.add(&to);
                return Ok(copy);
            }
            match disk.rename(from, &to) {
                Ok(()) => {
                    changed.add(from);
                    changed.add(&to);
                    return Ok(copy);
                }
                Err(error) if error.kind == DiskErrorKind::AlreadyExists => {}
                Err(error) if error.kind == DiskErrorKind::Fatal => return Err(error.into()),
                Err(error) => {
                    last = error;
                    break;
                }
            }
        }
    }
    Err(last.into())
}

/// Reads a captured file. If it has the SHA-256, moves it to the trash and returns its stamp there. If not, it is
/// an edit, which stays where it is: `None`.
pub(super) fn verify(
    disk: &dyn Disk,
    captured: &Place,
    sha256: &Sha256,
    name: &Arc<str>,
    changed: &mut Changed,
) -> Result<Option<Stamp>, Stop> {
    let file = match hash(disk, captured) {
        Ok(file) => file,
        // A program is writing to it.
        Err(Stop::Failed(_)) => return Ok(None),
        Err(stop) => return Err(stop),
    };
    if file.sha256 != Some(*sha256) {
        return Ok(None);
    }
    let trash = Place::private(Area::Trash, Arc::clone(name));
    if is_planted(Bug::CapturedFileIsUnlinked) {
        disk.rename(captured, &trash)?;
        disk.purge(name)?;
        return Ok(Some(file.stamp));
    }
    disk.rename(captured, &trash)?;
    changed.add(captured);
    changed.add(&trash);
    let meta = disk.stat(&trash)?;
    // The rename may have changed the change time. A stamp that is too young is made one that no file has, so
    // that the file is read again.
    let mut stamp = file.stamp;
    match meta {
        Some(meta) if meta.stamp.is_renamed(&stamp) && !file.is_racy => stamp = meta.stamp,
        _ => stamp.changed = i64::MIN,
    }
    Ok(Some(stamp))
}

#[expect(clippy::type_complexity, reason = "the type of the report")]
pub(super) fn remove(
    disk: &dyn Disk,
    items: &[Removal],
) -> Result<Vec<Result<(Stamp, Folders), Failure>>, DiskError> {
    let mut changed = Changed::default();
    let mut done = Vec::with_capacity(items.len());
    for removal in items {
        done.push(item(remove_one(disk, removal, &mut changed))?);
    }
    changed.sync(disk)?;
    Ok(done)
}

fn remove_one(disk: &dyn Disk, removal: &Removal, changed: &mut Changed) -> Result<(Stamp, Folders), Stop> {
    let place = Place::Tree(removal.path.clone());
    expect_file(disk, &place, &removal.stamp, &removal.sha256)?;
    let aside = Place::private(Area::Aside, Arc::clone(&removal.aside));
    disk.rename(&place, &aside)?;
    changed.add(&place);
    changed.add(&aside);
    if let Some(stamp) = verify(disk, &aside, &removal.sha256, &removal.aside, changed)? {
        let mut folders = Folders::default();
        remove_folders(disk, &removal.path, changed, &mut folders.removed)?;
        Ok((stamp, folders))
    } else {
        let copy = put_back(disk, &aside, &removal.path, &removal.label, changed)?;
        Err(Failure::Changed(copy).into())
    }
}
