//! What can go wrong.

use std::fmt;
use std::net::IpAddr;

use model::CurrentVersion;
use serde::{Deserialize, Deserializer};
use thiserror::Error as ThisError;

/// How much of what somebody else says an error shows.
const SHOWN_CHARACTERS: usize = 300;

/// A refusal or failure that the service explained (RFC 9457).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The name for programs, such as `version-conflict`.
    pub code: String,
    /// What people read.
    #[serde(deserialize_with = "printable_text")]
    pub detail: String,
    /// The id under which operators find the request.
    #[serde(deserialize_with = "printable_text")]
    pub request_id: String,
    /// Of a `version-conflict`: what the path holds.
    #[serde(default)]
    pub current: Option<CurrentVersion>,
}

/// Who was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Party {
    /// The HTTP API.
    Api,
    /// Where content is.
    Storage,
    /// The user pool.
    UserPool,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Api => "the service",
            Self::Storage => "storage",
            Self::UserPool => "the user pool",
        })
    }
}

/// An answer that says no in words that are not the service's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who was asked. A proxy on the way may have answered in its place.
    pub party: Party,
    /// The HTTP status.
    pub status: u16,
    /// The name of the fault for programs, such as `RequestTimeout`; empty if it has none.
    pub code: String,
    /// What people read, without control characters; empty if nothing was said.
    pub message: String,
}

impl Answer {
    /// Reads what S3 says in XML, and Cognito and API Gateway in JSON. Of anything else, such as a proxy's
    /// page, nothing is shown.
    pub(crate) fn new(party: Party, status: u16, body: &str) -> Self {
        let said: Said = serde_json::from_str(body)
            .or_else(|_| quick_xml::de::from_str(body))
            .unwrap_or_default();
        let code = said.kind.rsplit('#').next().unwrap_or_default();
        Self {
            party,
            status,
            code: printable(code),
            message: printable(said.message.trim()),
        }
    }

    /// Whether the same request may succeed a little later, by what AWS says it with.
    fn is_retryable(&self) -> bool {
        matches!(self.status, 408 | 429 | 500..) || PASSING_CODES.contains(&self.code.as_str())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            party,
            status,
            code,
            message,
        } = self;
        let reason = reqwest::StatusCode::from_u16(*status)
            .ok()
            .and_then(|status| status.canonical_reason());
        match (code.as_str(), message.trim_end_matches('.'), reason) {
            ("", "", Some(reason)) => write!(
                f,
                "{party}, or a proxy on the way to it, answered: {reason} ({status})"
            ),
            ("", "", None) => write!(
                f,
                "{party}, or a proxy on the way to it, answered with status {status}"
            ),
            ("", message, _) => write!(f, "{party} refused the request: {message}"),
            (code, "", _) => write!(f, "{party} refused the request ({code})"),
            (code, message, _) => write!(f, "{party} refused the request: {message} ({code})"),
        }
    }
}

/// Faults that pass, by their codes, which AWS gives with status 400, 403, 409 and 503 alike: throttling and
/// transient errors (AWS SDKs and Tools Reference Guide, "Retry behavior"), and conflicts of S3 with another
/// request for the same object (Amazon S3 API Reference, "Error responses", and `If-None-Match` of
/// `PutObject`). A 400 `RequestTimeout` is how S3 says that a line was too slow.
const PASSING_CODES: [&str; 20] = [
    "BandwidthLimitExceeded",
    "ConditionalRequestConflict",
    "InternalError",
    "InternalErrorException",
    "OperationAborted",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "TooManyRequestsException",
    "TransactionInProgressException",
];

#[derive(Default, Deserialize)]
struct Said {
    #[serde(default, rename = "__type", alias = "Code", alias = "code")]
    kind: String,
    #[serde(default, alias = "Message")]
    message: String,
}

