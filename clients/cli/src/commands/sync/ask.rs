//! `sync status`, `pause` and the other commands for a synced folder: questions to the running sync, or to its
//! database if none runs.

use std::path::{Path, PathBuf};

use ::sync::driver::{Held, Idle, Question, Reply, Status};
use ::sync::path::PRIVATE;
use ::sync::store::Explained;
use anyhow::Context as _;
use serde_json::json;
use time::OffsetDateTime;

use super::both::refusal;
use super::told::reason;
use crate::arguments::{SyncCommand, SyncedFolder};
use crate::failure::{Kind, failure};
use crate::output::{self, Output};
use crate::resolve;

pub(crate) async fn ask(command: &SyncCommand, output: Output) -> anyhow::Result<()> {
    let (folder, question) = match command {
        SyncCommand::Status(folder) => (folder, Question::Status),
        SyncCommand::Pause(folder) => (folder, Question::Pause),
        SyncCommand::Resume(folder) => (folder, Question::Resume),
        SyncCommand::Conflicts(folder) => (folder, Question::Conflicts),
        SyncCommand::Held(folder) => (folder, Question::Held),
        SyncCommand::Confirm(folder) => (folder, Question::Confirm),
        SyncCommand::Undo(folder) => (folder, Question::Undo),
        SyncCommand::Explain { path, folder } => (folder, Question::Explain(resolve::path(path)?.into())),
    };
    let folder = synced(folder)?;
    match answer(&folder, &question).await? {
        Reply::Status(status) => show_status(output, &folder, &status)?,
        Reply::Held(held) => {
            for held in held {
                show_held(output, &held)?;
            }
        }
        Reply::Conflicts(conflicts) => {
            for (copy, row) in conflicts {
                let value = json!({ "type": "conflict", "path": row.of, "copy": copy, "at": row.at });
                output.line(&value, format!("! {} kept as {copy}", row.of))?;
            }
        }
        Reply::Explained(explained, held) => explain(output, &explained, held.as_ref())?,
        Reply::Done => {}
        Reply::Failed(reason) => return Err(failure(Kind::Failed, reason)),
    }
    Ok(())
}

async fn answer(folder: &Path, question: &Question) -> anyhow::Result<Reply> {
    #[cfg(unix)]
    if let Some(reply) = ::sync::driver::ask(folder, question)
        .await
        .context("cannot ask the running sync")?
    {
        return Ok(reply);
    }
    let idle = Idle::open(folder).map_err(refusal)?;
    let mut idle = idle.ok_or_else(|| never_synced(folder))?;
    idle.answer(question).ok_or_else(|| {
        let message = format!(
            "no sync runs for {0}; start one: syncsphere sync {0}",
            folder.display()
        );
        failure(Kind::NotFound, message)
    })
}

/// The synced folder: the given one, or the one that contains the current folder.
fn synced(folder: &SyncedFolder) -> anyhow::Result<PathBuf> {
    if let Some(folder) = &folder.folder {
        return folder
            .canonicalize()
            .with_context(|| format!("cannot open {}", folder.display()));
    }
    let current = std::env::current_dir().context("cannot find the current folder")?;
    let found = current.ancestors().find(|folder| folder.join(PRIVATE).is_dir());
    found.map(Path::to_owned).ok_or_else(|| never_synced(&current))
}

fn never_synced(folder: &Path) -> anyhow::Error {
    let message = format!("{} is not synced; name the synced folder", folder.display());
    failure(Kind::NotFound, message)
}

fn show_status(output: Output, folder: &Path, status: &Status) -> anyhow::Result<()> {
    let state = match (status.running, status.paused, status.current) {
        (false, true, _) => "not running, paused",
        (false, false, _) => "not running",
        (true, true, _) => "paused",
        (true, false, Some(true)) => "current",
        (true, false, _) => "working",
    };
    let mut lines = vec![
        format!("folder     {}", folder.display()),
        format!("space      {} of {}", status.space_id, status.url),
        format!("state      {state}"),
        format!("files      {} equal on both sides", status.files),
    ];
    if let Some(held) = status.held {
        lines.push(format!("held       {held}"));
    }
    lines.push(format!("conflicts  {}", status.conflicts));
    if let Some((there, here)) = status.deletions_held {
        lines.push(format!(
            "deletions  {there} in the space and {here} here wait for you"
        ));
    }
    if status.running {
        lines.push(format!(
            "transfers  {} up, {} down",
            status.uploads, status.downloads
        ));
    }
    if let Some(push) = &status.push {
        lines.push(format!("changes    {push}"));
    }
    if status.watched == Some(false) {
        lines.push("folders    scanned each minute, because not all can be watched".to_owned());
    }
    if let Some(reason) = &status.unavailable {
        lines.push(format!("service    {reason}"));
    }
    output.line(status, lines.join("\n"))?;
    Ok(())
}

fn show_held(output: Output, held: &Held) -> std::io::Result<()> {
    let since = OffsetDateTime::from_unix_timestamp(held.since / 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let text = format!(
        "~ {} since {}: {}",
        held.path,
        output::time(since),
        reason(&held.reason)
    );
    output.line(held, text)
}

fn explain(output: Output, explained: &Explained, held: Option<&Held>) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for (file_id, row) in &explained.remote {
        lines.push(format!(
            "space   {} version {}, {} bytes, file {file_id}",
            row.path, row.version, row.size
        ));
    }
    for (path, entry) in &explained.local {
        let what = match entry {
            ::sync::tree::LocalEntry::File(file) => format!("{} bytes", file.stamp.size),
            ::sync::tree::LocalEntry::Folder(_) => "a folder".to_owned(),
            ::sync::tree::LocalEntry::Link => "a link, which is not synced".to_owned(),
            ::sync::tree::LocalEntry::Special => "a special file, which is not synced".to_owned(),
        };
        lines.push(format!("folder  {path}: {what}"));
    }
    for (_, row) in &explained.synced {
        lines.push(format!(
            "synced  {} version {}, {} bytes, at {}",
            row.path, row.version, row.size, row.local
        ));
    }
    if lines.is_empty() {
        lines.push("nothing is known about this path".to_owned());
    }
    if let Some(held) = held {
        lines.push(format!("held    {}", reason(&held.reason)));
    }
    output.line(&json!({ "explained": explained, "held": held }), lines.join("\n"))?;
    Ok(())
}
