//! `login`, `logout` and `whoami`: sessions.

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use client::{Error, Session, SignIn, Token, UserPool};
use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;

use crate::accounts::{Account, Accounts, Pool, Stack, Tokens, User, api_client, as_usage_error, new_id};
use crate::arguments::{AccountArguments, Login};
use crate::failure::{Kind, failure};
use crate::output::{Output, warn};
use crate::prompt::prompt;

/// Signs in, checks that the API accepts the token, and saves the session.
pub(crate) async fn run(account: &AccountArguments, login: &Login, output: Output) -> anyhow::Result<()> {
    let accounts = Accounts::find()?;
    let (name, mut stack) = stack(&accounts, account, login).await?;
    // A URL that is not safe for a token is refused before the password prompt.
    api_client(&stack.http_api_url, Token::from(String::new()), None)?;
    let (user_name, user, session) = match &login.token_command {
        Some(command) => from_command(account, command).await?,
        None => sign_in_to_pool(account, &name, &stack).await?,
    };
    let client = api_client(&stack.http_api_url, session.clone(), None)?;
    let spaces = client.all_spaces().await;
    spaces.with_context(|| format!("{} did not accept the token", stack.http_api_url))?;

    accounts.change(&name, |known| {
        // Keeps other users' sessions if the URL is the same. Under another URL the name belongs to another
        // deployment.
        if let Some(known) = known.take()
            && known.http_api_url == stack.http_api_url
        {
            stack.users = known.users;
        }
        // Signing in again keeps the device ID.
        let device_id = stack.users.get(&user_name).map(|user| user.device_id);
        let user = User {
            device_id: device_id.unwrap_or(user.device_id),
            ..user
        };
        stack.users.insert(user_name.clone(), user);
        stack.user = Some(user_name.clone());
        *known = Some(stack);
    })?;
    accounts.set_default(&name)?;
    if login.authenticator {
        protect(&session, &user_name).await?;
    }
    let user_id = session.token().await?.user_id();
    let value = json!({ "stack": name, "user": user_name, "userId": user_id });
    output.line(&value, format_args!("signed in to {name} as {user_name}"))?;
    Ok(())
}

/// Deletes the saved session and revokes it at the user pool.
pub(crate) async fn log_out(account: &mut Account) -> anyhow::Result<()> {
    let Some(name) = account.name.take() else {
        return Err(failure(
            Kind::Usage,
            "no saved session is in use, because SYNCSPHERE_TOKEN is set; unset it to sign out",
        ));
    };
    // If the user pool cannot be reached, the local session is deleted nevertheless.
    let revoked = account.client.session().revoke().await;
    account.accounts.change(&name.stack, |stack| {
        if let Some(stack) = stack {
            stack.users.remove(&name.user);
            if stack.user.as_ref() == Some(&name.user) {
                stack.user = stack.users.keys().next().cloned();
            }
        }
    })?;
    match revoked {
        Ok(()) | Err(Error::Unauthenticated(_)) => Ok(()),
        Err(error) => Err(error).context(
            "the session was deleted on this machine, but the user pool did not revoke it; \
                 it ends when its refresh token expires",
        ),
    }
}

pub(crate) async fn who_am_i(account: &Account, output: Output) -> anyhow::Result<()> {
    let user_id = account.user_id().await?;
    let name = account.name.as_ref();
    let (stack, user) = (name.map(|name| &name.stack), name.map(|name| &name.user));
    let value =
        json!({ "stack": stack, "user": user, "userId": user_id, "httpApiUrl": account.http_api_url });
    let url = &account.http_api_url;
    match name {
        Some(name) => output.line(
            &value,
            format_args!("{} of {} ({url})\nuser ID {user_id}", name.user, name.stack),
        )?,
        None => output.line(&value, format_args!("a token for {url}\nuser ID {user_id}"))?,
    }
    Ok(())
}

/// The stack to sign in to: a saved one, one given by URL, or one that the AWS CLI describes.
async fn stack(
    accounts: &Accounts,
    account: &AccountArguments,
    login: &Login,
) -> anyhow::Result<(String, Stack)> {
    if let Some((name, mut stack)) = accounts.find_saved(account)? {
        // The stack may have been deployed again since.
        if account.stack.is_some()
            && stack.user_pool.as_ref().is_some_and(Pool::is_on_aws)
            && let Ok((url, pool)) = stack_outputs(&name, login.region.as_deref()).await
        {
            (stack.http_api_url, stack.user_pool) = (url, pool);
        }
        if let (Some(url), Some(client_id)) = (&account.url, &login.user_pool_client_id) {
            stack.user_pool = Some(pool_from_url(url, client_id, login.region.as_deref())?);
        }
        return Ok((name, stack));
    }
    let (name, http_api_url, user_pool) = match (&account.url, &account.stack) {
        (Some(url), _) => {
            let pool = match (&login.user_pool_client_id, &login.token_command) {
                (Some(client_id), _) => Some(pool_from_url(url, client_id, login.region.as_deref())?),
                (None, Some(_)) => None,
                (None, None) => {
                    let message = "the identity provider of the stack is not known; \
                         add --user-pool-client-id (the stack's output UserPoolClientId) or --token-command";
                    return Err(failure(Kind::Usage, message));
                }
            };
            (stack_name_from(url), url.clone(), pool)
        }
        (None, Some(name)) => {
            let outputs = stack_outputs(name, login.region.as_deref()).await?;
            (name.clone(), outputs.0, outputs.1)
        }
        (None, None) => {
            let message =
                "no stack is selected; add --stack NAME, or --url with the stack's output HttpApiUrl";
            return Err(failure(Kind::Usage, message));
        }
    };
    let stack = Stack {
        http_api_url: http_api_url.trim_end_matches('/').to_owned(),
        user_pool,
        user: None,
        users: [].into(),
    };
    Ok((name, stack))
}

