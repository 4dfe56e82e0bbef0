//! `trash`, `restore` and `rm --permanently`: deleted files, earlier versions, and erasing.

use std::collections::HashMap;
use std::ops::ControlFlow;

use anyhow::Context as _;
use client::{Client, Error};
use model::{DeletedFileView, FileView, SpaceId, SpacePath, UserId, Version};

use crate::accounts::Account;
use crate::arguments::{Remove, Restore, Trash};
use crate::commands::files::find;
use crate::failure::{Failures, Kind, failure, is_feed_reset, kind_of, refused};
use crate::output::{self, Output};
use crate::prompt::confirm;
use crate::resolve;

/// Lists the files in the trash of a space, the newest deletion first.
pub(crate) async fn list(account: &Account, trash: &Trash, output: Output) -> anyhow::Result<()> {
    let client = &account.client;
    let space_id = resolve::space(client, trash.space.space.as_deref()).await?;
    let names = names(account, space_id, output).await?;
    client
        .list_trash(space_id, |files| {
            for deleted in &files {
                output.line(deleted, line(deleted, &names))?;
            }
            anyhow::Ok(ControlFlow::Continue(()))
        })
        .await
}

/// The names of the members of a space, for people. JSON has the user IDs.
async fn names(
    account: &Account,
    space_id: Option<SpaceId>,
    output: Output,
) -> anyhow::Result<HashMap<UserId, String>> {
    let mut names = HashMap::new();
    if output.json {
        return Ok(names);
    }
    if let Some(space_id) = space_id {
        let members = account.client.all_members(space_id).await?.into_iter();
        names.extend(members.filter_map(|it| Some((it.user_id, it.user_name?.as_str().to_owned()))));
    }
    names.insert(account.user_id().await?, "you".to_owned());
    Ok(names)
}

fn line(deleted: &DeletedFileView, names: &HashMap<UserId, String>) -> String {
    let by = deleted.deleted_by.as_ref().map_or_else(String::new, |user_id| {
        let name = names.get(user_id);
        format!(" by {}", name.map_or(user_id.as_str(), String::as_str))
    });
    format!(
        "{:>11}  deleted {}{by}, kept until {}  {}",
        output::size(deleted.file.size),
        output::time(deleted.deleted_at),
        output::time(deleted.purged_at),
        deleted.file.path
    )
}

/// Restores files from the trash, or a version of a file. A failure does not stop the restoration of the
/// others, except a restore of the service.
pub(crate) async fn restore(client: &Client, restore: &Restore, output: Output) -> anyhow::Result<()> {
    let several = restore.paths.len() > 1;
    if several && (restore.version.is_some() || restore.to.is_some()) {
        return Err(failure(Kind::Usage, "--version and --to need a single file"));
    }
    let space_id = resolve::space(client, restore.space.space.as_deref()).await?;
    resolve::epoch(client).await?;
    let paths = parsed(&restore.paths)?;
    let mut failures = Failures::default();
    for path in &paths {
        let restoring = async {
            match restore.version {
                Some(version) => restore_version(client, space_id, path, version, output).await,
                None => restore_file(client, space_id, path, restore.to.as_deref(), output).await,
            }
        };
        match restoring.await {
            Ok(()) => {}
            Err(error) if !several || is_feed_reset(&error) => return Err(error),
            Err(error) => {
                output.failure(&error);
                failures.add(kind_of(&error));
            }
        }
    }
    failures.outcome(paths.len(), "files could not be restored")
}

async fn restore_file(
    client: &Client,
    space_id: Option<SpaceId>,
    path: &SpacePath,
    to: Option<&str>,
    output: Output,
) -> anyhow::Result<()> {
    let to = to.map(|to| resolve::inside(to, path.file_name())).transpose()?;
    let deleted = find_deleted(client, space_id, path).await?;
    let wanted = to.as_ref().unwrap_or(path);
    let restoring = client.restore_file(deleted.file_id, to.clone());
    let restored = restoring.await.map_err(|error| match error {
        Error::Refused(problem) if problem.code == "path-taken" => {
            let other = problem.current.as_ref().and_then(|current| current.path.as_deref());
            let message = match other {
                Some(other) if other != wanted => {
                    format!("cannot restore {path} to {wanted}: {other} is in the way; choose another path with --to")
                }
                _ => format!(
                    "cannot restore {path}: another file is at {wanted} now; choose another path with --to, or move that file first"
                ),
            };
            refused(Kind::Conflict, message, Error::Refused(problem))
        }
        error => anyhow::Error::from(error).context(format!("cannot restore {path}")),
    })?;
    let text = if restored.path == *path {
        format!("restored {path}")
    } else {
        format!("restored {path} to {}", restored.path)
    };
    Ok(output.line(&restored, text)?)
}

