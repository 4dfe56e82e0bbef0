//! The database schema and its migrations.

use refinery::embed_migrations;
use tracing::info;

use crate::connect::Connector;
use crate::epoch;
use crate::error::{Error, MigrationError};
use crate::role::{self, Role};

embed_migrations!("migrations");

/// Key of the advisory lock that is held while migrating, so that two deployments cannot migrate at once. The
/// number is arbitrary, but no other lock may use it.
const MIGRATION_LOCK: i64 = 0x5379_6e63_5370_6865;

/// The schema version that this release needs: the number of its newest migration.
pub fn schema_version() -> i32 {
    migrations::runner()
        .get_migrations()
        .iter()
        .map(refinery::Migration::version)
        .max()
        .unwrap_or(0)
}

/// The result of migrating.
#[derive(Clone, Copy, Debug)]
pub struct Migrated {
    /// Number of migrations that were applied.
    pub applied: usize,
    /// The schema version after migrating. It is above [`schema_version`] if the schema is of a later
    /// release, as after a rollback of the functions.
    pub version: i32,
}

/// Applies the missing migrations as the schema's owner, and grants `role` its privileges. `None` means that
/// the functions sign in as the owner. Running it again changes nothing. On the schema of a later release it
/// does nothing.
///
/// A statement waits at most 5 s for a lock. A migration behind a long query then fails, instead of blocking
/// the release that still serves.
///
/// `database_id` is the RDS resource id of the database, if it has one. If the database records another one,
/// it was restored from a backup, and a new epoch begins.
pub async fn migrate(
    owner: &Connector,
    role: Option<Role<'_>>,
    database_id: Option<&str>,
) -> Result<Migrated, MigrationError> {
    let mut client = owner.connect("-c lock_timeout=5s").await?;
    client
        .query(
            "-- lock_migrations\nSELECT pg_advisory_lock($1)",
            &[&MIGRATION_LOCK],
        )
        .await
        .map_err(|source| Error::Query {
            query: "lock_migrations",
            source,
        })?;
    let newest = migrations::runner()
        .get_last_applied_migration_async(&mut client)
        .await;
    // A rollback: the schema stays, and this release runs on it.
    if let Ok(Some(newest)) = newest
        && newest.version() > schema_version()
    {
        info!(
            version = newest.version(),
            "the schema is of a later release: nothing to do"
        );
        return Ok(Migrated {
            applied: 0,
            version: newest.version(),
        });
    }
    let report = migrations::runner().run_async(&mut client).await?;
    let applied = report.applied_migrations();
    for migration in applied {
        info!(
            version = migration.version(),
            name = migration.name(),
            "applied migration {migration}"
        );
    }
    if let Some(role) = role {
        role::provision(&client, role).await?;
    }
    if let Some(database_id) = database_id
        && epoch::record_database(&client, database_id).await?
    {
        info!(
            database_id,
            "this database was restored from a backup: a new epoch begins"
        );
    }
    Ok(Migrated {
        applied: applied.len(),
        version: schema_version(),
    })
}
