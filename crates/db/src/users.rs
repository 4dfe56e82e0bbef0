//! Users, as the claims of their tokens describe them.

use model::{Caller, EmailAddress, PersonName, UserId};
use time::OffsetDateTime;
use tokio_postgres::Row;

use crate::changes::epoch;
use crate::client::{Database, Locked};
use crate::error::Error;
use crate::query::Query;
use crate::row::{get, parse, parse_opt};

pub(crate) const QUERIES: &[&Query] = &[
    &RECORD_USER,
    &LOAD_USER,
    &LOCK_CONNECTIONS_OF_USER,
    &BLOCK_USER,
    &UNBLOCK_USER,
];

/// The stored state of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The `sub` claim of the user's tokens.
    pub user_id: UserId,
    /// The name, if a token had one.
    pub name: Option<PersonName>,
    /// The verified e-mail address, if a token had one.
    pub email: Option<EmailAddress>,
    /// The time of a request of the user, at most a day before the last one.
    pub seen_at: OffsetDateTime,
    /// The time since when the user is blocked.
    pub blocked_at: Option<OffsetDateTime>,
}

/// $1 user, $2 name or null, $3 verified e-mail address or null, $4 now, $5 epoch or null.
///
/// Most requests find the row as it is and write nothing. A token without a claim leaves the stored value.
const RECORD_USER: Query = Query::new(
    "-- record_user
INSERT INTO users AS u (user_id, name, email, seen_at)
SELECT $1, $2, $3, $4
WHERE admit($1, $5)
ON CONFLICT (user_id) DO UPDATE
SET name = coalesce(excluded.name, u.name), email = coalesce(excluded.email, u.email), seen_at = excluded.seen_at
WHERE u.name IS DISTINCT FROM coalesce(excluded.name, u.name)
    OR u.email IS DISTINCT FROM coalesce(excluded.email, u.email)
    OR u.seen_at < excluded.seen_at - interval '1 day'",
);

/// $1 user.
const LOAD_USER: Query = Query::new(
    "-- load_user
SELECT user_id, name, email, seen_at, blocked_at
FROM users
WHERE user_id = $1",
);

/// $1 user. Connecting takes the same lock, so a connection is either found by the statement that blocks the
/// user, or is refused because the user is blocked.
const LOCK_CONNECTIONS_OF_USER: Query = Query::new(
    "-- lock_connections_of_user
SELECT pg_advisory_xact_lock(hashtextextended('connections of ' || $1, 0))",
);

/// $1 user, $2 now. One row per open connection; one without a connection if there is none; none if the user is
/// unknown. The connections expire at once, so they receive nothing. Their rows stay until they are closed, so
/// that a repetition finds those that could not be closed.
const BLOCK_USER: Query = Query::new(
    "-- block_user
WITH blocked AS (
    UPDATE users
    SET blocked_at = coalesce(blocked_at, $2)
    WHERE user_id = $1
    RETURNING *
), removed AS (
    DELETE FROM tickets
    WHERE user_id = (SELECT user_id FROM blocked)
), aborted AS (
    UPDATE uploads
    SET state = 'aborted'
    WHERE user_id = (SELECT user_id FROM blocked) AND state = 'pending'
), ended AS (
    UPDATE connections
    SET expires_at = least(expires_at, $2)
    WHERE user_id = (SELECT user_id FROM blocked)
    RETURNING connection_id
)
SELECT b.user_id, b.name, b.email, b.seen_at, b.blocked_at, e.connection_id
FROM blocked b
LEFT JOIN ended e ON true",
);

/// $1 user.
const UNBLOCK_USER: Query = Query::new(
    "-- unblock_user
UPDATE users
SET blocked_at = NULL
WHERE user_id = $1
RETURNING user_id, name, email, seen_at, blocked_at",
);

impl Database {
    /// Stores the caller's profile, and that the caller has used the service. The first request of a user
    /// creates the row.
    pub async fn record_user(&self, caller: &Caller, now: OffsetDateTime) -> Result<(), Error> {
        self.rows(
            &RECORD_USER,
            &[
                &caller.user_id.as_str(),
                &caller.profile.name.as_ref().map(PersonName::as_str),
                &caller.profile.email.as_ref().map(EmailAddress::as_str),
                &now,
                &epoch(caller),
            ],
        )
        .await?;
        Ok(())
    }

    /// A user; `None` if nobody with this id has used the service.
    pub async fn load_user(&self, user_id: &UserId) -> Result<Option<User>, Error> {
        let rows = self.rows(&LOAD_USER, &[&user_id.as_str()]).await?;
        rows.first().map(user).transpose()
    }

    /// Blocks a user: requests are refused from now on, tickets are deleted, pending uploads are aborted, and
    /// connections receive nothing more. Returns the user and the ids of the connections, which the caller must
    /// close; `None` if nobody with this id has used the service.
    pub async fn block_user(
        &self,
        user_id: &UserId,
        now: OffsetDateTime,
    ) -> Result<Option<(User, Vec<String>)>, Error> {
        let user_id = user_id.as_str();
        let Locked { rows, .. } = self
            .query_locked(
                (&LOCK_CONNECTIONS_OF_USER, &[&user_id]),
                (&BLOCK_USER, &[&user_id, &now]),
            )
            .await?;
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let mut connections = Vec::new();
        for row in &rows {
            connections.extend(get::<Option<String>>(row, "connection_id")?);
        }
        Ok(Some((user(first)?, connections)))
    }

    /// Ends the block of a user; `None` if nobody with this id has used the service.
    pub async fn unblock_user(&self, user_id: &UserId) -> Result<Option<User>, Error> {
        let rows = self.rows(&UNBLOCK_USER, &[&user_id.as_str()]).await?;
        rows.first().map(user).transpose()
    }
}

fn user(row: &Row) -> Result<User, Error> {
    Ok(User {
        user_id: parse::<String, UserId>(row, "user_id")?,
        name: parse_opt::<String, PersonName>(row, "name")?,
        email: parse_opt::<String, EmailAddress>(row, "email")?,
        seen_at: get(row, "seen_at")?,
        blocked_at: get(row, "blocked_at")?,
    })
}
