//! Moving files within the tree.

use std::sync::Arc;

use super::capture::{Changed, make_folders, put_back, remove_folders, to_conflict_name};
use super::{Failure, Folders, Rename, SettingAside, Stop, item};
use crate::disk::{Disk, DiskError, Stamp};
use crate::path::{Area, LocalPath, Place};

/// Moves files. Those with a name in `aside` all go there first, so that they can take each other's places.
#[expect(clippy::type_complexity, reason = "the type of the report")]
pub(super) fn shift(
    disk: &dyn Disk,
    items: &[Rename],
) -> Result<Vec<Result<(Stamp, Folders), Failure>>, DiskError> {
    let mut changed = Changed::default();
    let mut left = Vec::with_capacity(items.len());
    for rename in items {
        left.push(item(leave(disk, rename, &mut changed))?);
    }
    let mut moved = Vec::with_capacity(items.len());
    for (rename, left) in items.iter().zip(left) {
        moved.push(match left {
            Ok(folders) => item(arrive(disk, rename, folders, &mut changed))?,
            Err(failure) => Err(failure),
        });
    }
    changed.sync(disk)?;
    Ok(moved)
}

fn waiting_place(rename: &Rename) -> Place {
    match &rename.aside {
        Some(aside) => Place::private(Area::Aside, Arc::clone(aside)),
        None => Place::Tree(rename.from.clone()),
    }
}

fn leave(disk: &dyn Disk, rename: &Rename, changed: &mut Changed) -> Result<Folders, Stop> {
    let from = Place::Tree(rename.from.clone());
    let meta = disk.stat(&from)?.ok_or(Failure::Changed(None))?;
    if meta.stamp != rename.stamp {
        return Err(Failure::Changed(None).into());
    }
    let mut folders = Folders::default();
    if rename.aside.is_some() {
        let aside = waiting_place(rename);
        disk.rename(&from, &aside)?;
        changed.add(&from);
        changed.add(&aside);
        remove_folders(disk, &rename.from, changed, &mut folders.removed)?;
    }
    Ok(folders)
}

fn arrive(
    disk: &dyn Disk,
    rename: &Rename,
    mut folders: Folders,
    changed: &mut Changed,
) -> Result<(Stamp, Folders), Stop> {
    let from = waiting_place(rename);
    let to = Place::Tree(rename.to.clone());
    let arrived = make_folders(disk, &rename.to, changed, &mut folders.created)
        .and_then(|()| disk.rename(&from, &to).map_err(Stop::from));
    match arrived {
        Ok(()) => {}
        Err(Stop::Failed(failure)) if rename.aside.is_some() => {
            let copy = put_back(disk, &from, &rename.from, &rename.label, changed)?;
            return Err(copy.map_or(failure, |copy| Failure::Changed(Some(copy))).into());
        }
        Err(stop) => return Err(stop),
    }
    changed.add(&from);
    changed.add(&to);
    if rename.aside.is_none() {
        remove_folders(disk, &rename.from, changed, &mut folders.removed)?;
    }
    let meta = disk.stat(&to)?;
    Ok((meta.map_or(rename.stamp, |meta| meta.stamp), folders))
}

#[expect(clippy::type_complexity, reason = "the type of the report")]
pub(super) fn set_aside(
    disk: &dyn Disk,
    items: &[SettingAside],
) -> Result<Vec<Result<(LocalPath, Stamp), Failure>>, DiskError> {
    let mut changed = Changed::default();
    let mut done = Vec::with_capacity(items.len());
    for one in items {
        done.push(item(set_one_aside(disk, one, &mut changed))?);
    }
    changed.sync(disk)?;
    Ok(done)
}

fn set_one_aside(
    disk: &dyn Disk,
    one: &SettingAside,
    changed: &mut Changed,
) -> Result<(LocalPath, Stamp), Stop> {
    let from = Place::Tree(one.path.clone());
    let copy = to_conflict_name(disk, &from, &one.path, &one.label, changed)?;
    let meta = disk
        .stat(&copy.clone().into())?
        .ok_or(Failure::Changed(Some(copy.clone())))?;
    Ok((copy, meta.stamp))
}

pub(super) fn set_executable(
    disk: &dyn Disk,
    items: &[(LocalPath, Stamp, bool)],
) -> Result<Vec<Result<Stamp, Failure>>, DiskError> {
    let mut done = Vec::with_capacity(items.len());
    for (path, stamp, executable) in items {
        done.push(item(set_one_executable(disk, path, stamp, *executable))?);
    }
    Ok(done)
}

fn set_one_executable(
    disk: &dyn Disk,
    path: &LocalPath,
    stamp: &Stamp,
    executable: bool,
) -> Result<Stamp, Stop> {
    let place = Place::Tree(path.clone());
    let before = disk.stat(&place)?.ok_or(Failure::Changed(None))?;
    if before.stamp != *stamp {
        return Err(Failure::Changed(None).into());
    }
    disk.set_executable(&place, executable)?;
    let after = disk.stat(&place)?.ok_or(Failure::Changed(None))?;
    if !after.stamp.is_renamed(stamp) {
        return Err(Failure::Changed(None).into());
    }
    Ok(after.stamp)
}
