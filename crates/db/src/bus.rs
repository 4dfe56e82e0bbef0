//! The outbox of the event bus: events that the bus may not have yet. A trigger fills it from the outbox in the
//! transaction of the change, if `settings` says that the stack has a bus.

use model::{Event, EventId};
use time::OffsetDateTime;

use crate::client::Database;
use crate::connect::Connector;
use crate::error::{Error, MigrationError};
use crate::outbox::{claim, readable, release, remove, uuids};
use crate::query::Query;
use crate::row::get;

pub(crate) const QUERIES: &[&Query] = &[
    &CLAIM_BUS_EVENTS,
    &RELEASE_BUS_EVENTS,
    &REMOVE_BUS_EVENTS,
    &OLDEST_BUS_EVENT,
    &DROP_BUS_EVENTS,
];

const CLAIM_BUS_EVENTS: Query = claim!("claim_bus_events", "bus_outbox");

const RELEASE_BUS_EVENTS: Query = release!("release_bus_events", "bus_outbox");

const REMOVE_BUS_EVENTS: Query = remove!("remove_bus_events", "bus_outbox");

/// Without parameters.
const OLDEST_BUS_EVENT: Query = Query::new(
    "-- oldest_bus_event
SELECT min(created_at) AS oldest
FROM bus_outbox",
);

/// $1 maximum number of events. None while the stack has a bus: a function without the parameter may still
/// run while a deployment sets it.
const DROP_BUS_EVENTS: Query = Query::new(
    "-- drop_bus_events
WITH due AS (
    SELECT event_id
    FROM bus_outbox
    WHERE NOT (SELECT has_bus FROM settings)
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
DELETE FROM bus_outbox b
USING due
WHERE b.event_id = due.event_id
RETURNING b.event_id",
);

/// $1 whether the stack has a bus.
const SET_BUS: &str = "-- set_bus
UPDATE settings
SET has_bus = $1
WHERE has_bus <> $1";

/// Records whether the stack has an event bus. Every change that is committed afterwards goes there, or none.
/// `owner` owns the schema.
pub async fn set_bus(owner: &Connector, has_bus: bool) -> Result<(), MigrationError> {
    let client = owner.connect("-c lock_timeout=5s").await?;
    client
        .execute(SET_BUS, &[&has_bus])
        .await
        .map_err(|source| Error::Query {
            query: "set_bus",
            source,
        })?;
    Ok(())
}

impl Database {
    /// Claims up to `limit` events for the bus with a lease that has ended, the earliest end first, and
    /// leases them until `leased_until`. An event that cannot be parsed is logged and left out.
    pub async fn claim_bus_events(
        &self,
        now: OffsetDateTime,
        leased_until: OffsetDateTime,
        limit: i64,
    ) -> Result<Vec<Event>, Error> {
        let rows = self
            .rows(&CLAIM_BUS_EVENTS, &[&now, &leased_until, &limit])
            .await?;
        Ok(readable(&rows))
    }

    /// Ends the lease of events that did not reach the bus, so that the next claim can take them.
    pub async fn release_bus_events(&self, events: &[EventId], now: OffsetDateTime) -> Result<(), Error> {
        self.rows(&RELEASE_BUS_EVENTS, &[&uuids(events), &now]).await?;
        Ok(())
    }

    /// Deletes events that the bus has taken, and returns how many had not been deleted before.
    pub async fn remove_bus_events(&self, events: &[EventId]) -> Result<usize, Error> {
        let rows = self.rows(&REMOVE_BUS_EVENTS, &[&uuids(events)]).await?;
        Ok(rows.len())
    }

    /// When the oldest event that waits for the bus was committed; `None` if none waits.
    pub async fn oldest_bus_event(&self) -> Result<Option<OffsetDateTime>, Error> {
        let rows = self.rows(&OLDEST_BUS_EVENT, &[]).await?;
        rows.first().map_or(Ok(None), |row| get(row, "oldest"))
    }

    /// Deletes up to `limit` events that wait for the bus if the stack no longer has one, and returns their
    /// number.
    pub async fn drop_bus_events(&self, limit: i64) -> Result<usize, Error> {
        let rows = self.rows(&DROP_BUS_EVENTS, &[&limit]).await?;
        Ok(rows.len())
    }
}
