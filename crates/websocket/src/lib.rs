//! Closes WebSocket connections. The only user of `aws-sdk-apigatewaymanagement`.
//!
//! Posting to connections is in fan-out and does without the SDK, because its CPU time matters there.

#![warn(missing_docs)]

use aws_sdk_apigatewaymanagement::config::Builder;
use aws_sdk_apigatewaymanagement::error::SdkError;
use aws_sdk_apigatewaymanagement::operation::delete_connection::DeleteConnectionError;
use thiserror::Error as ThisError;

/// The AWS actions that each method of this crate needs.
pub const ACTIONS: &[(&str, &[&str])] = &[("close", &["execute-api:ManageConnections"])];

/// A connection could not be closed. It may still be open.
#[derive(Debug, ThisError)]
#[error("the WebSocket API did not close the connection")]
pub struct Error(#[from] SdkError<DeleteConnectionError>);

/// Closes connections of one WebSocket API.
pub struct Closer {
    client: aws_sdk_apigatewaymanagement::Client,
}

impl Closer {
    /// Creates a client for `endpoint`: the WebSocket API's management endpoint, `https://…/stage`.
    pub fn new(sdk: impl Into<Builder>, endpoint: &str) -> Self {
        let config = sdk.into().endpoint_url(endpoint).build();
        Self {
            client: aws_sdk_apigatewaymanagement::Client::from_conf(config),
        }
    }

    /// Closes a connection. Succeeds if it is closed already.
    pub async fn close(&self, connection_id: &str) -> Result<(), Error> {
        let request = self.client.delete_connection().connection_id(connection_id);
        match request.send().await {
            Err(failure) if !is_gone(&failure) => Err(failure.into()),
            _ => Ok(()),
        }
    }
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
