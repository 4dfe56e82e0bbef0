//! Making changes: what every command that changes a space has in common, and reading them back.
//!
//! Changes of a space are made one at a time. Each command first locks the space's row and then runs one statement, in one
//! round trip. So the statement sees all that was committed before, its checks need no regard for others, and the numbers
//! that it takes are gapless and in commit order.
//!
//! Only members get the lock, so nobody else can delay them. The lock records its space in a setting of the transaction, and
//! the statement finds that space alone (`locked!`): a membership that is committed between the two does not make it run
//! without the lock. The statement checks rights itself, since they may change while the lock is waited for.
//!
//! The statement classifies the request by its CTE `target` and does what it does only if the outcome is `allowed`.

use model::{
    ByteCount, Change, ChangeList, CurrentVersion, Cursor, DeviceId, Event, EventId, FileId, FileState,
    PageLimit, Role, Sequence, Sha256, SpaceId, SpacePath, UserId, Version,
};
use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::client::{Database, Locked};
use crate::error::Error;
use crate::query::Query;
use crate::row::{get, parse, parse_opt};

pub(crate) const QUERIES: &[&Query] = &[&LIST_CHANGES, &FIND_CHANGE];

/// Who makes a change, when, and what it will be called.
#[derive(Clone, Copy, Debug)]
pub struct NewChange<'a> {
    /// The event's id.
    pub event_id: EventId,
    /// Now.
    pub now: OffsetDateTime,
    /// Until when nobody else sends the event.
    pub leased_until: OffsetDateTime,
    /// Who makes it.
    pub user_id: &'a UserId,
    /// On which device, if it said so.
    pub device_id: Option<DeviceId>,
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It made this change, which is now to be published.
    Applied(Box<Event>),
    /// An earlier request did all that was asked for; this is its change. Nothing was changed.
    AlreadyApplied(Box<Event>),
    /// All is as was asked for already.
    NoOp,
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// There is no such thing that the user may know of.
    NotFound,
    /// The user may see it but not change it.
    Forbidden,
    /// The base version is not what is current.
    VersionConflict(CurrentVersion),
    /// Another file is at the path, above it or below it: a path is never both a file and a folder.
    PathTaken(CurrentVersion),
    /// It is too late.
    Expired,
    /// The upload was completed.
    Completed,
    /// A space must have an owner.
    LastOwner,
    /// A personal space cannot be shared.
    PersonalSpace,
    /// Nobody with this id has used the service yet.
    UnknownUser,
    /// The space has as many members as allowed.
    TooManyMembers,
    /// The key came with another request before.
    KeyReused,
}

/// Makes the query that locks the space which the rest of a `SELECT s.id FROM spaces s …` finds, and records its id until the
/// end of the transaction.
macro_rules! lock {
    ($name:literal, $rest:literal) => {
        $crate::query::Query::new(concat!(
            "-- ",
            $name,
            "
WITH locked AS (
    SELECT s.id
    FROM spaces s
    ",
            $rest,
            "
    FOR NO KEY UPDATE OF s
)
SELECT set_config('syncsphere.locked_space', id::text, true)
FROM locked"
        ))
    };
}
pub(crate) use lock;

/// The condition that this transaction has locked a space, given by the column of its id.
macro_rules! locked {
    ($id:literal) => {
        concat!($id, "::text = current_setting('syncsphere.locked_space', true)")
    };
}
pub(crate) use locked;

/// Makes the query of a command of its first CTEs. These are given $1 the event's id, $2 now, $3 the end of the outbox row's
/// lease, $4 the user and $5 the device, and must define
///
/// - `target (outcome, current_file_id, current_version, earlier_event_id)`: one row if the user may know of the thing
///   and its space is `locked!`;
/// - `changed (space_id, event_type, file_id, path, version, size, sha256, subject_space_id, subject_role)`: one row if the
///   outcome is `allowed`, with what has changed.
///
/// What follows takes the space's next number and writes change and outbox row.
macro_rules! command {
    ($first:expr) => {
        $crate::query::Query::new(concat!(
            $first,
            ", numbered AS (
    UPDATE spaces s
    SET last_sequence = s.last_sequence + 1
    FROM changed
    WHERE s.id = changed.space_id
    RETURNING s.last_sequence
), made AS (
    INSERT INTO changes
        (space_id, sequence, event_id, event_type, user_id, device_id, file_id, path, version, size, sha256,
        subject_space_id, subject_role, occurred_at)
    SELECT c.space_id, n.last_sequence, $1, c.event_type, $4, $5, c.file_id, c.path, c.version, c.size, c.sha256,
        c.subject_space_id, c.subject_role, $2
    FROM changed c, numbered n
    RETURNING *
), waiting AS (
    INSERT INTO outbox (event_id, created_at, leased_until)
    SELECT event_id, $2, $3
    FROM made
), told AS (
    SELECT *
    FROM made
    UNION ALL
    SELECT c.*
    FROM target t
    JOIN changes c ON c.event_id = t.earlier_event_id
    WHERE t.outcome <> 'allowed'
)
SELECT t.outcome, t.current_file_id, t.current_version, current.path AS current_path, told.sequence, told.event_id, told.event_type, told.space_id,
    told.user_id, told.device_id, told.file_id, told.path, told.version, told.size, told.sha256, told.subject_space_id,
    told.subject_role, told.occurred_at
FROM target t
LEFT JOIN told ON true
LEFT JOIN files current ON current.id = t.current_file_id"
        ))
    };
}
pub(crate) use command;

