//! Spaces and their members.

use model::{
    Caller, Cursor, DeletedSpaceView, Epoch, IdempotencyKey, MemberView, PageLimit, PersonName, Role,
    SpaceId, SpaceKind, SpaceName, SpaceView, UserId,
};
use time::{Duration, OffsetDateTime};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::changes::{Effect, NewChange, Rejection, command, epoch, lock, locked, no_file};
use crate::client::Database;
use crate::error::Error;
use crate::query::Query;
use crate::row::{get, parse, parse_opt};

pub(crate) const QUERIES: &[&Query] = &[
    &CREATE_PERSONAL_SPACE,
    &LIST_SPACES,
    &LIST_DELETED_SPACES,
    &LOAD_SPACE,
    &LOCK_SPACE_OR_DELETED,
    &RENAME_SPACE,
    &DELETE_SPACE,
    &RESTORE_SPACE,
    &LOCK_PERSONAL_SPACE,
    &CREATE_SPACE,
    &FIND_SPACE_BY_KEY,
    &LIST_MEMBERS,
    &LOAD_MEMBER,
    &LOCK_SPACE,
    &SET_MEMBER,
    &REMOVE_MEMBER,
    &SET_SPACE_LIMITS,
];

/// The parameters of creating a shared space.
#[derive(Debug)]
pub struct NewSpace<'a> {
    /// The id of the new space.
    pub id: SpaceId,
    /// The display name.
    pub name: &'a SpaceName,
    /// The maximum number of shared spaces of a user, unless an operator has set another one for the user.
    pub max_spaces: i64,
    /// The idempotency key of the request, if it has one.
    pub key: Option<&'a IdempotencyKey>,
    /// The id for the user's personal space, if it must be created.
    pub new_space_id: SpaceId,
}

/// A membership to give another role.
#[derive(Debug)]
pub struct Membership<'a> {
    /// The space. Personal spaces cannot be shared.
    pub space_id: SpaceId,
    /// The member.
    pub member_id: &'a UserId,
    /// The member's new role.
    pub role: Role,
}

/// $1 space's id, $2 user, $3 now, $4 epoch or null. Of two concurrent requests, the second waits for the first and inserts
/// nothing.
const CREATE_PERSONAL_SPACE: Query = Query::new(
    "-- create_personal_space
WITH space AS (
    INSERT INTO spaces (id, kind, owner_id, created_at)
    SELECT $1, 'personal', $2, $3
    WHERE admit($2, $4)
    ON CONFLICT (owner_id) DO NOTHING
    RETURNING id
)
INSERT INTO members (space_id, user_id, role, added_at)
SELECT id, $2, 'owner', $3
FROM space",
);

/// $1 user, $2 the last space of the page before or null, $3 maximum number of spaces, $4 epoch or null. If there is
/// no space, one row with the epoch alone.
const LIST_SPACES: Query = Query::new(
    "-- list_spaces
SELECT h.epoch, s.*
FROM history h
LEFT JOIN LATERAL (
    SELECT s.id AS space_id, s.kind, s.name, m.role, s.last_sequence, s.bytes
    FROM active_members m
    JOIN spaces s ON s.id = m.space_id
    WHERE m.user_id = $1 AND ($2::uuid IS NULL OR m.space_id > $2)
    ORDER BY m.space_id
    LIMIT $3
) s ON true
WHERE admit($1, $4)
ORDER BY s.space_id",
);

/// $1 user.
const LOCK_PERSONAL_SPACE: Query = lock!("lock_personal_space", "WHERE s.owner_id = $1");
/// $1 user, $2 the last space of the page before or null, $3 maximum number of spaces, $4 epoch or null, $5
/// exclusive lower bound of the times of deletion. If there is no space, one row with the epoch alone.
const LIST_DELETED_SPACES: Query = Query::new(
    "-- list_deleted_spaces
SELECT h.epoch, s.*
FROM history h
LEFT JOIN LATERAL (
    SELECT s.id AS space_id, s.kind, s.name, m.role, s.last_sequence, s.bytes, s.deleted_at
    FROM members m
    JOIN spaces s ON s.id = m.space_id
    WHERE m.user_id = $1 AND m.role = 'owner' AND s.deleted_at > $5 AND ($2::uuid IS NULL OR m.space_id > $2)
    ORDER BY m.space_id
    LIMIT $3
) s ON true
WHERE admit($1, $4)
ORDER BY s.space_id",
);

