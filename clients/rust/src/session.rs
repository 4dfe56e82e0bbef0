//! Sessions: the current token, and where the next one comes from.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use model::UserId;
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::api::checked;
use crate::error::{Server, check_url, printable};
use crate::retry::{RETRY_BUDGET, Retries};
use crate::{Error, install_crypto_provider};

/// A token is replaced when it is valid for less than this. A request takes less time.
const EXPIRY_MARGIN: Duration = Duration::from_mins(1);

/// Timeout of a request to the user pool, and of the command that prints a token.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(30);

/// A bearer token. `Debug` does not show it.
#[derive(Clone)]
pub struct Token {
    text: String,
    received_at: Option<SystemTime>,
}

/// Tokens are equal if their texts are; the time of receipt does not count.
impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Token {}

impl Token {
    /// A token with its time of receipt by this machine's clock. The clock need not be right, because the
    /// token's age is counted from this time.
    pub fn received(text: impl Into<String>, at: SystemTime) -> Self {
        let (text, received_at) = (text.into(), Some(at));
        Self { text, received_at }
    }

    /// The text of the token, which is a secret.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The time of receipt by this machine's clock, if it is known.
    pub fn received_at(&self) -> Option<SystemTime> {
        self.received_at
    }

    /// The id of the token's user, if the token is a JWT that contains it (RFC 7519, section 4.1.2). Other
    /// users need this id to share a space with them. The token is not verified here; the API does that.
    pub fn user_id(&self) -> Option<UserId> {
        self.claims()?.sub
    }

    /// The token's expiry by this machine's clock, if the token states one (RFC 7519, sections 4.1.4 and
    /// 4.1.6): the time of receipt plus the time from `iat` to `exp`. If the time of receipt or `iat` is
    /// unknown, it is `exp`.
    fn expires_at(&self) -> Option<SystemTime> {
        let Claims { iat, exp, .. } = self.claims()?;
        let exp = exp?;
        match (self.received_at, iat) {
            (Some(at), Some(iat)) => at.checked_add(Duration::from_secs(exp.saturating_sub(iat))),
            _ => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(exp)),
        }
    }

    /// Whether the token is valid for at least another `EXPIRY_MARGIN`, or has no known expiry. If the
    /// time of receipt is in the future, the clock was set back and the age is unknown; the token then
    /// counts as expired.
    fn is_fresh(&self) -> bool {
        let now = now();
        let is_set_back = self.received_at.is_some_and(|at| at > now);
        !is_set_back && self.expires_at().is_none_or(|end| end > now + EXPIRY_MARGIN)
    }

    fn claims(&self) -> Option<Claims> {
        let payload = self.text.split('.').nth(1)?;
        let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
        serde_json::from_slice(&payload).ok()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the end of a token is a time of day, and tests make tokens with the end that they need"
)]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<UserId>,
    iat: Option<u64>,
    exp: Option<u64>,
}

