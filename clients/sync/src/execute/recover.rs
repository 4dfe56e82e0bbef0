//! After a crash, and files in the trash that programs still write to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::capture::{Changed, make_folders, put_back, to_conflict_name};
use super::inspect::hash;
use super::{Failure, Recovered, RecoveredTo, Rescue, Stop, TrashState, item};
use crate::disk::{Disk, DiskError};
use crate::path::{Area, LocalPath, Place};
use crate::store::{Intent, TrashRow};

/// Takes everything out of `aside`, and looks at the files that reached the trash without a row. Parts are thrown
/// away, because what they contain is not known.
pub(super) fn recover(
    disk: &dyn Disk,
    intents: &[(Arc<str>, Intent)],
    trash: &[Arc<str>],
    label: &str,
) -> Result<Vec<Recovered>, DiskError> {
    let intents: BTreeMap<&str, &Intent> = intents.iter().map(|(name, intent)| (&**name, intent)).collect();
    let mut changed = Changed::default();
    let mut recovered = Vec::new();
    for (name, _) in disk.list_area(Area::Aside)? {
        let place = Place::private(Area::Aside, name.as_str());
        let now = item(from_aside(
            disk,
            &place,
            &name,
            intents.get(&*name).copied(),
            label,
            &mut changed,
        ))?;
        // What cannot be moved now stays for the next start.
        if let Ok(now) = now {
            recovered.push(Recovered {
                aside: name.into(),
                now,
            });
        }
    }
    for (name, _) in disk.list_area(Area::Trash)? {
        let is_known = trash.iter().any(|known| **known == *name);
        if is_known || recovered.iter().any(|one| *one.aside == *name) {
            continue;
        }
        let now = item(from_trash(
            disk,
            &name,
            intents.get(&*name).copied(),
            label,
            &mut changed,
        ))?;
        if let Ok(now) = now {
            let aside = name.into();
            recovered.push(Recovered { aside, now });
        }
    }
    for name in intents.keys() {
        if recovered.iter().all(|one| *one.aside != **name) {
            let aside = (*name).into();
            recovered.push(Recovered {
                aside,
                now: RecoveredTo::Nowhere,
            });
        }
    }
    for (part, _) in disk.list_area(Area::Parts)? {
        item(disk.remove_part(&part).map_err(Stop::from))?.ok();
    }
    changed.sync(disk)?;
    Ok(recovered)
}

fn from_aside(
    disk: &dyn Disk,
    place: &Place,
    name: &str,
    intent: Option<&Intent>,
    label: &str,
    changed: &mut Changed,
) -> Result<RecoveredTo, Stop> {
    let nowhere = LocalPath::root().join("recovered");
    let path = intent.map_or(&nowhere, |intent| &intent.path);
    let Some(intent) = intent.filter(|intent| !intent.is_move) else {
        let copy = put_back(disk, place, path, label, changed)?;
        return Ok(RecoveredTo::Tree(copy.unwrap_or_else(|| path.clone())));
    };
    let sha256 = hash(disk, place)
        .ok()
        .and_then(|file| Some((file.sha256?, file.stamp)));
    match sha256 {
        Some((sha256, stamp)) if intent.known.contains(&sha256) => {
            let trash = Place::private(Area::Trash, name);
            disk.rename(place, &trash)?;
            changed.add(place);
            changed.add(&trash);
            Ok(RecoveredTo::Trash(TrashRow {
                path: path.clone(),
                sha256,
                stamp,
                at: 0,
            }))
        }
        _ => {
            let copy = put_back(disk, place, path, label, changed)?;
            Ok(RecoveredTo::Tree(copy.unwrap_or_else(|| path.clone())))
        }
    }
}

/// A file that reached the trash without a row: its move was not committed, or the database was lost.
fn from_trash(
    disk: &dyn Disk,
    name: &str,
    intent: Option<&Intent>,
    label: &str,
    changed: &mut Changed,
) -> Result<RecoveredTo, Stop> {
    let place = Place::private(Area::Trash, name);
    let file = hash(disk, &place)?;
    let sha256 = file.sha256.ok_or(Failure::Changed(None))?;
    match intent {
        Some(intent) if !intent.known.contains(&sha256) => {
            let copy = to_conflict_name(disk, &place, &intent.path, label, changed)?;
            Ok(RecoveredTo::Tree(copy))
        }
        _ => {
            let path = intent.map_or_else(
                || LocalPath::root().join("recovered"),
                |intent| intent.path.clone(),
            );
            let (stamp, at) = (file.stamp, 0);
            Ok(RecoveredTo::Trash(TrashRow {
                path,
                sha256,
                stamp,
                at,
            }))
        }
    }
}

pub(super) fn check_trash(
    disk: &dyn Disk,
    items: &[(Arc<str>, TrashRow)],
) -> Result<Vec<(Arc<str>, TrashState)>, DiskError> {
    let mut checked = Vec::new();
    for (name, row) in items {
        let place = Place::private(Area::Trash, Arc::clone(name));
        let Ok(meta) = item(disk.stat(&place).map_err(Stop::from))? else {
            continue;
        };
        let state = match meta {
            None => TrashState::Gone,
            Some(meta) if meta.stamp == row.stamp => continue,
            Some(_) => match item(hash(disk, &place))? {
                Ok(file) if file.sha256 != Some(row.sha256) => TrashState::Written,
                Ok(file) if file.is_racy => continue,
                Ok(file) => TrashState::Same(file.stamp),
                // It is being written to, or cannot be read now.
                Err(_) => continue,
            },
        };
        checked.push((Arc::clone(name), state));
    }
    Ok(checked)
}

pub(super) fn rescue(
    disk: &dyn Disk,
    items: &[Rescue],
) -> Result<Vec<Result<LocalPath, Failure>>, DiskError> {
    let mut changed = Changed::default();
    let mut done = Vec::with_capacity(items.len());
    for one in items {
        done.push(item(rescue_one(disk, one, &mut changed))?);
    }
    changed.sync(disk)?;
    Ok(done)
}

fn rescue_one(disk: &dyn Disk, one: &Rescue, changed: &mut Changed) -> Result<LocalPath, Stop> {
    let place = Place::private(Area::Trash, Arc::clone(&one.name));
    if one.goes_back {
        let copy = put_back(disk, &place, &one.path, &one.label, changed)?;
        return Ok(copy.unwrap_or_else(|| one.path.clone()));
    }
    item(make_folders(disk, &one.path, changed, &mut Vec::new()))?.ok();
    to_conflict_name(disk, &place, &one.path, &one.label, changed)
}