/// $1 space, $2 user, $3 epoch or null.
const LOAD_SPACE: Query = Query::new(
    "-- load_space
SELECT s.id AS space_id, s.kind, s.name, m.role, s.last_sequence, s.bytes
FROM active_members m
JOIN spaces s ON s.id = m.space_id
WHERE m.space_id = $1 AND m.user_id = $2 AND admit($2, $3)",
);

/// $6 space, $7 name, $8 idempotency key, $9 maximum number of shared spaces of a user.
const CREATE_SPACE: Query = command!(concat!(
    "-- create_space
WITH target AS (
    SELECT p.id AS personal_space_id, NULL::uuid AS earlier_event_id, NULL::uuid AS current_file_id,
        NULL::bigint AS current_version,
        CASE
            WHEN e.name <> $7 THEN 'key_reused'
            WHEN e.id IS NOT NULL THEN 'unchanged'
            WHEN within('spaces', p.memberships, 1, coalesce(u.max_spaces, $9), 0) THEN 'allowed'
        END AS outcome
    FROM spaces p
    JOIN users u ON u.user_id = p.owner_id
    LEFT JOIN spaces e ON (e.created_by = $4 AND e.idempotency_key = $8) OR e.id = $6
    WHERE p.owner_id = $4 AND ",
    locked!("p.id"),
    "
), created AS (
    INSERT INTO spaces (id, kind, name, created_by, idempotency_key, created_at)
    SELECT $6, 'shared', $7, $4, $8, $2
    FROM target
    WHERE outcome = 'allowed'
    RETURNING id
), owner AS (
    INSERT INTO members (space_id, user_id, role, added_at)
    SELECT id, $4, 'owner', $2
    FROM created
), changed AS (
    SELECT t.personal_space_id AS space_id, 'SPACE_SHARED' AS event_type, ",
    no_file!(),
    ", created.id AS subject_space_id,
        'owner' AS subject_role, NULL AS member_id, NULL AS space_name, 1 AS position
    FROM target t, created
)"
));

/// $1 user, $2 the idempotency key with which the user created the space, $3 the space's id.
const FIND_SPACE_BY_KEY: Query = Query::new(
    "-- find_space_by_key
SELECT s.id AS space_id, s.kind, s.name, m.role, s.last_sequence, s.bytes
FROM spaces s
JOIN active_members m ON m.space_id = s.id AND m.user_id = $1
WHERE (s.created_by = $1 AND s.idempotency_key = $2) OR s.id = $3",
);

/// $1 space, $2 requesting user, $3 the last member of the page before or an empty text, $4 maximum number of
/// members, $5 epoch or null.
const LIST_MEMBERS: Query = Query::new(
    "-- list_members
SELECT o.space_id, o.user_id, u.name AS user_name, o.role, o.added_at
FROM active_members m
LEFT JOIN LATERAL (
    SELECT *
    FROM members
    WHERE space_id = m.space_id AND user_id > $3
    ORDER BY user_id
    LIMIT $4
) o ON true
LEFT JOIN users u ON u.user_id = o.user_id
WHERE m.space_id = $1 AND m.user_id = $2 AND admit($2, $5)
ORDER BY o.user_id",
);

/// $1 space, $2 requesting user, $3 member, $4 epoch or null.
const LOAD_MEMBER: Query = Query::new(
    "-- load_member
SELECT o.space_id, o.user_id, u.name AS user_name, o.role, o.added_at
FROM active_members m
JOIN members o ON o.space_id = m.space_id AND o.user_id = $3
LEFT JOIN users u ON u.user_id = o.user_id
WHERE m.space_id = $1 AND m.user_id = $2 AND admit($2, $4)",
);

/// $1 space.
pub(crate) const LOCK_SPACE: Query = lock!(
    "lock_space",
    "JOIN active_members m ON m.space_id = s.id AND m.user_id = $2
    WHERE s.id = $1"
);

/// $1 space, which may be deleted.
const LOCK_SPACE_OR_DELETED: Query = lock!(
    "lock_space_or_deleted",
    "JOIN members m ON m.space_id = s.id AND m.user_id = $2
    WHERE s.id = $1"
);

