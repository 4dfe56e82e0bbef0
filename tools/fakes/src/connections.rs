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

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::http::tests::send;

    /// Records frames and closed connections. The connection `gone` does not exist.
    #[derive(Default)]
    struct Recorder(Mutex<Vec<String>>);

    impl Clients for Recorder {
        fn post(&self, connection_id: &str, request: &Request) -> bool {
            let frame = String::from_utf8(request.body().to_vec()).unwrap();
            self.0.lock().push(format!("{connection_id} {frame}"));
            connection_id != "gone"
        }

        fn close(&self, connection_id: &str, _: &Request) {
            self.0.lock().push(format!("{connection_id} closed"));
        }
    }

    #[tokio::test]
    async fn frames_and_closing_reach_the_connection_in_the_path() {
        let clients = Arc::new(Recorder::default());
        let fake = Connections::start(None, Arc::clone(&clients)).await.unwrap();
        let answers = [
            ("POST /live/@connections/a%3D", "HTTP/1.1 200"),
            ("POST /live/%40connections/gone", "HTTP/1.1 410"),
            ("DELETE /live/@connections/b", "HTTP/1.1 204"),
            ("POST /other", "HTTP/1.1 404"),
        ];
        for (request, status) in answers {
            let answer = send(&fake.server, &format!("{request} HTTP/1.1"), "hi").await;
            assert!(answer.starts_with(status), "{request}: {answer}");
        }
        assert_eq!(*clients.0.lock(), ["a= hi", "gone hi", "b closed"]);
    }
}
