//! Operations of the planner.

use std::sync::Arc;

use model::{FileId, IdempotencyKey};

use super::config::{MAX_ITEMS, MAX_OPS, MAX_ROUNDS, settings};
use super::feed::delay;
use super::{Engine, Failed, Flight, Part};
use crate::effect::{Effect, Fetch, Request, Stopped, Told, Upload};
use crate::execute::{Job, Placement, Removal, Rename, SettingAside};
use crate::plan::{Decided, Decision, Forgotten, Hold, Op, plan};
use crate::planted::{Bug, is_planted};
use crate::store::{Intent, RowChange, SentUpload};
use crate::tree::{Item, LocalFile, RemoteRow, SyncedRow};

/// Jobs that are filled by one plan.
#[derive(Default)]
struct Batches {
    place: (Vec<Item>, Vec<Placement>),
    remove: (Vec<Item>, Vec<Removal>),
    set_aside: (Vec<Item>, Vec<SettingAside>),
}

impl Engine {
    /// Plans, and starts the operations, until nothing is left that can be decided.
    pub(super) fn drive_ops(&mut self) {
        self.retry_failed();
        for round in 0.. {
            if self.meta.paused || !self.feed.is_ready() || self.role.is_none() {
                return;
            }
            if self.trees.dirty().is_empty() && self.swept != self.trees.revision() {
                // What waited or was held may be possible now.
                if self.blocked.len() > 1_000 && !self.running.is_empty() {
                    break;
                }
                self.sweep();
            }
            if self.trees.dirty().is_empty() || self.running.len() >= MAX_OPS {
                break;
            }
            if round > MAX_ROUNDS + self.trees.all_synced().len() / MAX_OPS * 4 {
                let item = format!("{:?}", self.trees.dirty().first());
                self.stop(Stopped::NoProgress(item));
                return;
            }
            let label = self.label();
            let decided = {
                let hiding = |path: &str| self.rules.hiding(path);
                let settings = settings(&self.config, self.role, self.is_scanned(), &label, &hiding);
                let limit = MAX_OPS - self.running.len();
                plan(&self.trees, &settings, &mut self.claims, limit)
            };
            let mut batches = Batches::default();
            let guarded = self.guarded();
            for one in decided {
                self.carry_out(one, guarded, &label, &mut batches);
            }
            self.start_batches(batches);
            if self.has_stopped {
                return;
            }
            // Items that are under way stay marked, and are decided about when they have ended.
            let under_way = self.trees.dirty().iter().all(|item| self.claims.has_item(item));
            if under_way {
                break;
            }
        }
        self.note_holds();
    }

    /// Looks again at all that waited or was held.
    pub(super) fn sweep(&mut self) {
        self.swept = self.trees.revision();
        for (item, _) in std::mem::take(&mut self.blocked) {
            self.trees.mark(item);
        }
    }

    fn retry_failed(&mut self) {
        let now = self.now.monotonic;
        let due = self
            .failed
            .iter()
            .filter(|(_, failed)| failed.again_at <= now && failed.again_at != Failed::NOW);
        let due: Vec<Item> = due.map(|(item, _)| item.clone()).collect();
        for item in due {
            if let Some(failed) = self.failed.get_mut(&item) {
                failed.again_at = Failed::NOW;
            }
            self.trees.mark(item);
        }
    }

    /// Notes a failure. The item is tried again after a delay.
    pub(super) fn fail(&mut self, item: &Item, hold: Option<Hold>) {
        let tries = self.failed.get(item).map_or(0, |failed| failed.tries) + 1;
        let again_at = self.now.monotonic + delay(tries);
        let failed = Failed {
            tries,
            again_at,
            hold,
        };
        self.failed.insert(item.clone(), failed);
        self.trees.mark(item.clone());
    }

    /// Ends an operation.
    pub(super) fn end(&mut self, item: &Item) -> Option<Op> {
        self.claims.release(item);
        let op = self.running.remove(item)?;
        self.trees.mark(item.clone());
        Some(op)
    }

    fn block(&mut self, item: Item, hold: Option<Hold>) {
        self.trees.unmark(&item);
        self.blocked.insert(item, hold);
    }

    fn carry_out(&mut self, decided: Decided, guarded: (bool, bool), label: &str, batches: &mut Batches) {
        let Decided { item, decision, .. } = decided;
        match decision {
            Decision::Nothing => {
                self.failed.remove(&item);
                self.trees.unmark(&item);
            }
            Decision::Wait => self.block(item, None),
            Decision::Hold(hold) => self.block(item, Some(hold)),
            Decision::Do(op) => {
                if let Some(failed) = self.failed.get(&item)
                    && failed.again_at > self.now.monotonic
                {
                    let hold = failed.hold.clone();
                    self.claims.release(&item);
                    self.block(item, hold);
                    return;
                }
                let is_held = match &op {
                    Op::DeleteThere { .. } => guarded.0,
                    // The space still has the files of an excluded folder.
                    Op::Remove { id, then: None, .. } => guarded.1 && self.trees.remote(*id).is_none(),
                    _ => false,
                };
                if is_held {
                    self.claims.release(&item);
                    self.block(item, Some(Hold::DeletionGuard));
                    return;
                }
                self.trees.unmark(&item);
                self.running.insert(item.clone(), op.clone());
                self.start(item, op, label, batches);
            }
        }
    }

