//! The parts that are common to all commands that change a space, and reading changes back.
//!
//! Changes of a space are serialized. Each command locks the row of the space and then runs one statement,
//! both in one round trip. The statement therefore sees everything that was committed before, and its checks
//! need not consider concurrent commands. Sequence numbers are gapless and in commit order.
//!
//! Only members get the lock, so non-members cannot delay them. The lock query records the space's id in a
//! setting of the transaction, and the statement finds only that space (`locked!`). If a membership is
//! committed between the two, the lock query has locked nothing, and the statement finds nothing either. The
//! statement checks the role again, since it may change while the lock is waited for.
//!
//! The statement determines the outcome in its CTE `target`, and writes only if the outcome is `allowed`.

use std::time::Duration;

use model::{
    ByteCount, Caller, Change, ChangeList, CurrentVersion, Cursor, DeviceId, Event, EventId, FileId,
    FileState, ModifiedAt, PageLimit, PersonName, Role, Sequence, Sha256, SpaceId, SpaceName, SpacePath,
    UserId, Version,
};
use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::client::{Database, Locked, Statement};
use crate::error::Error;
use crate::query::Query;
use crate::row::{get, parse, parse_opt};

pub(crate) const QUERIES: &[&Query] = &[&LIST_CHANGES, &FIND_CHANGES];

/// The maximum number of changes that a command makes.
pub const MAX_CHANGES: usize = 2;

/// The parameters that all commands of a request have in common.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// The time of the changes.
    pub now: OffsetDateTime,
    /// The end of the outbox lease. Until then only the caller sends the events to the queue.
    pub leased_until: OffsetDateTime,
    /// The user who makes the changes.
    pub caller: &'a Caller,
    /// The maximum number of changes of a user per minute, unless an operator has set another one for the user.
    pub max_changes_per_minute: i64,
}

/// The parameters that all commands have in common.
#[derive(Clone, Copy, Debug)]
pub struct NewChange<'a> {
    /// The ids of the events that the command creates: of the change itself, and of its counterpart in another
    /// space's feed, if it has one.
    pub event_ids: [EventId; MAX_CHANGES],
    /// The device that makes the change, if the client named one.
    pub device_id: Option<DeviceId>,
    /// The time, the user and the limits.
    pub commit: Commit<'a>,
}

/// The result of a command that was not rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The command made these changes, at least one. The caller must publish their events. The first is the
    /// requested change; the others tell of it in the feeds of other spaces.
    Applied(Vec<Event>),
    /// The state is as requested already, and nothing was changed. The event is that of the earlier change.
    AlreadyApplied(Box<Event>),
    /// The state is as requested already, and there is no earlier change to return.
    NoOp,
}

/// A limit that a command would exceed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The name of the limit, such as `changesPerMinute`.
    pub name: LimitName,
    /// The maximum.
    pub maximum: i64,
    /// The use at the time of the request, without what it would add.
    pub used: i64,
    /// The time after which the same command may succeed; `None` if only a deletion makes room.
    pub retry_after: Option<Duration>,
}

/// The name of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitName {
    /// Changes of a user within a minute.
    ChangesPerMinute,
    /// Pending uploads of a user.
    PendingUploads,
    /// Shared spaces that a user is a member of.
    Spaces,
    /// Bytes of the content of a space, with old versions and the trash.
    SpaceBytes,
    /// Pending invitations to a space.
    PendingInvitations,
    /// Pending invitations of a person, to any space.
    ReceivedInvitations,
    /// Invitations that a user makes within a day.
    InvitationsPerDay,
}

impl LimitName {
    /// The name in SQL and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChangesPerMinute => "changesPerMinute",
            Self::PendingUploads => "pendingUploads",
            Self::Spaces => "spaces",
            Self::SpaceBytes => "spaceBytes",
            Self::PendingInvitations => "pendingInvitations",
            Self::ReceivedInvitations => "receivedInvitations",
            Self::InvitationsPerDay => "invitationsPerDay",
        }
    }
}

