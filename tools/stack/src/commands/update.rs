//! `cargo xtask update`: deploys a former release, then this release over it while devices upload and listen.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use client::{Client, Frame, Socket};
use futures_util::future::join_all;
use model::Cursor;
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::deployment::Stack;
use runner::environment::command;
use runner::process;
use runner::project::Project;
use runner::services::{Ports, Services};
use runner::ui::{self, Step};

/// The user of all devices.
const USER: &str = "update";

/// The number of devices that upload.
const UPLOADERS: usize = 3;

/// The time for which devices upload before the update starts, and again after it has ended.
const AROUND: Duration = Duration::from_secs(5);

/// The time limit for a device to receive all changes: the product's promise.
const PROMISED: Duration = Duration::from_secs(20);

/// Deploys the release at `from`, then this release. Fails if a request failed or a device missed a change.
pub(crate) async fn run(project: &Project, ports: Ports, from: &str) -> Result<()> {
    let _lock = project.lock()?;
    let former = check_out(project, from).await?;
    Stack::build(project, ports, &former).await?;
    Stack::build(project, ports, &project.root).await?;

    let services = Services::start(project, ports).await?;
    let ports = services.ports;
    ui::line(format_args!("  the release at {from}"));
    let stack = Stack::deploy_built(project, ports, &former).await?;
    stack.create_user(USER).await?;
    let session = stack.sign_in(USER).await?;
    let world = Arc::new(World::default());
    let uploaders = (0..UPLOADERS).map(|i| Ok((i, stack.device(session.clone())?)));
    let uploaders: Vec<(usize, Client)> = uploaders.collect::<Result<_>>()?;
    let listener = tokio::spawn(listen(stack.device(session)?, Arc::clone(&world)));
    let uploading = join_all(uploaders.iter().map(|(i, device)| upload(*i, device, &world)));
    let updating = async {
        sleep(AROUND).await;
        ui::line("  this release, over it, while devices upload and listen");
        let before = world.uploads.load(Ordering::SeqCst);
        let began = Instant::now();
        let updated = Stack::deploy_built(project, ports, &project.root).await;
        let meanwhile = world.uploads.load(Ordering::SeqCst) - before;
        sleep(AROUND).await;
        world.over.store(true, Ordering::SeqCst);
        updated.map(|_| (meanwhile, began.elapsed()))
    };
    let (_, updated) = tokio::join!(uploading, updating);
    let (meanwhile, took) = updated?;

    let step = Step::begin("what was uploaded and heard");
    let uploads = world.uploads.load(Ordering::SeqCst);
    let expected: BTreeSet<i64> = (1..=uploads).collect();
    let catching_up = async {
        while *world.heard() != expected {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let heard = timeout(PROMISED, catching_up).await;
    listener.abort();
    let failures = world.failures();
    step.done(format_args!(
        "{uploads} uploads, {meanwhile} of them in the {:.0} s of the update, {} failed requests, {} reconnections",
        took.as_secs_f64(),
        failures.len(),
        world.connections.load(Ordering::SeqCst) - 1,
    ));
    if let Some(first) = failures.first() {
        bail!("a request failed: {first}");
    }
    ensure!(
        heard.is_ok(),
        "the device did not hear of {:?}",
        expected.difference(&world.heard()).take(10).collect::<Vec<_>>()
    );
    ensure!(meanwhile > 0, "nothing was uploaded during the update");
    Ok(())
}

/// The shared state and results of the devices.
#[derive(Default)]
struct World {
    over: AtomicBool,
    uploads: AtomicI64,
    connections: AtomicI64,
    failures: Mutex<Vec<String>>,
    /// The sequence numbers of the changes that listening devices received.
    heard: Mutex<BTreeSet<i64>>,
}

impl World {
    fn failures(&self) -> parking_lot::MutexGuard<'_, Vec<String>> {
        self.failures.lock()
    }

    fn heard(&self) -> parking_lot::MutexGuard<'_, BTreeSet<i64>> {
        self.heard.lock()
    }
}

/// Uploads new versions one after the other. A failed request is not retried.
async fn upload(i: usize, device: &Client, world: &World) {
    for version in 1.. {
        if world.over.load(Ordering::SeqCst) {
            return;
        }
        let uploading = async {
            let content = format!("{i} {version}").into_bytes();
            let path = format!("/{i}").parse()?;
            let description = device.describe(None, path, content.as_slice(), &()).await?;
            let created = device.create_upload(&description, None).await?;
            device.send(&created, content.as_slice()).await?;
            device.complete_upload(created.upload_id).await?;
            anyhow::Ok(())
        };
        match uploading.await {
            Ok(()) => {
                world.uploads.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => {
                world.failures().push(format!("{error:#}"));
                return;
            }
        }
    }
}

/// Follows the notification protocol: connects, catches up and listens, and starts again when the connection
/// ends.
async fn listen(device: Client, world: Arc<World>) {
    loop {
        let listening = async {
            let ticket = device.create_ticket().await?;
            let mut socket = Socket::connect(&ticket).await?;
            world.connections.fetch_add(1, Ordering::SeqCst);
            catch_up(&device, &world).await?;
            while let Some(Frame::Changes { changes, .. }) = socket.next().await? {
                let numbers = changes.iter().map(|change| change.sequence.get());
                world.heard().extend(numbers);
            }
            anyhow::Ok(())
        };
        if let Err(error) = listening.await {
            ui::line(format_args!("  the device connects again: {error:#}"));
            sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn catch_up(device: &Client, world: &World) -> Result<()> {
    loop {
        // The changes are complete up to the first gap.
        let known = world
            .heard()
            .iter()
            .zip(1..)
            .take_while(|(number, next)| *number == next)
            .count();
        let after = Cursor::try_from(i64::try_from(known)?).context("not a cursor")?;
        let page = device.list_changes(None, after).await?;
        let numbers = page.changes.iter().map(|change| change.sequence.get());
        world.heard().extend(numbers);
        if !page.has_more {
            return Ok(());
        }
    }
}

/// Checks out the former release into its own git worktree. The worktree is kept between commands, because
/// compiling it takes minutes.
async fn check_out(project: &Project, from: &str) -> Result<PathBuf> {
    let step = Step::begin("checking out the former release (git)");
    let folder = project.root.join(".local/former");
    let log = project.run().join("git.log");
    let remedy = "name a commit or a tag of this repository: --from v0.1.0";
    if !folder.exists() {
        let mut git = command(project, "git");
        git.args(["worktree", "prune"]);
        process::run(&step, &log, git, remedy).await?;
        let mut git = command(project, "git");
        git.args(["worktree", "add", "--detach", "--force"]).arg(&folder);
        process::run(&step, &log, git, remedy).await?;
    }
    let mut git = command(project, "git");
    git.current_dir(&folder)
        .args(["checkout", "--detach", "--force", from, "--"]);
    process::run(&step, &log, git, remedy).await?;
    let template = fs::read_to_string(folder.join("template.yaml"));
    template.context("the former release has no template.yaml")?;
    step.done(from);
    Ok(folder)
}
