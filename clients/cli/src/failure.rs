//! Errors: exit statuses, messages for people, and JSON for scripts.

use std::env;
use std::io;

use client::{Error, Problem};
use model::CurrentVersion;
use serde_json::json;
use thiserror::Error as ThisError;

use crate::output::Output;

/// The reason for a failure. The value is the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Failed = 1,
    Usage = 2,
    /// Nobody is signed in, or the session has ended.
    Unauthenticated = 3,
    /// A file, version or space does not exist.
    NotFound = 4,
    /// The destination exists, or has another version than expected.
    Conflict = 5,
    /// The service or the machine refuses the operation.
    Refused = 6,
    /// The service does not answer, or answers with an error that a retry may resolve.
    Unreachable = 7,
    /// The sync has ended, and something waits for a person.
    Held = 8,
    /// Interrupted by a signal: 128 + SIGINT.
    Interrupted = 130,
    /// The reader of the output has gone: 128 + SIGPIPE, the status that a shell shows for SIGPIPE.
    BrokenPipe = 141,
}

/// An error that this program reports itself, with its exit status.
#[derive(Debug, ThisError)]
#[error("{message}")]
pub struct Failure {
    /// Determines the exit status.
    pub kind: Kind,
    message: String,
    /// The service's refusal that the message explains.
    #[source]
    refusal: Option<Error>,
}

pub fn failure(kind: Kind, message: impl Into<String>) -> anyhow::Error {
    let (message, refusal) = (message.into(), None);
    Failure {
        kind,
        message,
        refusal,
    }
    .into()
}

/// Creates a [`Failure`] that explains a refusal in words that fit the command. The JSON output still
/// contains the refusal.
pub fn refused(kind: Kind, message: impl Into<String>, refusal: Error) -> anyhow::Error {
    let (message, refusal) = (message.into(), Some(refusal));
    Failure {
        kind,
        message,
        refusal,
    }
    .into()
}

/// The kind of an error, from the first cause in its chain that determines one.
pub fn kind_of(error: &anyhow::Error) -> Kind {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.kind;
        }
        if let Some(error) = cause.downcast_ref::<Error>() {
            return kind_of_call(error);
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return kind_of_io(error);
        }
    }
    Kind::Failed
}

fn kind_of_io(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Kind::BrokenPipe,
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::AlreadyExists => Kind::Conflict,
        io::ErrorKind::PermissionDenied => Kind::Refused,
        _ => Kind::Failed,
    }
}

/// Whether further operations would fail too, because nobody is signed in or the service does not answer. A
/// 500 concerns one request only.
pub fn is_outage(error: &anyhow::Error) -> bool {
    let is_of_one = error.chain().any(|cause| {
        let call = cause.downcast_ref::<Error>();
        call.is_some_and(|call| call.status() == Some(500))
    });
    matches!(kind_of(error), Kind::Unauthenticated | Kind::Unreachable) && !is_of_one
}

/// Whether the service was restored to an earlier state after the spaces were listed. All further requests
/// would be refused too, until the spaces are listed again.
pub fn is_feed_reset(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| matches!(cause.downcast_ref(), Some(Error::FeedReset(_))))
}

fn kind_of_call(error: &Error) -> Kind {
    match error {
        Error::Unauthenticated(_) | Error::NewPassword => Kind::Unauthenticated,
        error if error.is_retryable() => Kind::Unreachable,
        Error::TooLarge => Kind::Refused,
        // What the command looked up is no longer what the service has.
        Error::FeedReset(_) => Kind::Conflict,
        Error::Content(error) => kind_of_io(error),
        error => match error.status() {
            Some(401) => Kind::Unauthenticated,
            Some(404 | 410) => Kind::NotFound,
            Some(409) => Kind::Conflict,
            Some(_) => Kind::Refused,
            None => Kind::Failed,
        },
    }
}

/// An error and its causes on one line.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let message = match cause.downcast_ref::<Error>() {
            Some(Error::Refused(problem) | Error::FeedReset(problem)) => refusal(problem),
            Some(error) if error.status() == Some(401) => "the session has ended".to_owned(),
            _ => cause.to_string(),
        };
        // Some errors repeat their cause.
        if !parts.last().is_some_and(|last| last.ends_with(&message)) {
            parts.push(message);
        }
        // The message of a `Failure` covers its refusal.
        if cause.is::<Failure>() {
            break;
        }
    }
    let mut sentence = parts.join(": ");
    if kind_of(error) == Kind::Unauthenticated && !sentence.contains("syncsphere login") {
        // With SYNCSPHERE_TOKEN set, signing in has no effect.
        let what_to_do = if env::var_os("SYNCSPHERE_TOKEN").is_some() {
            "set SYNCSPHERE_TOKEN to a new token"
        } else {
            "sign in: syncsphere login"
        };
        sentence = format!("{}; {what_to_do}", sentence.trim_end_matches('.'));
    }
    sentence
}

fn refusal(problem: &Problem) -> String {
    let Problem {
        code,
        detail,
        request_id,
        ..
    } = problem;
    // Messages for people instead of the service's messages for programs.
    let detail = match code.as_str() {
        "version-conflict" => {
            "it was changed or moved on another device; check the file, and repeat the command if you still want the change"
        }
        "feed-reset" => {
            "the service was restored to an earlier state meanwhile, so nothing was changed; check what it has with `syncsphere ls`, and repeat the command if you still want it"
        }
        "path-taken" => "another file has this path; choose another path, or move that file first",
        "forbidden" => {
            "your role in this space does not allow this; ask an owner of the space for a higher role"
        }
        "last-owner" => "the space would have no owner; make another member an owner first",
        "not-found" => {
            "it does not exist, or you are not a member of the space; check the name with `syncsphere ls` or `syncsphere spaces`"
        }
        _ => detail,
    };
    match &problem.current {
        Some(CurrentVersion { version, path, .. }) => {
            let path = path.as_ref().map_or(String::new(), |path| format!(" at {path}"));
            format!("{detail} (current version {version}{path}; request {request_id})")
        }
        None => format!("{detail} (request {request_id})"),
    }
}