impl Limit {
    /// Parses the detail and the hint of the error with which the SQL function `within` fails.
    pub(crate) fn from_error(detail: &str, hint: &str) -> Option<Self> {
        let (name, rest) = detail.split_once(' ')?;
        let (maximum, seconds) = rest.split_once(' ')?;
        let names = [
            LimitName::Spaces,
            LimitName::PendingInvitations,
            LimitName::ReceivedInvitations,
            LimitName::InvitationsPerDay,
        ];
        Some(Self {
            name: names.into_iter().find(|known| known.as_str() == name)?,
            maximum: maximum.parse().ok()?,
            used: hint.parse().ok()?,
            retry_after: Some(seconds.parse().ok()?)
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
        })
    }
}

/// Reason why a command was rejected. A rejected command changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The item does not exist, or the user has no access to it.
    NotFound,
    /// The user's role does not allow the change.
    Forbidden,
    /// The base in the request is not the current version, path or file.
    VersionConflict(CurrentVersion),
    /// Another file is at the path, at one of its folders or below it. A path cannot be both a file and a
    /// folder.
    PathTaken(CurrentVersion),
    /// The upload has expired or was aborted.
    Expired,
    /// The upload is completed, so it cannot be aborted.
    Completed,
    /// The change would leave the space without an owner.
    LastOwner,
    /// A personal space cannot be shared, and its owner cannot be removed.
    PersonalSpace,
    /// The invited person is a member of the space already.
    AlreadyMember,
    /// No user with this id has used the service yet.
    UnknownUser,
    /// The space already has the maximum number of members.
    TooManyMembers,
    /// The idempotency key was used with a different request.
    KeyReused,
    /// The upload has another SHA-256 than the request: one that was given when it was opened or completed.
    Sha256Conflict,
    /// The SHA-256 of the upload's content was given neither when it was opened nor now.
    Sha256Missing,
    /// A limit of the user or the space would be exceeded.
    LimitExceeded(Limit),
    /// An operator has blocked the user.
    Blocked,
    /// The user has erased the account.
    Erased,
    /// The user is the only owner of these spaces, which have other members.
    OnlyOwner(Vec<SpaceId>),
    /// The database was restored since the client last listed what it has: the epoch in the request is not the
    /// current one.
    FeedReset,
}

/// Makes the query that admits the caller, locks a space and then the caller, and records the space's id for
/// the rest of the transaction. `$rest` follows `SELECT s.id FROM spaces s` and selects the space. Its
/// parameters are $1 the item from which the space follows, $2 user, $3 epoch or null, $4 now, or null if the
/// statement is no change and so not limited, $5 maximum number of changes per minute, $6 number of changes;
/// more may follow.
///
/// A limit that would be exceeded is returned, not raised: the statements of a batch would all fail after an
/// error, and PostgreSQL would log each. They find no locked space instead.
///
/// The caller's row is locked after the space's in every command, and commands lock no other row of `users`.
/// `$then` is an expression for what to lock after both.
macro_rules! lock {
    ($name:literal, $rest:literal) => {
        lock!($name, $rest, then "NULL")
    };
    ($name:literal, $rest:literal, then $then:literal) => {
        $crate::query::Query::new(concat!(
            "-- ",
            $name,
            "
WITH locked AS (
    SELECT s.id
    FROM spaces s
    ",
            $rest,
            " AND admit($2, $3)
    FOR NO KEY UPDATE OF s
), caller AS (
    SELECT CASE WHEN u.changes_since > $4::timestamptz - interval '1 minute' THEN u.changes ELSE 0 END AS used,
        coalesce(u.max_changes_per_minute, $5) AS maximum,
        ceil(extract(epoch FROM u.changes_since + interval '1 minute' - $4))::bigint AS retry_after
    FROM locked
    JOIN users u ON u.user_id = $2
    FOR NO KEY UPDATE OF u
), allowed AS (
    SELECT locked.id, caller.used, caller.maximum, caller.retry_after,
        $4 IS NOT NULL AND caller.used + $6::bigint > caller.maximum AS exceeded
    FROM locked
    LEFT JOIN caller ON true
)
SELECT CASE WHEN exceeded THEN NULL ELSE set_config('syncsphere.locked_space', id::text, true) END,
    coalesce(exceeded, false) AS exceeded, used::bigint, maximum, retry_after, ",
            $then,
            " AS locked_next
FROM allowed"
        ))
    };
}
pub(crate) use lock;