impl From<String> for Token {
    /// The time of receipt is unknown.
    fn from(text: String) -> Self {
        let received_at = None;
        Self { text, received_at }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A signed-in user. Clones share the token, so a token that one of them renews is used by all.
#[derive(Clone, Debug)]
pub struct Session(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: TokenSource,
    /// `None` until a token is first needed.
    token: Mutex<Option<Token>>,
}

/// The source of new tokens.
#[derive(Debug)]
enum TokenSource {
    Fixed,
    Command(String),
    Cognito(UserPool, Token),
}

/// A Cognito user pool, such as the one that the stack creates.
#[derive(Clone, Debug)]
pub struct UserPool {
    /// The URL of the Cognito API: `https://cognito-idp.REGION.amazonaws.com`.
    pub endpoint: String,
    /// The stack's output `UserPoolClientId`.
    pub client_id: String,
}

impl UserPool {
    /// A user pool in an AWS region. Passwords are sent to a host whose name contains the region, so anything
    /// that is not a region name is refused. The ID must be alphanumeric.
    pub fn in_region(region: &str, client_id: &str) -> Result<Self, Error> {
        if !is_region(region) {
            let message = format!("{region:?} is not an AWS region, such as eu-central-1");
            return Err(Error::Insecure(message));
        }
        if client_id.is_empty() || !client_id.chars().all(|c| c.is_ascii_alphanumeric()) {
            let message = format!("{client_id:?} is not the ID of a user pool's client");
            return Err(Error::Insecure(message));
        }
        Ok(Self {
            endpoint: format!("https://cognito-idp.{region}.amazonaws.com"),
            client_id: client_id.to_owned(),
        })
    }
}

/// Whether the text has the form of `eu-central-1` or `us-gov-west-1`: two letters, one or more words, and a
/// digit from 1 to 9.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [area, words @ .., number] = parts.as_slice() else {
        return false;
    };
    let is_word = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase());
    area.len() == 2
        && is_word(area)
        && !words.is_empty()
        && words.iter().all(is_word)
        && matches!(number.as_bytes(), [b'1'..=b'9'])
}

/// The result of a step of signing in.
#[derive(Debug)]
pub enum SignIn {
    /// The user is signed in.
    Done(Session),
    /// An administrator set the password: call [`Challenge::answer`] with a new one.
    NewPassword(Challenge),
    /// An authenticator app protects the account: call [`Challenge::answer`] with the six digits that the app
    /// shows.
    Code(Challenge),
}

/// A further question of the user pool during sign-in.
pub struct Challenge {
    pool: UserPool,
    user: String,
    name: &'static str,
    session: String,
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Challenge").field(&self.name).finish()
    }
}

impl Challenge {
    /// Sends the answer. Another challenge may follow.
    pub async fn answer(self, answer: &str) -> Result<SignIn, Error> {
        let Self {
            pool,
            user,
            name,
            session,
        } = self;
        let field = match name {
            NEW_PASSWORD => "NEW_PASSWORD",
            _ => "SOFTWARE_TOKEN_MFA_CODE",
        };
        let body = json!({
            "ClientId": pool.client_id,
            "ChallengeName": name,
            "ChallengeResponses": { "USERNAME": user, field: answer },
            "Session": session,
        });
        let response = with_retries(async || {
            post(&pool, "RespondToAuthChallenge", &body)
                .await
                .map_err(sent_once)
        });
        let response = serde_json::from_slice(&response.await?)?;
        SignIn::from_response(pool.clone(), &user, response)
    }
}

/// An authenticator app that is being set up for an account.
pub struct Authenticator {
    pool: UserPool,
    access_token: Token,
    key: String,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").finish_non_exhaustive()
    }
}

