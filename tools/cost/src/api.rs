//! A fake of the HTTP API. It forms the events that API Gateway sends to functions, and counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse as _;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use lambda::events::{HttpRequest, HttpResponse, headers};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::counts::Meter;
use crate::functions::Functions;
use crate::template::Template;
use crate::text::access_log;

/// Maximum length of a request's body in bytes. HTTP APIs accept 10 MB.
const BODY_LIMIT: usize = 10_000_000;

/// The running fake, which stops when dropped.
pub(crate) struct Api {
    /// The URL, as in the output `HttpApiUrl`.
    pub(crate) url: String,
    server: JoinHandle<()>,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Gateway {
    template: Arc<Template>,
    functions: Arc<Functions>,
    meter: Arc<Meter>,
}

impl Api {
    pub(crate) async fn start(
        template: Arc<Template>,
        functions: Arc<Functions>,
        meter: Arc<Meter>,
    ) -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await;
        let listener = listener.context("cannot listen")?;
        let url = format!("http://{}", listener.local_addr().context("cannot listen")?);
        let gateway = Arc::new(Gateway {
            template,
            functions,
            meter,
        });
        let app = Router::new().fallback(serve).with_state(gateway);
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { url, server })
    }
}

async fn serve(State(gateway): State<Arc<Gateway>>, request: Request) -> Response<Body> {
    match gateway.serve(request).await {
        Ok(response) => response,
        Err(error) => {
            gateway.meter.fail(format!("{error:#}"));
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl Gateway {
    async fn serve(&self, request: Request) -> Result<Response<Body>> {
        let began = Instant::now();
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, BODY_LIMIT).await?;
        let (method, path) = (head.method.as_str(), head.uri.path());
        let Some((route, function, parameters)) = self.template.route(method, path) else {
            bail!("there is no route for {method} {path}");
        };
        let claims = claims(&head.headers)?;
        let event = HttpRequest {
            route,
            path,
            query: head.uri.query().unwrap_or_default(),
            headers: headers(&head.headers),
            path_parameters: parameters
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect(),
            claims: claims.clone(),
            body: (!body.is_empty()).then(|| String::from_utf8_lossy(&body).into_owned()),
        };
        let answer = self
            .functions
            .invoke(function, Bytes::from(event.event()))
            .await?;
        let answer = HttpResponse::parse(&answer)?;
        let text = answer.body.as_deref().unwrap_or_default();
        if answer.status_code >= 400 {
            self.meter.fail(format!(
                "{route} was answered with {}: {text}",
                answer.status_code
            ));
        }
        self.meter.http(route, text.len());
        let milliseconds = began.elapsed().as_millis().to_string();
        let line = access_log(&self.template.access_log, |name| {
            Some(match name {
                // A request ID of an HTTP API, such as JKJaXmPLvHcESHA=, has 16 characters.
                "requestId" => "JKJaXmPLvHcESHA=".to_owned(),
                "requestTime" => "24/Nov/2026:16:00:00 +0000".to_owned(),
                "routeKey" => route.to_owned(),
                "status" => answer.status_code.to_string(),
                "authorizer.claims.sub" => claims["sub"].as_str().unwrap_or_default().to_owned(),
                "identity.sourceIp" => "203.0.113.7".to_owned(),
                "responseLatency" | "integrationLatency" => milliseconds.clone(),
                "responseLength" => text.len().to_string(),
                // API Gateway writes a dash for a variable without a value.
                "error.message" | "integration.error" => "-".to_owned(),
                _ => return None,
            })
        })?;
        self.meter.logged("HTTP API", u64::try_from(line.len())?);
        answer.into_response()
    }
}

/// The claims of the bearer token. The authorizer passes all of them as texts.
fn claims(headers: &HeaderMap) -> Result<Map<String, Value>> {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok());
    let payload = token.and_then(|token| token.split('.').nth(1));
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload.context("a request without a token")?)?;
    let claims: Map<String, Value> = serde_json::from_slice(&payload).context("a token has no claims")?;
    let as_text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(claims
        .into_iter()
        .map(|(name, value)| (name, as_text(value).into()))
        .collect())
}
