//! A fake of the WebSocket API: real WebSockets, whose routes are those of the template.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use axum::http::StatusCode;
use fakes::connections::{Clients, Connections};
use fakes::http::Request;
use futures_util::{SinkExt as _, StreamExt as _};
use lambda::events::SocketEvent;
use parking_lot::Mutex;
use platform::ids;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, block_in_place};
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request as Handshake, Response};

use crate::counts::Meter;
use crate::functions::Functions;
use crate::template::Template;

/// The stage of the WebSocket API.
const STAGE: &str = "live";

/// The running fake, which stops when dropped.
pub(crate) struct Sockets {
    open: Arc<Open>,
    server: JoinHandle<()>,
    /// `@connections`.
    pub(crate) posts: Connections,
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The open connections.
struct Open {
    senders: Mutex<HashMap<String, mpsc::UnboundedSender<Bytes>>>,
    meter: Arc<Meter>,
    /// The number of connections from before `$connect` until after `$disconnect`.
    count: watch::Sender<usize>,
}

impl Clients for Open {
    fn post(&self, connection_id: &str, request: &Request) -> bool {
        let senders = self.senders.lock();
        let Some(sender) = senders.get(connection_id) else {
            return false;
        };
        let frame = request.body();
        self.meter.message_out(frame.len());
        sender.send(frame).is_ok()
    }

    fn close(&self, connection_id: &str, _: &Request) {
        self.senders.lock().remove(connection_id);
    }
}

impl Sockets {
    /// Starts `@connections`, and listens on a port for clients.
    pub(crate) async fn bind(meter: Arc<Meter>) -> Result<(Self, TcpListener)> {
        let open = Arc::new(Open {
            senders: Mutex::default(),
            meter,
            count: watch::Sender::new(0),
        });
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await;
        let posts = Connections::start(None, Arc::clone(&open)).await?;
        let sockets = Self {
            open,
            server: tokio::spawn(async {}),
            posts,
        };
        Ok((sockets, listener.context("cannot listen")?))
    }

    /// The value of `WEBSOCKET_URL` for a port that [`bind`](Self::bind) returned.
    pub(crate) fn url(listener: &TcpListener) -> Result<String> {
        let address = listener.local_addr().context("cannot listen")?;
        Ok(format!("ws://{address}/{STAGE}"))
    }

    /// Accepts clients from now on.
    pub(crate) fn serve(
        &mut self,
        listener: TcpListener,
        template: Arc<Template>,
        functions: Arc<Functions>,
    ) {
        let open = Arc::clone(&self.open);
        self.server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = Connection {
                    id: format!("{}=", ids::new_id().simple()),
                    open: Arc::clone(&open),
                    template: Arc::clone(&template),
                    functions: Arc::clone(&functions),
                };
                open.count.send_modify(|count| *count += 1);
                tokio::spawn(async move {
                    if let Err(error) = connection.serve(stream).await {
                        connection
                            .open
                            .meter
                            .fail(format!("a WebSocket failed: {error:#}"));
                    }
                    connection.open.count.send_modify(|count| *count -= 1);
                });
            }
        });
    }

    /// Waits until no connection is open and `$disconnect` has run for each.
    pub(crate) async fn all_closed(&self) {
        // The sender is in this value, so there is no error.
        let _ = self.open.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

struct Connection {
    id: String,
    open: Arc<Open>,
    template: Arc<Template>,
    functions: Arc<Functions>,
}

/// The response of a function to a WebSocket event.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status_code: u16,
    #[serde(default)]
    body: Option<String>,
}

impl Connection {
    async fn serve(&self, stream: TcpStream) -> Result<()> {
        #[expect(clippy::result_large_err, reason = "the signature is tungstenite's")]
        let connect = |request: &Handshake, response: Response| {
            let query = request.uri().query().unwrap_or_default();
            let ticket = query.strip_prefix("ticket=").unwrap_or_default();
            let connecting = self.invoke("$connect", "CONNECT", Some(ticket), None);
            // The handshake is answered after `$connect`, and tungstenite wants the answer at once.
            let answer = block_in_place(|| Handle::current().block_on(connecting));
            match answer {
                Ok(Some(answer)) if answer.status_code == 200 => Ok(response),
                _ => {
                    let mut refusal = ErrorResponse::new(None);
                    *refusal.status_mut() = StatusCode::UNAUTHORIZED;
                    Err(refusal)
                }
            }
        };
        let (mut sender, mut receiver) = accept_hdr_async(stream, connect).await?.split();
        let (frames, mut to_send) = mpsc::unbounded_channel::<Bytes>();
        self.open.senders.lock().insert(self.id.clone(), frames);
        loop {
            tokio::select! {
                frame = to_send.recv() => match frame {
                    Some(frame) => sender.send(text(&frame)?).await?,
                    None => break,
                },
                message = receiver.next() => match message {
                    Some(Ok(Message::Text(message))) => {
                        if let Some(answer) = self.message(&message).await? {
                            sender.send(Message::text(answer)).await?;
                        }
                    }
                    // tungstenite answers protocol pings while it reads.
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                    Some(Ok(_)) => {}
                },
            }
        }
        self.invoke("$disconnect", "DISCONNECT", None, None).await?;
        self.open.senders.lock().remove(&self.id);
        Ok(())
    }

    /// A message from the device. Returns the answer, if the route has one.
    async fn message(&self, message: &str) -> Result<Option<String>> {
        self.open.meter.message_in(message.len());
        let action = serde_json::from_str::<Value>(message).ok();
        let action = action.and_then(|message| Some(message.get("action")?.as_str()?.to_owned()));
        let routes = &self.template.socket_routes;
        let action = action.filter(|action| routes.contains_key(action));
        let route = action.unwrap_or_else(|| "$default".to_owned());
        let answers = routes.get(&route).is_some_and(|route| route.answers);
        let answer = match self.invoke(&route, "MESSAGE", None, Some(message)).await? {
            Some(answer) => answer.body,
            // A MOCK integration. Only the length of its answer counts, which is far below a unit.
            None => Some(r#"{"type":"pong"}"#.to_owned()),
        };
        let answer = answer.filter(|answer| answers && !answer.is_empty());
        if let Some(answer) = &answer {
            self.open.meter.message_out(answer.len());
        }
        Ok(answer)
    }

    /// Invokes the function of a route; `None` if the route has none.
    async fn invoke(
        &self,
        route: &str,
        kind: &str,
        ticket: Option<&str>,
        message: Option<&str>,
    ) -> Result<Option<Answer>> {
        let function = self.template.socket_routes.get(route);
        let Some(function) = function.and_then(|route| route.function.as_deref()) else {
            return Ok(None);
        };
        let event = event(route, kind, &self.id, ticket, message);
        let answer = self.functions.invoke(function, event).await?;
        Ok(Some(
            serde_json::from_slice(&answer).context("an answer has another form")?,
        ))
    }
}

fn text(frame: &Bytes) -> Result<Message> {
    let frame = std::str::from_utf8(frame).context("a frame is no text")?;
    Ok(Message::text(frame))
}

fn event(route: &str, kind: &str, id: &str, ticket: Option<&str>, message: Option<&str>) -> Bytes {
    let event = SocketEvent {
        route,
        kind,
        stage: STAGE,
        connection_id: id,
        ticket,
        message,
    };
    Bytes::from(event.event())
}
