//! Purging: what is past its time is marked, then its objects are deleted from storage, then its rows.
//!
//! Marked rows are invisible and are never unmarked, so a purge can be killed at any point and continued by
//! the next run. Statements lock the space first, as commands do: a command sees a row either unmarked, and
//! keeps it, or marked, and does not find it. Each statement affects a limited number of rows.

use model::{FileId, SpaceId, UploadId, Version};
use time::{Duration, OffsetDateTime};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::changes::locked;
use crate::client::Database;
use crate::error::Error;
use crate::query::Query;
use crate::row::{get, parse};

pub(crate) const QUERIES: &[&Query] = &[
    &MARK_TRASH,
    &MARK_DELETED_SPACES,
    &MARK_REPLACED_VERSIONS,
    &MARK_SURPLUS_VERSIONS,
    &LIST_MARKED_VERSIONS,
    &LOCK_SPACE_TO_PURGE,
    &DELETE_VERSIONS,
    &DELETE_FILES,
    &LIST_EMPTY_SPACES,
    &DELETE_CHANGES,
    &DELETE_MEMBERS,
    &PURGE_SPACE,
];

/// How much longer than its files a deleted space is kept. A request to restore it that was in time by its
/// own clock has ended by then.
pub const PURGE_GRACE: Duration = Duration::hours(1);

/// A version that is marked for purging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkedVersion {
    /// The space of the file.
    pub space_id: SpaceId,
    /// The file.
    pub file_id: FileId,
    /// The number of the version.
    pub version: Version,
    /// The key of the S3 object.
    pub object_key: String,
    /// Whether a version that is not marked names the object, so that it must be kept.
    pub is_shared: bool,
    /// The size of the object in bytes.
    pub size: i64,
}

/// $1 now, $2 the latest deletion, $3 maximum number of files.
const MARK_TRASH: Query = Query::new(
    "-- mark_trash
WITH due AS (
    SELECT f.id
    FROM files f
    JOIN spaces s ON s.id = f.space_id
    WHERE f.deleted_at <= $2 AND f.purge_at IS NULL
    ORDER BY f.deleted_at
    LIMIT $3
    FOR NO KEY UPDATE OF s, f SKIP LOCKED
)
UPDATE files f
SET purge_at = $1
FROM due
WHERE f.id = due.id
RETURNING f.id",
);

/// $1 now, $2 the latest deletion of a space, $3 maximum number of files. In a space of an erased account,
/// files in the trash are marked before their own time is over. Two CTEs, because each uses a partial index.
const MARK_DELETED_SPACES: Query = Query::new(
    "-- mark_deleted_spaces
WITH live AS (
    SELECT f.id
    FROM spaces s
    JOIN files f ON f.space_id = s.id
    WHERE s.deleted_at <= $2 AND f.deleted_at IS NULL
    LIMIT $3
    FOR NO KEY UPDATE OF s, f SKIP LOCKED
), trash AS (
    SELECT f.id
    FROM spaces s
    JOIN files f ON f.space_id = s.id
    WHERE s.deleted_at <= $2 AND f.deleted_at IS NOT NULL AND f.purge_at IS NULL
    LIMIT $3
    FOR NO KEY UPDATE OF s, f SKIP LOCKED
), due AS (
    SELECT id FROM live
    UNION ALL
    SELECT id FROM trash
    LIMIT $3
)
UPDATE files f
SET deleted_at = coalesce(f.deleted_at, $1), purge_at = $1
FROM due
WHERE f.id = due.id
RETURNING f.id",
);

/// $1 now, $2 the latest time of replacement, $3 maximum number of versions. The newest version of a file is
/// kept.
const MARK_REPLACED_VERSIONS: Query = Query::new(
    "-- mark_replaced_versions
WITH due AS (
    SELECT v.file_id, v.version
    FROM versions v
    JOIN files f ON f.id = v.file_id
    JOIN spaces s ON s.id = f.space_id
    WHERE v.superseded_at <= $2 AND v.purge_at IS NULL AND v.version < f.version AND f.purge_at IS NULL
    ORDER BY v.superseded_at
    LIMIT $3
    FOR NO KEY UPDATE OF s, v SKIP LOCKED
)
UPDATE versions v
SET purge_at = $1
FROM due
WHERE v.file_id = due.file_id AND v.version = due.version
RETURNING v.version",
);

