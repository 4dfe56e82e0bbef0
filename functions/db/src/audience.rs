//! Who hears of a change.

use model::{Place, Recipients, SpaceId, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::client::Database;
use crate::error::Error;
use crate::query::Query;
use crate::row::{column, plain};

pub(crate) const QUERIES: &[&Query] = &[&RECIPIENTS];

/// A part of the audience of a space.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Audience {
    /// The space.
    pub space_id: SpaceId,
    /// Which part.
    pub to: Recipients,
}

/// A connection of somebody who may see a space, at the moment of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Which of the audiences that were asked for, counted from 0.
    pub audience: usize,
    /// Whose it is.
    pub user_id: UserId,
    /// API Gateway's name for the connection.
    pub connection_id: String,
    /// When it was made.
    pub connected_at: OffsetDateTime,
}

impl Recipient {
    /// Its place in the order of its audience.
    pub fn place(&self) -> Place {
        Place {
            user_id: self.user_id.clone(),
            connection_id: self.connection_id.clone(),
        }
    }
}

/// $1 to $4 audiences to read in order: number, space, and the user and connection after which to begin; $5 to $7 single
/// connections: number, space and connection; $8 now, $9 how many of each audience.
const RECIPIENTS: Query = Query::new(
    "-- recipients
(
    SELECT a.audience, c.user_id, c.connection_id, c.connected_at
    FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[]) AS a (audience, space_id, user_id, connection_id)
    CROSS JOIN LATERAL (
        SELECT c.user_id, c.connection_id, c.connected_at
        FROM members m
        JOIN connections c ON c.user_id = m.user_id
        WHERE m.space_id = a.space_id AND m.user_id >= a.user_id
            AND (c.user_id, c.connection_id) > (a.user_id, a.connection_id) AND c.expires_at > $8
        ORDER BY c.user_id, c.connection_id
        LIMIT $9
    ) c
)
UNION ALL
(
    SELECT a.audience, c.user_id, c.connection_id, c.connected_at
    FROM unnest($5::bigint[], $6::uuid[], $7::text[]) AS a (audience, space_id, connection_id)
    JOIN connections c ON c.connection_id = a.connection_id AND c.expires_at > $8
    JOIN members m ON m.space_id = a.space_id AND m.user_id = c.user_id
)
ORDER BY audience, user_id, connection_id",
);

impl Database {
    /// The connections of the audiences, in order, at most `limit` of each. Whoever is no member now is not among them.
    pub async fn recipients(
        &self,
        audiences: &[Audience],
        limit: i64,
        now: OffsetDateTime,
    ) -> Result<Vec<Recipient>, Error> {
        let mut ordered = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut single = (Vec::new(), Vec::new(), Vec::new());
        for (number, audience) in (0_i64..).zip(audiences) {
            let space_id = Uuid::from(audience.space_id);
            let (user_id, connection_id) = match &audience.to {
                Recipients::All => ("", ""),
                Recipients::After(place) => (place.user_id.as_str(), place.connection_id.as_str()),
                Recipients::Only(connections) => {
                    for connection_id in connections {
                        single.0.push(number);
                        single.1.push(space_id);
                        single.2.push(connection_id.as_str());
                    }
                    continue;
                }
            };
            ordered.0.push(number);
            ordered.1.push(space_id);
            ordered.2.push(user_id);
            ordered.3.push(connection_id);
        }
        let rows = self
            .rows(
                &RECIPIENTS,
                &[
                    &ordered.0, &ordered.1, &ordered.2, &ordered.3, &single.0, &single.1, &single.2, &now,
                    &limit,
                ],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Recipient {
                    audience: column::<i64, usize>(row, "audience")?,
                    user_id: column::<String, UserId>(row, "user_id")?,
                    connection_id: plain(row, "connection_id")?,
                    connected_at: plain(row, "connected_at")?,
                })
            })
            .collect()
    }
}
