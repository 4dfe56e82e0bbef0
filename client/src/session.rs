//! Whose requests are made: the token of now, and where the next one comes from.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use model::UserId;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::api::checked;
use crate::{Error, use_ring};

/// How long before its end a token is replaced: longer than a request takes.
const MARGIN: Duration = Duration::from_mins(1);

/// How long signing in may take, or the command that prints a token.
const SIGN_IN_WITHIN: Duration = Duration::from_secs(30);

/// A bearer token. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token itself, which is a secret.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whose it is, if it is a JWT that says so (RFC 7519, section 4.1.2): the user id by which others share with them. Nothing is
    /// verified here: the API does that.
    pub fn user_id(&self) -> Option<UserId> {
        self.claims()?.sub
    }

    /// When it ends, if it says so (section 4.1.4).
    fn ends_at(&self) -> Option<SystemTime> {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.claims()?.exp?))
    }

    fn claims(&self) -> Option<Claims> {
        let payload = self.0.split('.').nth(1)?;
        let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
        serde_json::from_slice(&payload).ok()
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<UserId>,
    exp: Option<u64>,
}

impl From<String> for Token {
    fn from(token: String) -> Self {
        Self(token)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Somebody who is signed in. Clones share it, so that one of them gets the next token for all.
#[derive(Clone, Debug)]
pub struct Session(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Source,
    /// Nothing until it is first needed.
    token: Mutex<Option<Token>>,
}

/// Where the next token comes from.
#[derive(Debug)]
enum Source {
    Nowhere,
    Command(String),
    Cognito(UserPool, Token),
}

/// A Cognito user pool, as the stack makes one.
#[derive(Clone, Debug)]
pub struct UserPool {
    /// `https://cognito-idp.REGION.amazonaws.com`.
    pub endpoint: String,
    /// The stack's output `UserPoolClientId`.
    pub client_id: String,
}

impl From<Token> for Session {
    /// Ends when the token does.
    fn from(token: Token) -> Self {
        Self::new(Source::Nowhere, Some(token))
    }
}

impl Session {
    fn new(source: Source, token: Option<Token>) -> Self {
        let token = Mutex::new(token);
        Self(Arc::new(Inner { source, token }))
    }

    /// Of any provider: the shell command prints a token, each time one is needed, and nothing else.
    pub fn of_command(command: impl Into<String>) -> Self {
        Self::new(Source::Command(command.into()), None)
    }

    /// Signs in with user name and password (`USER_PASSWORD_AUTH`). [`Error::NewPassword`] asks for
    /// [`Session::sign_in_with_new_password`].
    pub async fn sign_in(pool: UserPool, user: &str, password: &str) -> Result<Self, Error> {
        match authenticate(&pool, user, password).await? {
            Answer::Tokens(tokens) => Ok(Self::of_tokens(pool, tokens)),
            Answer::NewPassword { .. } => Err(Error::NewPassword),
        }
    }

    /// Signs in with a password that an administrator gave, which has to be replaced at once.
    pub async fn sign_in_with_new_password(
        pool: UserPool,
        user: &str,
        password: &str,
        new_password: &str,
    ) -> Result<Self, Error> {
        let session = match authenticate(&pool, user, password).await? {
            // It was replaced already.
            Answer::Tokens(tokens) => return Ok(Self::of_tokens(pool, tokens)),
            Answer::NewPassword { session } => session,
        };
        let body = json!({
            "ClientId": pool.client_id,
            "ChallengeName": NEW_PASSWORD,
            "ChallengeResponses": { "USERNAME": user, "NEW_PASSWORD": new_password },
            "Session": session,
        });
        match ask(&pool, "RespondToAuthChallenge", &body).await? {
            Answer::Tokens(tokens) => Ok(Self::of_tokens(pool, tokens)),
            Answer::NewPassword { .. } => Err(Error::NewPassword),
        }
    }

    fn of_tokens(pool: UserPool, tokens: Tokens) -> Self {
        let source = match tokens.refresh_token {
            Some(refresh) => Source::Cognito(pool, refresh.into()),
            None => Source::Nowhere,
        };
        Self::new(source, Some(tokens.id_token.into()))
    }

    /// Goes on with a session of earlier, of which [`Session::refresh_token`] was kept, and may be the last token too.
    pub fn resume(pool: UserPool, refresh_token: Token, token: Option<Token>) -> Self {
        Self::new(Source::Cognito(pool, refresh_token), token)
    }

    /// Ends the session with the user pool (`RevokeToken`); one of another kind has nothing to end.
    pub async fn revoke(&self) -> Result<(), Error> {
        if let Source::Cognito(pool, refresh) = &self.0.source {
            let body = json!({ "ClientId": pool.client_id, "Token": refresh.as_str() });
            post(pool, "RevokeToken", &body).await?;
        }
        Ok(())
    }

    /// What to keep to go on with this session later. A secret, which Cognito takes for 30 days unless the stack says otherwise.
    pub fn refresh_token(&self) -> Option<&Token> {
        match &self.0.source {
            Source::Cognito(_, refresh) => Some(refresh),
            Source::Nowhere | Source::Command(_) => None,
        }
    }

    /// The token of now, if there is one, whether or not it still counts.
    pub async fn latest(&self) -> Option<Token> {
        self.0.token.lock().await.clone()
    }

    /// A token that still counts for a minute, as far as it says.
    pub async fn token(&self) -> Result<Token, Error> {
        let mut current = self.0.token.lock().await;
        #[expect(
            clippy::disallowed_methods,
            reason = "the end of a token is a time of day, and tests make tokens with the end that they need"
        )]
        let soon = SystemTime::now() + MARGIN;
        match &*current {
            Some(token) if !self.has_next() || token.ends_at().is_none_or(|end| end > soon) => {
                Ok(token.clone())
            }
            _ => self.renew(&mut current).await,
        }
    }

