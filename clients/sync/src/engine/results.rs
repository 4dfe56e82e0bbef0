//! Results of effects.

use std::sync::Arc;

use model::FileId;

use super::{Engine, Flight};
use crate::disk::{DiskErrorKind, Stamp};
use crate::effect::{Answer, Committed, EffectId, RemoteError, Stopped, Told};
use crate::execute::{Failure, Folders, Placed, Report};
use crate::path::LocalPath;
use crate::plan::{Hold, Op};
use crate::store::TrashRow;
use crate::tree::{Item, LocalEntry, LocalFile, SyncedRow};

impl Engine {
    pub(super) fn reported(&mut self, id: EffectId, report: Report) {
        let Some(flight) = self.flights.remove(&id) else {
            return;
        };
        self.job_ended(&flight);
        match (flight, report) {
            (Flight::Open, Report::Open { volume, root, boot }) => self.opened(*volume, root, boot),
            (Flight::Root, Report::Root(is_same)) => self.root_checked(is_same),
            (Flight::Recover, Report::Recovered(recovered)) => self.recovered(recovered),
            (Flight::Scan(deep, began), Report::Scanned(scanned)) => self.scanned(&deep, began, scanned),
            (Flight::Hash, Report::Hashed(hashed)) => self.hashed(hashed),
            (Flight::CheckTrash, Report::TrashChecked(checked)) => self.trash_checked(checked),
            (Flight::Rescue(names), Report::Rescued(rescued)) => {
                for ((name, path), result) in names.into_iter().zip(rescued) {
                    if let Ok(place) = result {
                        self.forget_trash(&name);
                        if place != path {
                            self.note_conflict(&path, &place);
                        }
                        self.scan_around(&place);
                    }
                }
            }
            (Flight::Purge(names), Report::Purged(purged)) => {
                for (name, result) in names.iter().zip(purged) {
                    if result.is_ok() {
                        self.forget_trash(name);
                    }
                }
            }
            (Flight::Exclude(path), _) => self.excluded(path),
            (Flight::Job(items), report) => self.job_done(&items, report),
            _ => {}
        }
    }

    fn job_done(&mut self, items: &[Item], report: Report) {
        match report {
            Report::Placed(placed) => {
                for (item, result) in items.iter().zip(placed) {
                    self.placed(item, result);
                }
            }
            Report::Removed(removed) => {
                for (item, result) in items.iter().zip(removed) {
                    self.removed(item, result);
                }
            }
            Report::Moved(moved) => {
                if let Some(item) = items.first() {
                    self.moved(item, moved);
                }
            }
            Report::SetAside(done) => {
                for (item, result) in items.iter().zip(done) {
                    self.set_aside(item, result);
                }
            }
            Report::SetExecutable(done) => {
                for (item, result) in items.iter().zip(done) {
                    self.executable_set(item, result);
                }
            }
            _ => {}
        }
    }

    fn folders_changed(&mut self, folders: &Folders) {
        for folder in &folders.removed {
            self.trees.remove_local_tree(folder);
        }
        for folder in &folders.created {
            self.add_folder(folder);
        }
    }

    fn placed(&mut self, item: &Item, result: Result<Placed, Failure>) {
        let Some(Op::Download {
            id,
            row,
            to,
            replaced,
            keeps,
        }) = self.end(item)
        else {
            return;
        };
        // A part is placed once. After a failure it may be anywhere.
        self.parts.remove(&id);
        let is_refused = matches!(result, Err(Failure::Disk(_)));
        let aside = self.take_asides(item, is_refused).pop();
        match result {
            Ok(placed) => {
                self.failed.remove(item);
                self.folders_changed(&placed.folders);
                self.put(&to, placed.file);
                // Relative to the version, the bit that was kept is an edit.
                let executable = match keeps {
                    Some(bit) => Some(row.executable.unwrap_or(!bit)),
                    None => placed.file.executable,
                };
                if let (Some(name), Some(stamp), Some(file)) = (&aside, placed.trashed, replaced)
                    && let Some(sha256) = file.sha256
                {
                    let (path, at) = (to.clone(), self.now.wall);
                    self.trashed(
                        name,
                        TrashRow {
                            path,
                            sha256,
                            stamp,
                            at,
                        },
                    );
                }
                let synced = SyncedRow {
                    path: row.path.clone(),
                    local: to.clone(),
                    version: row.version,
                    size: row.size,
                    sha256: row.sha256,
                    executable,
                    stamp: placed.file.stamp,
                    sequence: None,
                };
                self.trees.set_synced(id, Some(synced));
                if !placed.is_settled {
                    self.scan_around(&to);
                }
                self.tell(Told::Placed(to, row.version));
            }
            Err(Failure::Undone(stamp)) => {
                if let Some(name) = &aside {
                    let (path, sha256, at) = (to.clone(), row.sha256, self.now.wall);
                    self.trashed(
                        name,
                        TrashRow {
                            path,
                            sha256,
                            stamp,
                            at,
                        },
                    );
                }
                self.failed_here(item, &to, Failure::Changed(None));
            }
            Err(failure) => self.failed_here(item, &to, failure),
        }
    }

