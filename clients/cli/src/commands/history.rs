//! `history` and `versions`: the versions of a file or the changes of a space.

use client::Client;
use model::Cursor;

use crate::arguments::{History, SpaceArguments, Versions};
use crate::commands::files::find;
use crate::commands::watch::describe;
use crate::output::{self, Output};
use crate::resolve;

/// Shows the versions of a file, newest first, or the changes of a space, oldest first.
pub(crate) async fn run(client: &Client, history: &History, output: Output) -> anyhow::Result<()> {
    if let Some(path) = &history.path {
        return versions_of(client, path, &history.space, output).await;
    }
    let space_id = resolve::space(client, history.space.space.as_deref()).await?;
    let mut after = Cursor::START;
    loop {
        let page = client.list_changes(space_id, after).await?;
        for event in &page.changes {
            let time = output::time(event.occurred_at);
            let text = format!("{:>6}  {time}  {}", event.sequence, describe(event));
            output.line(event, text)?;
            after = event.sequence.into();
        }
        if !page.has_more {
            return Ok(());
        }
    }
}

/// Shows the versions of a file, newest first.
pub(crate) async fn versions(client: &Client, versions: &Versions, output: Output) -> anyhow::Result<()> {
    versions_of(client, &versions.path, &versions.space, output).await
}

async fn versions_of(
    client: &Client,
    path: &str,
    space: &SpaceArguments,
    output: Output,
) -> anyhow::Result<()> {
    let space_id = resolve::space(client, space.space.as_deref()).await?;
    let file = find(client, space_id, &resolve::path(path)?).await?;
    let (_, versions) = client.show_file(file.file_id).await?;
    output.table(
        ["VERSION", "SIZE", "UPLOADED", "BY", "SHA-256"],
        &versions,
        |version| {
            [
                version.version.to_string(),
                output::size(version.size),
                output::time(version.created_at),
                version
                    .user_name
                    .as_ref()
                    .map_or_else(|| version.user_id.to_string(), |name| name.as_str().to_owned()),
                version.sha256.to_string(),
            ]
        },
    )?;
    Ok(())
}
