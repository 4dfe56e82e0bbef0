//! `ls`, `mv` and `rm`: list, move and delete files of a space.

use std::pin::pin;

use anyhow::Context as _;
use client::{Client, Error};
use futures_util::stream::{self, StreamExt as _};
use model::{FileView, SpaceId, SpacePath};
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization as _;

use crate::arguments::{List, Move, Remove};
use crate::commands::trash;
use crate::failure::{Failures, Kind, failure};
use crate::output::{self, Output};
use crate::resolve;

/// Moves and deletions that are in progress at the same time. The client sends up to 100 in one request.
const CHANGES_IN_PROGRESS: usize = 200;

/// Files that are looked up at the same time.
const CONCURRENT_LOOKUPS: usize = 8;

pub(crate) async fn list(client: &Client, list: &List, output: Output) -> anyhow::Result<()> {
    let space_id = resolve::space(client, list.space.space.as_deref()).await?;
    let prefix: String = list.prefix.nfc().collect();
    let prefix = if prefix.starts_with('/') {
        prefix
    } else {
        format!("/{prefix}")
    };
    client
        .list_files(space_id, &prefix, |files| {
            for file in &files {
                output.line(file, line(file))?;
            }
            anyhow::Ok(())
        })
        .await
}

fn line(file: &FileView) -> String {
    format!(
        "{:>6} {:>11}  {}  {}",
        format!("v{}", file.version),
        output::size(file.size),
        output::time(file.updated_at),
        file.path
    )
}

/// Moves a file, or a folder with all of its files.
pub(crate) async fn rename(client: &Client, mv: &Move, output: Output) -> anyhow::Result<()> {
    let space_id = resolve::space(client, mv.space.space.as_deref()).await?;
    resolve::epoch(client).await?;
    if mv.from.ends_with('/') {
        return rename_folder(client, space_id, mv, output).await;
    }
    let from = resolve::path(&mv.from)?;
    let to = resolve::inside(&mv.to, from.file_name())?;
    let file = find(client, space_id, &from).await?;
    let moving = client.move_file(file.file_id, to, mv.base_version, Some(&from));
    let changed = moving.await.with_context(|| format!("cannot move {from}"))?;
    let text = format!("moved {from} to {}", changed.path);
    Ok(output.line(&changed, text)?)
}

async fn rename_folder(
    client: &Client,
    space_id: Option<SpaceId>,
    mv: &Move,
    output: Output,
) -> anyhow::Result<()> {
    if mv.base_version.is_some() {
        return Err(failure(Kind::Usage, "--base-version needs a single file"));
    }
    let from = folder(&mv.from)?;
    let to = resolve::inside(&mv.to, from.file_name())?;
    if to == from || to.as_str().starts_with(&format!("{from}/")) {
        let message = format!("{from} cannot be moved into itself");
        return Err(failure(Kind::Usage, message));
    }
    let files = files_in(client, space_id, &from).await?;
    let moving = files.iter().map(async |file| {
        let moving = async {
            let below = file.path.as_str().strip_prefix(from.as_str()).unwrap_or_default();
            let path = resolve::path(&format!("{to}{below}"))?;
            let moving = client.move_file(file.file_id, path, None, Some(&file.path));
            anyhow::Ok(moving.await?)
        };
        let moved = moving.await.with_context(|| format!("cannot move {}", file.path));
        (&file.path, moved)
    });
    let mut failures = Failures::default();
    let mut moving = pin!(stream::iter(moving).buffered(CHANGES_IN_PROGRESS));
    while let Some((from, moved)) = moving.next().await {
        match moved {
            Ok(moved) => output.line(&moved, format_args!("moved {from} to {}", moved.path))?,
            Err(error) => failures.one_of(files.len(), error, output)?,
        }
    }
    failures.outcome(files.len(), "files could not be moved")
}