    /// The next token after one that was refused; nothing if there is none. If somebody else has it already, that one.
    pub(crate) async fn after(&self, refused: &Token) -> Result<Option<Token>, Error> {
        if !self.has_next() {
            return Ok(None);
        }
        let mut current = self.0.token.lock().await;
        match &*current {
            Some(token) if token != refused => Ok(Some(token.clone())),
            _ => self.renew(&mut current).await.map(Some),
        }
    }

    async fn renew(&self, current: &mut Option<Token>) -> Result<Token, Error> {
        Ok(current.insert(self.next_token().await?).clone())
    }

    fn has_next(&self) -> bool {
        !matches!(self.0.source, Source::Nowhere)
    }

    async fn next_token(&self) -> Result<Token, Error> {
        match &self.0.source {
            Source::Nowhere => Err(Error::SignedOut("there is no token".to_owned())),
            Source::Command(command) => of_command(command).await,
            Source::Cognito(pool, refresh) => {
                let parameters = json!({ "REFRESH_TOKEN": refresh.as_str() });
                match initiate_auth(pool, "REFRESH_TOKEN_AUTH", &parameters).await? {
                    Answer::Tokens(tokens) => Ok(tokens.id_token.into()),
                    Answer::NewPassword { .. } => Err(Error::NewPassword),
                }
            }
        }
    }
}

/// The system's shell, running a command.
#[cfg(not(windows))]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]);
    shell
}

/// The system's shell, running a command. `cmd` does not understand the escapes with which Rust passes quotes, so
/// the command is passed as it is; with `/S`, `cmd` removes exactly the first and the last quote (`cmd /?`).
#[cfg(windows)]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("cmd");
    shell.args(["/D", "/S", "/C"]).raw_arg(format!("\"{command}\""));
    shell
}

async fn of_command(command: &str) -> Result<Token, Error> {
    let running = shell(command).kill_on_drop(true).output();
    let output = timeout(SIGN_IN_WITHIN, running)
        .await
        .map_err(|_| Error::Silent)?;
    let output =
        output.map_err(|error| Error::SignedOut(format!("the token's command cannot run: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::SignedOut(format!(
            "the token's command failed ({}): {}",
            output.status,
            said.trim()
        )));
    }
    let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(Error::SignedOut(
            "the token's command printed no token".to_owned(),
        ));
    }
    Ok(token.into())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tokens {
    /// Its audience is the pool's client, which the API checks.
    id_token: String,
    refresh_token: Option<String>,
}

