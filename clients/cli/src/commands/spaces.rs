//! `spaces` and `share`: shared spaces, their members and invitations to them.

use anyhow::Context as _;
use client::{Client, Error, Invited};
use model::{EmailAddress, PersonName, SpaceId, SpaceName, UserId};
use serde_json::json;
use uuid::Uuid;

use crate::accounts::{Account, new_id};
use crate::arguments::{Share, SpacesCommand};
use crate::failure::{Kind, failure};
use crate::output::{self, Output};
use crate::resolve;

/// Lists spaces, or creates, changes, deletes or restores one, or lists its members or invitations.
pub(crate) async fn run(
    client: &Client,
    command: Option<SpacesCommand>,
    output: Output,
) -> anyhow::Result<()> {
    match command {
        None => {
            let spaces = client.all_spaces().await?;
            output.table(["NAME", "ROLE", "SIZE", "CHANGES", "ID"], &spaces, |space| {
                [
                    resolve::name(space).to_owned(),
                    space.role.as_str().to_owned(),
                    space.bytes.map(output::bytes).unwrap_or_default(),
                    space.latest_sequence.to_string(),
                    space.space_id.to_string(),
                ]
            })?;
        }
        Some(SpacesCommand::Create { name }) => {
            let name = space_name(&name)?;
            // With an idempotency key, repeated requests create one space.
            let key = new_id().to_string().parse()?;
            let space = client.create_space(name, &key).await?;
            output.line(&space, space.space_id)?;
        }
        Some(SpacesCommand::Rename { space, name }) => {
            let name = space_name(&name)?;
            let space_id = resolve::shared_space(client, &space).await?;
            let renaming = client.rename_space(space_id, name);
            let view = renaming.await.with_context(|| format!("cannot rename {space}"))?;
            output.line(
                &view,
                format_args!("{space} is now called {}", resolve::name(&view)),
            )?;
        }
        Some(SpacesCommand::Delete { space }) => {
            let space_id = resolve::shared_space(client, &space).await?;
            let deleting = client.delete_space(space_id);
            deleting.await.with_context(|| format!("cannot delete {space}"))?;
            let value = json!({ "spaceId": space_id, "deleted": true });
            output.line(
                &value,
                format_args!("{space} is deleted; `syncsphere spaces restore {space_id}` brings it back"),
            )?;
        }
        Some(SpacesCommand::Deleted) => {
            let deleted = client.deleted_spaces().await?;
            output.table(["NAME", "DELETED", "FINAL", "ID"], &deleted, |deleted| {
                [
                    resolve::name(&deleted.space).to_owned(),
                    output::time(deleted.deleted_at),
                    output::time(deleted.purged_at),
                    deleted.space.space_id.to_string(),
                ]
            })?;
        }
        Some(SpacesCommand::Restore { space }) => {
            let space_id = deleted_space(client, &space).await?;
            let restoring = client.restore_space(space_id);
            let view = restoring
                .await
                .with_context(|| format!("cannot restore {space}"))?;
            output.line(&view, format_args!("{} is restored", resolve::name(&view)))?;
        }
        Some(SpacesCommand::Invitations { space }) => {
            let space_id = resolve::shared_space(client, &space).await?;
            let listing = client.all_invitations(space_id);
            let invitations = listing
                .await
                .with_context(|| format!("cannot list the invitations to {space}"))?;
            output.table(["INVITED", "ROLE", "UNTIL"], &invitations, |invitation| {
                let user_id = invitation.user_id.as_ref().map(UserId::as_str);
                let email = invitation.email.as_ref().map(EmailAddress::as_str);
                [
                    user_id.or(email).unwrap_or_default().to_owned(),
                    invitation.role.as_str().to_owned(),
                    output::time(invitation.expires_at),
                ]
            })?;
        }
        Some(SpacesCommand::Members { space }) => {
            let space_id = resolve::shared_space(client, &space).await?;
            let members = client.all_members(space_id).await?;
            output.table(["NAME", "ROLE", "SINCE", "USER ID"], &members, |member| {
                [
                    member
                        .user_name
                        .as_ref()
                        .map_or("", PersonName::as_str)
                        .to_owned(),
                    member.role.as_str().to_owned(),
                    output::time(member.added_at),
                    member.user_id.to_string(),
                ]
            })?;
        }
    }
    Ok(())
}

