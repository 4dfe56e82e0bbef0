//! Users, as the claims of their tokens describe them.

use model::{Caller, EmailAddress, LimitUse, PersonName, ProfileView, Usage, UserId};
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::changes::epoch;
use crate::client::Database;
use crate::error::Error;
use crate::query::Query;
use crate::row::{get, parse, parse_opt};

pub(crate) const QUERIES: &[&Query] = &[
    &RECORD_USER,
    &LOAD_PROFILE,
    &LOAD_USER,
    &LOCK_CONNECTIONS_OF_USER,
    &BLOCK_USER,
    &UNBLOCK_USER,
    &SET_USER_LIMITS,
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
    /// The number of uploads that are neither completed nor aborted.
    pub pending_uploads: i32,
    /// The maximums that replace the stack's parameters for this user.
    pub limits: UserLimits,
}

/// The maximums of one user; `None` where the stack's parameters apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Changes within a minute.
    pub changes_per_minute: Option<i64>,
    /// Uploads that are neither completed nor aborted.
    pub pending_uploads: Option<i64>,
    /// Shared spaces that the user is a member of.
    pub spaces: Option<i64>,
    /// Invitations that the user makes within a day.
    pub invitations_per_day: Option<i64>,
    /// Pending invitations by the user's id, and as many by the user's address.
    pub received_invitations: Option<i64>,
}

/// The stack's maximums, for users and spaces without their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maximums {
    /// Changes of a user within a minute.
    pub changes_per_minute: i64,
    /// Uploads of a user that are neither completed nor aborted.
    pub pending_uploads: i64,
    /// Shared spaces that a user is a member of.
    pub spaces: i64,
    /// Bytes of a space, with old versions and the trash.
    pub space_bytes: i64,
    /// Invitations that a user makes within a day.
    pub invitations_per_day: i64,
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

/// $1 user, $2 epoch or null, $3 now.
const LOAD_PROFILE: Query = Query::new(
    "-- load_profile
SELECT h.epoch, u.name, u.email, u.max_changes_per_minute, u.max_pending_uploads, u.max_spaces, u.max_invitations_per_day,
    p.max_bytes,
    CASE WHEN u.changes_since > $3::timestamptz - interval '1 minute' THEN u.changes ELSE 0 END::bigint AS changes,
    CASE WHEN u.invitations_since > $3::timestamptz - interval '1 day' THEN u.invitations ELSE 0 END::bigint AS invitations,
    coalesce(u.pending_uploads, 0)::bigint AS pending_uploads, coalesce(p.memberships, 0)::bigint AS memberships,
    coalesce(p.bytes, 0) AS bytes
FROM history h
LEFT JOIN users u ON u.user_id = $1
LEFT JOIN spaces p ON p.owner_id = $1
WHERE admit($1, $2)",
);

/// $1 user.
const LOAD_USER: Query = Query::new(
    "-- load_user
SELECT *
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
    RETURNING user_id
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
SELECT e.connection_id
FROM blocked b
LEFT JOIN ended e ON true",
);

/// $1 user.
const UNBLOCK_USER: Query = Query::new(
    "-- unblock_user
UPDATE users
SET blocked_at = NULL
WHERE user_id = $1
RETURNING *",
);

