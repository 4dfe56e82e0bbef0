//! Who hears of a change.

use model::SpaceId;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::client::Database;
use crate::error::Error;
use crate::query::Query;
use crate::row::{column, plain};

pub(crate) const QUERIES: &[&Query] = &[&RECIPIENTS];

/// A connection of somebody who may see a space, at the moment of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The space.
    pub space_id: SpaceId,
    /// API Gateway's name for the connection.
    pub connection_id: String,
    /// When it was made.
    pub connected_at: OffsetDateTime,
}

/// $1 spaces, $2 now.
const RECIPIENTS: Query = Query::new(
    "-- recipients
SELECT m.space_id, c.connection_id, c.connected_at
FROM members m
JOIN connections c ON c.user_id = m.user_id
WHERE m.space_id = ANY ($1) AND c.expires_at > $2",
);

impl Database {
    /// The connections of all members of the spaces.
    pub async fn recipients(&self, spaces: &[SpaceId], now: OffsetDateTime) -> Result<Vec<Recipient>, Error> {
        let spaces: Vec<Uuid> = spaces.iter().copied().map(Uuid::from).collect();
        let rows = self.rows(&RECIPIENTS, &[&spaces, &now]).await?;
        rows.iter()
            .map(|row| {
                Ok(Recipient {
                    space_id: column::<Uuid, SpaceId>(row, "space_id")?,
                    connection_id: plain(row, "connection_id")?,
                    connected_at: plain(row, "connected_at")?,
                })
            })
            .collect()
    }
}
