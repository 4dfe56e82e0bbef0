//! Placing downloaded versions.

use std::sync::Arc;

use super::capture::{Changed, make_folders, put_back, verify};
use super::inspect::expect_file;
use super::{Failure, Folders, Placed, Placement, Stop, item};
use crate::disk::{Disk, DiskError, DiskErrorKind, Meta, Stamp};
use crate::path::{Area, Folder, Place};
use crate::planted::{Bug, is_planted};
use crate::tree::LocalFile;

/// From this number of files on, the content of all is made durable at once.
const SYNC_TOGETHER: usize = 4;

/// A placement on its way.
struct Prepared {
    /// The part, as it will be at its place.
    part: Meta,
    /// The file that it replaces.
    replaced: Option<Stamp>,
    folders: Folders,
}

/// Places parts. The content of all is durable before the first is placed, and the entries of all folders before
/// this returns.
pub(super) fn place(disk: &dyn Disk, items: &[Placement]) -> Result<Vec<Result<Placed, Failure>>, DiskError> {
    let mut prepared = Vec::with_capacity(items.len());
    for placement in items {
        prepared.push(item(dress(disk, placement))?);
    }
    sync_contents(disk, items, &mut prepared)?;
    let mut changed = Changed::default();
    for (placement, one) in items.iter().zip(&mut prepared) {
        if let Ok(ready) = one
            && let Err(failure) = item(approach(disk, placement, ready, &mut changed))?
        {
            *one = Err(failure);
        }
    }
    // A part must be durable in `aside` before it is exchanged: afterwards its name there has the user's file.
    changed.sync(disk)?;
    let mut placed = Vec::with_capacity(items.len());
    for (placement, one) in items.iter().zip(prepared) {
        placed.push(match one {
            Ok(ready) => item(settle(disk, placement, ready, &mut changed))?,
            Err(failure) => Err(failure),
        });
    }
    changed.sync(disk)?;
    for (placement, one) in items.iter().zip(&mut placed) {
        if let Ok(one) = one {
            look(disk, placement, one)?;
        }
    }
    Ok(placed)
}

/// Looks whether the place is as it was planned, and gives the part its metadata.
fn dress(disk: &dyn Disk, placement: &Placement) -> Result<Prepared, Stop> {
    let place = Place::Tree(placement.to.clone());
    let replaced = match &placement.replaced {
        Some((stamp, sha256)) => Some(expect_file(disk, &place, stamp, sha256)?.stamp),
        None => match disk.stat(&place)? {
            Some(_) => return Err(Failure::Changed(None).into()),
            None => None,
        },
    };
    let like = replaced.is_some().then_some(&place);
    disk.dress(&placement.part, like, placement.modified_at, placement.executable)?;
    let part = Place::private(Area::Parts, Arc::clone(&placement.part));
    let part = disk.stat(&part)?.ok_or(Failure::Changed(None))?;
    Ok(Prepared {
        part,
        replaced,
        folders: Folders::default(),
    })
}

/// Makes the contents durable. A part whose content could not be written must not be placed.
fn sync_contents(
    disk: &dyn Disk,
    items: &[Placement],
    prepared: &mut [Result<Prepared, Failure>],
) -> Result<(), DiskError> {
    if is_planted(Bug::NoSync) {
        return Ok(());
    }
    let together = prepared.iter().filter(|one| one.is_ok()).count() >= SYNC_TOGETHER;
    if together {
        if let Err(failure) = item(disk.sync_volume().map_err(Stop::from))? {
            for one in prepared.iter_mut().filter(|one| one.is_ok()) {
                *one = Err(failure.clone());
            }
        }
        return Ok(());
    }
    for (placement, one) in items.iter().zip(prepared) {
        let part = Place::private(Area::Parts, Arc::clone(&placement.part));
        if one.is_ok()
            && let Err(failure) = item(disk.sync_file(&part).map_err(Stop::from))?
        {
            *one = Err(failure);
        }
    }
    Ok(())
}

/// Brings a part near its place: into `aside` if it replaces a file, else only the folders are made.
fn approach(
    disk: &dyn Disk,
    placement: &Placement,
    ready: &mut Prepared,
    changed: &mut Changed,
) -> Result<(), Stop> {
    if ready.replaced.is_none() {
        return make_folders(disk, &placement.to, changed, &mut ready.folders.created);
    }
    if placement.exchanges && !is_planted(Bug::ReplaceWithoutCapture) {
        let (part, aside) = private_places(placement);
        disk.rename(&part, &aside)?;
        changed.add_folder(Folder::Private(Area::Aside));
        changed.add_folder(Folder::Private(Area::Parts));
    }
    Ok(())
}

