//! The epoch, which names the history of the database.

use model::Epoch;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::client::Database;
use crate::error::Error;
use crate::query::Query;

pub(crate) const QUERIES: &[&Query] = &[&BEGIN_EPOCH];

/// $1 epoch.
const BEGIN_EPOCH: Query = Query::new(
    "-- begin_epoch
UPDATE history
SET epoch = $1, restored = true",
);

/// $1 the resource id of this database. Begins an epoch if another database is recorded, since this one was
/// then restored from a backup of that. The first database is only recorded. No row if nothing changed.
const RECORD_DATABASE: &str = "-- record_database
UPDATE history
SET database_id = $1,
    epoch = CASE WHEN database_id IS NULL THEN epoch ELSE gen_random_uuid() END,
    restored = restored OR database_id IS NOT NULL
WHERE database_id IS DISTINCT FROM $1
RETURNING restored";

impl Database {
    /// Begins an epoch. From now on requests that name another one are refused.
    pub async fn begin_epoch(&self, epoch: Epoch) -> Result<(), Error> {
        self.rows(&BEGIN_EPOCH, &[&Uuid::from(epoch)]).await?;
        Ok(())
    }
}

/// Records the database's resource id, and begins an epoch if it is another one than before. Returns whether an
/// epoch began.
pub(crate) async fn record_database(client: &Client, database_id: &str) -> Result<bool, Error> {
    let rows = client.query(RECORD_DATABASE, &[&database_id]).await;
    let rows = rows.map_err(|source| Error::Query {
        query: "record_database",
        source,
    })?;
    Ok(rows.first().is_some_and(|row| row.get("restored")))
}
