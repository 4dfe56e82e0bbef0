//! `cargo xtask demo`: one device uploads a file, and another one is notified.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use client::{Frame, Socket};
use model::{EventId, SpacePath};
use runner::arguments::Profile;
use serde_json::json;

use crate::deployment::Stack;
use crate::emulator::patient_config;
use runner::project::Project;
use runner::services::{Ports, Services};
use runner::ui::{self, Step, step};

/// The time limit for the notification: the product's promise.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(20);

/// The user of both devices.
const USER: &str = "demo";

/// Runs the demo. All services have stopped when it returns.
pub(crate) async fn run(
    project: &Project,
    ports: Ports,
    file: &Path,
    json: bool,
    profile: Profile,
) -> Result<()> {
    let content = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.with_context(|| format!("{} is not a file", file.display()))?;
    let path: SpacePath = format!("/{name}")
        .parse()
        .context("the file's name cannot be a path")?;
    let sha256 = client::sha256(&content);

    let _lock = project.lock()?;
    let services = Services::start(project, ports).await?;
    let stack = Stack::deploy(project, services.ports, profile).await?;

    let (sender, receiver) = step("signing in two devices", async {
        stack.create_user(USER).await?;
        let (one, other) = (stack.sign_in(USER).await?, stack.sign_in(USER).await?);
        Ok((stack.device(one)?, stack.device(other)?))
    })
    .await?;

    let mut socket = step("device B: connecting", async {
        let ticket = receiver.create_ticket().await.context("cannot get a ticket")?;
        Socket::connect(&ticket).await.context("cannot connect")
    })
    .await?;

    let bytes = content.len();
    let upload = Step::begin("device A: uploading");
    let uploading = Instant::now();
    let describing = sender.describe(None, path, content.as_slice(), &());
    let description = describing.await.context("cannot read the content")?;
    let opening = sender.create_upload(&description, None);
    let created = opening.await.context("cannot open the upload")?;
    let sending = sender.send(&created, content.as_slice());
    sending.await.context("cannot send the content")?;
    let completing = Instant::now();
    let (completed, heard) = tokio::join!(
        async {
            let completed = sender.complete_upload(created.upload_id).await;
            (completed, uploading.elapsed())
        },
        async {
            let heard = tokio::time::timeout(NOTIFY_TIMEOUT, first_change(&mut socket)).await;
            (heard, completing.elapsed())
        }
    );
    let (completed, upload_time) = completed;
    let completed = completed.context("cannot complete the upload")?;
    upload.done(format_args!(
        "{name}, {bytes} bytes, version {}",
        completed.version
    ));

    let (heard, notify_time) = heard;
    let Ok(heard) = heard else {
        bail!("device B heard nothing for {NOTIFY_TIMEOUT:?}")
    };
    let (event_id, heard_path, heard_sha256) = heard.context("device B lost its connection")?;
    ensure!(
        event_id == completed.event_id,
        "device B heard of another event: {event_id}"
    );
    ensure!(
        heard_sha256 == sha256,
        "device B heard of another content: {heard_sha256}"
    );
    let notify_ms = notify_time.as_secs_f64() * 1_000.0;
    ui::line(format_args!(
        "✓ device B heard of {heard_path}, {notify_ms:.0} ms after complete was called"
    ));

    step("checking the stored object", async {
        let stored = stored_object(&stack, &created.upload_id.object_key()).await?;
        ensure!(stored == content, "storage holds another content");
        Ok(())
    })
    .await?;
    let _ = socket.close().await;

    if json {
        ui::output(json!({
            "notified": true,
            "sha256": sha256,
            "uploadMs": round(upload_time),
            "notifyMs": round(notify_time),
        }));
    }
    Ok(())
}

async fn first_change(socket: &mut Socket) -> Result<(EventId, SpacePath, model::Sha256)> {
    while let Some(frame) = socket.next().await? {
        if let Frame::Changes { changes, .. } = frame
            && let Some((event_id, file)) = changes
                .iter()
                .find_map(|change| Some((change.event_id, change.file()?)))
        {
            return Ok((event_id, file.path.clone(), file.sha256));
        }
    }
    bail!("the connection was closed")
}

/// A duration in milliseconds, rounded to one decimal.
fn round(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// The content of an object, read from storage without the API.
async fn stored_object(stack: &Stack, key: &str) -> Result<Vec<u8>> {
    let s3 = aws_sdk_s3::Client::new(&patient_config(&stack.aws_endpoint)?);
    let object = s3.get_object().bucket(&stack.outputs.bucket_name).key(key).send();
    let object = object.await.context("cannot download the object")?;
    Ok(object
        .body
        .collect()
        .await
        .context("cannot read the object")?
        .to_vec())
}
