//! Takes events from the queue and posts each change to all WebSocket connections of all users who may see
//! it.
//!
//! An unreadable record does not fail its batch. Unreached recipients are queued again in a new message,
//! which is delivered within seconds. A connection that takes no posts is closed. Delivering a change twice
//! is harmless, because every change has a number.

mod audience;
mod close;
mod delivery;
mod follow_up;
mod metrics;
mod notify;
mod plan;
mod post;
mod queue;
mod rate_limiter;
mod records;

use std::num::NonZeroU32;
use std::time::Duration as StdDuration;

use ::queue::Queue;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use db::{Database, DatabaseUrl};
use platform::Clock;
use platform::batch::batch_item_failures;
use platform::config::{ConfigError, Vars};
use platform::trace::Tracer;
use time::Duration;
use tokio::time::Instant;

pub use metrics::METRICS;
pub use post::{Connections, InvalidEndpoint};
pub use rate_limiter::RateLimiter;

/// While the `$connect` route of a connection still runs, API Gateway answers posts to it with 410 Gone, as
/// it does for a closed connection. A connection younger than this is therefore retried and not deleted. API
/// Gateway allows `$connect` 29 s (Amazon API Gateway Developer Guide, "Quotas for configuring and running a
/// WebSocket API").
pub const CONNECT_GRACE: Duration = Duration::seconds(30);

/// The largest number of connections that one invocation posts a record to. The remaining connections get a
/// message of their own.
pub const PAGE: usize = 1_000;

/// The largest number of members whose connections one invocation reads per audience. It bounds the cost of a
/// space without connections: 1,000 index look-ups, some 5 ms.
pub const MEMBERS: usize = 1_000;

/// The largest number of attempts of a message, including the first. After the last, connections that did not
/// take it are closed. These attempts span 65 s.
pub const MAX_ATTEMPTS: u32 = 10;

/// The same for connections whose posts time out. Each such attempt takes a second in which other connections
/// could get posts.
pub const MAX_TIMED_OUT_ATTEMPTS: u32 = 3;

/// Time before the end of an invocation at which posting ends. It covers 2.5 s for closing connections; then
/// 3 s for the database, concurrently with 2.5 s for sending messages; then 2.5 s for the visibility of
/// records to retry.
pub const DEADLINE_MARGIN: StdDuration = StdDuration::from_millis(8_500);

/// The function's configuration. Each field names its environment variable.
pub struct Config {
    /// `DATABASE_URL`: the PostgreSQL database that holds members and connections.
    pub database_url: DatabaseUrl,
    /// `CONNECTIONS_ENDPOINT`: the WebSocket API's management endpoint, `https://…/stage`.
    pub connections_endpoint: String,
    /// `QUEUE_URL`: the SQS queue that the records come from.
    pub queue_url: String,
    /// `DEAD_LETTER_QUEUE_URL`: the SQS queue for messages that cannot be read or are refused.
    pub dead_letter_queue_url: String,
    /// `POSTS_PER_SECOND`: the largest rate of posts of all execution environments together.
    pub posts_per_second: NonZeroU32,
    /// `MAXIMUM_CONCURRENCY`: the largest number of execution environments.
    pub maximum_concurrency: NonZeroU32,
    /// `METRICS_NAMESPACE`: the CloudWatch namespace of the function's metrics.
    pub metrics_namespace: String,
}

impl Config {
    /// Reads the environment variables. The error names a variable that is missing or invalid.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            connections_endpoint: vars.required("CONNECTIONS_ENDPOINT")?,
            queue_url: vars.required("QUEUE_URL")?,
            dead_letter_queue_url: vars.required("DEAD_LETTER_QUEUE_URL")?,
            posts_per_second: vars.required("POSTS_PER_SECOND")?,
            maximum_concurrency: vars.required("MAXIMUM_CONCURRENCY")?,
            metrics_namespace: vars.required("METRICS_NAMESPACE")?,
        })
    }
}

/// The state that all batches of one execution environment share.
pub struct App {
    /// The database that holds members and connections.
    pub db: Database,
    /// Posts to connections.
    pub connections: Connections,
    /// Closes connections that take no posts.
    pub closer: websocket::Closer,
    /// Limits the rate of posts of this execution environment.
    pub rate_limiter: RateLimiter,
    /// The queue that the records come from.
    pub queue: Queue,
    /// The queue for messages that cannot be read or are refused.
    pub dead_letters: Queue,
    /// The clock. Tests set its time.
    pub clock: Clock,
    /// Records the duration of posting as a part of the invocation's trace.
    pub tracer: Tracer,
}

/// Handles one batch, and returns the ids of the records that SQS must deliver again. Posting ends at
/// `deadline`.
pub async fn handle(app: &App, event: SqsEvent, deadline: Instant) -> SqsBatchResponse {
    let (records, unreadable) = records::decode(event);
    let mut failed = queue::dead_letter(app, unreadable).await;
    if !records.is_empty() {
        let retried = notify::notify(app, &records, deadline).await;
        queue::shorten_visibility(app, &retried).await;
        failed.extend(retried.into_iter().map(|record| record.message_id.clone()));
    }
    batch_item_failures(failed)
}