/// $1 user, $2 maximum number of changes per minute, $3 of pending uploads, $4 of shared spaces, $5 of
/// invitations made per day, $6 of pending invitations to the user; null for the stack's parameter.
const SET_USER_LIMITS: Query = Query::new(
    "-- set_user_limits
UPDATE users
SET max_changes_per_minute = $2, max_pending_uploads = $3, max_spaces = $4, max_invitations_per_day = $5,
    max_received_invitations = $6
WHERE user_id = $1
RETURNING *",
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

    /// The caller's profile as it is stored, the use of each limit, and the current epoch.
    pub async fn load_profile(
        &self,
        caller: &Caller,
        maximums: &Maximums,
        now: OffsetDateTime,
    ) -> Result<ProfileView, Error> {
        let rows = self
            .rows(&LOAD_PROFILE, &[&caller.user_id.as_str(), &epoch(caller), &now])
            .await?;
        let row = rows.first().ok_or(Error::NoHistory)?;
        let limit_use = |used: &'static str, own: &'static str, maximum: i64| -> Result<LimitUse, Error> {
            Ok(LimitUse {
                used: get(row, used)?,
                maximum: get::<Option<i64>>(row, own)?.unwrap_or(maximum),
            })
        };
        Ok(ProfileView {
            user_id: caller.user_id.clone(),
            name: parse_opt::<String, PersonName>(row, "name")?,
            email: parse_opt::<String, EmailAddress>(row, "email")?,
            epoch: get::<Uuid>(row, "epoch")?.into(),
            usage: Some(Usage {
                changes_per_minute: limit_use(
                    "changes",
                    "max_changes_per_minute",
                    maximums.changes_per_minute,
                )?,
                pending_uploads: limit_use(
                    "pending_uploads",
                    "max_pending_uploads",
                    maximums.pending_uploads,
                )?,
                spaces: limit_use("memberships", "max_spaces", maximums.spaces)?,
                space_bytes: limit_use("bytes", "max_bytes", maximums.space_bytes)?,
                invitations_per_day: limit_use(
                    "invitations",
                    "max_invitations_per_day",
                    maximums.invitations_per_day,
                )?,
            }),
        })
    }

    /// A user; `None` if nobody with this id has used the service.
    pub async fn load_user(&self, user_id: &UserId) -> Result<Option<User>, Error> {
        let rows = self.rows(&LOAD_USER, &[&user_id.as_str()]).await?;
        rows.first().map(user).transpose()
    }

    /// Blocks a user: requests are refused from now on, tickets are deleted, pending uploads are aborted, and
    /// connections receive nothing more. Returns the ids of the connections, which the caller must close;
    /// `None` if nobody with this id has used the service.
    pub async fn block_user(
        &self,
        user_id: &UserId,
        now: OffsetDateTime,
    ) -> Result<Option<Vec<String>>, Error> {
        let user_id = user_id.as_str();
        let rows = self
            .query_locked(
                (&LOCK_CONNECTIONS_OF_USER, &[&user_id]),
                (&BLOCK_USER, &[&user_id, &now]),
            )
            .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut connections = Vec::new();
        for row in &rows {
            connections.extend(get::<Option<String>>(row, "connection_id")?);
        }
        Ok(Some(connections))
    }

    /// Ends the block of a user; `None` if nobody with this id has used the service.
    pub async fn unblock_user(&self, user_id: &UserId) -> Result<Option<User>, Error> {
        let rows = self.rows(&UNBLOCK_USER, &[&user_id.as_str()]).await?;
        rows.first().map(user).transpose()
    }

    /// Replaces the maximums of a user. What the user has beyond a lower maximum stays. `None` if nobody with
    /// this id has used the service.
    pub async fn set_user_limits(&self, user_id: &UserId, limits: UserLimits) -> Result<Option<User>, Error> {
        let rows = self
            .rows(
                &SET_USER_LIMITS,
                &[
                    &user_id.as_str(),
                    &limits.changes_per_minute,
                    &limits.pending_uploads,
                    &limits.spaces,
                    &limits.invitations_per_day,
                    &limits.received_invitations,
                ],
            )
            .await?;
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
        pending_uploads: get(row, "pending_uploads")?,
        limits: UserLimits {
            changes_per_minute: get(row, "max_changes_per_minute")?,
            pending_uploads: get(row, "max_pending_uploads")?,
            spaces: get(row, "max_spaces")?,
            invitations_per_day: get(row, "max_invitations_per_day")?,
            received_invitations: get(row, "max_received_invitations")?,
        },
    })
}
