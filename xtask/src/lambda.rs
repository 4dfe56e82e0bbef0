//! Lambda, as far as a function can tell: its binary, as deployed, under the Runtime API, one invocation at a time in each
//! environment.
//!
//! AWS Lambda Developer Guide, "Using the Lambda runtime API for custom runtimes".

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use edge::{Clock, ids};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::environment::command;
use crate::project::Project;

/// The Runtime API's version.
const API: &str = "/2018-06-01/runtime";

/// What every function of the template has, in MiB.
const MEMORY: &str = "256";

/// What a function is configured with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The function's name, which is also its binary's.
    pub(crate) name: &'static str,
    /// How long an invocation may take.
    pub(crate) timeout: Duration,
    /// How many environments there may be, which is how many invocations may run at once; others wait.
    pub(crate) concurrency: usize,
    /// Its environment variables.
    pub(crate) variables: Vec<(&'static str, String)>,
}

/// Why an invocation has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Its process was killed on purpose.
    Killed,
    /// It took longer than the function's timeout, so its process was killed.
    TimedOut,
    /// Its process ended by itself.
    Crashed(String),
    /// The function reported an error.
    Reported(String),
}

/// A function and its environments.
pub(crate) struct Function {
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
    /// Configures a function whose binary is `<binaries>/<name>/bootstrap`, and whose output goes to a log in `folder`.
    pub(crate) fn new(project: &Project, binaries: &Path, folder: &Path, settings: Settings) -> Result<Self> {
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

    /// The function's name.
    pub(crate) fn name(&self) -> &'static str {
        self.settings.name
    }

    /// How many environments have been started.
    pub(crate) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// How many invocations run or wait.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// Invokes the function and waits for its answer. With `kill_after`, its process gets a SIGKILL that long after the
    /// invocation began, unless it has answered by then.
    pub(crate) async fn invoke(
        &self,
        payload: Bytes,
        kill_after: Option<Duration>,
    ) -> Result<Bytes, Failure> {
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(&self.running);
        let _permit = self.permits.acquire().await;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut environment = match idle {
            Some(environment) => environment,
            None => self
                .start()
                .await
                .map_err(|error| Failure::Crashed(format!("{error:#}")))?,
        };
        let outcome = environment.invoke(&self.settings, payload, kill_after).await;
        if matches!(outcome, Ok(_) | Err(Failure::Reported(_))) {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(environment);
        } else {
            // Until the process is gone it might still do something.
            let _ = environment.child.kill().await;
        }
        outcome
    }

    async fn start(&self) -> Result<Environment> {
        self.started.fetch_add(1, Ordering::Relaxed);
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let address = listener.local_addr().context("cannot listen")?;
        let mut process: Command = command(&self.root, &self.binary.display().to_string());
        process
            .env_remove("RUST_LOG")
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", self.settings.name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MEMORY)
            .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .envs(self.settings.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(self.log.try_clone().context("cannot share a log")?)
            .stderr(self.log.try_clone().context("cannot share a log")?);

        let (invocations, next) = mpsc::channel(1);
        let runtime = Arc::new(Runtime {
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
        let child = process
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        Ok(Environment {
            child,
            invocations,
            server,
        })
    }
}

struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A process of a function; dropping it kills it.
struct Environment {
    child: Child,
    invocations: mpsc::Sender<Invocation>,
    server: JoinHandle<()>,
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Environment {
    async fn invoke(
        &mut self,
        settings: &Settings,
        payload: Bytes,
        kill_after: Option<Duration>,
    ) -> Result<Bytes, Failure> {
        let (answer, answered) = oneshot::channel();
        let limit = i64::try_from(settings.timeout.as_millis()).unwrap_or(i64::MAX);
        let now = Clock::system().now().unix_timestamp_nanos() / 1_000_000;
        let invocation = Invocation {
            deadline_ms: i64::try_from(now).unwrap_or_default() + limit,
            function: settings.name,
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
            status = self.child.wait() => {
                Err(Failure::Crashed(status.map_or_else(|error| error.to_string(), |status| status.to_string())))
            }
            () = tokio::time::sleep(settings.timeout) => Err(Failure::TimedOut),
        }
    }
}

struct Invocation {
    deadline_ms: i64,
    function: &'static str,
    payload: Bytes,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<Bytes, String>>;

/// What an environment's Runtime API knows.
struct Runtime {
    next: tokio::sync::Mutex<mpsc::Receiver<Invocation>>,
    answer: Mutex<Option<Answer>>,
}

impl Runtime {
    fn answer(&self, answer: Result<Bytes, String>) -> StatusCode {
        let waiting = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        match waiting {
            Some(waiting) => {
                // Whoever asked may have given up.
                let _ = waiting.send(answer);
                StatusCode::ACCEPTED
            }
            None => StatusCode::BAD_REQUEST,
        }
    }
}

async fn next_invocation(State(runtime): State<Arc<Runtime>>) -> Response {
    let Some(invocation) = runtime.next.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    *runtime.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(invocation.answer);
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
