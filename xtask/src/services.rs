//! PostgreSQL and the AWS emulator, as processes of this command.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::environment::{command, emulated};
use crate::postgres::{self, Postgres};
use crate::process::{Group, last_lines};
use crate::project::Project;
use crate::ui::Step;

/// How long a service may take to answer. On a busy machine the emulator needs some 10 s.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// How often it is asked meanwhile.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// Where the services listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// 127.0.0.1, unless functions in containers are to reach them.
    pub(crate) address: Ipv4Addr,
    pub(crate) emulator: u16,
    pub(crate) postgres: u16,
    /// Of the server of the page.
    pub(crate) web: u16,
}

impl Ports {
    /// The emulator's port, the next one for PostgreSQL, and the one after that for the page.
    pub(crate) fn from_base(port: u16) -> Result<Self> {
        let Some(web) = port.checked_add(2).filter(|_| port > 0) else {
            bail!("--port takes a number from 1 to 65533");
        };
        Ok(Self {
            address: Ipv4Addr::LOCALHOST,
            emulator: port,
            postgres: web - 1,
            web,
        })
    }

    /// The emulator's address and port.
    pub(crate) fn emulator(self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, self.emulator)
    }

    /// PostgreSQL's address and port.
    pub(crate) fn postgres(self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, self.postgres)
    }

    /// The address and port of the page's server.
    pub(crate) fn web(self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, self.web)
    }

    /// The page's origin, the only one whose pages the stack lets in.
    pub(crate) fn web_origin(self) -> String {
        format!("http://{}", self.web())
    }

    /// Where AWS clients find the emulator. An address rather than a name makes S3 clients put the bucket in the path.
    pub(crate) fn aws_endpoint(self) -> String {
        format!("http://{}", self.emulator())
    }

    /// The stack's database, as a role.
    pub(crate) fn database_url(self, role: &str) -> String {
        postgres::url(self.postgres(), role, postgres::DATABASE)
    }

    fn check(self) -> Result<()> {
        for (port, user) in [
            (self.emulator, "the AWS emulator"),
            (self.postgres, "PostgreSQL"),
            (self.web, "the page"),
        ] {
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

/// Both services; dropping it stops them.
pub(crate) struct Services {
    _postgres: Postgres,
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
        let postgres = Postgres::start(project, &project.run(), ports.postgres(), &step).await?;
        wait_for_emulator(ports, &mut emulator).await?;
        step.done("");
        Ok(Self {
            _postgres: postgres,
            _emulator: emulator,
            ports,
        })
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
        // Requests are signed, and functions may do what their roles allow, as on AWS.
        .env("AUTH", "true")
        // Its signing keys: tests make an expired token with them.
        .env("STATE_DIR", project.run().join("state"))
        // For the functions, which inherit it.
        .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
        .env_remove("RUST_LOG");
    Group::start(&project.run(), "emulator", emulator)
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

pub(crate) fn check_alive(name: &str, service: &mut Group, asked: Instant) -> Result<()> {
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