    fn start(&mut self, item: Item, op: Op, label: &str, batches: &mut Batches) {
        match op {
            Op::Upload {
                local,
                file,
                path,
                base,
            } => self.start_upload(item, local, &file, path, base),
            Op::MoveThere {
                id,
                version,
                from,
                to,
                ..
            } => {
                let request = Request::Move {
                    file_id: id,
                    to,
                    base_version: version,
                    base_path: from,
                };
                self.request(request, Flight::Change(item));
            }
            Op::DeleteThere { id, version, path } => {
                let request = Request::Delete {
                    file_id: id,
                    base_version: version,
                    base_path: path,
                };
                self.request(request, Flight::Change(item));
            }
            Op::Download {
                id,
                row,
                to,
                replaced,
                keeps,
            } => {
                let executable = keeps.or(row.executable);
                let row = RemoteRow { executable, ..row };
                self.start_download(item, id, &row, to, replaced, label, batches);
            }
            Op::Remove { local, file, .. } => {
                let Some(sha256) = file.sha256 else { return };
                let aside = self.new_name();
                self.intend(&item, &aside, &local, vec![sha256], false);
                batches.remove.0.push(item);
                batches.remove.1.push(Removal {
                    path: local,
                    stamp: file.stamp,
                    sha256,
                    aside,
                    label: label.into(),
                });
            }
            Op::MoveHere(moves) => self.start_moves(item, &moves, label),
            Op::SetAside { local, .. } => {
                batches.set_aside.0.push(item);
                batches.set_aside.1.push(SettingAside {
                    path: local,
                    label: label.into(),
                });
            }
            Op::Agree(id, row) => {
                self.end(&item);
                self.trees.set_synced(id, Some(*row));
            }
            Op::SetExecutable(_, row, executable) => {
                let job = Job::SetExecutable(vec![(row.local, row.stamp, executable)]);
                self.queue.push((job, Flight::Job(vec![item])));
            }
            Op::Forget(id, why) => {
                self.end(&item);
                self.forget(id, why);
            }
        }
    }

    fn forget(&mut self, id: FileId, why: Forgotten) {
        if let Some(row) = self.trees.synced(id) {
            match why {
                Forgotten::ChangedThere => self.tell(Told::CameBack(row.path.clone())),
                Forgotten::ChangedHere => self.tell(Told::Restored(row.local.clone())),
                Forgotten::Gone | Forgotten::Conflict | Forgotten::Replaced => {}
            }
        }
        self.trees.set_synced(id, None);
    }

    fn intend(
        &mut self,
        item: &Item,
        aside: &Arc<str>,
        path: &crate::path::LocalPath,
        known: Vec<model::Sha256>,
        is_move: bool,
    ) {
        let path = path.clone();
        let intent = Intent { path, known, is_move };
        self.asides.entry(item.clone()).or_default().push(aside.clone());
        self.intents.insert(aside.clone(), intent.clone());
        self.trees
            .record(RowChange::Intent(aside.clone(), Some(Box::new(intent))));
    }

