//! All SQL of SyncSphere. Each Lambda execution environment has one client and no pool, because it runs one
//! handler at a time.
//!
//! A statement that reads or writes for a user also checks the user's access. Methods return outcomes that
//! the caller can act on, not rows.

#![warn(missing_docs)]

mod aborted_uploads;
mod audience;
mod batch;
mod bus;
mod changes;
mod client;
mod connect;
mod connections;
mod epoch;
mod erasure;
mod error;
mod files;
mod invitations;
mod migrations;
mod outbox;
mod purge;
mod query;
pub mod rds_authorities;
mod role;
mod row;
mod spaces;
mod tickets;
mod trash;
mod uploads;
mod users;

pub use aborted_uploads::AbortedUpload;
pub use audience::{Audience, Page, PageSize, Recipient};
pub use bus::set_bus;
pub use changes::{Commit, Effect, Limit, LimitName, MAX_CHANGES, NewChange, Rejection};
pub use client::Database;
pub use connect::{Connector, DatabaseUrl, InvalidDatabaseUrl, Passwords};
pub use connections::{Connecting, NewConnection};
pub use error::{BoxError, Error, MigrationError};
pub use files::{Base, Content, FileCommand, FolderEntry};
pub use invitations::{InvitationLimits, Invited, NewInvitation};
pub use migrations::{Migrated, migrate, schema_version};
pub use outbox::OutboxStats;
pub use purge::{MarkedVersion, PURGE_GRACE};
pub use role::{GRANTS, Role};
pub use spaces::{Membership, NewSpace};
pub use tickets::NewTicket;
pub use uploads::{Completing, IN_FLIGHT, NewUpload, OpenUpload, Opening, Upload, UploadPhase, UploadState};

pub use users::{Maximums, User, UserLimits};

use query::Query;

/// Every query as `(name, SQL)`. A test prepares each against the migrated schema.
pub fn queries() -> impl Iterator<Item = (&'static str, &'static str)> {
    [
        audience::QUERIES,
        bus::QUERIES,
        changes::QUERIES,
        connections::QUERIES,
        erasure::QUERIES,
        files::QUERIES,
        epoch::QUERIES,
        invitations::QUERIES,
        aborted_uploads::QUERIES,
        outbox::QUERIES,
        purge::QUERIES,
        spaces::QUERIES,
        tickets::QUERIES,
        trash::QUERIES,
        uploads::QUERIES,
        users::QUERIES,
    ]
    .into_iter()
    .flatten()
    .map(|query: &&Query| (query.name(), query.sql()))
}
