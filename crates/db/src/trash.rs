//! The trash, old versions, and erasing: what can be brought back, and what no longer can.

use model::{Caller, DeletedFileView, FileId, PageLimit, SpaceId, SpacePath, TrashKey, UserId, Version};
use time::Duration;
use time::macros::datetime;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::changes::{Effect, NewChange, Rejection, command, epoch, locked, no_space};
use crate::client::Database;
use crate::error::Error;
use crate::files::{Base, LOCK_SPACE_OF_FILE, file, in_the_way};
use crate::query::Query;
use crate::row::{get, parse_opt};

pub(crate) const QUERIES: &[&Query] = &[&LIST_TRASH, &RESTORE_FILE, &RESTORE_VERSION, &ERASE_FILE];

/// $1 space or null for the personal one, $2 user, $3 and $4 deletion time and id that the files come before,
/// $5 maximum number of files, $6 epoch or null.
const LIST_TRASH: Query = Query::new(
    "-- list_trash
SELECT s.id AS space_id, f.*
FROM spaces s
JOIN active_members m ON m.space_id = s.id AND m.user_id = $2
LEFT JOIN LATERAL (
    SELECT files.id AS file_id, files.path, files.created_at, files.deleted_at, files.deleted_by, v.version, v.size,
        v.sha256, v.content_type, v.part_size, v.composite_sha256, v.modified_at, v.executable, v.created_at AS updated_at
    FROM files
    JOIN versions v ON v.file_id = files.id AND v.version = files.version
    WHERE files.space_id = s.id AND files.deleted_at IS NOT NULL AND files.purge_at IS NULL
        AND (files.deleted_at, files.id) < ($3, $4)
    ORDER BY files.deleted_at DESC, files.id DESC
    LIMIT $5
) f ON true
WHERE s.id = coalesce($1, (SELECT id FROM spaces WHERE owner_id = $2)) AND admit($2, $6)
ORDER BY f.deleted_at DESC, f.file_id DESC",
);

/// $6 file, $7 path or null for the one that the file had. Restoring a file that is not in the trash changes
/// nothing.
///
/// If the file is not in the trash, `own` is the newest change of the file by the same user and device, if it
/// is such a restoration: the request is then a repetition. Only the file's last 100 changes are searched.
const RESTORE_FILE: Query = command!(concat!(
    "-- restore_file
WITH target AS (
    SELECT f.id, wanted.path,
        coalesce(own.event_id,
            (SELECT event_id FROM changes WHERE file_id = f.id ORDER BY sequence DESC LIMIT 1)) AS earlier_event_id,
        coalesce(other.id, way.id, f.id) AS current_file_id,
        coalesce(other.version, way.version, f.version) AS current_version,
        CASE
            WHEN m.role = 'viewer' THEN 'forbidden'
            WHEN f.deleted_at IS NULL THEN 'already'
            WHEN other.id IS NOT NULL OR way.id IS NOT NULL THEN 'path_taken'
            ELSE 'allowed'
        END AS outcome
    FROM files f
    JOIN active_members m ON m.space_id = f.space_id AND m.user_id = $4
    CROSS JOIN LATERAL (
        SELECT coalesce($7, f.path) AS path
    ) wanted
    LEFT JOIN files other ON other.space_id = f.space_id AND other.path = wanted.path AND other.deleted_at IS NULL
        AND other.id <> f.id AND f.deleted_at IS NOT NULL
    LEFT JOIN LATERAL ",
    in_the_way!("f.space_id", "wanted.path", "f.id"),
    " way ON f.deleted_at IS NOT NULL
    LEFT JOIN LATERAL (
        SELECT c.event_id
        FROM (
            SELECT *
            FROM (SELECT * FROM changes WHERE file_id = f.id ORDER BY sequence DESC LIMIT 100) recent
            WHERE recent.user_id = $4 AND recent.device_id IS NOT DISTINCT FROM $5
            ORDER BY recent.sequence DESC
            LIMIT 1
        ) c
        WHERE c.event_type = 'FILE_UPDATED' AND c.path = coalesce($7, c.path) AND 'FILE_DELETED' = (
            SELECT event_type
            FROM changes
            WHERE file_id = f.id AND sequence < c.sequence
            ORDER BY sequence DESC
            LIMIT 1
        )
    ) own ON f.deleted_at IS NULL
    WHERE f.id = $6 AND f.purge_at IS NULL AND ",
    locked!("f.space_id"),
    "
), restored AS (
    UPDATE files f
    SET deleted_at = NULL, deleted_by = NULL, path = t.path
    FROM target t
    WHERE t.outcome = 'allowed' AND f.id = t.id
    RETURNING f.id, f.space_id, f.path, f.version
), changed AS (
    SELECT f.space_id, 'FILE_UPDATED' AS event_type, f.id AS file_id, f.path, f.version, v.size, v.sha256,
        v.modified_at, v.executable, ",
    no_space!(),
    ", 1 AS position
    FROM restored f
    JOIN versions v ON v.file_id = f.id AND v.version = f.version
)"
));

