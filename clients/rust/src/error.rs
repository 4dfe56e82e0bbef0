//! Errors of this crate, and which of them are retryable.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use model::{CurrentVersion, SpaceId};
use serde::{Deserialize, Deserializer};
use thiserror::Error as ThisError;

/// Characters of a remote text that an error shows.
const MAX_TEXT_CHARACTERS: usize = 300;

/// An error answer of the API (RFC 9457).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The HTTP status code.
    pub status: u16,
    /// The machine-readable code, such as `version-conflict`.
    #[serde(deserialize_with = "printable_text")]
    pub code: String,
    /// The human-readable explanation, without control characters.
    #[serde(deserialize_with = "printable_text")]
    pub detail: String,
    /// The request id, by which operators find the request in the logs.
    #[serde(deserialize_with = "printable_text")]
    pub request_id: String,
    /// The current version, in a `version-conflict` or `path-taken` problem; otherwise `None`.
    #[serde(default)]
    pub current: Option<CurrentVersion>,
    /// The spaces with other members of which the caller is the only owner, in the `last-owner` problem of
    /// [`Client::erase_account`](crate::Client::erase_account); otherwise empty.
    #[serde(default)]
    pub space_ids: Vec<SpaceId>,
    /// The time after which the request may be repeated, in seconds; `None` if the service does not know it.
    #[serde(default)]
    pub retry_after: Option<u64>,
    /// The limit that is reached, such as `pendingUploads`, in a `quota-exceeded` problem; otherwise empty.
    #[serde(default, deserialize_with = "printable_text")]
    pub limit: String,
}

/// The server that a request was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Server {
    /// The HTTP API.
    Api,
    /// Object storage, which holds the content.
    Storage,
    /// The Cognito user pool, which signs users in.
    UserPool,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Api => "the service",
            Self::Storage => "storage",
            Self::UserPool => "the user pool",
        })
    }
}

/// An error answer that is not in the API's own format: from storage, the user pool, API Gateway or a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorResponse {
    /// The server that the request was sent to. A proxy on the way may have answered in its place.
    pub server: Server,
    /// The HTTP status code.
    pub status: u16,
    /// The machine-readable error code, such as `RequestTimeout`; empty if the answer has none.
    pub code: String,
    /// The human-readable message, without control characters; empty if the answer has none.
    pub message: String,
}

impl ErrorResponse {
    /// Parses an error body: XML from S3, JSON from Cognito and API Gateway. Any other body, such as the page
    /// of a proxy, is ignored.
    pub(crate) fn new(server: Server, status: u16, body: &str) -> Self {
        let body: ErrorBody = serde_json::from_str(body)
            .or_else(|_| quick_xml::de::from_str(body))
            .unwrap_or_default();
        let code = body.kind.rsplit('#').next().unwrap_or_default();
        Self {
            server,
            status,
            code: printable(code),
            message: printable(body.message.trim()),
        }
    }

    /// Whether the same request may succeed a little later, by its status or its AWS error code.
    fn is_retryable(&self) -> bool {
        matches!(self.status, 408 | 429 | 500..) || RETRYABLE_CODES.contains(&self.code.as_str())
    }
}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            server,
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
                "{server}, or a proxy on the way to it, answered: {reason} ({status})"
            ),
            ("", "", None) => write!(
                f,
                "{server}, or a proxy on the way to it, answered with status {status}"
            ),
            ("", message, _) => write!(f, "{server} refused the request: {message}"),
            (code, "", _) => write!(f, "{server} refused the request ({code})"),
            (code, message, _) => write!(f, "{server} refused the request: {message} ({code})"),
        }
    }
}

