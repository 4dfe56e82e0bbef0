//! A fake of the WebSocket API. Handshakes invoke `connections`. `@connections` accepts frames for open
//! sockets, which are channels to the devices in this process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use fakes::connections::Clients;
use fakes::http::{Fault, Request};
use lambda::events::SocketEvent;
use parking_lot::Mutex;
use platform::ids;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::faults::{FaultInjector, Kind};
use super::functions::Functions;

/// The state of a connection ID.
enum Connection {
    /// `$connect` is still running.
    Connecting,
    Open(mpsc::UnboundedSender<Bytes>),
    /// The client does not read, so posts to it hang.
    Deaf,
}

/// The WebSocket API.
pub(crate) struct Sockets {
    connections: Mutex<HashMap<String, Connection>>,
    /// The number of frames that devices have not handled yet.
    pending: AtomicUsize,
    hanging_posts: AtomicUsize,
    forbidden: AtomicBool,
    faults: Arc<FaultInjector>,
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
    /// A WebSocket API without connections.
    pub(crate) fn new(faults: Arc<FaultInjector>) -> Self {
        Self {
            connections: Mutex::default(),
            pending: AtomicUsize::new(0),
            hanging_posts: AtomicUsize::new(0),
            forbidden: AtomicBool::new(false),
            faults,
            functions: OnceLock::new(),
        }
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
        let answer = self.functions.get()?.connections(event).await;
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
            Some(functions) => functions.connections(event).await.ok(),
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
        let connections = self.connections.lock();
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
        let connections = self.connections.lock();
        matches!(connections.get(id), Some(Connection::Deaf))
    }

    /// Closes one open socket. `$disconnect` follows unless a fault suppresses it.
    pub(crate) async fn drop_one(&self) {
        let id = {
            let mut connections = self.connections.lock();
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
                .connections(event("$disconnect", "DISCONNECT", &id, None))
                .await;
        }
    }

    fn set(&self, id: &str, state: Connection) {
        let mut connections = self.connections.lock();
        connections.insert(id.to_owned(), state);
    }

    fn remove(&self, id: &str) {
        let mut connections = self.connections.lock();
        connections.remove(id);
    }

    fn deliver(&self, id: &str, frame: Bytes) -> bool {
        let connections = self.connections.lock();
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

impl Clients for Sockets {
    fn fault(&self, id: &str, request: &Request) -> Fault {
        let faults = &self.faults;
        if request.method() == "DELETE" {
            Fault::None
        } else if self.forbidden.load(Ordering::SeqCst) {
            Fault::Error(403, "ForbiddenException")
        } else if self.is_deaf(id) {
            self.hanging_posts.fetch_add(1, Ordering::Relaxed);
            Fault::Hang
        } else if faults.inject(Kind::Throttled) {
            Fault::Error(429, "LimitExceededException")
        } else if faults.inject(Kind::PostFailed) {
            Fault::Error(500, "InternalServerErrorException")
        } else if faults.inject(Kind::PostUnavailable) {
            Fault::Error(503, "ServiceUnavailableException")
        } else if faults.inject(Kind::PostHung) {
            Fault::Slow(faults.millis(Kind::PostHung, 1_000..5_000))
        } else if faults.inject(Kind::PostSlow) {
            Fault::Slow(faults.millis(Kind::PostSlow, 50..600))
        } else if faults.inject(Kind::PostAnswerLost) {
            Fault::AnswerLost
        } else {
            Fault::None
        }
    }

    fn post(&self, id: &str, request: &Request) -> bool {
        self.deliver(id, request.body())
    }

    fn close(&self, id: &str, _: &Request) {
        self.remove(id);
    }
}

fn event(route: &str, kind: &str, connection_id: &str, ticket: Option<&str>) -> Bytes {
    let event = SocketEvent {
        route,
        kind,
        stage: "live",
        connection_id,
        ticket,
        message: None,
    };
    Bytes::from(event.event())
}
