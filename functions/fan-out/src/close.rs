//! Closes connections that take no posts.
//!
//! No change is lost: the client notices that its connection was closed, connects again, and reads the
//! changes that it missed from the feed.

use std::time::Duration;

use ::metrics::counter;
use aws_sdk_apigatewaymanagement::config::Builder;
use aws_sdk_apigatewaymanagement::error::SdkError;
use aws_sdk_apigatewaymanagement::operation::delete_connection::DeleteConnectionError;
use db::Recipient;
use futures_util::stream::{self, StreamExt as _};
use platform::error_chain;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::{App, metrics};

/// Connections that are being closed at once.
const CONCURRENT_CLOSINGS: usize = 64;

/// Longest duration of closing in one invocation. Closing the remaining connections is tried again after a
/// later attempt to post.
const CLOSING_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Closes connections with the SDK. Unlike posting, closing is rare, so the CPU time of an SDK call does not
/// matter.
pub struct Closer {
    client: aws_sdk_apigatewaymanagement::Client,
}

impl Closer {
    /// Creates a client for `endpoint`, which is also the endpoint for posts.
    pub fn new(sdk: impl Into<Builder>, endpoint: &str) -> Self {
        let config = sdk.into().endpoint_url(endpoint).build();
        Self {
            client: aws_sdk_apigatewaymanagement::Client::from_conf(config),
        }
    }
}

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
    let request = app.closer.client.delete_connection().connection_id(connection_id);
    let failure = match request.send().await {
        Ok(_) => None,
        Err(failure) => Some(failure).filter(|failure| !is_gone(failure)),
    };
    if let Some(failure) = failure {
        warn!(
            connection_id,
            error = error_chain(&failure),
            "connection {connection_id} takes no posts and could not be closed"
        );
        return None;
    }
    info!(connection_id, %user_id, "closed connection {connection_id} of user {user_id}: it took no posts");
    Some(connection)
}

fn is_gone<R>(failure: &SdkError<DeleteConnectionError, R>) -> bool {
    failure
        .as_service_error()
        .is_some_and(DeleteConnectionError::is_gone_exception)
}

#[cfg(test)]
mod tests {
    use aws_sdk_apigatewaymanagement::types::error::{ForbiddenException, GoneException};

    use super::*;

    #[test]
    fn a_connection_that_is_gone_need_not_be_closed() {
        let gone = DeleteConnectionError::GoneException(GoneException::builder().build());
        assert!(is_gone(&SdkError::service_error(gone, ())));
        let forbidden = DeleteConnectionError::ForbiddenException(ForbiddenException::builder().build());
        assert!(!is_gone(&SdkError::service_error(forbidden, ())));
        assert!(!is_gone(&SdkError::<_, ()>::timeout_error("late")));
    }
}
