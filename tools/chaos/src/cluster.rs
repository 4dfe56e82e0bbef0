//! The whole system on this machine: the functions, their dependencies, and the devices of some users.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use db::{DatabaseUrl, Role};
use model::UserId;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::api::Api;
use super::bus;
use super::checker::{DeviceState, Evidence};
use super::database::{self, Snapshot};
use super::device::{Context, Device};
use super::event_source_mapping::Mapping;
use super::faults::{self, FaultInjector, Kind};
use super::functions::{FAN_OUT_CONCURRENCY, Functions, KEEP_VERSIONS, variables};
use super::history::History;
use super::proxy::{Mode, Proxy};
use super::run::Plan;
use super::s3;
use super::schedule::Dependency;
use super::sqs::FaultySqs;
use super::violations::Violations;
use super::websocket_api::Sockets;
use super::workload::{User, first_uploads};
use fakes::connections::Connections;
use fakes::eventbridge::EventBridge;
use fakes::s3::S3;
use fakes::sqs::Which;
use runner::postgres::{Postgres, ROLE, free_address};
use runner::project::Project;
use runner::ui::Step;

/// The number of users.
const USERS: usize = 6;

/// The random stream for the back-off of clients.
const PAUSES: u64 = 1;

/// The interval of `maintenance`. The template says one minute; shorter here to keep a run short.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(2);

/// How long the system must be idle before it counts as settled.
const QUIET: Duration = Duration::from_millis(1_500);

/// The interval of the checks for idleness.
const LOOK: Duration = Duration::from_millis(100);

/// Attempts per AWS call. Each attempt may put another copy of a poison message into the dead-letter queue.
const SDK_ATTEMPTS: usize = 2;

/// The running system.
pub(crate) struct Cluster {
    project: Project,
    /// The folder of the run, with the logs.
    pub(crate) folder: PathBuf,
    /// Decides which random faults are injected.
    pub(crate) faults: Arc<FaultInjector>,
    pub(crate) sqs: Arc<FaultySqs>,
    s3: Arc<S3>,
    bus: EventBridge,
    _connections: Connections,
    /// Moves messages from the queue to `fan-out`.
    pub(crate) mapping: Arc<Mapping>,
    pub(crate) functions: Arc<Functions>,
    /// The services that clients use.
    pub(crate) context: Context,
    pub(crate) users: Vec<User>,
    /// The devices of all users.
    pub(crate) devices: Vec<Arc<Device>>,
    postgres: Mutex<Postgres>,
    database_url: String,
    proxies: [Proxy; 4],
    tasks: JoinSet<()>,
}

impl Cluster {
    /// Starts everything in `folder`: a clean database, each user's personal space, and each device
    /// connected.
    pub(crate) async fn start(
        project: &Project,
        plan: &Plan,
        folder: PathBuf,
        kill_chance: f64,
        step: &Step,
    ) -> Result<Self> {
        let seed = plan.seed;
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let faults = Arc::new(FaultInjector::new(seed, kill_chance));
        let violations = Arc::new(Violations::default());

        let address = free_address()?;
        let postgres = Postgres::start(project, &folder, address, step).await?;
        let database_url = postgres.url();
        let role = Role {
            name: ROLE,
            by_iam: true,
        };
        let owner = database_url.parse::<DatabaseUrl>()?.into();
        db::migrate(&owner, Some(role), None).await?;
        db::set_bus(&owner, true).await?;
        let database = Proxy::start(SocketAddr::V4(address)).await?;
        let s3 = Arc::new(s3::start(Arc::clone(&faults)).await?);
        let sqs = Arc::new(FaultySqs::start(Arc::clone(&faults)).await?);
        let bus = bus::start(Arc::clone(&faults)).await?;
        let sockets = Arc::new(Sockets::new(Arc::clone(&faults)));
        let connections = Connections::start(None, Arc::clone(&sockets)).await?;

        let proxies = [
            database,
            Proxy::start(s3.server.address).await?,
            Proxy::start(sqs.fake.server.address).await?,
            Proxy::start(connections.server.address).await?,
        ];
        let variables = variables(&proxies, &bus, plan.log_level());
        let shared = (Arc::clone(&faults), Arc::clone(&violations));
        let functions = Arc::new(Functions::new(
            project,
            &plan.binaries,
            &folder,
            &variables,
            shared,
        )?);
        sockets.set_functions(Arc::clone(&functions));
        let api = Api::new(
            Arc::clone(&functions),
            Arc::clone(&violations),
            faults::stream(seed, PAUSES),
        );
        let context = Context {
            api: Arc::new(api),
            sockets,
            history: Arc::new(History::default()),
            violations: Arc::clone(&violations),
            http: reqwest::Client::builder().no_proxy().build()?,
            faults: Arc::clone(&faults),
            s3: Arc::clone(&s3),
            sqs: Arc::clone(&sqs),
        };
        let mapping = Mapping::new(Arc::clone(&sqs), Arc::clone(&functions), violations);
        let mut cluster = Self {
            project: project.clone(),
            folder,
            faults,
            sqs,
            s3,
            bus,
            _connections: connections,
            mapping: Arc::new(mapping),
            functions,
            context,
            users: Vec::new(),
            devices: Vec::new(),
            postgres: Mutex::new(postgres),
            database_url,
            proxies,
            tasks: JoinSet::new(),
        };
        cluster.populate(seed).await?;
        Ok(cluster)
    }

