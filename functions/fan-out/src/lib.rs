//! From the queue to every WebSocket of everyone who may see the change.
//!
//! A record that cannot be read never holds up its batch. Of a record that could not be delivered to
//! somebody, a message to just them goes back to the queue, and comes again within seconds. A connection that
//! takes no posts is closed. Delivering twice is harmless: every change carries its number.

mod closing;
mod connections;
mod counts;
mod notify;
mod pace;
mod posting;
mod queue;

use std::num::NonZeroU32;
use std::time::Duration as StdDuration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use db::{Database, DatabaseUrl};
use model::Message;
use platform::config::{ConfigError, Vars};
use platform::trace::Tracer;
use platform::{Clock, batch};
use time::Duration;
use tokio::time::Instant;

pub use closing::Closer;
pub use connections::{Connections, InvalidEndpoint};
pub use counts::METRICS;
pub use pace::Pace;

/// While a connection's `$connect` still runs, posting to it answers 410 Gone as if it were dead. So one that is younger
/// than this is tried again rather than forgotten. API Gateway allows `$connect` 29 s (Amazon API Gateway Developer Guide,
/// "Quotas for configuring and running a WebSocket API").
pub const SETTLING_TIME: Duration = Duration::seconds(30);

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
pub const MAX_HANGING_ATTEMPTS: u32 = 3;

/// What is left of an invocation when posting ends: 2.5 s for closing connections, then 3 s for the database,
/// at the same time as 2.5 s for what is carried over, and 2.5 s for what is to come again.
pub const RESERVE: StdDuration = StdDuration::from_millis(8_500);

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
    /// How fast it may be used.
    pub pace: Pace,
    /// Both queues.
    pub sqs: aws_sdk_sqs::Client,
    /// Where the records come from.
    pub queue_url: String,
    /// Where what cannot be read goes.
    pub dead_letter_queue_url: String,
    /// The time.
    pub clock: Clock,
    /// Where posting is recorded.
    pub tracer: Tracer,
}

/// A record of the batch that holds a message.
struct Record {
    message_id: String,
    receipt_handle: String,
    /// How often SQS has handed it out, this time included.
    receive_count: u32,
    /// The trace of who sent it.
    trace: Option<String>,
    message: Message,
}

/// Handles one batch, and answers with the records that are to come again. Posting ends at `stop`.
pub async fn handle(app: &App, event: SqsEvent, stop: Instant) -> SqsBatchResponse {
    let (records, mut failed) = queue::decode(app, event).await;
    if !records.is_empty() {
        let unsettled = notify::notify(app, &records, stop).await;
        let again: Vec<&Record> = unsettled.into_iter().filter_map(|i| records.get(i)).collect();
        queue::hasten(app, &again).await;
        failed.extend(again.into_iter().map(|record| record.message_id.clone()));
    }
    batch::retry(failed)
}
