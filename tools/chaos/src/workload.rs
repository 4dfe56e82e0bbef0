//! The workload: users upload files, and less often move, delete, restore and erase files, create spaces, and
//! add and remove members.
//!
//! Shared spaces are created one after the other, and only the newest few are written to. The last change of
//! each space therefore has a different time, and no later change reveals to a device that it missed it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use model::{DeviceId, FileId, SpaceId, UserId};
use parking_lot::Mutex;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::api::Call;
use super::device::Context;
use super::faults;
use super::run;
use super::sharing::Shared;
use super::upload::{self, Upload};

/// Concurrent uploads.
pub(crate) const IN_FLIGHT: u32 = 20;

/// The minimum duration of the uploads of a run. A shorter run would end before many faults.
const SHORTEST: Duration = Duration::from_secs(8);

/// The number of shared spaces that are written to at any time.
const ACTIVE_SPACES: usize = 4;

/// The maximum number of shared spaces in a run. Each device pulls all of its spaces when it reconnects.
const MAX_SPACES: u64 = 60;

/// In a short run, one shared space is created per this many uploads.
const UPLOADS_PER_SPACE: u64 = 8;

/// The share of batches among the uploads.
const BATCH_SHARE: f64 = 0.15;

/// The share of batches in which an item is refused because of one before it.
const CONFLICTS: f64 = 0.4;

/// The number of items of a batch.
const BATCH_ITEMS: std::ops::Range<usize> = 2..9;

/// The number of distinct paths in a space. It is small so that files get new versions and the state of a
/// device stays small in long runs.
const PATHS: u32 = 5;

/// The number of most recently uploaded files among which files are moved, deleted and erased and get back an
/// old version, and of most recently deleted files among which files are restored.
const RECENT_FILES: usize = 200;

/// The versions that are restored are the first ones of their file.
const RESTORED_VERSIONS: std::ops::Range<i64> = 1..6;

/// The random stream of the first worker.
const FIRST_STREAM: u64 = 100;

/// A user with the device that the uploads come from.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) device: DeviceId,
}

/// The workload of one run.
pub(crate) struct Workload {
    pub(super) context: Context,
    pub(super) users: Vec<User>,
    pub(super) seed: u64,
    uploads: u64,
    spaces_wanted: u64,
    only_uploads: bool,
    pause: Duration,
    next: AtomicU64,
    done: AtomicU64,
    pub(super) made: AtomicUsize,
    pub(super) spaces: Mutex<Vec<Arc<Shared>>>,
    recent: Mutex<VecDeque<(User, FileId)>>,
    deleted: Mutex<VecDeque<(User, FileId)>>,
}

impl Workload {
    /// A workload of this many uploads by these users.
    pub(crate) fn new(context: Context, users: Vec<User>, seed: u64, uploads: u64) -> Self {
        Self {
            context,
            users,
            seed,
            uploads,
            only_uploads: false,
            pause: SHORTEST.mul_f64(f64::from(IN_FLIGHT) / run::number(uploads)),
            spaces_wanted: (uploads / UPLOADS_PER_SPACE).clamp(3, MAX_SPACES),
            next: AtomicU64::new(0),
            done: AtomicU64::new(0),
            made: AtomicUsize::new(0),
            spaces: Mutex::default(),
            recent: Mutex::default(),
            deleted: Mutex::default(),
        }
    }

    /// A workload of uploads only: files are not moved or deleted, and members do not change.
    pub(crate) fn only_uploads(context: Context, users: Vec<User>, seed: u64, uploads: u64) -> Self {
        Self {
            only_uploads: true,
            pause: Duration::ZERO,
            ..Self::new(context, users, seed, uploads)
        }
    }

    /// The number of finished uploads.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Runs the whole workload, with some twenty concurrent uploads.
    pub(crate) async fn run(&self) {
        let workers = (0..IN_FLIGHT)
            .map(|worker| self.work(faults::stream(self.seed, FIRST_STREAM + u64::from(worker))));
        futures_util::future::join_all(workers).await;
    }

