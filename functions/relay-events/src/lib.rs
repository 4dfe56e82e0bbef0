//! Every minute: publishes the events that the outbox still holds, clears up what has expired, and brings dead letters back.
//!
//! It may run twice at once and be killed anywhere: events are claimed by lease, sending one twice is harmless, and what storage
//! holds is freed before it is forgotten.

mod clean_up;
mod publish;
mod redrive;

use std::time::Duration as StdDuration;

use db::{Database, DatabaseUrl};
use platform::config::{ConfigError, Vars};
use platform::metrics::Metric;
use platform::{Clock, error_chain};
use queue::Queue;
use serde::{Deserialize, Serialize};
use storage::Storage;
use thiserror::Error as ThisError;
use time::Duration;
use tokio::time::Instant;
use tracing::error;

pub use redrive::MESSAGE_LIFETIME;

/// How long after its expiry an upload's content may still arrive: S3 looks at a presigned URL's expiry when a request begins, and
/// a slow one may take hours from then.
pub const UPLOAD_GRACE: Duration = Duration::hours(24);

/// What is left of an invocation when no more work is begun: the longest that is under way is a round of publishing, with four
/// exchanges with the database at 3 s and one with the queue at 2.5 s.
pub const DEADLINE_MARGIN: StdDuration = StdDuration::from_secs(15);

/// Events in the outbox.
pub(crate) const WAITING: &str = "EventsWaiting";

/// How long the oldest of them has been there.
pub(crate) const OLDEST: &str = "OldestEventAge";

/// Dead letters that were brought back.
pub(crate) const REDRIVEN: &str = "MessagesRedriven";

/// What is counted.
pub const METRICS: [Metric; 4] = [
    Metric::Count(queue::PUBLISHED),
    Metric::Gauge(WAITING),
    Metric::Seconds(OLDEST),
    Metric::Count(REDRIVEN),
];

/// What this function reads from its environment.
pub struct Config {
    /// `DATABASE_URL`: where outbox, connections, tickets and uploads are.
    pub database_url: DatabaseUrl,
    /// `BUCKET_NAME`: where the content is.
    pub bucket: String,
    /// `QUEUE_URL`: where events go.
    pub queue_url: String,
    /// `DEAD_LETTER_QUEUE_URL`: where dead letters are.
    pub dead_letter_queue_url: String,
    /// `METRICS_NAMESPACE`: what CloudWatch files the metrics under.
    pub metrics_namespace: String,
}

impl Config {
    /// Reads the variables.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            bucket: vars.required("BUCKET_NAME")?,
            queue_url: vars.required("QUEUE_URL")?,
            dead_letter_queue_url: vars.required("DEAD_LETTER_QUEUE_URL")?,
            metrics_namespace: vars.required("METRICS_NAMESPACE")?,
        })
    }
}

/// All that runs share.
pub struct App {
    /// Outbox, connections, tickets and uploads.
    pub db: Database,
    /// Content.
    pub storage: Storage,
    /// Events.
    pub queue: Queue,
    /// Messages that nobody could read or deliver.
    pub dead_letters: Queue,
    /// The time.
    pub clock: Clock,
}

/// The schedule's event. Nothing of it matters but that it came.
#[derive(Debug, Deserialize)]
pub struct ScheduledEvent {}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Events that were sent to the queue.
    pub published: usize,
    /// Expired tickets and connections that were forgotten.
    pub expired: usize,
    /// Uploads that were not completed in time.
    pub aborted: usize,
    /// Dead letters that were brought back.
    pub redriven: usize,
    /// Uploads of which storage holds nothing any more.
    pub freed: usize,
}

/// A pass that could not be finished. The next run goes on with it.
#[derive(Debug, ThisError)]
enum Error {
    #[error("the database did not answer")]
    Database(#[from] db::Error),
    #[error(transparent)]
    Queue(#[from] queue::Error),
    #[error("the queue did not take {0} events")]
    NotTaken(usize),
    #[error("storage did not answer for {0} uploads")]
    Storage(usize),
    #[error("a message cannot be written")]
    Unwritable(#[from] model::UnwritableMessage),
}

/// The passes that could not be finished. Each has logged why.
#[derive(Debug, ThisError)]
#[error("unfinished: {0:?}")]
pub struct Unfinished(Vec<&'static str>);

/// Makes one run, which ends at `stop`. A pass that fails does not keep the others from their work.
pub async fn handle(app: &App, deadline: Instant) -> Result<Report, Unfinished> {
    let mut unfinished = Vec::new();
    let mut finish = |pass: &'static str, outcome: Result<usize, Error>| {
        outcome.unwrap_or_else(|error| {
            error!(error = error_chain(&error), "{pass} is left to the next run");
            unfinished.push(pass);
            0
        })
    };
    let report = Report {
        published: finish("publishing", publish::publish(app, deadline).await),
        expired: finish("forgetting", clean_up::forget_expired(app, deadline).await),
        aborted: finish("aborting", clean_up::abort_expired(app, deadline).await),
        redriven: finish("redriving", redrive::redrive(app, deadline).await),
        freed: finish("freeing", clean_up::free_storage(app, deadline).await),
    };
    if unfinished.is_empty() {
        Ok(report)
    } else {
        Err(Unfinished(unfinished))
    }
}
