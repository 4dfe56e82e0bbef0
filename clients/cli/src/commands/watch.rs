//! `watch`: shows changes as they happen.

use std::collections::BTreeMap;

use client::{Client, Update, Watcher};
use model::{Change, Cursor, Event, SpaceId};
use serde::Serialize;

use crate::arguments::Watch;
use crate::output::{self, Output};
use crate::resolve;

/// A line of the JSON output.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Line<'a> {
    Change(&'a Event),
    Live,
    Offline { reason: &'a str, again_in_ms: u128 },
    Polling { reason: &'a str },
    CursorReset { space_id: SpaceId },
}

/// Shows changes as they arrive, until the command is interrupted or the watcher ends.
pub(crate) async fn run(client: &Client, watch: &Watch, output: Output) -> anyhow::Result<()> {
    let only = match &watch.space {
        Some(space) => Some(resolve::view(client, Some(space)).await?.space_id),
        None => None,
    };
    let mut names = BTreeMap::new();
    let mut cursors: BTreeMap<SpaceId, Cursor> = BTreeMap::new();
    for space in client.all_spaces().await? {
        names.insert(space.space_id, resolve::name(&space).to_owned());
        if !watch.from_start {
            cursors.insert(space.space_id, space.latest_sequence);
        }
    }
    let mut watcher = match only {
        Some(space_id) => {
            let cursor = cursors.get(&space_id).copied().unwrap_or_default();
            Watcher::of_space(client.clone(), client.epoch(), space_id, cursor)
        }
        None => Watcher::start(client.clone(), client.epoch(), cursors),
    };
    while let Some(update) = watcher.next().await? {
        match &update {
            Update::Change(event) => {
                if !names.contains_key(&event.space_id) {
                    // If the list fails, the space is shown by its ID.
                    for space in client.all_spaces().await.unwrap_or_default() {
                        names.insert(space.space_id, resolve::name(&space).to_owned());
                    }
                }
                let space = names
                    .entry(event.space_id)
                    .or_insert_with(|| event.space_id.to_string());
                let time = output::time(event.occurred_at);
                let text = format!("{time}  {space}: {}", describe(event));
                output.line(&Line::Change(event), text)?;
            }
            Update::Live => output.line(&Line::Live, "· up to date; new changes are shown at once")?,
            Update::Polling { reason } => output.line(
                &Line::Polling { reason },
                format_args!("· no WebSocket: {reason}; checking for changes every 30 to 60 s"),
            )?,
            Update::Offline { reason, retry_in } => {
                let again_in_ms = retry_in.as_millis();
                let seconds = retry_in.as_secs_f64();
                output.line(
                    &Line::Offline { reason, again_in_ms },
                    format_args!("· offline: {reason}; trying again in {seconds:.0} s"),
                )?;
            }
            Update::CursorReset(space_id) => {
                let value = Line::CursorReset { space_id: *space_id };
                let space = names
                    .get(space_id)
                    .cloned()
                    .unwrap_or_else(|| space_id.to_string());
                let text = format!(
                    "· {space}: the service was restored to an earlier state; all changes are shown again"
                );
                output.line(&value, text)?;
            }
            Update::Epoch(_) => {}
        }
    }
    Ok(())
}

/// One line of text that describes a change.
pub(crate) fn describe(event: &Event) -> String {
    match &event.change {
        Change::FileUpdated(file) => {
            format!("+ {}  v{}, {}", file.path, file.version, output::size(file.size))
        }
        Change::FileMoved(file) => format!("> {}  moved here", file.path),
        Change::FileDeleted(file) => format!("- {}  deleted", file.path),
        Change::SpaceShared {
            subject_space_id,
            role,
        } => {
            format!("* you are now {} of {subject_space_id}", role.as_str())
        }
        Change::SpaceInvited {
            subject_space_id,
            role,
        } => format!(
            "* you are invited to be {} of {subject_space_id}; see `syncsphere invitations`",
            role.as_str()
        ),
        Change::SpaceLeft { subject_space_id } => {
            format!("* you are no longer a member of {subject_space_id}")
        }
        Change::SpaceRenamed { name } => format!("* the space is now called {name}"),
        Change::SpaceDeleted {} => "* the space was deleted".to_owned(),
        Change::SpaceRestored {} => "* the space was restored".to_owned(),
        Change::MemberChanged { member_id, role } => {
            format!("* {} is {} of the space", member_id.as_str(), role.as_str())
        }
        Change::MemberRemoved { member_id } => format!("* {} is no member of the space", member_id.as_str()),
    }
}
