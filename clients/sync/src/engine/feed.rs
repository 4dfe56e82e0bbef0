//! The remote tree: the feed, listings, and other epochs.

use std::collections::{BTreeMap, BTreeSet};

use model::{Cursor, Epoch, FileId, Role};

use super::config::{MAX_RESCUES, RETRY_FIRST, RETRY_MOST};
use super::{Engine, Flight};
use crate::effect::{Answer, ChangePage, EffectId, RemoteError, Request, Stopped, Told};
use crate::execute::Job;
use crate::names::space_path;
use crate::path::LocalPath;
use crate::plan::Op;
use crate::planted::{Bug, is_planted};
use crate::store::{RowChange, SentUpload};
use crate::tree::{Position, RemoteChange, RemoteRow, Subject, SyncedRow};

/// What is known of the feed.
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact")]
#[derive(Clone, Debug, Default)]
pub(super) struct Feed {
    /// Role, epoch and newest change must be asked for.
    pub(super) is_unknown: bool,
    /// The feed may have more than the cursor.
    pub(super) is_wanted: bool,
    /// The newest change that is known.
    latest: Cursor,
    /// Whether a page was read that is not the last one.
    has_more: bool,
    is_asking: bool,
    listing: Option<Listing>,
    tries: u32,
    pub(super) again_at: Option<u64>,
}

/// A listing under way. The remote tree stays as it is until the listing is complete.
#[derive(Clone, Debug)]
struct Listing {
    epoch: Epoch,
    /// The position before the first page, and before the first change of a new epoch.
    from: Cursor,
    restored_at: Option<Cursor>,
    rows: BTreeMap<FileId, RemoteRow>,
    is_listed: bool,
    /// Files that changed after `from`.
    touched: BTreeSet<FileId>,
    cursor: Cursor,
    /// Whether it has the changes up to the newest one.
    is_complete: bool,
    /// Attempts to take files out of the trash that only this device has.
    rescues: u32,
}

impl Feed {
    /// Whether the remote tree is a state that the space had, and the newest one that is known.
    pub(super) fn is_ready(&self) -> bool {
        let is_listed = self.listing.is_none() || is_planted(Bug::PartialListing);
        !self.is_unknown && is_listed && !self.has_more
    }

    pub(super) fn is_current(&self, cursor: Cursor) -> bool {
        self.is_ready() && !self.is_wanted && cursor >= self.latest
    }

    pub(super) fn listing_epoch(&self) -> Option<Epoch> {
        self.listing.as_ref().map(|listing| listing.epoch)
    }

    /// Notes a change that this device made.
    pub(super) fn note(&mut self, sequence: Cursor) {
        self.latest = self.latest.max(sequence);
        self.is_wanted = true;
    }
}

impl Engine {
    pub(super) fn drive_feed(&mut self) {
        if self.feed.is_asking || self.feed.again_at.is_some_and(|at| at > self.now.monotonic) {
            return;
        }
        self.feed.again_at = None;
        if !self.use_listing() {
            return;
        }
        let request = if self.feed.is_unknown {
            Request::Position
        } else if let Some(listing) = &self.feed.listing {
            if listing.is_listed {
                Request::Changes(listing.cursor)
            } else {
                Request::List
            }
        } else if self.feed.is_wanted || self.feed.has_more || self.trees.cursor < self.feed.latest {
            self.feed.is_wanted = false;
            Request::Changes(self.trees.cursor)
        } else {
            return;
        };
        self.feed.is_asking = true;
        self.request(request, Flight::Feed);
    }

    pub(super) fn fed(&mut self, result: Result<Answer, RemoteError>) {
        self.feed.is_asking = false;
        match result {
            Ok(answer) => {
                self.feed.tries = 0;
                match answer {
                    Answer::Position(role, position) => self.positioned(role, position),
                    Answer::Listed(epoch) => self.listed(epoch),
                    Answer::Changes(page) => self.changes(page),
                    Answer::Committed(_) => {}
                }
            }
            Err(error) => self.feed_failed(error),
        }
    }

