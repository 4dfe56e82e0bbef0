//! A fake of API Gateway with the routes that `syncsphere upload` uses, in front of the functions.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawPathParams, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, on};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::harness::{Harness, Variables};
use crate::process::Process;
use crate::requests::User;

/// Environments of each function.
const ENVIRONMENTS: usize = 8;

/// Method, path and function of each route.
const ROUTES: [(&str, &str, &str); 8] = [
    ("GET", "/spaces", "spaces"),
    ("GET", "/files", "files"),
    ("POST", "/uploads", "uploads"),
    ("POST", "/uploads/batch", "uploads"),
    ("GET", "/uploads/{uploadId}", "uploads"),
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
    /// The sample of an event. Its user is the only one.
    event: Value,
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
            event: harness.request("uploads.post.json", &user.id)?,
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
                let event = api.event(method, path, &parameters, &uri, &headers, &body);
                api.answer(function, event).await
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
    /// The event of a request (Amazon API Gateway Developer Guide, "Create AWS Lambda proxy integrations for
    /// HTTP APIs", payload format version 2.0).
    fn event(
        &self,
        method: &str,
        path: &str,
        parameters: &RawPathParams,
        uri: &Uri,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Value {
        let route = format!("{method} {path}");
        let headers = headers.iter().filter_map(|(name, value)| {
            let value = value.to_str().ok()?;
            Some((name.as_str().to_owned(), Value::from(value)))
        });
        let parameters = parameters.iter();
        let parameters = parameters.map(|(name, value)| (name.to_owned(), Value::from(value)));
        let mut event = self.event.clone();
        event["routeKey"] = json!(route);
        event["rawPath"] = json!(uri.path());
        event["rawQueryString"] = json!(uri.query().unwrap_or_default());
        event["headers"] = Value::Object(headers.collect::<Map<_, _>>());
        event["pathParameters"] = Value::Object(parameters.collect::<Map<_, _>>());
        event["requestContext"]["routeKey"] = json!(route);
        event["requestContext"]["http"]["method"] = json!(method);
        event["requestContext"]["http"]["path"] = json!(uri.path());
        event["body"] = match &body[..] {
            [] => Value::Null,
            body => json!(String::from_utf8_lossy(body)),
        };
        event
    }

    async fn answer(&self, function: &str, event: Value) -> Response {
        self.invoke(function, event)
            .await
            .unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response())
    }

    async fn invoke(&self, function: &str, event: Value) -> Result<Response> {
        let function = self.functions.get(function).context("no function")?;
        let _permit = function.permits.acquire().await?;
        let idle = function.idle.lock().pop();
        let mut process = idle.context("no environment")?;
        let measured = process.invoke(event.to_string()).await?;
        function.idle.lock().push(process);
        self.invocations.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(measured.cpu.as_micros())?;
        self.cpu.fetch_add(micros, Ordering::Relaxed);
        let answer: Value = serde_json::from_slice(&measured.answer).context("an answer is no JSON")?;
        let status = answer["statusCode"]
            .as_u64()
            .and_then(|status| u16::try_from(status).ok());
        let status = StatusCode::from_u16(status.context("an answer has no status")?)?;
        let mut response = (status, answer["body"].as_str().unwrap_or_default().to_owned()).into_response();
        for (name, value) in answer["headers"].as_object().into_iter().flatten() {
            let value = HeaderValue::from_str(value.as_str().unwrap_or_default())?;
            response.headers_mut().insert(HeaderName::try_from(name)?, value);
        }
        Ok(response)
    }
}
