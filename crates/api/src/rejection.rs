//! The problem responses for commands that the database rejected.

use std::sync::Arc;

use db::{Limit, LimitName, Rejection};
use http::StatusCode;
use model::{CurrentVersion, MAX_MEMBERS, SpacePath};
use platform::summary;
use serde_json::json;

use crate::Problem;

/// The field of a request's log line with the limits that refused something, and under which the use does not
/// fall by itself: users must give something up, or an operator raises the limit.
pub(crate) const LASTING_LIMITS: &str = "lasting_limits";

/// The field of a request's log line with the limits that refused something, and under which the use falls by
/// itself.
pub(crate) const PASSING_LIMITS: &str = "passing_limits";

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let conflict = |code, title, detail: &str| Problem::new(StatusCode::CONFLICT, code, title, detail);
        let forbidden = |code, title, detail: &str| Problem::new(StatusCode::FORBIDDEN, code, title, detail);
        let unprocessable =
            |code, title, detail: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, title, detail);
        match rejection {
            Rejection::NotFound => Problem::not_found("There is nothing like this, or nothing that you may see."),
            Rejection::Forbidden => forbidden(
                "forbidden",
                "Your role does not allow this",
                "Editors and owners change files; only owners change members, and everybody may leave.",
            ),
            Rejection::VersionConflict(current) => conflict(
                "version-conflict",
                "The version is not current",
                "The path does not hold what this started from: another device changed it since. Look at it again, then decide.",
            )
            .with("current", current),
            Rejection::PathTaken(current) => conflict(
                "path-taken",
                "The path is taken",
                &taken(&current),
            )
            .with("current", current),
            Rejection::Expired => Problem::new(
                StatusCode::GONE,
                "upload-expired",
                "The upload has expired",
                "The upload was aborted or not completed in time. Open a new one, with a new Idempotency-Key if any.",
            ),
            Rejection::Completed => conflict(
                "upload-completed",
                "The upload is complete",
                "This upload is a version of its file already: it takes no more parts and cannot be aborted.",
            ),
            Rejection::LastOwner => conflict(
                "last-owner",
                "The space needs an owner",
                "This member is the only owner. Make somebody else an owner first.",
            ),
            Rejection::PersonalSpace => forbidden(
                "personal-space",
                "A personal space has one member",
                "A personal space cannot be shared or left. Create a shared space.",
            ),
            Rejection::AlreadyMember => conflict(
                "already-member",
                "The person is a member already",
                "This person is a member of the space already. Change the role of the member instead.",
            ),
            Rejection::UnknownUser => unprocessable(
                "unknown-user",
                "Nobody has this user ID",
                "Nobody with this user ID has used the service yet. Ask the person to sign in once, and for the ID that is shown then, or invite an e-mail address.",
            ),
            Rejection::TooManyMembers => conflict(
                "too-many-members",
                "The space is full",
                &format!("A space has at most {MAX_MEMBERS} members. Remove a member first, or share another space."),
            ),
            Rejection::LimitExceeded(limit) => limit_exceeded(&limit),
            Rejection::Blocked => forbidden(
                "account-blocked",
                "The account is blocked",
                "The operator of this service has blocked this account. Nothing of it is deleted. Ask the operator.",
            ),
            Rejection::Erased => forbidden(
                "account-erased",
                "The account is erased",
                "This account was erased, and cannot be used any more. To use the service again, sign in anew after a day.",
            ),
            Rejection::OnlyOwner(spaces) => conflict(
                "last-owner",
                "Spaces need an owner",
                "You are the only owner of spaces with other members. Make somebody else an owner of each, or delete it, first.",
            )
            .with("spaceIds", spaces),
            Rejection::FeedReset => Problem::new(
                StatusCode::GONE,
                "feed-reset",
                "The service was restored from a backup",
                "Some of what this client has seen may be gone, and nothing was changed now. List spaces, files and changes again, \
                 and treat what this client has beyond them as its own edits.",
            ),
            Rejection::Sha256Conflict => conflict(
                "sha256-conflict",
                "The upload has another SHA-256",
                "The upload was opened or completed with another SHA-256, and is as it was. Leave sha256 out, or send that one. For other \
                 content, open another upload.",
            ),
            Rejection::Sha256Missing => unprocessable(
                "sha256-required",
                "The SHA-256 is missing",
                "The upload was opened without sha256, and nothing was changed. Send it to POST /uploads/{uploadId}/complete.",
            ),
            Rejection::KeyReused => unprocessable(
                "idempotency-key-reused",
                "The key was used for another request",
                "This Idempotency-Key came with another body before. Use a new one for a new request.",
            ),
        }
    }
}

