//! Looking and reading.

use model::Sha256;
use ring::digest::{Context, SHA256};

use super::{Failure, Report, Stop, item};
use crate::disk::{Disk, DiskError, DiskErrorKind, Listing, Meta};
use crate::path::{LocalPath, Place};
use crate::planted::{Bug, is_planted};
use crate::tree::LocalFile;

pub(super) fn open(disk: &dyn Disk, marker: Option<&str>) -> Result<Report, DiskError> {
    let root = match (disk.root()?, marker) {
        (None, Some(marker)) => Some(disk.create_root(marker)?),
        (root, _) => root,
    };
    let volume = Box::new(disk.probe()?);
    let boot = disk.boot();
    Ok(Report::Open { volume, root, boot })
}

#[expect(clippy::type_complexity, reason = "the type of the report")]
pub(super) fn scan(
    disk: &dyn Disk,
    folders: &[LocalPath],
) -> Result<Vec<(LocalPath, Result<Listing, DiskError>)>, DiskError> {
    let mut scanned = Vec::with_capacity(folders.len());
    for folder in folders {
        match disk.list(folder) {
            Err(error) if error.kind == DiskErrorKind::Fatal => return Err(error),
            listing => scanned.push((folder.clone(), listing)),
        }
    }
    Ok(scanned)
}

#[expect(clippy::type_complexity, reason = "the type of the report")]
pub(super) fn hash_all(
    disk: &dyn Disk,
    paths: &[LocalPath],
) -> Result<Vec<(LocalPath, Result<LocalFile, Failure>)>, DiskError> {
    let mut hashed = Vec::with_capacity(paths.len());
    for path in paths {
        let file = hash(disk, &Place::Tree(path.clone()));
        hashed.push((path.clone(), item(file)?));
    }
    Ok(hashed)
}

/// Reads a file. Its stamp must be the same before and after.
pub(super) fn hash(disk: &dyn Disk, place: &Place) -> Result<LocalFile, Stop> {
    let settled = disk.settled_before();
    let mut context = Context::new(&SHA256);
    let (before, after) = disk.read(place, &mut |piece| context.update(piece))?;
    if before.stamp != after.stamp {
        return Err(Failure::Busy(after).into());
    }
    let sha256 = digest(context);
    let is_racy = before.stamp.changed >= settled && !is_planted(Bug::StampWithoutChangeTime);
    Ok(LocalFile {
        stamp: before.stamp,
        sha256: Some(sha256),
        is_racy,
        executable: before.executable,
    })
}

fn digest(context: Context) -> Sha256 {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes.into()
}

/// Whether a place still has the file that was seen. A stamp that differs is compared by content.
pub(super) fn expect_file(
    disk: &dyn Disk,
    place: &Place,
    stamp: &crate::disk::Stamp,
    sha256: &Sha256,
) -> Result<Meta, Stop> {
    let meta = disk.stat(place)?.ok_or(Failure::Changed(None))?;
    if meta.stamp == *stamp {
        return Ok(meta);
    }
    let file = hash(disk, place)?;
    if file.sha256 == Some(*sha256) {
        let stamp = file.stamp;
        return Ok(Meta { stamp, ..meta });
    }
    Err(Failure::Changed(None).into())
}
