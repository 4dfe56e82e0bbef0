//! The whole system on this machine, with fakes that count.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::body::Bytes;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use client::{Client, Token};
use db::{DatabaseUrl, Role};
use fakes::http::{Fault, Request};
use fakes::postgres::Relay;
use fakes::s3::S3;
use fakes::sqs::{Settings, Sqs, Which};
use model::DeviceId;
use platform::{Clock, ids};
use runner::postgres::{self, DATABASE, Postgres, ROLE, free_address};
use runner::project::Project;
use runner::ui::Step;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::api::Api;
use crate::counts::{Counts, Meter};
use crate::functions::Functions;
use crate::queue::Mapping;
use crate::sockets::Sockets;
use crate::template::Template;

const BUCKET: &str = "syncsphere-cost";

/// Time from a request to S3, SQS or `@connections` until its answer.
pub(crate) const LATENCY: Duration = Duration::from_millis(10);

/// Delay of everything that is sent to PostgreSQL.
pub(crate) const DATABASE_LATENCY: Duration = Duration::from_millis(1);

/// As in the template.
const QUEUE: Settings = Settings {
    visibility: Duration::from_mins(3),
    max_receives: 10,
};

/// The time within which the queue must be empty after a workload.
const PATIENCE: Duration = Duration::from_mins(1);

/// The user of all devices.
const USER: &str = "8f1f3c5a-6f0e-4c8e-9d0a-0d6a4f7c2b11";

/// The running system with one user.
pub(crate) struct World {
    pub(crate) folder: PathBuf,
    pub(crate) api: Api,
    pub(crate) sockets: Sockets,
    pub(crate) token: String,
    functions: Arc<Functions>,
    sqs: Arc<Sqs>,
    meter: Arc<Meter>,
    _mapping: Mapping,
    relay: Relay,
    _s3: S3,
    _postgres: Postgres,
}

impl World {
    pub(crate) async fn start(project: &Project, template: &Arc<Template>, binaries: &Path) -> Result<Self> {
        let step = Step::begin("starting PostgreSQL and fakes");
        let folder = project.run().join("cost");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let address = free_address()?;
        let postgres = Postgres::start(project, &folder, address, &step).await?;
        let role = Role {
            name: ROLE,
            by_iam: true,
        };
        db::migrate(&postgres.url().parse::<DatabaseUrl>()?.into(), Some(role), None).await?;

        let relay = Relay::start(SocketAddr::V4(address), None).await?;
        relay.set_latency(DATABASE_LATENCY);
        let relayed = SocketAddrV4::new(Ipv4Addr::LOCALHOST, relay.port());
        let meter = Arc::new(Meter::default());
        let s3 = S3::start(None, BUCKET, || Fault::None).await?;
        let counting = Arc::clone(&meter);
        s3.server.observe(move |request| counting.s3(s3_kind(request)));
        let sqs = Arc::new(Sqs::start(None, QUEUE, Arc::new(())).await?);
        let counting = Arc::clone(&meter);
        sqs.server.observe(move |request| {
            let target = request.header("x-amz-target").unwrap_or_default();
            let action = target.rsplit('.').next().unwrap_or_default();
            counting.sqs(action, request.body().len());
        });
        let (mut sockets, listener) = Sockets::bind(Arc::clone(&meter)).await?;
        for server in [&s3.server, &sqs.server, &sockets.posts.server] {
            server.set_latency(LATENCY);
        }
        let queues = sqs.server.url("127.0.0.1");
        let variables = variables(&postgres::url(relayed, ROLE, DATABASE), &s3, &queues);
        let variables = [
            variables,
            vec![
                ("CONNECTIONS_ENDPOINT", sockets.posts.endpoint("127.0.0.1")),
                ("WEBSOCKET_URL", Sockets::url(&listener)?),
            ],
        ];
        let functions = Functions::new(
            project,
            binaries,
            &folder,
            (variables.concat(), Arc::clone(template)),
            Arc::clone(&meter),
        );
        let functions = Arc::new(functions);
        sockets.serve(listener, Arc::clone(template), Arc::clone(&functions));
        let api = Api::start(Arc::clone(template), Arc::clone(&functions), Arc::clone(&meter)).await?;
        let mapping = Mapping::start(
            Arc::clone(&sqs),
            Arc::clone(&functions),
            Arc::clone(&meter),
            template.batch_size,
        );
        step.done("");
        Ok(Self {
            folder,
            api,
            sockets,
            token: token(),
            functions,
            sqs,
            meter,
            _mapping: mapping,
            relay,
            _s3: s3,
            _postgres: postgres,
        })
    }