impl Authenticator {
    /// The secret to enter in the app, in base32 (RFC 6238).
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Turns protection on, if `code` is the current code of the app (`VerifySoftwareToken`,
    /// `SetUserMFAPreference`).
    pub async fn confirm(&self, code: &str) -> Result<(), Error> {
        let token = self.access_token.as_str();
        let body = json!({ "AccessToken": token, "UserCode": code });
        post(&self.pool, "VerifySoftwareToken", &body).await?;
        let settings = json!({ "Enabled": true, "PreferredMfa": true });
        let body = json!({ "AccessToken": token, "SoftwareTokenMfaSettings": settings });
        with_retries(async || post(&self.pool, "SetUserMFAPreference", &body).await).await?;
        Ok(())
    }
}

/// Cognito accepts an answer to a challenge only once. If the connection fails after it was opened, Cognito
/// may have received the answer, so the error must not be retryable.
fn sent_once(error: Error) -> Error {
    match error {
        Error::Http(error) if !error.is_connect() => {
            let reason = Arc::into_inner(error).map(reqwest::Error::without_url);
            let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
            Error::Unauthenticated(format!("the user pool did not answer{reason}"))
        }
        error => error,
    }
}

impl SignIn {
    fn from_response(pool: UserPool, user: &str, response: AuthResponse) -> Result<Self, Error> {
        if let Some(tokens) = response.authentication_result {
            return Ok(Self::Done(Session::from_tokens(pool, tokens)));
        }
        let challenge_name = response.challenge_name.unwrap_or_default();
        let challenge = |name| {
            response.session.map(|session| Challenge {
                pool,
                user: user.to_owned(),
                name,
                session,
            })
        };
        let step = match challenge_name.as_str() {
            NEW_PASSWORD => challenge(NEW_PASSWORD).map(Self::NewPassword),
            SOFTWARE_TOKEN => challenge(SOFTWARE_TOKEN).map(Self::Code),
            _ => None,
        };
        step.ok_or_else(|| {
            let challenge_name = printable(&challenge_name);
            Error::Unauthenticated(format!(
                "this account needs more than a password and an authenticator app's code ({challenge_name}), and this client does not support that"
            ))
        })
    }
}

impl From<Token> for Session {
    /// A session that cannot renew its token, so it ends when the token expires.
    fn from(token: Token) -> Self {
        Self::new(TokenSource::Fixed, Some(token))
    }
}

impl Session {
    fn new(source: TokenSource, token: Option<Token>) -> Self {
        let token = Mutex::new(token);
        Self(Arc::new(Inner { source, token }))
    }

    /// A session for any identity provider. The shell command runs each time a new token is needed, and must
    /// print the token and nothing else.
    pub fn from_command(command: impl Into<String>) -> Self {
        Self::new(TokenSource::Command(command.into()), None)
    }

    /// Starts signing in with user name and password (`USER_PASSWORD_AUTH`).
    pub async fn begin(pool: UserPool, user: &str, password: &str) -> Result<SignIn, Error> {
        let parameters = json!({ "USERNAME": user, "PASSWORD": password });
        let response = with_retries(async || initiate_auth(&pool, "USER_PASSWORD_AUTH", &parameters).await);
        let response = response.await?;
        SignIn::from_response(pool, user, response)
    }

    /// Signs in with user name and password, for accounts that need nothing else. If the account needs more,
    /// this returns [`Error::NewPassword`] or [`Error::Unauthenticated`]; use [`Session::begin`] then.
    pub async fn sign_in(pool: UserPool, user: &str, password: &str) -> Result<Self, Error> {
        match Self::begin(pool, user, password).await? {
            SignIn::Done(session) => Ok(session),
            SignIn::NewPassword(_) => Err(Error::NewPassword),
            SignIn::Code(_) => Err(Error::Unauthenticated(
                "this account needs a code of its authenticator app".to_owned(),
            )),
        }
    }

    fn from_tokens(pool: UserPool, tokens: Tokens) -> Self {
        let source = match tokens.refresh_token {
            Some(refresh) => TokenSource::Cognito(pool, refresh.into()),
            None => TokenSource::Fixed,
        };
        Self::new(source, Some(Token::received(tokens.id_token, now())))
    }

    /// Resumes an earlier session from its [`Session::refresh_token`]. `token` is the last token of that
    /// session, if it was kept, with its time of receipt.
    pub fn resume(pool: UserPool, refresh_token: Token, token: Option<Token>) -> Self {
        Self::new(TokenSource::Cognito(pool, refresh_token), token)
    }

