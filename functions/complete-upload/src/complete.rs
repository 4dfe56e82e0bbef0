//! Completes uploads: load, check the content, commit the uploads of each space, publish.

use std::collections::HashMap;
use std::time::Duration;

use api::Problem;
use db::{Completing, Rejection, Upload, UploadPhase, UploadState};
use futures_util::stream::{self, StreamExt as _};
use model::{Caller, Event, FileChanged, Sha256, UploadId};
use platform::{ids, summary};
use tokio::time::{Instant, timeout_at};

use crate::content::{Declared, assemble, verify};
use crate::{App, Error};

/// The largest number of uploads of a request whose content is checked at the same time.
const CONCURRENT_CHECKS: usize = 32;

/// Longest duration of checking and assembling the content of one upload: the function's timeout less all its
/// other waits. S3 takes minutes to assemble the largest objects. The client then calls again and the object
/// exists (Amazon S3 API Reference, `CompleteMultipartUpload`).
pub(crate) const CONTENT_TIMEOUT: Duration = Duration::from_secs(17);

/// The same for several uploads, whose commits take longer.
const BATCH_CONTENT_TIMEOUT: Duration = Duration::from_secs(11);

/// An upload to complete.
struct Pending {
    upload_id: UploadId,
    upload: Upload,
    /// The SHA-256 in the request.
    sha256: Option<Sha256>,
}

/// An upload with its proven content.
struct Checked {
    pending: Pending,
    composite_sha256: Option<Sha256>,
    object_key: String,
}

/// Completes uploads independently of each other. Each may come with the SHA-256 of its content. Returns the
/// result of each, in the same order.
pub(crate) async fn complete(
    app: &App,
    caller: &Caller,
    wanted: &[(UploadId, Option<Sha256>)],
) -> Result<Vec<Result<FileChanged, Problem>>, Problem> {
    let mut results: HashMap<UploadId, Result<FileChanged, Problem>> = HashMap::new();
    let ids: Vec<UploadId> = wanted.iter().map(|(id, _)| *id).collect();
    for id in &ids {
        summary::record("upload_ids", id);
    }
    // Load the uploads before any call to storage. Storage calls cost money, so only the user who opened an
    // upload may cause them.
    let mut loaded = app.db.load_uploads(&ids, caller).await?;
    let now = app.clock.now();
    let mut pending = Vec::new();
    for (upload_id, sha256) in wanted.iter().copied() {
        let Some(upload) = loaded.remove(&upload_id) else {
            results.insert(upload_id, Err(Rejection::NotFound.into()));
            continue;
        };
        let differs = sha256.is_some() && upload.sha256.is_some() && upload.sha256 != sha256;
        let result = match upload.phase_at(now) {
            UploadPhase::Ended => Err(Rejection::Expired.into()),
            UploadPhase::Open | UploadPhase::Arriving if !upload.may_write => {
                Err(Rejection::Forbidden.into())
            }
            _ if differs => Err(Rejection::Sha256Conflict.into()),
            UploadPhase::Completed(event) => {
                summary::record("event_ids", event.event_id);
                changed(Some(event.clone()))
            }
            // The statement checks it again. Here it saves calls to storage.
            UploadPhase::Open | UploadPhase::Arriving if upload.sha256.or(sha256).is_none() => {
                Err(Rejection::Sha256Missing.into())
            }
            UploadPhase::Open | UploadPhase::Arriving => {
                pending.push(Pending {
                    upload_id,
                    upload,
                    sha256,
                });
                continue;
            }
        };
        results.insert(upload_id, result);
    }

    let (checked, refused) = check(app, caller, pending).await?;
    results.extend(refused.into_iter().map(|(id, problem)| (id, Err(problem))));
    results.extend(commit(app, caller, &checked).await);
    let missing = || Err(Problem::internal("an upload has no result"));
    Ok(ids
        .iter()
        .map(|id| results.remove(id).unwrap_or_else(missing))
        .collect())
}