/// An error as JSON, for scripts.
pub fn json(error: &anyhow::Error) -> serde_json::Value {
    let problem = error.chain().find_map(|cause| match cause.downcast_ref() {
        Some(Error::Refused(problem) | Error::FeedReset(problem)) => Some(problem),
        _ => None,
    });
    json!({ "error": {
        "exitStatus": kind_of(error) as u8,
        "message": sentence(error),
        "code": problem.map(|problem| &problem.code),
        "current": problem.and_then(|problem| problem.current.as_ref()),
        "requestId": problem.map(|problem| &problem.request_id),
    }})
}

/// Counts the failures of a command that continues after a failure.
#[derive(Debug, Default)]
pub struct Failures {
    first: Option<Kind>,
    mixed: bool,
    count: usize,
}

impl Failures {
    pub fn add(&mut self, kind: Kind) {
        self.count += 1;
        self.mixed |= self.first.is_some_and(|first| first != kind);
        self.first.get_or_insert(kind);
    }

    /// Reports a failure of one of several operations. It is an error if there is only one, or if the others
    /// would fail too.
    pub fn one_of(&mut self, of: usize, error: anyhow::Error, output: Output) -> anyhow::Result<()> {
        if of == 1 || is_feed_reset(&error) || is_outage(&error) {
            return Err(error);
        }
        output.failure(&error);
        self.add(kind_of(&error));
        Ok(())
    }

    /// An error if there was a failure, with the kind that all have in common, or `Failed`.
    pub fn outcome(&self, of: usize, what: &str) -> anyhow::Result<()> {
        match self.first {
            None => Ok(()),
            Some(_) if self.mixed => Err(failure(Kind::Failed, format!("{} of {of} {what}", self.count))),
            Some(kind) => Err(failure(kind, format!("{} of {of} {what}", self.count))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    fn refused(status: u16) -> anyhow::Error {
        Error::Refused(Box::new(Problem {
            status,
            code: "some-code".to_owned(),
            detail: "It is so.".to_owned(),
            request_id: "r1".to_owned(),
            current: None,
            space_ids: Vec::new(),
            retry_after: None,
            limit: String::new(),
        }))
        .into()
    }

    #[test]
    fn each_error_has_its_exit_status() {
        for (status, kind) in [
            (400, Kind::Refused),
            (401, Kind::Unauthenticated),
            (403, Kind::Refused),
            (404, Kind::NotFound),
            (409, Kind::Conflict),
            (410, Kind::NotFound),
            (413, Kind::Refused),
            (422, Kind::Refused),
            (429, Kind::Unreachable),
            (500, Kind::Unreachable),
            (503, Kind::Unreachable),
        ] {
            assert_eq!(kind_of(&refused(status)), kind, "{status}");
        }
        let hidden: anyhow::Result<()> = Err(refused(409)).context("cannot move it");
        assert_eq!(kind_of(&hidden.unwrap_err()), Kind::Conflict);
    }

    #[test]
    fn an_error_names_the_request_and_the_next_step() {
        let error = refused(409).context("cannot move /a");
        assert_eq!(sentence(&error), "cannot move /a: It is so. (request r1)");
        assert_eq!(json(&error)["error"]["requestId"], "r1");
        assert_eq!(json(&error)["error"]["exitStatus"], 5);
        assert!(sentence(&refused(401)).ends_with("sign in: syncsphere login"));
    }

    #[test]
    fn a_restore_of_the_service_is_a_conflict() {
        let problem = serde_json::from_str(
            r#"{"status":410,"code":"feed-reset","detail":"The epoch is another one.","requestId":"r1"}"#,
        );
        let error = anyhow::Error::from(Error::FeedReset(problem.unwrap())).context("cannot move /a");
        assert!(is_feed_reset(&error) && !is_outage(&error));
        assert!(!is_feed_reset(&refused(410)));
        assert_eq!(json(&error)["error"]["exitStatus"], 5);
        assert_eq!(json(&error)["error"]["code"], "feed-reset");
        let message = sentence(&error);
        assert!(
            message.starts_with("cannot move /a: the service was restored"),
            "{message}"
        );
        assert!(message.ends_with("(request r1)"), "{message}");
    }

    #[test]
    fn messages_contain_no_api_terms() {
        for code in [
            "feed-reset",
            "version-conflict",
            "path-taken",
            "forbidden",
            "last-owner",
            "not-found",
        ] {
            let problem = Problem {
                status: 409,
                code: code.to_owned(),
                detail: "Another file is at this path; current says which.".to_owned(),
                request_id: "r1".to_owned(),
                current: None,
                space_ids: Vec::new(),
                retry_after: None,
                limit: String::new(),
            };
            let message = sentence(&Error::Refused(Box::new(problem)).into());
            assert!(
                message.ends_with(" (request r1)") && !message.contains("current says"),
                "{message}"
            );
            assert!(!message.contains(code), "{message}");
        }
    }

    #[test]
    fn failures_of_one_kind_have_that_kind() {
        let mut failures = Failures::default();
        failures.outcome(2, "failed").unwrap();
        failures.add(Kind::NotFound);
        assert_eq!(
            kind_of(&failures.outcome(2, "failed").unwrap_err()),
            Kind::NotFound
        );
        failures.add(Kind::Conflict);
        assert_eq!(kind_of(&failures.outcome(2, "failed").unwrap_err()), Kind::Failed);
    }
}
