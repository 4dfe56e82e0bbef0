//! `invitations`: the invitations that the user has received.

use anyhow::Context as _;
use client::Client;
use model::ReceivedInvitation;
use serde_json::json;

use crate::arguments::InvitationsCommand;
use crate::failure::{Kind, failure};
use crate::output::{self, Output};

/// Lists invitations, accepts one, or declines one.
pub(crate) async fn run(
    client: &Client,
    command: Option<InvitationsCommand>,
    output: Output,
) -> anyhow::Result<()> {
    let received = client.received_invitations().await?;
    match command.unwrap_or(InvitationsCommand::List) {
        InvitationsCommand::List => {
            output.table(
                ["SPACE", "ROLE", "FROM", "UNTIL", "ID"],
                &received,
                |invitation| {
                    [
                        invitation.space_name.as_str().to_owned(),
                        invitation.role.as_str().to_owned(),
                        inviter(invitation),
                        output::time(invitation.expires_at),
                        invitation.invitation_id.to_string(),
                    ]
                },
            )?;
        }
        InvitationsCommand::Accept { invitation } => {
            let found = find(&received, &invitation)?;
            let space = found.space_name.as_str();
            let accepting = client.accept_invitation(found.invitation_id);
            let member = accepting
                .await
                .with_context(|| format!("cannot accept the invitation to {space}"))?;
            let role = member.role.as_str();
            output.line(&member, format_args!("you are now {role} of {space}"))?;
        }
        InvitationsCommand::Decline { invitation, block } => {
            let found = find(&received, &invitation)?;
            let space = found.space_name.as_str();
            let declining = client.decline_invitation(found.invitation_id, block);
            declining
                .await
                .with_context(|| format!("cannot decline the invitation to {space}"))?;
            let value = json!({ "invitationId": found.invitation_id, "declined": true, "blocked": block });
            let text = if block {
                let inviter = inviter(found);
                format!("declined the invitation to {space}; you see no more invitations of {inviter}")
            } else {
                format!("declined the invitation to {space}")
            };
            output.line(&value, text)?;
        }
    }
    Ok(())
}

/// The name or the ID of the inviter.
fn inviter(invitation: &ReceivedInvitation) -> String {
    let name = invitation.inviter_name.as_ref();
    name.map_or_else(
        || invitation.inviter_id.to_string(),
        |name| name.as_str().to_owned(),
    )
}

/// The invitation with this ID, or to the space with this name or ID.
fn find<'a>(received: &'a [ReceivedInvitation], text: &str) -> anyhow::Result<&'a ReceivedInvitation> {
    let found: Vec<_> = received
        .iter()
        .filter(|it| {
            it.invitation_id.to_string() == text
                || it.space_id.to_string() == text
                || it.space_name.as_str() == text
        })
        .collect();
    match found[..] {
        [invitation] => Ok(invitation),
        [] => Err(failure(
            Kind::NotFound,
            format!("you have no invitation to {text:?}; `syncsphere invitations` lists yours"),
        )),
        _ => Err(failure(
            Kind::Usage,
            format!(
                "you have several invitations to {text:?}; use the ID of one, which `syncsphere invitations` lists"
            ),
        )),
    }
}