    fn start_upload(
        &mut self,
        item: Item,
        local: crate::path::LocalPath,
        file: &LocalFile,
        path: model::SpacePath,
        base: Option<(FileId, model::Version)>,
    ) {
        let (Some(sha256), Some(epoch)) = (file.sha256, self.meta.epoch) else {
            return;
        };
        let same = self.uploads.iter().find(|(_, sent)| {
            sent.local == local
                && sent.path == path
                && sent.sha256 == sha256
                && sent.base == base
                && sent.epoch == epoch
        });
        let key = match same {
            Some((key, _)) => key.clone(),
            None => self.new_name().to_string(),
        };
        let Ok(key): Result<IdempotencyKey, _> = key.parse() else {
            return;
        };
        let sent = SentUpload {
            local: local.clone(),
            path: path.clone(),
            sha256,
            size: file.stamp.size,
            stamp: file.stamp,
            base,
            epoch,
        };
        self.uploads.insert(key.as_str().to_owned(), sent.clone());
        self.trees
            .record(RowChange::Upload(key.clone(), Some(Box::new(sent))));
        self.flush();
        let id = self.next_id();
        self.flights.insert(id, Flight::Upload(item, key.clone()));
        let modified_at = time::OffsetDateTime::from_unix_timestamp_nanos(file.stamp.modified.into());
        let upload = Upload {
            local,
            stamp: file.stamp,
            path,
            size: file.stamp.size,
            sha256,
            base,
            key,
            modified_at: modified_at.ok().and_then(|time| time.try_into().ok()),
            executable: file.executable,
        };
        self.effects.push(Effect::Upload(id, Box::new(upload)));
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the operation")]
    fn start_download(
        &mut self,
        item: Item,
        file_id: FileId,
        row: &RemoteRow,
        to: crate::path::LocalPath,
        replaced: Option<LocalFile>,
        label: &str,
        batches: &mut Batches,
    ) {
        let ready = self
            .parts
            .get(&file_id)
            .filter(|part| part.is_ready && part.version == row.version && part.sha256 == row.sha256);
        let Some(part) = ready.cloned() else {
            let name: Arc<str> = self.new_name();
            let part = Part {
                version: row.version,
                sha256: row.sha256,
                name: name.clone(),
                is_ready: false,
            };
            if let Some(old) = self.parts.insert(file_id, part) {
                self.queue.push((Job::Discard(vec![old.name]), Flight::Discard));
            }
            self.flush();
            let id = self.next_id();
            self.flights.insert(id, Flight::Fetch(item));
            self.effects.push(Effect::Fetch(
                id,
                Fetch {
                    file_id,
                    version: row.version,
                    size: row.size,
                    sha256: row.sha256,
                    part: name,
                },
            ));
            return;
        };
        let aside = self.new_name();
        let replaced = replaced.and_then(|file| Some((file.stamp, file.sha256?)));
        if let Some((_, old)) = &replaced {
            self.intend(&item, &aside, &to, vec![row.sha256, *old], false);
        }
        if is_planted(Bug::CommitBeforePlacing) {
            let (stamp, sha256, executable) = (
                crate::disk::Stamp {
                    identity: crate::disk::Identity {
                        device: 0,
                        inode: 0,
                        birth: None,
                    },
                    size: row.size,
                    modified: 0,
                    changed: 0,
                },
                row.sha256,
                None,
            );
            let (path, local) = (row.path.clone(), to.clone());
            let (version, size, sequence) = (row.version, row.size, None);
            let row = SyncedRow {
                path,
                local,
                version,
                size,
                sha256,
                executable,
                stamp,
                sequence,
            };
            self.trees.set_synced(file_id, Some(row));
            self.flush();
        }
        batches.place.0.push(item);
        batches.place.1.push(Placement {
            part: part.name,
            sha256: row.sha256,
            to,
            replaced,
            aside,
            exchanges: self.trees.volume().exchanges,
            modified_at: row.modified_at,
            executable: row.executable,
            label: label.into(),
        });
    }

    fn start_moves(&mut self, item: Item, moves: &[crate::plan::Move], label: &str) {
        let names = self.trees.names();
        let mut renames = Vec::with_capacity(moves.len());
        for one in moves {
            let is_same_name = names.local_key(&one.from) == names.local_key(&one.to);
            let needs_aside =
                moves.len() > 1 || is_same_name || one.to.is_within(&one.from) || one.from.is_within(&one.to);
            let aside = needs_aside.then(|| self.new_name());
            if let Some(aside) = &aside {
                self.intend(&item, aside, &one.from, Vec::new(), true);
            }
            renames.push(Rename {
                from: one.from.clone(),
                to: one.to.clone(),
                stamp: one.file.stamp,
                aside,
                label: label.into(),
            });
        }
        let job = Job::Move(renames);
        self.queue.push((job, Flight::Job(vec![item])));
    }

    fn start_batches(&mut self, batches: Batches) {
        let Batches {
            place,
            remove,
            set_aside,
        } = batches;
        self.queue_items(set_aside, Job::SetAside);
        self.queue_items(place, Job::Place);
        self.queue_items(remove, Job::Remove);
    }

    fn queue_items<T: Clone>(&mut self, (items, contents): (Vec<Item>, Vec<T>), job: fn(Vec<T>) -> Job) {
        for (items, contents) in items.chunks(MAX_ITEMS).zip(contents.chunks(MAX_ITEMS)) {
            self.queue
                .push((job(contents.to_vec()), Flight::Job(items.to_vec())));
        }
    }

    /// Tells what is held, and what no longer is.
    fn note_holds(&mut self) {
        let mut held = std::collections::BTreeMap::new();
        for (item, hold) in &self.blocked {
            let Some(reason) = hold else { continue };
            held.insert(self.name_of(item), reason.clone());
        }
        for (folder, names) in &self.folders.bad_names {
            for name in names {
                let reason = "the name is not UTF-8".to_owned();
                held.insert(folder.join(name).text(), Hold::BadName(reason));
            }
        }
        held.extend(self.folders.unreadable());
        if held == self.held {
            return;
        }
        let old = std::mem::replace(&mut self.held, held.clone());
        for (path, hold) in &held {
            if old.get(path) != Some(hold) {
                self.tell(Told::Held(path.clone(), hold.clone()));
            }
        }
        for path in old.keys().filter(|path| !held.contains_key(*path)) {
            self.tell(Told::Released(path.clone()));
        }
    }

    /// The path of an item.
    pub fn name_of(&self, item: &Item) -> Arc<str> {
        match item {
            Item::Local(path) => path.text(),
            Item::File(id) => {
                let there = self.trees.remote(*id).map(|row| row.path.as_str());
                let path = there.or_else(|| self.trees.synced(*id).map(|row| row.path.as_str()));
                path.unwrap_or_default().into()
            }
        }
    }
}