    /// A new device of the user. Its client does not retry, so that every failure is visible.
    pub(crate) fn device(&self) -> Result<Client> {
        let device_id = DeviceId::from(ids::new_id());
        let device = Client::new(&self.api.url, Token::from(self.token.clone()), Some(device_id))?;
        Ok(device.with_retry_budget(Duration::ZERO))
    }

    /// Runs `maintenance` as its schedule does. Returns the number of versions that it purged.
    pub(crate) async fn maintain(&self) -> Result<usize> {
        #[derive(Deserialize)]
        struct Report {
            purged: usize,
        }
        let answer = self
            .functions
            .invoke("maintenance", Bytes::from_static(b"{}"))
            .await?;
        let report: Report = serde_json::from_slice(&answer).context("an answer has another form")?;
        Ok(report.purged)
    }

    /// Waits until every message is handled.
    pub(crate) async fn settle(&self) -> Result<()> {
        let limit = Instant::now() + PATIENCE;
        while !self.sqs.is_empty(Which::Events) {
            if Instant::now() > limit {
                bail!(
                    "the queue is not empty after {PATIENCE:?}; the functions' logs are in .local/run/cost"
                );
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Ends a workload and returns its counts.
    pub(crate) async fn take(&self) -> Result<Counts> {
        self.settle().await?;
        self.functions.count_logs();
        let counts = self.meter.take()?;
        Ok(Counts {
            database: self.relay.take().round_trips,
            ..counts
        })
    }
}

/// The kind of a request to S3: its method, and `LIST` for a list of versions.
fn s3_kind(request: &Request) -> &str {
    let path = request.target().split('?').next().unwrap_or_default();
    let is_bucket = path.trim_matches('/') == BUCKET;
    match request.method() {
        "GET" if is_bucket => "LIST",
        method => method,
    }
}

/// The environment variables of the functions, as in the template, with the endpoints of the fakes.
fn variables(database_url: &str, s3: &S3, queues: &str) -> Vec<(&'static str, String)> {
    let mut variables = lambda::variables();
    variables.extend([
        ("AWS_ENDPOINT_URL_S3", s3.endpoint()),
        ("AWS_ENDPOINT_URL_SQS", queues.to_owned()),
        ("DATABASE_URL", database_url.to_owned()),
        ("BUCKET_NAME", BUCKET.to_owned()),
        ("QUEUE_URL", Sqs::url(queues, Which::Events)),
        ("DEAD_LETTER_QUEUE_URL", Sqs::url(queues, Which::DeadLetters)),
        ("POSTS_PER_SECOND", "5000".to_owned()),
        ("MAXIMUM_CONCURRENCY", "1".to_owned()),
        ("DATABASE_RESOURCE_ID", String::new()),
        ("EVENT_BUS_NAME", String::new()),
    ]);
    variables
}

/// A token as Cognito's, with a signature that nobody checks.
fn token() -> String {
    let now = Clock::system().now().unix_timestamp();
    let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({ "alg": "RS256", "kid": "cost" }));
    let claims = part(json!({
        "aud": "4example0client0id", "auth_time": now, "iat": now, "exp": now + 24 * 3_600, "sub": USER,
        "iss": "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Example", "token_use": "id",
    }));
    format!("{header}.{claims}.c2lnbmF0dXJl")
}