    /// The names in `aside` of an operation that ended. If the disk refused something, a file may still be there,
    /// and its intent is needed at the next start.
    fn take_asides(&mut self, item: &Item, is_refused: bool) -> Vec<Arc<str>> {
        let names = self.asides.remove(item).unwrap_or_default();
        if !is_refused {
            for name in &names {
                self.forget_intent(name);
            }
        }
        names
    }

    /// Adds a file that the engine has put somewhere. It is read again later, because its stamp is young.
    fn put(&mut self, path: &LocalPath, file: LocalFile) {
        for folder in path.folders() {
            if self.trees.local(&folder).is_none() {
                self.add_folder(&folder);
            }
        }
        let recheck = self.trees.volume().granularity.unsigned_abs() / 1_000_000 + 100;
        self.folders
            .rechecks
            .insert(path.clone(), self.now.monotonic + recheck);
        self.trees.set_local(path, Some(LocalEntry::File(file)));
    }

    /// A job has failed for a path.
    fn failed_here(&mut self, item: &Item, path: &LocalPath, failure: Failure) {
        match failure {
            Failure::Changed(copy) => {
                if let Some(copy) = copy {
                    self.note_conflict(path, &copy);
                    self.scan_around(&copy);
                }
                self.scan_around(path);
                self.fail(item, None);
            }
            Failure::Undone(_) => {
                self.scan_around(path);
                self.fail(item, None);
            }
            Failure::Busy(_) => {
                self.scan_around(path);
                self.fail(item, Some(Hold::Busy));
            }
            Failure::Disk(error) => {
                let hold = match error.kind {
                    DiskErrorKind::NoSpace => Hold::NoSpace,
                    DiskErrorKind::BadName => Hold::BadName(error.detail),
                    _ => Hold::Disk(error.detail),
                };
                self.scan_around(path);
                self.fail(item, Some(hold));
            }
        }
    }

    fn removed(&mut self, item: &Item, result: Result<(Stamp, Folders), Failure>) {
        let Some(Op::Remove {
            id,
            local,
            file,
            then,
        }) = self.end(item)
        else {
            return;
        };
        let is_refused = matches!(result, Err(Failure::Disk(_)));
        let aside = self.take_asides(item, is_refused).pop();
        match result {
            Ok((stamp, folders)) => {
                self.failed.remove(item);
                self.trees.set_local(&local, None);
                self.folders_changed(&folders);
                if let (Some(name), Some(sha256)) = (&aside, file.sha256) {
                    let (path, at) = (local.clone(), self.now.wall);
                    self.trashed(
                        name,
                        TrashRow {
                            path,
                            sha256,
                            stamp,
                            at,
                        },
                    );
                }
                if then.is_none() {
                    self.guarded.note_here(self.now.monotonic);
                    self.tell(Told::Trashed(local));
                }
                self.trees.set_synced(id, then.map(|row| *row));
            }
            Err(failure) => self.failed_here(item, &local, failure),
        }
    }

