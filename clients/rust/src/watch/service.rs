//! The interface between a watcher and the service. Tests replace the service with one that injects faults.

use model::{ChangeList, Cursor, Epoch, SpaceId, SpaceView};

use crate::{Client, Error, Frame, Socket};

/// The HTTP API and the WebSocket API.
pub(super) trait Service: Send + Sync + 'static {
    /// The type of an open WebSocket.
    type Connection: Connection;

    /// Returns the current epoch and all spaces of the caller.
    fn spaces(&self) -> impl Future<Output = Result<(Epoch, Vec<SpaceView>), Error>> + Send;

    /// Lists a page of the changes of a space after a cursor. If another epoch is current, the error is
    /// [`Error::FeedReset`].
    fn changes(
        &self,
        epoch: Option<Epoch>,
        space_id: SpaceId,
        after: Cursor,
    ) -> impl Future<Output = Result<ChangeList, Error>> + Send;

    /// Opens a WebSocket with a new ticket.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Error>> + Send;
}

/// An open WebSocket.
pub(super) trait Connection: Send + 'static {
    /// Returns the next frame, or `None` once the connection is closed. Dropping the future loses no frame.
    fn next(&mut self) -> impl Future<Output = Result<Option<Frame>, Error>> + Send;

    /// Sends a heartbeat, which is not answered.
    fn heartbeat(&mut self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Sends a ping, which [`Frame::Pong`] answers.
    fn ping(&mut self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Closes the connection, within a time limit.
    fn close(self) -> impl Future<Output = ()> + Send;
}

impl Service for Client {
    type Connection = Socket;

    async fn spaces(&self) -> Result<(Epoch, Vec<SpaceView>), Error> {
        self.list_spaces().await
    }

    async fn changes(
        &self,
        epoch: Option<Epoch>,
        space_id: SpaceId,
        after: Cursor,
    ) -> Result<ChangeList, Error> {
        let client = self.clone().with_epoch(epoch);
        client.list_changes(Some(space_id), after).await
    }

    async fn connect(&self) -> Result<Socket, Error> {
        // The ticket names no epoch, because the spaces are listed after each connect.
        let ticket = self.clone().with_epoch(None).create_ticket().await?;
        Socket::connect(&ticket).await
    }
}

impl Connection for Socket {
    async fn next(&mut self) -> Result<Option<Frame>, Error> {
        self.next().await
    }

    async fn heartbeat(&mut self) -> Result<(), Error> {
        self.heartbeat().await
    }

    async fn ping(&mut self) -> Result<(), Error> {
        self.ping().await
    }

    async fn close(self) {
        // Closing is best effort: the connection may already be lost.
        let _ = tokio::time::timeout(super::CLOSE_TIMEOUT, self.close()).await;
    }
}
