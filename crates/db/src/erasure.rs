//! Erasing the account of a user.
//!
//! One statement marks the user and takes the memberships, tickets, connections and invitations away. From
//! then on `admit` refuses the user. The rest is done later in bounded steps, each of which may be repeated:
//! everything that names the user names [`DELETED_USER`] instead, and the last step deletes the row of the
//! user. Content is deleted as that of other deleted spaces.

use model::{Caller, DELETED_USER, SpaceId, UserId};
use time::{Duration, OffsetDateTime};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::changes::{Effect, Rejection, epoch, event, event_columns};
use crate::client::Database;
use crate::error::Error;
use crate::query::Query;
use crate::row::{get, parse};

pub(crate) const QUERIES: &[&Query] = &[
    &LOCK_SPACES_OF_MEMBER,
    &ERASE_ACCOUNT,
    &ERASED_ACCOUNTS,
    &ANONYMIZE_CHANGES,
    &ANONYMIZE_VERSIONS,
    &ANONYMIZE_UPLOADS,
    &ANONYMIZE_FILES,
    &ANONYMIZE_SPACES,
    &FINISH_ERASURE,
    &REMOVE_ERASED_USERS,
];

/// How long after erasing an account a request may still run that was admitted before: longer than the
/// timeout of any function.
const IN_FLIGHT: Duration = Duration::minutes(2);

/// How often erasing is tried again if the user joins another space meanwhile.
const ATTEMPTS: usize = 5;

/// $1 user. Locks the spaces that the user is a member of, and those with invitations of or to the user,
/// which count them. Locks in the order of ids, so that two users who share spaces cannot deadlock. A
/// personal space is locked by the statement that follows, so after all shared ones.
const LOCK_SPACES_OF_MEMBER: Query = Query::new(
    "-- lock_spaces_of_member
WITH locked AS (
    SELECT s.id
    FROM spaces s
    WHERE s.kind = 'shared' AND s.id IN (
        SELECT space_id FROM members WHERE user_id = $1
        UNION
        SELECT space_id
        FROM invitations
        WHERE user_id = $1 OR inviter_id = $1 OR email = (SELECT email FROM users WHERE user_id = $1)
    )
    ORDER BY s.id
    FOR NO KEY UPDATE OF s
)
SELECT set_config('syncsphere.locked_space', coalesce(string_agg(id::text, ','), ''), true)
FROM locked",
);

/// $1 user, $2 now, $3 end of the outbox lease, $4 epoch or null, $5 whether the user is erased already.
///
/// The outcome is `contended` if a membership or an invitation was added after the lock. Spaces without
/// another member are deleted for good: nobody could restore them. So is the personal space, whose row
/// forgets its owner at once.
const ERASE_ACCOUNT: Query = Query::new(concat!(
    "-- erase_account
WITH mine AS (
    SELECT s.id, s.member_count = 1 AS is_alone,
        s.id::text = ANY (string_to_array(current_setting('syncsphere.locked_space', true), ',')) AS is_locked,
        s.deleted_at IS NULL AND s.member_count > 1 AND m.role = 'owner' AND NOT EXISTS (
            SELECT FROM members x
            WHERE x.space_id = s.id AND x.role = 'owner' AND x.user_id <> $1
        ) AS is_orphaned
    FROM members m
    JOIN spaces s ON s.id = m.space_id
    WHERE m.user_id = $1 AND s.kind = 'shared'
), invited AS (
    SELECT id, space_id
    FROM invitations
    WHERE user_id = $1 OR inviter_id = $1 OR email = (SELECT email FROM users WHERE user_id = $1)
), target AS (
    SELECT array_agg(id ORDER BY id) FILTER (WHERE is_orphaned) AS orphaned,
        CASE
            WHEN bool_or(NOT is_locked) THEN 'contended'
            WHEN EXISTS (
                SELECT FROM invited
                WHERE space_id::text <> ALL (string_to_array(current_setting('syncsphere.locked_space', true), ','))
            ) THEN 'contended'
            WHEN bool_or(is_orphaned) AND NOT $5 THEN 'last_owner'
            ELSE 'allowed'
        END AS outcome
    FROM mine
    WHERE CASE WHEN $5 THEN true ELSE admit($1, $4) END
), erased AS (
    INSERT INTO users AS u (user_id, seen_at, erased_at)
    SELECT $1, $2, $2
    FROM target
    WHERE outcome = 'allowed' AND NOT $5
    ON CONFLICT (user_id) DO UPDATE
    SET erased_at = coalesce(u.erased_at, $2), name = NULL, email = NULL
), removed AS (
    DELETE FROM members
    USING target t
    WHERE t.outcome = 'allowed' AND members.user_id = $1
), emptied AS (
    UPDATE spaces s
    SET deleted_at = 'epoch', deleted_by = NULL
    FROM target t, mine
    WHERE t.outcome = 'allowed' AND s.id = mine.id AND mine.is_alone
), personal AS (
    UPDATE spaces s
    SET deleted_at = 'epoch', owner_id = 'deleted user ' || s.id
    FROM target t
    WHERE t.outcome = 'allowed' AND s.owner_id = $1
), numbered AS (
    UPDATE spaces s
    SET last_sequence = s.last_sequence + 1, epoch = h.epoch,
        restored_at_sequence = CASE
            WHEN s.epoch IS NOT DISTINCT FROM h.epoch THEN s.restored_at_sequence
            WHEN h.restored THEN s.last_sequence
        END
    FROM target t, mine, history h
    WHERE t.outcome = 'allowed' AND s.id = mine.id AND NOT mine.is_alone
    RETURNING s.id, s.last_sequence
), made AS (
    INSERT INTO changes (space_id, sequence, event_id, event_type, user_id, member_id, occurred_at)
    SELECT id, last_sequence, gen_random_uuid(), 'MEMBER_REMOVED', $1, $1, $2
    FROM numbered
    RETURNING *
), waiting AS (
    INSERT INTO outbox (event_id, created_at, leased_until)
    SELECT event_id, $2, $3
    FROM made
), unused AS (
    DELETE FROM tickets
    USING target t
    WHERE t.outcome = 'allowed' AND tickets.user_id = $1
), disconnected AS (
    DELETE FROM connections
    USING target t
    WHERE t.outcome = 'allowed' AND connections.user_id = $1
), uninvited AS (
    DELETE FROM invitations i
    USING target t, invited
    WHERE t.outcome = 'allowed' AND i.id = invited.id
), unrefused AS (
    DELETE FROM refused_inviters r
    USING target t
    WHERE t.outcome = 'allowed' AND (r.user_id = $1 OR r.inviter_id = $1)
)
SELECT t.outcome, t.orphaned, NULL::text AS user_name, ",
    event_columns!(),
    "
FROM target t
LEFT JOIN made c ON true
ORDER BY c.space_id"
));

