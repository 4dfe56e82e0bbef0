//! The WebSocket API.

use futures_util::{SinkExt as _, StreamExt as _};
use model::{CreatedTicket, Event, SpaceId};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::{Error, use_ring};

/// What the service sends.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Frame {
    /// Changes of a space. A hint: what counts is the feed.
    #[serde(rename_all = "camelCase")]
    Changes {
        /// The space.
        space_id: SpaceId,
        /// Its changes, in order of their numbers.
        changes: Vec<Event>,
    },
    /// The answer to a ping.
    Pong,
    /// The answer to a message that was not understood.
    Error {
        /// The name for programs.
        code: String,
        /// What people read.
        detail: String,
    },
}

/// An open WebSocket.
#[derive(Debug)]
pub struct Socket(WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>);

impl Socket {
    /// Connects with a ticket, which is used up.
    pub async fn connect(ticket: &CreatedTicket) -> Result<Self, Error> {
        use_ring();
        let (stream, _response) = connect_async(&ticket.url).await?;
        Ok(Self(stream))
    }

    /// Sends a ping; a [`Frame::Pong`] comes back. Every 4 to 5 min it keeps the connection from its idle limit.
    pub async fn ping(&mut self) -> Result<(), Error> {
        Ok(self.0.send(Message::text(r#"{"action":"ping"}"#)).await?)
    }

    /// The next frame; nothing once the connection is closed.
    pub async fn next(&mut self) -> Result<Option<Frame>, Error> {
        while let Some(message) = self.0.next().await {
            match message? {
                Message::Text(text) => return Ok(Some(serde_json::from_str(&text)?)),
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
