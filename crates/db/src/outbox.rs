//! The transactional outbox: events that may not have reached the queue yet. An event has a row here from the
//! commit of its change until it has been sent. The row has a lease; until its end one sender has the event
//! to itself.

use model::{Event, EventId};
use time::OffsetDateTime;
use tokio_postgres::Row;
use tracing::error;
use uuid::Uuid;

use crate::changes::event;
use crate::client::Database;
use crate::error::Error;
use crate::query::Query;
use crate::row::get;

pub(crate) const QUERIES: &[&Query] = &[&REMOVE_PUBLISHED, &RELEASE_EVENTS, &CLAIM_EVENTS, &WAITING_EVENTS];

/// The state of the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxStats {
    /// Number of events in the outbox.
    pub events: i64,
    /// When the oldest event was committed; `None` if there are no events.
    pub oldest: Option<OffsetDateTime>,
    /// When the first lease ends among the events that the query asked about; `None` if there are none of
    /// these.
    pub claimable_at: Option<OffsetDateTime>,
}

/// Deletes events from an outbox. $1 event ids.
macro_rules! remove {
    ($name:literal, $outbox:literal) => {
        $crate::query::Query::new(concat!(
            "-- ",
            $name,
            "
DELETE FROM ",
            $outbox,
            "
WHERE event_id = ANY ($1)
RETURNING event_id"
        ))
    };
}
pub(crate) use remove;

/// Ends the leases of events in an outbox. $1 event ids, $2 now.
macro_rules! release {
    ($name:literal, $outbox:literal) => {
        $crate::query::Query::new(concat!(
            "-- ",
            $name,
            "
UPDATE ",
            $outbox,
            "
SET leased_until = $2
WHERE event_id = ANY ($1)"
        ))
    };
}
pub(crate) use release;

/// Claims events in an outbox, the earliest end of a lease first. $1 now, $2 end of the new lease, $3 maximum
/// number of events. Concurrent claims get different events.
macro_rules! claim {
    ($name:literal, $outbox:literal) => {
        $crate::query::Query::new(concat!(
            "-- ",
            $name,
            "
WITH due AS (
    SELECT event_id
    FROM ",
            $outbox,
            "
    WHERE leased_until <= $1
    ORDER BY leased_until
    LIMIT $3
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE ",
            $outbox,
            " o
    SET leased_until = $2
    FROM due
    WHERE o.event_id = due.event_id
    RETURNING o.event_id
)
SELECT author.name AS user_name, ",
            $crate::changes::event_columns!(),
            "
FROM claimed
JOIN changes c ON c.event_id = claimed.event_id
LEFT JOIN users author ON author.user_id = c.user_id
ORDER BY c.space_id, c.sequence"
        ))
    };
}
pub(crate) use claim;

const REMOVE_PUBLISHED: Query = remove!("remove_published", "outbox");

const RELEASE_EVENTS: Query = release!("release_events", "outbox");

const CLAIM_EVENTS: Query = claim!("claim_events", "outbox");

/// $1 exclusive upper bound of the commit times for `claimable_at`.
const WAITING_EVENTS: Query = Query::new(
    "-- waiting_events
SELECT count(*) AS events, min(created_at) AS oldest, min(leased_until) FILTER (WHERE created_at < $1) AS claimable_at
FROM outbox",
);

impl Database {
    /// Deletes events that have been sent to the queue, and returns how many were still in the outbox. Each
    /// event is therefore counted once, even if it was sent more than once.
    pub async fn remove_published(&self, events: &[EventId]) -> Result<usize, Error> {
        let rows = self.rows(&REMOVE_PUBLISHED, &[&uuids(events)]).await?;
        Ok(rows.len())
    }

    /// Ends the lease of events that were not sent, so that the next claim can take them.
    pub async fn release_events(&self, events: &[EventId], now: OffsetDateTime) -> Result<(), Error> {
        self.rows(&RELEASE_EVENTS, &[&uuids(events), &now]).await?;
        Ok(())
    }

    /// Claims up to `limit` events with a lease that has ended, the earliest end first, and leases them until
    /// `leased_until`. An event that cannot be parsed is logged and left out; it does not hold up the others.
    pub async fn claim_events(
        &self,
        now: OffsetDateTime,
        leased_until: OffsetDateTime,
        limit: i64,
    ) -> Result<Vec<Event>, Error> {
        let rows = self.rows(&CLAIM_EVENTS, &[&now, &leased_until, &limit]).await?;
        Ok(readable(&rows))
    }

    /// The number and the age of all events in the outbox, and when the first event that was committed before
    /// `before` can be claimed.
    pub async fn waiting_events(&self, before: OffsetDateTime) -> Result<OutboxStats, Error> {
        let rows = self.rows(&WAITING_EVENTS, &[&before]).await?;
        let Some(row) = rows.first() else {
            return Ok(OutboxStats {
                events: 0,
                oldest: None,
                claimable_at: None,
            });
        };
        Ok(OutboxStats {
            events: get(row, "events")?,
            oldest: get(row, "oldest")?,
            claimable_at: get(row, "claimable_at")?,
        })
    }
}

/// Parses claimed events. One that cannot be parsed is logged and left out; it does not hold up the others.
pub(crate) fn readable(rows: &[Row]) -> Vec<Event> {
    let events = rows.iter().filter_map(|row| match event(row) {
        Ok(event) => Some(event),
        Err(error) => {
            let event_id = get::<Uuid>(row, "event_id").unwrap_or_default();
            error!(%event_id, ?error, "event {event_id} cannot be read, and so not be published");
            None
        }
    });
    events.collect()
}

pub(crate) fn uuids(events: &[EventId]) -> Vec<Uuid> {
    events.iter().copied().map(Uuid::from).collect()
}
