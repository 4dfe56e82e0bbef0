//! Fakes of AWS services in this process. They speak HTTP/1.1 with little overhead, so that benchmarks
//! measure the client.
//!
//! Requests are recorded, and checked outside the measured time.

pub(crate) mod posts;
pub(crate) mod s3;
pub(crate) mod sqs;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
pub(crate) struct Request {
    pub(crate) at: Instant,
    pub(crate) raw: Bytes,
    body_at: usize,
}

impl Request {
    /// Body of the request.
    pub(crate) fn body(&self) -> Bytes {
        self.raw.slice(self.body_at..)
    }

    /// Parses the method, target and headers, and passes them to `read`.
    pub(crate) fn head<T>(&self, read: impl FnOnce(&httparse::Request<'_, '_>) -> T) -> Result<T> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        head.parse(&self.raw).context("a request cannot be read")?;
        Ok(read(&head))
    }

    /// Request target: path and query.
    pub(crate) fn target(&self) -> &str {
        let line = self.raw.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let target = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        std::str::from_utf8(target).unwrap_or_default()
    }
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

type Service = Arc<dyn Fn(Request) -> Reply + Send + Sync>;

/// A server, which stops accepting connections when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Connections accepted since the last [`Self::take_connects`].
    pub(crate) connects: Arc<AtomicU64>,
    latency: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    /// Starts a server on a local port; with `tls`, it serves HTTPS.
    pub(crate) async fn start(tls: Option<TlsAcceptor>, service: Service) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let address = listener.local_addr().context("cannot listen")?;
        let (connects, latency) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (counted, delay) = (Arc::clone(&connects), Arc::clone(&latency));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let _ = stream.set_nodelay(true);
                let (service, tls, delay) = (Arc::clone(&service), tls.clone(), Arc::clone(&delay));
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => serve(tls.accept(stream).await?, &service, &delay).await,
                        None => serve(stream, &service, &delay).await,
                    }
                });
            }
        });
        Ok(Self {
            address,
            connects,
            latency,
            accepting,
        })
    }

    /// Sets the time from a request's arrival to its response.
    pub(crate) fn set_latency(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency.store(micros, Ordering::Relaxed);
    }

    /// Connections accepted since the last call.
    pub(crate) fn take_connects(&self) -> u64 {
        self.connects.swap(0, Ordering::Relaxed)
    }
}

/// Serves one connection until it is closed.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    service: &Service,
    latency: &AtomicU64,
) -> std::io::Result<()> {
    let mut buffer = BytesMut::with_capacity(8 * 1024);
    loop {
        let Some(request) = next(&mut stream, &mut buffer).await? else {
            return Ok(());
        };
        let at = request.at;
        let reply = service(request);
        let micros = latency.load(Ordering::Relaxed);
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
