//! Events that may not have reached the queue yet. Each has one row from the commit of its change until it was sent; the row's
//! lease says until when somebody is sending it.

use model::{Event, EventId};
use time::OffsetDateTime;
use tracing::error;
use uuid::Uuid;

use crate::changes::event;
use crate::client::Database;
use crate::error::Error;
use crate::query::Query;
use crate::row::get;

pub(crate) const QUERIES: &[&Query] = &[&REMOVE_PUBLISHED, &RELEASE_EVENTS, &CLAIM_EVENTS, &WAITING_EVENTS];

/// What waits in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxStats {
    /// How many events.
    pub events: i64,
    /// When the oldest was committed.
    pub oldest: Option<OffsetDateTime>,
    /// When the first of those that were asked about can be claimed.
    pub claimable_at: Option<OffsetDateTime>,
}

/// $1 events.
const REMOVE_PUBLISHED: Query = Query::new(
    "-- remove_published
DELETE FROM outbox
WHERE event_id = ANY ($1)
RETURNING event_id",
);

/// $1 events, $2 now.
const RELEASE_EVENTS: Query = Query::new(
    "-- release_events
UPDATE outbox
SET leased_until = $2
WHERE event_id = ANY ($1)",
);

/// $1 now, $2 until when they are claimed, $3 how many. Two who claim at once get different events.
const CLAIM_EVENTS: Query = Query::new(
    "-- claim_events
WITH due AS (
    SELECT event_id
    FROM outbox
    WHERE leased_until <= $1
    ORDER BY leased_until
    LIMIT $3
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE outbox o
    SET leased_until = $2
    FROM due
    WHERE o.event_id = due.event_id
    RETURNING o.event_id
)
SELECT c.sequence, c.event_id, c.event_type, c.space_id, c.user_id, c.device_id, c.file_id, c.path, c.version, c.size,
    c.sha256, c.subject_space_id, c.subject_role, c.occurred_at
FROM claimed
JOIN changes c ON c.event_id = claimed.event_id
ORDER BY c.space_id, c.sequence",
);

/// $1 before when the events that are asked about were committed.
const WAITING_EVENTS: Query = Query::new(
    "-- waiting_events
SELECT count(*) AS events, min(created_at) AS oldest, min(leased_until) FILTER (WHERE created_at < $1) AS claimable_at
FROM outbox",
);

impl Database {
    /// Records that the queue has the events, and returns how many of them were still to be published. Each event counts once,
    /// however often it was sent.
    pub async fn remove_published(&self, events: &[EventId]) -> Result<usize, Error> {
        let rows = self.rows(&REMOVE_PUBLISHED, &[&uuids(events)]).await?;
        Ok(rows.len())
    }

    /// Gives up sending: whoever comes next may claim the events.
    pub async fn release_events(&self, events: &[EventId], now: OffsetDateTime) -> Result<(), Error> {
        self.rows(&RELEASE_EVENTS, &[&uuids(events), &now]).await?;
        Ok(())
    }

    /// Claims up to `limit` events that nobody is sending, the longest unclaimed first, until `leased_until`. One that cannot be
    /// read is logged, and keeps nobody else waiting.
    pub async fn claim_events(
        &self,
        now: OffsetDateTime,
        leased_until: OffsetDateTime,
        limit: i64,
    ) -> Result<Vec<Event>, Error> {
        let rows = self.rows(&CLAIM_EVENTS, &[&now, &leased_until, &limit]).await?;
        let events = rows.iter().filter_map(|row| match event(row) {
            Ok(event) => Some(event),
            Err(error) => {
                let event_id = get::<Uuid>(row, "event_id").unwrap_or_default();
                error!(%event_id, ?error, "event {event_id} cannot be read, and so not be published");
                None
            }
        });
        Ok(events.collect())
    }

    /// How many events wait, since when, and when one that was committed before `before` can be claimed.
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

fn uuids(events: &[EventId]) -> Vec<Uuid> {
    events.iter().copied().map(Uuid::from).collect()
}