    fn moved(&mut self, item: &Item, results: Vec<Result<(Stamp, Folders), Failure>>) {
        let Some(Op::MoveHere(moves)) = self.end(item) else {
            return;
        };
        let mut rows = Vec::new();
        let is_refused = results
            .iter()
            .any(|result| matches!(result, Err(Failure::Disk(_))));
        self.take_asides(item, is_refused);
        for (one, result) in moves.iter().zip(results) {
            match result {
                Ok((stamp, folders)) => {
                    self.failed.remove(item);
                    self.trees.set_local(&one.from, None);
                    self.folders_changed(&folders);
                    rows.push((one, stamp));
                }
                Err(failure) => self.failed_here(item, &one.from, failure),
            }
        }
        // Files may have taken each other's places, so all rows go before the first comes.
        let synced: Vec<Option<SyncedRow>> = rows
            .iter()
            .map(|(one, _)| self.trees.synced(one.id).cloned())
            .collect();
        for (one, _) in &rows {
            self.trees.set_synced(one.id, None);
        }
        for ((one, stamp), row) in rows.into_iter().zip(synced) {
            let file = LocalFile {
                stamp,
                is_racy: true,
                ..one.file
            };
            self.put(&one.to, file);
            if let Some(row) = row {
                let stamp = if one.file.sha256 == Some(row.sha256) {
                    stamp
                } else {
                    row.stamp
                };
                let (path, local) = (one.path.clone(), one.to.clone());
                self.trees.set_synced(
                    one.id,
                    Some(SyncedRow {
                        path,
                        local,
                        stamp,
                        ..row
                    }),
                );
            }
            self.scan_around(&one.to);
            self.tell(Told::MovedHere(one.from.clone(), one.to.clone()));
        }
    }

    fn set_aside(&mut self, item: &Item, result: Result<(LocalPath, Stamp), Failure>) {
        let Some(Op::SetAside { local, .. }) = self.end(item) else {
            return;
        };
        match result {
            Ok((copy, stamp)) => {
                self.failed.remove(item);
                if let Some(file) = self.file(&local) {
                    self.trees.set_local(&local, None);
                    let is_same = file.stamp.is_renamed(&stamp);
                    let sha256 = file.sha256.filter(|_| is_same);
                    let file = LocalFile {
                        stamp,
                        sha256,
                        is_racy: true,
                        ..file
                    };
                    self.put(&copy, file);
                    self.scan_around(&copy);
                }
                self.scan_around(&local);
                self.note_conflict(&local, &copy);
            }
            Err(failure) => self.failed_here(item, &local, failure),
        }
    }

    fn executable_set(&mut self, item: &Item, result: Result<Stamp, Failure>) {
        let Some(Op::SetExecutable(id, row, executable)) = self.end(item) else {
            return;
        };
        match result {
            Ok(stamp) => {
                self.failed.remove(item);
                if let Some(file) = self.file(&row.local) {
                    let executable = Some(executable);
                    let file = LocalFile {
                        stamp,
                        executable,
                        is_racy: true,
                        ..file
                    };
                    self.put(&row.local.clone(), file);
                }
                let executable = Some(executable);
                self.trees.set_synced(
                    id,
                    Some(SyncedRow {
                        executable,
                        stamp,
                        ..*row
                    }),
                );
            }
            Err(failure) => self.failed_here(item, &row.local, failure),
        }
    }

    pub(super) fn fetched(&mut self, id: EffectId, result: Result<(), RemoteError>) {
        let Some(Flight::Fetch(item)) = self.flights.remove(&id) else {
            return;
        };
        let Some(Op::Download { id, to, .. }) = self.end(&item) else {
            return;
        };
        match result {
            Ok(()) => {
                if let Some(part) = self.parts.get_mut(&id) {
                    part.is_ready = true;
                }
            }
            Err(error) => {
                self.parts.remove(&id);
                self.failed_there(&item, Some(&to), error);
            }
        }
    }

