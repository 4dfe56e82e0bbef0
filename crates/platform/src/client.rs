//! The HTTP client of a function, used by the AWS SDK and by requests without the SDK. It speaks HTTP/1.1 and
//! keeps connections alive.
//!
//! The SDK's own client would add HTTP/2, which none of the services used here speaks with it, and needs more
//! CPU for each request.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use thiserror::Error as ThisError;
use tokio::net::TcpStream;
use tokio::time::{Instant, error::Elapsed, timeout};
use tokio_rustls::TlsConnector;

/// The timeout for connecting: TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(800);

/// The timeout for connecting to one address before the next one is tried, because a network may route only
/// IPv4 or only IPv6. A server's first two addresses, one of each family if it has both, are tried within
/// `CONNECT_TIMEOUT`.
const ADDRESS_TIMEOUT: Duration = Duration::from_millis(300);

/// The longest time for which an idle connection is reused. While Lambda has the environment frozen, the
/// server or the network may have dropped the connection.
const MAX_IDLE: Duration = Duration::from_mins(1);

/// The maximum size of a response body in bytes. The largest responses are lists of a thousand parts.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// The reason why there is no response.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The URL has no host, or its scheme is not `http` or `https`.
    #[error("not the URL of an HTTP server")]
    Url,
    /// Connecting took longer than the timeout.
    #[error("not connected within {CONNECT_TIMEOUT:?}")]
    ConnectTimeout(#[from] Elapsed),
    /// TCP or TLS failed to connect.
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    /// The connection failed during the request or the response.
    #[error("the exchange broke off")]
    Broken(#[from] hyper::Error),
    /// The request is not valid HTTP.
    #[error("not a request")]
    Request(#[source] BoxError),
    /// The response body could not be read, or is larger than 16 MiB.
    #[error("the answer cannot be read")]
    Answer(#[source] BoxError),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request with its whole body in memory.
pub type Sent = Request<Full<Bytes>>;

/// A server, identified by scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    tls: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// The server of a URL; the default port is that of the scheme.
    pub fn of(uri: &Uri) -> Result<Self, Error> {
        let (tls, port) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return Err(Error::Url),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(Error::Url)?;
        Ok(Self {
            tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(port),
        })
    }
}

/// The HTTP client. Clones share their connections.
#[derive(Clone)]
pub struct HttpClient(Arc<Inner>);

struct Inner {
    tls: TlsConnector,
    idle: Mutex<HashMap<Origin, Vec<Idle>>>,
}

/// A connection that is kept for later requests.
struct Idle {
    sender: Sender,
    since: Instant,
}

type Sender = SendRequest<Full<Bytes>>;

impl HttpClient {
    /// Makes a client that verifies servers as configured by `tls`.
    pub fn new(tls: ClientConfig) -> Self {
        Self(Arc::new(Inner {
            tls: TlsConnector::from(Arc::new(tls)),
            idle: Mutex::default(),
        }))
    }

    /// Returns this client for use by the AWS SDK.
    pub fn for_sdk(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }

    /// Opens a connection before the first request. Errors are ignored: the first request reports them.
    pub async fn warm_up(&self, server: &Origin) {
        if let Ok(sender) = self.connect(server).await {
            self.checkin(server, sender);
        }
    }

    /// The number of idle connections to a server.
    pub fn idle(&self, server: &Origin) -> usize {
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.get(server).map_or(0, Vec::len)
    }

    /// Sends a request and reads the whole response. The request must have its path alone as the URI and a
    /// `Host` header. There is no timeout for the response; the caller sets one.
    ///
    /// If a reused connection turns out to be closed, the request is sent again over another one, as the
    /// SDK's client does. The server may then receive it twice.
    pub async fn send(
        &self,
        server: &Origin,
        request: impl Fn() -> Result<Sent, BoxError>,
    ) -> Result<Response<Bytes>, Error> {
        loop {
            let kept = self.checkout(server);
            let reused = kept.is_some();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.connect(server).await?,
            };
            match exchange(&mut sender, request().map_err(Error::Request)?).await {
                Ok(answer) => {
                    self.checkin(server, sender);
                    return Ok(answer);
                }
                // The number of retries is limited by the number of idle connections.
                Err(Error::Broken(_)) if reused => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn connect(&self, server: &Origin) -> Result<Sender, Error> {
        timeout(CONNECT_TIMEOUT, async {
            let stream = connect_tcp(server).await.map_err(Error::Connect)?;
            if !server.tls {
                return spawn_connection(stream).await;
            }
            let name = ServerName::try_from(server.host.clone()).map_err(|_| Error::Url)?;
            let stream = self.0.tls.connect(name, stream).await;
            spawn_connection(stream.map_err(Error::Connect)?).await
        })
        .await?
    }

    fn checkout(&self, server: &Origin) -> Option<Sender> {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = idle.get_mut(server)?;
        while let Some(Idle { sender, since }) = idle.pop() {
            if sender.is_ready() && since.elapsed() < MAX_IDLE {
                return Some(sender);
            }
        }
        None
    }

    fn checkin(&self, server: &Origin, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let since = Instant::now();
        let mut all = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(server) {
            Some(idle) => idle.push(Idle { sender, since }),
            None => {
                all.insert(server.clone(), vec![Idle { sender, since }]);
            }
        }
    }
}

async fn connect_tcp(server: &Origin) -> std::io::Result<TcpStream> {
    let addresses = tokio::net::lookup_host((server.host.as_str(), server.port)).await?;
    connect_to_one(alternating(addresses)).await
}

/// Connects to the first address that responds within `ADDRESS_TIMEOUT`.
async fn connect_to_one(addresses: impl IntoIterator<Item = SocketAddr>) -> std::io::Result<TcpStream> {
    let mut last = None;
    for address in addresses {
        match timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = Some(error),
            Err(elapsed) => last = Some(elapsed.into()),
        }
    }
    Err(last.unwrap_or_else(|| std::io::ErrorKind::NotFound.into()))
}

/// Sorts addresses so that the families alternate, beginning with the family that the resolver prefers (RFC
/// 8305, section 4). Otherwise several addresses of an unreachable family would use up the time for the other
/// family.
fn alternating(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let addresses: Vec<SocketAddr> = addresses.into_iter().collect();
    let first_is_ipv4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let of_family = |ipv4| {
        let same = addresses.iter().filter(move |address| address.is_ipv4() == ipv4);
        same.enumerate()
            .map(move |(place, address)| (place, ipv4 != first_is_ipv4, *address))
    };
    let mut all: Vec<_> = of_family(true).chain(of_family(false)).collect();
    all.sort_by_key(|&(place, is_other_family, _)| (place, is_other_family));
    all.into_iter().map(|(_, _, address)| address).collect()
}

/// Starts HTTP on a stream, in a task that ends with the connection.
async fn spawn_connection<S>(stream: S) -> Result<Sender, Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // A connection error is reported by the exchange that it interrupts.
    tokio::spawn(connection);
    Ok(sender)
}

async fn exchange(sender: &mut Sender, request: Sent) -> Result<Response<Bytes>, Error> {
    sender.ready().await?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER)
        .collect()
        .await
        .map_err(Error::Answer)?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient")
    }
}

impl HttpConnector for HttpClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.clone();
        HttpConnectorFuture::new(async move {
            client.call_for_sdk(request).await.map_err(|error| match error {
                Error::ConnectTimeout(_) => ConnectorError::timeout(error.into()),
                Error::Url | Error::Request(_) => ConnectorError::user(error.into()),
                _ => ConnectorError::io(error.into()),
            })
        })
    }
}

