//! The workloads that are counted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use client::{Client, Frame, Socket, Update, Watcher};
use futures_util::{SinkExt as _, StreamExt as _};
use model::{Cursor, Epoch, FileId, SpaceId};
use runner::project::Project;
use runner::ui::Step;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::counts::{Workload, Workloads};
use crate::template::Template;
use crate::world::World;

/// The size of a file in bytes.
const SIZE: usize = 4 * 1024;

/// Time limit of a notification: the product's promise.
const PROMISED: Duration = Duration::from_secs(20);

/// How often each workload repeats its operation.
pub(crate) struct Scale {
    single: usize,
    folder: usize,
    /// Files of a folder that is uploaded before the one that counts, so that enough environments run.
    folder_before: usize,
    others: usize,
}

impl Scale {
    pub(crate) const FULL: Self = Self {
        single: 200,
        folder: 2_000,
        folder_before: 400,
        others: 50,
    };
    pub(crate) const QUICK: Self = Self {
        single: 10,
        folder: 120,
        folder_before: 20,
        others: 5,
    };
}

/// Runs every workload.
pub(crate) async fn run(
    project: &Project,
    template: &Arc<Template>,
    binaries: &Path,
    command: &Path,
    scale: &Scale,
) -> Result<Workloads> {
    let world = World::start(project, template, binaries).await?;
    let maintenance = maintenance(&world, scale.others).await?;
    let connection = connection(&world, scale.others).await?;
    let heartbeat = heartbeat(&world, template, scale.others).await?;
    let mut listener = Listener::connect(&world).await?;
    let single = single(&world, &mut listener, scale.single).await?;
    let folder = folder(&world, &mut listener, command, scale).await?;
    let purge = purge(&world, scale.others).await?;
    Ok(Workloads {
        single,
        folder,
        purge,
        connection,
        heartbeat,
        maintenance,
    })
}

/// Counts `times` operations after one that does not count, with which the environments start.
async fn counted(
    world: &World,
    name: &str,
    times: usize,
    mut operation: impl AsyncFnMut(usize) -> Result<()>,
) -> Result<Workload> {
    let step = Step::begin(name);
    operation(0).await?;
    world.take().await?;
    for number in 1..=times {
        operation(number).await?;
    }
    let counts = world.take().await?;
    step.done(format_args!("{times} times"));
    Ok(Workload {
        times: u64::try_from(times)?,
        counts,
    })
}

/// A device that listens.
struct Listener(Socket);

impl Listener {
    async fn connect(world: &World) -> Result<Self> {
        let ticket = world.device()?.create_ticket().await?;
        Ok(Self(Socket::connect(&ticket).await?))
    }

    /// Waits until the device was notified of this many changes.
    async fn hear(&mut self, changes: usize) -> Result<()> {
        let mut heard = 0;
        while heard < changes {
            let frame = timeout(PROMISED, self.0.next()).await;
            match frame.context("a device was not notified")?? {
                Some(Frame::Changes { changes, .. }) => heard += changes.len(),
                Some(_) => {}
                None => bail!("a device lost its connection"),
            }
        }
        ensure!(
            heard == changes,
            "a device was notified of {heard} of {changes} changes"
        );
        Ok(())
    }
}

/// Uploads files one by one. The next one starts after the notification, so that each event is alone in its
/// batch, as it is at a low rate.
async fn single(world: &World, listener: &mut Listener, times: usize) -> Result<Workload> {
    let device = world.device()?;
    counted(world, "single uploads", times, async |number| {
        upload(&device, &format!("/single/{number:07}")).await?;
        listener.hear(1).await?;
        world.settle().await
    })
    .await
}

/// Uploads a file with the single requests of the API.
async fn upload(device: &Client, path: &str) -> Result<FileId> {
    let content = vec![0; SIZE];
    let description = device.describe(None, path.parse()?, content.as_slice(), &());
    let created = device.create_upload(&description.await?, None).await?;
    device.send(&created, content.as_slice()).await?;
    Ok(device.complete_upload(created.upload_id).await?.file_id)
}

/// Uploads a folder with the command.
async fn folder(world: &World, listener: &mut Listener, command: &Path, scale: &Scale) -> Result<Workload> {
    let step = Step::begin("syncsphere upload FOLDER");
    upload_folder(world, listener, command, "before", scale.folder_before).await?;
    world.take().await?;
    upload_folder(world, listener, command, "folder", scale.folder).await?;
    let counts = world.take().await?;
    step.done(format_args!("{} files", scale.folder));
    Ok(Workload {
        times: u64::try_from(scale.folder)?,
        counts,
    })
}

