//! `account`: the account of the signed-in user.

use anyhow::Context as _;
use client::{Client, Error};
use model::{EmailAddress, PersonName, Role, SpaceKind, SpaceView, Usage};
use serde_json::json;

use crate::accounts::Account;
use crate::arguments::AccountCommand;
use crate::commands::login::log_out;
use crate::failure::{Kind, failure, refused, sentence};
use crate::output::{self, Output, warn};
use crate::prompt::confirm;
use crate::resolve;

/// Shows or erases the account.
pub(crate) async fn run(
    account: &mut Account,
    command: Option<AccountCommand>,
    output: Output,
) -> anyhow::Result<()> {
    match command.unwrap_or(AccountCommand::Show) {
        AccountCommand::Show => show(&account.client, output).await,
        AccountCommand::Erase { yes } => erase(account, yes, output).await,
    }
}

async fn show(client: &Client, output: Output) -> anyhow::Result<()> {
    let profile = client.profile().await?;
    let name = profile.name.as_ref().map_or("not known", PersonName::as_str);
    let email = profile.email.as_ref().map_or("not known", EmailAddress::as_str);
    let mut text = format!("name     {name}\naddress  {email}\nuser ID  {}", profile.user_id);
    // Services of earlier releases do not count it.
    if let Some(usage) = &profile.usage {
        text += &limits(usage);
    }
    Ok(output.line(&profile, text)?)
}

/// One line for each limit.
fn limits(usage: &Usage) -> String {
    let Usage {
        changes_per_minute: changes,
        pending_uploads: uploads,
        spaces,
        space_bytes: storage,
        invitations_per_day: invitations,
    } = usage;
    format!(
        "\nstorage  {} of {} in your personal space, with old versions and the trash\
         \nspaces   {} of {} shared spaces\
         \nuploads  {} of {} that are not complete\
         \nchanges  {} of {} in this minute\
         \ninvited  {} of {} people in this day",
        output::bytes(storage.used),
        output::bytes(storage.maximum),
        spaces.used,
        spaces.maximum,
        uploads.used,
        uploads.maximum,
        changes.used,
        changes.maximum,
        invitations.used,
        invitations.maximum,
    )
}

/// Erases the account, and deletes the saved session.
async fn erase(account: &mut Account, yes: bool, output: Output) -> anyhow::Result<()> {
    let client = &account.client;
    let user_id = account.user_id().await?;
    let spaces = client.all_spaces().await?;
    let consequences = consequences(client, &spaces).await?;
    if !consequences.ownerless.is_empty() {
        return Err(failure(Kind::Conflict, needs_owner(&consequences.ownerless)));
    }
    if !yes {
        confirm(&question(&consequences.erased), "erase my account")?;
    }
    client.erase_account().await.map_err(|error| match error {
        Error::Refused(problem) if problem.code == "last-owner" => {
            let owned = spaces
                .iter()
                .filter(|it| problem.space_ids.contains(&it.space_id));
            let names: Vec<String> = owned.map(|space| resolve::name(space).to_owned()).collect();
            refused(Kind::Conflict, needs_owner(&names), Error::Refused(problem))
        }
        error => anyhow::Error::from(error).context("cannot erase your account"),
    })?;
    output.line(
        &json!({ "userId": user_id, "erased": true }),
        "your account is erased; what names you elsewhere is gone within some minutes",
    )?;
    if account.name.is_some()
        && let Err(error) = log_out(account).await
    {
        // The account is erased nevertheless, and the session is of no use any more.
        warn(format_args!("syncsphere: {}", sentence(&error)));
    }
    Ok(())
}

/// What erasing the account does to the spaces of which the user is an owner, by their names.
#[derive(Default)]
struct Consequences {
    /// Shared spaces without another member, which are erased too.
    erased: Vec<String>,
    /// Spaces with other members that would have no owner.
    ownerless: Vec<String>,
}

async fn consequences(client: &Client, spaces: &[SpaceView]) -> anyhow::Result<Consequences> {
    let mut consequences = Consequences::default();
    let is_owned = |space: &&SpaceView| space.kind == SpaceKind::Shared && space.role == Role::Owner;
    for space in spaces.iter().filter(is_owned) {
        let name = resolve::name(space);
        let listing = client.all_members(space.space_id).await;
        let members = listing.with_context(|| format!("cannot list the members of {name}"))?;
        let owners = members.iter().filter(|member| member.role == Role::Owner).count();
        if members.len() == 1 {
            consequences.erased.push(name.to_owned());
        } else if owners == 1 {
            consequences.ownerless.push(name.to_owned());
        }
    }
    Ok(consequences)
}

fn question(erased: &[String]) -> String {
    let also = if erased.is_empty() {
        String::new()
    } else {
        format!(
            ", and these spaces, which have no other member: {}",
            quoted(erased)
        )
    };
    format!(
        "Your account is erased for good, with all files in your personal space, their versions and the trash{also}.\n\
         Files that you have put into spaces with other members stay there, and name \"deleted user\" in place of you.\n\
         Files on your devices stay."
    )
}

fn needs_owner(names: &[String]) -> String {
    format!(
        "your account cannot be erased yet, because you are the only owner of {}, with other members; \
         make another member the owner (`syncsphere share SPACE USER_ID --role owner`) or delete the space \
         (`syncsphere spaces delete SPACE`), and repeat the command",
        quoted(names)
    )
}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    names.join(", ")
}