/// Signs in with a token command, for any identity provider.
async fn from_command(account: &AccountArguments, command: &str) -> anyhow::Result<(String, User, Session)> {
    let session = Session::from_command(command);
    let token = session.token().await?;
    let name = account
        .user
        .clone()
        .or_else(|| Some(token.user_id()?.to_string()));
    let name = name.ok_or_else(|| {
        failure(
            Kind::Usage,
            "the token does not contain the user's ID; add --user NAME",
        )
    })?;
    let user = User {
        device_id: new_id().into(),
        tokens: Tokens::Command {
            token_command: command.to_owned(),
        },
    };
    Ok((name, user, session))
}

async fn sign_in_to_pool(
    account: &AccountArguments,
    stack_name: &str,
    stack: &Stack,
) -> anyhow::Result<(String, User, Session)> {
    let pool = stack.user_pool.clone().ok_or_else(|| {
        failure(
            Kind::Usage,
            format!("the stack {stack_name} has no user pool; add --token-command COMMAND"),
        )
    })?;
    let name = match account.user.clone().or_else(|| stack.user.clone()) {
        Some(name) => name,
        None => prompt("User", false)?,
    };
    let password = prompt(&format!("Password of {name}"), true)?;
    let mut step = Session::begin(pool.into(), &name, &password).await;
    let session = loop {
        step = match step.map_err(not_signed_in)? {
            SignIn::Done(session) => break session,
            SignIn::NewPassword(challenge) => {
                warn("The password was set by an administrator. Choose a new password.");
                let new = prompt("New password", true)?;
                if io::stdin().is_terminal() && prompt("New password again", true)? != new {
                    return Err(failure(
                        Kind::Usage,
                        "the two new passwords are different; sign in again: syncsphere login",
                    ));
                }
                challenge.answer(&new).await
            }
            SignIn::Code(challenge) => {
                let code = prompt("Code of your authenticator app", false)?;
                challenge.answer(code.trim()).await
            }
        };
    };
    let user = User::signed_in(&session).await?;
    Ok((name, user, session))
}

/// Makes an authenticator app's code a requirement for signing in.
async fn protect(session: &Session, user: &str) -> anyhow::Result<()> {
    let protecting = "cannot protect the account with an authenticator app";
    let authenticator = session.authenticator().await.context(protecting)?;
    let key = authenticator.key();
    warn(format!(
        "Enter this key in your authenticator app, for SyncSphere and {user}: {key}"
    ));
    let code = prompt("Code of the app", false)?;
    authenticator.confirm(code.trim()).await.context(protecting)?;
    warn("The account is protected. Signing in now needs a code of the app.");
    Ok(())
}

fn not_signed_in(error: Error) -> anyhow::Error {
    match error {
        Error::Unauthenticated(reason) => {
            let reason = reason.trim_end_matches('.');
            let message = format!("cannot sign in: {reason}; try again: syncsphere login");
            failure(Kind::Unauthenticated, message)
        }
        error => as_usage_error(error).context("cannot sign in"),
    }
}

/// A stack name derived from the URL, with only characters that are allowed in file names.
fn stack_name_from(url: &str) -> String {
    let address = url.split_once("://").map_or(url, |(_, address)| address);
    let file_name_character = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | ':') {
            c
        } else {
            '-'
        }
    };
    address
        .trim_end_matches('/')
        .chars()
        .map(file_name_character)
        .collect()
}

fn host_in(url: &str) -> anyhow::Result<String> {
    let host = url.split_once("://").and_then(|(_, rest)| rest.split('/').next());
    let host = host.filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| {
        failure(
            Kind::Usage,
            format!("{url:?} is not a URL; use the stack's output HttpApiUrl"),
        )
    })?;
    Ok(host.to_owned())
}

