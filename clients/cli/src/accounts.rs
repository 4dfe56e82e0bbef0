//! Saved sessions: one file for each stack, readable by this user only.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use client::{Client, Error, Session, Token, UserPool};
use etcetera::BaseStrategy as _;
use model::{DeviceId, UserId};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use uuid::Uuid;

use crate::arguments::AccountArguments;
use crate::failure::{Kind, failure};

/// The folder with everything that the command saves between runs.
#[derive(Clone, Debug)]
pub struct Accounts {
    folder: PathBuf,
}

/// A stack's addresses, from its CloudFormation outputs, and the users who are signed in to it on this
/// machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stack {
    /// The output `HttpApiUrl`.
    pub http_api_url: String,
    /// The Cognito user pool; `None` if another identity provider issues the tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_pool: Option<Pool>,
    /// The default user: the key in `users` that is used without `--user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// All signed-in users, by sign-in name.
    #[serde(default)]
    pub users: BTreeMap<String, User>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// The address of Cognito, `https://cognito-idp.REGION.amazonaws.com`, or an emulator's.
    pub endpoint: String,
    /// The output `UserPoolClientId`.
    pub client_id: String,
}

impl Pool {
    /// Whether the pool is on AWS and not in an emulator.
    pub(crate) fn is_on_aws(&self) -> bool {
        self.endpoint.starts_with("https://cognito-idp.")
    }
}

impl From<Pool> for UserPool {
    fn from(pool: Pool) -> Self {
        let Pool { endpoint, client_id } = pool;
        Self { endpoint, client_id }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The device ID of this machine, which is the origin of this user's changes.
    pub device_id: DeviceId,
    #[serde(flatten)]
    pub tokens: Tokens,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", untagged)]
pub enum Tokens {
    Pool {
        /// Cognito's refresh token, which renews the token.
        refresh_token: String,
        /// The last token received, if one was saved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// When `token` was received, in seconds since 1970-01-01 UTC by this machine's clock.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        received_at: Option<u64>,
    },
    /// Tokens printed by a shell command.
    Command {
        /// The command line. It prints a token to its standard output.
        token_command: String,
    },
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("device_id", &self.device_id)
            .finish_non_exhaustive()
    }
}

fn seconds(time: SystemTime) -> Option<u64> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

/// A saved token with its time of receipt. Earlier releases saved no time.
fn saved_token(text: String, received_at: Option<u64>) -> Token {
    let at = received_at.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    match at {
        Some(at) => Token::received(text, at),
        None => text.into(),
    }
}

impl User {
    /// A user who has just signed in with a user pool. Fails if the pool gave no refresh token.
    pub async fn signed_in(session: &Session) -> anyhow::Result<Self> {
        let refresh = session.refresh_token();
        let refresh = refresh.context(
            "the user pool issued no refresh token, so the session cannot be saved; \
             allow ALLOW_REFRESH_TOKEN_AUTH for its client",
        )?;
        let token = session.token().await?;
        Ok(Self {
            device_id: new_id().into(),
            tokens: Tokens::Pool {
                refresh_token: refresh.as_str().to_owned(),
                received_at: token.received_at().and_then(seconds),
                token: Some(token.as_str().to_owned()),
            },
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "`platform` is for functions")]
pub(crate) fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// The key of a saved account: stack name and sign-in name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) stack: String,
    pub(crate) user: String,
}

pub(crate) struct Account {
    /// The API client, with this machine's device ID if one is saved.
    pub(crate) client: Client,
    pub(crate) http_api_url: String,
    /// `None` if the token is from the environment.
    pub(crate) name: Option<Name>,
    /// The saved token, to detect a renewal.
    token: Option<Token>,
    pub(crate) accounts: Accounts,
}

impl Account {
    pub(crate) async fn user_id(&self) -> anyhow::Result<UserId> {
        let token = self.client.session().token().await?;
        token
            .user_id()
            .context("the token does not contain the user's ID; use a JWT of the stack's identity provider, with the claim sub")
    }

