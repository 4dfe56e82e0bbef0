//! The one HTTP client of a function: HTTP/1.1 with connections that are kept, for the AWS SDK and for what is sent without it.
//!
//! The SDK's own client would bring HTTP/2, which none of the services here speaks to it, and more CPU for each request.

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

/// How long TCP and TLS may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(800);

/// How long each of a server's addresses is waited for, before the next is tried: a network may have a way to IPv4 or to IPv6 alone. A
/// server's first two addresses, one of each family where it has both, are tried within `CONNECT_TIMEOUT`.
const ADDRESS_TIMEOUT: Duration = Duration::from_millis(300);

/// How long a connection may be unused until it is taken for dead: the server or something on the way may have dropped it while Lambda had the
/// environment frozen.
const MAX_IDLE: Duration = Duration::from_mins(1);

/// How much is read of an answer, in bytes. The longest are pages of a thousand parts.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The URL has no host, or is of another scheme.
    #[error("not the URL of an HTTP server")]
    Url,
    /// There was no connection in time.
    #[error("not connected within {CONNECT_TIMEOUT:?}")]
    ConnectTimeout(#[from] Elapsed),
    /// There is no connection.
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    /// The request or the answer broke off.
    #[error("the exchange broke off")]
    Broken(#[from] hyper::Error),
    /// The request cannot be one.
    #[error("not a request")]
    Request(#[source] BoxError),
    /// The answer cannot be read.
    #[error("the answer cannot be read")]
    Answer(#[source] BoxError),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request, all of it in memory.
pub type Sent = Request<Full<Bytes>>;

/// A server, by the URL's scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    tls: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// The server of a URL.
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

/// The client; clones share their connections.
#[derive(Clone)]
pub struct HttpClient(Arc<Inner>);

struct Inner {
    tls: TlsConnector,
    idle: Mutex<HashMap<Origin, Vec<Idle>>>,
}

/// A connection that nobody is using.
struct Idle {
    sender: Sender,
    since: Instant,
}

type Sender = SendRequest<Full<Bytes>>;

impl HttpClient {
    /// Believes servers as `tls` says.
    pub fn new(tls: ClientConfig) -> Self {
        Self(Arc::new(Inner {
            tls: TlsConnector::from(Arc::new(tls)),
            idle: Mutex::default(),
        }))
    }

    /// For the SDK.
    pub fn for_sdk(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }

    /// Makes a connection before there is something to send. That there is none is for the first request to say.
    pub async fn warm_up(&self, server: &Origin) {
        if let Ok(sender) = self.connect(server).await {
            self.checkin(server, sender);
        }
    }

    /// How many connections to a server there are that nobody is using.
    pub fn idle(&self, server: &Origin) -> usize {
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.get(server).map_or(0, Vec::len)
    }

    /// Sends a request, with its path alone as the target and a header `Host`, and reads all of the answer. How long that may take is up to the
    /// caller.
    ///
    /// If a connection that was kept turns out to have been closed, it is sent over another one, as the SDK would: the server may have got it
    /// twice.
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
                // There are no more of these than were kept.
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

/// Connects to the first address that answers in time.
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

/// The same addresses, one of each family in turn, beginning with the family that the resolver prefers (RFC 8305, section 4): several
/// addresses of a family that leads nowhere would use up the time for the other.
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

/// Speaks HTTP over a stream, in a task that ends with the connection.
async fn spawn_connection<S>(stream: S) -> Result<Sender, Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // What breaks shows in the exchange that it breaks.
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

    /// Answers so many requests of each connection, and then closes it.
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
        // The second connection is made because the server has closed the first.
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
            // Closes with the next request unanswered, as whoever was about to close anyway.
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
        // Takes connections, and says nothing of TLS.
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
        // Both families get their turn in time, and TLS what is left.
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