/// Error codes of transient faults, which AWS returns with status 400, 403, 409 and 503 alike: throttling and
/// transient errors (AWS SDKs and Tools Reference Guide, "Retry behavior"), and S3 conflicts with another
/// request for the same object (Amazon S3 API Reference, "Error responses", and `If-None-Match` of
/// `PutObject`). S3 answers 400 `RequestTimeout` when the client sends too slowly.
const RETRYABLE_CODES: [&str; 20] = [
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
struct ErrorBody {
    #[serde(default, rename = "__type", alias = "Code", alias = "code")]
    kind: String,
    #[serde(default, alias = "Message")]
    message: String,
}

/// Makes remote text safe for a terminal: one line, at most `MAX_TEXT_CHARACTERS` characters, and no
/// characters that move the cursor, change colors or change the direction of text.
pub(crate) fn printable(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let characters = text.chars().take(MAX_TEXT_CHARACTERS);
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

/// An error of a call of this crate.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The API refused the request and explained why.
    #[error("{code} ({status}): {detail} (request {request_id})", code = .0.code, status = .0.status, detail = .0.detail,
        request_id = .0.request_id)]
    Refused(Box<Problem>),
    /// The service was restored from a backup since the client last listed its spaces, so another epoch is
    /// current. The request changed nothing. List the spaces again
    /// ([`Client::all_spaces`](crate::Client::all_spaces)), and check what the request was based on before
    /// you repeat it.
    #[error("the service was restored to an earlier state, and the request changed nothing (request {})", .0.request_id)]
    FeedReset(Box<Problem>),
    /// Storage, the user pool, API Gateway or a proxy answered with an error in its own format.
    #[error("{0}")]
    Unexpected(ErrorResponse),
    /// There was no answer, or only an incomplete one.
    #[error("the service could not be reached")]
    Http(#[source] Arc<reqwest::Error>),
    /// The session has ended or sign-in failed: the user has to sign in, again or in another way. The text is
    /// the reason.
    #[error("not signed in: {0}")]
    Unauthenticated(String),
    /// The password was set by an administrator, and the user has to choose a new one.
    #[error("not signed in: the password must be changed first")]
    NewPassword,
    /// A deadline passed without an answer, or without more data.
    #[error("the service did not answer in time")]
    Timeout,
    /// A file on this machine could not be read or written.
    #[error("a file on this machine cannot be read or written")]
    Content(#[from] io::Error),
    /// The content changed after the upload began.
    #[error("the file changed while it was uploaded")]
    Changed,
    /// The downloaded content does not match the declared digests: other content was uploaded under them, or
    /// the content was damaged on the way.
    #[error("the content does not have the SHA-256 that its uploader declared")]
    Mismatch,
    /// The content is larger than an upload can be, or does not fit the part layout of its upload.
    #[error("the content is too large")]
    TooLarge,
    /// The request was not sent, because it would have sent a secret unencrypted or to a wrong server. The
    /// text is the reason.
    #[error("{0}")]
    Insecure(String),
    /// The WebSocket could not be opened, or it failed.
    #[error("the WebSocket failed")]
    WebSocket(#[source] Arc<tokio_tungstenite::tungstenite::Error>),
    /// The body of an answer does not follow the protocol.
    #[error("the service sent an unexpected answer")]
    Protocol(#[source] Arc<serde_json::Error>),
}

impl Error {
    /// Whether the same call may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Http(error) => !error.is_builder(),
            Self::Timeout | Self::WebSocket(_) => true,
            Self::Unexpected(answer) => answer.is_retryable(),
            error => matches!(error.status(), Some(408 | 429 | 500..)),
        }
    }

    /// The HTTP status of an error answer; `None` for all other errors.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) | Self::FeedReset(problem) => Some(problem.status),
            Self::Unexpected(answer) => Some(answer.status),
            _ => None,
        }
    }

    /// The time after which the service takes the same request, if it has said so.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(problem) => problem.retry_after.map(Duration::from_secs),
            _ => None,
        }
    }

    /// The same error for another caller, if one request failed for several.
    pub(crate) fn for_another_caller(&self) -> Self {
        match self {
            Self::Refused(problem) => Self::Refused(problem.clone()),
            Self::FeedReset(problem) => Self::FeedReset(problem.clone()),
            Self::Unexpected(answer) => Self::Unexpected(answer.clone()),
            Self::Http(error) => Self::Http(Arc::clone(error)),
            Self::Unauthenticated(reason) => Self::Unauthenticated(reason.clone()),
            Self::NewPassword => Self::NewPassword,
            Self::Timeout => Self::Timeout,
            Self::Content(error) => Self::Content(io::Error::new(error.kind(), error.to_string())),
            Self::Changed => Self::Changed,
            Self::Mismatch => Self::Mismatch,
            Self::TooLarge => Self::TooLarge,
            Self::Insecure(reason) => Self::Insecure(reason.clone()),
            Self::WebSocket(error) => Self::WebSocket(Arc::clone(error)),
            Self::Protocol(error) => Self::Protocol(Arc::clone(error)),
        }
    }
}