    /// Saves the session's newest token if it was renewed.
    pub(crate) async fn save_token(&self) -> anyhow::Result<()> {
        let session = self.client.session();
        let (Some(name), Some(_)) = (&self.name, session.refresh_token()) else {
            return Ok(());
        };
        let Some(latest) = session
            .latest()
            .await
            .filter(|latest| self.token.as_ref() != Some(latest))
        else {
            return Ok(());
        };
        self.accounts.change(&name.stack, |stack| {
            let user = stack.as_mut().and_then(|stack| stack.users.get_mut(&name.user));
            if let Some(Tokens::Pool {
                token, received_at, ..
            }) = user.map(|user| &mut user.tokens)
            {
                *token = Some(latest.as_str().to_owned());
                *received_at = latest.received_at().and_then(seconds);
            }
        })
    }
}

impl Accounts {
    /// Sessions in `SYNCSPHERE_HOME`, or in the user's configuration folder.
    pub fn find() -> anyhow::Result<Self> {
        if let Some(folder) = std::env::var_os("SYNCSPHERE_HOME").filter(|folder| !folder.is_empty()) {
            return Ok(Self::in_folder(folder));
        }
        let base = etcetera::choose_base_strategy();
        let base =
            base.context("there is no home folder for saved sessions; set SYNCSPHERE_HOME to a folder")?;
        Ok(Self::in_folder(base.config_dir().join("syncsphere")))
    }

    /// Sessions in the given folder, which need not exist yet.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The saved stack, or `None` if nobody has signed in to it.
    pub fn stack(&self, name: &str) -> anyhow::Result<Option<Stack>> {
        let file = self.file(name)?;
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        let stack = serde_json::from_slice(&text);
        stack.with_context(|| {
            format!(
                "{} is damaged; delete it and sign in again: syncsphere login",
                file.display()
            )
        })
    }

    /// Changes a saved stack under a lock. Setting it to `None` deletes its file.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Option<Stack>)) -> anyhow::Result<()> {
        private_folder(&self.folder.join("stacks"))?;
        let _lock = self.lock()?;
        let mut stack = self.stack(name)?;
        change(&mut stack);
        let file = self.file(name)?;
        match stack {
            Some(stack) => write_private(&file, &serde_json::to_vec_pretty(&stack)?)?,
            None if file.exists() => {
                fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
            }
            None => {}
        }
        Ok(())
    }

    pub fn set_default(&self, name: &str) -> anyhow::Result<()> {
        private_folder(&self.folder)?;
        write_private(&self.default_file(), name.as_bytes())
    }

    /// The default stack, if it is still saved.
    pub fn default_stack(&self) -> Option<String> {
        let name = fs::read_to_string(self.default_file()).ok()?;
        self.file(&name).ok()?.exists().then_some(name)
    }

    /// The names of all saved stacks, sorted.
    pub(crate) fn stacks(&self) -> Vec<String> {
        let found = fs::read_dir(self.folder.join("stacks")).into_iter().flatten();
        let files = found.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = files
            .filter_map(|file| Some(file.strip_suffix(".json")?.to_owned()))
            .collect();
        names.sort();
        names
    }

    /// Creates a private folder for data that outlives a command.
    pub(crate) fn data_folder(&self, what: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(what);
        private_folder(&folder)?;
        Ok(folder)
    }

    /// The stack that the command line selects, or the default one; `None` if it is not saved.
    pub(crate) fn find_saved(&self, selected: &AccountArguments) -> anyhow::Result<Option<(String, Stack)>> {
        if let Some(url) = selected.url.as_deref().map(|url| url.trim_end_matches('/')) {
            for name in self.stacks() {
                if let Some(stack) = self.stack(&name)?
                    && stack.http_api_url.trim_end_matches('/') == url
                {
                    return Ok(Some((name, stack)));
                }
            }
            return Ok(None);
        }
        let Some(name) = selected.stack.clone().or_else(|| self.default_stack()) else {
            return Ok(None);
        };
        Ok(self.stack(&name)?.map(|stack| (name, stack)))
    }