/// The first CTEs of a command on the space $6 itself. The arguments are the name of the query, the view of
/// members, the cases that decide the outcome, the type of the event and the SQL expression of the new name.
macro_rules! change_of_space {
    ($query:literal, $members:literal, $cases:literal, $event_type:literal, $name:literal) => {
        concat!(
            "-- ",
            $query,
            "
WITH target AS (
    SELECT s.id, NULL::uuid AS earlier_event_id, NULL::uuid AS current_file_id, NULL::bigint AS current_version,
        CASE
            ",
            $cases,
            "
            ELSE 'allowed'
        END AS outcome
    FROM spaces s
    JOIN ",
            $members,
            " m ON m.space_id = s.id AND m.user_id = $4
    WHERE s.id = $6 AND ",
            locked!("s.id"),
            "
), changed AS (
    SELECT id AS space_id, '",
            $event_type,
            "' AS event_type, ",
            no_file!(),
            ", NULL::uuid AS subject_space_id, NULL AS subject_role,
        NULL AS member_id, ",
            $name,
            " AS space_name, 1 AS position
    FROM target
    WHERE outcome = 'allowed'
)"
        )
    };
}

/// $6 space, $7 name.
const RENAME_SPACE: Query = command!(
    change_of_space!(
        "rename_space",
        "active_members",
        "WHEN s.kind = 'personal' THEN 'personal_space'
            WHEN m.role <> 'owner' THEN 'forbidden'
            WHEN s.name = $7 THEN 'unchanged'",
        "SPACE_RENAMED",
        "$7"
    ),
    set ", name = $7"
);

/// $6 space. Only owners see a deleted space.
const DELETE_SPACE: Query = command!(
    change_of_space!(
        "delete_space",
        "members",
        "WHEN s.deleted_at IS NOT NULL AND m.role <> 'owner' THEN 'not_found'
            WHEN s.kind = 'personal' THEN 'personal_space'
            WHEN m.role <> 'owner' THEN 'forbidden'
            WHEN s.deleted_at IS NOT NULL THEN 'unchanged'",
        "SPACE_DELETED",
        "NULL"
    ),
    set ", deleted_at = $2, deleted_by = $4"
);

/// $6 space, $7 exclusive lower bound of the time of the deletion. A space that was deleted before is about
/// to be purged.
const RESTORE_SPACE: Query = command!(
    change_of_space!(
        "restore_space",
        "members",
        "WHEN s.deleted_at <= $7 OR s.deleted_at IS NOT NULL AND m.role <> 'owner' THEN 'not_found'
            WHEN m.role <> 'owner' THEN 'forbidden'
            WHEN s.deleted_at IS NULL THEN 'unchanged'",
        "SPACE_RESTORED",
        "NULL"
    ),
    set ", deleted_at = NULL, deleted_by = NULL"
);

/// $6 space, $7 member, $8 role.
///
/// The change is also recorded in the member's personal space. The row of that space is locked second; no
/// command locks a shared space after a personal one, so this order cannot deadlock.
const SET_MEMBER: Query = command!(concat!(
    "-- set_member
WITH target AS (
    SELECT s.id, p.id AS personal_space_id, NULL::uuid AS earlier_event_id, NULL::uuid AS current_file_id,
        NULL::bigint AS current_version,
        CASE
            WHEN s.kind = 'personal' THEN 'personal_space'
            WHEN o.role = $8 AND (m.role = 'owner' OR $4 = $7) THEN 'unchanged'
            WHEN m.role <> 'owner' THEN 'forbidden'
            WHEN o.role IS NULL OR p.id IS NULL THEN 'not_found'
            WHEN o.role = 'owner' AND NOT EXISTS (
                SELECT FROM members x
                WHERE x.space_id = s.id AND x.role = 'owner' AND x.user_id <> $7
            ) THEN 'last_owner'
            ELSE 'allowed'
        END AS outcome
    FROM spaces s
    JOIN active_members m ON m.space_id = s.id AND m.user_id = $4
    LEFT JOIN members o ON o.space_id = s.id AND o.user_id = $7
    LEFT JOIN spaces p ON p.owner_id = $7
    WHERE s.id = $6 AND ",
    locked!("s.id"),
    "
), member AS (
    UPDATE members
    SET role = $8
    FROM target t
    WHERE t.outcome = 'allowed' AND members.space_id = t.id AND members.user_id = $7
), changed AS (
    SELECT personal_space_id AS space_id, 'SPACE_SHARED' AS event_type, ",
    no_file!(),
    ", id AS subject_space_id, $8 AS subject_role,
        NULL AS member_id, NULL AS space_name, 1 AS position
    FROM target
    WHERE outcome = 'allowed'
    UNION ALL
    SELECT id, 'MEMBER_CHANGED', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, $8, $7, NULL, 2
    FROM target
    WHERE outcome = 'allowed'
)"
));

