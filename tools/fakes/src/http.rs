//! An HTTP/1.1 server with little overhead. Benchmarks run the fakes on the machine that they measure, so a
//! fake parses requests and does no more. It supports persistent connections and bodies with a
//! `content-length`, which is all that the clients of the fakes use.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Maximum number of headers in a request.
const MAX_HEADERS: usize = 48;

/// A complete request.
#[derive(Clone)]
pub struct Request {
    /// The time at which the last byte arrived.
    pub at: Instant,
    /// Head and body.
    pub raw: Bytes,
    body_at: usize,
}

impl Request {
    /// Body of the request.
    pub fn body(&self) -> Bytes {
        self.raw.slice(self.body_at..)
    }

    /// Parses the method, target and headers, and passes them to `read`.
    pub fn head<T>(&self, read: impl FnOnce(&httparse::Request<'_, '_>) -> T) -> Result<T> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        head.parse(&self.raw).context("a request cannot be read")?;
        Ok(read(&head))
    }

    /// The value of a header; `None` if it is missing or not UTF-8.
    pub fn header(&self, name: &str) -> Option<String> {
        let value = self.head(|head| {
            let mut headers = head.headers.iter();
            let header = headers.find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(header.value).ok().map(str::to_owned)
        });
        value.ok().flatten()
    }

    /// Request method.
    pub fn method(&self) -> &str {
        self.word(0)
    }

    /// Request target: path and query.
    pub fn target(&self) -> &str {
        self.word(1)
    }

    fn word(&self, number: usize) -> &str {
        let line = self.raw.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let word = line.split(|byte| *byte == b' ').nth(number).unwrap_or_default();
        std::str::from_utf8(word).unwrap_or_default()
    }
}

/// The deviation of a fake from the service's normal behaviour at one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// The request is carried out and answered.
    #[default]
    None,
    /// The request is answered with this status and error code, and is not carried out.
    Error(u16, &'static str),
    /// The request is carried out after this time.
    Slow(Duration),
    /// The request is never answered and not carried out.
    Hang,
    /// The request is carried out, but the connection is closed without an answer.
    AnswerLost,
}

/// A serialised response.
pub(crate) type Reply = Bytes;

/// Serialises a response with a body. Each line of `headers` ends with CRLF.
pub(crate) fn reply(status: u16, headers: &str, body: &[u8]) -> Reply {
    let length = body.len();
    let mut reply = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n").into_bytes();
    reply.extend_from_slice(body);
    reply.into()
}

/// Serialises a response that has no body, because of its status or because it answers a HEAD request. The
/// headers are those of a possible body.
pub(crate) fn without_body(status: u16, headers: &str) -> Reply {
    format!("HTTP/1.1 {status} X\r\n{headers}\r\n").into()
}

/// A service behind a [`Server`].
pub(crate) trait Service: Send + Sync + 'static {
    /// Chooses the fault of a request.
    fn fault(&self, request: &Request) -> Fault;

    /// An error in the service's format.
    fn error(&self, status: u16, code: &str) -> Reply;

    /// Carries out a request.
    fn answer(&self, request: &Request) -> Reply;
}

/// A server, which stops accepting connections when dropped.
pub struct Server {
    /// The address on which the server listens.
    pub address: SocketAddr,
    counters: Arc<Counters>,
    tls: bool,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Counters {
    connects: AtomicU64,
    requests: AtomicU64,
    latency_us: AtomicU64,
    observer: OnceLock<Observer>,
}

type Observer = Box<dyn Fn(&Request) + Send + Sync>;

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    /// Starts a server on a local port; with `tls`, it serves HTTPS.
    pub(crate) async fn start(tls: Option<TlsAcceptor>, service: Arc<impl Service>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let address = listener.local_addr().context("cannot listen")?;
        let counters = Arc::new(Counters::default());
        let (counted, is_tls) = (Arc::clone(&counters), tls.is_some());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.connects.fetch_add(1, Ordering::Relaxed);
                let _ = stream.set_nodelay(true);
                let (service, tls, counted) = (Arc::clone(&service), tls.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => serve(tls.accept(stream).await?, &*service, &counted).await,
                        None => serve(stream, &*service, &counted).await,
                    }
                });
            }
        });
        Ok(Self {
            address,
            counters,
            tls: is_tls,
            accepting,
        })
    }

    /// URL of the server with this host, which is a name or an address of this machine.
    pub fn url(&self, host: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{host}:{}", self.address.port())
    }

    /// Sets the time from a request's arrival to its response.
    pub fn set_latency(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.counters.latency_us.store(micros, Ordering::Relaxed);
    }

    /// Calls `observer` with each later request before it is answered. To be called once.
    pub fn observe(&self, observer: impl Fn(&Request) + Send + Sync + 'static) {
        let _ = self.counters.observer.set(Box::new(observer));
    }

    /// Connections accepted since the last call.
    pub fn take_connects(&self) -> u64 {
        self.counters.connects.swap(0, Ordering::Relaxed)
    }

    /// Requests since the last call.
    pub fn take_requests(&self) -> u64 {
        self.counters.requests.swap(0, Ordering::Relaxed)
    }
}