    pub(super) fn feed_failed(&mut self, error: RemoteError) {
        match error {
            RemoteError::SpaceGone => self.stop(Stopped::SpaceGone),
            RemoteError::SignedOut => self.stop(Stopped::SignedOut),
            RemoteError::OtherEpoch => self.ask_position(),
            RemoteError::Unavailable(reason)
            | RemoteError::Outdated(reason)
            | RemoteError::Forbidden(reason)
            | RemoteError::Refused(reason) => {
                self.feed.tries += 1;
                self.feed.again_at = Some(self.now.monotonic + delay(self.feed.tries));
                // A listing that failed half way begins again.
                if let Some(listing) = &mut self.feed.listing
                    && !listing.is_listed
                {
                    listing.rows.clear();
                }
                self.feed.is_wanted = true;
                self.tell(Told::Unavailable(reason));
            }
            _ => {
                self.feed.tries += 1;
                self.feed.is_wanted = true;
                self.feed.again_at = Some(self.now.monotonic + delay(self.feed.tries));
            }
        }
    }

    pub(super) fn ask_position(&mut self) {
        self.feed.is_unknown = true;
        self.feed.listing = None;
    }

    fn positioned(&mut self, role: Role, position: Position) {
        self.feed.is_unknown = false;
        if self.role != Some(role) {
            self.role = Some(role);
            self.trees.mark_all();
            if role == Role::Viewer {
                self.tell(Told::ReadOnly);
            }
        }
        self.feed.latest = position.latest;
        let is_known = self.meta.epoch == Some(position.epoch) || is_planted(Bug::EpochIgnored);
        if is_known && self.meta.epoch.is_some() && position.latest >= self.trees.cursor {
            self.feed.is_wanted = position.latest > self.trees.cursor;
            return;
        }
        let from = match self.meta.epoch {
            Some(_) => position
                .restored_at
                .unwrap_or(position.latest)
                .min(position.latest),
            None => position.latest,
        };
        self.feed.listing = Some(Listing {
            epoch: position.epoch,
            from,
            restored_at: position.restored_at,
            rows: BTreeMap::new(),
            is_listed: false,
            touched: BTreeSet::new(),
            cursor: from,
            is_complete: false,
            rescues: 0,
        });
    }

    pub(super) fn page(&mut self, id: EffectId, files: Vec<(FileId, RemoteRow)>) {
        if !matches!(self.flights.get(&id), Some(Flight::Feed)) {
            return;
        }
        if is_planted(Bug::PartialListing) {
            for (id, row) in &files {
                self.trees.set_remote(*id, Some(row.clone()));
            }
        }
        if let Some(listing) = &mut self.feed.listing {
            listing.rows.extend(files);
        }
    }

    fn listed(&mut self, epoch: Epoch) {
        let Some(listing) = &mut self.feed.listing else {
            return;
        };
        if listing.epoch == epoch {
            listing.is_listed = true;
        } else {
            self.ask_position();
        }
    }

    fn changes(&mut self, page: ChangePage) {
        let epoch = self
            .feed
            .listing
            .as_ref()
            .map(|listing| listing.epoch)
            .or(self.meta.epoch);
        if epoch != Some(page.position.epoch) && !is_planted(Bug::EpochIgnored) {
            self.ask_position();
            return;
        }
        if let Some(listing) = &mut self.feed.listing {
            for change in page.changes {
                listing.take(change);
            }
            listing.is_complete = !page.has_more;
            self.feed.latest = page.position.latest;
            return;
        }
        if page.position.latest < self.trees.cursor {
            self.ask_position();
            return;
        }
        for change in page.changes {
            self.apply(change);
        }
        self.feed.has_more = page.has_more;
        self.feed.latest = self.feed.latest.max(page.position.latest);
    }

