//! Closes connections that take no posts.
//!
//! No change is lost: the client notices that its connection was closed, connects again, and reads the
//! changes that it missed from the feed.

use std::time::Duration;

use ::metrics::counter;
use db::Recipient;
use futures_util::stream::{self, StreamExt as _};
use platform::error_chain;
use tokio::time::timeout;
use tracing::warn;

use crate::{App, metrics};

/// Connections that are being closed at once.
const CONCURRENT_CLOSINGS: usize = 64;

/// Longest duration of closing in one invocation. Closing the remaining connections is tried again after a
/// later attempt to post.
const CLOSING_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Closes connections, and returns the closed ones. The connections must have different ids.
pub(crate) async fn close<'a>(app: &App, connections: &[&'a Recipient]) -> Vec<&'a Recipient> {
    let mut closed = Vec::new();
    let closing = async {
        let calls = connections.iter().map(|connection| close_one(app, connection));
        let mut calls = stream::iter(calls).buffer_unordered(CONCURRENT_CLOSINGS);
        while let Some(done) = calls.next().await {
            closed.extend(done);
        }
    };
    if timeout(CLOSING_TIMEOUT, closing).await.is_err() {
        warn!(
            connections = connections.len(),
            "not all connections that take no posts could be closed in time"
        );
    }
    counter!(metrics::CLOSED).increment(u64::try_from(closed.len()).unwrap_or(u64::MAX));
    closed
}

async fn close_one<'a>(app: &App, connection: &'a Recipient) -> Option<&'a Recipient> {
    let (connection_id, user_id) = (connection.connection_id.as_str(), &connection.user_id);
    if let Err(failure) = app.closer.close(connection_id).await {
        warn!(
            connection_id,
            error = error_chain(&failure),
            "connection {connection_id} takes no posts and could not be closed"
        );
        return None;
    }
    warn!(connection_id, %user_id, "closed connection {connection_id} of user {user_id}: it took no posts");
    Some(connection)
}