    /// Starts to protect the account with an authenticator app (`AssociateSoftwareToken`). Protection is on
    /// after [`Authenticator::confirm`] has accepted a code of the app.
    pub async fn authenticator(&self) -> Result<Authenticator, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Associated {
            secret_code: String,
        }
        let TokenSource::Cognito(pool, refresh) = &self.0.source else {
            let message = "an authenticator app can protect only accounts of the stack's own user pool";
            return Err(Error::Unauthenticated(message.to_owned()));
        };
        let parameters = json!({ "REFRESH_TOKEN": refresh.as_str() });
        let response = with_retries(async || initiate_auth(pool, "REFRESH_TOKEN_AUTH", &parameters).await);
        let tokens = response.await?.authentication_result;
        let access_token = tokens.and_then(|tokens| tokens.access_token);
        let access_token = access_token
            .ok_or_else(|| Error::Unauthenticated("the user pool returned no token".to_owned()))?;
        let body = json!({ "AccessToken": access_token });
        let associated = with_retries(async || post(pool, "AssociateSoftwareToken", &body).await);
        let Associated { secret_code } = serde_json::from_slice(&associated.await?)?;
        Ok(Authenticator {
            pool: pool.clone(),
            access_token: access_token.into(),
            key: secret_code,
        })
    }

    /// Revokes the refresh token at the user pool (`RevokeToken`). For sessions without a user pool this does
    /// nothing.
    pub async fn revoke(&self) -> Result<(), Error> {
        if let TokenSource::Cognito(pool, refresh) = &self.0.source {
            let body = json!({ "ClientId": pool.client_id, "Token": refresh.as_str() });
            with_retries(async || post(pool, "RevokeToken", &body).await).await?;
        }
        Ok(())
    }

    /// The token to keep in order to [`Session::resume`] later; `None` for sessions that have no refresh
    /// token. It is a secret, and Cognito accepts it for 30 days unless the stack sets another period.
    pub fn refresh_token(&self) -> Option<&Token> {
        match &self.0.source {
            TokenSource::Cognito(_, refresh) => Some(refresh),
            TokenSource::Fixed | TokenSource::Command(_) => None,
        }
    }

    /// The latest token, if there is one. It may have expired.
    pub async fn latest(&self) -> Option<Token> {
        self.0.token.lock().await.clone()
    }

    /// Returns a token that is valid for at least another minute, as far as is known, and renews it if
    /// necessary. A session that cannot renew its token returns it even if it has expired.
    pub async fn token(&self) -> Result<Token, Error> {
        with_retries(async || self.current_token().await).await
    }

    /// Works as [`Session::token`] but without retries, for callers that retry by themselves.
    pub(crate) async fn current_token(&self) -> Result<Token, Error> {
        let mut current = self.0.token.lock().await;
        match &*current {
            Some(token) if !self.can_renew() || token.is_fresh() => Ok(token.clone()),
            _ => self.renew(&mut current).await,
        }
    }

    /// Returns the token that follows a refused one, or `None` if the session cannot renew it. If another
    /// caller has already renewed the token, that one is returned.
    pub(crate) async fn replacement_of(&self, refused: &Token) -> Result<Option<Token>, Error> {
        if !self.can_renew() {
            return Ok(None);
        }
        let mut current = self.0.token.lock().await;
        match &*current {
            Some(token) if token != refused => Ok(Some(token.clone())),
            _ => self.renew(&mut current).await.map(Some),
        }
    }

    async fn renew(&self, current: &mut Option<Token>) -> Result<Token, Error> {
        Ok(current.insert(self.request_token().await?).clone())
    }

    fn can_renew(&self) -> bool {
        !matches!(self.0.source, TokenSource::Fixed)
    }

    async fn request_token(&self) -> Result<Token, Error> {
        match &self.0.source {
            TokenSource::Fixed => Err(Error::Unauthenticated("there is no token".to_owned())),
            TokenSource::Command(command) => run_token_command(command).await,
            TokenSource::Cognito(pool, refresh) => {
                let parameters = json!({ "REFRESH_TOKEN": refresh.as_str() });
                let response = initiate_auth(pool, "REFRESH_TOKEN_AUTH", &parameters).await?;
                match response.authentication_result {
                    Some(tokens) => Ok(Token::received(tokens.id_token, now())),
                    None => Err(Error::Unauthenticated(
                        "the user pool returned no token".to_owned(),
                    )),
                }
            }
        }
    }
}

