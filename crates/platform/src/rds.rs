//! RDS authentication tokens. A token is a signed request that is never sent (Amazon RDS User Guide,
//! "Connecting to your DB instance using IAM authentication").
//!
//! The tokens are the same as those of `aws-sdk-rds`, which nothing else here needs.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration as StdDuration;

use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningError, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error as ThisError;
use time::{Duration, OffsetDateTime};

use crate::Clock;
use crate::aws::Account;

/// The lifetime of a token (Amazon RDS User Guide, same section).
const LIFETIME: StdDuration = StdDuration::from_mins(15);

/// The time for which a token is reused. The rest of its lifetime allows for clock skew.
const CACHE_TTL: Duration = Duration::minutes(10);

/// The characters to percent-encode: all but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The reason why no token was made.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum TokenError {
    /// The environment has no credentials or no region. Lambda always sets both.
    #[error("the environment has no AWS credentials and region to sign a token with")]
    NoCredentials,
    /// The request could not be signed.
    #[error("the token could not be signed")]
    Signing(#[from] SigningError),
    /// A parameter of the signature is missing.
    #[error("the token's parameters are incomplete")]
    Parameters(#[from] v4::signing_params::BuildError),
}

/// Makes tokens for any server and role, with the function's credentials and region.
pub fn iam_auth_tokens(account: Option<Account>, clock: Clock) -> Passwords {
    Arc::new(Tokens::new(account, clock)).passwords()
}

/// A password for a host, port and role. Same type as `db::Passwords`, which this crate does not depend on.
pub type Passwords =
    Box<dyn Fn(&str, u16, &str) -> Result<String, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// Makes tokens and caches the last one for 10 minutes.
pub struct Tokens {
    account: Option<Account>,
    clock: Clock,
    last: Mutex<Option<Token>>,
}

struct Token {
    /// Host, port and role for which the token was made.
    target: (String, u16, String),
    made_at: OffsetDateTime,
    text: String,
}

impl Tokens {
    /// Makes tokens with the account's credentials and region; without an account every token fails.
    pub fn new(account: Option<Account>, clock: Clock) -> Self {
        Self {
            account,
            clock,
            last: Mutex::default(),
        }
    }

    /// Returns a function that makes tokens as connection passwords.
    pub fn passwords(self: Arc<Self>) -> Passwords {
        Box::new(move |host, port, user| Ok(self.token(host, port, user)?))
    }

    /// Returns a token for a database role. `host` and `port` must be those of RDS's endpoint, because they
    /// are signed.
    pub fn token(&self, host: &str, port: u16, user: &str) -> Result<String, TokenError> {
        let now = self.clock.now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = last.as_ref()
            && (token.target.0.as_str(), token.target.1, token.target.2.as_str()) == (host, port, user)
            && now - token.made_at < CACHE_TTL
        {
            return Ok(token.text.clone());
        }
        let text = self.sign(host, port, user, now)?;
        *last = Some(Token {
            target: (host.to_owned(), port, user.to_owned()),
            made_at: now,
            text: text.clone(),
        });
        Ok(text)
    }

    fn sign(&self, host: &str, port: u16, user: &str, now: OffsetDateTime) -> Result<String, TokenError> {
        let Account { credentials, region } = self.account.as_ref().ok_or(TokenError::NoCredentials)?;
        let user = utf8_percent_encode(user, RESERVED);
        let mut token = format!("{host}:{port}/?Action=connect&DBUser={user}");

        let mut settings = SigningSettings::default();
        settings.expires_in = Some(LIFETIME);
        settings.signature_location = SignatureLocation::QueryParams;
        let identity = credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(region.as_ref())
            .name("rds-db")
            .time(now.into())
            .settings(settings)
            .build()?
            .into();
        let url = format!("https://{token}");
        let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]))?;
        let (instructions, _) = sign(request, &parameters)?.into_parts();
        for (name, value) in instructions.params() {
            let _ = write!(token, "&{name}={}", utf8_percent_encode(value, RESERVED));
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;
    use aws_types::region::Region;
    use time::macros::datetime;

    use super::*;

    fn tokens(session_token: Option<&str>, region: &'static str, clock: &Clock) -> Tokens {
        let session_token = session_token.map(str::to_owned);
        let (key, secret) = match session_token {
            Some(_) => ("IAMKEYINSTANCE", "asdfqwertypolly"),
            None => ("akid", "secret"),
        };
        let credentials = Credentials::new(key, secret, session_token, None, "test");
        let region = Region::new(region);
        Tokens::new(Some(Account { credentials, region }), clock.clone())
    }

    /// The expected token is from the tests of the AWS SDK for Rust (smithy-rs, `rds_auth_token.rs`).
    #[test]
    fn a_token_is_what_the_sdk_for_rds_makes() {
        let clock = Clock::manual(datetime!(2024-08-26 22:00 UTC));
        let token = tokens(None, "us-east-1", &clock)
            .token("prod-instance.us-east-1.rds.amazonaws.com", 3306, "peccy")
            .unwrap();
        assert_eq!(
            token,
            "prod-instance.us-east-1.rds.amazonaws.com:3306/?Action=connect&DBUser=peccy\
             &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=akid%2F20240826%2Fus-east-1%2Frds-db%2Faws4_request\
             &X-Amz-Date=20240826T220000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=dd0cba843009474347af724090233265628ace491ea17ce3eb3da098b983ad89"
        );
    }

    #[test]
    fn a_token_of_temporary_credentials_carries_their_session() {
        let clock = Clock::manual(datetime!(2018-09-19 16:02:42 UTC));
        let token = tokens(Some("mytoken"), "eu-west-1", &clock)
            .token("dbhost.xyz.eu-west-1.amazonaws.com", 3306, "iam_user")
            .unwrap();
        assert!(token.contains("&X-Amz-Security-Token=mytoken"), "{token}");
        let signature = "8966604a85aa991ef9bed5135aa8565e0e22ae375d2b85892a16e1a642ae0bd1";
        assert!(token.contains(signature), "{token}");
    }

    #[test]
    fn a_token_is_kept_for_less_than_its_life_and_for_one_target() {
        assert!(CACHE_TTL + Duration::minutes(1) < LIFETIME);
        let clock = Clock::manual(datetime!(2026-01-02 03:04:05 UTC));
        let tokens = tokens(None, "us-east-1", &clock);
        let token = |user| tokens.token("db.example", 5432, user).unwrap();
        let first = token("one");
        clock.advance(CACHE_TTL - Duration::seconds(1));
        assert_eq!(token("one"), first);
        assert_ne!(token("other"), first);
        assert_ne!(token("one"), first);
        let second = token("one");
        clock.advance(CACHE_TTL);
        assert_ne!(token("one"), second);
    }

    #[test]
    fn without_credentials_there_is_no_token_and_that_is_said() {
        let tokens = Tokens::new(None, Clock::system());
        let error = tokens.token("db.example", 5432, "u").unwrap_err();
        assert!(error.to_string().contains("no AWS credentials"));
    }
}