impl HttpClient {
    async fn call_for_sdk(&self, request: HttpRequest) -> Result<HttpResponse, Error> {
        let unusable = |error: BoxError| Error::Request(error);
        let request = request
            .try_into_http1x()
            .map_err(|error| unusable(error.into()))?;
        let (mut head, body) = request.into_parts();
        let server = Origin::of(&head.uri)?;
        let authority = head.uri.authority().ok_or(Error::Url)?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|error| unusable(error.into()))?;
        head.headers.entry(HOST).or_insert(host);
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path
            .parse()
            .map_err(|error: http::uri::InvalidUri| unusable(error.into()))?;
        let body = body.collect().await.map_err(Error::Request)?.to_bytes();
        let again = || Ok(Request::from_parts(head.clone(), Full::new(body.clone())));
        let answer = self.send(&server, again).await?.map(SdkBody::from);
        HttpResponse::try_from(answer).map_err(|error| Error::Answer(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::aws::Aws;
    use crate::config::Vars;

    fn client() -> HttpClient {
        Aws::from_vars(&Vars::from_lookup(|_| None)).unwrap().http
    }

    async fn listen() -> (TcpListener, Origin) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        (listener, Origin::of(&url.parse().unwrap()).unwrap())
    }

    fn request() -> Result<Sent, BoxError> {
        Ok(Request::post("/path")
            .header(HOST, "test")
            .body(Full::new(Bytes::from("body")))?)
    }

    /// Accepts connections in turn, responds to the given number of requests on each, and closes it.
    async fn serve(listener: TcpListener, connections: Vec<usize>) -> usize {
        let mut served = 0;
        for requests in connections {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..requests {
                let mut raw = Vec::new();
                while !raw.ends_with(b"body") {
                    assert!(stream.read_buf(&mut raw).await.unwrap() > 0);
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
                served += 1;
            }
        }
        served
    }

    #[tokio::test]
    async fn connections_are_used_again_and_replaced_when_they_were_closed() {
        let ((listener, server), client) = (listen().await, client());
        // The server closes the first connection, so the client opens a second one.
        let (answered, ()) = tokio::join!(serve(listener, vec![2, 1]), async {
            for _ in 0..3 {
                let answer = client.send(&server, request).await.unwrap();
                assert_eq!(answer.into_body(), "ok");
            }
        });
        assert_eq!(answered, 3);
    }

    #[tokio::test]
    async fn a_request_that_a_kept_connection_swallows_is_sent_over_a_new_one() {
        let ((listener, server), client) = (listen().await, client());
        let serving = async {
            let (mut first, _) = listener.accept().await.unwrap();
            let mut raw = Vec::new();
            while !raw.ends_with(b"body") {
                first.read_buf(&mut raw).await.unwrap();
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            first.write_all(answer).await.unwrap();
            // Closes the connection without a response to the next request, like a server with an idle
            // timeout.
            first.read_buf(&mut raw).await.unwrap();
            drop(first);
            serve(listener, vec![1]).await
        };
        let (answered, ()) = tokio::join!(serving, async {
            for _ in 0..2 {
                client.send(&server, request).await.unwrap();
            }
        });
        assert_eq!(answered, 1);
    }

    #[tokio::test]
    async fn what_is_not_there_or_hangs_or_breaks_off_is_an_error_soon() {
        let ((listener, server), client) = (listen().await, client());
        let (broken, ()) = tokio::join!(client.send(&server, request), async {
            drop(listener.accept().await.unwrap());
        });
        assert!(matches!(broken, Err(Error::Broken(_))), "{broken:?}");
        drop(listener);
        let absent = client.send(&server, request).await;
        assert!(matches!(absent, Err(Error::Connect(_))), "{absent:?}");
        // This server accepts connections but never starts TLS.
        let (silent, mut server) = listen().await;
        server.tls = true;
        let hung = client.send(&server, request).await;
        assert!(matches!(hung, Err(Error::ConnectTimeout(_))), "{hung:?}");
        drop(silent);
    }

    #[test]
    fn addresses_of_both_families_are_tried_in_turn() {
        let of = |addresses: &[&str]| {
            let parsed = addresses.iter().map(|address| address.parse().unwrap());
            let ordered = alternating(parsed).into_iter();
            ordered
                .map(|address| address.ip().to_string())
                .collect::<Vec<_>>()
        };
        let [first, second, third] = ["192.0.2.1:443", "192.0.2.2:443", "192.0.2.3:443"];
        let [one, other] = ["[2001:db8::1]:443", "[2001:db8::2]:443"];
        assert_eq!(
            of(&[first, second, third, one, other]),
            [
                "192.0.2.1",
                "2001:db8::1",
                "192.0.2.2",
                "2001:db8::2",
                "192.0.2.3"
            ]
        );
        assert_eq!(
            of(&[one, other, first]),
            ["2001:db8::1", "192.0.2.1", "2001:db8::2"]
        );
        assert_eq!(of(&[second, first]), ["192.0.2.2", "192.0.2.1"]);
        assert!(of(&[]).is_empty());
        // One address of each family is tried in time, and the rest of the timeout is left for TLS.
        assert!(ADDRESS_TIMEOUT * 2 < CONNECT_TIMEOUT);
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_followed_by_the_next() {
        let (listener, _) = listen().await;
        let there = listener.local_addr().unwrap();
        let absent = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let stream = connect_to_one([absent, there]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), there);
        let refused = connect_to_one([absent]).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_server_is_a_urls() {
        let of = |url: &str| Origin::of(&url.parse().unwrap());
        let server = |tls, host: &str, port| Origin {
            tls,
            host: host.to_owned(),
            port,
        };
        assert_eq!(
            of("https://a.example/b?c").unwrap(),
            server(true, "a.example", 443)
        );
        assert_eq!(of("http://[::1]:8080").unwrap(), server(false, "::1", 8080));
        assert!(matches!(of("/path"), Err(Error::Url)));
        assert!(matches!(of("ftp://a.example/"), Err(Error::Url)));
    }
}