/// Runs a command in the system's shell.
#[cfg(not(windows))]
fn shell_command(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]);
    shell
}

/// Runs a command in the system's shell. `cmd` does not understand the escapes with which Rust passes quotes,
/// so the command is passed unchanged. With `/S`, `cmd` removes exactly the first and the last quote
/// (`cmd /?`).
#[cfg(windows)]
fn shell_command(command: &str) -> Command {
    let mut shell = Command::new("cmd");
    shell.args(["/D", "/S", "/C"]).raw_arg(format!("\"{command}\""));
    shell
}

async fn run_token_command(command: &str) -> Result<Token, Error> {
    let running = shell_command(command).kill_on_drop(true).output();
    let output = timeout(SIGN_IN_TIMEOUT, running)
        .await
        .map_err(|_| Error::Timeout)?;
    let output = output
        .map_err(|error| Error::Unauthenticated(format!("the token command cannot be run: {error}")))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Unauthenticated(format!(
            "the token command failed ({}): {}",
            output.status,
            printable(stderr.trim())
        )));
    }
    let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(Error::Unauthenticated(
            "the token command printed no token".to_owned(),
        ));
    }
    Ok(Token::received(token, now()))
}

/// Retries an operation that fails with a retryable error, such as throttling, for up to `RETRY_BUDGET`.
async fn with_retries<T>(attempt: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    let mut retries = Retries::new(RETRY_BUDGET);
    loop {
        match attempt().await {
            Err(error) => retries.after(error).await?,
            outcome => return outcome,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_field_names, reason = "Cognito's names")]
struct Tokens {
    /// The ID token. Its audience is the pool's client, which the API checks.
    id_token: String,
    refresh_token: Option<String>,
    /// Authorizes users to change their own accounts.
    access_token: Option<String>,
}

/// Cognito's name of the challenge for a new password.
const NEW_PASSWORD: &str = "NEW_PASSWORD_REQUIRED";

/// Cognito's name of the challenge for the code of an authenticator app (RFC 6238).
const SOFTWARE_TOKEN: &str = "SOFTWARE_TOKEN_MFA";

/// The answer to an attempt to sign in: tokens, or a challenge and its session.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AuthResponse {
    authentication_result: Option<Tokens>,
    challenge_name: Option<String>,
    session: Option<String>,
}

async fn initiate_auth(pool: &UserPool, flow: &str, parameters: &Value) -> Result<AuthResponse, Error> {
    let body = json!({ "AuthFlow": flow, "ClientId": pool.client_id, "AuthParameters": parameters });
    Ok(serde_json::from_slice(&post(pool, "InitiateAuth", &body).await?)?)
}

/// Calls an operation of the Amazon Cognito user pools API and returns the body of its answer.
async fn post(pool: &UserPool, operation: &str, body: &Value) -> Result<Vec<u8>, Error> {
    check_url("the user pool", &pool.endpoint)?;
    install_crypto_provider();
    let request = reqwest::Client::builder()
        .redirect(Policy::none())
        .build()?
        .post(&pool.endpoint)
        .timeout(SIGN_IN_TIMEOUT)
        .header("Content-Type", "application/x-amz-json-1.1")
        .header(
            "X-Amz-Target",
            format!("AWSCognitoIdentityProviderService.{operation}"),
        )
        .body(body.to_string());
    let response = checked(Server::UserPool, request.send().await?)
        .await
        .map_err(unauthenticated)?;
    Ok(response.bytes().await?.to_vec())
}