/// Serves one connection until it is closed.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    service: &impl Service,
    counters: &Counters,
) -> std::io::Result<()> {
    let mut buffer = BytesMut::with_capacity(8 * 1024);
    loop {
        let Some(request) = next(&mut stream, &mut buffer).await? else {
            return Ok(());
        };
        counters.requests.fetch_add(1, Ordering::Relaxed);
        if let Some(observer) = counters.observer.get() {
            observer(&request);
        }
        let at = request.at;
        let reply = match service.fault(&request) {
            Fault::None => service.answer(&request),
            Fault::Error(status, code) => service.error(status, code),
            Fault::Slow(delay) => {
                tokio::time::sleep(delay).await;
                service.answer(&request)
            }
            Fault::Hang => {
                while stream.read_buf(&mut buffer).await? > 0 {}
                return Ok(());
            }
            Fault::AnswerLost => {
                service.answer(&request);
                return Ok(());
            }
        };
        let micros = counters.latency_us.load(Ordering::Relaxed);
        if micros > 0 {
            tokio::time::sleep_until((at + Duration::from_micros(micros)).into()).await;
        }
        stream.write_all(&reply).await?;
        stream.flush().await?;
    }
}

/// Reads the next request; `None` if the connection is closed or the data is not a valid request.
async fn next(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> std::io::Result<Option<Request>> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        match head.parse(buffer) {
            Ok(httparse::Status::Complete(body_at)) => {
                let length = head
                    .headers
                    .iter()
                    .find(|header| header.name.eq_ignore_ascii_case("content-length"))
                    .and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok())
                    .unwrap_or_default();
                buffer.reserve((body_at + length).saturating_sub(buffer.len()));
                while buffer.len() < body_at + length {
                    if stream.read_buf(buffer).await? == 0 {
                        return Ok(None);
                    }
                }
                return Ok(Some(Request {
                    at: Instant::now(),
                    raw: buffer.split_to(body_at + length).freeze(),
                    body_at,
                }));
            }
            Ok(httparse::Status::Partial) => {
                buffer.reserve(4 * 1024);
                if stream.read_buf(buffer).await? == 0 {
                    return Ok(None);
                }
            }
            Err(_) => return Ok(None),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::net::TcpStream;

    use super::*;

    /// Sends a request and returns everything until the server closes the connection.
    pub(crate) async fn send(server: &Server, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Answers with the body, and with the fault that the target names.
    struct Echo;

    impl Service for Echo {
        fn fault(&self, request: &Request) -> Fault {
            match request.target() {
                "/error" => Fault::Error(503, "Busy"),
                "/hang" => Fault::Hang,
                "/lost" => Fault::AnswerLost,
                _ => Fault::None,
            }
        }

        fn error(&self, status: u16, code: &str) -> Reply {
            reply(status, "", code.as_bytes())
        }

        fn answer(&self, request: &Request) -> Reply {
            reply(200, "", &request.body())
        }
    }

    #[tokio::test]
    async fn a_fault_replaces_the_answer() {
        let server = Server::start(None, Arc::new(Echo)).await.unwrap();
        let answers = [
            ("/", "HTTP/1.1 200 X\r\ncontent-length: 5\r\n\r\nhello"),
            ("/error", "HTTP/1.1 503 X\r\ncontent-length: 4\r\n\r\nBusy"),
            ("/hang", ""),
            ("/lost", ""),
        ];
        for (target, expected) in answers {
            let answer = send(&server, &format!("POST {target} HTTP/1.1"), "hello").await;
            assert_eq!(answer, expected, "{target}");
        }
        assert_eq!(
            (
                server.take_requests(),
                server.take_connects(),
                server.take_requests()
            ),
            (4, 4, 0)
        );
    }
}
