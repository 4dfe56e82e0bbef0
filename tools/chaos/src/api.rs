//! A client of the HTTP API. It forms the events that API Gateway sends to functions, and retries until it
//! gets a definite answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use lambda::events::HttpRequest;
use model::UserId;
use parking_lot::Mutex;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::functions::Functions;
use super::violations::Violations;

/// The upper bound of the back-off between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The retry limit of a request. Every injected fault is much shorter.
const PATIENCE: Duration = Duration::from_mins(2);

/// A request of a client to the HTTP API.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Method and path template, such as `GET /files`.
    pub(crate) route: &'static str,
    /// Path parameters by name.
    pub(crate) path: Vec<(&'static str, String)>,
    /// The query string, percent-encoded.
    pub(crate) query: String,
    /// The header `Idempotency-Key`.
    pub(crate) idempotency_key: Option<String>,
    /// The JSON body.
    pub(crate) body: Option<Value>,
}

impl Call {
    /// A request without parameters, key or body.
    pub(crate) fn new(route: &'static str) -> Self {
        Self {
            route,
            path: Vec::new(),
            query: String::new(),
            idempotency_key: None,
            body: None,
        }
    }

    /// Sets a path parameter.
    pub(crate) fn path(mut self, name: &'static str, value: &impl ToString) -> Self {
        self.path.push((name, value.to_string()));
        self
    }

    /// Sets the query string, which must be percent-encoded.
    pub(crate) fn query(mut self, query: String) -> Self {
        self.query = query;
        self
    }

    /// Sets the JSON body.
    pub(crate) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Sets the idempotency key, so that a retry has no further effect.
    pub(crate) fn key(mut self, key: String) -> Self {
        self.idempotency_key = Some(key);
        self
    }

    fn event(&self, user: &UserId) -> String {
        let (_, path) = self.route.split_once(' ').unwrap_or_default();
        let mut headers = Map::from_iter([
            ("content-type".to_owned(), "application/json".into()),
            ("host".to_owned(), "chaos.example".into()),
        ]);
        if let Some(key) = &self.idempotency_key {
            headers.insert("idempotency-key".to_owned(), key.as_str().into());
        }
        let path_parameters = self.path.iter();
        HttpRequest {
            route: self.route,
            path,
            query: &self.query,
            headers,
            path_parameters: path_parameters
                .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
                .collect(),
            claims: Map::from_iter([("sub".to_owned(), user.as_str().into())]),
            body: self.body.as_ref().map(Value::to_string),
        }
        .event()
    }
}

/// The response of a function to API Gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    #[serde(rename = "statusCode")]
    pub(crate) status: u16,
    /// The body as text; `None` if the response has none.
    #[serde(default)]
    pub(crate) body: Option<String>,
    /// Whether an earlier attempt got no definite answer. It may have been carried out.
    #[serde(skip)]
    pub(crate) is_repeated: bool,
}

impl Answer {
    /// The body parsed as JSON; `None` if there is none or it has another form.
    pub(crate) fn parsed<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.body.as_deref()?).ok()
    }

    /// The `code` of a problem response; empty for any other response.
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

/// The body of the response to a request with several items.
#[derive(Deserialize)]
struct Results {
    results: Vec<ItemResult>,
}

/// The result of an item.
#[derive(Deserialize)]
struct ItemResult {
    status: u16,
    #[serde(alias = "upload", alias = "change", alias = "problem")]
    body: Value,
}

/// The HTTP API as clients see it.
pub(crate) struct Api {
    functions: Arc<Functions>,
    violations: Arc<Violations>,
    random: Mutex<ChaCha8Rng>,
}

impl Api {
    /// A client that invokes the functions directly and draws its back-off from `random`.
    pub(crate) fn new(functions: Arc<Functions>, violations: Arc<Violations>, random: ChaCha8Rng) -> Self {
        Self {
            functions,
            violations,
            random: Mutex::new(random),
        }
    }