/// $6 file, $7 version, $8 base version or null. Restoring a version whose content is the current one changes
/// nothing.
///
/// If the file is no longer at the base version, `own` is the newest change of the file by the same user and
/// device, if it is the same restoration of the same base: the request is then a repetition. Only the file's
/// last 100 changes are searched.
const RESTORE_VERSION: Query = command!(concat!(
    "-- restore_version
WITH target AS (
    SELECT f.id, f.space_id, f.path, f.version + 1 AS next, v.size, v.sha256, v.part_size, v.composite_sha256,
        v.object_key, v.content_type, v.modified_at, v.executable,
        coalesce(own.event_id,
            (SELECT event_id FROM changes WHERE file_id = f.id ORDER BY sequence DESC LIMIT 1)) AS earlier_event_id,
        f.id AS current_file_id, f.version AS current_version,
        CASE
            WHEN m.role = 'viewer' THEN 'forbidden'
            WHEN own.event_id IS NOT NULL THEN 'already'
            WHEN $8::bigint <> f.version THEN 'version_conflict'
            WHEN v.object_key = current.object_key THEN 'already'
            ELSE 'allowed'
        END AS outcome
    FROM files f
    JOIN active_members m ON m.space_id = f.space_id AND m.user_id = $4
    JOIN versions v ON v.file_id = f.id AND v.version = $7 AND v.purge_at IS NULL
    JOIN versions current ON current.file_id = f.id AND current.version = f.version
    LEFT JOIN LATERAL (
        SELECT c.event_id
        FROM (
            SELECT *
            FROM (SELECT * FROM changes WHERE file_id = f.id ORDER BY sequence DESC LIMIT 100) recent
            WHERE recent.user_id = $4 AND recent.device_id IS NOT DISTINCT FROM $5
            ORDER BY recent.sequence DESC
            LIMIT 1
        ) c
        JOIN versions made ON made.file_id = f.id AND made.version = c.version
        WHERE c.event_type = 'FILE_UPDATED' AND c.version = $8::bigint + 1 AND made.object_key = v.object_key
    ) own ON $8::bigint <> f.version
    WHERE f.id = $6 AND f.deleted_at IS NULL AND ",
    locked!("f.space_id"),
    "
), updated AS (
    UPDATE files f
    SET version = t.next
    FROM target t
    WHERE t.outcome = 'allowed' AND f.id = t.id
), added AS (
    INSERT INTO versions
        (file_id, version, size, sha256, part_size, composite_sha256, object_key, content_type, modified_at, executable,
        user_id, device_id, created_at)
    SELECT id, next, size, sha256, part_size, composite_sha256, object_key, content_type, modified_at, executable, $4, $5, $2
    FROM target
    WHERE outcome = 'allowed'
), changed AS (
    SELECT space_id, 'FILE_UPDATED' AS event_type, id AS file_id, path, next AS version, size, sha256, modified_at, executable,
        ",
    no_space!(),
    ", 1 AS position
    FROM target
    WHERE outcome = 'allowed'
)"
));

