//! Closing connections that take no posts.
//!
//! The feed is the truth, so nothing is lost: the client notices that it is closed, connects again and reads
//! what it missed.

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

/// How many connections are being closed at once.
const CONCURRENT_CLOSINGS: usize = 64;

/// How long closing may take in one invocation. Connections that are still open then are tried again.
const CLOSING_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Closes connections. By the SDK, unlike posting: it happens seldom enough that the CPU of a call does not
/// count.
pub struct Closer {
    client: aws_sdk_apigatewaymanagement::Client,
}

impl Closer {
    /// At the endpoint that posts go to.
    pub fn new(sdk: impl Into<Builder>, endpoint: &str) -> Self {
        let config = sdk.into().endpoint_url(endpoint).build();
        Self {
            client: aws_sdk_apigatewaymanagement::Client::from_conf(config),
        }
    }
}

/// Closes connections, and returns those that are closed now. The ids differ.
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