/// What Cognito calls the wish for another password.
const NEW_PASSWORD: &str = "NEW_PASSWORD_REQUIRED";

/// What an attempt to sign in leads to.
enum Answer {
    Tokens(Tokens),
    NewPassword { session: String },
}

async fn authenticate(pool: &UserPool, user: &str, password: &str) -> Result<Answer, Error> {
    let parameters = json!({ "USERNAME": user, "PASSWORD": password });
    initiate_auth(pool, "USER_PASSWORD_AUTH", &parameters).await
}

async fn initiate_auth(pool: &UserPool, flow: &str, parameters: &Value) -> Result<Answer, Error> {
    let body = json!({ "AuthFlow": flow, "ClientId": pool.client_id, "AuthParameters": parameters });
    ask(pool, "InitiateAuth", &body).await
}

async fn ask(pool: &UserPool, operation: &str, body: &Value) -> Result<Answer, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Said {
        authentication_result: Option<Tokens>,
        challenge_name: Option<String>,
        session: Option<String>,
    }
    let said: Said = serde_json::from_slice(&post(pool, operation, body).await?)?;
    if let Some(tokens) = said.authentication_result {
        return Ok(Answer::Tokens(tokens));
    }
    let challenge = said.challenge_name.unwrap_or_default();
    match said.session {
        Some(session) if challenge == NEW_PASSWORD => Ok(Answer::NewPassword { session }),
        _ => Err(Error::SignedOut(format!(
            "the user pool asks for more than a password ({challenge})"
        ))),
    }
}

/// An operation of the Amazon Cognito user pools API.
async fn post(pool: &UserPool, operation: &str, body: &Value) -> Result<Vec<u8>, Error> {
    use_ring();
    let request = reqwest::Client::new()
        .post(&pool.endpoint)
        .timeout(SIGN_IN_WITHIN)
        .header("Content-Type", "application/x-amz-json-1.1")
        .header(
            "X-Amz-Target",
            format!("AWSCognitoIdentityProviderService.{operation}"),
        )
        .body(body.to_string());
    let response = checked(request.send().await?).await.map_err(refused)?;
    Ok(response.bytes().await?.to_vec())
}

