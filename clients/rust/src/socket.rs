//! Connections to the WebSocket API, and the frames that they receive.

use futures_util::{SinkExt as _, StreamExt as _};
use model::{CreatedTicket, Epoch, Event, SpaceId};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async_tls};

use crate::error::check_url;
use crate::proxy::{BoxedStream, Proxies};
use crate::{Error, install_crypto_provider};

/// A frame that the service sends.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Frame {
    /// Changes of a space. Frames can be lost; the change feed (`GET /changes`) is authoritative.
    #[serde(rename_all = "camelCase")]
    Changes {
        /// The current epoch; `None` from a service of an earlier release.
        #[serde(default)]
        epoch: Option<Epoch>,
        /// The space that the changes belong to.
        space_id: SpaceId,
        /// The changes, in the order of their sequence numbers.
        changes: Vec<Event>,
    },
    /// The answer to [`Socket::ping`] or [`Socket::ping_service`].
    Pong,
    /// The answer to a message that the service did not understand.
    Error {
        /// The machine-readable code.
        code: String,
        /// The human-readable explanation.
        detail: String,
    },
    /// A frame of a later release, or a text of API Gateway itself, such as `{"message": "Internal server
    /// error"}`. It shows only that the connection is alive.
    #[serde(other)]
    Unknown,
}

/// An open WebSocket.
#[derive(Debug)]
pub struct Socket(WebSocketStream<MaybeTlsStream<BoxedStream>>);

impl Socket {
    /// Connects with a ticket, which can be used only once. The proxies of the environment (`HTTPS_PROXY`,
    /// `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`) apply as they do to HTTP requests.
    pub async fn connect(ticket: &CreatedTicket) -> Result<Self, Error> {
        check_url("the WebSocket", &ticket.url)?;
        Self::connect_through(ticket, &Proxies::from_environment()).await
    }

    async fn connect_through(ticket: &CreatedTicket, proxies: &Proxies) -> Result<Self, Error> {
        install_crypto_provider();
        let request = ticket.url.as_str().into_client_request()?;
        let connecting = proxies.connect(request.uri()).await;
        let connection = connecting.map_err(tungstenite::Error::Io)?;
        let (stream, _response) = client_async_tls(request, connection).await?;
        Ok(Self(stream))
    }

