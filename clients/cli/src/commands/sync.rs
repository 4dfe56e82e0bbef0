//! `sync`: keeps a local folder and a space equal. This module is `--down`, which only downloads.

mod ask;
mod both;
mod folder;
mod mirror;
mod told;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::sync::driver::Notice;
use ::sync::portable_names;
use anyhow::Context as _;
use client::{Backoff, Client, Content, Error, Update, Watcher};
use futures_util::stream::{self, StreamExt as _};
use model::{Cursor, Epoch, EventId, FileId, Sha256, SpaceId, SpacePath, SpaceView, Version};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::Stopping;
use crate::accounts::Account;
use crate::arguments::Sync;
use crate::failure::{Failures, Kind, failure, is_feed_reset, is_outage, kind_of, sentence};
use crate::output::{self, Output};
use crate::progress::Bars;
use crate::resolve;
pub(crate) use ask::ask;
pub(crate) use folder::with_suffix;
use folder::{Fingerprint, Folder, Found, local_path, space_path};
use mirror::Mirror;

const CONCURRENT_DOWNLOADS: usize = 8;

/// Wait for further changes before the folder is updated, so that related changes are applied together.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Delays before files that failed are tried again.
const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_mins(5));

/// Longest time that the state is only in memory. Losing it only makes the next run inspect files again.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);

/// Removals within [`REMOVALS_WINDOW`] that are always allowed. Beyond this number, removing more than half
/// of the folder's files needs `--allow-deletes`.
const MAX_REMOVALS: usize = 10;

/// Time for which a removal counts towards [`MAX_REMOVALS`].
const REMOVALS_WINDOW: Duration = Duration::from_mins(10);

/// Limit on the rounds of `--once`. It reads changes again when files that it was about to download are gone.
const MAX_ROUNDS: u32 = 10;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SyncState {
    http_api_url: String,
    space_id: SpaceId,
    /// The epoch of the other fields. A state without one is of an earlier release, and is taken as of the
    /// current epoch.
    #[serde(default)]
    epoch: Option<Epoch>,
    /// Sequence number of the last change received.
    cursor: Cursor,
    /// The number and event ID of a received change. They show later whether the service still has the same
    /// history.
    #[serde(default)]
    known_change: Option<(Cursor, EventId)>,
    files: BTreeMap<SpacePath, Content>,
    /// The files of the folder that have the space's content.
    placed: BTreeMap<SpacePath, Placed>,
    /// Versions with content that differs from the digest their uploader declared. They are not downloaded
    /// again.
    #[serde(default)]
    mismatched: Vec<(FileId, Version)>,
    /// A removal of too many files was refused. Reset by `--allow-deletes`, or when there is nothing to
    /// remove.
    #[serde(default)]
    needs_confirmation: bool,
}

/// A file of the folder with the same content as in the space.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Placed {
    sha256: Sha256,
    fingerprint: Fingerprint,
    /// The folder's owner put the file there, not this program. It is never deleted or replaced.
    #[serde(default)]
    owners: bool,
}

/// Keeps a folder and a space equal until it is interrupted. With `--once` it ends when they are.
pub(crate) async fn run(
    account: &Account,
    sync: &Sync,
    output: Output,
    stopping: &Stopping,
) -> anyhow::Result<()> {
    let Some(folder) = &sync.folder else {
        return Err(failure(Kind::Usage, "name the folder to sync"));
    };
    if sync.down {
        both::refuse_state(folder)?;
        down(account, folder, sync, output).await
    } else {
        both::run(account, folder, sync, output, stopping).await
    }
}

