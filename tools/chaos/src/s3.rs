//! A fake of S3. Objects are written once, and their length and SHA-256 are checked. Their content is not
//! kept.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use model::Sha256;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::faults::{FaultInjector, Kind};
use super::proxy::Proxy;

pub(crate) const BUCKET: &str = "syncsphere-chaos";

/// The metadata that is kept of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// Length in bytes.
    pub(crate) size: i64,
    pub(crate) sha256: Sha256,
}

/// The running fake.
pub(crate) struct S3 {
    objects: Mutex<HashMap<String, Object>>,
    faults: Arc<FaultInjector>,
    proxy: OnceLock<Proxy>,
}

impl S3 {
    /// Starts the fake behind a proxy.
    pub(crate) async fn start(
        faults: Arc<FaultInjector>,
        tasks: &mut JoinSet<()>,
    ) -> Result<(Arc<Self>, Proxy)> {
        let s3 = Arc::new(Self {
            objects: Mutex::default(),
            faults,
            proxy: OnceLock::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let proxy = Proxy::start(listener.local_addr().context("cannot listen")?).await?;
        let _ = s3.proxy.set(proxy.clone());
        let app = Router::new()
            .fallback(serve)
            .with_state(Arc::clone(&s3))
            .into_make_service_with_connect_info::<SocketAddr>();
        tasks.spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok((s3, proxy))
    }

    /// All objects by key.
    pub(crate) fn objects(&self) -> HashMap<String, Object> {
        self.objects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn put(&self, key: &str, headers: &HeaderMap, body: &Bytes) -> Response {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let sha256 = client::sha256(body);
        if header("x-amz-checksum-sha256") != Some(&sha256.to_string()) {
            return refusal(StatusCode::BAD_REQUEST, "BadDigest");
        }
        let size = i64::try_from(body.len()).unwrap_or(i64::MAX);
        if header("content-length") != Some(&size.to_string()) {
            return refusal(StatusCode::BAD_REQUEST, "IncompleteBody");
        }
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if header("if-none-match") == Some("*") && objects.contains_key(key) {
            return refusal(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        objects.insert(key.to_owned(), Object { size, sha256 });
        let headers = [
            ("etag", format!("\"{}\"", key.len())),
            ("x-amz-checksum-sha256", sha256.to_string()),
        ];
        (headers, ()).into_response()
    }

    fn head(&self, key: &str) -> Response {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(object) = objects.get(key) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let headers = [
            ("content-length", object.size.to_string()),
            ("etag", format!("\"{}\"", key.len())),
            ("x-amz-checksum-sha256", object.sha256.to_string()),
            ("x-amz-checksum-type", "FULL_OBJECT".to_owned()),
        ];
        (headers, ()).into_response()
    }

    fn delete(&self, key: &str) {
        self.objects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

async fn serve(
    State(s3): State<Arc<S3>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if s3.faults.inject(Kind::StorageUnavailable) {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown");
    }
    let path = uri.path().trim_start_matches('/');
    let key = path
        .strip_prefix(BUCKET)
        .unwrap_or_default()
        .trim_start_matches('/');
    let query = uri.query().unwrap_or_default();
    let answer = match method {
        Method::PUT => s3.put(key, &headers, &body),
        Method::HEAD => s3.head(key),
        // Aborting a multipart upload. There are none, so there is nothing to abort.
        Method::DELETE if query.contains("uploadId=") => StatusCode::NO_CONTENT.into_response(),
        Method::DELETE => {
            s3.delete(key);
            StatusCode::NO_CONTENT.into_response()
        }
        Method::POST if query.starts_with("delete") => {
            let text = String::from_utf8_lossy(&body);
            for part in text.split("<Key>").skip(1) {
                s3.delete(part.split("</Key>").next().unwrap_or_default());
            }
            let answer = r#"<?xml version="1.0" encoding="UTF-8"?><DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>"#;
            ([("content-type", "application/xml")], answer).into_response()
        }
        _ => refusal(StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
    };
    if let Some(proxy) = s3.proxy.get()
        && s3.faults.inject(Kind::StorageAnswerLost)
    {
        proxy.cut(peer);
        return std::future::pending().await;
    }
    answer
}

fn refusal(status: StatusCode, code: &str) -> Response {
    let body = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>as told</Message></Error>"#
    );
    (status, [("content-type", "application/xml")], body).into_response()
}
