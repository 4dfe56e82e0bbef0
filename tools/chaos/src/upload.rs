//! One upload, from its creation to a definite answer.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use model::{CreatedUpload, FileChanged, PresignedPut, Sha256, SpaceId};
use serde_json::json;

use super::api::{Answer, Call};
use super::device::Context;
use super::history::Acknowledged;
use super::workload::User;

/// The timeout of one attempt to send the content.
const PUT_TIMEOUT: Duration = Duration::from_secs(3);

/// The retry limit for sending the content.
const PUT_PATIENCE: Duration = Duration::from_mins(2);

/// The parameters of an upload.
pub(crate) struct Upload {
    /// The uploading user and device.
    pub(crate) user: User,
    /// The idempotency key of the request that creates the upload.
    pub(crate) key: String,
    /// The path of the file in the space.
    pub(crate) path: String,
    /// The content of the file.
    pub(crate) content: String,
    /// The target space; `None` for the personal one.
    pub(crate) space: Option<SpaceId>,
    /// The version that must be current; `None` for no such condition.
    pub(crate) base_version: Option<i64>,
}

/// Uploads a file. Returns `None` if the upload was refused for a reason that `may_be_refused` or the base
/// version explains, or if it failed, which is a violation. With `twice`, the completion is requested again,
/// which must change nothing.
pub(crate) async fn run(
    context: &Context,
    upload: &Upload,
    twice: bool,
    may_be_refused: impl Fn() -> bool,
) -> Option<FileChanged> {
    let counts = &context.history.counts;
    counts.attempted.fetch_add(1, Ordering::Relaxed);
    let user = &upload.user.id;
    let sha256 = client::sha256(upload.content.as_bytes());
    let refused = |call: &Call, answer: &Answer| {
        let conflict = upload.base_version.is_some() && answer.code() == "version-conflict";
        let removed = [403, 404].contains(&answer.status) && may_be_refused();
        // The answer of an earlier attempt was lost, and the version was purged since.
        let purged = answer.is_repeated && is_purged(answer);
        if conflict || removed || purged {
            counts.refused.fetch_add(1, Ordering::Relaxed);
        } else {
            context.api.wrong(user, call, answer);
        }
    };

    let opening = Call::new("POST /uploads")
        .key(upload.key.clone())
        .body(opening_body(upload, sha256));
    let answer = context.api.request(user, &opening).await?;
    let opened = answer.parsed::<CreatedUpload>().filter(|_| answer.status == 201);
    let Some(opened) = opened else {
        refused(&opening, &answer);
        return None;
    };
    let Some(put) = opened.put() else {
        context.api.wrong(user, &opening, &answer);
        return None;
    };
    send(context, put, upload, &opened).await?;

    let completing = Call::new("POST /uploads/{uploadId}/complete")
        .path("uploadId", &opened.upload_id)
        .body(json!({}));
    let begun = Instant::now();
    let answer = context.api.request(user, &completing).await?;
    counts.took(begun.elapsed());
    let completed = answer.parsed::<FileChanged>().filter(|_| answer.status == 200);
    let Some(completed) = completed else {
        refused(&completing, &answer);
        return None;
    };
    context
        .history
        .acknowledge(Acknowledged::new(opened.upload_id, sha256, &completed));
    if twice {
        let again = context.api.request(user, &completing).await?;
        let same = again.parsed::<FileChanged>().as_ref() == Some(&completed);
        let refused = [403, 404].contains(&again.status) && may_be_refused();
        // The checker looks for the version itself.
        if !same && !refused && !is_purged(&again) {
            context.api.wrong(user, &completing, &again);
        }
    }
    Some(completed)
}

/// Whether the answer is that of an upload whose version was purged.
fn is_purged(answer: &Answer) -> bool {
    ["upload-expired", "upload-not-found"].contains(&answer.code().as_str())
}

fn opening_body(upload: &Upload, sha256: Sha256) -> serde_json::Value {
    let mut body = json!({
        "path": upload.path,
        "size": upload.content.len(),
        "sha256": sha256,
        "deviceId": upload.user.device,
    });
    if let Some(space) = upload.space {
        body["spaceId"] = json!(space);
    }
    if let Some(version) = upload.base_version {
        body["baseVersion"] = json!(version);
    }
    body
}

async fn send(context: &Context, put: &PresignedPut, upload: &Upload, opened: &CreatedUpload) -> Option<()> {
    let begun = Instant::now();
    for attempt in 0.. {
        let mut request = context.http.put(&put.url).timeout(PUT_TIMEOUT);
        for (name, value) in &put.headers {
            request = request.header(name, value);
        }
        match request.body(upload.content.clone()).send().await {
            // 412: an earlier attempt succeeded, but its answer was lost.
            Ok(answer) if answer.status().is_success() || answer.status().as_u16() == 412 => return Some(()),
            Ok(answer) if answer.status().is_client_error() => {
                let status = answer.status();
                context.violations.unexpected(
                    "storage refused a presigned request",
                    format!("upload {}: {status}", opened.upload_id),
                );
                return None;
            }
            Ok(_) | Err(_) if begun.elapsed() < PUT_PATIENCE => context.api.pause(attempt).await,
            Ok(_) | Err(_) => break,
        }
    }
    context.violations.unexpected(
        "content could not be sent",
        format!("upload {}", opened.upload_id),
    );
    None
}
