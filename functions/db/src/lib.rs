//! The only SQL of SyncSphere. One client per environment, no pool: Lambda runs one handler at a time in each.
//!
//! Access is checked in the statement that reads or writes. What comes back says what the caller can do next.

mod audience;
mod client;
mod connections;
mod error;
mod migrations;
mod outbox;
mod query;
mod row;
mod tickets;
mod uploads;

pub use audience::Recipient;
pub use client::{Database, DatabaseUrl, InvalidDatabaseUrl};
pub use connections::{Connecting, NewConnection};
pub use error::{Error, MigrationError};
pub use migrations::{migrate, schema_version};
pub use tickets::NewTicket;
pub use uploads::{Completing, Completion, NewUpload, Opened, Upload, UploadState};

use query::Query;

/// Every query, as `(name, SQL)`, so that a test can prepare each against the migrated schema.
pub fn queries() -> impl Iterator<Item = (&'static str, &'static str)> {
    [
        audience::QUERIES,
        connections::QUERIES,
        outbox::QUERIES,
        tickets::QUERIES,
        uploads::QUERIES,
    ]
    .into_iter()
    .flatten()
    .map(|query: &&Query| (query.name(), query.sql()))
}
