//! PostgreSQL and the AWS emulator, as child processes of a command.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::environment::{command, emulated};
use crate::postgres::{self, Postgres};
use crate::process::{ProcessGroup, last_lines};
use crate::project::Project;
use crate::ui::Step;

/// The time limit for the start of a service. On a busy machine the emulator needs some 10 s.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// The interval at which a service is asked whether it is ready.
pub const POLL: Duration = Duration::from_millis(50);

/// The timeout of one request for the emulator's health.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// The maximum number of bytes that are read of the health report.
const HEALTH_LIMIT: u64 = 64 * 1024;

/// The address and ports of the services.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// 127.0.0.1, unless functions in containers must reach the services.
    pub address: Ipv4Addr,
    /// The port of the AWS emulator.
    pub emulator: u16,
    /// The port of PostgreSQL.
    pub postgres: u16,
    /// The port of the web page's server.
    pub web: u16,
}

impl Ports {
    /// Takes `port` for the emulator, the next one for PostgreSQL, and the one after that for the web page.
    pub fn from_base(port: u16) -> Result<Self> {
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

    /// The socket address of the emulator.
    pub fn emulator(self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, self.emulator)
    }

    /// The socket address of PostgreSQL.
    pub fn postgres(self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, self.postgres)
    }

    /// The socket address of the web page's server.
    pub fn web(self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, self.web)
    }

    /// The origin of the web page, the only one that the stack's CORS rules allow.
    pub fn web_origin(self) -> String {
        format!("http://{}", self.web())
    }

    /// The endpoint URL for AWS clients. It contains an IP address so that S3 clients put the bucket into the
    /// path.
    pub fn aws_endpoint(self) -> String {
        format!("http://{}", self.emulator())
    }

    /// The URL of the stack's database for a role.
    pub fn database_url(self, role: &str) -> String {
        postgres::url(self.postgres(), role, postgres::DATABASE)
    }

    /// Fails if one of the ports is in use.
    pub fn check(self) -> Result<()> {
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

/// Both services. Dropping the value stops them.
pub struct Services {
    _postgres: Postgres,
    _emulator: ProcessGroup,
    /// The address and ports that the services listen on.
    pub ports: Ports,
}

impl Services {
    /// Starts both services without data and waits until they are ready.
    pub async fn start(project: &Project, ports: Ports) -> Result<Self> {
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

fn start_emulator(project: &Project, ports: Ports) -> Result<ProcessGroup> {
    let program = project.tools().join("emulator/bin/ministack");
    let mut emulator = emulated(command(project, &program.display().to_string()), ports);
    emulator
        .env("BIND_HOST", ports.address.to_string())
        .env("GATEWAY_PORT", ports.emulator.to_string())
        // Turns off listeners that are not needed here.
        .env("IOT_MTLS_ENABLED", "0")
        .env("SFTP_ENABLED", "0")
        // The emulator stores the functions' code here. `kill_orphans` recognizes the remaining processes by
        // this path.
        .env("TMPDIR", project.run().join("tmp"))
        // Turns on signature checks and IAM policies, as on AWS.
        .env("AUTH", "true")
        // The emulator keeps its signing keys here. Tests use them to make an expired token.
        .env("STATE_DIR", project.run().join("state"))
        // The functions inherit this variable.
        .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
        .env_remove("RUST_LOG");
    ProcessGroup::start(&project.run(), "emulator", emulator)
}

async fn wait_for_emulator(ports: Ports, emulator: &mut ProcessGroup) -> Result<()> {
    let asked = Instant::now();
    while !is_healthy(ports).await {
        check_alive("the AWS emulator", emulator, asked)?;
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Whether the emulator reports that it is ready. The request is written by hand, because an HTTP client
/// would have to be compiled before any command can start.
async fn is_healthy(ports: Ports) -> bool {
    let asking = async {
        let mut connection = TcpStream::connect(ports.emulator()).await?;
        let request = format!(
            "GET /_ministack/health HTTP/1.0\r\nHost: {}\r\n\r\n",
            ports.emulator()
        );
        connection.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        connection.take(HEALTH_LIMIT).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    match timeout(HEALTH_TIMEOUT, asking).await {
        Ok(Ok(answer)) => answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200"),
        _ => false,
    }
}

/// Fails if a service has ended, or if it is not ready one minute after `asked`.
pub fn check_alive(name: &str, service: &mut ProcessGroup, asked: Instant) -> Result<()> {
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
