//! Uploads, one or a batch, from their creation to a definite answer.

use std::collections::HashMap;
use std::future::Pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use model::{CreatedUpload, FileChanged, PresignedParts, PresignedPut, Sha256, SpaceId, Transfer};
use serde_json::json;

use super::api::{Answer, Call};
use super::device::Context;
use super::faults::Kind;
use super::functions::MULTIPART_THRESHOLD_BYTES;
use super::history::{Acknowledged, add};
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
/// which must change nothing. Content in parts is opened without its SHA-256, which the completion gives.
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
        check_refusal(context, upload, call, answer, may_be_refused());
    };

    let in_parts = upload.content.len() > MULTIPART_THRESHOLD_BYTES;
    let opening = Call::new("POST /uploads")
        .key(upload.key.clone())
        .body(opening_body(upload, (!in_parts).then_some(sha256)));
    let answer = context.api.request(user, &opening).await?;
    let opened = answer.parsed::<CreatedUpload>().filter(|_| answer.status == 201);
    let Some(opened) = opened else {
        refused(&opening, &answer);
        return None;
    };
    let completing = |sha256: Option<Sha256>| {
        Call::new("POST /uploads/{uploadId}/complete")
            .path("uploadId", &opened.upload_id)
            .body(sha256.map_or(json!({}), |sha256| json!({ "sha256": sha256 })))
    };
    let put = match &opened.transfer {
        Transfer::Put(put) if !in_parts => put.clone(),
        Transfer::Multipart(_) if in_parts => {
            let part = json!({ "partNumber": 1, "sha256": sha256 });
            let presigning = Call::new("POST /uploads/{uploadId}/parts")
                .path("uploadId", &opened.upload_id)
                .body(json!({ "parts": [part] }));
            let answer = context.api.request(user, &presigning).await?;
            let presigned = answer.parsed::<PresignedParts>();
            let Some(part) = presigned.and_then(|presigned| presigned.parts.into_iter().next()) else {
                refused(&presigning, &answer);
                return None;
            };
            part.put
        }
        _ => {
            context.api.wrong(user, &opening, &answer);
            return None;
        }
    };
    send(context, &put, upload, &opened).await?;

    let other = client::sha256(b"other content");
    let completing_with_other = completing(Some(other));
    let completing = completing(in_parts.then_some(sha256));
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
        let other = context.api.request(user, &completing_with_other).await?;
        let refused = [403, 404].contains(&other.status) && may_be_refused();
        if other.code() != "sha256-conflict" && !refused && !is_purged(&other) {
            context.api.wrong(user, &completing_with_other, &other);
        }
    }
    Some(completed)
}

/// Uploads files of one user, with one request for the items of each step. Returns the changes of those that
/// were completed; the others were refused for a reason that the base version or `may_be_refused` explains, or
/// failed, which is a violation. With `twice`, the completion is requested again, which must change nothing.
pub(crate) async fn run_all(
    context: &Context,
    uploads: &[Upload],
    twice: bool,
    may_be_refused: impl Fn(&Upload) -> bool,
) -> Vec<FileChanged> {
    let Some(Upload { user, .. }) = uploads.first() else {
        return Vec::new();
    };
    let user = &user.id;
    add(&context.history.counts.attempted, uploads.len());
    let opening = |items: &[usize]| {
        let bodies = items.iter().map(|item| {
            let upload = &uploads[*item];
            let mut body = opening_body(upload, Some(client::sha256(upload.content.as_bytes())));
            body["idempotencyKey"] = json!(upload.key);
            body
        });
        Call::new("POST /uploads/batch").body(json!({ "uploads": bodies.collect::<Vec<_>>() }))
    };
    let answers = context
        .api
        .request_items(user, uploads.len(), opening, None::<Pending<()>>)
        .await;
    let mut opened = Vec::new();
    for (item, (upload, answer)) in uploads.iter().zip(answers).enumerate() {
        let Some(answer) = answer else { continue };
        match answer.parsed::<CreatedUpload>().filter(|_| answer.status == 201) {
            Some(created) if created.put().is_some() => opened.push((upload, created)),
            Some(_) => context.api.wrong(user, &opening(&[item]), &answer),
            None => check_refusal(
                context,
                upload,
                &opening(&[item]),
                &answer,
                may_be_refused(upload),
            ),
        }
    }
    let sending = opened
        .iter()
        .map(async |(upload, created)| send(context, created.put()?, upload, created).await);
    let sent = futures_util::future::join_all(sending).await;
    let sent: Vec<_> = (opened.iter().zip(sent))
        .filter_map(|(opened, sent)| sent.map(|()| opened))
        .collect();
    if sent.is_empty() {
        return Vec::new();
    }

    let completing = |items: &[usize]| {
        let ids: Vec<_> = items.iter().map(|item| sent[*item].1.upload_id).collect();
        Call::new("POST /uploads/batch/complete").body(json!({ "uploadIds": ids }))
    };
    let answers = context
        .api
        .request_items(user, sent.len(), completing, kill(context, &sent))
        .await;
    check_numbers(context, &answers);
    let (mut completed, mut again) = (Vec::new(), Vec::new());
    for (item, answer) in answers.into_iter().enumerate() {
        let (upload, created) = sent[item];
        let Some(answer) = answer else { continue };
        let Some(changed) = answer.parsed::<FileChanged>().filter(|_| answer.status == 200) else {
            check_refusal(
                context,
                upload,
                &completing(&[item]),
                &answer,
                may_be_refused(upload),
            );
            continue;
        };
        let sha256 = client::sha256(upload.content.as_bytes());
        let acknowledged = Acknowledged::new(created.upload_id, sha256, &changed);
        context.history.acknowledge(acknowledged);
        completed.push(changed);
        again.push(item);
    }
    if twice && !again.is_empty() {
        let repeated =
            |items: &[usize]| completing(&items.iter().map(|item| again[*item]).collect::<Vec<_>>());
        let answers = context
            .api
            .request_items(user, again.len(), repeated, None::<Pending<()>>)
            .await;
        for (item, answer) in answers.into_iter().enumerate() {
            let Some(answer) = answer else { continue };
            let same = answer.parsed::<FileChanged>().as_ref() == Some(&completed[item]);
            let refused = [403, 404].contains(&answer.status) && may_be_refused(sent[again[item]].0);
            if !same && !refused && !is_purged(&answer) {
                context.api.wrong(user, &repeated(&[item]), &answer);
            }
        }
    }
    completed
}

