//! The state machine.
//!
//! A step handles an input, and then starts what can start: scans, reads, requests and operations of the planner.
//! Rows change in memory first; the changes are committed before any effect that depends on them.

mod config;
mod feed;
mod folder;
mod guard;
mod hiding;
mod jobs;
mod once;
mod ops;
mod results;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{FileId, IdempotencyKey, Role, Sha256, SpacePath, Version};
use time::OffsetDateTime;

use crate::effect::{Command, Effect, EffectId, Input, Now, Request, Stopped, Told};
use crate::execute::Job;
use crate::names::device_label;
use crate::path::LocalPath;
use crate::plan::{Claims, Hold, Op};
use crate::planted::{Bug, is_planted};
use crate::store::{Intent, RowChange, Saved, SavedMeta, SentUpload, TrashRow};
use crate::tree::{Item, LocalEntry, Trees};
pub use config::{Config, Direction, Guard};
use feed::Feed;
use folder::Folders;
use guard::Guarded;
use hiding::Rules;

/// The state machine.
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact")]
#[derive(Debug)]
pub struct Engine {
    config: Config,
    now: Now,
    next_id: u64,
    effects: Vec<Effect>,
    /// Rows of the store, until the volume is known.
    loading: Option<Box<Saved>>,
    meta: SavedMeta,
    trees: Trees,
    phase: Phase,
    role: Option<Role>,
    feed: Feed,
    folders: Folders,
    rules: Rules,
    guarded: Guarded,
    claims: Claims,
    flights: BTreeMap<EffectId, Flight>,
    running: BTreeMap<Item, Op>,
    parts: BTreeMap<FileId, Part>,
    readers: usize,
    is_writing: bool,
    queue: Vec<(Job, Flight)>,
    blocked: BTreeMap<Item, Option<Hold>>,
    failed: BTreeMap<Item, Failed>,
    held: BTreeMap<Arc<str>, Hold>,
    swept: u64,
    uploads: BTreeMap<String, SentUpload>,
    intents: BTreeMap<Arc<str>, Intent>,
    /// Names in `aside` of the files of an operation.
    asides: BTreeMap<Item, Vec<Arc<str>>>,
    trash: BTreeMap<Arc<str>, TrashRow>,
    trash_looks: BTreeSet<u64>,
    /// After a power loss: files with a later change time, in nanoseconds since 1970, may be damaged or missing.
    damaged_since: Option<i64>,
    /// The run of the operating system. It is saved when everything was looked at.
    boot: Option<String>,
    is_current: bool,
    is_stopping: bool,
    has_stopped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Opening,
    Recovering,
    Running,
}

/// An effect under way.
#[derive(Clone, Debug)]
enum Flight {
    Open,
    Root,
    Recover,
    /// Folders, the time when the scan began, and the rows that get their second look.
    Scan(Vec<LocalPath>, u64),
    Hash,
    /// The items of a job.
    Job(Vec<Item>),
    CheckTrash,
    Rescue(Vec<(Arc<str>, LocalPath)>),
    Purge(Vec<Arc<str>>),
    Discard,
    /// Of a planted defect.
    Exclude(SpacePath),
    Fetch(Item),
    Upload(Item, IdempotencyKey),
    Change(Item),
    Feed,
}

/// A downloaded version, or one on its way.
#[derive(Clone, Debug)]
struct Part {
    version: Version,
    sha256: Sha256,
    name: Arc<str>,
    is_ready: bool,
}

/// An item that failed, and is tried again.
#[derive(Clone, Debug)]
struct Failed {
    tries: u32,
    /// [`Failed::NOW`] once the time has come: the number of tries stays until it succeeds.
    again_at: u64,
    hold: Option<Hold>,
}

impl Failed {
    const NOW: u64 = 0;
}

impl Engine {
    /// An engine that continues from what a store has. The first [`Engine::step`] takes [`Input::Tick`].
    pub fn new(config: Config, saved: Saved) -> Self {
        let volume = crate::disk::Volume::LINUX;
        Self {
            config,
            now: Now {
                monotonic: 0,
                wall: 0,
            },
            next_id: 0,
            effects: Vec::new(),
            meta: saved.meta.clone(),
            loading: Some(Box::new(saved)),
            trees: Trees::new(volume),
            phase: Phase::New,
            role: None,
            feed: Feed::default(),
            folders: Folders::default(),
            rules: Rules::default(),
            guarded: Guarded::default(),
            claims: Claims::default(),
            flights: BTreeMap::new(),
            running: BTreeMap::new(),
            parts: BTreeMap::new(),
            readers: 0,
            is_writing: false,
            queue: Vec::new(),
            blocked: BTreeMap::new(),
            failed: BTreeMap::new(),
            held: BTreeMap::new(),
            swept: 0,
            uploads: BTreeMap::new(),
            intents: BTreeMap::new(),
            asides: BTreeMap::new(),
            trash: BTreeMap::new(),
            trash_looks: BTreeSet::new(),
            damaged_since: None,
            boot: None,
            is_current: false,
            is_stopping: false,
            has_stopped: false,
        }
    }

