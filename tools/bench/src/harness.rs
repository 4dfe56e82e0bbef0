//! Resources shared by all benchmarks: the database, the fakes and the functions' configuration.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use db::{DatabaseUrl, Role};
use fakes::postgres::Relay;
use fakes::s3::{Object, S3};
use fakes::sqs::{Sqs, Which};
use fakes::tls::Authority;
use runner::postgres::ROLE;
use serde_json::Value;
use tokio_postgres::Client;

use crate::database;
use crate::posts::Posts;
use crate::process::{CORE, Program, allocation_counter};
use crate::settings::{BUCKET, QUEUE, SHA256, SIZE};

/// Where things are and how much is measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The URL of an empty database, for who owns it.
    #[arg(long)]
    pub(crate) database_url: String,
    /// The functions' binaries, each `bootstrap` in its function's folder.
    #[arg(long)]
    pub(crate) binaries: PathBuf,
    /// The sample events.
    #[arg(long)]
    pub(crate) events: PathBuf,
    /// For logs and what is made on the way.
    #[arg(long)]
    pub(crate) folder: PathBuf,
    /// The program `syncsphere`.
    #[arg(long)]
    pub(crate) syncsphere: PathBuf,
    /// Folder of the installed reference implementation for Node.js.
    #[arg(long)]
    pub(crate) node_reference: Option<PathBuf>,
    /// Folder of the installed reference implementation for Python.
    #[arg(long)]
    pub(crate) python_reference: Option<PathBuf>,
    /// Only show that the benchmarks work.
    #[arg(long)]
    pub(crate) quick: bool,
}

/// Fakes of AWS services and a relay to the database; either all use TLS or none.
pub(crate) struct Services {
    pub(crate) s3: S3,
    pub(crate) sqs: Sqs,
    pub(crate) posts: Posts,
    pub(crate) relay: Relay,
    tls: bool,
}