/// Text of somebody else as a terminal may show it: one line, without characters that move the cursor, change
/// colors or turn text around.
pub(crate) fn printable(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let characters = text.chars().take(SHOWN_CHARACTERS);
    characters
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if c.is_control() || turns(c) => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

fn printable_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(printable(&String::deserialize(deserializer)?))
}

/// A call that did not do what it should.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The service said no and why.
    #[error("{code} ({status}): {detail} (request {request_id})", code = .0.code, status = .0.status, detail = .0.detail,
        request_id = .0.request_id)]
    Refused(Box<Problem>),
    /// Storage, the identity provider, or something on the way answered in its own words.
    #[error("{0}")]
    Unexpected(Answer),
    /// No answer, or no complete one.
    #[error("the service could not be reached")]
    Http(#[from] reqwest::Error),
    /// Somebody has to sign in, again or otherwise.
    #[error("not signed in: {0}")]
    SignedOut(String),
    /// The password was an administrator's, and a new one has to be chosen.
    #[error("not signed in: a new password has to be chosen")]
    NewPassword,
    /// Nothing came back in time.
    #[error("the service did not answer in time")]
    Silent,
    /// A file on this machine could not be read or written.
    #[error("a file on this machine cannot be read or written")]
    Content(#[from] std::io::Error),
    /// The content is not what it was when the upload began.
    #[error("the file changed while it was uploaded")]
    Changed,
    /// What came is not what the service declared: something else was uploaded under its name, or it was damaged on the way.
    #[error("the content has another SHA-256 than was declared")]
    Mismatch,
    /// The content is larger than any upload can be, or not what the upload was opened for.
    #[error("the content is too large")]
    TooLarge,
    /// A secret would travel in clear, or to somebody who is not meant.
    #[error("{0}")]
    Insecure(String),
    /// The WebSocket could not be opened, or broke.
    #[error("the WebSocket failed")]
    WebSocket(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// A frame or body is not what the protocol says.
    #[error("the service sent something unknown")]
    Protocol(#[from] serde_json::Error),
}

impl Error {
    /// Whether the same call may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Http(error) => !error.is_builder(),
            Self::Silent | Self::WebSocket(_) => true,
            Self::Unexpected(answer) => answer.is_retryable(),
            error => matches!(error.status(), Some(408 | 429 | 500..)),
        }
    }

    /// The HTTP status, if the answer had one that says no.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) => Some(problem.status),
            Self::Unexpected(answer) => Some(answer.status),
            _ => None,
        }
    }
}

/// That what is at `url` may be given a secret: it is reached over TLS, or on this machine.
pub(crate) fn secure(what: &str, url: &str) -> Result<(), Error> {
    let parsed =
        reqwest::Url::parse(url).map_err(|_| Error::Insecure(format!("{what} is not a URL: {url:?}")))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        let message = format!("{what} has a user name in its URL, which hides where it leads; leave it out");
        return Err(Error::Insecure(message));
    }
    let is_local = match parsed.host_str().unwrap_or_default() {
        "localhost" => true,
        host => host
            .trim_matches(['[', ']'])
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback()),
    };
    match parsed.scheme() {
        "https" | "wss" => Ok(()),
        "http" | "ws" if is_local => Ok(()),
        _ => Err(Error::Insecure(format!(
            "{what} would be sent your token unencrypted: {} is not this machine; use https",
            parsed.host_str().unwrap_or(url)
        ))),
    }
}

impl From<Answer> for Error {
    fn from(answer: Answer) -> Self {
        Self::Unexpected(answer)
    }
}

