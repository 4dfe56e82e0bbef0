//! Proxy in front of the deployed HTTP API that checks every response against `docs/openapi.yaml`.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use client::{Client, Token};
use model::DeviceId;

use crate::{Answer, Call, Contract, Shared, lock_shared, stack};

/// Largest request body that the proxy forwards, in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// Proxy in front of the deployed HTTP API.
pub struct Proxy {
    /// Base URL of the proxy. Tests use it instead of the stack's output `HttpApiUrl`.
    pub url: String,
    http: reqwest::Client,
    _shared: Option<Shared>,
}

impl Proxy {
    /// Starts a proxy, which listens until the test ends, and locks the stack for shared use.
    pub async fn start() -> Self {
        Self {
            _shared: Some(lock_shared().await),
            ..Self::start_unshared().await
        }
    }

    /// Starts a proxy without locking the stack, for a test that has locked it exclusively.
    pub async fn start_unshared() -> Self {
        client::install_crypto_provider();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let app = Router::new().fallback(forward).with_state(http.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, app).await });
        Self {
            url,
            http,
            _shared: None,
        }
    }

    /// Client of a new device of the token's user. It does not retry, so a test sees each failure.
    pub fn device(&self, token: Token) -> Client {
        let device_id = DeviceId::from(platform::ids::new_id());
        Client::new(&self.url, token, Some(device_id))
            .unwrap()
            .with_retry_budget(Duration::ZERO)
    }

    /// Makes a request as the token's user; without a token, anonymously.
    pub async fn call(&self, token: Option<&Token>, call: &Call) -> Answer {
        let (method, target) = call.request_line();
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}{target}", self.url));
        for (name, value) in call.headers() {
            request = request.header(*name, value);
        }
        if let Some(token) = token {
            request = request.bearer_auth(token.as_str());
        }
        if let Some(body) = call.json() {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let status = i64::from(response.status().as_u16());
        let header = |name| Some(response.headers().get(name)?.to_str().unwrap().to_owned());
        let (location, retry_after) = (header("location"), header("retry-after"));
        let text = response.text().await.unwrap();
        let body = if text.is_empty() {
            serde_json::Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
        };
        Answer {
            status,
            body,
            location,
            retry_after,
        }
    }
}

async fn forward(State(http): State<reqwest::Client>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES).await.unwrap();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut headers = parts.headers;
    headers.remove("host");
    let sent = http
        .request(
            parts.method.clone(),
            format!("{}{target}", stack().outputs.http_api_url),
        )
        .headers(headers)
        .body(body);
    let answer = sent.send().await.unwrap();
    let status = answer.status();
    let headers = answer.headers().clone();
    let text = answer.text().await.unwrap();

    if let Some(route) = Contract::get().route(parts.method.as_str(), parts.uri.path()) {
        let body = serde_json::from_str(&text).unwrap_or_default();
        if let Err(violation) = Contract::get().verify(&route, i64::from(status.as_u16()), &body) {
            let mut response = Response::new(Body::from(violation));
            *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
            return response;
        }
    }
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    for (name, value) in &headers {
        if !["transfer-encoding", "content-length", "connection"].contains(&name.as_str()) {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}