/// $1 space or null for the personal one, $2 user, $3 cursor, $4 how many.
const LIST_CHANGES: Query = Query::new(
    "-- list_changes
SELECT s.last_sequence, c.sequence, c.event_id, c.event_type, c.space_id, c.user_id, c.device_id, c.file_id, c.path,
    c.version, c.size, c.sha256, c.subject_space_id, c.subject_role, c.occurred_at
FROM spaces s
JOIN members m ON m.space_id = s.id AND m.user_id = $2
LEFT JOIN LATERAL (
    SELECT *
    FROM changes
    WHERE space_id = s.id AND sequence > $3
    ORDER BY sequence
    LIMIT $4
) c ON true
WHERE s.id = coalesce($1, (SELECT id FROM spaces WHERE owner_id = $2))
ORDER BY c.sequence",
);

/// $1 event.
const FIND_CHANGE: Query = Query::new(
    "-- find_change
SELECT sequence, event_id, event_type, space_id, user_id, device_id, file_id, path, version, size, sha256, subject_space_id,
    subject_role, occurred_at
FROM changes
WHERE event_id = $1",
);

impl Database {
    /// Runs a command under the lock of the space that it changes.
    pub(crate) async fn command(
        &self,
        lock: (&Query, &[&(dyn ToSql + Sync)]),
        query: &Query,
        new: NewChange<'_>,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Result<Effect, Rejection>, Error> {
        let (event_id, user_id) = (Uuid::from(new.event_id), new.user_id.as_str());
        let device_id = new.device_id.map(Uuid::from);
        let mut all: Vec<&(dyn ToSql + Sync)> =
            vec![&event_id, &new.now, &new.leased_until, &user_id, &device_id];
        all.extend_from_slice(parameters);
        let Locked { rows, repeated } = self.query_locked(lock, (query, &all)).await?;
        let decision = match rows.first() {
            Some(row) => changed(row)?,
            None => Err(Rejection::NotFound),
        };
        // What a repeated command finds may be what it did itself before the connection broke.
        if repeated && !matches!(decision, Ok(Effect::Applied(_))) {
            let own = self.rows(&FIND_CHANGE, &[&event_id]).await?;
            if let Some(row) = own.first() {
                return Ok(Ok(Effect::Applied(Box::new(event(row)?))));
            }
        }
        Ok(decision)
    }

    /// The changes of a space after a cursor, in order, and its newest number, all of one moment. Nothing if the user is
    /// no member of it. Without a space, the user's personal one; as long as there is none, it has no changes.
    pub async fn list_changes(
        &self,
        space_id: Option<SpaceId>,
        user_id: &UserId,
        after: Cursor,
        limit: PageLimit,
    ) -> Result<Option<ChangeList>, Error> {
        let rows = self
            .rows(
                &LIST_CHANGES,
                &[
                    &space_id.map(Uuid::from),
                    &user_id.as_str(),
                    &after.get(),
                    &limit.get(),
                ],
            )
            .await?;
        let latest_sequence = match rows.first() {
            Some(row) => parse::<i64, Cursor>(row, "last_sequence")?,
            None if space_id.is_none() => Cursor::START,
            None => return Ok(None),
        };
        let mut changes = Vec::with_capacity(rows.len());
        for row in &rows {
            if get::<Option<i64>>(row, "sequence")?.is_some() {
                changes.push(event(row)?);
            }
        }
        let last = changes.last().map(|change: &Event| change.sequence.get());
        Ok(Some(ChangeList {
            has_more: last.is_some_and(|last| last < latest_sequence.get()),
            changes,
            latest_sequence,
        }))
    }
}