/// Checks the content of uploads. Returns those whose content is proven, and the problems of the others.
async fn check(
    app: &App,
    caller: &Caller,
    uploads: Vec<Pending>,
) -> Result<(Vec<Checked>, Vec<(UploadId, Problem)>), Problem> {
    let timeout = if uploads.len() > 1 {
        BATCH_CONTENT_TIMEOUT
    } else {
        CONTENT_TIMEOUT
    };
    let deadline = Instant::now() + timeout;
    let checks = stream::iter(uploads).map(async |pending| {
        let object_key = pending.upload_id.object_key();
        let proving = timeout_at(deadline, prove(app, &object_key, &pending.upload)).await;
        let proven = proving.unwrap_or(Err(Error::AssemblyTimeout));
        (pending, object_key, proven)
    });
    let mut checks = checks.buffered(CONCURRENT_CHECKS);
    let (mut checked, mut incomplete, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    while let Some((pending, object_key, proven)) = checks.next().await {
        let upload_id = pending.upload_id;
        match proven {
            Ok(composite_sha256) => checked.push(Checked {
                pending,
                composite_sha256,
                object_key,
            }),
            Err(error @ Error::Incomplete(_)) => incomplete.push((upload_id, error)),
            Err(error) => refused.push((upload_id, error.into())),
        }
    }
    if incomplete.is_empty() {
        return Ok((checked, refused));
    }
    // Content is also missing if the upload was aborted in the meantime: aborting frees it.
    let ids: Vec<UploadId> = incomplete.iter().map(|(id, _)| *id).collect();
    let now = app.db.load_uploads(&ids, caller).await?;
    for (id, error) in incomplete {
        let is_aborted = now
            .get(&id)
            .is_some_and(|upload| upload.state == UploadState::Aborted);
        let problem = if is_aborted {
            Rejection::Expired.into()
        } else {
            error.into()
        };
        refused.push((id, problem));
    }
    Ok((checked, refused))
}

/// Proves that storage has the declared content, and assembles it if it was sent in parts. Returns the
/// composite SHA-256 of content in parts.
async fn prove(app: &App, object_key: &str, upload: &Upload) -> Result<Option<Sha256>, Error> {
    let declared = Declared::of(upload);
    match app.storage.head(object_key).await? {
        // The object also exists if an earlier call assembled the parts and died before its commit.
        Some(object) => verify(&declared, &object),
        None => assemble(app, object_key, &declared, upload.multipart_id.as_deref()).await,
    }
}

/// Commits the uploads of each space in one transaction, and publishes all changes.
async fn commit(
    app: &App,
    caller: &Caller,
    checked: &[Checked],
) -> Vec<(UploadId, Result<FileChanged, Problem>)> {
    let by_space = checked.iter().map(|item| (item.pending.upload.space_id, item));
    let committed = commands::commit_by_space(
        &app.queue,
        &app.db,
        &app.clock,
        by_space,
        async |space_id, items| {
            let uploads: Vec<Completing<'_>> = items
                .iter()
                .map(|item| Completing {
                    upload_id: item.pending.upload_id,
                    event_id: ids::new_id().into(),
                    new_file_id: ids::new_id().into(),
                    path: &item.pending.upload.path,
                    sha256: item.pending.sha256,
                    composite_sha256: item.composite_sha256,
                    object_key: &item.object_key,
                })
                .collect();
            let commit = commands::begin_all(&app.clock, caller, app.max_changes_per_minute);
            app.db
                .complete_uploads(space_id, &uploads, app.max_space_bytes, commit)
                .await
        },
    );
    let ids = checked.iter().map(|item| item.pending.upload_id);
    ids.zip(committed.await.into_iter().map(|event| changed(event?)))
        .collect()
}

fn changed(event: Option<Event>) -> Result<FileChanged, Problem> {
    let event = event.ok_or_else(|| Problem::internal("completing changed nothing"))?;
    FileChanged::try_from(event).map_err(Problem::internal)
}