async fn upload_folder(
    world: &World,
    listener: &mut Listener,
    command: &Path,
    name: &str,
    files: usize,
) -> Result<()> {
    let folder = world.folder.join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for number in 0..files {
        let mut content = vec![0; SIZE];
        let text = format!("{name} {number}");
        content[..text.len()].copy_from_slice(text.as_bytes());
        let file = folder.join(format!("{number:05}"));
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let mut uploading = Command::new(command);
    uploading
        .args(["--json", "upload", name, "--to", &format!("/{name}/")])
        .current_dir(&world.folder)
        .env("SYNCSPHERE_HOME", world.folder.join("home"))
        .env("SYNCSPHERE_URL", &world.api.url)
        .env("SYNCSPHERE_TOKEN", &world.token)
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let uploading = async { uploading.output().await.context("cannot run syncsphere") };
    let (output, heard) = tokio::join!(uploading, listener.hear(files));
    let output = output?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "syncsphere failed: {}", said.trim());
    heard
}

/// The state of a device that knows every change.
type Known = (Option<Epoch>, BTreeMap<SpaceId, Cursor>);

/// Connects as a device does whose connection was closed after its maximum duration: it gets a ticket,
/// connects, lists its spaces and finds nothing new.
async fn connection(world: &World, times: usize) -> Result<Workload> {
    let device = world.device()?;
    let known = &catch_up(&device, (None, BTreeMap::new())).await?;
    counted(world, "connections", times, async |_| {
        catch_up(&device, known.clone()).await?;
        world.sockets.all_closed().await;
        Ok(())
    })
    .await
}

/// Connects, and closes the connection once every change is known.
async fn catch_up(device: &Client, (mut epoch, mut cursors): Known) -> Result<Known> {
    let mut watcher = Watcher::start(device.clone(), epoch, cursors.clone());
    while let Some(update) = watcher.next().await? {
        match update {
            Update::Live => return Ok((epoch, cursors)),
            Update::Epoch(current) => epoch = Some(current),
            Update::Change(event) => {
                cursors.insert(event.space_id, event.sequence.into());
            }
            Update::Offline { reason, .. } | Update::Polling { reason } => {
                bail!("a device cannot connect: {reason}")
            }
            Update::CursorReset(_) => bail!("a device lost its place in the feed"),
        }
    }
    bail!("a device stopped watching")
}

/// Sends heartbeats on one connection.
async fn heartbeat(world: &World, template: &Template, times: usize) -> Result<Workload> {
    let ticket = world.device()?.create_ticket().await?;
    let (mut socket, _) = connect_async(&ticket.url).await.context("cannot connect")?;
    let message = if template.has_heartbeat() {
        r#"{"action":"heartbeat"}"#
    } else {
        r#"{"action":"ping"}"#
    };
    let workload = counted(world, "heartbeats", times, async |_| {
        socket.send(Message::text(message)).await?;
        // The answer to a protocol ping shows that the heartbeat before it is handled, answered or not.
        socket.send(Message::Ping(Vec::new().into())).await?;
        while !matches!(
            socket.next().await.context("the connection was closed")??,
            Message::Pong(_)
        ) {}
        Ok(())
    })
    .await?;
    socket.close(None).await?;
    world.sockets.all_closed().await;
    world.take().await?;
    Ok(workload)
}

/// Runs `maintenance` when nothing is due.
async fn maintenance(world: &World, times: usize) -> Result<Workload> {
    counted(world, "maintenance", times, async |_| {
        let purged = world.maintain().await?;
        ensure!(
            purged == 0,
            "maintenance purged {purged} versions, and none were due"
        );
        Ok(())
    })
    .await
}

/// Erases files. The requests to erase them do not count, but the work of `maintenance` does.
async fn purge(world: &World, files: usize) -> Result<Workload> {
    let step = Step::begin("purging");
    let device = world.device()?;
    for number in 0..files {
        let file_id = upload(&device, &format!("/purge/{number:07}")).await?;
        device.erase_file(file_id, None, None).await?;
    }
    world.take().await?;
    let mut left = files;
    while left > 0 {
        let purged = world.maintain().await?;
        ensure!(
            purged > 0,
            "maintenance purges nothing, and {left} files are left"
        );
        left = left.saturating_sub(purged);
    }
    let counts = world.take().await?;
    step.done(format_args!("{files} files"));
    Ok(Workload {
        times: u64::try_from(files)?,
        counts,
    })
}
