//! `get`.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use client::{Client, Content, Error, Progress as _, Sha256Stream, next_piece};
use serde_json::json;
use tempfile::TempPath;

use crate::arguments::Get;
use crate::commands::files::find;
use crate::failure::{Kind, failure};
use crate::output::{self, Output};
use crate::place::{self, short_name};
use crate::progress::{Bar, Bars};

/// Downloads a file: all of it and verified, or nothing.
pub(crate) async fn run(client: &Client, get: &Get, output: Output) -> anyhow::Result<()> {
    let space_id = place::space(client, get.space.space.as_deref()).await?;
    let path = place::path(&get.path)?;
    let file = find(client, space_id, &path).await?;
    let mut content = Content::from(&file);
    if let Some(version) = get.version {
        let (_, versions) = client.show_file(file.file_id).await?;
        let found = versions.iter().find(|it| it.version == version);
        let found =
            found.ok_or_else(|| failure(Kind::NotFound, format!("{path} has no version {version}")))?;
        (content.version, content.size, content.sha256) = (found.version, found.size, found.sha256);
    }
    let bytes = content.size.get().unsigned_abs();
    let bars = Bars::new(bytes, 1);
    let bar = bars.file(path.as_str(), bytes);
    let to = match &get.output {
        Some(to) if to == Path::new("-") => {
            let writing = to_output(client, &content, &bar);
            return writing.await.with_context(|| format!("cannot download {path}"));
        }
        Some(to) if to.is_dir() => to.join(path.file_name()),
        Some(to) => to.clone(),
        None => PathBuf::from(path.file_name()),
    };
    let getting = to_file(client, &content, &to, get.force, &bar);
    getting.await.with_context(|| format!("cannot download {path}"))?;
    drop(bar);
    drop(bars);
    let told = json!({
        "file": to, "fileId": content.file_id, "path": path, "version": content.version, "size": content.size,
        "sha256": content.sha256,
    });
    let (version, size) = (content.version, output::size(content.size));
    output.line(
        &told,
        format_args!("{} is {path}, version {version}, {size}", to.display()),
    )?;
    Ok(())
}

async fn to_file(
    client: &Client,
    content: &Content,
    to: &Path,
    force: bool,
    bar: &Bar<'_>,
) -> anyhow::Result<()> {
    // Before anything is downloaded, though what counts is the same below.
    if !force && to.try_exists()? {
        return Err(occupied(to));
    }
    let part = part(to, content);
    let mut options = tokio::fs::File::options();
    let opening = options
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&part);
    let mut file = opening
        .await
        .with_context(|| format!("cannot write {}", part.display()))?;
    // What there is of it stays for the next attempt.
    client.fetch(content, &mut file, bar).await?;
    drop(file);
    let part = TempPath::try_from_path(part)?;
    let placed = if force {
        part.persist(to)
    } else {
        part.persist_noclobber(to)
    };
    placed.map_err(|failed| {
        let error = match failed.error.kind() {
            io::ErrorKind::AlreadyExists => occupied(to),
            _ => anyhow::Error::from(failed.error).context(format!("cannot write {}", to.display())),
        };
        // For the next attempt.
        let _ = failed.path.keep();
        error
    })
}

fn occupied(to: &Path) -> anyhow::Error {
    let to = to.display();
    failure(
        Kind::Conflict,
        format!("{to} is there already; --force replaces it"),
    )
}

/// Beside the destination, so that it can take its place in one step, and named after the content.
fn part(to: &Path, content: &Content) -> PathBuf {
    let whole = format!("{} {} {}", to.display(), content.file_id, content.sha256);
    let name = short_name(&whole);
    to.with_file_name(format!(".syncsphere-{name}.part"))
}

/// Whoever reads it knows by the exit status whether it was right.
async fn to_output(client: &Client, content: &Content, bar: &Bar<'_>) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut download = client.download(content.file_id, Some(content.version)).await?;
    let mut digest = Sha256Stream::default();
    while let Some(piece) = next_piece(&mut download).await? {
        digest.update(&piece);
        io::stdout().lock().write_all(&piece)?;
        bar.moved(piece.len() as u64);
    }
    io::stdout().lock().flush()?;
    if digest.finish() == content.sha256 {
        Ok(())
    } else {
        Err(Error::Mismatch.into())
    }
}