async fn restore_version(
    client: &Client,
    space_id: Option<SpaceId>,
    path: &SpacePath,
    version: Version,
    output: Output,
) -> anyhow::Result<()> {
    let file = find(client, space_id, path).await?;
    let restoring = client.restore_version(file.file_id, version, Some(file.version));
    let restored = restoring.await.map_err(|error| match error {
        Error::Refused(problem) if problem.code == "not-found" => refused(
            Kind::NotFound,
            format!("{path} has no version {version}; `syncsphere versions {path}` lists the versions"),
            Error::Refused(problem),
        ),
        error => anyhow::Error::from(error).context(format!("cannot restore version {version} of {path}")),
    })?;
    let text = if restored.version == file.version {
        format!("{path} has the content of version {version} already")
    } else {
        format!(
            "restored version {version} of {path}, as version {}",
            restored.version
        )
    };
    Ok(output.line(&restored, text)?)
}

/// Erases files with all of their versions. Nothing is erased unless all of them are found, and the user
/// confirms it.
pub(crate) async fn erase(client: &Client, remove: &Remove, output: Output) -> anyhow::Result<()> {
    let space_id = resolve::space(client, remove.space.space.as_deref()).await?;
    resolve::epoch(client).await?;
    let mut files: Vec<FileView> = Vec::new();
    for path in &parsed(&remove.paths)? {
        files.push(if remove.trash {
            find_deleted(client, space_id, path).await?
        } else {
            find_to_erase(client, space_id, path).await?
        });
    }
    if !remove.yes {
        confirm(&question(&files, remove.trash), "erase")?;
    }
    let mut failures = Failures::default();
    for file in &files {
        let path = &file.path;
        let base_version = remove.base_version.or(Some(file.version));
        match client.erase_file(file.file_id, base_version, Some(path)).await {
            Ok(erased) => output.line(&erased, format_args!("erased {path} with all of its versions"))?,
            Err(error) => {
                let error = not_erased(path, error);
                if files.len() == 1 || is_feed_reset(&error) {
                    return Err(error);
                }
                output.failure(&error);
                failures.add(kind_of(&error));
            }
        }
    }
    failures.outcome(files.len(), "files could not be erased")
}

fn question(files: &[FileView], in_trash: bool) -> String {
    let place = if in_trash { " from the trash" } else { "" };
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    match paths[..] {
        [path] => format!("{path} is erased{place} with all of its versions. Nothing restores it."),
        _ => format!(
            "{} files are erased{place} with all of their versions. Nothing restores them.\n{}",
            paths.len(),
            paths.join("\n")
        ),
    }
}

fn not_erased(path: &SpacePath, error: Error) -> anyhow::Error {
    match error {
        Error::Refused(problem) if problem.code == "forbidden" => refused(
            Kind::Refused,
            format!(
                "cannot erase {path}: only owners of the space can; without --permanently it moves to the trash"
            ),
            Error::Refused(problem),
        ),
        error => anyhow::Error::from(error).context(format!("cannot erase {path}")),
    }
}

/// The file at a path. If it is missing, the error says whether it is in the trash.
async fn find_to_erase(
    client: &Client,
    space_id: Option<SpaceId>,
    path: &SpacePath,
) -> anyhow::Result<FileView> {
    match find(client, space_id, path).await {
        Err(error) if kind_of(&error) == Kind::NotFound => {
            if client.find_deleted(space_id, path).await?.is_some() {
                let message = format!("{path} is in the trash; add --trash to erase it there");
                return Err(failure(Kind::NotFound, message));
            }
            Err(error)
        }
        found => found,
    }
}

/// The file that was deleted last at a path. A missing file is an error.
async fn find_deleted(
    client: &Client,
    space_id: Option<SpaceId>,
    path: &SpacePath,
) -> anyhow::Result<FileView> {
    let found = client.find_deleted(space_id, path).await;
    let found = found.with_context(|| format!("cannot look {path} up in the trash"))?;
    if let Some(deleted) = found {
        return Ok(deleted.file);
    }
    let message = match client.find_file(space_id, path).await? {
        Some(_) => format!(
            "{path} is not in the trash, because it is not deleted; `syncsphere versions {path}` lists its versions, and --version NUMBER restores one"
        ),
        None => format!("{path} is not in the trash; `syncsphere trash` lists the files that are"),
    };
    Err(failure(Kind::NotFound, message))
}

fn parsed(paths: &[String]) -> anyhow::Result<Vec<SpacePath>> {
    paths.iter().map(|path| resolve::path(path)).collect()
}