/// The condition that this transaction has locked the space. `$id` is the column of the space's id.
macro_rules! locked {
    ($id:literal) => {
        concat!($id, "::text = current_setting('syncsphere.locked_space', true)")
    };
}
pub(crate) use locked;

/// The columns of an event that [`event`] reads, without `user_name`. The change is `c`.
macro_rules! event_columns {
    () => {
        "c.sequence, c.event_id, c.event_type, c.space_id, c.user_id, c.device_id, c.file_id, c.path, c.version, c.size, c.sha256,
    c.modified_at, c.executable, c.subject_space_id, c.subject_role, c.member_id, c.space_name, c.occurred_at"
    };
}
pub(crate) use event_columns;

/// The columns of `changed` for a change that is not of a file.
macro_rules! no_file {
    () => {
        "NULL::uuid AS file_id, NULL AS path, NULL::bigint AS version, NULL::bigint AS size, NULL::bytea AS sha256,
        NULL::timestamptz AS modified_at, NULL::boolean AS executable"
    };
}
pub(crate) use no_file;

/// The columns of `changed` for a change that is of a file.
macro_rules! no_space {
    () => {
        "NULL::uuid AS subject_space_id, NULL AS subject_role, NULL AS member_id, NULL AS space_name"
    };
}
pub(crate) use no_space;

/// Makes the query of a command from its first CTEs. Their parameters are $1 event ids, $2 now, $3 end of the
/// outbox lease, $4 user and $5 device; more may follow. They must define
///
/// - `target (outcome, current_file_id, current_version, earlier_event_id)`: one row if the user has access
///   to the item and its space is `locked!`;
/// - `changed (space_id, event_type, file_id, path, version, size, sha256, modified_at, executable,
///   subject_space_id, subject_role, member_id, space_name, position)`: if the outcome is `allowed`, the
///   changes in the order of `position`, which is 1 for the requested change.
///
/// The macro adds the CTEs that take the next sequence numbers of the spaces and insert the changes and their
/// outbox rows. Changes of one space get consecutive numbers. `$set` is further assignments to the columns of
/// these spaces, each after a comma: a statement can update a row only once. `$rate` assigns to the columns
/// of the caller for the rows `t` of `target` that satisfy `$rated`.
macro_rules! command {
    ($first:expr) => {
        command!($first, set "")
    };
    ($first:expr, set $set:literal) => {
        command!($first, set $set, rate $crate::changes::rate!(), for "t.outcome = 'allowed'")
    };
    ($first:expr, set $set:literal, rate $rate:expr, for $rated:literal) => {
        $crate::changes::commit!(
            $first, set $set, rate $rate, for $rated, device "$5", columns "",
            made "NULL::bigint AS item", earlier "NULL::bigint AS item", told "true", order "array_position($1, c.event_id)"
        )
    };
}
pub(crate) use command;