/// $6 file, $7 base version or null, $8 base path or null. A file in the trash is erased without a change,
/// since its deletion was one. Erasing a file that is not purged yet changes nothing.
const ERASE_FILE: Query = command!(concat!(
    "-- erase_file
WITH target AS (
    SELECT f.id, (SELECT event_id FROM changes WHERE file_id = f.id ORDER BY sequence DESC LIMIT 1) AS earlier_event_id,
        f.id AS current_file_id, f.version AS current_version,
        CASE
            WHEN m.role <> 'owner' THEN 'forbidden'
            WHEN f.deleted_at IS NOT NULL AND ($7 <> f.version OR $8 <> f.path) THEN 'not_found'
            WHEN f.deleted_at IS NOT NULL THEN 'already'
            WHEN $7::bigint <> f.version OR $8::text <> f.path THEN 'version_conflict'
            ELSE 'allowed'
        END AS outcome
    FROM files f
    JOIN active_members m ON m.space_id = f.space_id AND m.user_id = $4
    WHERE f.id = $6 AND ",
    locked!("f.space_id"),
    "
), erased AS (
    UPDATE files f
    SET deleted_at = coalesce(f.deleted_at, $2), deleted_by = coalesce(f.deleted_by, $4), purge_at = $2
    FROM target t
    WHERE t.outcome IN ('allowed', 'already') AND f.id = t.id AND f.purge_at IS NULL
    RETURNING f.id, f.space_id, f.path, f.version, t.outcome
), changed AS (
    SELECT f.space_id, 'FILE_DELETED' AS event_type, f.id AS file_id, f.path, f.version, v.size, v.sha256,
        v.modified_at, v.executable, ",
    no_space!(),
    ", 1 AS position
    FROM erased f
    JOIN versions v ON v.file_id = f.id AND v.version = f.version
    WHERE f.outcome = 'allowed'
)"
));

impl Database {
    /// The files in the trash of a space, newest first, from after `after`. Returns `limit` + 1 files if there
    /// are more than `limit`. They are purged `trash` after their deletion. `None` if the user is not a member.
    /// Without a space id, the user's personal space; if it does not exist yet, the list is empty.
    pub async fn list_trash(
        &self,
        space_id: Option<SpaceId>,
        caller: &Caller,
        after: Option<TrashKey>,
        limit: PageLimit,
        trash: Duration,
    ) -> Result<Option<Vec<DeletedFileView>>, Error> {
        let (deleted_at, file_id) = match after {
            Some(last) => (last.deleted_at, Uuid::from(last.file_id)),
            // Later than every deletion.
            None => (datetime!(9999-12-31 0:00 UTC), Uuid::max()),
        };
        let rows = self
            .rows(
                &LIST_TRASH,
                &[
                    &space_id.map(Uuid::from),
                    &caller.user_id.as_str(),
                    &deleted_at,
                    &file_id,
                    &(limit.get() + 1),
                    &epoch(caller),
                ],
            )
            .await?;
        if rows.is_empty() && space_id.is_some() {
            return Ok(None);
        }
        let mut files = Vec::with_capacity(rows.len());
        for row in &rows {
            if get::<Option<Uuid>>(row, "file_id")?.is_some() {
                files.push(deleted_file(row, trash)?);
            }
        }
        Ok(Some(files))
    }

    /// Brings a file back from the trash, to `path` or else to the path that it had.
    pub async fn restore_file(
        &self,
        id: FileId,
        path: Option<&SpacePath>,
        new: NewChange<'_>,
    ) -> Result<Result<Effect, Rejection>, Error> {
        let id = Uuid::from(id);
        self.command(
            &LOCK_SPACE_OF_FILE,
            &[&id],
            &RESTORE_FILE,
            new,
            &[&id, &path.map(SpacePath::as_str)],
        )
        .await
    }

    /// Makes a new version with the content of an older one. Both name the same object.
    pub async fn restore_version(
        &self,
        id: FileId,
        version: Version,
        base_version: Option<Version>,
        new: NewChange<'_>,
    ) -> Result<Result<Effect, Rejection>, Error> {
        let id = Uuid::from(id);
        self.command(
            &LOCK_SPACE_OF_FILE,
            &[&id],
            &RESTORE_VERSION,
            new,
            &[&id, &version.get(), &base_version.map(Version::get)],
        )
        .await
    }

    /// Deletes a file and all of its versions, whether it is in the trash or not. It cannot be restored, and
    /// its rows and objects are deleted soon.
    pub async fn erase_file(
        &self,
        id: FileId,
        base: Base<'_>,
        new: NewChange<'_>,
    ) -> Result<Result<Effect, Rejection>, Error> {
        let id = Uuid::from(id);
        self.command(
            &LOCK_SPACE_OF_FILE,
            &[&id],
            &ERASE_FILE,
            new,
            &[
                &id,
                &base.version.map(Version::get),
                &base.path.map(SpacePath::as_str),
            ],
        )
        .await
    }
}

fn deleted_file(row: &Row, trash: Duration) -> Result<DeletedFileView, Error> {
    let deleted_at = get(row, "deleted_at")?;
    Ok(DeletedFileView {
        file: file(row)?,
        deleted_at,
        deleted_by: parse_opt::<String, UserId>(row, "deleted_by")?,
        purged_at: deleted_at + trash,
    })
}