    /// Sends a heartbeat, which is not answered. After 9 min without a message in either direction it keeps
    /// API Gateway from closing the connection as idle.
    pub async fn heartbeat(&mut self) -> Result<(), Error> {
        Ok(self.0.send(Message::text(r#"{"action":"heartbeat"}"#)).await?)
    }

    /// Sends a ping of the WebSocket protocol, to test whether the connection is alive. API Gateway or a proxy
    /// on the way answers it by a [`Frame::Pong`]. It is no message: it may not keep the connection open.
    pub async fn ping(&mut self) -> Result<(), Error> {
        Ok(self.0.send(Message::Ping(Bytes::new())).await?)
    }

    /// Sends the message with which a page, which cannot send pings of the protocol, tests its connection. API
    /// Gateway answers it by a [`Frame::Pong`], and bills both as messages.
    pub async fn ping_service(&mut self) -> Result<(), Error> {
        Ok(self.0.send(Message::text(r#"{"action":"ping"}"#)).await?)
    }

    /// Returns the next frame, or `None` once the connection is closed.
    pub async fn next(&mut self) -> Result<Option<Frame>, Error> {
        while let Some(message) = self.0.next().await {
            match message? {
                Message::Text(text) => {
                    return Ok(Some(serde_json::from_str(&text).unwrap_or(Frame::Unknown)));
                }
                Message::Pong(_) => return Ok(Some(Frame::Pong)),
                Message::Close(_) => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Closes the connection.
    pub async fn close(mut self) -> Result<(), Error> {
        Ok(self.0.close(None).await?)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_tungstenite::accept_async;

    use super::*;

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    /// Starts a WebSocket server that sends these texts to its first client. Returns its port.
    async fn server(texts: &'static [&'static str]) -> u16 {
        let (listener, port) = listener().await;
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut socket = accept_async(stream).await.unwrap();
            for text in texts {
                socket.send(Message::text(*text)).await.unwrap();
            }
            // The server stays until the client closes the connection.
            while let Some(Ok(_)) = socket.next().await {}
        });
        port
    }

    /// Starts a proxy that answers the first CONNECT with this status line. If the status is 200, it connects
    /// to `port` on this machine, whatever host was named. Returns its URL, and the lines of the request.
    async fn proxy(status: &'static str, port: u16) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        let (listener, own) = listener().await;
        let requests = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                if line.trim().is_empty() {
                    break;
                }
                head.push(line.trim().to_owned());
            }
            let answer = format!("HTTP/1.1 {status}\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if status.starts_with("200") {
                let mut there = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut stream, &mut there).await });
            }
            head
        });
        (format!("http://user:secret@127.0.0.1:{own}"), requests)
    }

    fn ticket(url: &str) -> CreatedTicket {
        serde_json::from_value(serde_json::json!({
            "ticket": "t", "url": url, "expiresAt": "2030-01-01T00:00:00Z",
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn a_name_that_only_the_proxy_knows_is_reached_through_it() {
        let (proxy, requests) = proxy(
            "200 Connection established",
            server(&[r#"{"type":"pong"}"#]).await,
        )
        .await;
        let ticket = ticket("ws://api.invalid:4321/live?ticket=t");
        let mut socket = Socket::connect_through(&ticket, &Proxies::all(&proxy, ""))
            .await
            .unwrap();
        assert!(matches!(socket.next().await.unwrap(), Some(Frame::Pong)));
        let requests = requests.await.unwrap();
        assert_eq!(requests[0], "CONNECT api.invalid:4321 HTTP/1.1");
        assert!(requests.contains(&"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=".to_owned()));
    }

    #[tokio::test]
    async fn hosts_in_no_proxy_are_reached_directly() {
        let port = server(&[r#"{"type":"pong"}"#]).await;
        let ticket = ticket(&format!("ws://127.0.0.1:{port}/live"));
        let proxies = Proxies::all("http://127.0.0.1:1", "127.0.0.1");
        let mut socket = Socket::connect_through(&ticket, &proxies).await.unwrap();
        assert!(matches!(socket.next().await.unwrap(), Some(Frame::Pong)));
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_is_named_without_its_password() {
        let (proxy, _asked) = proxy("407 Proxy Authentication Required", 1).await;
        let ticket = ticket("wss://api.invalid/live");
        let error = Socket::connect_through(&ticket, &Proxies::all(&proxy, ""))
            .await
            .unwrap_err();
        let Error::WebSocket(cause) = &error else {
            panic!("{error:?}")
        };
        let message = cause.to_string();
        assert!(
            message.contains("proxy 127.0.0.1:") && message.contains("proxy authorization required"),
            "{message}"
        );
        assert!(!message.contains("secret"), "{message}");
        assert!(error.is_retryable());
    }

    /// The server's library answers pings by itself, as API Gateway does.
    #[tokio::test]
    async fn a_ping_is_answered_before_the_server_has_sent_a_text() {
        let port = server(&[]).await;
        let ticket = ticket(&format!("ws://127.0.0.1:{port}/live"));
        let mut socket = Socket::connect(&ticket).await.unwrap();
        for _ in 0..2 {
            socket.ping().await.unwrap();
            assert!(matches!(socket.next().await.unwrap(), Some(Frame::Pong)));
        }
    }

    #[tokio::test]
    async fn unknown_frames_do_not_end_the_connection() {
        let port = server(&[
            r#"{"message":"Internal server error","connectionId":"c","requestId":"r"}"#,
            r#"{"type":"of a later release","more":1}"#,
            r#"{"type":"changes","spaceId":"not one"}"#,
            "no JSON",
            r#"{"type":"pong"}"#,
        ])
        .await;
        let mut socket = Socket::connect(&ticket(&format!("ws://127.0.0.1:{port}/live")))
            .await
            .unwrap();
        for _ in 0..4 {
            assert!(matches!(socket.next().await.unwrap(), Some(Frame::Unknown)));
        }
        assert!(matches!(socket.next().await.unwrap(), Some(Frame::Pong)));
    }
}