/// $1 now, $2 the number of versions that a file keeps besides its newest one, $3 maximum number of files and
/// of versions. Returns one row for each file that it has worked on.
///
/// `kept_from` advances over the versions that are marked here, or, if none is left, over all that are marked
/// or deleted.
const MARK_SURPLUS_VERSIONS: Query = Query::new(
    "-- mark_surplus_versions
WITH due AS (
    SELECT f.id, f.version, f.kept_from
    FROM files f
    JOIN spaces s ON s.id = f.space_id
    WHERE f.version - f.kept_from > $2 AND f.purge_at IS NULL
    LIMIT $3
    FOR NO KEY UPDATE OF s, f SKIP LOCKED
), surplus AS (
    SELECT v.file_id, v.version
    FROM due
    CROSS JOIN LATERAL (
        SELECT file_id, version
        FROM versions
        WHERE file_id = due.id AND version >= due.kept_from AND version < due.version - $2 AND purge_at IS NULL
        ORDER BY version
        LIMIT $3
    ) v
    ORDER BY v.file_id, v.version
    LIMIT $3
), marked AS (
    UPDATE versions v
    SET purge_at = $1
    FROM surplus
    WHERE v.file_id = surplus.file_id AND v.version = surplus.version
)
UPDATE files f
SET kept_from = coalesce(
    (SELECT max(version) + 1 FROM surplus WHERE file_id = due.id),
    CASE WHEN (SELECT count(*) FROM surplus) < $3 THEN due.version - $2 ELSE due.kept_from END
)
FROM due
WHERE f.id = due.id
RETURNING f.id",
);

/// $1 and $2 file and version that the versions come after, $3 maximum number of versions. The first part has
/// the marked versions of files that are not marked, the second all versions of marked files. All versions
/// that name one object are of one file. May return fewer versions than there are, but none only if there are
/// none or if all marked files of the page are without versions.
const LIST_MARKED_VERSIONS: Query = Query::new(
    "-- list_marked_versions
WITH due AS (
    (
        SELECT file_id, version
        FROM versions
        WHERE purge_at IS NOT NULL AND (file_id, version) > ($1, $2)
        ORDER BY file_id, version
        LIMIT $3
    )
    UNION
    (
        SELECT v.file_id, v.version
        FROM (
            SELECT id
            FROM files
            WHERE purge_at IS NOT NULL AND id >= $1
            ORDER BY id
            LIMIT $3 + 1
        ) f
        CROSS JOIN LATERAL (
            SELECT file_id, version
            FROM versions
            WHERE file_id = f.id AND (file_id, version) > ($1, $2)
            ORDER BY version
            LIMIT $3
        ) v
        ORDER BY v.file_id, v.version
        LIMIT $3
    )
    ORDER BY file_id, version
    LIMIT $3
)
SELECT f.space_id, v.file_id, v.version, v.object_key, v.size,
    f.purge_at IS NULL
        AND EXISTS (SELECT FROM versions o WHERE o.object_key = v.object_key AND o.purge_at IS NULL) AS is_shared
FROM due
JOIN versions v ON v.file_id = due.file_id AND v.version = due.version
JOIN files f ON f.id = v.file_id
ORDER BY v.file_id, v.version",
);

/// $1 space.
const LOCK_SPACE_TO_PURGE: Query = Query::new(
    "-- lock_space_to_purge
WITH locked AS (
    SELECT id
    FROM spaces
    WHERE id = $1
    FOR NO KEY UPDATE
)
SELECT set_config('syncsphere.locked_space', id::text, true)
FROM locked",
);

/// $1 space, $2 and $3 files and versions, $4 uploads whose objects are deleted, $5 time: content of uploads
/// with an expiry up to it can no longer arrive.
///
/// Other uploads are left as aborted ones, so that content that a client still sends is deleted later.
const DELETE_VERSIONS: Query = Query::new(concat!(
    "-- delete_versions
WITH deleted AS (
    DELETE FROM versions v
    USING files f, unnest($2::uuid[], $3::bigint[]) AS due (file_id, version)
    WHERE v.file_id = due.file_id AND v.version = due.version AND f.id = v.file_id AND f.space_id = $1
        AND (v.purge_at IS NOT NULL OR f.purge_at IS NOT NULL) AND ",
    locked!("f.space_id"),
    "
    RETURNING v.file_id, v.version
), forgotten AS (
    DELETE FROM uploads
    WHERE id = ANY ($4) AND state = 'completed' AND expires_at <= $5
), left_over AS (
    UPDATE uploads
    SET state = 'aborted', event_id = NULL
    WHERE id = ANY ($4) AND state = 'completed' AND expires_at > $5
)
SELECT file_id, version
FROM deleted"
));