/// Makes the query of a command with several items, as `command!` does for one. $5 has the items, and $1 an
/// event id for each. `target` has a row for each item that the user has access to, also with `item`, its
/// number from 1, and with `bytes_used, max_bytes` for the limit of the space. `changed` also has `device_id`,
/// and the item's number as the position. One row is returned for each row of `target`.
macro_rules! batch {
    ($first:expr) => {
        $crate::changes::commit!(
            $first, set "", rate $crate::changes::rate!(), for "t.outcome = 'allowed'", device "c.device_id",
            columns "t.item, t.bytes_used, t.max_bytes, ",
            made "array_position($1, event_id)::bigint AS item", earlier "t.item", told "c.item = t.item", order "t.item"
        )
    };
}
pub(crate) use batch;

/// The assignment that counts changes within a minute.
macro_rules! rate {
    () => {
        "changes = CASE WHEN u.changes_since > $2 - interval '1 minute' THEN u.changes ELSE 0 END
            + (SELECT count(*) FROM target WHERE outcome = 'allowed'),
        changes_since = CASE WHEN u.changes_since > $2 - interval '1 minute' THEN u.changes_since ELSE $2 END"
    };
}
pub(crate) use rate;

/// The parts that `command!` and `batch!` have in common.
macro_rules! commit {
    (
        $first:expr, set $set:literal, rate $rate:expr, for $rated:literal, device $device:literal,
        columns $columns:literal, made $made:literal, earlier $earlier:literal, told $told:literal, order $order:literal
    ) => {
        $crate::query::Query::new(concat!(
            $first,
            ", counted AS (
    SELECT space_id, count(*) AS changes
    FROM changed
    GROUP BY space_id
), numbered AS (
    UPDATE spaces s
    SET last_sequence = s.last_sequence + counted.changes, epoch = h.epoch,
        restored_at_sequence = CASE
            WHEN s.epoch IS NOT DISTINCT FROM h.epoch THEN s.restored_at_sequence
            WHEN h.restored THEN s.last_sequence
        END",
            $set,
            "
    FROM counted, history h
    WHERE s.id = counted.space_id
    RETURNING s.id, s.last_sequence - counted.changes AS before
), made AS (
    INSERT INTO changes
        (space_id, sequence, event_id, event_type, user_id, device_id, file_id, path, version, size, sha256,
        modified_at, executable, subject_space_id, subject_role, member_id, space_name, occurred_at)
    SELECT c.space_id, n.before + row_number() OVER (PARTITION BY c.space_id ORDER BY c.position),
        ($1::uuid[])[c.position], c.event_type, $4, ",
            $device,
            ", c.file_id, c.path, c.version, c.size, c.sha256, c.modified_at, c.executable,
        c.subject_space_id, c.subject_role, c.member_id, c.space_name, $2
    FROM changed c
    JOIN numbered n ON n.id = c.space_id
    RETURNING *
), rated AS (
    UPDATE users u
    SET ",
            $rate,
            "
    FROM target t
    WHERE ",
            $rated,
            " AND u.user_id = $4
), waiting AS (
    INSERT INTO outbox (event_id, created_at, leased_until)
    SELECT event_id, $2, $3
    FROM made
), told AS (
    SELECT *, ",
            $made,
            "
    FROM made
    UNION ALL
    SELECT c.*, ",
            $earlier,
            "
    FROM target t
    JOIN changes c ON c.event_id = t.earlier_event_id
    WHERE t.outcome <> 'allowed'
)
SELECT ",
            $columns,
            "t.outcome, t.current_file_id, t.current_version, current.path AS current_path, author.name AS user_name, ",
            $crate::changes::event_columns!(),
            "
FROM target t
LEFT JOIN told c ON ",
            $told,
            "
LEFT JOIN files current ON current.id = t.current_file_id
LEFT JOIN users author ON author.user_id = c.user_id
ORDER BY ",
            $order
        ))
    };
}
pub(crate) use commit;