    /// The account that the command line and `SYNCSPHERE_TOKEN` select.
    pub(crate) fn account(&self, selected: &AccountArguments) -> anyhow::Result<Account> {
        let known = self.find_saved(selected)?;
        if let Some(token) = token_from_environment() {
            let url = selected
                .url
                .clone()
                .or(known.map(|(_, stack)| stack.http_api_url));
            let url = url.ok_or_else(|| {
                failure(
                    Kind::Usage,
                    "SYNCSPHERE_TOKEN is set, but no stack is selected; add --url URL or --stack NAME",
                )
            })?;
            let client = api_client(&url, Token::from(token), None)?;
            return Ok(Account {
                client,
                http_api_url: url,
                name: None,
                token: None,
                accounts: self.clone(),
            });
        }
        let Some((stack_name, stack)) = known else {
            return Err(self.not_signed_in(selected));
        };
        let user_name = selected.user.clone().or(stack.user);
        let user_name = user_name.ok_or_else(|| user_not_signed_in(&stack_name, None))?;
        let user = stack.users.get(&user_name).cloned();
        let user = user.ok_or_else(|| user_not_signed_in(&stack_name, Some(&user_name)))?;
        let mut saved = None;
        let session = match user.tokens {
            Tokens::Command { token_command } => Session::from_command(token_command),
            Tokens::Pool {
                refresh_token,
                token,
                received_at,
            } => {
                let pool = stack.user_pool;
                let pool =
                    pool.context("the stack's user pool is not saved; sign in again: syncsphere login")?;
                saved = token.map(|token| saved_token(token, received_at));
                Session::resume(pool.into(), refresh_token.into(), saved.clone())
            }
        };
        Ok(Account {
            client: api_client(&stack.http_api_url, session, Some(user.device_id))?,
            http_api_url: stack.http_api_url,
            name: Some(Name {
                stack: stack_name,
                user: user_name,
            }),
            token: saved,
            accounts: self.clone(),
        })
    }

    fn not_signed_in(&self, selected: &AccountArguments) -> anyhow::Error {
        let known = match self.stacks() {
            stacks if stacks.is_empty() => String::new(),
            stacks => format!(" (saved stacks: {})", stacks.join(", ")),
        };
        let message = match (&selected.url, &selected.stack) {
            (Some(url), _) => {
                format!("nobody is signed in to {url}{known}; sign in: syncsphere login --url {url}")
            }
            (None, Some(name)) => {
                format!(
                    "nobody is signed in to the stack {name}{known}; sign in: syncsphere login --stack {name}"
                )
            }
            (None, None) => format!("nobody is signed in{known}; sign in: syncsphere login --stack NAME"),
        };
        failure(Kind::Unauthenticated, message)
    }

    /// The file of a stack. Names that are not safe as file names are refused.
    fn file(&self, name: &str) -> anyhow::Result<PathBuf> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(is_allowed) {
            let message = format!("{name:?} is not a valid stack name; use letters, digits, -, _, . and :");
            return Err(failure(Kind::Usage, message));
        }
        Ok(self.folder.join("stacks").join(format!("{name}.json")))
    }

    fn default_file(&self) -> PathBuf {
        self.folder.join("stack")
    }

    fn lock(&self) -> anyhow::Result<File> {
        let path = self.folder.join("lock");
        let lock = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        lock.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(lock)
    }
}

fn user_not_signed_in(stack: &str, user: Option<&str>) -> anyhow::Error {
    let (who, how) = match user {
        Some(user) => (format!("{user} is not"), format!(" --user {user}")),
        None => ("nobody is".to_owned(), String::new()),
    };
    failure(
        Kind::Unauthenticated,
        format!("{who} signed in to the stack {stack}; sign in: syncsphere login --stack {stack}{how}"),
    )
}

/// Creates an API client. A URL that is not safe for a token is a usage error.
pub(crate) fn api_client(
    url: &str,
    session: impl Into<Session>,
    device_id: Option<DeviceId>,
) -> anyhow::Result<Client> {
    Client::new(url, session, device_id).map_err(as_usage_error)
}

/// Makes an insecure address a usage error. Other errors stay the same.
pub(crate) fn as_usage_error(error: Error) -> anyhow::Error {
    match error {
        Error::Insecure(message) => failure(Kind::Usage, message),
        error => error.into(),
    }
}

fn token_from_environment() -> Option<String> {
    let token = std::env::var_os("SYNCSPHERE_TOKEN")?.into_string().ok()?;
    let token = token.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

/// Creates a folder that only this user can read: mode 0700 on Unix. On Windows it inherits the permissions
/// of its parent. `%APPDATA%` admits the user, the system and administrators; a folder named by
/// `SYNCSPHERE_HOME` keeps its own permissions.
fn private_folder(folder: &Path) -> anyhow::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(folder)
        .with_context(|| format!("cannot create {}", folder.display()))
}