fn pool_from_url(url: &str, client_id: &str, region: Option<&str>) -> anyhow::Result<Pool> {
    let host = host_in(url)?;
    let of_host = || match host.split('.').collect::<Vec<_>>()[..] {
        [_, "execute-api", region, ..] => Some(region),
        _ => None,
    };
    let region = region.or_else(of_host);
    let region = region.ok_or_else(|| {
        failure(
            Kind::Usage,
            format!("{url} does not contain the AWS region of the stack; add --region REGION"),
        )
    })?;
    pool_in_region(region, client_id)
}

/// Checks the region first: the password will be sent to the address built from it.
fn pool_in_region(region: &str, client_id: &str) -> anyhow::Result<Pool> {
    let UserPool { endpoint, client_id } = UserPool::in_region(region, client_id).map_err(as_usage_error)?;
    Ok(Pool { endpoint, client_id })
}

/// Asks the AWS CLI for a stack's outputs.
async fn stack_outputs(name: &str, region: Option<&str>) -> anyhow::Result<(String, Option<Pool>)> {
    let query = ["--query", "Stacks[0].Outputs", "--output", "json"];
    let mut aws = Command::new("aws");
    aws.args(["cloudformation", "describe-stacks", "--stack-name", name])
        .args(query)
        .args(region.map(|region| ["--region", region]).into_iter().flatten())
        .kill_on_drop(true);
    let output = aws.output().await.map_err(|error| {
        let message = format!(
            "the stack {name} is not saved on this machine, and the AWS CLI, which looks it up, cannot be run ({error}); \
             add the stack's outputs: --url HttpApiUrl --user-pool-client-id UserPoolClientId"
        );
        failure(Kind::Unauthenticated, message)
    })?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        let reason = reason.trim();
        let message = format!(
            "the AWS CLI cannot read the stack {name}; check its name, the region and your credentials: {reason}"
        );
        return Err(failure(Kind::NotFound, message));
    }
    outputs(&output.stdout).with_context(|| format!("the stack {name} is not a SyncSphere stack"))
}

/// The API's URL and the user pool, from outputs in CloudFormation's format.
fn outputs(json: &[u8]) -> anyhow::Result<(String, Option<Pool>)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Value {
        output_key: String,
        output_value: String,
    }
    let values: Vec<Value> = serde_json::from_slice(json).context("it has no outputs")?;
    let find = |key: &str| values.iter().find(|value| value.output_key == key);
    let output = |key: &str| find(key).map(|value| value.output_value.clone());
    let url = output("HttpApiUrl").context("it has no output HttpApiUrl")?;
    // With another identity provider there is no user pool.
    let pool = output("UserPoolClientId").zip(output("UserPoolId"));
    let pool = pool.map(|(client_id, pool_id)| {
        let region = pool_id.split_once('_').map_or("", |(region, _)| region);
        pool_in_region(region, &client_id)
    });
    Ok((url, pool.transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_read_from_urls_and_outputs() {
        let url = "https://abc.execute-api.eu-central-1.amazonaws.com";
        let pool = pool_from_url(url, "client", None).unwrap();
        assert_eq!(pool.endpoint, "https://cognito-idp.eu-central-1.amazonaws.com");
        let own = "https://files.example.org/";
        assert!(pool_from_url(own, "client", None).is_err());
        assert_eq!(
            pool_from_url(own, "client", Some("eu-west-1")).unwrap().endpoint,
            "https://cognito-idp.eu-west-1.amazonaws.com"
        );

        let described = json!([
            { "OutputKey": "HttpApiUrl", "OutputValue": url, "Description": "…" },
            { "OutputKey": "UserPoolId", "OutputValue": "us-east-1_Ab" },
            { "OutputKey": "UserPoolClientId", "OutputValue": "client" },
        ]);
        let (found, pool) = outputs(described.to_string().as_bytes()).unwrap();
        assert_eq!(found, url);
        assert_eq!(
            pool.unwrap().endpoint,
            "https://cognito-idp.us-east-1.amazonaws.com"
        );
        for url in [
            "https://x.execute-api.a@3232235777#.y",
            "https://x.execute-api.evil.example",
            "https://x.execute-api.eu-central-1@evil.amazonaws.com",
        ] {
            let error = pool_from_url(url, "client", None).unwrap_err();
            assert_eq!(crate::failure::kind_of(&error), Kind::Usage, "{url}");
        }
        assert!(pool_from_url(own, "client", Some("eu-west-1.evil.example/#")).is_err());
        assert!(
            outputs(
                described
                    .to_string()
                    .replace("us-east-1_Ab", "x@y#_Ab")
                    .as_bytes()
            )
            .is_err()
        );
        assert!(outputs(b"null").is_err());
        assert!(outputs(b"[]").is_err());
    }

    #[test]
    fn a_stack_is_named_after_its_url() {
        assert_eq!(
            stack_name_from("http://127.0.0.1:4566/x/$default/"),
            "127.0.0.1:4566-x--default"
        );
        assert_ne!(
            stack_name_from("https://h/prod"),
            stack_name_from("https://h/dev")
        );
        assert!(host_in("nothing").is_err());
    }
}