/// $1 space or null for the personal one, $2 user, $3 cursor, $4 maximum number of changes, $5 epoch or null. One
/// row even if there is no such space, with the epoch alone.
const LIST_CHANGES: Query = Query::new(concat!(
    "-- list_changes
SELECT h.epoch, s.last_sequence, s.restored_at_sequence, author.name AS user_name, ",
    event_columns!(),
    "
FROM history h
LEFT JOIN LATERAL (
    SELECT s.id, s.last_sequence,
        CASE
            WHEN s.epoch IS NOT DISTINCT FROM h.epoch THEN s.restored_at_sequence
            WHEN h.restored THEN s.last_sequence
        END AS restored_at_sequence
    FROM spaces s
    JOIN active_members m ON m.space_id = s.id AND m.user_id = $2
    WHERE s.id = coalesce($1, (SELECT id FROM spaces WHERE owner_id = $2))
) s ON true
LEFT JOIN LATERAL (
    SELECT *
    FROM changes
    WHERE space_id = s.id AND sequence > $3
    ORDER BY sequence
    LIMIT $4
) c ON true
LEFT JOIN users author ON author.user_id = c.user_id
WHERE admit($2, $5)
ORDER BY c.sequence"
));

/// $1 event ids.
const FIND_CHANGES: Query = Query::new(concat!(
    "-- find_changes
SELECT author.name AS user_name, ",
    event_columns!(),
    "
FROM changes c
LEFT JOIN users author ON author.user_id = c.user_id
WHERE c.event_id = ANY ($1)
ORDER BY array_position($1, c.event_id)"
));

impl Commit<'_> {
    /// The rate at which the user makes these changes.
    pub(crate) fn rate(&self, changes: usize) -> Rate {
        Rate {
            now: Some(self.now),
            max_changes_per_minute: self.max_changes_per_minute,
            changes: i64::try_from(changes).unwrap_or(i64::MAX),
        }
    }
}

impl Database {
    /// Runs a statement under the locks of a space and of the caller. `items` are the first parameter of the
    /// lock and those from $7 on.
    pub(crate) async fn query_in_space(
        &self,
        caller: &Caller,
        rate: Rate,
        (lock, items): (&Query, &[&(dyn ToSql + Sync)]),
        statement: Statement<'_>,
    ) -> Result<Vec<Row>, Error> {
        let locked = self
            .queries_in_space(caller, rate, (lock, items), &[statement])
            .await?;
        Ok(locked.rows.into_iter().flatten().collect())
    }