/// Environment variables of a function.
pub(crate) type Variables = Vec<(&'static str, String)>;

/// Replaces the value of a variable.
pub(crate) fn with(mut variables: Variables, name: &str, value: &str) -> Variables {
    for (_, other) in variables.iter_mut().filter(|(given, _)| *given == name) {
        value.clone_into(other);
    }
    variables
}

/// Resources shared by all benchmarks.
pub(crate) struct Harness {
    pub(crate) options: Options,
    /// Database client of the schema's owner.
    pub(crate) client: Client,
    pub(crate) authority: Authority,
    /// Number of the machine's cores, including the core that this process does not use.
    pub(crate) cores: usize,
    counter: PathBuf,
    database: SocketAddr,
    /// Sample events, by file name.
    events: HashMap<String, Value>,
}

impl Harness {
    /// Connects to the database and migrates it.
    pub(crate) async fn start(options: Options, cores: usize) -> Result<Self> {
        let authority = Authority::new()?;
        fs::create_dir_all(&options.folder).context("cannot create the folder")?;
        fs::write(options.folder.join("ca.pem"), &authority.pem).context("cannot write the authority")?;
        let url: DatabaseUrl = options.database_url.parse()?;
        let role = Role {
            name: ROLE,
            by_iam: true,
        };
        db::migrate(&url.into(), Some(role), None).await?;
        let parsed: tokio_postgres::Config = options.database_url.parse().context("no database URL")?;
        let port = parsed
            .get_ports()
            .first()
            .copied()
            .context("the database URL has no port")?;
        let client = database::connect(&options.database_url).await?;
        // Table for the `baseline-commits` program.
        let bare = format!(
            "CREATE TABLE bare (id int PRIMARY KEY, n bigint NOT NULL); GRANT SELECT, UPDATE ON bare TO {ROLE};
            INSERT INTO bare SELECT i, 0 FROM generate_series(0, 63) i"
        );
        client.batch_execute(&bare).await.context("cannot make a table")?;
        Ok(Self {
            client,
            authority,
            cores,
            counter: allocation_counter(&options.folder)?,
            database: SocketAddr::from(([127, 0, 0, 1], port)),
            events: events(&options.events)?,
            options,
        })
    }

    /// Number of rounds of each measurement.
    pub(crate) fn rounds(&self) -> usize {
        if self.options.quick { 1 } else { 5 }
    }

    /// Number to use in a full or a quick run.
    pub(crate) fn size(&self, full: usize, quick: usize) -> usize {
        if self.options.quick { quick } else { full }
    }

    /// Starts the fakes and the relay.
    pub(crate) async fn services(&self, tls: bool) -> Result<Services> {
        let acceptor = || tls.then(|| self.authority.acceptor.clone());
        let object = Object {
            size: SIZE,
            sha256: SHA256.parse()?,
            parts: 0,
        };
        Ok(Services {
            s3: S3::with_every_object(acceptor(), BUCKET, object).await?,
            sqs: Sqs::start(acceptor(), QUEUE, Arc::new(())).await?,
            posts: Posts::start(acceptor()).await?,
            relay: Relay::start(self.database, acceptor()).await?,
            tls,
        })
    }

    /// Database URL for functions, without the relay.
    pub(crate) fn direct_url(&self) -> String {
        format!(
            "postgresql://{ROLE}@{}/{}?sslmode=disable",
            self.database,
            self.database_name()
        )
    }

    fn database_name(&self) -> &str {
        let url = self.options.database_url.rsplit('/').next().unwrap_or_default();
        url.split('?').next().unwrap_or_default()
    }

    /// Database URL for functions, through the relay. With TLS, the URL has a password, so that the function
    /// verifies the server against public CAs. The benchmark replaces those by its own CA.
    pub(crate) fn relayed_url(&self, services: &Services) -> String {
        let (port, name) = (services.relay.port(), self.database_name());
        if services.tls {
            format!("postgresql://{ROLE}:password@localhost:{port}/{name}")
        } else {
            format!("postgresql://{ROLE}@localhost:{port}/{name}?sslmode=disable")
        }
    }

    /// Environment variables from the template, and the endpoints of the fakes. Each function reads the
    /// variables that it needs.
    pub(crate) fn variables(&self, services: &Services, database_url: String) -> Variables {
        // A host name, as AWS's endpoints have.
        let queues = services.sqs.server.url("localhost");
        let mut variables = lambda::variables();
        variables.extend([
            ("AWS_LAMBDA_LOG_LEVEL", "INFO".to_owned()),
            ("AWS_ENDPOINT_URL_S3", services.s3.endpoint()),
            ("AWS_ENDPOINT_URL_SQS", queues.clone()),
            ("DATABASE_URL", database_url),
            ("BUCKET_NAME", BUCKET.to_owned()),
            ("QUEUE_URL", Sqs::url(&queues, Which::Events)),
            ("DEAD_LETTER_QUEUE_URL", Sqs::url(&queues, Which::DeadLetters)),
            ("CONNECTIONS_ENDPOINT", services.posts.endpoint()),
            ("WEBSOCKET_URL", "wss://bench.example/live".to_owned()),
            // No effective rate limit, except in the benchmark of the rate limiter.
            ("POSTS_PER_SECOND", "100000000".to_owned()),
            ("MAXIMUM_CONCURRENCY", "1".to_owned()),
            ("DATABASE_RESOURCE_ID", String::new()),
            ("EVENT_BUS_NAME", String::new()),
            (
                "OWNER_SECRET_ARN",
                "arn:aws:secretsmanager:us-east-1:000000000000:secret:bench".to_owned(),
            ),
        ]);
        if services.tls {
            let authority = self.options.folder.join("ca.pem").display().to_string();
            // Variables of the AWS clients, the database client and the Node.js reference.
            for name in ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"] {
                variables.push((name, authority.clone()));
            }
        }
        variables
    }

    /// A function's release binary, as deployed.
    pub(crate) fn function(&self, name: &'static str, variables: Variables) -> Program {
        let binary = self.options.binaries.join(name).join("bootstrap");
        self.program(name, vec![binary.display().to_string()], variables)
    }

    /// A baseline, run by this program under the same Runtime API.
    pub(crate) fn baseline(&self, name: &'static str, variables: Variables) -> Result<Program> {
        let own = std::env::current_exe().context("this program has no path")?;
        Ok(self.program(name, vec![own.display().to_string(), name.to_owned()], variables))
    }

    /// A baseline that is a separate program. `cargo lambda` builds this program as `bench/bootstrap` and
    /// the other as `NAME/bootstrap` in the same folder. For a quick run, `cargo` builds both into one
    /// folder.
    pub(crate) fn baseline_program(&self, name: &'static str, variables: Variables) -> Result<Program> {
        let own = std::env::current_exe().context("this program has no path")?;
        let binary = if own.ends_with("bench/bootstrap") {
            let built = own.parent().and_then(Path::parent);
            let built = built.context("this program is in no folder of programs")?;
            built.join(name).join("bootstrap")
        } else {
            own.with_file_name(name)
        };
        ensure!(
            binary.exists(),
            "there is no {}; `cargo xtask bench` builds it",
            binary.display()
        );
        Ok(self.program(name, vec![binary.display().to_string()], variables))
    }

    /// Any program that uses the Runtime API.
    pub(crate) fn program(&self, name: &'static str, command: Vec<String>, variables: Variables) -> Program {
        Program {
            name,
            command,
            variables,
            log: self.options.folder.join(format!("{name}.log")),
            cores: (self.cores > 1).then(|| CORE.to_owned()),
            counter: None,
        }
    }

    /// The same program on all cores, for running several processes at once.
    pub(crate) fn everywhere(&self, program: Program) -> Program {
        Program {
            cores: (self.cores > 1).then(|| format!("0-{}", self.cores - 1)),
            ..program
        }
    }

    /// The same program with its allocations counted.
    pub(crate) fn counted(&self, program: &Program) -> Program {
        Program {
            counter: Some(self.counter.clone()),
            ..program.clone()
        }
    }

    /// A sample event, by name.
    pub(crate) fn event(&self, name: &str) -> Result<Value> {
        let event = self.events.get(name).cloned();
        event.with_context(|| format!("there is no sample {name}"))
    }
}

/// Reads all samples at the start, so that file reads are not part of a measurement.
fn events(folder: &Path) -> Result<HashMap<String, Value>> {
    let cannot_read = || format!("cannot read {}", folder.display());
    let mut events = HashMap::new();
    for file in fs::read_dir(folder).with_context(cannot_read)? {
        let file = file.with_context(cannot_read)?;
        let text = fs::read(file.path()).with_context(cannot_read)?;
        let name = file.file_name().to_string_lossy().into_owned();
        let event = serde_json::from_slice(&text).with_context(|| format!("{name} is no JSON"))?;
        events.insert(name, event);
    }
    Ok(events)
}

/// Converts a duration to milliseconds.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