/// Checks that a secret may be sent to `url`: over TLS to any host, or unencrypted to this machine. A URL
/// with a user name is refused, because it hides the real host. `what` names the URL in the error.
pub(crate) fn check_url(what: &str, url: &str) -> Result<(), Error> {
    let parsed = reqwest::Url::parse(url)
        .map_err(|_| Error::Insecure(format!("the URL of {what} is not valid: {url:?}")))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        let message = format!("the URL of {what} has a user name, which can hide the real host; remove it");
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
            "your token would be sent to {what} unencrypted, because {} is not this machine; use https",
            parsed.host_str().unwrap_or(url)
        ))),
    }
}

impl From<ErrorResponse> for Error {
    fn from(answer: ErrorResponse) -> Self {
        Self::Unexpected(answer)
    }
}

impl From<tokio_tungstenite::tungstenite::Error> for Error {
    fn from(error: tokio_tungstenite::tungstenite::Error) -> Self {
        Self::WebSocket(Arc::new(error))
    }
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(Arc::new(error))
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Protocol(Arc::new(error))
    }
}

/// Adds the causes of an error to a text, each after a colon.
pub fn with_causes(mut text: String, error: &Error) -> String {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
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
            space_ids: Vec::new(),
            retry_after: None,
            limit: String::new(),
        }))
    }

    fn unexpected(status: u16, body: &str) -> Error {
        ErrorResponse::new(Server::Storage, status, body).into()
    }

    #[test]
    fn only_temporary_errors_are_retryable() {
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
            Error::Timeout,
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
            Error::Unauthenticated(String::new()),
        ] {
            assert!(!error.is_retryable(), "{error:?}");
        }
    }

    #[test]
    fn an_error_response_in_another_format_becomes_a_sentence() {
        let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code>\
            <Message>Request has expired &amp; gone.</Message><X-Amz-Expires>3600</X-Amz-Expires><RequestId>R</RequestId></Error>";
        for (answer, sentence) in [
            (
                ErrorResponse::new(Server::Storage, 403, xml),
                "storage refused the request: Request has expired & gone (AccessDenied)",
            ),
            (
                ErrorResponse::new(Server::Api, 403, r#"{"message":"Forbidden"}"#),
                "the service refused the request: Forbidden",
            ),
            (
                ErrorResponse::new(
                    Server::UserPool,
                    400,
                    r#"{"__type":"x#InvalidParameterException"}"#,
                ),
                "the user pool refused the request (InvalidParameterException)",
            ),
            (
                ErrorResponse::new(
                    Server::Api,
                    502,
                    "<html><body>\u{1b}[2J Bad gateway</body></html>",
                ),
                "the service, or a proxy on the way to it, answered: Bad Gateway (502)",
            ),
        ] {
            assert_eq!(answer.to_string(), sentence);
        }
    }

    #[test]
    fn remote_text_is_made_safe_for_a_terminal() {
        let body = "{\"message\":\"\\u001b]0;title\\u0007 \\u202egnp.exe\\nnext\"}";
        let message = unexpected(400, body).to_string();
        let problem =
            r#"{"status":400,"code":"\u001b[31mc","detail":"\u001b[31mred","requestId":"\u009b2J"}"#;
        let problem: Problem = serde_json::from_str(problem).unwrap();
        for text in [message, Error::Refused(Box::new(problem)).to_string()] {
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
    fn secrets_are_sent_over_tls_or_to_this_machine_only() {
        for url in [
            "https://files.example.org/api",
            "http://127.0.0.1:4566/x",
            "http://[::1]:1",
            "http://localhost:8080",
            "wss://a.example/live",
        ] {
            assert!(check_url("it", url).is_ok(), "{url}");
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
            assert!(matches!(check_url("it", url), Err(Error::Insecure(_))), "{url}");
        }
    }
}