    pub(super) fn uploaded(&mut self, id: EffectId, result: Result<Committed, RemoteError>) {
        let Some(Flight::Upload(item, key)) = self.flights.remove(&id) else {
            return;
        };
        let Some(Op::Upload {
            local, file, path, ..
        }) = self.end(&item)
        else {
            return;
        };
        match result {
            Ok(committed) => {
                self.failed.remove(&item);
                self.forget_uploads(&local);
                let Some(sha256) = file.sha256 else { return };
                let row = SyncedRow {
                    path: committed.path.clone(),
                    local,
                    version: committed.version,
                    size: file.stamp.size,
                    sha256,
                    executable: file.executable,
                    stamp: file.stamp,
                    sequence: Some(committed.sequence),
                };
                self.trees.set_synced(committed.file_id, Some(row));
                self.trees.mark(item);
                self.feed.note(committed.sequence.into());
                self.tell(Told::Sent(path, committed.version));
            }
            Err(error) => {
                // Without an answer it is not known whether the version was added, by this attempt or by an earlier
                // one with the same key.
                if matches!(
                    error,
                    RemoteError::Outdated(_)
                        | RemoteError::Expired
                        | RemoteError::Refused(_)
                        | RemoteError::OtherEpoch
                ) {
                    self.forget_upload(key.as_str());
                }
                self.failed_there(&item, Some(&local), error);
            }
        }
    }

    pub(super) fn answered(&mut self, id: EffectId, result: Result<Answer, RemoteError>) {
        match self.flights.remove(&id) {
            Some(Flight::Feed) => self.fed(result),
            Some(Flight::Change(item)) => self.changed(&item, result),
            _ => {}
        }
    }

    fn changed(&mut self, item: &Item, result: Result<Answer, RemoteError>) {
        let Some(op) = self.end(item) else { return };
        match (op, result) {
            (
                Op::MoveThere {
                    id, from, to, local, ..
                },
                Ok(Answer::Committed(committed)),
            ) => {
                self.failed.remove(item);
                self.feed.note(committed.sequence.into());
                if let Some(row) = self.trees.synced(id).cloned() {
                    // A path that is only on the way has no file on the disk.
                    let local = local.unwrap_or_else(|| LocalPath::new(to.as_str()));
                    let row = SyncedRow {
                        path: to.clone(),
                        local,
                        sequence: Some(committed.sequence),
                        ..row
                    };
                    self.trees.set_synced(id, Some(row));
                }
                self.tell(Told::MovedThere(from, to));
            }
            (Op::DeleteThere { id, path, .. }, Ok(Answer::Committed(committed))) => {
                self.failed.remove(item);
                self.feed.note(committed.sequence.into());
                self.guarded.note_there(self.now.monotonic);
                self.note_sequence(id, committed.sequence);
                self.tell(Told::Deleted(path));
            }
            (_, Err(error)) => self.failed_there(item, None, error),
            _ => {}
        }
    }

    /// The row waits for the feed to have the change. Then the file is gone on both sides.
    fn note_sequence(&mut self, id: FileId, sequence: model::Sequence) {
        if let Some(row) = self.trees.synced(id).cloned() {
            let sequence = Some(sequence);
            self.trees.set_synced(id, Some(SyncedRow { sequence, ..row }));
        }
    }

    fn failed_there(&mut self, item: &Item, local: Option<&LocalPath>, error: RemoteError) {
        match error {
            RemoteError::Unavailable(reason) => self.fail(item, Some(Hold::Unavailable(reason))),
            RemoteError::Outdated(_) => {
                self.feed.is_wanted = true;
                self.fail(item, None);
            }
            RemoteError::Expired | RemoteError::Cancelled => self.fail(item, None),
            RemoteError::OtherEpoch => {
                self.ask_position();
                self.fail(item, None);
            }
            RemoteError::Forbidden(reason) => {
                self.feed.is_unknown = true;
                self.fail(item, Some(Hold::Refused(reason)));
            }
            RemoteError::Refused(reason) => self.fail(item, Some(Hold::Refused(reason))),
            RemoteError::SpaceGone => self.stop(Stopped::SpaceGone),
            RemoteError::SignedOut => self.stop(Stopped::SignedOut),
            RemoteError::ContentChanged => {
                if let Some(local) = local {
                    self.scan_around(local);
                }
                self.fail(item, None);
            }
            RemoteError::WrongContent => self.fail(item, Some(Hold::WrongContent)),
            RemoteError::Disk(error) => {
                if error.kind == DiskErrorKind::Fatal {
                    self.stop(Stopped::Disk(error));
                    return;
                }
                if let Some(local) = local {
                    self.scan_around(local);
                }
                let hold = match error.kind {
                    DiskErrorKind::NoSpace => Hold::NoSpace,
                    _ => Hold::Disk(error.detail),
                };
                self.fail(item, Some(hold));
            }
        }
    }
}