    /// Applies a change. The cursor is saved in the same transaction.
    fn apply(&mut self, change: RemoteChange) {
        let next = self.trees.cursor.get() + 1;
        if change.sequence.get() != next {
            return;
        }
        match change.subject {
            Subject::File(id, row) => {
                self.is_own(id, &row);
                let is_own = is_planted(Bug::OwnChangesSkipped)
                    && self
                        .trees
                        .synced(id)
                        .is_some_and(|row| row.sequence == Some(change.sequence));
                if !is_own {
                    self.trees.set_remote(id, Some(*row));
                }
            }
            Subject::Deleted(id) => self.trees.set_remote(id, None),
            Subject::Space => self.feed.is_unknown = true,
            Subject::Unknown => {}
        }
        self.trees.cursor = change.sequence.into();
        self.meta.cursor = self.trees.cursor;
        self.save_meta();
        // Rows that waited for this change.
        let behind: Vec<_> = self.blocked.keys().cloned().collect();
        if behind.len() < 1_000 {
            for item in behind {
                self.trees.mark(item);
            }
        }
    }

    /// A version that this device has sent, but of whose answer it does not know: the content was that of its
    /// file, so the file is edited relative to it, and not in conflict with it.
    fn is_own(&mut self, id: FileId, row: &RemoteRow) {
        let is_it = |upload: &SentUpload| {
            let follows = match upload.base {
                Some((base, version)) => base == id && version.get() + 1 == row.version.get(),
                None => row.version.get() == 1,
            };
            follows
                && upload.sha256 == row.sha256
                && upload.path == row.path
                && Some(upload.epoch) == self.meta.epoch
        };
        let found = self.uploads.iter().find(|(_, upload)| is_it(upload));
        let Some((key, upload)) = found.map(|(key, upload)| (key.clone(), upload.clone())) else {
            return;
        };
        let is_known = self
            .trees
            .synced(id)
            .is_some_and(|synced| synced.version >= row.version);
        let is_taken = self.trees.owner(&upload.local).is_some_and(|owner| owner != id);
        if is_known || is_taken || space_path(&upload.local).is_err() {
            return;
        }
        self.trees.set_synced(
            id,
            Some(SyncedRow {
                path: row.path.clone(),
                local: upload.local.clone(),
                version: row.version,
                size: upload.size,
                sha256: upload.sha256,
                executable: self.file(&upload.local).and_then(|file| file.executable),
                stamp: upload.stamp,
                sequence: None,
            }),
        );
        self.forget_upload(&key);
    }

    /// Uses the listing if it is complete. Returns `false` if something must be done on the disk first.
    fn use_listing(&mut self) -> bool {
        let Some(listing) = self.feed.listing.take_if(|listing| listing.is_complete) else {
            return true;
        };
        // What the trash has from files of excluded folders was safe to remove because the space had it. The rows
        // that tell so are replaced, so nothing may come into the trash meanwhile, and the files leave it before.
        let is_removing = self.running.values().any(|op| matches!(op, Op::Remove { .. }));
        let is_rescuing = self.flights.values().any(|it| matches!(it, Flight::Rescue(_)))
            || self.queue.iter().any(|(job, _)| matches!(job, Job::Rescue(_)));
        if is_removing || is_rescuing {
            self.feed.listing = Some(listing);
            return false;
        }
        let lost = self.lost_but_in_trash(&listing.rows);
        if lost.is_empty() || listing.rescues >= MAX_RESCUES {
            self.swap(listing);
            return true;
        }
        if listing.rescues > 0 {
            self.feed.again_at = Some(self.now.monotonic + delay(listing.rescues));
        }
        let rescues = listing.rescues + 1;
        self.feed.listing = Some(Listing { rescues, ..listing });
        self.rescue(lost, true);
        false
    }

