//! `spaces` and `share`: shared spaces and their members.

use anyhow::Context as _;
use client::Client;
use model::UserId;
use serde_json::json;
use uuid::Uuid;

use crate::accounts::{Account, new_id};
use crate::arguments::{Share, SpacesCommand};
use crate::failure::{Kind, failure};
use crate::output::{self, Output};
use crate::resolve;

/// Lists spaces, creates one, or lists the members of one.
pub(crate) async fn run(
    client: &Client,
    command: Option<SpacesCommand>,
    output: Output,
) -> anyhow::Result<()> {
    match command {
        None => {
            let spaces = client.all_spaces().await?;
            output.table(["NAME", "ROLE", "CHANGES", "ID"], &spaces, |space| {
                [
                    resolve::name(space).to_owned(),
                    space.role.as_str().to_owned(),
                    space.latest_sequence.to_string(),
                    space.space_id.to_string(),
                ]
            })?;
        }
        Some(SpacesCommand::Create { name }) => {
            if name.trim().is_empty() {
                return Err(failure(
                    Kind::Usage,
                    "the name of the space is empty; enter a name",
                ));
            }
            let name = name
                .parse()
                .map_err(|error| failure(Kind::Usage, format!("{name:?} is not a valid name: {error}")))?;
            // With an idempotency key, repeated requests create one space.
            let key = new_id().to_string().parse()?;
            let space = client.create_space(name, &key).await?;
            output.line(&space, space.space_id)?;
        }
        Some(SpacesCommand::Members { space }) => {
            let space_id = resolve::shared_space(client, &space).await?;
            let members = client.all_members(space_id).await?;
            output.table(["USER ID", "ROLE", "SINCE"], &members, |member| {
                [
                    member.user_id.to_string(),
                    member.role.as_str().to_owned(),
                    output::time(member.added_at),
                ]
            })?;
        }
    }
    Ok(())
}

/// Adds a member, changes a member's role, or ends a membership.
pub(crate) async fn share(account: &Account, share: &Share, output: Output) -> anyhow::Result<()> {
    let client = &account.client;
    refuse_names(&share.user_id, &account.user_id().await?)?;
    let space_id = resolve::shared_space(client, &share.space).await?;
    let (space, user_id) = (&share.space, &share.user_id);
    if share.remove {
        let removing = client.remove_member(space_id, user_id);
        removing
            .await
            .with_context(|| format!("cannot remove {user_id} from {space}"))?;
        let value = json!({ "spaceId": space_id, "userId": user_id, "removed": true });
        output.line(&value, format_args!("{user_id} is no longer a member of {space}"))?;
        return Ok(());
    }
    let setting = client.set_member(space_id, user_id, share.role.into());
    let member = setting.await.with_context(|| format!("cannot share {space}"))?;
    let role = member.role.as_str();
    output.line(&member, format_args!("{user_id} is now {role} of {space}"))?;
    Ok(())
}

/// Refuses a user ID that is not a UUID if the caller's own ID is one: it is probably a name.
fn refuse_names(user_id: &UserId, own: &UserId) -> anyhow::Result<()> {
    let is_uuid = |id: &UserId| Uuid::try_parse(id.as_str()).is_ok();
    if is_uuid(own) && !is_uuid(user_id) {
        let message =
            format!("\"{user_id}\" is not a user ID; ask the user for the ID that `syncsphere whoami` shows");
        return Err(failure(Kind::Usage, message));
    }
    Ok(())
}