/// A database error is a 503, since a retry may succeed, unless the statement rejected the caller.
impl From<db::Error> for Problem {
    fn from(error: db::Error) -> Self {
        match error {
            db::Error::Rejected(rejection) => rejection.into(),
            error => Self::unavailable(error),
        }
    }
}

/// As for the error itself. Several items of a batch may have failed for one error.
impl From<Arc<db::Error>> for Problem {
    fn from(error: Arc<db::Error>) -> Self {
        match &*error {
            db::Error::Rejected(rejection) => rejection.clone().into(),
            _ => Self::unavailable(error),
        }
    }
}

/// 413 if the content is too much, 429 if waiting helps, else 409.
fn limit_exceeded(limit: &Limit) -> Problem {
    let Limit { maximum, used, .. } = *limit;
    let field = if limit.retry_after.is_none() {
        LASTING_LIMITS
    } else {
        PASSING_LIMITS
    };
    summary::record(field, limit.name.as_str());
    let detail = match limit.name {
        LimitName::ChangesPerMinute => {
            format!(
                "You have made {used} changes in this minute, and may make {maximum}. Wait a moment, then go on."
            )
        }
        LimitName::PendingUploads => format!(
            "You have {used} uploads that are not complete, and may have {maximum}. Complete or abort some; those that you left \
             expire by themselves."
        ),
        LimitName::Spaces => format!(
            "You are a member of {used} shared spaces, and may be of {maximum}. Leave or delete one first, or ask the operator for \
             more."
        ),
        LimitName::SpaceBytes => format!(
            "The space holds {used} bytes, with old versions and the trash, and this would be more than {maximum}. Erase files, wait \
             until the trash and old versions are purged, or ask the operator for more."
        ),
        LimitName::PendingInvitations => format!(
            "{used} people have not answered their invitation to this space, and {maximum} may be waiting. Withdraw some invitations, \
             or wait for answers."
        ),
        LimitName::ReceivedInvitations => format!(
            "This person has {used} invitations without an answer, and may have {maximum}. Ask the person to accept or decline some \
             first."
        ),
        LimitName::InvitationsPerDay => format!(
            "You have invited people {used} times within a day, and may do so {maximum} times. Invite others tomorrow, or ask the \
             operator for more."
        ),
    };
    let status = match (limit.name, limit.retry_after) {
        (LimitName::SpaceBytes, _) => StatusCode::PAYLOAD_TOO_LARGE,
        (_, Some(_)) => StatusCode::TOO_MANY_REQUESTS,
        (_, None) => StatusCode::CONFLICT,
    };
    let problem = Problem::new(status, "quota-exceeded", "A limit is reached", detail).with(
        "limit",
        json!({ "name": limit.name.as_str(), "used": used, "maximum": maximum }),
    );
    match limit.retry_after {
        Some(delay) => problem.retry_after(delay),
        None => problem,
    }
}

fn taken(current: &CurrentVersion) -> String {
    let file = current.path.as_deref().map_or("Another file", SpacePath::as_str);
    format!(
        "{file} is in the way: no two files are at one path, and no path is both a file and a folder. Choose another path."
    )
}
