//! One-time tickets that authenticate the opening of a WebSocket.

use model::{Caller, DeviceId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::changes::epoch;
use crate::client::Database;
use crate::error::Error;
use crate::query::Query;

pub(crate) const QUERIES: &[&Query] = &[&ADD_TICKET, &REMOVE_EXPIRED_TICKETS];

/// A ticket to store. Only its hash is stored, not the ticket.
#[derive(Debug)]
pub struct NewTicket<'a> {
    /// SHA-256 of the ticket.
    pub hash: &'a [u8; 32],
    /// The user whom the ticket authenticates.
    pub caller: &'a Caller,
    /// The device that asked for the ticket, if the client named one.
    pub device_id: Option<DeviceId>,
    /// The expiry of the ticket.
    pub expires_at: OffsetDateTime,
}

/// $1 SHA-256 of the ticket, $2 user, $3 device or null, $4 expiry, $5 epoch or null.
const ADD_TICKET: Query = Query::new(
    "-- add_ticket
INSERT INTO tickets (hash, user_id, device_id, expires_at)
SELECT $1, $2, $3, $4
WHERE admit($2, $5)
ON CONFLICT (hash) DO NOTHING",
);

/// $1 now, $2 maximum number of tickets.
const REMOVE_EXPIRED_TICKETS: Query = Query::new(
    "-- remove_expired_tickets
WITH expired AS (
    SELECT hash
    FROM tickets
    WHERE expires_at <= $1
    ORDER BY expires_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
DELETE FROM tickets
USING expired
WHERE tickets.hash = expired.hash
RETURNING tickets.hash",
);

impl Database {
    /// Stores a ticket. Does nothing if the hash is stored already.
    pub async fn add_ticket(&self, ticket: NewTicket<'_>) -> Result<(), Error> {
        let device_id = ticket.device_id.map(Uuid::from);
        self.rows(
            &ADD_TICKET,
            &[
                &ticket.hash.as_slice(),
                &ticket.caller.user_id.as_str(),
                &device_id,
                &ticket.expires_at,
                &epoch(ticket.caller),
            ],
        )
        .await?;
        Ok(())
    }
    /// Deletes up to `limit` expired tickets, and returns the number deleted.
    pub async fn remove_expired_tickets(&self, now: OffsetDateTime, limit: i64) -> Result<usize, Error> {
        let rows = self.rows(&REMOVE_EXPIRED_TICKETS, &[&now, &limit]).await?;
        Ok(rows.len())
    }
}
