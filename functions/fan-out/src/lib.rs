//! From the queue to every WebSocket of every user who may see the change.
//!
//! An unreadable record never holds up its batch. Recipients that were not reached are queued again in a new message, which is
//! delivered within seconds. A connection that takes no posts is closed. Delivering twice is harmless: every change carries its
//! number.

mod audience;
mod close;
mod connections;
mod delivery;
mod follow_up;
mod metrics;
mod notify;
mod plan;
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

pub use close::Closer;
pub use connections::{Connections, InvalidEndpoint};
pub use metrics::METRICS;
pub use rate_limiter::RateLimiter;

/// While a connection's `$connect` still runs, posting to it answers 410 Gone as if it were dead. So one that is younger
/// than this is tried again rather than forgotten. API Gateway allows `$connect` 29 s (Amazon API Gateway Developer Guide,
/// "Quotas for configuring and running a WebSocket API").
pub const CONNECT_GRACE: Duration = Duration::seconds(30);

/// How many connections a record is delivered to in one invocation. The rest is a message of its own.
pub const PAGE: usize = 1_000;

/// Of how many members the connections are read in one invocation, for each audience. What a space without
/// any connection costs is bounded by it: 1,000 look-ups in an index, some 5 ms.
pub const MEMBERS: usize = 1_000;

/// How often a message is tried until the connections that do not take it are closed, the first time
/// included. These attempts span 65 s.
pub const MAX_ATTEMPTS: u32 = 10;

/// The same where API Gateway does not even answer. Such attempts take a second each of the time in which
/// others could be posted to.
pub const MAX_TIMED_OUT_ATTEMPTS: u32 = 3;

/// What is left of an invocation when posting ends: 2.5 s for closing connections, then 3 s for the database,
/// at the same time as 2.5 s for what is carried over, and 2.5 s for what is to come again.
pub const DEADLINE_MARGIN: StdDuration = StdDuration::from_millis(8_500);

/// What this function reads from its environment.
pub struct Config {
    /// `DATABASE_URL`: where members and connections are.
    pub database_url: DatabaseUrl,
    /// `CONNECTIONS_ENDPOINT`: the WebSocket API's management endpoint, `https://…/stage`.
    pub connections_endpoint: String,
    /// `QUEUE_URL`: where the records come from.
    pub queue_url: String,
    /// `DEAD_LETTER_QUEUE_URL`: where what cannot be read goes.
    pub dead_letter_queue_url: String,
    /// `POSTS_PER_SECOND`: how many posts all environments together may make.
    pub posts_per_second: NonZeroU32,
    /// `MAXIMUM_CONCURRENCY`: how many environments there are at most.
    pub maximum_concurrency: NonZeroU32,
    /// `METRICS_NAMESPACE`: what CloudWatch files the metrics under.
    pub metrics_namespace: String,
}

impl Config {
    /// Reads the variables.
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

/// All that batches share.
pub struct App {
    /// Members and connections.
    pub db: Database,
    /// The WebSocket API's management interface.
    pub connections: Connections,
    /// What closes connections.
    pub closer: Closer,
    /// Bounds the posts of this environment.
    pub rate_limiter: RateLimiter,
    /// The queue that the records come from.
    pub queue: Queue,
    /// The queue for messages that nobody can read or deliver.
    pub dead_letters: Queue,
    /// The time.
    pub clock: Clock,
    /// Records posting as a part of the invocation's trace.
    pub tracer: Tracer,
}

/// Handles one batch, and answers with the records to retry. Posting ends at `deadline`.
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
