//! A fake of `@connections`, the management interface of a WebSocket API. Its user decides which connections
//! exist and receives their frames.
//!
//! Amazon API Gateway Developer Guide, "Use `@connections` commands in your backend service".

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::Result;
use percent_encoding::percent_decode_str;
use tokio_rustls::TlsAcceptor;

use crate::http::{Fault, Reply, Request, Server, Service, reply, without_body};

/// The stage of the WebSocket API.
const STAGE: &str = "/live";

/// The clients of the WebSocket API.
pub trait Clients: Send + Sync + 'static {
    /// Chooses the fault of a request. Its method is `POST` for a frame and `DELETE` for closing the
    /// connection.
    fn fault(&self, connection_id: &str, request: &Request) -> Fault {
        let _ = (connection_id, request);
        Fault::None
    }

    /// Receives a frame, which is the body of the request. Returns false if there is no such connection,
    /// which is answered with 410.
    fn post(&self, connection_id: &str, request: &Request) -> bool;

    /// Closes a connection.
    fn close(&self, connection_id: &str, request: &Request);
}

/// The running fake.
pub struct Connections {
    /// The server, for its counters and latency.
    pub server: Server,
}

impl Connections {
    /// Starts the fake; with `tls`, it serves HTTPS.
    pub async fn start(tls: Option<TlsAcceptor>, clients: Arc<impl Clients>) -> Result<Self> {
        let service = Arc::new(Api {
            clients,
            ok: reply(200, "", b""),
        });
        Ok(Self {
            server: Server::start(tls, service).await?,
        })
    }

    /// Value for `CONNECTIONS_ENDPOINT`. A host name is resolved by the function, as on AWS.
    pub fn endpoint(&self, host: &str) -> String {
        format!("{}{STAGE}", self.server.url(host))
    }
}

/// The connection ID in the path of a request; `None` if the path is not one of `@connections`.
pub fn connection_id(request: &Request) -> Option<Cow<'_, str>> {
    let path = request.target().strip_prefix(STAGE)?;
    let encoded = ["/@connections/", "/%40connections/"]
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix))?;
    percent_decode_str(encoded).decode_utf8().ok()
}

struct Api<C> {
    clients: Arc<C>,
    ok: Reply,
}

impl<C: Clients> Service for Api<C> {
    fn fault(&self, request: &Request) -> Fault {
        match connection_id(request) {
            Some(id) => self.clients.fault(&id, request),
            None => Fault::Error(404, "NotFoundException"),
        }
    }

    fn error(&self, status: u16, code: &str) -> Reply {
        let headers = format!("x-amzn-ErrorType: {code}\r\ncontent-type: application/json\r\n");
        reply(status, &headers, br#"{"message":"refused by the fake"}"#)
    }

    fn answer(&self, request: &Request) -> Reply {
        let id = connection_id(request).unwrap_or_default().into_owned();
        match request.method() {
            "POST" if self.clients.post(&id, request) => self.ok.clone(),
            "POST" => self.error(410, "GoneException"),
            "DELETE" => {
                self.clients.close(&id, request);
                without_body(204, "")
            }
            _ => self.error(405, "MethodNotAllowedException"),
        }
    }
}
