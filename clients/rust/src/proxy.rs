//! TCP connections for WebSockets, direct or through the proxy that the environment names.

use std::fmt::Debug;
use std::io;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::http::Uri;
use tower_service::Service as _;

/// A connection, direct or through a proxy, that TLS and the WebSocket run on.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin> Stream for T {}

pub(crate) type BoxedStream = Box<dyn Stream>;

/// The proxy settings, with the same rules that reqwest uses.
pub(crate) struct Proxies(Matcher);

impl Proxies {
    /// Reads `HTTPS_PROXY` (for `wss`), `HTTP_PROXY` (for `ws`), `ALL_PROXY` and `NO_PROXY`.
    pub(crate) fn from_environment() -> Self {
        Self(Matcher::from_env())
    }

    /// One proxy for all hosts except those in `no`, which has the format of `NO_PROXY`.
    #[cfg(test)]
    pub(crate) fn all(proxy: &str, no: &str) -> Self {
        Self(Matcher::builder().all(proxy).no(no).build())
    }

    /// Connects to the host of a WebSocket URL, through its proxy if there is one.
    pub(crate) async fn connect(&self, url: &Uri) -> io::Result<BoxedStream> {
        let (scheme, port) = match url.scheme_str() {
            Some("wss") => ("https", 443),
            _ => ("http", 80),
        };
        let host = url.host().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the URL of the WebSocket has no host",
            )
        })?;
        let port = url.port_u16().unwrap_or(port);
        let target: Uri = format!("{scheme}://{host}:{port}/")
            .parse()
            .map_err(io::Error::other)?;
        if let Some(proxy) = self.0.intercept(&target) {
            return connect_through_proxy(&proxy, target).await;
        }
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// Opens a tunnel with CONNECT, for `ws` as well as `wss` (RFC 6455, section 4.1).
async fn connect_through_proxy(proxy: &Intercept, target: Uri) -> io::Result<BoxedStream> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()?
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    let mut tunnel = Tunnel::new(proxy.uri().clone(), connector);
    if let Some(auth) = proxy.basic_auth() {
        tunnel = tunnel.with_auth(auth.clone());
    }
    let tunneled = tunnel.call(target).await.map_err(|error| {
        let authority = proxy.uri().authority();
        let name = authority.map_or("", |authority| authority.as_str());
        let cause = std::error::Error::source(&error).map_or(String::new(), |cause| format!(": {cause}"));
        io::Error::other(format!(
            "the proxy {name} did not open a connection: {error}{cause}"
        ))
    })?;
    Ok(Box::new(TokioIo::new(tunneled)))
}
