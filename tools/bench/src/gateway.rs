//! A fake of API Gateway with the routes that `syncsphere upload` uses, in front of the functions.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawPathParams, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, on};
use lambda::events::{self, HttpRequest, HttpResponse};
use parking_lot::Mutex;
use serde_json::Map;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::harness::{Harness, Variables};
use crate::process::Process;
use crate::requests::User;

/// Environments of each function.
const ENVIRONMENTS: usize = 8;

/// Method, path and function of each route.
const ROUTES: [(&str, &str, &str); 9] = [
    ("GET", "/spaces", "spaces"),
    ("GET", "/files", "files"),
    ("POST", "/uploads", "uploads"),
    ("POST", "/uploads/batch", "uploads"),
    ("GET", "/uploads/{uploadId}", "uploads"),
    ("DELETE", "/uploads/{uploadId}", "uploads"),
    ("POST", "/uploads/{uploadId}/parts", "uploads"),
    ("POST", "/uploads/batch/complete", "complete-upload"),
    ("POST", "/uploads/{uploadId}/complete", "complete-upload"),
];

/// The running API, which has one user. It ends when dropped.
pub(crate) struct Gateway {
    pub(crate) url: String,
    api: Arc<Api>,
    serving: JoinHandle<()>,
}

struct Api {
    functions: HashMap<&'static str, Function>,
    /// The id of the only user.
    user: String,
    invocations: AtomicU64,
    /// Microseconds of CPU time of the functions.
    cpu: AtomicU64,
}

/// The environments of a function. A request waits while none is idle.
struct Function {
    idle: Mutex<Vec<Process>>,
    permits: Semaphore,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Gateway {
    /// Starts the environments and the server.
    pub(crate) async fn start(harness: &Harness, variables: &Variables, user: &User) -> Result<Self> {
        let mut functions = HashMap::new();
        for name in ["spaces", "files", "uploads", "complete-upload"] {
            let program = harness.everywhere(harness.function(name, variables.clone()));
            let mut idle = Vec::new();
            for _ in 0..ENVIRONMENTS {
                idle.push(program.start().await?);
            }
            let (idle, permits) = (Mutex::new(idle), Semaphore::new(ENVIRONMENTS));
            functions.insert(name, Function { idle, permits });
        }
        let api = Arc::new(Api {
            functions,
            user: user.id.clone(),
            invocations: AtomicU64::new(0),
            cpu: AtomicU64::new(0),
        });
        let mut routes = Router::new();
        for (method, path, function) in ROUTES {
            let answer = async move |State(api): State<Arc<Api>>,
                                     parameters: RawPathParams,
                                     uri: Uri,
                                     headers: HeaderMap,
                                     body: Bytes| {
                let parameters = parameters.iter();
                let request = HttpRequest {
                    route: &format!("{method} {path}"),
                    path: uri.path(),
                    query: uri.query().unwrap_or_default(),
                    headers: events::headers(&headers),
                    path_parameters: parameters
                        .map(|(name, value)| (name.to_owned(), value.into()))
                        .collect(),
                    claims: Map::from_iter([("sub".to_owned(), api.user.as_str().into())]),
                    body: (!body.is_empty()).then(|| String::from_utf8_lossy(&body).into_owned()),
                };
                api.answer(function, request.event()).await
            };
            let method = MethodFilter::try_from(method.parse::<Method>()?)?;
            routes = routes.route(path, on(method, answer));
        }
        let missing = async || (StatusCode::NOT_FOUND, r#"{"message":"Not Found"}"#);
        let routes = routes.fallback(missing).with_state(Arc::clone(&api));
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let url = format!("http://{}", listener.local_addr()?);
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { url, api, serving })
    }

    /// The invocations since the last call, and the CPU time of the functions in milliseconds.
    pub(crate) fn take(&self) -> (u64, u64) {
        let invocations = self.api.invocations.swap(0, Ordering::Relaxed);
        (invocations, self.api.cpu.swap(0, Ordering::Relaxed) / 1_000)
    }
}

impl Api {
    async fn answer(&self, function: &str, event: String) -> Response {
        self.invoke(function, event)
            .await
            .unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response())
    }

    async fn invoke(&self, function: &str, event: String) -> Result<Response> {
        let function = self.functions.get(function).context("no function")?;
        let _permit = function.permits.acquire().await?;
        let idle = function.idle.lock().pop();
        let mut process = idle.context("no environment")?;
        let measured = process.invoke(event).await?;
        function.idle.lock().push(process);
        self.invocations.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(measured.cpu.as_micros())?;
        self.cpu.fetch_add(micros, Ordering::Relaxed);
        HttpResponse::parse(&measured.answer)?.into_response()
    }
}
