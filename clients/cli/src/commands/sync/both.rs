//! Syncs a folder and a space in both directions, or only upwards.

use std::cell::RefCell;
use std::path::Path;

use super::folder::STATE;
use ::sync::driver::{self, Ask, Ended, Folder, FolderError, Held, Left, Notice, Question, Settings};
use ::sync::effect::{Stopped, Told};
use ::sync::engine::{Config, Direction, Guard};
use ::sync::path::PRIVATE;
use ::sync::plan::Hold;
use ::sync::store::{Binding, SqliteStore};
use indicatif::ProgressBar;
use model::SpaceId;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use super::told;
use crate::Stopping;
use crate::accounts::Account;
use crate::arguments::{MaxDelete, Sync};
use crate::commands::upload::host_label;
use crate::failure::{Kind, failure};
use crate::output::{Output, warn};
use crate::prompt;
use crate::resolve;

/// What is read of the state of `--down`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StateOfDown {
    http_api_url: String,
    space_id: SpaceId,
}

/// Refuses a folder that is synced in both directions: `--down` would change files without the knowledge of the
/// other state.
pub(super) fn refuse_state(folder: &Path) -> anyhow::Result<()> {
    if SqliteStore::exists(&folder.join(PRIVATE)) {
        let message = format!(
            "{} is synced in both directions; choose another folder for --down, or sync it without --down",
            folder.display()
        );
        return Err(failure(Kind::Conflict, message));
    }
    Ok(())
}

pub(super) async fn run(
    account: &Account,
    path: &Path,
    sync: &Sync,
    output: Output,
    stopping: &Stopping,
) -> anyhow::Result<()> {
    let space = resolve::view(&account.client, sync.space.space.as_deref()).await?;
    let binding = Binding {
        url: account.http_api_url.clone(),
        space_id: space.space_id,
    };
    refuse_other_space(path, &binding)?;
    let folder = Folder::open(path, host(), binding).map_err(refusal)?;
    if let Some(damaged) = &folder.set_aside {
        warn(format_args!(
            "the state of the folder was damaged and is kept as {}; everything is compared again, and nothing is deleted",
            damaged.display()
        ));
    }
    if folder.is_new() && !sync.yes && !sync.dry_run && folder.has_entries()? {
        let question = format!(
            "{} has files. They and the files of the space will be merged: a file that only one side has is copied \
             to the other side, and if a file differs, both contents are kept.",
            path.display()
        );
        prompt::confirm(&question, "yes")?;
    }
    let settings = Settings {
        config: Config {
            device: host_label(),
            nonce: format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
            direction: if sync.up { Direction::Up } else { Direction::Both },
            guard: guard(sync.max_delete),
            accepts_other_root: false,
        },
        once: sync.once,
        dry_run: sync.dry_run,
    };
    if sync.once && folder.is_paused() {
        let message = "the sync of this folder is paused; end the pause: syncsphere sync resume";
        return Err(failure(Kind::Refused, message));
    }
    let ended = drive(folder, account, settings, output, stopping).await?;
    outcome(ended, sync.once || sync.dry_run)
}

/// Runs the sync, and answers questions meanwhile.
async fn drive(
    folder: Folder,
    account: &Account,
    settings: Settings,
    output: Output,
    stopping: &Stopping,
) -> anyhow::Result<Ended> {
    let (sender, mut asks) = mpsc::unbounded_channel();
    #[cfg(unix)]
    let root = folder.path().to_owned();
    let stop = || {
        let (reply, _) = oneshot::channel();
        let question = Question::Stop;
        // The sync may have ended.
        let _ = sender.send(Ask { question, reply });
    };
    let broken = RefCell::new(None);
    let mut last = None;
    let mut progress = Progress::default();
    let mut tell = |notice: Notice| {
        if broken.borrow().is_some() {
            return;
        }
        // Looking again at what has not changed is not worth a line.
        match &notice {
            Notice::Left(left) => return progress.show(left, output),
            Notice::Told(Told::Working) => return,
            Notice::Told(told @ Told::Current { .. }) if last.as_ref() == Some(told) => return,
            Notice::Told(told) => {
                if matches!(told, Told::Current { .. }) {
                    progress.hide();
                }
                last = Some(told.clone());
            }
            _ => last = None,
        }
        if let Err(error) = progress.above(|| told::tell(output, &notice)) {
            broken.replace(Some(error));
            stop();
        }
    };
    let running = driver::run(folder, account.client.clone(), settings, &mut asks, &mut tell);
    let mut running = std::pin::pin!(running);
    // Without a socket, for example on a file system that has none, only questions cannot be asked.
    #[cfg(unix)]
    let serving = driver::serve(&root, sender.clone());
    #[cfg(not(unix))]
    let serving = std::future::ready(());
    let mut serving = std::pin::pin!(serving);
    let mut is_serving = true;
    let mut is_asked = false;
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended?,
            _ = &mut serving, if is_serving => is_serving = false,
            () = stopping.asked(), if !is_asked => {
                is_asked = true;
                stop();
            }
        }
    };
    if let Some(error) = broken.take() {
        return Err(error.into());
    }
    if is_asked {
        return Err(failure(Kind::Interrupted, "interrupted"));
    }
    Ok(ended)
}