/// $1 maximum number of files. Marked files without versions.
const DELETE_FILES: Query = Query::new(
    "-- delete_files
WITH due AS (
    SELECT id
    FROM files f
    WHERE purge_at IS NOT NULL AND NOT EXISTS (SELECT FROM versions v WHERE v.file_id = f.id)
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
DELETE FROM files f
USING due
WHERE f.id = due.id
RETURNING f.id",
);

/// $1 the latest deletion, $2 the space that the spaces come after, $3 maximum number of spaces.
const LIST_EMPTY_SPACES: Query = Query::new(
    "-- list_empty_spaces
SELECT s.id
FROM spaces s
WHERE s.deleted_at <= $1 AND s.id > $2
    AND NOT EXISTS (SELECT FROM files f WHERE f.space_id = s.id)
    AND NOT EXISTS (SELECT FROM uploads u WHERE u.space_id = s.id)
ORDER BY s.id
LIMIT $3",
);

/// $1 space, $2 maximum number of changes, $3 the latest deletion. Events that never reached the queue are
/// dropped: nobody may read the space any more. Changes that wait for the event bus are kept.
const DELETE_CHANGES: Query = Query::new(concat!(
    "-- delete_changes
WITH due AS (
    SELECT c.space_id, c.sequence, c.event_id
    FROM changes c
    JOIN spaces s ON s.id = c.space_id
    WHERE c.space_id = $1 AND s.deleted_at <= $3 AND ",
    locked!("c.space_id"),
    "
        AND NOT EXISTS (SELECT FROM bus_outbox b WHERE b.event_id = c.event_id)
    ORDER BY c.sequence
    LIMIT $2
), unpublished AS (
    DELETE FROM outbox o
    USING due
    WHERE o.event_id = due.event_id
)
DELETE FROM changes c
USING due
WHERE c.space_id = due.space_id AND c.sequence = due.sequence
RETURNING c.sequence"
));

/// $1 space, $2 maximum number of members, $3 the latest deletion.
const DELETE_MEMBERS: Query = Query::new(concat!(
    "-- delete_members
WITH due AS (
    SELECT m.space_id, m.user_id
    FROM members m
    JOIN spaces s ON s.id = m.space_id
    WHERE m.space_id = $1 AND s.deleted_at <= $3 AND ",
    locked!("m.space_id"),
    "
    LIMIT $2
)
DELETE FROM members m
USING due
WHERE m.space_id = due.space_id AND m.user_id = due.user_id
RETURNING m.user_id"
));

/// $1 space, $2 the latest deletion. Only a space of which nothing else is left.
const PURGE_SPACE: Query = Query::new(concat!(
    "-- purge_space
DELETE FROM spaces s
WHERE s.id = $1 AND s.deleted_at <= $2 AND ",
    locked!("s.id"),
    "
    AND NOT EXISTS (SELECT FROM files f WHERE f.space_id = s.id)
    AND NOT EXISTS (SELECT FROM uploads u WHERE u.space_id = s.id)
    AND NOT EXISTS (SELECT FROM changes c WHERE c.space_id = s.id)
    AND NOT EXISTS (SELECT FROM members m WHERE m.space_id = s.id)
RETURNING s.id"
));

impl Database {
    /// Marks up to `limit` files that were deleted at or before `deleted_before`, and returns their number.
    pub async fn mark_trash(
        &self,
        now: OffsetDateTime,
        deleted_before: OffsetDateTime,
        limit: i64,
    ) -> Result<usize, Error> {
        let rows = self.rows(&MARK_TRASH, &[&now, &deleted_before, &limit]).await?;
        Ok(rows.len())
    }

    /// Marks up to `limit` files of spaces that were deleted at or before `deleted_before`, and returns their
    /// number.
    pub async fn mark_deleted_spaces(
        &self,
        now: OffsetDateTime,
        deleted_before: OffsetDateTime,
        limit: i64,
    ) -> Result<usize, Error> {
        let rows = self
            .rows(&MARK_DELETED_SPACES, &[&now, &deleted_before, &limit])
            .await?;
        Ok(rows.len())
    }

    /// Marks up to `limit` versions that newer ones replaced at or before `replaced_before`, and returns
    /// their number.
    pub async fn mark_replaced_versions(
        &self,
        now: OffsetDateTime,
        replaced_before: OffsetDateTime,
        limit: i64,
    ) -> Result<usize, Error> {
        let rows = self
            .rows(&MARK_REPLACED_VERSIONS, &[&now, &replaced_before, &limit])
            .await?;
        Ok(rows.len())
    }

    /// Marks up to `limit` versions of up to `limit` files that have more than `kept` older versions. Returns
    /// the number of files that it has worked on; 0 if no file has too many.
    pub async fn mark_surplus_versions(
        &self,
        now: OffsetDateTime,
        kept: i64,
        limit: i64,
    ) -> Result<usize, Error> {
        let rows = self.rows(&MARK_SURPLUS_VERSIONS, &[&now, &kept, &limit]).await?;
        Ok(rows.len())
    }

    /// Up to `limit` versions that are marked, or of which the file is, in the order of their files and
    /// numbers, from after `after`. Before, delete the marked files that have no versions: a page of them
    /// would end the list.
    pub async fn marked_versions(
        &self,
        after: Option<&MarkedVersion>,
        limit: i64,
    ) -> Result<Vec<MarkedVersion>, Error> {
        let (file_id, version) =
            after.map_or((Uuid::nil(), 0), |last| (last.file_id.into(), last.version.get()));
        let rows = self
            .rows(&LIST_MARKED_VERSIONS, &[&file_id, &version, &limit])
            .await?;
        rows.iter().map(marked_version).collect()
    }

    /// Deletes the rows of marked versions of a space, after their objects, and returns those that it
    /// deleted. `uploads` are those that the deleted objects came from; content of uploads that expired at or
    /// before `arrived_before` can no longer arrive.
    pub async fn delete_versions(
        &self,
        space_id: SpaceId,
        versions: &[(FileId, Version)],
        uploads: &[UploadId],
        arrived_before: OffsetDateTime,
    ) -> Result<Vec<(FileId, Version)>, Error> {
        let space_id = Uuid::from(space_id);
        let files: Vec<Uuid> = versions.iter().map(|(file, _)| (*file).into()).collect();
        let numbers: Vec<i64> = versions.iter().map(|(_, version)| version.get()).collect();
        let uploads: Vec<Uuid> = uploads.iter().copied().map(Uuid::from).collect();
        let rows = self
            .query_locked(
                (&LOCK_SPACE_TO_PURGE, &[&space_id]),
                (
                    &DELETE_VERSIONS,
                    &[&space_id, &files, &numbers, &uploads, &arrived_before],
                ),
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    get::<Uuid>(row, "file_id")?.into(),
                    parse::<i64, Version>(row, "version")?,
                ))
            })
            .collect()
    }

    /// Deletes the rows of up to `limit` marked files that have no versions left, and returns their number.
    pub async fn delete_files(&self, limit: i64) -> Result<usize, Error> {
        Ok(self.rows(&DELETE_FILES, &[&limit]).await?.len())
    }

    /// Up to `limit` spaces that were deleted at or before `deleted_before` and have no files and no uploads
    /// left, in the order of their ids, from after `after`.
    pub async fn empty_spaces(
        &self,
        deleted_before: OffsetDateTime,
        after: Option<SpaceId>,
        limit: i64,
    ) -> Result<Vec<SpaceId>, Error> {
        let after = after.map_or(Uuid::nil(), Uuid::from);
        let rows = self
            .rows(&LIST_EMPTY_SPACES, &[&deleted_before, &after, &limit])
            .await?;
        rows.iter()
            .map(|row| Ok(get::<Uuid>(row, "id")?.into()))
            .collect()
    }

    /// Deletes up to `limit` changes of a space that was deleted at or before `deleted_before`, the oldest
    /// first, and returns their number.
    pub async fn delete_changes(
        &self,
        space_id: SpaceId,
        deleted_before: OffsetDateTime,
        limit: i64,
    ) -> Result<usize, Error> {
        let space_id = Uuid::from(space_id);
        let rows = self
            .query_locked(
                (&LOCK_SPACE_TO_PURGE, &[&space_id]),
                (&DELETE_CHANGES, &[&space_id, &limit, &deleted_before]),
            )
            .await?;
        Ok(rows.len())
    }

    /// Deletes up to `limit` members of a space that was deleted at or before `deleted_before`, and returns
    /// their number.
    pub async fn delete_members(
        &self,
        space_id: SpaceId,
        deleted_before: OffsetDateTime,
        limit: i64,
    ) -> Result<usize, Error> {
        let space_id = Uuid::from(space_id);
        let rows = self
            .query_locked(
                (&LOCK_SPACE_TO_PURGE, &[&space_id]),
                (&DELETE_MEMBERS, &[&space_id, &limit, &deleted_before]),
            )
            .await?;
        Ok(rows.len())
    }

    /// Deletes the row of a space that was deleted at or before `deleted_before` and of which nothing else is
    /// left. Returns whether it did.
    pub async fn purge_space(
        &self,
        space_id: SpaceId,
        deleted_before: OffsetDateTime,
    ) -> Result<bool, Error> {
        let space_id = Uuid::from(space_id);
        let rows = self
            .query_locked(
                (&LOCK_SPACE_TO_PURGE, &[&space_id]),
                (&PURGE_SPACE, &[&space_id, &deleted_before]),
            )
            .await?;
        Ok(!rows.is_empty())
    }
}

fn marked_version(row: &Row) -> Result<MarkedVersion, Error> {
    Ok(MarkedVersion {
        space_id: get::<Uuid>(row, "space_id")?.into(),
        file_id: get::<Uuid>(row, "file_id")?.into(),
        version: parse::<i64, Version>(row, "version")?,
        object_key: get(row, "object_key")?,
        is_shared: get(row, "is_shared")?,
        size: get(row, "size")?,
    })
}