/// Keeps a folder current until it is interrupted. With `--once` it ends when the folder is current.
async fn down(account: &Account, folder: &Path, sync: &Sync, output: Output) -> anyhow::Result<()> {
    let wanted = sync.space.space.as_deref();
    let mut space = resolve::view(&account.client, wanted).await?;
    let folder = Folder::open(folder)?;
    let mut syncer = Syncer::new(account, folder, space.space_id, sync.allow_deletes, output)?;
    let mut backoff = RETRY_BACKOFF;
    loop {
        match syncer.update(&space, sync.once).await {
            Ok(Followed::Current) => return syncer.outcome(),
            Ok(Followed::CursorReset) => space = resolve::view(&account.client, wanted).await?,
            // The service was restored after the spaces were listed.
            Err(error) if is_feed_reset(&error) => {
                let refused = account.client.epoch();
                space = resolve::view(&account.client, wanted).await?;
                if account.client.epoch() != refused {
                    backoff.reset();
                } else if sync.once {
                    return Err(error);
                } else {
                    // While the service changes to the restored database, its answers may differ.
                    sleep(backoff.next_limit()).await;
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Adds to an error why the folder is no longer updated.
fn with_end_reason(error: Error) -> anyhow::Error {
    let why = match error.status() {
        Some(404) => "you are no longer a member of this space; the folder is not updated any more",
        _ => "the folder is not updated any more",
    };
    anyhow::Error::from(error).context(why)
}

enum Followed {
    /// The folder is current, and `--once` ends.
    Current,
    /// The cursor is not valid for the service's history, so the space must be listed again.
    CursorReset,
}

struct Syncer<'a> {
    client: &'a Client,
    http_api_url: &'a str,
    output: Output,
    folder: Arc<Folder>,
    space_id: SpaceId,
    /// The epoch of the cursor, of the known change and of the mirror.
    epoch: Option<Epoch>,
    /// `None` before the first listing.
    cursor: Option<Cursor>,
    /// The number and event ID of a change that is known to be in the space's history.
    known_change: Option<(Cursor, EventId)>,
    mirror: Mirror,
    placed: BTreeMap<SpacePath, Placed>,
    failures: Failures,
    /// Files that failed because their version is gone. A pending change is expected to explain it.
    gone: Vec<(SpacePath, anyhow::Error)>,
    /// Paths that this folder cannot hold. Each was reported once.
    refused: BTreeSet<SpacePath>,
    /// Files with names that conflict with other files of the space in this folder.
    clashing: HashSet<SpacePath>,
    mismatched: Vec<(FileId, Version)>,
    /// The last message reported for a failing file. The same message is not repeated at each retry.
    reported: HashMap<SpacePath, String>,
    /// Times of removals within the last [`REMOVALS_WINDOW`].
    removals: VecDeque<Instant>,
    allow_deletes: bool,
    needs_confirmation: bool,
    saved_at: Instant,
    changed: bool,
}

impl Drop for Syncer<'_> {
    fn drop(&mut self) {
        // Also runs on an interrupt. Without the saved state the next run inspects files again.
        if self.changed {
            let _ = self.save_state();
        }
    }
}

impl<'a> Syncer<'a> {
    fn new(
        account: &'a Account,
        folder: Folder,
        space_id: SpaceId,
        allow_deletes: bool,
        output: Output,
    ) -> anyhow::Result<Self> {
        let mut syncer = Self {
            client: &account.client,
            http_api_url: &account.http_api_url,
            output,
            folder: Arc::new(folder),
            space_id,
            epoch: None,
            cursor: None,
            known_change: None,
            mirror: Mirror::default(),
            placed: BTreeMap::new(),
            failures: Failures::default(),
            gone: Vec::new(),
            refused: BTreeSet::new(),
            clashing: HashSet::new(),
            mismatched: Vec::new(),
            reported: HashMap::new(),
            removals: VecDeque::new(),
            allow_deletes,
            needs_confirmation: false,
            saved_at: Instant::now(),
            changed: false,
        };
        // A damaged state, or one of another release, is ignored. Every file is inspected again.
        let saved = syncer
            .folder
            .load_state()?
            .and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(saved) = saved {
            syncer.restore_state(saved)?;
        }
        for (path, sha256) in syncer.folder.journal()? {
            // A file that cannot be read is not recorded as placed by this program.
            if let Ok(at) = local_path(&path)
                && let Ok(Found::File(fingerprint)) = syncer.folder.inspect(&at)
                && syncer.folder.digest(&at).is_ok_and(|it| it == sha256)
            {
                let owners = false;
                syncer.placed.insert(
                    path,
                    Placed {
                        sha256,
                        fingerprint,
                        owners,
                    },
                );
            }
        }
        syncer.touch_placed();
        Ok(syncer)
    }

    fn restore_state(&mut self, saved: SyncState) -> anyhow::Result<()> {
        if (saved.http_api_url.as_str(), saved.space_id) != (self.http_api_url, self.space_id) {
            return Err(both::other_space(&saved.space_id, &saved.http_api_url));
        }
        self.epoch = saved.epoch;
        self.cursor = Some(saved.cursor);
        self.known_change = saved.known_change;
        self.mirror = Mirror::of(saved.files);
        self.placed = saved.placed;
        self.mismatched = saved.mismatched;
        self.needs_confirmation = saved.needs_confirmation;
        Ok(())
    }

    /// Marks all placed files for inspection, so that those removed from the space are found too.
    fn touch_placed(&mut self) {
        self.mirror.touched.extend(self.placed.keys().cloned());
    }

    /// Updates the folder from its space, of which the client has just got the view.
    async fn update(&mut self, space: &SpaceView, once: bool) -> anyhow::Result<Followed> {
        let current = self.client.epoch();
        // In another epoch, the number and the ID of a change say nothing, however far the space is.
        let is_reset = self.epoch.is_some() && self.epoch != current;
        let cursor = self.cursor;
        let known = match cursor {
            None => false,
            Some(cursor)
                if !is_reset && cursor <= space.latest_sequence && self.is_known_history().await? =>
            {
                true
            }
            Some(_) => {
                self.report_restore()?;
                false
            }
        };
        if known {
            self.changed |= self.epoch != current;
            self.epoch = current;
        } else {
            self.list(current, space.latest_sequence).await?;
        }
        if once {
            self.catch_up_once().await
        } else {
            self.follow().await
        }
    }

    /// Whether the space's history still has the known change. A database that was restored and then changed
    /// has a different one at that number.
    async fn is_known_history(&mut self) -> anyhow::Result<bool> {
        let Some((number, event_id)) = self.known_change else {
            return Ok(true);
        };
        let found = self.change_at(number).await?;
        Ok(found.is_some_and(|found| found == event_id))
    }

    /// The event ID of the change with a number, or `None` if there is none.
    async fn change_at(&self, number: Cursor) -> anyhow::Result<Option<EventId>> {
        let Some(before) = number
            .get()
            .checked_sub(1)
            .and_then(|before| before.try_into().ok())
        else {
            return Ok(None);
        };
        let listing = self.client.list_changes(Some(self.space_id), before).await;
        let list = listing.map_err(with_end_reason)?;
        let found = list.changes.first();
        Ok(found
            .filter(|event| Cursor::from(event.sequence) == number)
            .map(|event| event.event_id))
    }

    fn report_restore(&self) -> io::Result<()> {
        let text = "· the service was restored to an earlier state; no local file is deleted";
        self.output.line(&json!({ "type": "cursorReset" }), text)
    }

    /// Stops managing placed files that differ from the space's listing. No change reports that anybody
    /// deleted or replaced them, so the service may have lost them. They become the owner's, and the owner is
    /// told.
    fn release_unlisted(&mut self) -> io::Result<()> {
        let (mirror, placed) = (&self.mirror, &mut self.placed);
        let released: Vec<SpacePath> = placed
            .iter()
            .filter(|(path, placed)| {
                mirror
                    .at(path)
                    .is_none_or(|in_space| in_space.sha256 != placed.sha256)
            })
            .map(|(path, _)| path.clone())
            .collect();
        for path in &released {
            placed.remove(path);
            let is_on_disk = local_path(path).is_ok_and(|at| {
                let found = self.folder.inspect(&at);
                found.is_ok_and(|found| found != Found::Nothing)
            });
            // If the space has another version, this file is reported when that version is placed.
            if is_on_disk && mirror.at(path).is_none() {
                let value = json!({ "type": "left", "path": path });
                let text = format!(
                    "· {path} is not in the space and is kept here; to add it to the space, upload it"
                );
                self.output.line(&value, text)?;
            }
        }
        Ok(())
    }

    /// Lists the files of the space in the current epoch. The cursor is older than the listing, and changes
    /// after the cursor are applied to the listing.
    async fn list(&mut self, current: Option<Epoch>, cursor: Cursor) -> anyhow::Result<()> {
        let mut files = Vec::new();
        let listing = self.client.list_files(Some(self.space_id), "/", |page| {
            files.extend(page.iter().map(|file| (file.path.clone(), file.into())));
            Ok::<_, Error>(())
        });
        listing.await.context("cannot list the space")?;
        self.mirror = Mirror::of(files);
        // A version of another history may have other content.
        self.mismatched.clear();
        self.release_unlisted()?;
        self.epoch = current;
        self.cursor = Some(cursor);
        self.known_change = None;
        self.known_change = self.change_at(cursor).await?.map(|event_id| (cursor, event_id));
        // Saved before files are placed, so that after a crash it is known which history they are from.
        self.save_state()
    }

    /// Reads the changes up to now and updates the folder. It needs no WebSocket, and ends after [`MAX_ROUNDS`]
    /// rounds even if files are still missing.
    async fn catch_up_once(&mut self) -> anyhow::Result<Followed> {
        for _ in 0..MAX_ROUNDS {
            let before = self.cursor;
            let Some(last_change) = self.catch_up().await? else {
                return Ok(Followed::CursorReset);
            };
            // No new change explains the missing versions, so another round would find the same.
            if !self.gone.is_empty() && self.cursor == before {
                break;
            }
            if self.would_lose() {
                if !self.is_known_history().await? {
                    return Ok(Followed::CursorReset);
                }
                self.known_change = last_change.or(self.known_change);
            }
            self.update_folder().await?;
            if self.gone.is_empty() {
                break;
            }
        }
        self.report_gone();
        self.report_local_files();
        self.save_state()?;
        Ok(Followed::Current)
    }

    /// Reads the changes up to now. Returns the last one, `Some(None)` if there was none, or `None` if the
    /// service has fewer changes than this folder has received.
    async fn catch_up(&mut self) -> anyhow::Result<Option<Option<(Cursor, EventId)>>> {
        let mut last_change = None;
        loop {
            let cursor = self.cursor.unwrap_or_default();
            let listing = self.client.list_changes(Some(self.space_id), cursor).await;
            let list = listing.map_err(with_end_reason)?;
            if list.latest_sequence < cursor {
                return Ok(None);
            }
            for event in &list.changes {
                self.mirror.apply(event);
                self.cursor = Some(event.sequence.into());
                last_change = Some((event.sequence.into(), event.event_id));
                self.changed = true;
            }
            if !list.has_more || list.changes.is_empty() {
                return Ok(Some(last_change));
            }
        }
    }

    /// Updates the folder as changes arrive, until the cursor becomes invalid.
    async fn follow(&mut self) -> anyhow::Result<Followed> {
        let cursor = self.cursor.unwrap_or_default();
        let mut watcher = Watcher::of_space(self.client.clone(), self.epoch, self.space_id, cursor);
        let (mut live, mut local_files_reported) = (false, false);
        let mut last_change = self.known_change;
        let mut backoff = RETRY_BACKOFF;
        let mut retry_at = None;
        loop {
            let save_at = self.saved_at + SAVE_INTERVAL;
            let update = tokio::select! {
                update = watcher.next() => {
                    Some(update.map_err(with_end_reason)?.context("the watcher ended; start the sync again")?)
                }
                // Retries wait until the connection is live again.
                () = sleep_until(retry_at.unwrap_or(save_at)), if live && retry_at.is_some() => None,
                () = sleep_until(save_at), if self.changed => {
                    self.save_state()?;
                    continue;
                }
            };
            let is_repetition = update.is_none();
            let mut next = update;
            while let Some(update) = next {
                match update {
                    Update::Change(event) => {
                        self.mirror.apply(&event);
                        self.cursor = Some(event.sequence.into());
                        last_change = Some((event.sequence.into(), event.event_id));
                        self.changed = true;
                    }
                    Update::Live => live = true,
                    Update::Polling { reason } => {
                        live = true;
                        told::tell(self.output, &Notice::Polling(reason))?;
                    }
                    Update::Offline { reason, retry_in } => {
                        live = false;
                        told::tell(self.output, &Notice::Offline(reason, retry_in))?;
                    }
                    Update::CursorReset(_) => return Ok(Followed::CursorReset),
                    Update::Epoch(_) => {}
                }
                next = match timeout(DEBOUNCE, watcher.next()).await {
                    Ok(update) => update.map_err(with_end_reason)?,
                    Err(_) => None,
                };
            }
            // Until all missed changes are applied, the mirror may be a state that the space never had.
            if !live {
                continue;
            }
            let was_behind = !self.mirror.touched.is_empty();
            // Before files are removed or replaced, check that the changes are from the history that the
            // folder follows.
            if self.would_lose() {
                if !self.is_known_history().await? {
                    return Ok(Followed::CursorReset);
                }
                self.known_change = last_change;
            }
            self.update_folder().await?;
            // At a retry, no change has explained the missing versions.
            if is_repetition {
                self.report_gone();
            }
            if !local_files_reported {
                self.report_local_files();
                local_files_reported = true;
            }
            if self.mirror.touched.is_empty() {
                backoff.reset();
                retry_at = None;
                if was_behind {
                    self.output
                        .line(&json!({ "type": "current" }), "· the folder is up to date")?;
                }
            } else {
                retry_at = Some(Instant::now() + backoff.next_limit());
            }
        }
    }

    /// Whether a placed file would be removed or replaced.
    fn would_lose(&self) -> bool {
        let mut touched = self.mirror.touched.iter();
        touched.any(|path| {
            self.placed.get(path).is_some_and(|placed| {
                let in_space = self.mirror.at(path);
                in_space.is_none_or(|in_space| in_space.sha256 != placed.sha256)
            })
        })
    }

    fn save_state(&mut self) -> anyhow::Result<()> {
        let state = SyncState {
            http_api_url: self.http_api_url.to_owned(),
            space_id: self.space_id,
            epoch: self.epoch,
            cursor: self.cursor.unwrap_or_default(),
            known_change: self.known_change,
            files: self.mirror.files().clone(),
            placed: self.placed.clone(),
            mismatched: self.mismatched.clone(),
            needs_confirmation: self.needs_confirmation,
        };
        let saving = self.folder.save_state(&serde_json::to_vec(&state)?);
        saving.context("cannot save the state of the folder")?;
        self.saved_at = Instant::now();
        self.changed = false;
        Ok(())
    }

    /// Applies the mirror to the folder. Paths that fail stay touched.
    async fn update_folder(&mut self) -> anyhow::Result<()> {
        self.find_clashes();
        self.refuse_many_removals()?;
        let touched = std::mem::take(&mut self.mirror.touched);
        self.failures = Failures::default();
        self.gone.clear();
        // Removals come first: they free names, and a removed file may have the content of a file to
        // download.
        let expected: HashMap<Sha256, Content> = touched
            .iter()
            .filter_map(|path| self.mirror.at(path))
            .map(|content| (content.sha256, content.clone()))
            .collect();
        for path in &touched {
            if self.mirror.at(path).is_none() {
                self.refused.remove(path);
                self.attempt(path, |syncer| syncer.remove(path, &expected))?;
            }
        }
        let mut wanted = Vec::new();
        for path in &touched {
            let Some(content) = self.mirror.at(path).cloned() else {
                continue;
            };
            let at = match local_path(path) {
                Ok(_) if self.mismatched.contains(&(content.file_id, content.version)) => {
                    let version = content.version;
                    let why = format!(
                        "cannot download {path}: version {version} does not have the content that its uploader declared; upload the file again"
                    );
                    self.refuse(path, &failure(Kind::Refused, why));
                    continue;
                }
                Ok(at) if !self.clashing.contains(path) => at,
                Ok(_) => {
                    let why = "cannot be saved here: another file of the space has the same name on this file system; rename one of them";
                    self.refuse(path, &failure(Kind::Refused, format!("{path} {why}")));
                    continue;
                }
                Err(error) => {
                    self.refuse(path, &error);
                    continue;
                }
            };
            let needed = self.attempt(path, |syncer| syncer.is_needed(path, &at, &content));
            if needed? == Some(true) {
                wanted.push((path.clone(), at, content));
            }
        }
        self.download(&wanted).await?;
        self.reported.retain(|path, _| self.mirror.touched.contains(path));
        if self.mirror.touched.is_empty() {
            self.folder.delete_parts()?;
        }
        self.changed = true;
        Ok(())
    }

    /// Finds files with conflicting names, and touches those that no longer conflict.
    fn find_clashes(&mut self) {
        let placed = &self.placed;
        let is_new = |path: &SpacePath| self.mirror.at(path).is_some() && !placed.contains_key(path);
        if self.clashing.is_empty() && !self.mirror.touched.iter().any(is_new) {
            return;
        }
        let key = if self.folder.ignores_case {
            portable_names::key
        } else {
            str::to_owned
        };
        let clashing = self.mirror.clashes(|path| placed.contains_key(path), key);
        let free = self.clashing.difference(&clashing).cloned();
        self.mirror.touched.extend(free);
        self.clashing = clashing;
        self.refused.retain(|path| self.mirror.at(path).is_some());
    }

    /// Refuses to delete most of the folder at once. The files may have been deleted from the space by
    /// mistake, and the copies here may be the last.
    fn refuse_many_removals(&mut self) -> anyhow::Result<()> {
        while self
            .removals
            .front()
            .is_some_and(|at| at.elapsed() > REMOVALS_WINDOW)
        {
            self.removals.pop_front();
        }
        let touched = &self.mirror.touched;
        let expected: HashSet<Sha256> = touched
            .iter()
            .filter_map(|path| self.mirror.at(path))
            .map(|content| content.sha256)
            .collect();
        let removed = touched.iter().filter(|path| {
            let placed = self.placed.get(path);
            let is_ours = placed.is_some_and(|it| !it.owners && !expected.contains(&it.sha256));
            is_ours && self.mirror.at(path).is_none()
        });
        let removed = removed.count();
        let (gone, here) = (self.removals.len(), self.placed.len());
        if removed == 0 || self.allow_deletes {
            self.needs_confirmation = false;
            return Ok(());
        }
        let is_most = removed + gone > MAX_REMOVALS && 2 * (removed + gone) > here + gone;
        if !is_most && !self.needs_confirmation {
            return Ok(());
        }
        // Saved, because otherwise the next start would delete the files.
        self.needs_confirmation = true;
        self.save_state()?;
        let mut message = format!("{removed} of {here} files were deleted from the space");
        if gone > 0 {
            message = format!("{message}, after {gone} others");
        }
        message.push_str(
            "; they are kept here. To delete them here too: syncsphere sync --down --allow-deletes",
        );
        Err(failure(Kind::Refused, message))
    }

    /// Reports files with a version that is gone although no change explains it.
    fn report_gone(&mut self) {
        for (path, error) in std::mem::take(&mut self.gone) {
            self.report_failure(&path, &error);
        }
    }

    /// Reports a failure, unless the same one was reported already.
    fn report_failure(&mut self, path: &SpacePath, error: &anyhow::Error) {
        let message = sentence(error);
        if self.reported.get(path) != Some(&message) {
            self.output.failure(error);
            self.reported.insert(path.clone(), message);
        }
    }

    /// Reports to people, not to scripts, how many files of the folder are not in the space. They might
    /// believe that those are uploaded.
    fn report_local_files(&self) {
        let key = |path: &SpacePath| {
            if self.folder.ignores_case {
                portable_names::key(path.as_str())
            } else {
                path.as_str().to_owned()
            }
        };
        let in_space: HashSet<String> = self.mirror.files().keys().map(key).collect();
        let others = self
            .folder
            .count_files(|path| path.is_some_and(|path| in_space.contains(&key(path))));
        if let Ok(others @ 1..) = others
            && !self.output.json
        {
            let files = if others == 1 {
                "file here is"
            } else {
                "files here are"
            };
            output::warn(format_args!(
                "· {others} {files} not in the space, because sync only downloads; to add them, use `syncsphere upload`"
            ));
        }
    }

    /// Records a file that this folder cannot hold. It is reported once and not attempted.
    fn refuse(&mut self, path: &SpacePath, why: &anyhow::Error) {
        self.failures.add(Kind::Refused);
        if self.refused.insert(path.clone()) {
            self.output.failure(why);
        }
    }

    /// Whether a file must be downloaded. A file that has the right content already is recorded as placed.
    fn is_needed(&mut self, path: &SpacePath, at: &Path, content: &Content) -> anyhow::Result<bool> {
        let Found::File(fingerprint) = self.folder.inspect(at)? else {
            return Ok(true);
        };
        let placed = self.placed.get(path);
        let sha256 = match placed.filter(|placed| placed.fingerprint == fingerprint) {
            Some(placed) => placed.sha256,
            None => self.folder.digest(at)?,
        };
        if sha256 == content.sha256 {
            let owners = !placed.is_some_and(|placed| placed.sha256 == sha256 && !placed.owners);
            self.placed.insert(
                path.clone(),
                Placed {
                    sha256,
                    fingerprint,
                    owners,
                },
            );
        }
        Ok(sha256 != content.sha256)
    }

    /// Whether the file at a path has the content that this program put there.
    fn is_ours(&self, path: &SpacePath, at: &Path, found: &Found) -> io::Result<bool> {
        match (self.placed.get(path), found) {
            (Some(placed), Found::File(fingerprint)) if !placed.owners => {
                // A changed fingerprint, as after a change of permissions, does not mean changed content.
                Ok(placed.fingerprint == *fingerprint || self.folder.digest(at)? == placed.sha256)
            }
            _ => Ok(false),
        }
    }

    /// Removes a file that the space no longer has, unless it was changed here or is the owner's.
    fn remove(&mut self, path: &SpacePath, expected: &HashMap<Sha256, Content>) -> anyhow::Result<()> {
        let Some(placed) = self.placed.get(path).copied() else {
            return Ok(());
        };
        let at = local_path(path)?;
        let cannot = || format!("cannot remove {}", at.display());
        let found = self.folder.inspect(&at).with_context(cannot)?;
        if self.is_ours(path, &at, &found).with_context(cannot)? {
            let Found::File(fingerprint) = found else {
                return Ok(());
            };
            let expected = expected.get(&placed.sha256);
            let kept = match expected {
                Some(content) => self.folder.take(&at, &fingerprint, content),
                None => self.folder.remove(&at, &fingerprint),
            };
            if let Some(kept) = kept.with_context(cannot)? {
                self.report_kept(&at, &kept)?;
            } else {
                if expected.is_none() {
                    self.removals.push_back(Instant::now());
                }
                let value = json!({ "type": "removed", "path": path });
                self.output.line(&value, format_args!("- {path}"))?;
            }
        } else if found != Found::Nothing {
            let value = json!({ "type": "left", "path": path });
            let why = if placed.owners {
                "it was here before the sync"
            } else {
                "it was changed here"
            };
            let text = format!("· {path} was deleted from the space and is kept here, because {why}");
            self.output.line(&value, text)?;
        }
        self.placed.remove(path);
        Ok(())
    }

    /// Downloads files concurrently, and puts each in its place when it is complete.
    async fn download(&mut self, wanted: &[(SpacePath, PathBuf, Content)]) -> anyhow::Result<()> {
        let bytes = wanted
            .iter()
            .map(|(_, _, content)| content.size.get().unsigned_abs())
            .sum();
        if wanted.is_empty() {
            return Ok(());
        }
        let bars = Bars::new(bytes, wanted.len());
        let (client, folder) = (self.client, Arc::clone(&self.folder));
        let mut downloads = stream::iter(wanted)
            .map(async |(path, at, content)| {
                let bar = bars.file(path.as_str(), content.size.get().unsigned_abs());
                let fetching = async {
                    let mut part = folder.open_part(content)?;
                    client.fetch(content, &mut part, &bar).await
                };
                let fetched = fetching.await;
                (path, at, content, fetched)
            })
            .buffer_unordered(CONCURRENT_DOWNLOADS);
        // The paths stay touched if this function ends early.
        self.mirror
            .touched
            .extend(wanted.iter().map(|(path, _, _)| path.clone()));
        while let Some((path, at, content, fetched)) = downloads.next().await {
            let fetched = fetched.with_context(|| format!("cannot download {path}"));
            // The other downloads would fail for the same reason, each after some time.
            let is_outage = fetched.as_ref().is_err_and(is_outage);
            self.mirror.touched.remove(path);
            bars.print_above(|| {
                self.attempt(path, |syncer| {
                    fetched?;
                    syncer.place(path, at, content)
                })
            })?;
            if is_outage {
                break;
            }
        }
        Ok(())
    }

    fn place(&mut self, path: &SpacePath, at: &Path, content: &Content) -> anyhow::Result<()> {
        let cannot = || format!("cannot write {}", at.display());
        let mut found = self.folder.inspect(at).with_context(cannot)?;
        if found != Found::Nothing && !self.is_ours(path, at, &found).with_context(cannot)? {
            self.move_aside(at).with_context(cannot)?;
            found = Found::Nothing;
        }
        self.clear_parents(at).with_context(cannot)?;
        let expected = match found {
            Found::File(fingerprint) => Some(fingerprint),
            _ => None,
        };
        let placing = self.folder.place(content, path, at, expected);
        let folder::Placement { fingerprint, kept } = placing.with_context(cannot)?;
        if let Some(kept) = kept {
            self.report_kept(at, &kept)?;
        }
        let sha256 = content.sha256;
        self.placed.insert(
            path.clone(),
            Placed {
                sha256,
                fingerprint,
                owners: false,
            },
        );
        self.changed = true;
        let value = json!({ "type": "placed", "path": path, "content": content });
        let size = output::size(content.size);
        self.output
            .line(&value, format_args!("+ {path}  v{}, {size}", content.version))?;
        Ok(())
    }

    /// Renames files and links at the path of a parent folder, unless the space has a file at that path.
    fn clear_parents(&mut self, at: &Path) -> io::Result<()> {
        let parents: Vec<&Path> = at.ancestors().skip(1).collect();
        for parent in parents
            .into_iter()
            .rev()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            let found = self.folder.inspect(parent)?;
            let in_the_space = space_path(parent).is_some_and(|path| self.mirror.at(&path).is_some());
            if !matches!(found, Found::Nothing | Found::Folder) && !in_the_space {
                self.move_aside(parent)?;
            }
        }
        Ok(())
    }

    /// Renames the owner's file at a path where a file of the space is about to be placed.
    fn move_aside(&self, at: &Path) -> io::Result<()> {
        match self.folder.move_aside(at)? {
            Some(name) => self.report_kept(at, &name),
            None => Ok(()),
        }
    }

    fn report_kept(&self, at: &Path, name: &Path) -> io::Result<()> {
        let value = json!({ "type": "kept", "file": at, "as": name });
        let text = format!(
            "· {} was changed here, and was renamed to {}",
            at.display(),
            name.display()
        );
        self.output.line(&value, text)
    }

    /// Runs an action on a file. A failure is reported, and the file stays touched. A full disk, an ended
    /// session, a restored service or a closed output ends the update.
    fn attempt<T>(
        &mut self,
        path: &SpacePath,
        act: impl FnOnce(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<Option<T>> {
        let error = match act(self) {
            Ok(done) => return Ok(Some(done)),
            Err(error) => error,
        };
        let kind = kind_of(&error);
        let is_full = error.chain().any(|cause| {
            let io = cause.downcast_ref::<io::Error>();
            io.is_some_and(|io| io.kind() == io::ErrorKind::StorageFull)
        });
        if is_full || is_feed_reset(&error) || matches!(kind, Kind::Unauthenticated | Kind::BrokenPipe) {
            return Err(error);
        }
        let call = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
        let content = self.mirror.at(path);
        if matches!(call, Some(Error::Mismatch))
            && let Some(content) = content
        {
            self.mismatched.push((content.file_id, content.version));
            self.changed = true;
            // Only another version is tried again.
            self.refuse(path, &error);
            return Ok(None);
        }
        // A 404 of the service means that the version is gone, and a pending change will explain it. A 404 of
        // storage means that the content is lost.
        let is_gone = matches!(call, Some(Error::Refused(problem)) if problem.status == 404);
        let is_lost = !is_gone && call.and_then(Error::status) == Some(404);
        let error = if is_lost {
            let version = content.map_or(String::new(), |content| format!(" (version {})", content.version));
            let why = "storage does not have its content; contact the operator of the service";
            failure(Kind::NotFound, format!("cannot download {path}{version}: {why}"))
        } else {
            error
        };
        self.mirror.touched.insert(path.clone());
        self.failures.add(kind);
        if is_gone {
            self.gone.push((path.clone(), error));
        } else {
            self.report_failure(path, &error);
        }
        Ok(None)
    }

    fn outcome(&self) -> anyhow::Result<()> {
        let files = self.mirror.files().len();
        self.failures.outcome(files, "files could not be updated")
    }
}
