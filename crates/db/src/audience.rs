//! The recipients of an event: the open connections of a space's members.

use model::{Epoch, PageKey, Recipients, SpaceId, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::client::Database;
use crate::error::Error;
use crate::query::Query;
use crate::row::{get, parse};

pub(crate) const QUERIES: &[&Query] = &[&RECIPIENTS];

/// The audience of a space, or a part of it. The audience is all open connections of the space's members,
/// ordered by user id and then by connection id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Audience {
    /// The space of the event.
    pub space_id: SpaceId,
    /// The part of the audience.
    pub to: Recipients,
}

/// An open connection of a user who was a member of the space when the page was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The user who opened the connection.
    pub user_id: UserId,
    /// API Gateway's id of the connection.
    pub connection_id: String,
    /// When the connection was opened. API Gateway may reuse the id of a closed connection.
    pub connected_at: OffsetDateTime,
}

impl Recipient {
    /// The key of the connection in the order of its audience.
    pub fn place(&self) -> PageKey {
        PageKey {
            user_id: self.user_id.clone(),
            connection_id: self.connection_id.clone(),
        }
    }
}

/// A page of an audience.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The connections, ordered by user id and connection id.
    pub recipients: Vec<Recipient>,
    /// The key after which the next page begins; `None` on the last page.
    pub next: Option<PageKey>,
    /// The epoch at the time of the page; `None` on a page without recipients.
    pub epoch: Option<Epoch>,
}

/// Limits of a page, per audience.
#[derive(Clone, Copy, Debug)]
pub struct PageSize {
    /// Maximum number of connections.
    pub connections: usize,
    /// Maximum number of members to read, with or without connections. It bounds the work for a space of any
    /// size.
    pub members: usize,
}

/// $1 to $4 audiences to read in order: number, space, and the user and connection after which to begin; $5
/// to $7 single connections: number, space and connection; $8 now; $9 and $10 maximum number of connections
/// and members per audience.
///
/// A row without a connection is the first member beyond the limit of members.
const RECIPIENTS: Query = Query::new(
    "-- recipients
WITH ordered AS (
    SELECT *
    FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[]) AS a (audience, space_id, user_id, connection_id)
)
(
    SELECT a.audience, c.user_id, c.connection_id, c.connected_at, (SELECT epoch FROM history) AS epoch
    FROM ordered a
    CROSS JOIN LATERAL (
        SELECT c.user_id, c.connection_id, c.connected_at
        FROM (
            SELECT m.user_id
            FROM members m
            WHERE m.space_id = a.space_id AND m.user_id >= a.user_id
            ORDER BY m.user_id
            LIMIT $10
        ) m
        CROSS JOIN LATERAL (
            SELECT c.user_id, c.connection_id, c.connected_at
            FROM connections c
            WHERE c.user_id = m.user_id AND (c.user_id, c.connection_id) > (a.user_id, a.connection_id)
                AND c.expires_at > $8
            ORDER BY c.connection_id
            LIMIT $9
        ) c
        ORDER BY m.user_id, c.connection_id
        LIMIT $9
    ) c
)
UNION ALL
(
    SELECT a.audience, m.user_id, NULL, NULL, NULL
    FROM ordered a
    CROSS JOIN LATERAL (
        SELECT m.user_id
        FROM members m
        WHERE m.space_id = a.space_id AND m.user_id >= a.user_id
        ORDER BY m.user_id
        OFFSET $10
        LIMIT 1
    ) m
)
UNION ALL
(
    SELECT a.audience, c.user_id, c.connection_id, c.connected_at, (SELECT epoch FROM history)
    FROM unnest($5::bigint[], $6::uuid[], $7::text[]) AS a (audience, space_id, connection_id)
    JOIN connections c ON c.connection_id = a.connection_id AND c.expires_at > $8
    JOIN members m ON m.space_id = a.space_id AND m.user_id = c.user_id
)
ORDER BY audience, user_id, connection_id",
);

impl Database {
    /// The first page of each audience, in the order of `audiences`. Connections of users who are not members
    /// now are left out.
    pub async fn recipients(
        &self,
        audiences: &[Audience],
        size: PageSize,
        now: OffsetDateTime,
    ) -> Result<Vec<Page>, Error> {
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
        // One connection more than fits on the page shows that there is another page.
        let [connections, members] =
            [size.connections + 1, size.members].map(|rows| i64::try_from(rows).unwrap_or(i64::MAX));
        let rows = self
            .rows(
                &RECIPIENTS,
                &[
                    &ordered.0,
                    &ordered.1,
                    &ordered.2,
                    &ordered.3,
                    &single.0,
                    &single.1,
                    &single.2,
                    &now,
                    &connections,
                    &members,
                ],
            )
            .await?;
        let mut pages = vec![Page::default(); audiences.len()];
        for row in &rows {
            let number: usize = parse::<i64, usize>(row, "audience")?;
            let Some(page) = pages.get_mut(number) else {
                continue;
            };
            let user_id = parse::<String, UserId>(row, "user_id")?;
            match get::<Option<String>>(row, "connection_id")? {
                Some(connection_id) => {
                    page.epoch = get::<Option<Uuid>>(row, "epoch")?.map(Epoch::from);
                    page.recipients.push(Recipient {
                        user_id,
                        connection_id,
                        connected_at: get(row, "connected_at")?,
                    });
                }
                None => {
                    page.next = Some(PageKey {
                        user_id,
                        connection_id: String::new(),
                    });
                }
            }
        }
        for (page, audience) in pages.iter_mut().zip(audiences) {
            // Single connections always fit on one page: a message names at most one page of them.
            if !matches!(audience.to, Recipients::Only(_)) && page.recipients.len() > size.connections {
                page.recipients.truncate(size.connections);
                page.next = page.recipients.last().map(Recipient::place);
            }
        }
        Ok(pages)
    }
}