    /// As `query_in_space` for several statements, in one transaction and in this order.
    pub(crate) async fn queries_in_space(
        &self,
        caller: &Caller,
        rate: Rate,
        (lock, items): (&Query, &[&(dyn ToSql + Sync)]),
        statements: &[Statement<'_>],
    ) -> Result<Locked, Error> {
        let (user_id, epoch) = (caller.user_id.as_str(), epoch(caller));
        let (first, others) = items.split_at(1.min(items.len()));
        let standard: [&(dyn ToSql + Sync); 5] = [
            &user_id,
            &epoch,
            &rate.now,
            &rate.max_changes_per_minute,
            &rate.changes,
        ];
        let parameters = [first, &standard, others].concat();
        let locked = self.queries_locked((lock, &parameters), statements).await?;
        for row in &locked.lock {
            if get(row, "exceeded")? {
                return Err(Error::Rejected(Rejection::LimitExceeded(rate_limit(row)?)));
            }
        }
        Ok(locked)
    }

    /// Runs a command under the locks of its space and its caller. `items` are the first parameter of the
    /// lock and those from $7 on. `parameters` are those of the command from $6 on.
    pub(crate) async fn command(
        &self,
        lock: &Query,
        items: &[&(dyn ToSql + Sync)],
        query: &Query,
        new: NewChange<'_>,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Result<Effect, Rejection>, Error> {
        let command = Command {
            query,
            new,
            parameters,
        };
        let decisions = self.commands((lock, items), new.commit, &[command]).await?;
        Ok(decisions.into_iter().next().unwrap_or(Err(Rejection::NotFound)))
    }

    /// Runs commands of one space, as [`Database::command`] does one, in one transaction and in this order.
    pub(crate) async fn commands(
        &self,
        lock: (&Query, &[&(dyn ToSql + Sync)]),
        commit: Commit<'_>,
        commands: &[Command<'_>],
    ) -> Result<Vec<Result<Effect, Rejection>>, Error> {
        let user_id = commit.caller.user_id.as_str();
        let ids: Vec<(Vec<Uuid>, Option<Uuid>)> = commands
            .iter()
            .map(|Command { new, .. }| {
                let event_ids = new.event_ids.map(Uuid::from).to_vec();
                (event_ids, new.device_id.map(Uuid::from))
            })
            .collect();
        let parameters: Vec<Vec<&(dyn ToSql + Sync)>> = commands
            .iter()
            .zip(&ids)
            .map(|(command, (event_ids, device_id))| {
                let standard: [&(dyn ToSql + Sync); 5] =
                    [event_ids, &commit.now, &commit.leased_until, &user_id, device_id];
                [&standard, command.parameters].concat()
            })
            .collect();
        let statements: Vec<Statement<'_>> = commands
            .iter()
            .zip(&parameters)
            .map(|(command, parameters)| -> Statement<'_> { (command.query, parameters) })
            .collect();
        let Locked { rows, repeated, .. } = self
            .queries_in_space(commit.caller, commit.rate(commands.len()), lock, &statements)
            .await?;
        let mut decisions = rows
            .iter()
            .map(|rows| changed(rows))
            .collect::<Result<Vec<_>, _>>()?;
        // Repeated commands may have found the changes of their own first attempt.
        if repeated
            && decisions
                .iter()
                .any(|decision| !matches!(decision, Ok(Effect::Applied(_))))
        {
            let all: Vec<Uuid> = ids.iter().flat_map(|(event_ids, _)| event_ids).copied().collect();
            let own = self.rows(&FIND_CHANGES, &[&all]).await?;
            let mut own = own.iter().map(event).collect::<Result<Vec<_>, _>>()?;
            for (decision, (event_ids, _)) in decisions.iter_mut().zip(&ids) {
                let is_of_command = |event: &mut Event| event_ids.contains(&event.event_id.into());
                let events: Vec<Event> = own.extract_if(.., is_of_command).collect();
                if !events.is_empty() {
                    *decision = Ok(Effect::Applied(events));
                }
            }
        }
        Ok(decisions)
    }

    /// The changes of a space after a cursor, in order, and the newest sequence number, from one snapshot.
    /// `None` if the user is not a member. Without a space id, the user's personal space; if it does not
    /// exist yet, the list is empty.
    pub async fn list_changes(
        &self,
        space_id: Option<SpaceId>,
        caller: &Caller,
        after: Cursor,
        limit: PageLimit,
    ) -> Result<Option<ChangeList>, Error> {
        let rows = self
            .rows(
                &LIST_CHANGES,
                &[
                    &space_id.map(Uuid::from),
                    &caller.user_id.as_str(),
                    &after.get(),
                    &limit.get(),
                    &epoch(caller),
                ],
            )
            .await?;
        let first = rows.first().ok_or(Error::NoHistory)?;
        let latest_sequence = match parse_opt::<i64, Cursor>(first, "last_sequence")? {
            Some(latest) => latest,
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
            epoch: get::<Uuid>(first, "epoch")?.into(),
            restored_at_sequence: parse_opt::<i64, Cursor>(first, "restored_at_sequence")?,
        }))
    }
}

/// A command to run. `parameters` are those of the query from $6 on.
pub(crate) struct Command<'a> {
    pub(crate) query: &'a Query,
    pub(crate) new: NewChange<'a>,
    pub(crate) parameters: &'a [&'a (dyn ToSql + Sync)],
}

