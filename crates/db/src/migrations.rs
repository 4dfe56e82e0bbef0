//! The schema and how it is brought up.

use refinery::embed_migrations;
use tracing::info;

use crate::connect::Connector;
use crate::error::{Error, MigrationError};
use crate::role::{self, Role};

embed_migrations!("migrations");

/// Taken while migrating, so that two deployments cannot do it at once. Any number that nothing else locks.
const MIGRATION_LOCK: i64 = 0x5379_6e63_5370_6865;

/// The schema version that this code needs: the number of its newest migration.
pub fn schema_version() -> i32 {
    migrations::runner()
        .get_migrations()
        .iter()
        .map(refinery::Migration::version)
        .max()
        .unwrap_or(0)
}

/// What came of migrating.
#[derive(Clone, Copy, Debug)]
pub struct Migrated {
    /// How many migrations were applied.
    pub applied: usize,
    /// The version that the schema is at now; of a later release than this one, if such a one is being taken back.
    pub version: i32,
}

/// Applies what the database lacks, as the schema's owner, and gives `role` its rights. Doing it
/// again changes nothing, and neither does an earlier release. Without a role, the owner is who functions sign in as.
///
/// A statement waits at most 5 s for a lock, so that a migration behind a long query fails instead of stopping the
/// release that still serves.
pub async fn migrate(owner: &Connector, role: Option<Role<'_>>) -> Result<Migrated, MigrationError> {
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
    // A deployment that is taken back: the schema stays, and this release runs on it.
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
    Ok(Migrated {
        applied: applied.len(),
        version: schema_version(),
    })
}
