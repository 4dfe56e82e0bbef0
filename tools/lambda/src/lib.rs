//! A fake of Lambda. It runs the deployed binary of a function under the Runtime API, with one invocation at
//! a time in each environment.
//!
//! AWS Lambda Developer Guide, "Using the Lambda runtime API for custom runtimes".

pub mod events;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use parking_lot::Mutex;
use platform::{Clock, ids};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use runner::environment::{ACCESS_KEY, REGION, command};
use runner::project::Project;

/// The path prefix of the Runtime API with its version.
const API: &str = "/2018-06-01/runtime";

/// The memory size of every function in the template, in MB.
pub const MEMORY: u32 = 128;

/// The environment variables that the template or Lambda sets for every function and that do not depend on
/// the addresses of services. Each function reads those that it needs.
pub fn variables() -> Vec<(&'static str, String)> {
    [
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", ACCESS_KEY),
        ("ALLOWED_ORIGINS", ""),
        ("MAX_CONNECTIONS_PER_USER", "64"),
        ("MAX_UPLOAD_BYTES", "5497558138880"),
        ("MULTIPART_THRESHOLD_BYTES", "67108864"),
        ("MAX_CHANGES_PER_MINUTE", "1000000"),
        ("MAX_BYTES_PER_SPACE", "1000000000000000"),
        ("MAX_PENDING_UPLOADS", "1000000"),
        ("MAX_SPACES_PER_USER", "10000"),
        ("MAX_PENDING_INVITATIONS", "100000"),
        ("MAX_RECEIVED_INVITATIONS", "10000"),
        ("MAX_INVITATIONS_PER_DAY", "100000"),
        ("METRICS_NAMESPACE", "SyncSphere"),
        ("TRASH_DAYS", "30"),
        ("KEEP_VERSIONS", "100"),
        ("VERSION_DAYS", "180"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

/// The configuration of a function.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The function's name, which is also the name of its binary's folder.
    pub name: &'static str,
    /// The timeout of an invocation.
    pub timeout: Duration,
    /// The maximum number of environments, and thus of concurrent invocations. Further invocations wait.
    pub concurrency: usize,
    /// The function's environment variables by name.
    pub variables: Vec<(&'static str, String)>,
}

/// The reason why an invocation has no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The process was killed on purpose.
    Killed,
    /// The invocation exceeded the function's timeout, and the process was killed.
    TimedOut,
    /// The process ended by itself, or could not start; the text says how.
    Crashed(String),
    /// The function reported this error to the Runtime API.
    Reported(String),
}

/// A function and its environments.
pub struct Function {
    settings: Settings,
    binary: PathBuf,
    log: File,
    root: Project,
    idle: Mutex<Vec<Environment>>,
    permits: Semaphore,
    started: AtomicU64,
    running: AtomicUsize,
}

impl Function {
    /// Configures a function whose binary is `<binaries>/<name>/bootstrap`. Its output goes to a log in
    /// `folder`.
    pub fn new(project: &Project, binaries: &Path, folder: &Path, settings: Settings) -> Result<Self> {
        let binary = binaries.join(settings.name).join("bootstrap");
        if !binary.exists() {
            anyhow::bail!("there is no {}; build the functions first", binary.display());
        }
        let log = folder.join(format!("{}.log", settings.name));
        let log = File::options().create(true).append(true).open(&log);
        Ok(Self {
            permits: Semaphore::new(settings.concurrency),
            log: log.context("cannot create a function's log")?,
            root: project.clone(),
            idle: Mutex::default(),
            started: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            settings,
            binary,
        })
    }

    /// The function's name as in its settings.
    pub fn name(&self) -> &'static str {
        self.settings.name
    }

    /// The number of environments started so far.
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// The number of invocations that run or wait for an environment.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// Invokes the function and returns its response. With `kill_after`, the process gets a SIGKILL that long
    /// after the start of the invocation, unless it has responded by then.
    pub async fn invoke(&self, payload: Bytes, kill_after: Option<Duration>) -> Result<Bytes, Failure> {
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(&self.running);
        let _permit = self.permits.acquire().await;
        let idle = self.idle.lock().pop();
        let mut environment = match idle {
            Some(environment) => environment,
            None => self
                .start()
                .await
                .map_err(|error| Failure::Crashed(format!("{error:#}")))?,
        };
        let outcome = environment
            .invoke(payload, self.settings.timeout, kill_after)
            .await;
        if matches!(outcome, Ok(_) | Err(Failure::Reported(_))) {
            self.idle.lock().push(environment);
        } else {
            // The process could still have effects until it is gone.
            let _ = environment.child.kill().await;
        }
        outcome
    }

    async fn start(&self) -> Result<Environment> {
        self.started.fetch_add(1, Ordering::Relaxed);
        let mut process: Command = command(&self.root, &self.binary.display().to_string());
        process
            .env_remove("RUST_LOG")
            .envs(self.settings.variables.iter().map(|(name, value)| (name, value)))
            .stdout(self.log.try_clone().context("cannot share a log")?)
            .stderr(self.log.try_clone().context("cannot share a log")?);
        Environment::start(self.settings.name, process).await
    }
}

struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A process of a function with its own Runtime API. Dropping it kills the process.
pub struct Environment {
    name: &'static str,
    child: Child,
    started: Instant,
    asked: watch::Receiver<Option<Instant>>,
    invocations: mpsc::Sender<Invocation>,
    server: JoinHandle<()>,
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Environment {
    /// Starts a program that uses the Runtime API, in the way in which Lambda starts a function of this name.
    pub async fn start(name: &'static str, mut process: Command) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let address = listener.local_addr().context("cannot listen")?;
        process
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MEMORY.to_string())
            .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .kill_on_drop(true)
            .stdin(Stdio::null());

        let (invocations, next) = mpsc::channel(1);
        let (first, asked) = watch::channel(None);
        let runtime = Arc::new(Runtime {
            first,
            next: tokio::sync::Mutex::new(next),
            answer: Mutex::default(),
        });
        let api = Router::new()
            .route(&format!("{API}/invocation/next"), get(next_invocation))
            .route(&format!("{API}/invocation/{{id}}/response"), post(response))
            .route(&format!("{API}/invocation/{{id}}/error"), post(error))
            .route(
                &format!("{API}/init/error"),
                post(|| async { StatusCode::ACCEPTED }),
            )
            .with_state(runtime);
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, api).await;
        });
        let started = Instant::now();
        let child = process.spawn();
        let program = process.as_std().get_program().to_string_lossy().into_owned();
        Ok(Self {
            name,
            child: child.with_context(|| format!("cannot start {program}"))?,
            started,
            asked,
            invocations,
            server,
        })
    }

    /// Waits until the process asks for its first invocation, which ends the init phase. Returns the duration
    /// of the init phase.
    pub async fn ready(&mut self) -> Result<Duration, Failure> {
        tokio::select! {
            asked = self.asked.wait_for(Option::is_some) => match asked.as_deref() {
                Ok(Some(asked)) => Ok(asked.duration_since(self.started)),
                _ => Err(Failure::Crashed("its Runtime API ended".to_owned())),
            },
            failure = ended(&mut self.child) => Err(failure),
        }
    }

    /// Kills the process (SIGKILL) and waits until it has ended.
    pub async fn end(mut self) {
        let _ = self.child.kill().await;
    }

    /// Asks the process to end (SIGTERM) and waits until it has ended.
    pub async fn terminate(mut self) -> Result<()> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let id = Pid::from_raw(id.context("the process is gone")?);
        signal::kill(id, Signal::SIGTERM).context("cannot end a process")?;
        self.child.wait().await.context("cannot wait for a process")?;
        Ok(())
    }

    /// The process ID; `None` once the process has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Invokes the function and returns its response. The process is killed after `timeout`, or after
    /// `kill_after` if that is earlier.
    pub async fn invoke(
        &mut self,
        payload: Bytes,
        timeout: Duration,
        kill_after: Option<Duration>,
    ) -> Result<Bytes, Failure> {
        let (answer, answered) = oneshot::channel();
        let limit = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let now = Clock::system().now().unix_timestamp_nanos() / 1_000_000;
        let invocation = Invocation {
            deadline_ms: i64::try_from(now).unwrap_or_default() + limit,
            function: self.name,
            payload,
            answer,
        };
        if self.invocations.send(invocation).await.is_err() {
            return Err(Failure::Crashed("its Runtime API ended".to_owned()));
        }
        let killing = async {
            match kill_after {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = answered => match answer {
                Ok(answer) => answer.map_err(Failure::Reported),
                Err(_) => Err(Failure::Crashed("it asked for more without answering".to_owned())),
            },
            () = killing => Err(Failure::Killed),
            failure = ended(&mut self.child) => Err(failure),
            () = tokio::time::sleep(timeout) => Err(Failure::TimedOut),
        }
    }
}