/// A progress line on the terminal while a long sync is not current.
#[derive(Default)]
struct Progress(Option<ProgressBar>);

impl Progress {
    fn show(&mut self, left: &Left, output: Output) {
        if left.files + left.unread == 0 {
            return self.hide();
        }
        if output.json {
            return;
        }
        // It is drawn on a terminal only.
        let bar = self.0.get_or_insert_with(ProgressBar::new_spinner);
        bar.set_message(format!(
            "{} files to sync, {} to read; {} are uploaded, {} downloaded",
            left.files, left.unread, left.uploads, left.downloads
        ));
        bar.tick();
    }

    fn hide(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }

    /// Writes lines above it.
    fn above<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

fn outcome(ended: Ended, is_once: bool) -> anyhow::Result<()> {
    match ended.why {
        Stopped::Asked => {}
        Stopped::RootMissing(reason) => {
            let message = format!(
                "stopped, and nothing was deleted: {reason}; bring the folder back and start again, or move its \
                 .syncsphere elsewhere to compare everything anew"
            );
            return Err(failure(Kind::Held, message));
        }
        Stopped::Disk(error) => {
            let message = format!("stopped, because the disk failed: {error}");
            return Err(failure(Kind::Failed, message));
        }
        Stopped::SpaceGone => {
            let message =
                "you are no longer a member of this space, or it was deleted; the folder stays as it is";
            return Err(failure(Kind::NotFound, message));
        }
        Stopped::SignedOut => return Err(failure(Kind::Unauthenticated, "the session has ended")),
        Stopped::NoProgress(item) => {
            let message =
                format!("stopped, because the sync made no progress with {item}; please report this");
            return Err(failure(Kind::Failed, message));
        }
    }
    if let Some(reason) = ended.unavailable {
        return Err(failure(Kind::Unreachable, reason));
    }
    // Paths that the user has excluded or switched off do not wait for an answer.
    let waits = |held: &&Held| !matches!(held.reason, Hold::Direction | Hold::Excluded);
    let count = ended.held.iter().filter(waits).count();
    if is_once && count > 0 {
        let paths = if count == 1 {
            "1 path waits"
        } else {
            &format!("{count} paths wait")
        };
        return Err(failure(
            Kind::Held,
            format!("{paths} for you, see above; all else is synced"),
        ));
    }
    Ok(())
}

fn guard(wanted: Option<MaxDelete>) -> Guard {
    match wanted {
        None => Guard::default(),
        Some(MaxDelete::Files(count)) => Guard {
            count,
            percent: 0,
            most: count,
        },
        Some(MaxDelete::Percent(percent)) => Guard {
            count: 0,
            percent,
            most: usize::MAX,
        },
    }
}

/// Refuses a folder that `--down` keeps current from another space.
fn refuse_other_space(folder: &Path, binding: &Binding) -> anyhow::Result<()> {
    let Ok(text) = std::fs::read(folder.join(PRIVATE).join(STATE)) else {
        return Ok(());
    };
    // A damaged state says nothing.
    let Ok(state) = serde_json::from_slice::<StateOfDown>(&text) else {
        return Ok(());
    };
    if (state.http_api_url.as_str(), state.space_id) == (binding.url.as_str(), binding.space_id) {
        return Ok(());
    }
    Err(other_space(&state.space_id, &state.http_api_url))
}

pub(super) fn other_space(space_id: &SpaceId, url: &str) -> anyhow::Error {
    let message =
        format!("this folder is synced with another space, {space_id} of {url}; choose another folder");
    failure(Kind::Conflict, message)
}

/// An error that explains why a folder cannot be opened.
pub(super) fn refusal(error: FolderError) -> anyhow::Error {
    match error {
        FolderError::InUse(_) => failure(Kind::Conflict, error.to_string()),
        FolderError::OtherSpace(binding) => other_space(&binding.space_id, &binding.url),
        error => error.into(),
    }
}

/// Identifies this machine, so that a folder that was copied to another one is noticed.
fn host() -> String {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    id.trim().to_owned()
}