/// Reads what a command answers.
fn changed(row: &Row) -> Result<Result<Effect, Rejection>, Error> {
    Ok(match outcome(row)? {
        Ok(Outcome::Allowed) => Ok(Effect::Applied(Box::new(event(row)?))),
        Ok(Outcome::Already) => Ok(Effect::AlreadyApplied(Box::new(event(row)?))),
        Ok(Outcome::Unchanged) => Ok(Effect::NoOp),
        Err(refusal) => Err(refusal),
    })
}

/// What a statement may do, as its column `outcome` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was done.
    Allowed,
    /// It had been done before, by a change that can be told.
    Already,
    /// There was nothing to do.
    Unchanged,
}

/// Reads the columns `outcome`, `current_file_id`, `current_version` and `current_path`.
pub(crate) fn outcome(row: &Row) -> Result<Result<Outcome, Rejection>, Error> {
    Ok(Err(match get::<&str>(row, "outcome")? {
        "allowed" => return Ok(Ok(Outcome::Allowed)),
        "already" => return Ok(Ok(Outcome::Already)),
        "unchanged" => return Ok(Ok(Outcome::Unchanged)),
        "not_found" => Rejection::NotFound,
        "forbidden" => Rejection::Forbidden,
        "version_conflict" => Rejection::VersionConflict(current_version(row)?),
        "path_taken" => Rejection::PathTaken(current_version(row)?),
        "expired" => Rejection::Expired,
        "completed" => Rejection::Completed,
        "last_owner" => Rejection::LastOwner,
        "personal_space" => Rejection::PersonalSpace,
        "unknown_user" => Rejection::UnknownUser,
        "too_many_members" => Rejection::TooManyMembers,
        "key_reused" => Rejection::KeyReused,
        other => {
            return Err(Error::Column {
                column: "outcome",
                source: format!("unknown outcome {other}").into(),
            });
        }
    }))
}

fn current_version(row: &Row) -> Result<CurrentVersion, Error> {
    let version = get::<Option<i64>>(row, "current_version")?.unwrap_or(0);
    Ok(CurrentVersion {
        version: version.try_into().map_err(|source| Error::Column {
            column: "current_version",
            source: Box::new(source),
        })?,
        file_id: parse_opt::<Uuid, FileId>(row, "current_file_id")?,
        path: parse_opt::<String, SpacePath>(row, "current_path")?.map(Box::new),
    })
}

/// Reads a row of `changes`.
pub(crate) fn event(row: &Row) -> Result<Event, Error> {
    Ok(Event {
        sequence: parse::<i64, Sequence>(row, "sequence")?,
        event_id: get::<Uuid>(row, "event_id")?.into(),
        change: change(row)?,
        space_id: get::<Uuid>(row, "space_id")?.into(),
        user_id: parse::<String, UserId>(row, "user_id")?,
        device_id: parse_opt::<Uuid, DeviceId>(row, "device_id")?,
        occurred_at: get(row, "occurred_at")?,
    })
}

fn change(row: &Row) -> Result<Change, Error> {
    let subject_space_id = || get::<Uuid>(row, "subject_space_id").map(SpaceId::from);
    Ok(match get::<&str>(row, "event_type")? {
        "FILE_UPDATED" => Change::FileUpdated(file(row)?),
        "FILE_MOVED" => Change::FileMoved(file(row)?),
        "FILE_DELETED" => Change::FileDeleted(file(row)?),
        "SPACE_SHARED" => Change::SpaceShared {
            subject_space_id: subject_space_id()?,
            role: parse::<&str, Role>(row, "subject_role")?,
        },
        "SPACE_LEFT" => Change::SpaceLeft {
            subject_space_id: subject_space_id()?,
        },
        other => {
            return Err(Error::Column {
                column: "event_type",
                source: format!("unknown type {other}").into(),
            });
        }
    })
}

fn file(row: &Row) -> Result<FileState, Error> {
    Ok(FileState {
        file_id: get::<Uuid>(row, "file_id")?.into(),
        path: parse::<String, SpacePath>(row, "path")?,
        version: parse::<i64, Version>(row, "version")?,
        size: parse::<i64, ByteCount>(row, "size")?,
        sha256: parse::<&[u8], Sha256>(row, "sha256")?,
    })
}
