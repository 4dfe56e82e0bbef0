//! The web page of `clients/web`, served as by a static host, together with the configuration for the local
//! stack.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use axum::{Json, serve};

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower_http::services::ServeDir;

use crate::deployment::Stack;
use runner::project::Project;
use runner::services::Ports;

/// The folder of the page's files in the project.
const FILES: &str = "clients/web/site";

/// The page's server. Dropping the value stops it.
pub(crate) struct Page(JoinHandle<()>);

impl Drop for Page {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Clone)]
struct Headers {
    origin: String,
    host: String,
    content_security_policy: HeaderValue,
}

impl Page {
    /// Starts a server for the page, configured for a stack.
    pub(crate) async fn serve(project: &Project, ports: Ports, stack: &Stack) -> Result<Self> {
        let outputs = &stack.outputs;
        let configuration = json!({
            "httpApiUrl": outputs.http_api_url,
            "cognitoEndpoint": stack.aws_endpoint,
            "userPoolClientId": outputs.user_pool_client_id,
        });
        let headers = Headers {
            origin: ports.web_origin(),
            host: ports.web().to_string(),
            content_security_policy: content_security_policy(ports).parse()?,
        };
        let router = Router::new()
            .route("/config.json", get(async move || Json(configuration)))
            .fallback_service(ServeDir::new(project.root.join(FILES)))
            .layer(middleware::from_fn_with_state(headers, as_a_static_host));
        let listener = TcpListener::bind(ports.web()).await;
        let listener = listener.context("cannot serve the page")?;
        Ok(Self(tokio::spawn(async move {
            let _ = serve(listener, router).await;
        })))
    }
}

/// Allows only the page's own files and the emulator, which serves the API, storage, WebSockets and sign-in.
fn content_security_policy(ports: Ports) -> String {
    let emulator = ports.emulator();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; worker-src 'self'; \
         connect-src 'self' http://{emulator} ws://{emulator}; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

async fn as_a_static_host(State(headers): State<Headers>, request: Request, next: Next) -> Response {
    // The CORS rules of the stack allow one origin, and `localhost` is a different origin than `127.0.0.1`.
    let host = request.headers().get(HOST);
    if host.is_none_or(|host| host.as_bytes() != headers.host.as_bytes()) {
        let place = request.uri().path_and_query().map_or("/", |place| place.as_str());
        return Redirect::temporary(&format!("{}{place}", headers.origin)).into_response();
    }
    let mut response = next.run(request).await;
    let own = response.headers_mut();
    own.insert(CONTENT_SECURITY_POLICY, headers.content_security_policy);
    for (name, value) in [
        // A reload of the page shows an edited file.
        (CACHE_CONTROL, "no-cache"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        own.insert(name, HeaderValue::from_static(value));
    }
    response
}