/// Turns the refusals that concern the user, such as a wrong password, into [`Error::Unauthenticated`].
fn unauthenticated(error: Error) -> Error {
    match error {
        Error::Unexpected(answer)
            if matches!(
                answer.code.as_str(),
                "CodeMismatchException"
                    | "ExpiredCodeException"
                    | "InvalidPasswordException"
                    | "NotAuthorizedException"
                    | "PasswordResetRequiredException"
                    | "UserNotConfirmedException"
                    | "UserNotFoundException"
            ) =>
        {
            Error::Unauthenticated(answer.message)
        }
        error => error,
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
    fn a_token_has_the_expiry_of_its_claims() {
        assert_eq!(
            jwt(7).expires_at(),
            Some(SystemTime::UNIX_EPOCH + Duration::from_secs(7))
        );
        assert_eq!(jwt(7).user_id().unwrap().as_str(), "alice");
        for other in ["", "a.b", "opaque", "e30.e30.x"] {
            assert_eq!(Token::from(other.to_owned()).expires_at(), None);
        }
    }

    #[tokio::test]
    async fn a_command_is_asked_again_when_its_token_ends_or_is_refused() {
        let folder = std::env::temp_dir().join(format!("client-{}", std::process::id()));
        let counter = folder.display();
        // Each run prints another token, and all of them have expired.
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
        let session = Session::from_command(command);
        let (one, two) = (session.token().await.unwrap(), session.token().await.unwrap());
        assert_ne!(one, two);
        // `two` is newer than `one`, so no command runs.
        assert_eq!(session.replacement_of(&one).await.unwrap(), Some(two.clone()));
        assert_ne!(session.replacement_of(&two).await.unwrap(), Some(two));
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
            let error = Session::from_command(command).token().await.unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[tokio::test]
    async fn quotes_reach_the_shell_unchanged() {
        let command = if cfg!(windows) {
            r#"echo "quoted""#
        } else {
            r#"echo '"quoted"'"#
        };
        let token = Session::from_command(command).token().await.unwrap();
        assert_eq!(token.as_str(), r#""quoted""#);
    }

    #[tokio::test]
    async fn a_fixed_token_cannot_be_renewed() {
        let session = Session::from(jwt(1));
        let token = session.token().await.unwrap();
        assert_eq!(session.replacement_of(&token).await.unwrap(), None);
    }

    /// A user pool that sends these answers in order. Returns the pool, and the bodies of the requests.
    async fn pool_that_answers(answers: Vec<Value>) -> (UserPool, tokio::task::JoinHandle<Vec<Value>>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool = UserPool {
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            client_id: "client".to_owned(),
        };
        let requests = tokio::spawn(async move {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                // The body follows the empty line. It is complete when it parses as JSON.
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
                requests.push(body);
                // Cognito answers every error with status 400.
                let status = match answer["__type"] {
                    Value::Null => "200 OK",
                    _ => "400 Bad Request",
                };
                let answer = answer.to_string();
                let length = answer.len();
                let head =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                stream
                    .write_all(format!("{head}{answer}").as_bytes())
                    .await
                    .unwrap();
            }
            requests
        });
        (pool, requests)
    }

    #[tokio::test]
    async fn a_first_password_is_replaced() {
        let challenge =
            json!({ "ChallengeName": "NEW_PASSWORD_REQUIRED", "Session": "s1", "ChallengeParameters": {} });
        let token = jwt(7);
        let tokens = json!({ "AuthenticationResult": { "IdToken": token.as_str(), "RefreshToken": "r1" } });
        let (pool, requests) = pool_that_answers(vec![challenge.clone(), challenge, tokens]).await;
        let first = Session::sign_in(pool.clone(), "alice", "first").await;
        assert!(matches!(first, Err(Error::NewPassword)), "{first:?}");
        let step = Session::begin(pool, "alice", "first").await.unwrap();
        let SignIn::NewPassword(challenge) = step else {
            panic!("{step:?}")
        };
        let step = challenge.answer("second").await.unwrap();
        let SignIn::Done(session) = step else {
            panic!("{step:?}")
        };
        assert_eq!(session.refresh_token().unwrap().as_str(), "r1");
        let requests = requests.await.unwrap();
        assert_eq!(requests[1]["AuthParameters"]["PASSWORD"], "first");
        assert_eq!(
            requests[2]["ChallengeResponses"],
            json!({ "USERNAME": "alice", "NEW_PASSWORD": "second" })
        );
        assert_eq!(requests[2]["Session"], "s1");
    }

    #[tokio::test]
    async fn a_code_of_the_authenticator_app_follows_the_password() {
        let first = json!({ "ChallengeName": "NEW_PASSWORD_REQUIRED", "Session": "s1" });
        let code = json!({ "ChallengeName": "SOFTWARE_TOKEN_MFA", "Session": "s2" });
        let wrong = json!({ "__type": "CodeMismatchException", "message": "Invalid code received for user" });
        let tokens = json!({ "AuthenticationResult": { "IdToken": "a.b.c", "RefreshToken": "r1" } });
        let (pool, requests) =
            pool_that_answers(vec![first, code.clone(), tokens, code.clone(), wrong, code]).await;
        let step = Session::begin(pool.clone(), "alice", "first").await.unwrap();
        let SignIn::NewPassword(challenge) = step else {
            panic!("{step:?}")
        };
        let step = challenge.answer("second").await.unwrap();
        let SignIn::Code(challenge) = step else {
            panic!("{step:?}")
        };
        let step = challenge.answer("123456").await.unwrap();
        assert!(matches!(step, SignIn::Done(_)), "{step:?}");

        let step = Session::begin(pool.clone(), "alice", "second").await.unwrap();
        let SignIn::Code(challenge) = step else {
            panic!("{step:?}")
        };
        let error = challenge.answer("000000").await.unwrap_err();
        assert!(
            matches!(&error, Error::Unauthenticated(message) if message.contains("Invalid code")),
            "{error}"
        );
        // `sign_in` cannot ask for a code, so its error names the authenticator app.
        let error = Session::sign_in(pool, "alice", "second").await.unwrap_err();
        assert!(error.to_string().contains("authenticator app"), "{error}");

        let requests = requests.await.unwrap();
        assert_eq!(requests[2]["ChallengeName"], "SOFTWARE_TOKEN_MFA");
        assert_eq!(requests[2]["Session"], "s2");
        assert_eq!(
            requests[2]["ChallengeResponses"],
            json!({ "USERNAME": "alice", "SOFTWARE_TOKEN_MFA_CODE": "123456" })
        );
    }

    #[tokio::test]
    async fn an_account_is_protected_once_the_app_has_shown_a_code() {
        let tokens = json!({ "AuthenticationResult": { "IdToken": "a.b.c", "AccessToken": "access" } });
        let associated = json!({ "SecretCode": "JBSWY3DPEHPK3PXP" });
        let wrong = json!({ "__type": "EnableSoftwareTokenMFAException", "message": "Code mismatch" });
        let verified = json!({ "Status": "SUCCESS" });
        let (pool, requests) = pool_that_answers(vec![tokens, associated, wrong, verified, json!({})]).await;
        let session = Session::resume(pool, "r1".to_owned().into(), None);
        let authenticator = session.authenticator().await.unwrap();
        assert_eq!(authenticator.key(), "JBSWY3DPEHPK3PXP");
        let error = authenticator.confirm("000000").await.unwrap_err();
        assert!(error.to_string().contains("Code mismatch"), "{error}");
        authenticator.confirm("123456").await.unwrap();
        let requests = requests.await.unwrap();
        assert_eq!(
            requests[3],
            json!({ "AccessToken": "access", "UserCode": "123456" })
        );
        assert_eq!(requests[4]["SoftwareTokenMfaSettings"]["Enabled"], true);
        // After the wrong code the app was not turned on: the next request was another verification.
        assert_eq!(requests[2]["UserCode"], "000000");

        let of_token = Session::from(jwt(1)).authenticator().await;
        assert!(matches!(of_token, Err(Error::Unauthenticated(_))));
    }

    #[tokio::test]
    async fn an_unsupported_challenge_is_named() {
        let challenge = json!({ "ChallengeName": "SMS_MFA", "Session": "s1" });
        let (pool, _asked) = pool_that_answers(vec![challenge]).await;
        let error = Session::sign_in(pool, "alice", "secret").await.unwrap_err();
        assert!(error.to_string().contains("SMS_MFA"), "{error}");
    }

    #[tokio::test]
    async fn a_throttled_sign_in_is_retried() {
        let throttled = json!({ "__type": "TooManyRequestsException", "message": "Rate exceeded" });
        let tokens = json!({ "AuthenticationResult": { "IdToken": jwt(7).as_str(), "RefreshToken": "r1" } });
        let answers = vec![throttled.clone(), tokens.clone(), throttled, tokens];
        let (pool, requests) = pool_that_answers(answers).await;
        Session::sign_in(pool.clone(), "alice", "secret").await.unwrap();
        let session = Session::resume(pool, "r1".to_owned().into(), None);
        assert_eq!(session.token().await.unwrap(), jwt(7));
        assert_eq!(requests.await.unwrap().len(), 4);
    }

    /// This machine's clock is an hour ahead of the user pool's.
    #[tokio::test]
    async fn a_clock_that_is_ahead_costs_one_refresh_and_not_one_for_each_use() {
        let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let end = seconds(now());
        let claims = format!(r#"{{"iat":{},"exp":{end}}}"#, end - 3_600);
        let token = format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let tokens = json!({ "AuthenticationResult": { "IdToken": token } });
        let (pool, requests) = pool_that_answers(vec![tokens]).await;
        let session = Session::resume(pool.clone(), "r1".to_owned().into(), None);
        for _ in 0..3 {
            assert_eq!(session.token().await.unwrap().as_str(), token);
        }
        assert_eq!(requests.await.unwrap().len(), 1);

        // A token that is kept with its time of receipt is still valid in the next process.
        let received = session.latest().await.unwrap().received_at().unwrap();
        let kept = Token::received(token.clone(), received);
        let resumed = Session::resume(pool, "r1".to_owned().into(), Some(kept));
        assert_eq!(resumed.token().await.unwrap().as_str(), token);

        let ages = |minutes| Token::received(token.clone(), now() - Duration::from_mins(minutes)).is_fresh();
        assert!(ages(58) && !ages(59) && !ages(61));
        // After the clock was set back, the age is unknown, and the token counts as expired.
        assert!(!Token::received(token.clone(), now() + Duration::from_mins(5)).is_fresh());
    }

    #[test]
    fn a_password_goes_to_a_user_pool_of_aws_and_nowhere_else() {
        for region in ["eu-central-1", "us-gov-west-1", "ap-southeast-5"] {
            let pool = UserPool::in_region(region, "1h57kf5cpq17m0eml12EXAMPLE").unwrap();
            assert_eq!(
                pool.endpoint,
                format!("https://cognito-idp.{region}.amazonaws.com")
            );
        }
        for region in [
            "",
            "a@3232235777#",
            "eu-central-1.evil.example/",
            "evil",
            "eu-1",
            "eu--1",
            "EU-central-1",
            "eu-central-10",
        ] {
            assert!(UserPool::in_region(region, "client").is_err(), "{region}");
        }
        assert!(UserPool::in_region("eu-central-1", "a/b").is_err());
    }

    #[tokio::test]
    async fn a_password_is_not_sent_in_clear_to_another_machine() {
        let pool = UserPool {
            endpoint: "http://cognito-idp.eu-central-1.amazonaws.com".to_owned(),
            client_id: "client".to_owned(),
        };
        let error = Session::sign_in(pool, "alice", "secret").await.unwrap_err();
        assert!(matches!(error, Error::Insecure(_)), "{error:?}");
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
