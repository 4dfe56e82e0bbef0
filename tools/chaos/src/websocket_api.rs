//! A fake of the WebSocket API. Handshakes invoke `connections`. `@connections` accepts frames for open
//! sockets, which are channels to the devices in this process.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use platform::{Clock, ids};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::faults::{FaultInjector, Kind};
use super::functions::Functions;
use super::proxy::Proxy;

/// The state of a connection ID.
enum Connection {
    /// `$connect` is still running.
    Connecting,
    Open(mpsc::UnboundedSender<Bytes>),
    /// The client does not read, so posts to it hang.
    Deaf,
}

/// The running fake.
pub(crate) struct Sockets {
    connections: Mutex<HashMap<String, Connection>>,
    /// The number of frames that devices have not handled yet.
    pending: AtomicUsize,
    hanging_posts: AtomicUsize,
    forbidden: AtomicBool,
    faults: Arc<FaultInjector>,
    proxy: OnceLock<Proxy>,
    functions: OnceLock<Arc<Functions>>,
}

/// The device's end of a socket.
pub(crate) struct Socket {
    frames: mpsc::UnboundedReceiver<Bytes>,
    sockets: Arc<Sockets>,
    handling: bool,
}

impl Socket {
    /// The next frame; `None` once the socket is closed. The frame before counts as handled from now on.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.handled();
        let frame = self.frames.recv().await;
        self.handling = frame.is_some();
        frame
    }

    fn handled(&mut self) {
        if std::mem::take(&mut self.handling) {
            self.sockets.pending.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.handled();
        self.frames.close();
        while self.frames.try_recv().is_ok() {
            self.sockets.pending.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Sockets {
    /// Starts the fake behind a proxy.
    pub(crate) async fn start(
        faults: Arc<FaultInjector>,
        tasks: &mut JoinSet<()>,
    ) -> Result<(Arc<Self>, Proxy)> {
        let sockets = Arc::new(Self {
            connections: Mutex::default(),
            pending: AtomicUsize::new(0),
            hanging_posts: AtomicUsize::new(0),
            forbidden: AtomicBool::new(false),
            faults,
            proxy: OnceLock::new(),
            functions: OnceLock::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let proxy = Proxy::start(listener.local_addr().context("cannot listen")?).await?;
        let _ = sockets.proxy.set(proxy.clone());
        let app = Router::new()
            .route("/live/@connections/{id}", post(take).delete(close))
            .with_state(Arc::clone(&sockets))
            .into_make_service_with_connect_info::<SocketAddr>();
        tasks.spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok((sockets, proxy))
    }

    /// Sets the functions that handle the routes. To be called once.
    pub(crate) fn set_functions(&self, functions: Arc<Functions>) {
        let _ = self.functions.set(functions);
    }

    /// Starts or stops answering every post with 403.
    pub(crate) fn forbid(&self, forbidden: bool) {
        self.forbidden.store(forbidden, Ordering::SeqCst);
    }

    /// The number of frames that devices have not handled yet.
    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::SeqCst)
    }

    /// Opens a connection. `None` if the handshake is refused or fails.
    pub(crate) async fn connect(self: &Arc<Self>, ticket: &str) -> Option<Socket> {
        let id = format!("{}=", ids::new_id().simple());
        self.set(&id, Connection::Connecting);
        let slow = self.faults.inject(Kind::HandshakeSlow);
        let delay = || async {
            if slow {
                tokio::time::sleep(self.faults.millis(Kind::HandshakeSlow, 25..750)).await;
            }
        };
        delay().await;
        let event = event("$connect", "CONNECT", &id, Some(ticket));
        let answer = self.functions.get()?.track_connections(event).await;
        // The connection does not exist before the client has its answer.
        delay().await;
        let status = answer
            .ok()
            .and_then(|answer| serde_json::from_slice::<Status>(&answer).ok());
        if status.is_none_or(|status| status.status_code != 200) {
            self.remove(&id);
            return None;
        }
        let (sender, frames) = mpsc::unbounded_channel();
        self.set(&id, Connection::Open(sender));
        Some(Socket {
            frames,
            sockets: Arc::clone(self),
            handling: false,
        })
    }

    /// Opens a connection whose client reads nothing. Returns whether the handshake succeeded.
    pub(crate) async fn connect_deaf(&self, ticket: &str) -> bool {
        let id = format!("{}=", ids::new_id().simple());
        self.set(&id, Connection::Connecting);
        let event = event("$connect", "CONNECT", &id, Some(ticket));
        let answer = match self.functions.get() {
            Some(functions) => functions.track_connections(event).await.ok(),
            None => None,
        };
        let status = answer.and_then(|answer| serde_json::from_slice::<Status>(&answer).ok());
        let connected = status.is_some_and(|status| status.status_code == 200);
        if connected {
            self.set(&id, Connection::Deaf);
        } else {
            self.remove(&id);
        }
        connected
    }

    /// The number of open sockets that nobody reads.
    pub(crate) fn deaf(&self) -> usize {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections
            .values()
            .filter(|state| matches!(state, Connection::Deaf))
            .count()
    }

    /// The number of posts to sockets that nobody reads.
    pub(crate) fn hanging_posts(&self) -> usize {
        self.hanging_posts.load(Ordering::Relaxed)
    }

    fn is_deaf(&self, id: &str) -> bool {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(connections.get(id), Some(Connection::Deaf))
    }

    /// Closes one open socket. `$disconnect` follows unless a fault suppresses it.
    pub(crate) async fn drop_one(&self) {
        let id = {
            let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
            let mut open: Vec<String> = connections
                .iter()
                .filter(|(_, state)| matches!(state, Connection::Open(_)))
                .map(|(id, _)| id.clone())
                .collect();
            if open.is_empty() {
                return;
            }
            // The map has no stable order; IDs sort by age.
            open.sort_unstable();
            let id = open.swap_remove(self.faults.number(Kind::SocketDropped, 0..open.len()));
            connections.remove(&id);
            id
        };
        self.faults.count(Kind::SocketDropped);
        if self.faults.inject(Kind::DisconnectLost) {
            return;
        }
        if let Some(functions) = self.functions.get() {
            // API Gateway does not retry `$disconnect` either.
            let _ = functions
                .track_connections(event("$disconnect", "DISCONNECT", &id, None))
                .await;
        }
    }

    fn set(&self, id: &str, state: Connection) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.insert(id.to_owned(), state);
    }

    fn remove(&self, id: &str) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.remove(id);
    }

    fn deliver(&self, id: &str, frame: Bytes) -> bool {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = match connections.get(id) {
            Some(Connection::Open(sender)) => sender,
            Some(Connection::Connecting) => {
                self.faults.count(Kind::NotYetConnected);
                return false;
            }
            Some(Connection::Deaf) | None => return false,
        };
        self.pending.fetch_add(1, Ordering::SeqCst);
        let sent = sender.send(frame).is_ok();
        if !sent {
            self.pending.fetch_sub(1, Ordering::SeqCst);
        }
        sent
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    status_code: u16,
}

async fn take(
    State(sockets): State<Arc<Sockets>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(id): Path<String>,
    frame: Bytes,
) -> Response {
    let faults = &sockets.faults;
    if sockets.forbidden.load(Ordering::SeqCst) {
        return refusal(StatusCode::FORBIDDEN, "ForbiddenException");
    }
    if sockets.is_deaf(&id) {
        sockets.hanging_posts.fetch_add(1, Ordering::Relaxed);
        return std::future::pending().await;
    }
    if faults.inject(Kind::Throttled) {
        return refusal(StatusCode::TOO_MANY_REQUESTS, "LimitExceededException");
    }
    if faults.inject(Kind::PostFailed) {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerErrorException");
    }
    if faults.inject(Kind::PostUnavailable) {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException");
    }
    if faults.inject(Kind::PostHung) {
        tokio::time::sleep(faults.millis(Kind::PostHung, 1_000..5_000)).await;
    }
    if faults.inject(Kind::PostSlow) {
        tokio::time::sleep(faults.millis(Kind::PostSlow, 50..600)).await;
    }
    if !sockets.deliver(&id, frame) {
        return refusal(StatusCode::GONE, "GoneException");
    }
    if let Some(proxy) = sockets.proxy.get()
        && faults.inject(Kind::PostAnswerLost)
    {
        proxy.cut(peer);
        return std::future::pending().await;
    }
    StatusCode::OK.into_response()
}

/// `DeleteConnection`: closes the socket of the client.
async fn close(State(sockets): State<Arc<Sockets>>, Path(id): Path<String>) -> StatusCode {
    sockets.remove(&id);
    StatusCode::NO_CONTENT
}

fn refusal(status: StatusCode, kind: &'static str) -> Response {
    (status, [("x-amzn-ErrorType", kind)], r#"{"message":"as told"}"#).into_response()
}

fn event(route: &str, kind: &str, connection_id: &str, ticket: Option<&str>) -> Bytes {
    let now = Clock::system().now().unix_timestamp_nanos() / 1_000_000;
    let now = i64::try_from(now).unwrap_or_default();
    let mut event = json!({
        "headers": { "Host": "chaos.example" },
        "multiValueHeaders": { "Host": ["chaos.example"] },
        "requestContext": {
            "routeKey": route,
            "eventType": kind,
            "extendedRequestId": connection_id,
            "requestTime": "24/Nov/2025:16:00:00 +0000",
            "messageDirection": "IN",
            "stage": "live",
            "connectedAt": now,
            "requestTimeEpoch": now,
            "identity": { "sourceIp": "127.0.0.1", "userAgent": "chaos" },
            "requestId": ids::new_id().to_string(),
            "domainName": "chaos.example",
            "connectionId": connection_id,
            "apiId": "chaos",
        },
        "isBase64Encoded": false,
    });
    if let Some(ticket) = ticket {
        event["queryStringParameters"] = json!({ "ticket": ticket });
        event["multiValueQueryStringParameters"] = json!({ "ticket": [ticket] });
    }
    Bytes::from(event.to_string())
}