async fn ended(child: &mut Child) -> Failure {
    Failure::Crashed(match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    })
}

struct Invocation {
    deadline_ms: i64,
    function: &'static str,
    payload: Bytes,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<Bytes, String>>;

/// The state of an environment's Runtime API.
struct Runtime {
    /// The time of the first request for an invocation.
    first: watch::Sender<Option<Instant>>,
    next: tokio::sync::Mutex<mpsc::Receiver<Invocation>>,
    answer: Mutex<Option<Answer>>,
}

impl Runtime {
    fn answer(&self, answer: Result<Bytes, String>) -> StatusCode {
        let waiting = self.answer.lock().take();
        match waiting {
            Some(waiting) => {
                // The invoker may have given up already.
                let _ = waiting.send(answer);
                StatusCode::ACCEPTED
            }
            None => StatusCode::BAD_REQUEST,
        }
    }
}

async fn next_invocation(State(runtime): State<Arc<Runtime>>) -> Response {
    runtime.first.send_if_modified(|first| {
        let is_first = first.is_none();
        first.get_or_insert_with(Instant::now);
        is_first
    });
    let Some(invocation) = runtime.next.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    *runtime.answer.lock() = Some(invocation.answer);
    let id = ids::new_id().to_string();
    let headers = [
        ("Content-Type", "application/json".to_owned()),
        ("Lambda-Runtime-Aws-Request-Id", id),
        ("Lambda-Runtime-Deadline-Ms", invocation.deadline_ms.to_string()),
        (
            "Lambda-Runtime-Invoked-Function-Arn",
            format!(
                "arn:aws:lambda:us-east-1:000000000000:function:{}",
                invocation.function
            ),
        ),
        (
            "Lambda-Runtime-Trace-Id",
            "Root=1-00000000-000000000000000000000000;Sampled=0".to_owned(),
        ),
    ];
    (headers, invocation.payload).into_response()
}

async fn response(State(runtime): State<Arc<Runtime>>, body: Bytes) -> StatusCode {
    runtime.answer(Ok(body))
}

async fn error(State(runtime): State<Arc<Runtime>>, body: Bytes) -> StatusCode {
    runtime.answer(Err(String::from_utf8_lossy(&body).into_owned()))
}