/// Writes a file atomically that only this user can read: mode 0600 on Unix. On Windows it inherits the
/// permissions of its folder.
pub(crate) fn write_private(file: &Path, text: &[u8]) -> anyhow::Result<()> {
    let writing = || -> io::Result<()> {
        let folder = file.parent().unwrap_or(file);
        let mut new = NamedTempFile::new_in(folder)?;
        new.write_all(text)?;
        new.as_file().sync_all()?;
        new.persist(file)?;
        Ok(())
    };
    writing().with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack() -> Stack {
        Stack {
            http_api_url: "http://127.0.0.1:1/api/".to_owned(),
            user_pool: Some(Pool {
                endpoint: "http://127.0.0.1:1".to_owned(),
                client_id: "client".to_owned(),
            }),
            user: Some("alice".to_owned()),
            users: BTreeMap::from([(
                "alice".to_owned(),
                User {
                    device_id: Uuid::from_u128(1).into(),
                    tokens: Tokens::Pool {
                        refresh_token: "hidden".to_owned(),
                        token: None,
                        received_at: None,
                    },
                },
            )]),
        }
    }

    fn arguments(stack: Option<&str>, url: Option<&str>, user: Option<&str>) -> AccountArguments {
        AccountArguments {
            stack: stack.map(str::to_owned),
            url: url.map(str::to_owned),
            user: user.map(str::to_owned),
        }
    }

    #[test]
    fn an_account_is_found_by_name_by_url_and_by_default() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = Accounts::in_folder(folder.path().join("new"));
        let error = accounts.account(&arguments(None, None, None)).err().unwrap();
        assert!(error.to_string().contains("syncsphere login"), "{error}");

        accounts.change("one", |it| *it = Some(stack())).unwrap();
        accounts.set_default("one").unwrap();
        for selected in [
            arguments(None, None, None),
            arguments(Some("one"), None, None),
            arguments(None, Some("http://127.0.0.1:1/api"), None),
            arguments(None, None, Some("alice")),
        ] {
            let account = accounts.account(&selected).unwrap();
            let name = account.name.unwrap();
            assert_eq!((name.stack.as_str(), name.user.as_str()), ("one", "alice"));
        }
        for selected in [
            arguments(Some("two"), None, None),
            arguments(None, Some("http://127.0.0.1:2"), None),
            arguments(None, None, Some("bob")),
        ] {
            let error = accounts.account(&selected).err().unwrap();
            assert_eq!(
                crate::failure::kind_of(&error),
                Kind::Unauthenticated,
                "{selected:?}"
            );
        }
    }

    #[test]
    fn a_token_goes_over_tls_or_stays_on_this_machine() {
        let error = api_client("http://files.example.org", Token::from(String::new()), None).unwrap_err();
        assert_eq!(crate::failure::kind_of(&error), Kind::Usage);
        assert!(error.to_string().contains("use https"), "{error}");
        api_client("https://files.example.org", Token::from(String::new()), None).unwrap();
    }

    #[test]
    fn a_token_is_kept_with_the_time_when_it_was_received() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        assert_eq!(seconds(at), Some(7));
        assert_eq!(saved_token("t".to_owned(), Some(7)).received_at(), Some(at));
        // The format of an earlier release.
        let user = r#"{"deviceId":"00000000-0000-0000-0000-000000000001","refreshToken":"r","token":"t"}"#;
        let user: User = serde_json::from_str(user).unwrap();
        let Tokens::Pool {
            token, received_at, ..
        } = user.tokens
        else {
            panic!("of another kind")
        };
        assert_eq!(saved_token(token.unwrap(), received_at).received_at(), None);
    }

    #[test]
    fn names_cannot_leave_the_folder() {
        let accounts = Accounts::in_folder("/nowhere");
        for name in ["", "..", "../x", "a/b", ".hidden"] {
            assert!(accounts.stack(name).is_err(), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_this_user_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let accounts = Accounts::in_folder(folder.path().join("new"));
        accounts.change("one", |it| *it = Some(stack())).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&accounts.file("one").unwrap()), 0o600);
        assert_eq!(mode(&accounts.folder.join("stacks")), 0o700);
        assert!(!format!("{:?}", stack()).contains("hidden"));
        accounts.change("one", |it| *it = None).unwrap();
        assert!(accounts.stack("one").unwrap().is_none());
    }
}
