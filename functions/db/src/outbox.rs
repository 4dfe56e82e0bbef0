//! Events that may not have reached the queue yet.

use model::EventId;
use uuid::Uuid;

use crate::client::Database;
use crate::error::Error;
use crate::query::Query;

pub(crate) const QUERIES: &[&Query] = &[&REMOVE_PUBLISHED];

const REMOVE_PUBLISHED: Query = Query::new(
    "-- remove_published
DELETE FROM outbox
WHERE event_id = $1",
);

impl Database {
    /// Records that the queue has the event.
    pub async fn remove_published(&self, event_id: EventId) -> Result<(), Error> {
        self.rows(&REMOVE_PUBLISHED, &[&Uuid::from(event_id)]).await?;
        Ok(())
    }
}
