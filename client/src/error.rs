//! What can go wrong.

use model::CurrentVersion;
use serde::Deserialize;
use thiserror::Error as ThisError;

/// A refusal or failure that the service explained (RFC 9457).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The name for programs, such as `version-conflict`.
    pub code: String,
    /// What people read.
    pub detail: String,
    /// The id under which operators find the request.
    pub request_id: String,
    /// Of a `version-conflict`: what the path holds.
    #[serde(default)]
    pub current: Option<CurrentVersion>,
}

/// A call that did not do what it should.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The service said no and why.
    #[error("{code} ({status}): {detail} (request {request_id})", code = .0.code, status = .0.status, detail = .0.detail,
        request_id = .0.request_id)]
    Refused(Problem),
    /// Something on the way answered in its own words: a gateway, storage or the identity provider.
    #[error("HTTP status {status}: {body}")]
    Unexpected {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
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
    /// The WebSocket could not be opened, or broke.
    #[error("the WebSocket failed")]
    WebSocket(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// A frame or body is not what the protocol says.
    #[error("the service sent something unknown")]
    Protocol(#[from] serde_json::Error),
}

impl Error {
    /// Whether the same call may succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Http(error) => !error.is_builder(),
            Self::Silent | Self::WebSocket(_) => true,
            // How S3 says that a line was too slow (Amazon S3 API Reference, "Error responses").
            Self::Unexpected { status: 400, body } => body.contains("RequestTimeout"),
            // Another request for the same object is under way, such as a former attempt whose connection was lost. S3 asks for a
            // repetition (Amazon S3 API Reference, "PutObject", `If-None-Match`).
            Self::Unexpected { status: 409, body } => body.contains("ConditionalRequestConflict"),
            error => matches!(error.status(), Some(408 | 429 | 500..)),
        }
    }

    /// The HTTP status, if the answer had one that says no.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) => Some(problem.status),
            Self::Unexpected { status, .. } => Some(*status),
            _ => None,
        }
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
        Error::Refused(Problem {
            status,
            code: String::new(),
            detail: String::new(),
            request_id: String::new(),
            current: None,
        })
    }

    fn unexpected(status: u16, body: &str) -> Error {
        let body = body.to_owned();
        Error::Unexpected { status, body }
    }

    #[test]
    fn only_what_passes_is_said_to() {
        for error in [
            refused(503),
            refused(429),
            unexpected(502, ""),
            unexpected(400, "<Code>RequestTimeout</Code>"),
            unexpected(409, "<Code>ConditionalRequestConflict</Code>"),
            Error::Silent,
        ] {
            assert!(error.is_passing(), "{error:?}");
        }
        for error in [
            refused(409),
            refused(404),
            refused(401),
            unexpected(400, "<Code>BadDigest</Code>"),
            unexpected(409, "<Code>OperationAborted</Code>"),
            unexpected(403, ""),
            Error::TooLarge,
            Error::SignedOut(String::new()),
        ] {
            assert!(!error.is_passing(), "{error:?}");
        }
    }
}