/// Checks the numbers of changes that one request made. Items that were requested again may have been
/// completed by different requests.
fn check_numbers(context: &Context, answers: &[Option<Answer>]) {
    if answers.iter().flatten().any(|answer| answer.is_repeated) {
        return;
    }
    let completed = answers.iter().flatten().filter(|answer| answer.status == 200);
    if let Some([before, changed]) = misnumbered(completed.filter_map(Answer::parsed)) {
        context.violations.unexpected(
            "changes of a batch that are not numbered in its order",
            format!(
                "event {} is {} of space {}, after {}",
                changed.event_id, changed.sequence, changed.space_id, before.sequence
            ),
        );
    }
}

/// The first change, with the one before it in its space, whose number is not the next one.
fn misnumbered(changes: impl Iterator<Item = FileChanged>) -> Option<[FileChanged; 2]> {
    let mut last: HashMap<SpaceId, FileChanged> = HashMap::new();
    for changed in changes {
        if let Some(before) = last.insert(changed.space_id, changed.clone())
            && changed.sequence.get() != before.sequence.get() + 1
        {
            return Some([before, changed]);
        }
    }
    None
}

/// Decides whether the function that completes these uploads is killed, and resolves when it is to be.
fn kill(context: &Context, uploads: &[&(&Upload, CreatedUpload)]) -> Option<impl Future<Output = ()>> {
    let (_, last) = uploads.last()?;
    let (kind, reached) = if context.faults.decides(Kind::KilledBeforeCommit) {
        let key = last.upload_id.object_key();
        (Kind::KilledBeforeCommit, context.s3.next_head(&key))
    } else if context.faults.decides(Kind::KilledBeforeSend) {
        let contents = uploads.iter().map(|(upload, _)| &upload.content);
        let texts = contents.map(|content| client::sha256(content.as_bytes()).to_string());
        (Kind::KilledBeforeSend, context.sqs.hang_next(texts.collect()))
    } else {
        return None;
    };
    let faults = Arc::clone(&context.faults);
    Some(async move {
        if reached.await.is_err() {
            std::future::pending::<()>().await;
        }
        faults.count(kind);
    })
}

/// Counts an expected refusal, and records a violation for any other.
fn check_refusal(context: &Context, upload: &Upload, call: &Call, answer: &Answer, may_be_refused: bool) {
    let conflict = upload.base_version.is_some() && answer.code() == "version-conflict";
    let removed = [403, 404].contains(&answer.status) && may_be_refused;
    // The answer of an earlier attempt was lost, and the version was purged since.
    let purged = answer.is_repeated && is_purged(answer);
    if conflict || removed || purged {
        add(&context.history.counts.refused, 1);
    } else {
        context.api.wrong(&upload.user.id, call, answer);
    }
}

/// Whether the answer is that of an upload whose version was purged.
fn is_purged(answer: &Answer) -> bool {
    ["upload-expired", "upload-not-found"].contains(&answer.code().as_str())
}

fn opening_body(upload: &Upload, sha256: Option<Sha256>) -> serde_json::Value {
    let mut body = json!({
        "path": upload.path,
        "size": upload.content.len(),
        "deviceId": upload.user.device,
    });
    if let Some(sha256) = sha256 {
        body["sha256"] = json!(sha256);
    }
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

#[cfg(test)]
mod tests {
    use model::Change;

    use super::super::replica::tests::{event, file, space};
    use super::*;

    #[test]
    fn changes_of_a_batch_are_numbered_in_its_order_in_each_space() {
        let is_right = |numbers: &[(u128, i64)]| {
            let changes = numbers.iter().map(|(in_space, number)| {
                let change = Change::FileUpdated(file(7, "/a", 1));
                FileChanged::try_from(event(space(*in_space), *number, change)).unwrap()
            });
            misnumbered(changes).is_none()
        };
        assert!(is_right(&[(1, 4), (2, 9), (1, 5), (2, 10), (1, 6)]));
        assert!(!is_right(&[(1, 5), (2, 9), (1, 4)]));
        assert!(!is_right(&[(1, 4), (1, 6)]));
        assert!(!is_right(&[(1, 4), (1, 4)]));
    }
}