    /// Sends the request once. `None` if the function failed, or answered 429, a 5xx or an unreadable
    /// response.
    pub(crate) async fn once(&self, user: &UserId, call: &Call) -> Option<Answer> {
        let payload = Bytes::from(call.event(user));
        let answer = self.functions.route(call.route, payload).await.ok()?;
        let Ok(answer) = serde_json::from_slice::<Answer>(&answer) else {
            let text = String::from_utf8_lossy(&answer).into_owned();
            self.violations.unexpected(
                "answer that cannot be read",
                format!("{} of {user}: {text}", call.route),
            );
            return None;
        };
        if answer.status >= 500 && answer.status != 503 {
            let body = answer.body.as_deref().unwrap_or_default();
            self.violations.unexpected(
                "answer is a 5xx other than 503",
                format!("{} of {user}: {} {body}", call.route, answer.status),
            );
        }
        (answer.status < 500 && answer.status != 429).then_some(answer)
    }

    /// Retries until there is a definite answer: a 2xx or a refusal. After two minutes it records a violation
    /// and returns `None`.
    pub(crate) async fn request(&self, user: &UserId, call: &Call) -> Option<Answer> {
        let begun = Instant::now();
        for attempt in 0.. {
            if let Some(mut answer) = self.once(user, call).await {
                answer.is_repeated = attempt > 0;
                return Some(answer);
            }
            if begun.elapsed() > PATIENCE {
                break;
            }
            self.pause(attempt).await;
        }
        self.violations.unexpected(
            "no definite answer",
            format!("{} of {user}: {:?}", call.route, call.path),
        );
        None
    }

    /// Sends a request with several items until each has a definite answer, and returns these in the order of
    /// the items. `call` makes the request for some of the items, given by their indexes. The function is
    /// killed during the first attempt when `killed` resolves. After two minutes it records a violation, and
    /// the items without an answer have `None`.
    pub(crate) async fn request_items(
        &self,
        user: &UserId,
        items: usize,
        call: impl Fn(&[usize]) -> Call,
        killed: Option<impl Future<Output = ()>>,
    ) -> Vec<Option<Answer>> {
        let begun = Instant::now();
        let mut answers: Vec<Option<Answer>> = vec![None; items];
        let mut open: Vec<usize> = (0..items).collect();
        let mut killed = killed;
        for attempt in 0.. {
            let request = call(&open);
            let answer = match killed.take() {
                // The process ends with the invocation.
                Some(killed) => tokio::select! {
                    biased;
                    () = killed => None,
                    answer = self.once(user, &request) => answer,
                },
                None => self.once(user, &request).await,
            };
            if let Some(answer) = answer {
                let results = answer.parsed::<Results>().map(|answer| answer.results);
                let results = results.filter(|it| answer.status == 200 && it.len() == open.len());
                let Some(results) = results else {
                    self.wrong(user, &request, &answer);
                    return answers;
                };
                for (item, result) in std::mem::take(&mut open).into_iter().zip(results) {
                    let answer = Answer {
                        status: result.status,
                        body: Some(result.body.to_string()),
                        is_repeated: attempt > 0,
                    };
                    match answer.status {
                        429 | 503 => open.push(item),
                        500.. => self.wrong(user, &request, &answer),
                        _ => answers[item] = Some(answer),
                    }
                }
            }
            if open.is_empty() {
                return answers;
            }
            if begun.elapsed() > PATIENCE {
                break;
            }
            self.pause(attempt).await;
        }
        self.violations.unexpected(
            "no definite answer",
            format!("{} of {user}: {} items", call(&open).route, open.len()),
        );
        answers
    }

    /// Waits before the next attempt: exponential back-off with full jitter.
    pub(crate) async fn pause(&self, attempt: u32) {
        let longest = Duration::from_millis(50 << attempt.min(6)).min(LONGEST_PAUSE);
        let share = self.random.lock().random_range(0.0..1.0);
        tokio::time::sleep(longest.mul_f64(share)).await;
    }

    /// Records a violation for a response that this request must not get.
    pub(crate) fn wrong(&self, user: &UserId, call: &Call, answer: &Answer) {
        let body = answer.body.as_deref().unwrap_or_default();
        self.violations.unexpected(
            "answer that the request must not get",
            format!(
                "{} {:?} of {user}: {} {body}",
                call.route, call.path, answer.status
            ),
        );
    }
}