fn private_places(placement: &Placement) -> (Place, Place) {
    (
        Place::private(Area::Parts, Arc::clone(&placement.part)),
        Place::private(Area::Aside, Arc::clone(&placement.aside)),
    )
}

fn settle(
    disk: &dyn Disk,
    placement: &Placement,
    ready: Prepared,
    changed: &mut Changed,
) -> Result<Placed, Stop> {
    let (part, aside) = private_places(placement);
    let place = Place::Tree(placement.to.clone());
    let mut trashed = None;
    match (ready.replaced, &placement.replaced) {
        #[cfg(feature = "simulation")]
        (Some(_), _) if is_planted(Bug::ReplaceWithoutCapture) => disk.replace(&part, &place)?,
        (Some(_), Some((_, sha256))) => {
            let captured = if placement.exchanges {
                exchange(disk, placement, &ready, changed)?
            } else {
                disk.rename(&place, &aside)?;
                changed.add(&aside);
                aside.clone()
            };
            changed.add(&place);
            let Some(stamp) = verify(disk, &captured, sha256, &placement.aside, changed)? else {
                return Err(undo(disk, placement, &ready, changed)?.into());
            };
            trashed = Some(stamp);
            if !placement.exchanges {
                disk.rename(&part, &place)?;
                changed.add(&part);
            }
        }
        _ => {
            disk.rename(&part, &place)?;
            changed.add(&part);
            changed.add(&place);
        }
    }
    let file = LocalFile {
        stamp: ready.part.stamp,
        sha256: Some(placement.sha256),
        // Somebody may have written to it since, within the same step of the clock.
        is_racy: true,
        executable: ready.part.executable,
    };
    Ok(Placed {
        file,
        trashed,
        is_settled: false,
        folders: ready.folders,
    })
}

/// Exchanges the part in `aside` with the file at its place. Returns where the captured file is.
fn exchange(
    disk: &dyn Disk,
    placement: &Placement,
    ready: &Prepared,
    changed: &mut Changed,
) -> Result<Place, Stop> {
    let (part, aside) = private_places(placement);
    match disk.exchange(&aside, &Place::Tree(placement.to.clone())) {
        Ok(()) => {
            changed.add(&aside);
            Ok(aside)
        }
        Err(error) if error.kind == DiskErrorKind::Fatal => Err(error.into()),
        Err(error) => {
            // The part is still ours.
            let is_ours = disk
                .stat(&aside)?
                .is_some_and(|meta| meta.stamp.is_renamed(&ready.part.stamp));
            if is_ours {
                disk.rename(&aside, &part)?;
                changed.add(&aside);
            }
            Err(error.into())
        }
    }
}

/// What was captured is an edit: it goes back. The placed version goes to the trash, if nobody has touched it.
fn undo(
    disk: &dyn Disk,
    placement: &Placement,
    ready: &Prepared,
    changed: &mut Changed,
) -> Result<Failure, Stop> {
    let (_, aside) = private_places(placement);
    let place = Place::Tree(placement.to.clone());
    let is_ours = |meta: Option<Meta>| meta.is_some_and(|meta| meta.stamp.is_renamed(&ready.part.stamp));
    if placement.exchanges && is_ours(disk.stat(&place)?) {
        match disk.exchange(&aside, &place) {
            // Ours came out.
            Ok(()) if is_ours(disk.stat(&aside)?) => {
                let trash = Place::private(Area::Trash, Arc::clone(&placement.aside));
                disk.rename(&aside, &trash)?;
                changed.add(&aside);
                changed.add(&trash);
                // A stamp that no file has: it is read again.
                let mut stamp = ready.part.stamp;
                stamp.changed = i64::MIN;
                return Ok(Failure::Undone(stamp));
            }
            Err(error) if error.kind == DiskErrorKind::Fatal => return Err(error.into()),
            _ => {}
        }
    }
    let copy = put_back(disk, &aside, &placement.to, &placement.label, changed)?;
    Ok(Failure::Changed(copy))
}

/// Notes the stamp of the placed file, which the rename may have changed.
fn look(disk: &dyn Disk, placement: &Placement, placed: &mut Placed) -> Result<(), DiskError> {
    match disk.stat(&Place::Tree(placement.to.clone())) {
        Ok(Some(meta)) if meta.stamp.is_renamed(&placed.file.stamp) => {
            placed.file.stamp = meta.stamp;
            placed.is_settled = true;
            Ok(())
        }
        Err(error) if error.kind == DiskErrorKind::Fatal => Err(error),
        _ => Ok(()),
    }
}