/// Invites somebody, changes a member's role, or ends a membership or an invitation.
pub(crate) async fn share(account: &Account, share: &Share, output: Output) -> anyhow::Result<()> {
    let client = &account.client;
    let invited = person(&share.person, &account.user_id().await?)?;
    let space_id = resolve::shared_space(client, &share.space).await?;
    let (space, person, role) = (&share.space, &share.person, share.role.into());
    if share.remove {
        return remove(client, space_id, invited, share, output).await;
    }
    let cannot = || format!("cannot share {space}");
    if let Invited::User(user_id) = &invited {
        match client.set_member(space_id, user_id, role).await {
            Ok(member) => {
                let role = member.role.as_str();
                output.line(&member, format_args!("{person} is now {role} of {space}"))?;
                return Ok(());
            }
            // The user is not a member yet.
            Err(Error::Refused(problem)) if problem.code == "not-found" => {}
            Err(error) => return Err(error).with_context(cannot),
        }
    }
    let invitation = client
        .invite(space_id, invited, role)
        .await
        .with_context(cannot)?;
    let role = invitation.role.as_str();
    output.line(
        &invitation,
        format_args!(
            "{person} is invited to be {role} of {space}, and sees it after accepting the invitation"
        ),
    )?;
    Ok(())
}

/// Ends the membership of a user, and any pending invitation that names the person.
async fn remove(
    client: &Client,
    space_id: SpaceId,
    invited: Invited,
    share: &Share,
    output: Output,
) -> anyhow::Result<()> {
    let (space, person) = (&share.space, &share.person);
    let cannot = || format!("cannot remove {person} from {space}");
    // Only owners see invitations; other members remove only themselves.
    let invitations = client.all_invitations(space_id).await.unwrap_or_default();
    for pending in invitations {
        let named = match &invited {
            Invited::User(user_id) => pending.user_id.as_ref() == Some(user_id),
            Invited::Email(email) => pending.email.as_ref() == Some(email),
        };
        if named {
            let withdrawing = client.withdraw_invitation(space_id, pending.invitation_id);
            withdrawing.await.with_context(cannot)?;
        }
    }
    if let Invited::User(user_id) = &invited {
        client
            .remove_member(space_id, user_id)
            .await
            .with_context(cannot)?;
    }
    let value = json!({ "spaceId": space_id, "userId": person, "removed": true });
    output.line(&value, format_args!("{person} is no longer a member of {space}"))?;
    Ok(())
}

/// Reads an address or a user ID. Refuses a user ID that is not a UUID if the caller's own ID is one: it is
/// probably a name.
fn person(person: &UserId, own: &UserId) -> anyhow::Result<Invited> {
    if let Ok(email) = person.as_str().parse() {
        return Ok(Invited::Email(email));
    }
    let is_uuid = |id: &UserId| Uuid::try_parse(id.as_str()).is_ok();
    if is_uuid(own) && !is_uuid(person) {
        let message = format!(
            "\"{person}\" is neither an e-mail address nor a user ID; ask the user for the ID that `syncsphere whoami` shows"
        );
        return Err(failure(Kind::Usage, message));
    }
    Ok(Invited::User(person.clone()))
}

/// Reads the name of a space.
fn space_name(name: &str) -> anyhow::Result<SpaceName> {
    if name.trim().is_empty() {
        return Err(failure(
            Kind::Usage,
            "the name of the space is empty; enter a name",
        ));
    }
    name.parse()
        .map_err(|error| failure(Kind::Usage, format!("{name:?} is not a valid name: {error}")))
}

/// The deleted space with this name or ID.
async fn deleted_space(client: &Client, text: &str) -> anyhow::Result<SpaceId> {
    let deleted = client.deleted_spaces().await?;
    let found: Vec<SpaceId> = deleted
        .iter()
        .map(|deleted| &deleted.space)
        .filter(|space| resolve::name(space) == text || space.space_id.to_string() == text)
        .map(|space| space.space_id)
        .collect();
    match found[..] {
        [space_id] => Ok(space_id),
        [] => Err(failure(
            Kind::NotFound,
            format!(
                "you can restore no space {text:?}; `syncsphere spaces deleted` lists those that you can"
            ),
        )),
        _ => Err(failure(
            Kind::Usage,
            format!(
                "several deleted spaces are named {text:?}; use the ID, which `syncsphere spaces deleted` lists"
            ),
        )),
    }
}
