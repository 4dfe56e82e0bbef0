//! Posting frames to connections.

use std::collections::BTreeMap;

use aws_sdk_apigatewaymanagement::error::SdkError;
use aws_sdk_apigatewaymanagement::operation::post_to_connection::PostToConnectionError;
use aws_sdk_apigatewaymanagement::primitives::Blob;
use db::Recipient;
use edge::chain;
use futures_util::stream::{self, StreamExt as _};
use model::{Event, SpaceId};
use tracing::{error, warn};

/// How many posts are under way at once.
const CONCURRENT_POSTS: usize = 64;

/// What became of one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// API Gateway has taken every frame.
    Delivered,
    /// There is no such connection, or not yet.
    Gone,
    /// Not all frames could be posted; trying again may help.
    Failed,
}

/// The frames of each space, encoded once for all who get them.
pub(crate) type Frames = BTreeMap<SpaceId, Vec<Blob>>;

/// Encodes the events of each space.
pub(crate) fn frames(events: &BTreeMap<SpaceId, Vec<Event>>) -> Result<Frames, serde_json::Error> {
    let encode = |(space_id, events): (&SpaceId, &Vec<Event>)| {
        let frames = model::frames(*space_id, events)?
            .into_iter()
            .map(Blob::new)
            .collect();
        Ok((*space_id, frames))
    };
    events.iter().map(encode).collect()
}

/// Posts to each recipient the frames of its space, in order, many recipients at once.
pub(crate) async fn post_all(
    client: &aws_sdk_apigatewaymanagement::Client,
    recipients: Vec<Recipient>,
    frames: &Frames,
) -> Vec<(Recipient, Outcome)> {
    let posts = recipients.into_iter().map(|recipient| async move {
        let frames = frames
            .get(&recipient.space_id)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let outcome = post(client, &recipient.connection_id, frames).await;
        (recipient, outcome)
    });
    stream::iter(posts)
        .buffer_unordered(CONCURRENT_POSTS)
        .collect()
        .await
}

async fn post(
    client: &aws_sdk_apigatewaymanagement::Client,
    connection_id: &str,
    frames: &[Blob],
) -> Outcome {
    for frame in frames {
        let posting = client
            .post_to_connection()
            .connection_id(connection_id)
            .data(frame.clone())
            .send();
        if let Err(failure) = posting.await {
            let outcome = outcome(&failure);
            let error = chain(&failure);
            match &failure {
                _ if outcome == Outcome::Gone => {}
                SdkError::ServiceError(refusal) if refusal.err().is_forbidden_exception() => {
                    error!(
                        connection_id,
                        error, "not allowed to post to {connection_id}: check the function's role"
                    );
                }
                _ => warn!(connection_id, error, "posting to {connection_id} failed"),
            }
            return outcome;
        }
    }
    Outcome::Delivered
}

fn outcome(error: &SdkError<PostToConnectionError>) -> Outcome {
    let status = error.raw_response().map(|response| response.status().as_u16());
    if status == Some(410) {
        Outcome::Gone
    } else {
        Outcome::Failed
    }
}