/// $6 space, $7 member.
const REMOVE_MEMBER: Query = command!(concat!(
    "-- remove_member
WITH target AS (
    SELECT s.id, p.id AS personal_space_id, NULL::uuid AS earlier_event_id, NULL::uuid AS current_file_id,
        NULL::bigint AS current_version,
        CASE
            WHEN s.kind = 'personal' THEN 'personal_space'
            WHEN m.role <> 'owner' AND $4 <> $7 THEN 'forbidden'
            WHEN o.role IS NULL THEN 'unchanged'
            WHEN o.role = 'owner' AND NOT EXISTS (
                SELECT FROM members x
                WHERE x.space_id = s.id AND x.role = 'owner' AND x.user_id <> $7
            ) THEN 'last_owner'
            ELSE 'allowed'
        END AS outcome
    FROM spaces s
    JOIN active_members m ON m.space_id = s.id AND m.user_id = $4
    LEFT JOIN members o ON o.space_id = s.id AND o.user_id = $7
    LEFT JOIN spaces p ON p.owner_id = $7
    WHERE s.id = $6 AND ",
    locked!("s.id"),
    "
), removed AS (
    DELETE FROM members
    USING target t
    WHERE t.outcome = 'allowed' AND members.space_id = t.id AND members.user_id = $7
), changed AS (
    SELECT personal_space_id AS space_id, 'SPACE_LEFT' AS event_type, ",
    no_file!(),
    ", id AS subject_space_id,
        NULL AS subject_role, NULL AS member_id, NULL AS space_name, 1 AS position
    FROM target
    WHERE outcome = 'allowed'
    UNION ALL
    SELECT id, 'MEMBER_REMOVED', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, $7, NULL, 2
    FROM target
    WHERE outcome = 'allowed'
)"
));

/// $1 space, $2 maximum of bytes, $3 maximum number of pending invitations; null for the stack's parameter.
const SET_SPACE_LIMITS: Query = Query::new(
    "-- set_space_limits
UPDATE spaces
SET max_bytes = $2, max_pending_invitations = $3
WHERE id = $1
RETURNING bytes",
);

impl Database {
    /// Sets the maximum of bytes of a space and that of its pending invitations; `None` for the stack's
    /// parameter. What the space has beyond a lower maximum stays. Returns the number of bytes that the space
    /// holds; `None` if there is no such space.
    pub async fn set_space_limits(
        &self,
        space_id: SpaceId,
        bytes: Option<i64>,
        pending_invitations: Option<i64>,
    ) -> Result<Option<i64>, Error> {
        let rows = self
            .rows(
                &SET_SPACE_LIMITS,
                &[&Uuid::from(space_id), &bytes, &pending_invitations],
            )
            .await?;
        rows.first().map(|row| get(row, "bytes")).transpose()
    }

    /// Creates the user's personal space if it does not exist.
    pub async fn create_personal_space(
        &self,
        new_space_id: SpaceId,
        caller: &Caller,
        now: OffsetDateTime,
    ) -> Result<(), Error> {
        self.rows(
            &CREATE_PERSONAL_SPACE,
            &[
                &Uuid::from(new_space_id),
                &caller.user_id.as_str(),
                &now,
                &epoch(caller),
            ],
        )
        .await?;
        Ok(())
    }

    /// The current epoch, and the spaces that the user is a member of, in the order of their ids, which is by age, from after
    /// `after`. Returns `limit` + 1 spaces if there are more than `limit`.
    pub async fn list_spaces(
        &self,
        caller: &Caller,
        after: Option<SpaceId>,
        limit: PageLimit,
    ) -> Result<(Epoch, Vec<SpaceView>), Error> {
        let rows = self
            .rows(
                &LIST_SPACES,
                &[
                    &caller.user_id.as_str(),
                    &after.map(Uuid::from),
                    &(limit.get() + 1),
                    &epoch(caller),
                ],
            )
            .await?;
        let current = get::<Uuid>(rows.first().ok_or(Error::NoHistory)?, "epoch")?;
        let mut spaces = Vec::with_capacity(rows.len());
        for row in &rows {
            if get::<Option<Uuid>>(row, "space_id")?.is_some() {
                spaces.push(space(row)?);
            }
        }
        Ok((current.into(), spaces))
    }