/// What Cognito says no with is status 400.
fn refused(error: Error) -> Error {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(rename = "__type")]
        kind: String,
        #[serde(default, alias = "Message")]
        message: String,
    }
    let Error::Unexpected { status: 400, body } = &error else {
        return error;
    };
    let Ok(Refusal { kind, message }) = serde_json::from_str(body) else {
        return error;
    };
    match kind.rsplit('#').next() {
        Some(
            "NotAuthorizedException"
            | "UserNotFoundException"
            | "UserNotConfirmedException"
            | "PasswordResetRequiredException"
            | "InvalidPasswordException",
        ) => Error::SignedOut(message),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(exp: u64) -> Token {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"alice","exp":{exp}}}"#));
        format!("e30.{payload}.c2ln").into()
    }

    #[test]
    fn a_token_says_when_it_ends_if_it_can() {
        assert_eq!(
            jwt(7).ends_at(),
            Some(SystemTime::UNIX_EPOCH + Duration::from_secs(7))
        );
        assert_eq!(jwt(7).user_id().unwrap().as_str(), "alice");
        for other in ["", "a.b", "opaque", "e30.e30.x"] {
            assert_eq!(Token::from(other.to_owned()).ends_at(), None);
        }
    }

    #[tokio::test]
    async fn a_command_is_asked_again_when_its_token_ends_or_is_refused() {
        let folder = std::env::temp_dir().join(format!("client-{}", std::process::id()));
        let counter = folder.display();
        // Each time one more, each long over.
        let jwt = jwt(1);
        let command = if cfg!(windows) {
            // `%~zf` is the size of the file.
            format!(
                "echo x>>{counter}& for %f in ({counter}) do @echo {}.%~zf",
                jwt.as_str()
            )
        } else {
            format!("echo x >> {counter}; echo {}.$(wc -l < {counter})", jwt.as_str())
        };
        let session = Session::of_command(command);
        let (one, two) = (session.token().await.unwrap(), session.token().await.unwrap());
        assert_ne!(one, two);
        // Somebody else has asked since.
        assert_eq!(session.after(&one).await.unwrap(), Some(two.clone()));
        assert_ne!(session.after(&two).await.unwrap(), Some(two));
        std::fs::remove_file(folder).unwrap();
    }

    #[tokio::test]
    async fn a_command_that_fails_says_why() {
        let (fails, succeeds) = if cfg!(windows) {
            ("echo never>&2& exit 3", "rem")
        } else {
            ("echo never >&2; exit 3", "true")
        };
        for (command, why) in [
            (fails, "never"),
            (succeeds, "printed no token"),
            ("echo two words", "printed no token"),
        ] {
            let error = Session::of_command(command).token().await.unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[tokio::test]
    async fn the_shell_gets_quotes_as_they_are() {
        let command = if cfg!(windows) {
            r#"echo "quoted""#
        } else {
            r#"echo '"quoted"'"#
        };
        let token = Session::of_command(command).token().await.unwrap();
        assert_eq!(token.as_str(), r#""quoted""#);
    }

    #[tokio::test]
    async fn a_token_alone_has_no_next() {
        let session = Session::from(jwt(1));
        let token = session.token().await.unwrap();
        assert_eq!(session.after(&token).await.unwrap(), None);
    }

    /// A user pool that gives each request the next answer, and what it was asked.
    async fn pool_that_answers(answers: Vec<Value>) -> (UserPool, tokio::task::JoinHandle<Vec<Value>>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool = UserPool {
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            client_id: "client".to_owned(),
        };
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                // The body is what follows the empty line, and is complete when it is JSON.
                let body = loop {
                    stream.read_buf(&mut request).await.unwrap();
                    let text = String::from_utf8_lossy(&request);
                    let body = text
                        .split_once("\r\n\r\n")
                        .map(|(_, body)| serde_json::from_str(body));
                    if let Some(Ok(body)) = body {
                        break body;
                    }
                };
                asked.push(body);
                let answer = answer.to_string();
                let length = answer.len();
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                stream
                    .write_all(format!("{head}{answer}").as_bytes())
                    .await
                    .unwrap();
            }
            asked
        });
        (pool, asked)
    }

    #[tokio::test]
    async fn a_first_password_is_replaced() {
        let challenge =
            json!({ "ChallengeName": "NEW_PASSWORD_REQUIRED", "Session": "s1", "ChallengeParameters": {} });
        let token = jwt(7);
        let tokens = json!({ "AuthenticationResult": { "IdToken": token.as_str(), "RefreshToken": "r1" } });
        let (pool, asked) = pool_that_answers(vec![challenge.clone(), challenge, tokens]).await;
        let first = Session::sign_in(pool.clone(), "alice", "first").await;
        assert!(matches!(first, Err(Error::NewPassword)), "{first:?}");
        let session = Session::sign_in_with_new_password(pool, "alice", "first", "second").await;
        assert_eq!(session.unwrap().refresh_token().unwrap().as_str(), "r1");
        let asked = asked.await.unwrap();
        assert_eq!(asked[1]["AuthParameters"]["PASSWORD"], "first");
        assert_eq!(
            asked[2]["ChallengeResponses"],
            json!({ "USERNAME": "alice", "NEW_PASSWORD": "second" })
        );
        assert_eq!(asked[2]["Session"], "s1");
    }

    #[tokio::test]
    async fn what_cannot_be_answered_is_named() {
        let challenge = json!({ "ChallengeName": "SOFTWARE_TOKEN_MFA", "Session": "s1" });
        let (pool, _asked) = pool_that_answers(vec![challenge]).await;
        let error = Session::sign_in(pool, "alice", "secret").await.unwrap_err();
        assert!(error.to_string().contains("SOFTWARE_TOKEN_MFA"), "{error}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let pool = UserPool {
            endpoint: String::new(),
            client_id: String::new(),
        };
        let session = Session::resume(pool, "hidden".to_owned().into(), Some("hidden".to_owned().into()));
        assert!(!format!("{session:?}").contains("hidden"));
    }
}
