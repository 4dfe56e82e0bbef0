//! Baseline of posting: a plain hyper client with the same number of posts in flight, without signatures.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

/// Posts to make.
#[derive(Deserialize, Serialize)]
pub(crate) struct Task {
    pub(crate) ids: Vec<String>,
    pub(crate) frame: String,
    pub(crate) in_flight: usize,
    /// URL of the fake; with `https`, TLS is used.
    pub(crate) endpoint: String,
    /// Certificate authority (PEM) to trust.
    pub(crate) authority: String,
}

/// A constant with the length of a real signature, so that the requests have the same size.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/execute-api/aws4_request, SignedHeaders=host;x-amz-date, Signature=0000000000000000000000000000000000000000000000000000000000000000";

type Connections = Mutex<Vec<SendRequest<Full<Bytes>>>>;

/// Serves invocations; responds with the number of posts.
pub(crate) async fn run() -> Result<(), Error> {
    let connections = Arc::new(Connections::default());
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Task>| {
        let connections = Arc::clone(&connections);
        async move { post_all(&connections, event.payload).await }
    }))
    .await
}

async fn post_all(connections: &Connections, task: Task) -> Result<usize, Error> {
    let (scheme, rest) = task.endpoint.split_once("://").ok_or("no URL")?;
    let (host, harness) = rest.split_once('/').ok_or("no path")?;
    let mut connections = connections.lock().await;
    while connections.len() < task.in_flight {
        connections.push(connect(scheme, host, &task.authority).await?);
    }
    let frame = Bytes::from(task.frame);
    let ids = std::sync::Mutex::new(task.ids.iter());
    let next = || ids.lock().ok().and_then(|mut ids| ids.next());
    let next = &next;
    let lanes = connections.iter_mut().take(task.in_flight).map(|connection| {
        let frame = frame.clone();
        async move {
            let mut posted = 0;
            while let Some(id) = next() {
                let request = hyper::Request::post(format!("/{harness}/@connections/{id}"))
                    .header("host", host)
                    .header("x-amz-date", "20260101T000000Z")
                    .header("authorization", AUTHORIZATION)
                    .body(Full::new(frame.clone()))?;
                connection.ready().await?;
                let answer = connection.send_request(request).await?;
                let status = answer.status();
                answer.into_body().collect().await?;
                if status != 200 {
                    return Err(Error::from(format!("status {status}")));
                }
                posted += 1;
            }
            Ok::<usize, Error>(posted)
        }
    });
    let mut lanes: stream::FuturesUnordered<_> = lanes.collect();
    let mut posted = 0;
    while let Some(lane) = lanes.next().await {
        posted += lane?;
    }
    Ok(posted)
}

async fn connect(scheme: &str, host: &str, authority: &str) -> Result<SendRequest<Full<Bytes>>, Error> {
    let stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    if scheme == "http" {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        return Ok(sender);
    }
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = host.split(':').next().unwrap_or_default().to_owned();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from(name)?, stream)
        .await?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