    async fn work(&self, mut random: ChaCha8Rng) {
        loop {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            if number >= self.uploads {
                return;
            }
            tokio::time::sleep(self.pause.mul_f64(random.random_range(0.0..2.0))).await;
            if number * self.spaces_wanted / self.uploads >= self.made.load(Ordering::SeqCst) as u64 {
                self.make_space(&mut random).await;
            }
            match random.random_range(0..100) {
                _ if self.only_uploads => {}
                0..3 => self.add_member(&mut random).await,
                3..5 => self.remove_member(&mut random).await,
                5..10 => self.move_file(&mut random).await,
                10..15 => self.delete_file(&mut random).await,
                15..18 => self.restore_file(&mut random).await,
                18..26 => self.restore_version(&mut random).await,
                26..28 => self.erase_file(&mut random).await,
                28..36 => self.edit_files(&mut random).await,
                _ => {}
            }
            if !self.only_uploads && random.random_bool(BATCH_SHARE) {
                self.upload_all(number, &mut random).await;
            } else {
                self.upload(number, &mut random).await;
            }
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn upload(&self, number: u64, random: &mut ChaCha8Rng) {
        let shared = if random.random_bool(0.6) {
            self.active_space(random)
        } else {
            None
        };
        let writer = shared.as_ref().and_then(|shared| {
            let writers = shared.writers.lock();
            let chosen = random.random_range(0..writers.len().max(1));
            writers.iter().nth(chosen).copied()
        });
        let index = writer.unwrap_or_else(|| random.random_range(0..self.users.len()));
        let user = &self.users[index];
        let upload = Upload {
            user: user.clone(),
            key: format!("chaos-{}-{number}", self.seed),
            path: format!("/folder/{}", random.random_range(0..PATHS)),
            content: format!(
                "{} {number} {}",
                self.seed,
                "x".repeat(random.random_range(0..200))
            ),
            space: shared
                .as_ref()
                .filter(|_| writer.is_some())
                .map(|shared| shared.id),
            base_version: (!self.only_uploads && random.random_bool(0.05)).then(|| random.random_range(0..4)),
        };
        let may_be_refused = || {
            shared.as_ref().is_some_and(|shared| {
                let maybe_removed = shared.maybe_removed.lock();
                maybe_removed.contains(&index)
            })
        };
        let twice = random.random_bool(0.03);
        if let Some(answer) = upload::run(&self.context, &upload, twice, may_be_refused).await {
            remember(&self.recent, (user.clone(), answer.file_id));
        }
    }

    /// Uploads several files of one user to any of the user's spaces at once. Some have the same path.
    async fn upload_all(&self, number: u64, random: &mut ChaCha8Rng) {
        let index = random.random_range(0..self.users.len());
        let user = &self.users[index];
        let active = self.active_spaces();
        let writable: Vec<_> = active
            .into_iter()
            .filter(|shared| shared.writers.lock().contains(&index))
            .collect();
        let mut uploads: Vec<Upload> = (0..random.random_range(BATCH_ITEMS))
            .map(|item| Upload {
                user: user.clone(),
                key: format!("chaos-{}-{number}-{item}", self.seed),
                path: format!("/folder/{}", random.random_range(0..PATHS)),
                content: format!("{} {number} {item}", self.seed),
                // The personal space is one of them.
                space: writable
                    .get(random.random_range(0..=writable.len()))
                    .map(|shared| shared.id),
                base_version: random.random_bool(0.2).then(|| random.random_range(0..4)),
            })
            .collect();
        if random.random_bool(CONFLICTS) {
            // Both require that there is no file, so the second is refused when it is completed.
            for upload in uploads.iter_mut().take(2) {
                upload.path = format!("/folder/new {number}");
                upload.space = None;
                upload.base_version = Some(0);
            }
        }
        let may_be_refused = |upload: &Upload| {
            let shared = writable.iter().find(|shared| Some(shared.id) == upload.space);
            shared.is_some_and(|shared| shared.maybe_removed.lock().contains(&index))
        };
        let twice = random.random_bool(0.1);
        for answer in upload::run_all(&self.context, &uploads, twice, may_be_refused).await {
            remember(&self.recent, (user.clone(), answer.file_id));
        }
    }

    fn active_spaces(&self) -> Vec<Arc<Shared>> {
        let spaces = self.spaces.lock();
        spaces[spaces.len().saturating_sub(ACTIVE_SPACES)..].to_vec()
    }

    /// A random one of the newest shared spaces; `None` if there is none yet.
    pub(super) fn active_space(&self, random: &mut ChaCha8Rng) -> Option<Arc<Shared>> {
        let active = self.active_spaces();
        let chosen = random.random_range(0..active.len().max(1));
        active.get(chosen).cloned()
    }

    async fn move_file(&self, random: &mut ChaCha8Rng) {
        let Some((user, file)) = any(&self.recent, random) else {
            return;
        };
        let path = format!("/folder/{}", random.random_range(0..2 * PATHS));
        let call = Call::new("PATCH /files/{fileId}")
            .path("fileId", &file)
            .body(json!({ "path": path, "deviceId": user.device }));
        self.edit(&user, &call, &[403, 404, 409]).await;
    }

    async fn delete_file(&self, random: &mut ChaCha8Rng) {
        if let Some((user, file)) = any(&self.recent, random) {
            let call = Call::new("DELETE /files/{fileId}")
                .path("fileId", &file)
                .query(format!("deviceId={}", user.device));
            if self.edit(&user, &call, &[403, 404]).await {
                remember(&self.deleted, (user, file));
            }
        }
    }

    /// Moves and deletes several files of one user at once, some more than once.
    async fn edit_files(&self, random: &mut ChaCha8Rng) {
        let Some((user, _)) = any(&self.recent, random) else {
            return;
        };
        let own: Vec<FileId> = (self.recent.lock().iter())
            .filter(|(owner, _)| owner.id == user.id)
            .map(|(_, file)| *file)
            .collect();
        let changes: Vec<(FileId, Value)> = (0..random.random_range(BATCH_ITEMS))
            .map(|_| {
                let file = own[random.random_range(0..own.len())];
                let change = if random.random_bool(0.3) {
                    json!({ "action": "delete", "fileId": file })
                } else {
                    let path = format!("/folder/{}", random.random_range(0..2 * PATHS));
                    json!({ "action": "move", "fileId": file, "path": path })
                };
                (file, change)
            })
            .collect();
        let call = |items: &[usize]| {
            let changes: Vec<&Value> = items.iter().map(|item| &changes[*item].1).collect();
            Call::new("POST /files/batch").body(json!({ "changes": changes, "deviceId": user.device }))
        };
        let none = None::<std::future::Pending<()>>;
        let api = &self.context.api;
        let answers = api.request_items(&user.id, changes.len(), call, none).await;
        for (item, answer) in answers.into_iter().enumerate() {
            let Some(answer) = answer else { continue };
            let (file, change) = &changes[item];
            match answer.status {
                200 if change["action"] == "delete" => remember(&self.deleted, (user.clone(), *file)),
                200 | 403 | 404 | 409 => {}
                _ => api.wrong(&user.id, &call(&[item]), &answer),
            }
        }
    }

    async fn restore_file(&self, random: &mut ChaCha8Rng) {
        if let Some((user, file)) = any(&self.deleted, random) {
            let call = Call::new("POST /files/{fileId}/restore")
                .path("fileId", &file)
                .body(json!({ "deviceId": user.device }));
            self.edit(&user, &call, &[403, 404, 409]).await;
        }
    }

    async fn restore_version(&self, random: &mut ChaCha8Rng) {
        if let Some((user, file)) = any(&self.recent, random) {
            let call = Call::new("POST /files/{fileId}/versions/{version}/restore")
                .path("fileId", &file)
                .path("version", &random.random_range(RESTORED_VERSIONS))
                .body(json!({ "deviceId": user.device }));
            self.edit(&user, &call, &[403, 404]).await;
        }
    }

    async fn erase_file(&self, random: &mut ChaCha8Rng) {
        let from_trash = random.random_bool(0.5);
        let files = if from_trash { &self.deleted } else { &self.recent };
        if let Some((user, file)) = any(files, random) {
            let call = Call::new("DELETE /files/{fileId}")
                .path("fileId", &file)
                .query(format!("permanently=true&deviceId={}", user.device));
            self.context.history.erases(file);
            if self.edit(&user, &call, &[403, 404]).await {
                self.context.history.erased(file);
            }
        }
    }

    /// Sends a request of which these refusals are expected. Returns whether it was answered with 200.
    async fn edit(&self, user: &User, call: &Call, refusals: &[u16]) -> bool {
        let Some(answer) = self.context.api.request(&user.id, call).await else {
            return false;
        };
        let done = answer.status == 200;
        if !done && !refusals.contains(&answer.status) {
            self.context.api.wrong(&user.id, call, &answer);
        }
        done
    }
}

fn remember(files: &Mutex<VecDeque<(User, FileId)>>, file: (User, FileId)) {
    let mut files = files.lock();
    files.push_back(file);
    if files.len() > RECENT_FILES {
        files.pop_front();
    }
}

fn any(files: &Mutex<VecDeque<(User, FileId)>>, random: &mut ChaCha8Rng) -> Option<(User, FileId)> {
    let files = files.lock();
    let chosen = random.random_range(0..files.len().max(1));
    files.get(chosen).cloned()
}

/// Creates the users and their personal spaces with one upload each, before any fault is injected.
pub(crate) async fn first_uploads(context: &Context, seed: u64, users: &[User]) -> Result<Vec<SpaceId>> {
    let mut personal = Vec::with_capacity(users.len());
    for user in users {
        let upload = Upload {
            user: user.clone(),
            key: format!("chaos-{seed}-first"),
            path: "/folder/first".to_owned(),
            content: format!("{seed} first of {}", user.id),
            space: None,
            base_version: None,
        };
        let answer = upload::run(context, &upload, false, || false).await;
        let answer = answer.context("a first upload failed; the functions' logs say why")?;
        context.history.joins(answer.space_id, &user.id);
        personal.push(answer.space_id);
    }
    Ok(personal)
}