/// Deletes files, and with `--recursive` folders. A failure does not stop the deletion of the others, except a
/// restore of the service.
pub(crate) async fn remove(client: &Client, remove: &Remove, output: Output) -> anyhow::Result<()> {
    if remove.base_version.is_some() && remove.paths.len() > 1 {
        return Err(failure(Kind::Usage, "--base-version needs a single file"));
    }
    if remove.permanently {
        return trash::erase(client, remove, output).await;
    }
    let space_id = resolve::space(client, remove.space.space.as_deref()).await?;
    resolve::epoch(client).await?;
    let named: Vec<SpacePath> = remove
        .paths
        .iter()
        .map(|path| {
            if remove.recursive {
                folder(path)
            } else {
                resolve::path(path)
            }
        })
        .collect::<anyhow::Result<_>>()?;
    let mut failures = Failures::default();
    let mut targets = Vec::new();
    for path in &named {
        if !remove.recursive {
            targets.push((path.clone(), None));
            continue;
        }
        match files_in(client, space_id, path).await {
            Ok(files) => {
                let files = files.into_iter();
                targets.extend(files.map(|file| (file.path, Some(file.file_id))));
            }
            Err(error) => failures.one_of(named.len(), error, output)?,
        }
    }
    if remove.recursive {
        // A folder may be named beside a folder that contains it.
        targets.sort_unstable();
        targets.dedup();
    }
    let looking = Semaphore::new(CONCURRENT_LOOKUPS);
    let deleting = targets.iter().map(async |(path, file_id)| {
        let deleting = async {
            let file_id = if let Some(file_id) = file_id {
                *file_id
            } else {
                // The semaphore is never closed.
                let _looking = looking.acquire().await;
                find(client, space_id, path).await?.file_id
            };
            let deleting = client.delete_file(file_id, remove.base_version, Some(path));
            deleting.await.with_context(|| format!("cannot delete {path}"))
        };
        (path, deleting.await)
    });
    let mut deleting = pin!(stream::iter(deleting).buffered(CHANGES_IN_PROGRESS));
    while let Some((path, deleted)) = deleting.next().await {
        match deleted {
            Ok(deleted) => output.line(&deleted, format_args!("moved {path} to the trash"))?,
            Err(error) => failures.one_of(targets.len(), error, output)?,
        }
    }
    failures.outcome(targets.len(), "files could not be deleted")
}

/// Parses the path of a folder, with or without a final `/`.
fn folder(text: &str) -> anyhow::Result<SpacePath> {
    match text.trim_end_matches('/') {
        "" => Err(failure(
            Kind::Usage,
            format!("\"{text}\" is the whole space; name a folder or a file"),
        )),
        folder => resolve::path(folder),
    }
}

/// The file at a path and the files in the folder at that path. It is an error if there are none.
async fn files_in(
    client: &Client,
    space_id: Option<SpaceId>,
    path: &SpacePath,
) -> anyhow::Result<Vec<FileView>> {
    let mut found = Vec::new();
    let below = format!("{path}/");
    let listing = client.list_files(space_id, path.as_str(), |files| {
        let of_path = |file: &FileView| file.path == *path || file.path.as_str().starts_with(&below);
        found.extend(files.into_iter().filter(of_path));
        Ok::<_, Error>(())
    });
    listing.await.with_context(|| format!("cannot look up {path}"))?;
    if found.is_empty() {
        return Err(missing(path));
    }
    Ok(found)
}

fn missing(path: &SpacePath) -> anyhow::Error {
    failure(
        Kind::NotFound,
        format!("{path} does not exist; `syncsphere ls` lists the files"),
    )
}

/// The file at a path. A missing file is an error.
pub(crate) async fn find(
    client: &Client,
    space_id: Option<SpaceId>,
    path: &SpacePath,
) -> anyhow::Result<FileView> {
    let found = client.find_file(space_id, path).await;
    let found = found.with_context(|| format!("cannot look up {path}"))?;
    found.ok_or_else(|| missing(path))
}
