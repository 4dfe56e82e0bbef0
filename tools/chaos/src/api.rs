//! The HTTP API: forms the events that functions get from API Gateway, and asks again until there is an answer that counts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use model::UserId;
use platform::ids;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::findings::Findings;
use super::functions::Functions;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long a request is tried. No disturbance lasts nearly as long.
const PATIENCE: Duration = Duration::from_mins(2);

/// A request of a client.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Such as `GET /files`.
    pub(crate) route: &'static str,
    /// Variables of the path.
    pub(crate) path: Vec<(&'static str, String)>,
    /// The query string, encoded.
    pub(crate) query: String,
    /// The header `Idempotency-Key`.
    pub(crate) idempotency_key: Option<String>,
    /// The body.
    pub(crate) body: Option<Value>,
}

impl Call {
    /// A request to a route without anything.
    pub(crate) fn new(route: &'static str) -> Self {
        Self {
            route,
            path: Vec::new(),
            query: String::new(),
            idempotency_key: None,
            body: None,
        }
    }

    /// Names a variable of the path.
    pub(crate) fn path(mut self, name: &'static str, value: &impl ToString) -> Self {
        self.path.push((name, value.to_string()));
        self
    }

    /// Sets the query string.
    pub(crate) fn query(mut self, query: String) -> Self {
        self.query = query;
        self
    }

    /// Sets the body.
    pub(crate) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Names the request, so that repeating it does nothing more.
    pub(crate) fn key(mut self, key: String) -> Self {
        self.idempotency_key = Some(key);
        self
    }

    fn event(&self, user: &UserId) -> String {
        let (method, path) = self.route.split_once(' ').unwrap_or_default();
        let mut headers = json!({ "content-type": "application/json", "host": "chaos.example" });
        if let Some(key) = &self.idempotency_key {
            headers["idempotency-key"] = key.as_str().into();
        }
        let variables: serde_json::Map<_, _> = self
            .path
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
            .collect();
        json!({
            "version": "2.0",
            "routeKey": self.route,
            "rawPath": path,
            "rawQueryString": self.query,
            "headers": headers,
            "pathParameters": variables,
            "requestContext": {
                "accountId": "000000000000",
                "apiId": "chaos",
                "authorizer": { "jwt": { "claims": { "sub": user }, "scopes": null } },
                "domainName": "chaos.example",
                "domainPrefix": "chaos",
                "http": {
                    "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1",
                    "userAgent": "chaos",
                },
                "requestId": ids::new_id().to_string(),
                "routeKey": self.route,
                "stage": "$default",
                "time": "24/Nov/2025:16:00:00 +0000",
                "timeEpoch": 1_764_000_000_000_u64,
            },
            "isBase64Encoded": false,
            "body": self.body.as_ref().map(Value::to_string),
        })
        .to_string()
    }
}

/// An answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    /// The HTTP status.
    #[serde(rename = "statusCode")]
    pub(crate) status: u16,
    /// The body.
    #[serde(default)]
    pub(crate) body: Option<String>,
}

impl Answer {
    /// The body as what it should be.
    pub(crate) fn parsed<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.body.as_deref()?).ok()
    }

    /// The problem's name for programs.
    pub(crate) fn code(&self) -> String {
        #[derive(Deserialize)]
        struct Problem {
            code: String,
        }
        self.parsed::<Problem>()
            .map(|problem| problem.code)
            .unwrap_or_default()
    }
}

/// The API, as clients see it.
pub(crate) struct Api {
    functions: Arc<Functions>,
    findings: Arc<Findings>,
    random: Mutex<ChaCha8Rng>,
}

impl Api {
    /// In front of the functions; pauses come from `random`.
    pub(crate) fn new(functions: Arc<Functions>, findings: Arc<Findings>, random: ChaCha8Rng) -> Self {
        Self {
            functions,
            findings,
            random: Mutex::new(random),
        }
    }

    /// Asks once. Nothing if the service is unavailable, in whichever way.
    pub(crate) async fn once(&self, user: &UserId, call: &Call) -> Option<Answer> {
        let payload = Bytes::from(call.event(user));
        let answer = self.functions.route(call.route, payload).await.ok()?;
        let Ok(answer) = serde_json::from_slice::<Answer>(&answer) else {
            let text = String::from_utf8_lossy(&answer).into_owned();
            self.findings.unexpected(
                "answer that cannot be read",
                format!("{} of {user}: {text}", call.route),
            );
            return None;
        };
        if answer.status >= 500 && answer.status != 503 {
            let body = answer.body.as_deref().unwrap_or_default();
            self.findings.unexpected(
                "answer is a 5xx other than 503",
                format!("{} of {user}: {} {body}", call.route, answer.status),
            );
        }
        (answer.status < 500 && answer.status != 429).then_some(answer)
    }

    /// Asks until there is a definite answer, a 2xx or a refusal. Nothing after two minutes, which is a finding.
    pub(crate) async fn request(&self, user: &UserId, call: &Call) -> Option<Answer> {
        let begun = Instant::now();
        for attempt in 0.. {
            if let Some(answer) = self.once(user, call).await {
                return Some(answer);
            }
            if begun.elapsed() > PATIENCE {
                break;
            }
            self.pause(attempt).await;
        }
        self.findings.unexpected(
            "no definite answer",
            format!("{} of {user}: {:?}", call.route, call.path),
        );
        None
    }

    /// Waits before the next attempt: exponential back-off with full jitter.
    pub(crate) async fn pause(&self, attempt: u32) {
        let longest = Duration::from_millis(50 << attempt.min(6)).min(LONGEST_PAUSE);
        let share = self
            .random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .random_range(0.0..1.0);
        tokio::time::sleep(longest.mul_f64(share)).await;
    }

    /// Records an answer that this request must not get.
    pub(crate) fn wrong(&self, user: &UserId, call: &Call, answer: &Answer) {
        let body = answer.body.as_deref().unwrap_or_default();
        self.findings.unexpected(
            "answer that the request must not get",
            format!(
                "{} {:?} of {user}: {} {body}",
                call.route, call.path, answer.status
            ),
        );
    }
}