    async fn populate(&mut self, seed: u64) -> Result<()> {
        for number in 0..USERS {
            self.users.push(User {
                id: UserId::try_from(format!("user-{number}"))?,
                device: platform::ids::new_id().into(),
            });
        }
        let personal = first_uploads(&self.context, seed, &self.users).await?;
        for (number, (user, space)) in self.users.iter_mut().zip(personal).enumerate() {
            for device in 0..2 + number % 2 {
                let added = Arc::new(Device::new(user.id.clone(), space));
                if device == 0 {
                    user.device = added.id;
                }
                let (device, context) = (Arc::clone(&added), self.context.clone());
                self.tasks.spawn(async move { device.run(&context).await });
                self.devices.push(added);
            }
        }
        for _ in 0..FAN_OUT_CONCURRENCY {
            let mapping = Arc::clone(&self.mapping);
            self.tasks.spawn(async move { mapping.poll().await });
        }
        let (functions, faults) = (Arc::clone(&self.functions), Arc::clone(&self.faults));
        self.tasks
            .spawn(async move { run_schedule(&functions, &faults).await });
        let begun = Instant::now();
        while !self.devices.iter().all(|device| device.is_listening()) {
            anyhow::ensure!(
                begun.elapsed() < Duration::from_secs(30),
                "the devices do not connect; the functions' logs are in {}",
                self.folder.display()
            );
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// The proxy in front of a dependency.
    pub(crate) fn proxy(&self, dependency: Dependency) -> &Proxy {
        &self.proxies[dependency as usize]
    }

    /// Crashes PostgreSQL and restarts it.
    pub(crate) async fn crash_database(&self) -> Result<()> {
        self.postgres.lock().await.crash(&self.project).await
    }

    /// Ends every fault that has a duration.
    pub(crate) fn stop_faults(&self) {
        self.faults.turn(false);
        self.sqs.set_down(false);
        self.context.sockets.forbid(false);
        for proxy in &self.proxies {
            proxy.set(Mode::Open);
        }
    }

    /// Waits until no event, message or frame is in transit, for `patience` at most. Returns whether the
    /// system became idle. The wait itself makes no device pull.
    pub(crate) async fn wait_until_idle(&self, patience: Duration) -> Result<bool> {
        let begun = Instant::now();
        let mut quiet_since = None;
        while begun.elapsed() < patience {
            if self.is_quiet().await? {
                if quiet_since.get_or_insert_with(Instant::now).elapsed() >= QUIET {
                    return Ok(true);
                }
            } else {
                quiet_since = None;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(false)
    }

    /// The URL that reaches the database as the schema's owner, without a proxy.
    pub(crate) fn database_url(&self) -> &str {
        &self.database_url
    }

    /// The number of events in the outbox.
    pub(crate) async fn outbox_size(&self) -> Result<i64> {
        database::outbox_size(&self.database_url).await
    }

    async fn is_quiet(&self) -> Result<bool> {
        let local = self.devices.iter().all(|device| device.is_listening())
            && self.context.sockets.pending() == 0
            && self.sqs.fake.is_empty(Which::Events)
            // Dead events are redriven to the queue, so they are still in transit.
            && !self.sqs.has_dead_events()
            && !self.functions.is_running("fan-out");
        Ok(local && database::unfinished(&self.database_url, KEEP_VERSIONS).await? == 0)
    }

    /// Runs the checker on the final state. Returns the number of changes in the database.
    pub(crate) async fn check(&self) -> Result<usize> {
        let poison = self.sqs.poison_receives().into_iter();
        let evidence = Evidence {
            acknowledged: self.context.history.acknowledged(),
            erasures: self.context.history.erasures(),
            database: Snapshot::read(&self.database_url).await?,
            objects: self.s3.objects(),
            sent_events: self.sqs.sent_events(),
            put_events: bus::take(&self.bus),
            queue: self.sqs.fake.bodies(Which::Events),
            dead_letters: self.sqs.fake.bodies(Which::DeadLetters),
            exhausted: self.sqs.exhausted(),
            poison: poison
                .map(|(body, receives)| {
                    (
                        body,
                        usize::try_from(receives).unwrap_or(usize::MAX) * SDK_ATTEMPTS,
                    )
                })
                .collect(),
            devices: self
                .devices
                .iter()
                .map(|device| DeviceState {
                    user: device.user.clone(),
                    device: device.id,
                    listening: device.is_listening(),
                    replica: device.replica(),
                })
                .collect(),
        };
        evidence.check(&self.context.violations);
        Ok(evidence.database.committed())
    }
}

/// Invokes `maintenance` on its schedule. While faults are injected, sometimes two invocations overlap.
async fn run_schedule(functions: &Functions, faults: &FaultInjector) {
    loop {
        tokio::time::sleep(MAINTENANCE_INTERVAL).await;
        // The scheduler of AWS does not wait for an answer, but it never starts two invocations on purpose.
        if faults.inject(Kind::MaintenanceTwice) {
            let _ = tokio::join!(functions.run_maintenance(), functions.run_maintenance());
        } else {
            let _ = functions.run_maintenance().await;
        }
    }
}