/// $1 maximum number of users.
const ERASED_ACCOUNTS: Query = Query::new(
    "-- erased_accounts
SELECT user_id
FROM users
WHERE erased_at IS NOT NULL
ORDER BY erased_at
LIMIT $1",
);

/// $1 user, $2 the name of a deleted user, $3 maximum number of changes.
const ANONYMIZE_CHANGES: Query = Query::new(
    "-- anonymize_changes
UPDATE changes c
SET user_id = CASE c.user_id WHEN $1 THEN $2 ELSE c.user_id END,
    member_id = CASE c.member_id WHEN $1 THEN $2 ELSE c.member_id END
WHERE c.event_id IN (SELECT event_id FROM changes WHERE user_id = $1 OR member_id = $1 LIMIT $3)
RETURNING c.event_id",
);

/// $1 user, $2 the name of a deleted user, $3 maximum number of versions.
const ANONYMIZE_VERSIONS: Query = Query::new(
    "-- anonymize_versions
UPDATE versions v
SET user_id = $2
WHERE (v.file_id, v.version) IN (SELECT file_id, version FROM versions WHERE user_id = $1 LIMIT $3)
RETURNING v.file_id",
);

/// $1 user, $2 the name of a deleted user, $3 maximum number of uploads. Pending ones are aborted, so that
/// their content is deleted.
const ANONYMIZE_UPLOADS: Query = Query::new(
    "-- anonymize_uploads
UPDATE uploads u
SET user_id = $2, idempotency_key = NULL, state = CASE u.state WHEN 'pending' THEN 'aborted' ELSE u.state END
WHERE u.id IN (SELECT id FROM uploads WHERE user_id = $1 LIMIT $3)
RETURNING u.id",
);

/// $1 user, $2 the name of a deleted user, $3 maximum number of files.
const ANONYMIZE_FILES: Query = Query::new(
    "-- anonymize_files
UPDATE files f
SET deleted_by = $2
WHERE f.id IN (SELECT id FROM files WHERE deleted_by = $1 LIMIT $3)
RETURNING f.id",
);

/// $1 user, $2 the name of a deleted user, $3 maximum number of spaces.
const ANONYMIZE_SPACES: Query = Query::new(
    "-- anonymize_spaces
UPDATE spaces s
SET idempotency_key = CASE s.created_by WHEN $1 THEN NULL ELSE s.idempotency_key END,
    created_by = CASE s.created_by WHEN $1 THEN $2 ELSE s.created_by END,
    deleted_by = CASE s.deleted_by WHEN $1 THEN $2 ELSE s.deleted_by END
WHERE s.id IN (SELECT id FROM spaces WHERE created_by = $1 OR deleted_by = $1 LIMIT $3)
RETURNING s.id",
);

