//! Every minute: publishes the events that are still in the outbox, puts events on the event bus, cleans up
//! expired rows and content, requeues dead letters, and purges what is past its time.
//!
//! Two runs may overlap, and a run may be killed at any point. Events are claimed by lease, and sending an
//! event twice is harmless. The content of an upload is deleted from storage before the upload's row.

mod bus;
mod clean_up;
mod erase;
mod metrics;
mod publish;
mod purge;
mod redrive;

use std::time::Duration as StdDuration;

use ::bus::Bus;
use db::{Database, DatabaseUrl};
use platform::config::{ConfigError, Vars};
use platform::{Clock, error_chain, summary};
use queue::Queue;
use serde::{Deserialize, Serialize};
use storage::Storage;
use thiserror::Error as ThisError;
use time::Duration;
use tokio::time::Instant;
use tracing::{error, info};

pub use metrics::METRICS;
pub use purge::{ROWS as PURGED_ROWS, Retention};
pub use redrive::MESSAGE_LIFETIME;

/// How long after its expiry an upload's content may still arrive. S3 checks the expiry of a presigned URL
/// when a request begins, and a slow request may take hours from then.
pub const UPLOAD_GRACE: Duration = Duration::hours(24);

/// Time before the end of an invocation at which no more work is started. It covers the longest unit of work,
/// a round of publishing: four exchanges with the database of 3 s each and one with the queue of 2.5 s.
pub const DEADLINE_MARGIN: StdDuration = StdDuration::from_secs(15);

/// The field of a run's line in the log with the events of dead letters that were too old to be requeued.
pub(crate) const DROPPED: &str = "dropped_event_ids";

/// The field of a run's line in the log with the spaces that were purged.
pub(crate) const PURGED_SPACES: &str = "purged_space_ids";

/// The function's configuration. Each field names its environment variable.
pub struct Config {
    /// `DATABASE_URL`: the PostgreSQL database that holds the outbox, connections, tickets and uploads.
    pub database_url: DatabaseUrl,
    /// `BUCKET_NAME`: the S3 bucket that holds the content.
    pub bucket: String,
    /// `QUEUE_URL`: the SQS queue that events are sent to.
    pub queue_url: String,
    /// `DEAD_LETTER_QUEUE_URL`: the SQS queue that dead letters are received from.
    pub dead_letter_queue_url: String,
    /// `EVENT_BUS_NAME`: the EventBridge bus that events are put on; `None` if the stack has none.
    pub event_bus: Option<String>,
    /// `TRASH_DAYS`, `KEEP_VERSIONS` and `VERSION_DAYS`: how long deleted files and spaces, and old versions, are
    /// kept.
    pub retention: Retention,
    /// `METRICS_NAMESPACE`: the CloudWatch namespace of the function's metrics.
    pub metrics_namespace: String,
}

impl Config {
    /// Reads the environment variables. The error names a variable that is missing or invalid.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            bucket: vars.required("BUCKET_NAME")?,
            queue_url: vars.required("QUEUE_URL")?,
            dead_letter_queue_url: vars.required("DEAD_LETTER_QUEUE_URL")?,
            event_bus: vars.optional("EVENT_BUS_NAME")?,
            retention: Retention {
                trash: vars.required("TRASH_DAYS")?,
                versions: vars.required("KEEP_VERSIONS")?,
                replaced: vars.required("VERSION_DAYS")?,
            },
            metrics_namespace: vars.required("METRICS_NAMESPACE")?,
        })
    }
}

/// The state that all runs in one execution environment share.
pub struct App {
    /// The database that holds the outbox, connections, tickets and uploads.
    pub db: Database,
    /// The bucket that holds the content.
    pub storage: Storage,
    /// The queue that events are sent to.
    pub queue: Queue,
    /// The dead-letter queue, with messages that could not be read or delivered.
    pub dead_letters: Queue,
    /// The event bus that events are put on; `None` if the stack has none.
    pub bus: Option<Bus>,
    /// How long deleted files and spaces, and old versions, are kept.
    pub retention: Retention,
    /// The clock. Tests set its time.
    pub clock: Clock,
}

/// The event of the schedule. Its content is ignored.
#[derive(Debug, Deserialize)]
pub struct ScheduledEvent {}

/// The numbers of items that a run handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Events that were sent to the queue.
    pub published: usize,
    /// Events that the event bus took.
    pub put_on_bus: usize,
    /// Expired tickets and connections that were deleted.
    pub expired: usize,
    /// Uploads that were aborted because they were not completed in time.
    pub aborted: usize,
    /// Dead letters that were requeued.
    pub redriven: usize,
    /// Aborted uploads whose content was deleted from storage.
    pub freed: usize,
    /// Versions that were purged because they were past their time.
    pub purged: usize,
    /// Accounts whose erasure was finished.
    pub erased: usize,
}

/// The reason why a pass could not be finished. The next run continues it.
#[derive(Debug, ThisError)]
enum Error {
    #[error("the database did not answer")]
    Database(#[from] db::Error),
    #[error(transparent)]
    Queue(#[from] queue::Error),
    #[error("the queue did not take {0} events")]
    NotTaken(usize),
    #[error("the event bus did not take {0} events")]
    NotPut(usize),
    #[error("storage did not answer for {0} uploads")]
    Storage(usize),
    #[error("storage did not delete {0} objects")]
    Objects(usize),
    #[error("a message cannot be written")]
    Unwritable(#[from] model::UnwritableMessage),
}

/// The names of the passes that could not be finished. The reason of each is logged.
#[derive(Debug, ThisError)]
#[error("unfinished: {0:?}")]
pub struct Unfinished(Vec<&'static str>);

/// Makes one run, which ends at `deadline`, and writes its line to the log. A pass that fails does not stop the
/// other passes.
pub async fn handle(app: &App, deadline: Instant) -> Result<Report, Unfinished> {
    let begun = Instant::now();
    // Boxed: otherwise the types of the SDK's futures are nested too deeply for the compiler.
    let ((report, unfinished), mut summary) = summary::of(Box::pin(run(app, deadline))).await;
    info!(
        duration_ms = summary::milliseconds_since(begun),
        published = report.published,
        put_on_bus = report.put_on_bus,
        expired = report.expired,
        aborted = report.aborted,
        redriven = report.redriven,
        freed = report.freed,
        purged = report.purged,
        erased = report.erased,
        dropped_event_ids = summary.take(DROPPED),
        purged_space_ids = summary.take(PURGED_SPACES),
        unfinished = (!unfinished.is_empty()).then(|| unfinished.join(", ")),
        "ran"
    );
    if unfinished.is_empty() {
        Ok(report)
    } else {
        Err(Unfinished(unfinished))
    }
}

/// Returns the numbers of items that were handled, and the names of the passes that could not be finished.
async fn run(app: &App, deadline: Instant) -> (Report, Vec<&'static str>) {
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
        put_on_bus: finish("putting events on the bus", bus::put(app, deadline).await),
        expired: finish("forgetting", clean_up::forget_expired(app, deadline).await),
        aborted: finish("aborting", clean_up::abort_expired(app, deadline).await),
        redriven: finish("redriving", redrive::redrive(app, deadline).await),
        erased: finish("erasing", erase::finish(app, deadline).await),
        freed: finish("freeing", clean_up::free_storage(app, deadline).await),
        purged: finish("purging", purge::purge(app, deadline).await),
    };
    (report, unfinished)
}
