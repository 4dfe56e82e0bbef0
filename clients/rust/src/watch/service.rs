//! What a watcher needs of the service, so that tests can put a hostile one in its place.

use model::{ChangeList, Cursor, SpaceId, SpaceView};

use crate::{Client, Error, Frame, Socket};

/// The HTTP API, and a way to WebSockets.
pub(super) trait Service: Send + Sync + 'static {
    /// A WebSocket.
    type Line: Line;

    /// All spaces of the caller.
    fn spaces(&self) -> impl Future<Output = Result<Vec<SpaceView>, Error>> + Send;

    /// A page of a space's changes.
    fn changes(
        &self,
        space_id: SpaceId,
        after: Cursor,
    ) -> impl Future<Output = Result<ChangeList, Error>> + Send;

    /// Opens a WebSocket with a new ticket.
    fn connect(&self) -> impl Future<Output = Result<Self::Line, Error>> + Send;
}

/// An open WebSocket.
pub(super) trait Line: Send + 'static {
    /// The next frame; nothing once it is closed. Dropping the future loses no frame.
    fn next(&mut self) -> impl Future<Output = Result<Option<Frame>, Error>> + Send;

    /// Sends a ping.
    fn ping(&mut self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Closes it, if that is quick.
    fn close(self) -> impl Future<Output = ()> + Send;
}

impl Service for Client {
    type Line = Socket;

    async fn spaces(&self) -> Result<Vec<SpaceView>, Error> {
        self.all_spaces().await
    }

    async fn changes(&self, space_id: SpaceId, after: Cursor) -> Result<ChangeList, Error> {
        self.list_changes(Some(space_id), after).await
    }

    async fn connect(&self) -> Result<Socket, Error> {
        Socket::connect(&self.create_ticket().await?).await
    }
}

impl Line for Socket {
    async fn next(&mut self) -> Result<Option<Frame>, Error> {
        self.next().await
    }

    async fn ping(&mut self) -> Result<(), Error> {
        self.ping().await
    }

    async fn close(self) {
        // The other side closes it too, if it is still there.
        let _ = tokio::time::timeout(super::CLOSE_WITHIN, self.close()).await;
    }
}
