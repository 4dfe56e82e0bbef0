//! Open WebSocket connections.

use model::UserId;
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;

use crate::client::Database;
use crate::error::Error;
use crate::query::Query;
use crate::row::{get, parse};

pub(crate) const QUERIES: &[&Query] = &[
    &LOCK_TICKETS_USER,
    &CONNECT,
    &REMOVE_CONNECTIONS,
    &REMOVE_GONE_CONNECTIONS,
    &REMOVE_EXPIRED_CONNECTIONS,
];

/// A new connection that presents a ticket.
#[derive(Debug)]
pub struct NewConnection<'a> {
    /// SHA-256 of the ticket.
    pub ticket_hash: &'a [u8; 32],
    /// API Gateway's id of the connection.
    pub connection_id: &'a str,
    /// When the connection is opened.
    pub connected_at: OffsetDateTime,
    /// The time by which API Gateway will have closed the connection.
    pub expires_at: OffsetDateTime,
    /// Maximum number of open connections per user.
    pub limit: i64,
}

/// The result of a connection attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Connecting {
    /// The connection is stored, and receives the events of this user's spaces from now on.
    Connected(UserId),
    /// The ticket does not exist, was used or has expired.
    NoTicket,
    /// The user already has the maximum number of connections. The ticket is used up.
    TooMany,
}

/// $1 ticket's hash. Serializes the connection attempts of a user, so that concurrent ones cannot exceed the
/// limit.
const LOCK_TICKETS_USER: Query = Query::new(
    "-- lock_tickets_user
SELECT pg_advisory_xact_lock(hashtextextended('connections of ' || user_id, 0))
FROM tickets
WHERE hash = $1",
);

/// $1 ticket's hash, $2 connection id, $3 now, $4 when the connection expires, $5 limit of connections per
/// user.
///
/// The part after `UNION ALL` is for a repeated statement, when the first attempt was committed but its
/// answer was lost: the same connection has used up the ticket then.
const CONNECT: Query = Query::new(
    "-- connect
WITH ticket AS (
    DELETE FROM tickets
    WHERE hash = $1
    RETURNING user_id, device_id, expires_at
), valid AS (
    SELECT user_id, device_id
    FROM ticket
    WHERE expires_at > $3 AND admit(user_id, NULL)
), stored AS (
    INSERT INTO connections (connection_id, user_id, device_id, connected_at, expires_at)
    SELECT $2, user_id, device_id, $3, $4
    FROM valid
    WHERE (SELECT count(*) FROM connections c WHERE c.user_id = valid.user_id AND c.expires_at > $3) < $5
    RETURNING user_id
)
SELECT user_id, EXISTS (SELECT FROM stored) AS stored
FROM valid
UNION ALL
SELECT user_id, true
FROM connections
WHERE connection_id = $2 AND connected_at = $3",
);

/// $1 connection ids.
const REMOVE_CONNECTIONS: Query = Query::new(
    "-- remove_connections
DELETE FROM connections
WHERE connection_id = ANY ($1)",
);

/// $1 connection ids, $2 the times when they were opened. The time is compared because API Gateway may have
/// given the id to a newer connection. Locked rows are skipped: another function is deleting them, and
/// waiting for it could deadlock.
const REMOVE_GONE_CONNECTIONS: Query = Query::new(
    "-- remove_gone_connections
WITH gone AS (
    SELECT c.connection_id
    FROM unnest($1::text[], $2::timestamptz[]) AS named (connection_id, connected_at)
    JOIN connections c ON c.connection_id = named.connection_id AND c.connected_at = named.connected_at
    FOR UPDATE OF c SKIP LOCKED
)
DELETE FROM connections
USING gone
WHERE connections.connection_id = gone.connection_id",
);

/// $1 now, $2 maximum number of connections.
const REMOVE_EXPIRED_CONNECTIONS: Query = Query::new(
    "-- remove_expired_connections
WITH expired AS (
    SELECT connection_id
    FROM connections
    WHERE expires_at <= $1
    ORDER BY expires_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
DELETE FROM connections
USING expired
WHERE connections.connection_id = expired.connection_id
RETURNING connections.connection_id",
);

impl Database {
    /// Uses up the ticket and stores the connection.
    pub async fn connect(&self, new: NewConnection<'_>) -> Result<Connecting, Error> {
        let hash = new.ticket_hash.as_slice();
        let rows = self
            .query_locked(
                (&LOCK_TICKETS_USER, &[&hash]),
                (
                    &CONNECT,
                    &[
                        &hash,
                        &new.connection_id,
                        &new.connected_at,
                        &new.expires_at,
                        &new.limit,
                    ],
                ),
            )
            .await?;
        let Some(row) = rows.first() else {
            return Ok(Connecting::NoTicket);
        };
        Ok(if get(row, "stored")? {
            Connecting::Connected(parse::<String, UserId>(row, "user_id")?)
        } else {
            Connecting::TooMany
        })
    }

    /// Deletes connections. Does nothing for those that are not stored.
    pub async fn remove_connections(&self, connection_ids: &[impl ToSql + Sync]) -> Result<(), Error> {
        self.rows(&REMOVE_CONNECTIONS, &[&connection_ids]).await?;
        Ok(())
    }

    /// Deletes connections that API Gateway reported as gone, given by id and `connected_at`.
    pub async fn remove_gone_connections(&self, gone: &[(&str, OffsetDateTime)]) -> Result<(), Error> {
        let (ids, times): (Vec<&str>, Vec<OffsetDateTime>) = gone.iter().copied().unzip();
        self.rows(&REMOVE_GONE_CONNECTIONS, &[&ids, &times]).await?;
        Ok(())
    }

    /// Deletes up to `limit` expired connections, and returns the number deleted.
    pub async fn remove_expired_connections(&self, now: OffsetDateTime, limit: i64) -> Result<usize, Error> {
        let rows = self.rows(&REMOVE_EXPIRED_CONNECTIONS, &[&now, &limit]).await?;
        Ok(rows.len())
    }
}
