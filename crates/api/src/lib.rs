//! What users read when the database refuses a request.

use db::Refusal;
use edge::Problem;
use http::StatusCode;
use model::{CurrentVersion, MAX_MEMBERS, SpacePath};

/// What the user reads of a refusal.
pub fn problem(refusal: Refusal) -> Problem {
    let conflict = |code, title, detail: &str| Problem::new(StatusCode::CONFLICT, code, title, detail);
    match refusal {
        Refusal::NotFound => Problem::not_found("There is nothing like this, or nothing that you may see."),
        Refusal::Forbidden => Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "Your role does not allow this",
            "Editors and owners change files; only owners change members, and everybody may leave.",
        ),
        Refusal::VersionConflict(current) => conflict(
            "version-conflict",
            "The version is not current",
            "The path does not hold what this started from: another device changed it since. Look at it again, then decide.",
        )
        .with("current", current),
        Refusal::PathTaken(current) => conflict(
            "path-taken",
            "The path is taken",
            &taken(&current),
        )
        .with("current", current),
        Refusal::Expired => Problem::new(
            StatusCode::GONE,
            "upload-expired",
            "The upload has expired",
            "The upload was aborted or not completed in time. Open a new one, with a new Idempotency-Key if any.",
        ),
        Refusal::Completed => conflict(
            "upload-completed",
            "The upload is complete",
            "This upload is a version of its file already: it takes no more parts and cannot be aborted.",
        ),
        Refusal::LastOwner => conflict(
            "last-owner",
            "The space needs an owner",
            "This member is the only owner. Make somebody else an owner first.",
        ),
        Refusal::PersonalSpace => Problem::new(
            StatusCode::FORBIDDEN,
            "personal-space",
            "A personal space has one member",
            "A personal space cannot be shared or left. Create a shared space.",
        ),
        Refusal::UnknownUser => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "unknown-user",
            "Nobody has this user ID",
            "Nobody with this user ID has used the service yet. Ask the person to sign in once, and for the ID that is shown then.",
        ),
        Refusal::TooManyMembers => Problem::new(
            StatusCode::CONFLICT,
            "too-many-members",
            "The space is full",
            format!("A space has at most {MAX_MEMBERS} members. Remove a member first, or share another space."),
        ),
        Refusal::KeyReused => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency-key-reused",
            "The key was used for another request",
            "This Idempotency-Key came with another body before. Use a new one for a new request.",
        ),
    }
}

fn taken(current: &CurrentVersion) -> String {
    let file = current.path.as_deref().map_or("Another file", SpacePath::as_str);
    format!(
        "{file} is in the way: no two files are at one path, and no path is both a file and a folder. Choose another path."
    )
}