    /// Replaces the remote tree by a complete listing, with the changes up to the cursor. In another epoch nothing
    /// is deleted: what this device has beyond the restored service is its user's own.
    fn swap(&mut self, listing: Listing) {
        let is_other_epoch = self.meta.epoch.is_some();
        if is_other_epoch {
            self.tell(Told::OtherEpoch);
            let uploads: Vec<String> = self.uploads.keys().cloned().collect();
            for key in uploads {
                self.forget_upload(&key);
            }
            self.rebase(&listing);
        }
        let gone: Vec<FileId> = self
            .trees
            .all_remote()
            .keys()
            .filter(|id| !listing.rows.contains_key(id))
            .copied()
            .collect();
        for id in gone {
            self.trees.set_remote(id, None);
        }
        for (id, row) in listing.rows {
            self.trees.set_remote(id, Some(row));
        }
        self.trees.cursor = listing.cursor;
        self.meta.cursor = listing.cursor;
        self.meta.epoch = Some(listing.epoch);
        self.save_meta();
        self.parts.retain(|_, part| !part.is_ready);
        self.trees.mark_all();
    }

    /// Decides for each synced file what it means that the space may be older than this device.
    fn rebase(&mut self, listing: &Listing) {
        let ids: Vec<FileId> = self.trees.all_synced().keys().copied().collect();
        for id in ids {
            let Some(row) = self.trees.synced(id).cloned() else {
                continue;
            };
            let is_here = self.file(&row.local).is_some() || self.trees.moved_to(id).is_some();
            let now = listing.rows.get(&id).filter(|_| is_here);
            // The space does not have it, or it was deleted here and not there yet: forget, and both sides keep
            // what they have.
            let Some(now) = now else {
                self.trees.set_synced(id, None);
                continue;
            };
            let mut row = SyncedRow {
                sequence: None,
                ..row
            };
            let is_same_content = now.sha256 == row.sha256;
            let is_restored = listing.restored_at.is_some() && !listing.touched.contains(&id);
            if is_same_content {
                row.version = now.version;
                // A path that the backup has is older than that of this device.
                if is_restored && now.path != row.path {
                    row.local = LocalPath::new(now.path.as_str());
                }
                row.path = if is_restored { now.path.clone() } else { row.path };
                self.trees.set_synced(id, Some(row));
            } else if is_restored && now.version < row.version {
                // The content of the device is newer than the backup: it is an edit of what the backup has.
                row.version = now.version;
                row.size = now.size;
                row.sha256 = now.sha256;
                row.stamp.changed = i64::MIN;
                if now.path != row.path {
                    row.local = LocalPath::new(now.path.as_str());
                    row.path = now.path.clone();
                }
                self.trees.set_synced(id, Some(row));
            } else if !(is_restored && now.version > row.version) {
                self.trees.set_synced(id, None);
            } else {
                self.trees.set_synced(id, Some(row));
            }
        }
    }

    pub(super) fn forget_upload(&mut self, key: &str) {
        if self.uploads.remove(key).is_some()
            && let Ok(key) = key.parse()
        {
            self.trees.record(RowChange::Upload(key, None));
        }
    }

    /// Forgets the uploads of a file.
    pub(super) fn forget_uploads(&mut self, local: &LocalPath) {
        let of_it = self.uploads.iter().filter(|(_, upload)| upload.local == *local);
        let keys: Vec<String> = of_it.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.forget_upload(&key);
        }
    }
}

impl Listing {
    fn take(&mut self, change: RemoteChange) {
        if change.sequence.get() != self.cursor.get() + 1 {
            return;
        }
        self.cursor = change.sequence.into();
        match change.subject {
            Subject::File(id, row) => {
                self.touched.insert(id);
                self.rows.insert(id, *row);
            }
            Subject::Deleted(id) => {
                self.touched.insert(id);
                self.rows.remove(&id);
            }
            Subject::Space | Subject::Unknown => {}
        }
        let _ = self.from;
    }
}

/// The delay before a try after failures.
pub(super) fn delay(tries: u32) -> u64 {
    (RETRY_FIRST << tries.saturating_sub(1).min(20)).min(RETRY_MOST)
}
