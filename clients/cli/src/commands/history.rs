//! `history`: the versions of a file or the changes of a space.

use client::Client;
use model::Cursor;

use crate::arguments::History;
use crate::commands::files::find;
use crate::commands::watch::describe;
use crate::output::{self, Output};
use crate::resolve;

/// Shows the versions of a file, newest first, or the changes of a space, oldest first.
pub(crate) async fn run(client: &Client, history: &History, output: Output) -> anyhow::Result<()> {
    let space_id = resolve::space(client, history.space.space.as_deref()).await?;
    if let Some(path) = &history.path {
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
        return Ok(());
    }
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
