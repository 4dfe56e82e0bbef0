//! From the queue to every WebSocket of everyone who may see the change.
//!
//! A record that cannot be read never holds up its batch, and a record that could not be delivered to somebody comes again
//! on its own within seconds. Delivering twice is harmless: every change carries its number.

mod delivery;
mod queue;

use std::collections::{BTreeMap, BTreeSet};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use db::{Database, DatabaseUrl, Recipient};
use edge::config::{ConfigError, Vars};
use edge::{Clock, batch, chain};
use model::{Event, SpaceId};
use time::Duration;
use tracing::{error, info, warn};

use delivery::Outcome;

/// While a connection's `$connect` still runs, posting to it answers 410 Gone as if it were dead. So one that is younger
/// than this is tried again rather than forgotten. API Gateway allows `$connect` 29 s (Amazon API Gateway Developer Guide,
/// "Quotas for configuring and running a WebSocket API").
pub const SETTLING_TIME: Duration = Duration::seconds(30);

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
}

impl Config {
    /// Reads the variables.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            connections_endpoint: vars.required("CONNECTIONS_ENDPOINT")?,
            queue_url: vars.required("QUEUE_URL")?,
            dead_letter_queue_url: vars.required("DEAD_LETTER_QUEUE_URL")?,
        })
    }
}

/// All that batches share.
pub struct App {
    /// Members and connections.
    pub db: Database,
    /// The WebSocket API's management interface.
    pub connections: aws_sdk_apigatewaymanagement::Client,
    /// Both queues.
    pub sqs: aws_sdk_sqs::Client,
    /// Where the records come from.
    pub queue_url: String,
    /// Where what cannot be read goes.
    pub dead_letter_queue_url: String,
    /// The time.
    pub clock: Clock,
}

/// A record of the batch that holds an event.
struct Record {
    message_id: String,
    receipt_handle: String,
    /// How often SQS has handed it out, this time included.
    receive_count: u32,
    event: Event,
}

/// Handles one batch, and answers with the records that are to come again.
pub async fn handle(app: &App, event: SqsEvent) -> SqsBatchResponse {
    let (records, mut failed) = queue::decode(app, event).await;
    if records.is_empty() {
        return batch::retry(failed);
    }
    let undelivered = deliver(app, &records).await;
    let retrying: Vec<&Record> = records
        .iter()
        .filter(|record| undelivered.contains(&record.event.space_id))
        .collect();
    queue::hasten(app, &retrying).await;
    failed.extend(retrying.into_iter().map(|record| record.message_id.clone()));
    batch::retry(failed)
}

/// Posts every event to its audience. Returns the spaces of which some connection should have had something but did not.
async fn deliver(app: &App, records: &[Record]) -> BTreeSet<SpaceId> {
    let mut events: BTreeMap<SpaceId, Vec<Event>> = BTreeMap::new();
    for record in records {
        events
            .entry(record.event.space_id)
            .or_default()
            .push(record.event.clone());
    }
    let spaces: Vec<SpaceId> = events.keys().copied().collect();

    let recipients = match app.db.recipients(&spaces, app.clock.now()).await {
        Ok(recipients) => recipients,
        Err(error) => {
            let records = records.len();
            error!(
                error = chain(&error),
                records, "nobody was notified: the audience is unknown"
            );
            return spaces.into_iter().collect();
        }
    };
    let frames = match delivery::frames(&events) {
        Ok(frames) => frames,
        Err(error) => {
            error!(
                error = chain(&error),
                records = records.len(),
                "nobody was notified: an event cannot be written"
            );
            return spaces.into_iter().collect();
        }
    };

    let outcomes = delivery::post_all(&app.connections, recipients, &frames).await;
    let (mut delivered, mut undelivered) = (0_usize, BTreeSet::new());
    let mut gone: Vec<Recipient> = Vec::new();
    for (recipient, outcome) in outcomes {
        match outcome {
            Outcome::Delivered => delivered += 1,
            Outcome::Gone if app.clock.now() - recipient.connected_at >= SETTLING_TIME => {
                gone.push(recipient);
            }
            Outcome::Gone | Outcome::Failed => {
                undelivered.insert(recipient.space_id);
            }
        }
    }
    forget(app, &gone).await;
    info!(
        records = records.len(),
        delivered,
        gone = gone.len(),
        retrying_spaces = undelivered.len(),
        "notified {delivered} connections of {} events",
        records.len(),
    );
    undelivered
}

/// A connection that stays although it is gone costs one post until it expires, so failing here is no reason to repeat all.
async fn forget(app: &App, gone: &[Recipient]) {
    if gone.is_empty() {
        return;
    }
    let named: Vec<_> = gone
        .iter()
        .map(|gone| (gone.connection_id.as_str(), gone.connected_at))
        .collect();
    if let Err(error) = app.db.remove_gone_connections(&named).await {
        warn!(
            error = chain(&error),
            connections = named.len(),
            "gone connections could not be forgotten"
        );
    }
}
