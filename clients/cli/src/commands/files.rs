//! `ls`, `mv` and `rm`: list, move and delete files of a space.

use anyhow::Context as _;
use client::Client;
use model::{FileView, SpaceId, SpacePath};
use unicode_normalization::UnicodeNormalization as _;

use crate::arguments::{List, Move, Remove};
use crate::commands::trash;
use crate::failure::{Failures, Kind, failure, is_feed_reset, kind_of};
use crate::output::{self, Output};
use crate::resolve;

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

pub(crate) async fn rename(client: &Client, mv: &Move, output: Output) -> anyhow::Result<()> {
    let space_id = resolve::space(client, mv.space.space.as_deref()).await?;
    resolve::epoch(client).await?;
    let from = resolve::path(&mv.from)?;
    let to = resolve::inside(&mv.to, from.file_name())?;
    let file = find(client, space_id, &from).await?;
    let moving = client.move_file(file.file_id, to, mv.base_version, Some(&from));
    let changed = moving.await.with_context(|| format!("cannot move {from}"))?;
    let text = format!("moved {from} to {}", changed.path);
    Ok(output.line(&changed, text)?)
}

/// Deletes files. A failure does not stop the deletion of the others, except a restore of the service.
pub(crate) async fn remove(client: &Client, remove: &Remove, output: Output) -> anyhow::Result<()> {
    if remove.base_version.is_some() && remove.paths.len() > 1 {
        return Err(failure(Kind::Usage, "--base-version needs a single file"));
    }
    if remove.permanently {
        return trash::erase(client, remove, output).await;
    }
    let space_id = resolve::space(client, remove.space.space.as_deref()).await?;
    resolve::epoch(client).await?;
    let paths: Vec<SpacePath> = remove
        .paths
        .iter()
        .map(|path| resolve::path(path))
        .collect::<anyhow::Result<_>>()?;
    let mut failures = Failures::default();
    for path in &paths {
        let deleting = async {
            let file = find(client, space_id, path).await?;
            let deleting = client.delete_file(file.file_id, remove.base_version, Some(path));
            deleting.await.with_context(|| format!("cannot delete {path}"))
        };
        match deleting.await {
            Ok(deleted) => output.line(&deleted, format_args!("moved {path} to the trash"))?,
            Err(error) if paths.len() == 1 || is_feed_reset(&error) => return Err(error),
            Err(error) => {
                output.failure(&error);
                failures.add(kind_of(&error));
            }
        }
    }
    failures.outcome(paths.len(), "files could not be deleted")
}

/// The file at a path. A missing file is an error.
pub(crate) async fn find(
    client: &Client,
    space_id: Option<SpaceId>,
    path: &SpacePath,
) -> anyhow::Result<FileView> {
    let found = client.find_file(space_id, path).await;
    let found = found.with_context(|| format!("cannot look up {path}"))?;
    found.ok_or_else(|| {
        failure(
            Kind::NotFound,
            format!("{path} does not exist; `syncsphere ls` lists the files"),
        )
    })
}
