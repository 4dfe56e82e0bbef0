//! Applies operations as a disk and a service without faults would.

use model::FileId;
use uuid::Uuid;

use super::put;
use crate::names::conflict_name;
use crate::path::LocalPath;
use crate::plan::Op;
use crate::tree::{LocalEntry, LocalFile, RemoteRow, SyncedRow, Trees};

#[expect(clippy::too_many_lines, reason = "one arm for each operation")]
/// Applies an operation, or says which of its preconditions does not hold.
pub(super) fn apply(trees: &mut Trees, op: &Op) -> Result<(), String> {
    match op {
        Op::Upload {
            local,
            file,
            path,
            base,
        } => {
            same_file(trees, local, file)?;
            let sha256 = file.sha256.ok_or("the file was not read")?;
            let next = |version: model::Version| (version.get() + 1).try_into().map_err(|_| "version");
            let (id, version) = if let Some((id, version)) = base {
                let there = trees.remote(*id).ok_or("the base is gone")?;
                check(
                    there.version == *version && there.path == *path,
                    "version conflict",
                )?;
                (*id, next(*version)?)
            } else {
                check(is_free(trees, None, path), "path taken")?;
                // The same in each order of the operations.
                let mut bytes = [9_u8; 16];
                for (at, byte) in path
                    .as_str()
                    .bytes()
                    .chain(sha256.as_bytes()[..4].iter().copied())
                    .enumerate()
                {
                    bytes[at % 16] = bytes[at % 16].wrapping_mul(31).wrapping_add(byte);
                }
                (
                    Uuid::from_bytes(bytes).into(),
                    1.try_into().map_err(|_| "version")?,
                )
            };
            let row = RemoteRow {
                path: path.clone(),
                version,
                size: file.stamp.size,
                sha256,
                modified_at: None,
                executable: None,
            };
            trees.set_remote(id, Some(row.clone()));
            trees.set_synced(id, Some(agreed(&row, local, file)));
        }
        Op::MoveThere {
            id,
            version,
            from,
            to,
            local,
        } => {
            let mut row = trees.remote(*id).ok_or("the file is gone")?.clone();
            check(row.version == *version && row.path == *from, "version conflict")?;
            check(is_free(trees, Some(*id), to), "path taken")?;
            row.path = to.clone();
            trees.set_remote(*id, Some(row));
            let mut synced = trees.synced(*id).ok_or("no row")?.clone();
            synced.path = to.clone();
            synced.local = local.clone().unwrap_or_else(|| LocalPath::new(to.as_str()));
            trees.set_synced(*id, Some(synced));
        }
        Op::DeleteThere { id, version, path } => {
            let row = trees.remote(*id).ok_or("the file is gone")?;
            check(row.version == *version && row.path == *path, "version conflict")?;
            trees.set_remote(*id, None);
            trees.set_synced(*id, None);
        }
        Op::Download {
            id,
            row,
            to,
            replaced,
            ..
        } => {
            match replaced {
                Some(file) => same_file(trees, to, file)?,
                None => free_here(trees, to)?,
            }
            let bytes = id_bytes(*id);
            let inode = u64::from(u32::from_be_bytes([
                row.sha256.as_bytes()[3],
                bytes[15],
                bytes[14],
                77,
            ]));
            let mut file = super::local_file(inode, 0);
            file.sha256 = Some(row.sha256);
            put(trees, to, file);
            trees.set_synced(*id, Some(agreed(row, to, &file)));
        }
        Op::Remove {
            id,
            local,
            file,
            then,
        } => {
            same_file(trees, local, file)?;
            remove(trees, local);
            trees.set_synced(*id, then.as_deref().cloned());
        }
        Op::MoveHere(moves) => {
            for one in moves {
                same_file(trees, &one.from, &one.file)?;
            }
            for one in moves {
                remove(trees, &one.from);
            }
            let rows: Option<Vec<_>> = moves.iter().map(|one| trees.synced(one.id).cloned()).collect();
            for one in moves {
                trees.set_synced(one.id, None);
            }
            for (one, mut synced) in moves.iter().zip(rows.ok_or("no row")?) {
                free_here(trees, &one.to)?;
                put(trees, &one.to, one.file);
                synced.local = one.to.clone();
                synced.path = one.path.clone();
                trees.set_synced(one.id, Some(synced));
            }
        }
        Op::SetAside { local, owner, .. } => {
            let file = trees.local_file(local).ok_or("nothing to set aside")?;
            let mut number = 1;
            let copy = loop {
                let copy = conflict_name(local, "label", number);
                if free_here(trees, &copy).is_ok() {
                    break copy;
                }
                number += 1;
            };
            remove(trees, local);
            put(trees, &copy, file);
            if let Some(id) = owner {
                let moved = trees.moved_to(*id);
                check(moved.as_ref() == Some(&copy), "the row does not follow")?;
            }
        }
        Op::Agree(id, row) | Op::SetExecutable(id, row, _) => {
            trees.set_synced(*id, Some((**row).clone()));
        }
        Op::Forget(id, _) => trees.set_synced(*id, None),
    }
    Ok(())
}

fn id_bytes(id: FileId) -> [u8; 16] {
    *Uuid::from(id).as_bytes()
}

fn check(holds: bool, what: &str) -> Result<(), String> {
    holds.then_some(()).ok_or_else(|| what.to_owned())
}

fn agreed(row: &RemoteRow, local: &LocalPath, file: &LocalFile) -> SyncedRow {
    SyncedRow {
        path: row.path.clone(),
        local: local.clone(),
        version: row.version,
        size: row.size,
        sha256: row.sha256,
        executable: None,
        stamp: file.stamp,
        sequence: None,
    }
}

fn is_free(trees: &Trees, id: Option<FileId>, path: &model::SpacePath) -> bool {
    let others = trees.all_remote().iter().filter(|(other, _)| Some(**other) != id);
    let mut paths = others.map(|(_, row)| &row.path);
    !paths.any(|other| other.excludes(path))
}

fn same_file(trees: &Trees, path: &LocalPath, file: &LocalFile) -> Result<(), String> {
    check(
        trees.local_file(path).as_ref() == Some(file),
        "the file is another one",
    )
}

/// The place is free, and no folder on the way is something else.
fn free_here(trees: &Trees, path: &LocalPath) -> Result<(), String> {
    let key = trees.names().local_key(path);
    check(trees.local_with_key(&key).next().is_none(), "the place is taken")?;
    for folder in path.folders() {
        let is_folder = matches!(trees.local(&folder), None | Some(LocalEntry::Folder(_)));
        check(is_folder, "a folder on the way is a file")?;
    }
    Ok(())
}

/// Removes a file, and the folders that it leaves empty.
fn remove(trees: &mut Trees, path: &LocalPath) {
    trees.set_local(path, None);
    for folder in path.folders() {
        if trees.local_below(&folder).next().is_some() {
            break;
        }
        trees.set_local(&folder, None);
    }
}