/// The number of changes of a command, and the limit for it.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    /// The time; `None` if there is no limit, not even one that an operator has set for the user.
    now: Option<OffsetDateTime>,
    max_changes_per_minute: i64,
    changes: i64,
}

/// The limit of changes that a lock's row has found exceeded.
fn rate_limit(row: &Row) -> Result<Limit, Error> {
    let seconds = get::<Option<i64>>(row, "retry_after")?.and_then(|seconds| u64::try_from(seconds).ok());
    Ok(Limit {
        name: LimitName::ChangesPerMinute,
        maximum: get(row, "maximum")?,
        used: get(row, "used")?,
        retry_after: seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
    })
}

/// For statements that make no change.
pub(crate) const UNLIMITED: Rate = Rate {
    now: None,
    max_changes_per_minute: i64::MAX,
    changes: 0,
};

/// The epoch that the caller knows, as a parameter.
pub(crate) fn epoch(caller: &Caller) -> Option<Uuid> {
    caller.epoch.map(Uuid::from)
}

/// Reads the result of a command.
fn changed(rows: &[Row]) -> Result<Result<Effect, Rejection>, Error> {
    let Some(row) = rows.first() else {
        return Ok(Err(Rejection::NotFound));
    };
    Ok(match outcome(row)? {
        Ok(Outcome::Allowed) => Ok(Effect::Applied(rows.iter().map(event).collect::<Result<_, _>>()?)),
        Ok(Outcome::Already) => Ok(Effect::AlreadyApplied(Box::new(event(row)?))),
        Ok(Outcome::Unchanged) => Ok(Effect::NoOp),
        Err(refusal) => Err(refusal),
    })
}

/// The outcomes of a statement that are not a [`Rejection`], from the column `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The statement did what was requested.
    Allowed,
    /// It had been done before. The row of a command contains the earlier change.
    Already,
    /// There was nothing to do, and the row contains no change.
    Unchanged,
}

/// Reads the column `outcome` and, if it needs them, `current_file_id`, `current_version` and `current_path`.
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
        "already_member" => Rejection::AlreadyMember,
        "unknown_user" => Rejection::UnknownUser,
        "too_many_members" => Rejection::TooManyMembers,
        "key_reused" => Rejection::KeyReused,
        "sha256_conflict" => Rejection::Sha256Conflict,
        "sha256_missing" => Rejection::Sha256Missing,
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

/// Reads a row with the columns of `changes`.
pub(crate) fn event(row: &Row) -> Result<Event, Error> {
    Ok(Event {
        sequence: parse::<i64, Sequence>(row, "sequence")?,
        event_id: get::<Uuid>(row, "event_id")?.into(),
        change: change(row)?,
        space_id: get::<Uuid>(row, "space_id")?.into(),
        user_id: parse::<String, UserId>(row, "user_id")?,
        user_name: parse_opt::<String, PersonName>(row, "user_name")?,
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
        "SPACE_INVITED" => Change::SpaceInvited {
            subject_space_id: subject_space_id()?,
            role: parse::<&str, Role>(row, "subject_role")?,
        },
        "SPACE_LEFT" => Change::SpaceLeft {
            subject_space_id: subject_space_id()?,
        },
        "SPACE_RENAMED" => Change::SpaceRenamed {
            name: parse::<String, SpaceName>(row, "space_name")?,
        },
        "SPACE_DELETED" => Change::SpaceDeleted {},
        "SPACE_RESTORED" => Change::SpaceRestored {},
        "MEMBER_CHANGED" => Change::MemberChanged {
            member_id: parse::<String, UserId>(row, "member_id")?,
            role: parse::<&str, Role>(row, "subject_role")?,
        },
        "MEMBER_REMOVED" => Change::MemberRemoved {
            member_id: parse::<String, UserId>(row, "member_id")?,
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
        modified_at: parse_opt::<OffsetDateTime, ModifiedAt>(row, "modified_at")?,
        executable: get(row, "executable")?,
    })
}