impl From<tokio_tungstenite::tungstenite::Error> for Error {
    fn from(error: tokio_tungstenite::tungstenite::Error) -> Self {
        Self::WebSocket(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> Error {
        Error::Refused(Box::new(Problem {
            status,
            code: String::new(),
            detail: String::new(),
            request_id: String::new(),
            current: None,
        }))
    }

    fn unexpected(status: u16, body: &str) -> Error {
        Answer::new(Party::Storage, status, body).into()
    }

    #[test]
    fn only_what_passes_is_said_to() {
        for error in [
            refused(503),
            refused(429),
            unexpected(502, ""),
            unexpected(400, "<Error><Code>RequestTimeout</Code></Error>"),
            unexpected(409, "<Error><Code>ConditionalRequestConflict</Code></Error>"),
            unexpected(409, "<Error><Code>OperationAborted</Code></Error>"),
            unexpected(
                400,
                r#"{"__type":"TooManyRequestsException","message":"Rate exceeded"}"#,
            ),
            unexpected(
                400,
                r#"{"__type":"com.amazonaws#ThrottlingException","Message":"Rate exceeded"}"#,
            ),
            Error::Silent,
        ] {
            assert!(error.is_retryable(), "{error:?}");
        }
        for error in [
            refused(409),
            refused(404),
            refused(401),
            unexpected(400, "<Error><Code>BadDigest</Code></Error>"),
            unexpected(409, "<Error><Code>BucketNotEmpty</Code></Error>"),
            unexpected(400, "not XML: RequestTimeout"),
            unexpected(
                400,
                r#"{"__type":"LimitExceededException","message":"Attempt limit exceeded"}"#,
            ),
            unexpected(403, ""),
            Error::TooLarge,
            Error::SignedOut(String::new()),
        ] {
            assert!(!error.is_retryable(), "{error:?}");
        }
    }

    #[test]
    fn an_answer_in_other_words_becomes_a_sentence() {
        let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code>\
            <Message>Request has expired &amp; gone.</Message><X-Amz-Expires>3600</X-Amz-Expires><RequestId>R</RequestId></Error>";
        for (answer, sentence) in [
            (
                Answer::new(Party::Storage, 403, xml),
                "storage refused the request: Request has expired & gone (AccessDenied)",
            ),
            (
                Answer::new(Party::Api, 403, r#"{"message":"Forbidden"}"#),
                "the service refused the request: Forbidden",
            ),
            (
                Answer::new(
                    Party::UserPool,
                    400,
                    r#"{"__type":"x#InvalidParameterException"}"#,
                ),
                "the user pool refused the request (InvalidParameterException)",
            ),
            (
                Answer::new(Party::Api, 502, "<html><body>\u{1b}[2J Bad gateway</body></html>"),
                "the service, or a proxy on the way to it, answered: Bad Gateway (502)",
            ),
        ] {
            assert_eq!(answer.to_string(), sentence);
        }
    }

    #[test]
    fn text_of_others_does_not_reach_the_terminal_raw() {
        let body = "{\"message\":\"\\u001b]0;title\\u0007 \\u202egnp.exe\\nnext\"}";
        let said = unexpected(400, body).to_string();
        let problem = r#"{"status":400,"code":"c","detail":"\u001b[31mred","requestId":"\u009b2J"}"#;
        let problem: Problem = serde_json::from_str(problem).unwrap();
        for text in [said, Error::Refused(Box::new(problem)).to_string()] {
            assert!(
                !text.contains(|c: char| c.is_control() || c == '\u{202e}'),
                "{text:?}"
            );
        }
        assert!(
            unexpected(400, &format!(r#"{{"message":"{}"}}"#, "x".repeat(5_000)))
                .to_string()
                .len()
                < 400
        );
    }

    #[test]
    fn secrets_go_over_tls_or_stay_on_this_machine() {
        for url in [
            "https://files.example.org/api",
            "http://127.0.0.1:4566/x",
            "http://[::1]:1",
            "http://localhost:8080",
            "wss://a.example/live",
        ] {
            assert!(secure("it", url).is_ok(), "{url}");
        }
        for url in [
            "http://files.example.org",
            "http://192.168.1.1",
            "http://localhost.example.org",
            "ws://a.example",
            "ftp://127.0.0.1",
            "nothing",
            "https://a@b.example",
            "http://127.0.0.1@evil.example",
        ] {
            assert!(matches!(secure("it", url), Err(Error::Insecure(_))), "{url}");
        }
    }
}