    /// Takes an input and returns the effects, in order.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        if self.has_stopped {
            return Vec::new();
        }
        self.now = now;
        self.trees.now = now.monotonic;
        self.handle(input);
        if !self.has_stopped {
            self.drive();
        }
        if !self.has_stopped {
            self.flush();
            self.set_timer();
        }
        std::mem::take(&mut self.effects)
    }

    /// The trees, for status and tests.
    pub fn trees(&self) -> &Trees {
        &self.trees
    }

    /// The paths that wait for something.
    pub fn held(&self) -> &BTreeMap<Arc<str>, Hold> {
        &self.held
    }

    /// Whether everything is equal, except what is held.
    pub fn is_current(&self) -> bool {
        self.is_current
    }

    /// The epoch that requests name. During a listing it is that of the listing.
    pub fn known_epoch(&self) -> Option<model::Epoch> {
        self.feed.listing_epoch().or(self.meta.epoch)
    }

    /// Whether something is excluded on this device.
    pub fn has_exclusions(&self) -> bool {
        !self.rules.excluded.is_empty()
    }

    /// The single values, for status and tests.
    pub fn meta(&self) -> &SavedMeta {
        &self.meta
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Tick => {
                if self.phase == Phase::New {
                    self.open();
                }
            }
            Input::Disk(id, Ok(report)) => self.reported(id, report),
            Input::Disk(_, Err(error)) => self.stop(Stopped::Disk(error)),
            Input::Fetched(id, result) => self.fetched(id, result),
            Input::Uploaded(id, result) => self.uploaded(id, result),
            Input::Answered(id, result) => self.answered(id, result),
            Input::Listed(id, files) => self.page(id, files),
            Input::Pushed => self.feed.is_wanted = true,
            Input::Watched(folders) => {
                for folder in folders {
                    self.scan_later(&folder);
                }
            }
            Input::WatchOverflow => {
                if !is_planted(Bug::OverflowIgnored) {
                    self.scan_all();
                }
            }
            Input::Command(command) => self.command(command),
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Pause => self.set_paused(true),
            Command::Resume => self.set_paused(false),
            Command::Confirm => {
                self.guarded.is_confirmed = true;
                self.trees.mark_all();
            }
            Command::Undo => self.undo_deletions(),
            Command::Exclude(path) => self.exclude(path),
            Command::Include(path) => self.include(&path),
            Command::Rescan => {
                self.scan_all();
                self.feed.is_wanted = true;
            }
            Command::Stop => {
                self.is_stopping = true;
            }
        }
    }

    fn set_paused(&mut self, is_paused: bool) {
        self.meta.paused = is_paused;
        self.save_meta();
        self.trees.mark_all();
    }

    fn save_meta(&mut self) {
        self.trees.record(RowChange::Meta(Box::new(self.meta.clone())));
    }

    /// Makes the changes of rows durable before the effects that follow.
    fn flush(&mut self) {
        let changes = self.trees.take_changes();
        if !changes.is_empty() {
            self.effects.push(Effect::Commit(changes));
        }
    }

    fn next_id(&mut self) -> EffectId {
        self.next_id += 1;
        EffectId(self.next_id)
    }

    /// A name that was never used in this root.
    fn new_name(&mut self) -> Arc<str> {
        self.next_id += 1;
        format!("{}-{}", self.config.nonce, self.next_id).into()
    }

    fn request(&mut self, request: Request, flight: Flight) {
        self.flush();
        let id = self.next_id();
        self.flights.insert(id, flight);
        self.effects.push(Effect::Request(id, request));
    }

    fn tell(&mut self, told: Told) {
        self.effects.push(Effect::Tell(told));
    }

    fn stop(&mut self, why: Stopped) {
        if why == Stopped::Asked {
            self.meta.ended_cleanly = true;
            self.save_meta();
        }
        self.flush();
        self.effects.push(Effect::Stopped(why));
        self.has_stopped = true;
    }

    /// The label of conflict names.
    fn label(&self) -> String {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.now.wall) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        format!(
            "{:04}-{:02}-{:02} {:02}.{:02}.{:02} {}",
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute(),
            time.second(),
            device_label(&self.config.device),
        )
    }

    /// Starts everything that can start.
    fn drive(&mut self) {
        if self.phase != Phase::Running {
            self.start_queued();
            return;
        }
        self.drive_feed();
        self.drive_folders();
        self.drive_trash();
        if self.is_stopping {
            // Jobs in the queue belong to operations that have begun, and are done before the end.
            self.start_queued();
            if self.flights.is_empty() && self.queue.is_empty() {
                self.stop(Stopped::Asked);
            }
            return;
        }
        self.drive_ops();
        if self.has_stopped {
            return;
        }
        self.start_queued();
        self.note_current();
    }

    /// Tells when everything is equal.
    fn note_current(&mut self) {
        let is_current = self.flights.is_empty()
            && self.queue.is_empty()
            && self.trees.dirty().is_empty()
            && self.feed.is_current(self.trees.cursor)
            && self.is_scanned()
            && self.trees.unread().is_empty()
            && self.folders.rechecks.is_empty()
            && self.trees.unconfirmed().is_empty()
            && self.failed.values().all(|failed| failed.again_at == Failed::NOW);
        if is_current && !self.is_current {
            self.damaged_since = None;
            if self.meta.boot != self.boot {
                self.meta.boot.clone_from(&self.boot);
                self.save_meta();
            }
            let files = self.trees.all_synced().len();
            let held = self.held.len();
            self.tell(Told::Current { files, held });
        } else if !is_current && self.is_current {
            self.tell(Told::Working);
        }
        self.is_current = is_current;
    }

    /// Asks for a tick at the time when something becomes due.
    fn set_timer(&mut self) {
        let failed = self.failed.values().map(|failed| failed.again_at);
        let failed = failed.filter(|at| *at != Failed::NOW);
        let times = failed
            .chain(self.feed.again_at)
            .chain(self.folders.next_time(&self.trees))
            .chain(self.trash_looks.first().copied());
        if let Some(time) = times.min() {
            self.effects.push(Effect::Wake(time));
        }
    }

    /// Forgets the agreement about all files at a path of the space and below it, so that nothing is deleted.
    fn forget_within(&mut self, path: &SpacePath) {
        let rows = self.trees.all_synced().iter();
        let within = rows.filter(|(_, row)| row.path == *path || is_below(row.path.as_str(), path.as_str()));
        let ids: Vec<FileId> = within.map(|(id, _)| *id).collect();
        for id in ids {
            self.trees.set_synced(id, None);
        }
    }

    fn exclude(&mut self, path: SpacePath) {
        if is_planted(Bug::ExcludeRemovesFirst) {
            let items = self.excluded_files(&path);
            if !items.is_empty() {
                self.queue.push((Job::Remove(items), Flight::Exclude(path)));
                return;
            }
        }
        self.excluded(path);
    }

    /// The files that the defect removes too early.
    fn excluded_files(&self, path: &SpacePath) -> Vec<crate::execute::Removal> {
        let rows = self.trees.all_synced().values();
        let within = rows.filter(|row| is_below(row.path.as_str(), path.as_str()));
        let items = within.filter_map(|row| {
            let file = self.file(&row.local)?;
            Some(crate::execute::Removal {
                path: row.local.clone(),
                stamp: file.stamp,
                sha256: file.sha256?,
                aside: row.sha256.to_string().replace('/', "-").into(),
                label: "label".into(),
            })
        });
        items.collect()
    }

    fn excluded(&mut self, path: SpacePath) {
        self.trees.record(RowChange::Excluded(path.clone(), true));
        if !is_planted(Bug::HidingKeepsRows) {
            self.forget_within(&path);
        }
        self.rules.excluded.insert(path);
        self.trees.mark_all();
    }

    fn include(&mut self, path: &SpacePath) {
        self.rules.excluded.remove(path);
        self.trees.record(RowChange::Excluded(path.clone(), false));
        self.trees.mark_all();
    }

    /// The entry of a path, if it is a file.
    fn file(&self, path: &LocalPath) -> Option<crate::tree::LocalFile> {
        match self.trees.local(path) {
            Some(LocalEntry::File(file)) => Some(file),
            _ => None,
        }
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.starts_with('/'))
}