    /// Like [`list_spaces`](Self::list_spaces), but the deleted spaces that the user owned and can restore:
    /// those that were deleted less than `trash_time` before `now`.
    pub async fn list_deleted_spaces(
        &self,
        caller: &Caller,
        after: Option<SpaceId>,
        limit: PageLimit,
        now: OffsetDateTime,
        trash_time: Duration,
    ) -> Result<(Epoch, Vec<DeletedSpaceView>), Error> {
        let rows = self
            .rows(
                &LIST_DELETED_SPACES,
                &[
                    &caller.user_id.as_str(),
                    &after.map(Uuid::from),
                    &(limit.get() + 1),
                    &epoch(caller),
                    &(now - trash_time),
                ],
            )
            .await?;
        let current = get::<Uuid>(rows.first().ok_or(Error::NoHistory)?, "epoch")?;
        let mut spaces = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Some(deleted_at) = get::<Option<OffsetDateTime>>(row, "deleted_at")? {
                spaces.push(DeletedSpaceView {
                    space: space(row)?,
                    deleted_at,
                    purged_at: deleted_at + trash_time,
                });
            }
        }
        Ok((current.into(), spaces))
    }

    /// One space of the user. `None` if it does not exist or is deleted, or if the user is not a member.
    pub async fn load_space(&self, space_id: SpaceId, caller: &Caller) -> Result<Option<SpaceView>, Error> {
        let rows = self
            .rows(
                &LOAD_SPACE,
                &[&Uuid::from(space_id), &caller.user_id.as_str(), &epoch(caller)],
            )
            .await?;
        rows.first().map(space).transpose()
    }

    /// Gives a shared space another name. `new.commit.caller` is an owner.
    pub async fn rename_space(
        &self,
        space_id: SpaceId,
        name: &SpaceName,
        new: NewChange<'_>,
    ) -> Result<Result<Effect, Rejection>, Error> {
        let space_id = Uuid::from(space_id);
        self.command(
            &LOCK_SPACE,
            &[&space_id],
            &RENAME_SPACE,
            new,
            &[&space_id, &name.as_str()],
        )
        .await
    }

    /// Deletes a shared space: nobody has access to it any more. `new.commit.caller` is an owner. Deleting a
    /// deleted space changes nothing.
    pub async fn delete_space(
        &self,
        space_id: SpaceId,
        new: NewChange<'_>,
    ) -> Result<Result<Effect, Rejection>, Error> {
        let space_id = Uuid::from(space_id);
        self.command(
            &LOCK_SPACE_OR_DELETED,
            &[&space_id],
            &DELETE_SPACE,
            new,
            &[&space_id],
        )
        .await
    }

    /// Restores a space that was deleted less than `trash_time` ago. `new.commit.caller` is an owner.
    /// Restoring a space that is not deleted changes nothing.
    pub async fn restore_space(
        &self,
        space_id: SpaceId,
        trash_time: Duration,
        new: NewChange<'_>,
    ) -> Result<Result<Effect, Rejection>, Error> {
        let space_id = Uuid::from(space_id);
        self.command(
            &LOCK_SPACE_OR_DELETED,
            &[&space_id],
            &RESTORE_SPACE,
            new,
            &[&space_id, &(new.commit.now - trash_time)],
        )
        .await
    }

    /// Creates a shared space with the user as its owner. If a space with the same key and name exists
    /// already, returns that one. The same key with another name is rejected.
    pub async fn create_space(
        &self,
        space: NewSpace<'_>,
        new: NewChange<'_>,
    ) -> Result<Result<(Effect, SpaceView), Rejection>, Error> {
        let user_id = new.commit.caller.user_id.as_str();
        let key = space.key.map(IdempotencyKey::as_str);
        // Must come first: the command locks the row of the personal space.
        self.create_personal_space(space.new_space_id, new.commit.caller, new.commit.now)
            .await?;
        let decision = self
            .command(
                &LOCK_PERSONAL_SPACE,
                &[&user_id],
                &CREATE_SPACE,
                new,
                &[
                    &Uuid::from(space.id),
                    &space.name.as_str(),
                    &key,
                    &space.max_spaces,
                ],
            )
            .await?;
        let changed = match decision {
            Ok(changed) => changed,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if changed != Effect::NoOp {
            let view = SpaceView {
                space_id: space.id,
                kind: SpaceKind::Shared,
                name: Some(space.name.clone()),
                role: Role::Owner,
                latest_sequence: Cursor::START,
                bytes: Some(0),
            };
            return Ok(Ok((changed, view)));
        }
        let rows = self
            .rows(&FIND_SPACE_BY_KEY, &[&user_id, &key, &Uuid::from(space.id)])
            .await?;
        Ok(match rows.first() {
            Some(row) => Ok((changed, self::space(row)?)),
            // The user who created the space is no longer a member.
            None => Err(Rejection::NotFound),
        })
    }

    /// The members of a space, in the order of their user ids, from after `after`. Returns `limit` + 1
    /// members if there are more than `limit`. `None` if the user is not a member.
    pub async fn list_members(
        &self,
        space_id: SpaceId,
        caller: &Caller,
        after: Option<&UserId>,
        limit: PageLimit,
    ) -> Result<Option<Vec<MemberView>>, Error> {
        let rows = self
            .rows(
                &LIST_MEMBERS,
                &[
                    &Uuid::from(space_id),
                    &caller.user_id.as_str(),
                    &after.map(UserId::as_str).unwrap_or_default(),
                    &(limit.get() + 1),
                    &epoch(caller),
                ],
            )
            .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut members = Vec::with_capacity(rows.len());
        for row in &rows {
            if get::<Option<&str>>(row, "user_id")?.is_some() {
                members.push(member(row)?);
            }
        }
        Ok(Some(members))
    }

    /// A member of a space. `None` if there is no such member, or if the user is not a member too.
    pub async fn load_member(
        &self,
        space_id: SpaceId,
        caller: &Caller,
        member_id: &UserId,
    ) -> Result<Option<MemberView>, Error> {
        let rows = self
            .rows(
                &LOAD_MEMBER,
                &[
                    &Uuid::from(space_id),
                    &caller.user_id.as_str(),
                    &member_id.as_str(),
                    &epoch(caller),
                ],
            )
            .await?;
        rows.first().map(member).transpose()
    }

    /// Changes a member's role. `new.commit.caller` is the acting user.
    pub async fn set_member(
        &self,
        membership: Membership<'_>,
        new: NewChange<'_>,
    ) -> Result<Result<Effect, Rejection>, Error> {
        let space_id = Uuid::from(membership.space_id);
        let member_id = membership.member_id.as_str();
        self.command(
            &LOCK_SPACE,
            &[&space_id],
            &SET_MEMBER,
            new,
            &[&space_id, &member_id, &membership.role.as_str()],
        )
        .await
    }

    /// Removes a member. `new.commit.caller` is the acting user. Removing a user who is not a member changes
    /// nothing.
    pub async fn remove_member(
        &self,
        space_id: SpaceId,
        member_id: &UserId,
        new: NewChange<'_>,
    ) -> Result<Result<Effect, Rejection>, Error> {
        let space_id = Uuid::from(space_id);
        self.command(
            &LOCK_SPACE,
            &[&space_id],
            &REMOVE_MEMBER,
            new,
            &[&space_id, &member_id.as_str()],
        )
        .await
    }
}

fn space(row: &Row) -> Result<SpaceView, Error> {
    Ok(SpaceView {
        space_id: get::<Uuid>(row, "space_id")?.into(),
        kind: parse::<&str, SpaceKind>(row, "kind")?,
        name: parse_opt::<String, SpaceName>(row, "name")?,
        role: parse::<&str, Role>(row, "role")?,
        latest_sequence: parse::<i64, Cursor>(row, "last_sequence")?,
        bytes: get(row, "bytes")?,
    })
}

fn member(row: &Row) -> Result<MemberView, Error> {
    Ok(MemberView {
        space_id: get::<Uuid>(row, "space_id")?.into(),
        user_id: parse::<String, UserId>(row, "user_id")?,
        user_name: parse_opt::<String, PersonName>(row, "user_name")?,
        role: parse::<&str, Role>(row, "role")?,
        added_at: get(row, "added_at")?,
    })
}