/// $1 user, $2 exclusive upper bound of the time of the erasure, $3 now.
const FINISH_ERASURE: Query = Query::new(
    "-- finish_erasure
WITH gone AS (
    DELETE FROM users u
    WHERE u.user_id = $1 AND u.erased_at < $2
    RETURNING u.user_id
)
INSERT INTO erased_users (hash, erased_at)
SELECT sha256(convert_to(user_id, 'UTF8')), $3
FROM gone
ON CONFLICT (hash) DO NOTHING
RETURNING hash",
);

/// $1 exclusive upper bound of the times of the erasures.
const REMOVE_ERASED_USERS: Query = Query::new(
    "-- remove_erased_users
DELETE FROM erased_users
WHERE erased_at < $1",
);

impl Database {
    /// Marks the caller as erased, ends the caller's memberships and deletes all that lets the caller in. The
    /// effect has an event for each space that the caller has left. [`Rejection::OnlyOwner`] if other members
    /// would be left without an owner.
    pub async fn erase_account(
        &self,
        caller: &Caller,
        now: OffsetDateTime,
        leased_until: OffsetDateTime,
    ) -> Result<Result<Effect, Rejection>, Error> {
        self.end_memberships(&caller.user_id, now, leased_until, epoch(caller), false)
            .await
    }

    /// The users who have erased their accounts and are still named somewhere, up to `limit`, the earliest
    /// first.
    pub async fn erased_accounts(&self, limit: i64) -> Result<Vec<UserId>, Error> {
        let rows = self.rows(&ERASED_ACCOUNTS, &[&limit]).await?;
        rows.iter()
            .map(|row| parse::<String, UserId>(row, "user_id"))
            .collect()
    }

    /// Ends memberships that an erased user got by requests that were running at the erasure. Their events
    /// are left to the outbox.
    pub async fn end_late_memberships(&self, user_id: &UserId, now: OffsetDateTime) -> Result<(), Error> {
        self.end_memberships(user_id, now, now, None, true).await?.ok();
        Ok(())
    }

    /// Replaces an erased user by [`DELETED_USER`] in up to `limit` rows of each table. Returns the largest
    /// number of rows of one table.
    pub async fn forget_user(&self, user_id: &UserId, limit: i64) -> Result<usize, Error> {
        let mut most = 0;
        for query in [
            &ANONYMIZE_CHANGES,
            &ANONYMIZE_VERSIONS,
            &ANONYMIZE_UPLOADS,
            &ANONYMIZE_FILES,
            &ANONYMIZE_SPACES,
        ] {
            let rows = self
                .rows(query, &[&user_id.as_str(), &DELETED_USER, &limit])
                .await?;
            most = most.max(rows.len());
        }
        Ok(most)
    }

    /// Deletes the row of an erased user whom nothing names any more, and keeps a hash of the user id.
    /// Returns whether it did: not while requests may run that were admitted before the erasure.
    pub async fn finish_erasure(&self, user_id: &UserId, now: OffsetDateTime) -> Result<bool, Error> {
        let rows = self
            .rows(&FINISH_ERASURE, &[&user_id.as_str(), &(now - IN_FLIGHT), &now])
            .await?;
        Ok(!rows.is_empty())
    }

    /// Deletes the hashes of users whose tokens have expired: those that were erased before `before`.
    pub async fn remove_erased_users(&self, before: OffsetDateTime) -> Result<(), Error> {
        self.rows(&REMOVE_ERASED_USERS, &[&before]).await?;
        Ok(())
    }

    async fn end_memberships(
        &self,
        user_id: &UserId,
        now: OffsetDateTime,
        leased_until: OffsetDateTime,
        epoch: Option<Uuid>,
        is_erased: bool,
    ) -> Result<Result<Effect, Rejection>, Error> {
        let user_id = user_id.as_str();
        for _ in 0..ATTEMPTS {
            let rows = self
                .query_locked(
                    (&LOCK_SPACES_OF_MEMBER, &[&user_id]),
                    (
                        &ERASE_ACCOUNT,
                        &[&user_id, &now, &leased_until, &epoch, &is_erased],
                    ),
                )
                .await?;
            if let Some(decision) = decided(&rows)? {
                return Ok(decision);
            }
        }
        Err(Error::Contended("erase_account"))
    }
}

/// `None` if memberships or invitations were added after the lock.
fn decided(rows: &[Row]) -> Result<Option<Result<Effect, Rejection>>, Error> {
    let Some(row) = rows.first() else {
        return Ok(Some(Ok(Effect::NoOp)));
    };
    Ok(match get::<&str>(row, "outcome")? {
        "contended" => None,
        "last_owner" => {
            let spaces = get::<Vec<Uuid>>(row, "orphaned")?;
            let spaces = spaces.into_iter().map(SpaceId::from).collect();
            Some(Err(Rejection::OnlyOwner(spaces)))
        }
        _ if get::<Option<Uuid>>(row, "event_id")?.is_none() => Some(Ok(Effect::NoOp)),
        _ => Some(Ok(Effect::Applied(
            rows.iter().map(event).collect::<Result<_, _>>()?,
        ))),
    })
}
