//! Files and their versions: listing, reading, moving, deleting.

use std::collections::HashMap;

use model::{
    ByteCount, Caller, Composite, ContentType, DeviceId, FileId, FileVersion, FileView, FolderKey,
    FolderPath, FolderView, ModifiedAt, PageLimit, PathPrefix, PersonName, Sha256, SpaceId, SpacePath,
    UserId, Version,
};
use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::batch::within_rate;
use crate::changes::{Command, Commit, Effect, NewChange, Rejection, command, epoch, lock, locked, no_space};
use crate::client::Database;
use crate::error::Error;
use crate::query::Query;
use crate::row::{get, parse, parse_opt};
use crate::spaces::LOCK_SPACE;

pub(crate) const QUERIES: &[&Query] = &[
    &LIST_FILES,
    &LIST_FOLDER,
    &LOAD_FILE,
    &FIND_CONTENT,
    &FIND_SPACES_OF_FILES,
    &LOCK_SPACE_OF_FILE,
    &MOVE_FILE,
    &DELETE_FILE,
];

/// The location of a version's content, and the name and media type for its download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The key of the S3 object.
    pub object_key: String,
    /// The current path of the file. Its last segment is the name of the download.
    pub path: SpacePath,
    /// The media type, if the uploader gave one.
    pub content_type: Option<ContentType>,
}

/// What a folder contains directly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderEntry {
    /// A file.
    File(Box<FileView>),
    /// A folder.
    Folder(FolderView),
}

/// Preconditions of a change of a file: the state in which the caller last saw it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Base<'a> {
    /// The required current version; `None` for any.
    pub version: Option<Version>,
    /// The required current path; `None` for any.
    pub path: Option<&'a SpacePath>,
}

/// A change of a file.
#[derive(Clone, Copy, Debug)]
pub enum FileCommand<'a> {
    /// Moves the file to another path in its space.
    Move(FileId, &'a SpacePath, Base<'a>),
    /// Moves the file to the trash. Its path becomes free for a new file.
    Delete(FileId, Base<'a>),
}

/// The parameters of a [`FileCommand`] in the types of its query.
struct Bound<'a> {
    id: Uuid,
    /// The new path; `None` for a deletion.
    path: Option<&'a str>,
    base_version: Option<i64>,
    base_path: Option<&'a str>,
}

impl<'a> FileCommand<'a> {
    fn query(&self) -> &'static Query {
        match self {
            Self::Move(..) => &MOVE_FILE,
            Self::Delete(..) => &DELETE_FILE,
        }
    }

    fn bind(&self) -> Bound<'a> {
        let (id, path, base) = match self {
            Self::Move(id, path, base) => (id, Some(path.as_str()), base),
            Self::Delete(id, base) => (id, None, base),
        };
        Bound {
            id: (*id).into(),
            path,
            base_version: base.version.map(Version::get),
            base_path: base.path.map(SpacePath::as_str),
        }
    }
}

impl Bound<'_> {
    fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&self.id];
        if let Some(path) = &self.path {
            parameters.push(path);
        }
        parameters.extend([&self.base_version as &(dyn ToSql + Sync), &self.base_path]);
        parameters
    }
}

/// A subquery for a file that blocks a path: a file at one of the path's folders, or a file below the path. A
/// path cannot be both a file and a folder. A file at the path itself is not looked for.
///
/// The arguments are SQL expressions: a space, a path, and a file to ignore.
/// Each half descends the index `files_live_path` and returns at most one row, so the cost does not depend on
/// the number of files below the path.
macro_rules! in_the_way {
    ($space:literal, $path:literal, $except:literal) => {
        concat!(
            "((SELECT id, version, path
            FROM files
            WHERE space_id = ",
            $space,
            " AND deleted_at IS NULL AND path = ANY (folders_of(",
            $path,
            ")) AND id <> ",
            $except,
            "
            LIMIT 1)
        UNION ALL
        (SELECT id, version, path
            FROM files
            WHERE space_id = ",
            $space,
            " AND deleted_at IS NULL AND path >= ",
            $path,
            " || '/' AND path < ",
            $path,
            " || '0' AND id <> ",
            $except,
            "
            ORDER BY path
            LIMIT 1)
        LIMIT 1)"
        )
    };
}
pub(crate) use in_the_way;

/// $1 space or null for the personal one, $2 user, $3 first path, $4 exclusive upper bound of paths, $5
/// maximum number of files, $6 epoch or null.
const LIST_FILES: Query = Query::new(
    "-- list_files
SELECT s.id AS space_id, f.*
FROM spaces s
JOIN active_members m ON m.space_id = s.id AND m.user_id = $2
LEFT JOIN LATERAL (
    SELECT files.id AS file_id, files.path, files.created_at, v.version, v.size, v.sha256, v.content_type,
        v.part_size, v.composite_sha256, v.modified_at, v.executable, v.created_at AS updated_at
    FROM files
    JOIN versions v ON v.file_id = files.id AND v.version = files.version
    WHERE files.space_id = s.id AND files.deleted_at IS NULL AND files.path >= $3 AND files.path < $4
    ORDER BY files.path
    LIMIT $5
) f ON true
WHERE s.id = coalesce($1, (SELECT id FROM spaces WHERE owner_id = $2)) AND admit($2, $6)
ORDER BY f.path",
);

/// $1 space or null for the personal one, $2 user, $3 the beginning of all paths in the folder, $4 exclusive
/// upper bound of them, $5 first path, $6 maximum number of files and folders, $7 epoch or null. One row per
/// file or folder, in the order of the paths, where a folder's ends with a slash. If there is none, one row
/// with the space alone.
///
/// Each step descends the index `files_live_path` to the next path, and skips all of a folder once its first
/// file is found. So the cost does not depend on the number of files in folders.
const LIST_FOLDER: Query = Query::new(
    "-- list_folder
SELECT s.id AS space_id, e.*
FROM spaces s
JOIN active_members m ON m.space_id = s.id AND m.user_id = $2
LEFT JOIN LATERAL (
    WITH RECURSIVE entry AS (
        SELECT 0::bigint AS number, $5::text COLLATE \"C\" AS next, NULL::text COLLATE \"C\" AS folder, NULL::uuid AS file_id,
            NULL::text COLLATE \"C\" AS path, NULL::bigint AS version, NULL::timestamptz AS created_at
        UNION ALL
        SELECT entry.number + 1,
            CASE WHEN f.slash = 0 THEN f.path || chr(1) ELSE left(f.path, length($3) + f.slash - 1) || '0' END,
            CASE WHEN f.slash > 0 THEN left(f.path, length($3) + f.slash - 1) END,
            CASE WHEN f.slash = 0 THEN f.id END,
            CASE WHEN f.slash = 0 THEN f.path END,
            f.version,
            f.created_at
        FROM entry
        CROSS JOIN LATERAL (
            SELECT id, path, version, created_at, strpos(substr(path, length($3) + 1), '/') AS slash
            FROM files
            WHERE space_id = s.id AND deleted_at IS NULL AND path >= entry.next AND path < $4
            ORDER BY path
            LIMIT 1
        ) f
        WHERE entry.number < $6
    )
    SELECT entry.number, entry.folder, entry.file_id, entry.path, entry.version, entry.created_at, v.size, v.sha256,
        v.content_type, v.part_size, v.composite_sha256, v.modified_at, v.executable, v.created_at AS updated_at
    FROM entry
    LEFT JOIN versions v ON v.file_id = entry.file_id AND v.version = entry.version
    WHERE entry.number > 0
) e ON true
WHERE s.id = coalesce($1, (SELECT id FROM spaces WHERE owner_id = $2)) AND admit($2, $7)
ORDER BY e.number",
);

/// $1 file, $2 user, $3 exclusive upper bound of versions or null, $4 maximum number of versions, $5
/// epoch or null. One row per version, newest first, each with all columns of the file. If there is no older version, one row without a
/// version.
const LOAD_FILE: Query = Query::new(
    "-- load_file
SELECT f.id AS file_id, f.space_id, f.path, f.created_at, c.version, c.size, c.sha256, c.content_type,
    c.part_size, c.composite_sha256, c.modified_at, c.executable, c.created_at AS updated_at,
    v.version AS version_number, v.size AS version_size, v.sha256 AS version_sha256,
    v.part_size AS version_part_size, v.composite_sha256 AS version_composite_sha256,
    v.content_type AS version_content_type, v.modified_at AS version_modified_at, v.executable AS version_executable,
    v.user_id AS version_user_id, author.name AS version_user_name,
    v.device_id AS version_device_id,
    v.created_at AS version_created_at
FROM files f
JOIN active_members m ON m.space_id = f.space_id AND m.user_id = $2
JOIN versions c ON c.file_id = f.id AND c.version = f.version
LEFT JOIN LATERAL (
    SELECT *
    FROM versions
    WHERE file_id = f.id AND version < coalesce($3, f.version + 1) AND purge_at IS NULL
    ORDER BY version DESC
    LIMIT $4
) v ON true
LEFT JOIN users author ON author.user_id = v.user_id
WHERE f.id = $1 AND f.deleted_at IS NULL AND admit($2, $5)
ORDER BY v.version DESC",
);

/// $1 file, $2 user, $3 version or null for the current one, $4 epoch or null.
const FIND_CONTENT: Query = Query::new(
    "-- find_content
SELECT v.object_key, v.content_type, f.path
FROM files f
JOIN active_members m ON m.space_id = f.space_id AND m.user_id = $2
JOIN versions v ON v.file_id = f.id AND v.version = coalesce($3, f.version)
WHERE f.id = $1 AND f.deleted_at IS NULL AND v.purge_at IS NULL AND admit($2, $4)",
);

/// $1 files, $2 user, $3 epoch or null.
const FIND_SPACES_OF_FILES: Query = Query::new(
    "-- find_spaces_of_files
SELECT f.id, f.space_id
FROM files f
JOIN active_members m ON m.space_id = f.space_id AND m.user_id = $2
WHERE f.id = ANY ($1) AND admit($2, $3)",
);

/// $1 file.
pub(crate) const LOCK_SPACE_OF_FILE: Query = lock!(
    "lock_space_of_file",
    "JOIN files f ON f.space_id = s.id
    JOIN active_members m ON m.space_id = s.id AND m.user_id = $2
    WHERE f.id = $1"
);

/// $6 file, $7 path, $8 base version or null, $9 base path or null. Moving a file to its current path changes
/// nothing.
///
/// If the file no longer matches the base, `own` is the newest change of the file by the same user and device,
/// if it is the same move from the same base: the request is then a repetition. An older change would answer
/// a new request with a move that the device has undone since. Only the file's last 100 changes are searched,
/// since clients repeat a request within minutes.
const MOVE_FILE: Query = command!(concat!(
    "-- move_file
WITH target AS (
    SELECT f.id, coalesce(own.event_id,
            (SELECT event_id FROM changes WHERE file_id = f.id ORDER BY sequence DESC LIMIT 1)) AS earlier_event_id,
        coalesce(other.id, way.id, f.id) AS current_file_id,
        coalesce(other.version, way.version, f.version) AS current_version,
        CASE
            WHEN f.deleted_at IS NOT NULL THEN 'not_found'
            WHEN m.role = 'viewer' THEN 'forbidden'
            WHEN own.event_id IS NOT NULL THEN 'already'
            WHEN $8::bigint <> f.version THEN 'version_conflict'
            WHEN $9::text <> f.path AND f.path <> $7 THEN 'version_conflict'
            WHEN f.path = $7 THEN 'already'
            WHEN other.id IS NOT NULL OR way.id IS NOT NULL THEN 'path_taken'
            ELSE 'allowed'
        END AS outcome
    FROM files f
    JOIN active_members m ON m.space_id = f.space_id AND m.user_id = $4
    LEFT JOIN files other ON other.space_id = f.space_id AND other.path = $7 AND other.deleted_at IS NULL
        AND other.id <> f.id AND ($8::bigint IS NULL OR $8 = f.version) AND ($9::text IS NULL OR $9 = f.path)
    LEFT JOIN LATERAL ",
    in_the_way!("f.space_id", "$7", "f.id"),
    " way ON f.path <> $7 AND ($8 IS NULL OR $8 = f.version) AND ($9 IS NULL OR $9 = f.path)
    LEFT JOIN LATERAL (
        SELECT c.event_id
        FROM (
            SELECT *
            FROM (SELECT * FROM changes WHERE file_id = f.id ORDER BY sequence DESC LIMIT 100) recent
            WHERE recent.user_id = $4 AND recent.device_id IS NOT DISTINCT FROM $5
            ORDER BY recent.sequence DESC
            LIMIT 1
        ) c
        WHERE c.event_type = 'FILE_MOVED' AND c.path = $7 AND c.version = coalesce($8, c.version)
            AND ($9 IS NULL OR $9 = (
                SELECT path
                FROM changes
                WHERE file_id = f.id AND sequence < c.sequence
                ORDER BY sequence DESC
                LIMIT 1
            ))
    ) own ON $8 <> f.version OR $9 <> f.path AND f.path <> $7
    WHERE f.id = $6 AND ",
    locked!("f.space_id"),
    "
), moved AS (
    UPDATE files f
    SET path = $7
    FROM target t
    WHERE t.outcome = 'allowed' AND f.id = t.id
    RETURNING f.id, f.space_id, f.path, f.version
), changed AS (
    SELECT f.space_id, 'FILE_MOVED' AS event_type, f.id AS file_id, f.path, f.version, v.size, v.sha256,
        v.modified_at, v.executable, ",
    no_space!(),
    ", 1 AS position
    FROM moved f
    JOIN versions v ON v.file_id = f.id AND v.version = f.version
)"
));

/// $6 file, $7 base version or null, $8 base path or null. Deleting a deleted file changes nothing.
const DELETE_FILE: Query = command!(concat!(
    "-- delete_file
WITH target AS (
    SELECT f.id, (SELECT event_id FROM changes WHERE file_id = f.id ORDER BY sequence DESC LIMIT 1) AS earlier_event_id,
        f.id AS current_file_id, f.version AS current_version,
        CASE
            WHEN f.deleted_at IS NOT NULL AND (m.role = 'viewer' OR $7 <> f.version OR $8 <> f.path) THEN 'not_found'
            WHEN f.deleted_at IS NOT NULL THEN 'already'
            WHEN m.role = 'viewer' THEN 'forbidden'
            WHEN $7::bigint <> f.version OR $8::text <> f.path THEN 'version_conflict'
            ELSE 'allowed'
        END AS outcome
    FROM files f
    JOIN active_members m ON m.space_id = f.space_id AND m.user_id = $4
    WHERE f.id = $6 AND f.purge_at IS NULL AND ",
    locked!("f.space_id"),
    "
), deleted AS (
    UPDATE files f
    SET deleted_at = $2, deleted_by = $4
    FROM target t
    WHERE t.outcome = 'allowed' AND f.id = t.id
    RETURNING f.id, f.space_id, f.path, f.version
), changed AS (
    SELECT f.space_id, 'FILE_DELETED' AS event_type, f.id AS file_id, f.path, f.version, v.size, v.sha256,
        v.modified_at, v.executable, ",
    no_space!(),
    ", 1 AS position
    FROM deleted f
    JOIN versions v ON v.file_id = f.id AND v.version = f.version
)"
));

impl Database {
    /// The files of a space with the path prefix, in path order, from after `after`. Returns `limit` + 1
    /// files if there are more than `limit`. `None` if the user is not a member. Without a space id, the
    /// user's personal space; if it does not exist yet, the list is empty.
    pub async fn list_files(
        &self,
        space_id: Option<SpaceId>,
        caller: &Caller,
        prefix: &PathPrefix,
        after: Option<&SpacePath>,
        limit: PageLimit,
    ) -> Result<Option<Vec<FileView>>, Error> {
        let (first, end) = prefix.bounds();
        // Paths contain no control characters, so this is a lower bound of all paths after `after`.
        let first = after.map_or(first.clone(), |after| first.max(format!("{after}\u{1}")));
        let rows = self
            .rows(
                &LIST_FILES,
                &[
                    &space_id.map(Uuid::from),
                    &caller.user_id.as_str(),
                    &first,
                    &end,
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
                files.push(file(row)?);
            }
        }
        Ok(Some(files))
    }

    /// What a folder of a space contains directly, in the order of the paths, where a folder's ends with a
    /// slash, from after `after`. Returns `limit` + 1 entries if there are more than `limit`. `None` if the
    /// user is not a member. Without a space id, the user's personal space; if it does not exist yet, the
    /// list is empty. So is that of a folder that does not exist.
    pub async fn list_folder(
        &self,
        space_id: Option<SpaceId>,
        caller: &Caller,
        folder: &FolderPath,
        after: Option<&FolderKey>,
        limit: PageLimit,
    ) -> Result<Option<Vec<FolderEntry>>, Error> {
        let (prefix, end) = folder.bounds();
        let first = after.map_or(prefix.clone(), |after| prefix.clone().max(after.next()));
        let rows = self
            .rows(
                &LIST_FOLDER,
                &[
                    &space_id.map(Uuid::from),
                    &caller.user_id.as_str(),
                    &prefix,
                    &end,
                    &first,
                    &(limit.get() + 1),
                    &epoch(caller),
                ],
            )
            .await?;
        if rows.is_empty() && space_id.is_some() {
            return Ok(None);
        }
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Some(path) = parse_opt::<String, SpacePath>(row, "folder")? {
                entries.push(FolderEntry::Folder(FolderView { path }));
            } else if get::<Option<Uuid>>(row, "file_id")?.is_some() {
                entries.push(FolderEntry::File(Box::new(file(row)?)));
            }
        }
        Ok(Some(entries))
    }

    /// A file and its versions before `before`, newest first. Returns `limit` + 1 versions if there are more
    /// than `limit`. `None` if the file does not exist, is deleted, or is in a space that the user is not a
    /// member of.
    pub async fn load_file(
        &self,
        id: FileId,
        caller: &Caller,
        before: Option<Version>,
        limit: PageLimit,
    ) -> Result<Option<(FileView, Vec<FileVersion>)>, Error> {
        let rows = self
            .rows(
                &LOAD_FILE,
                &[
                    &Uuid::from(id),
                    &caller.user_id.as_str(),
                    &before.map(Version::get),
                    &(limit.get() + 1),
                    &epoch(caller),
                ],
            )
            .await?;
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let mut versions = Vec::with_capacity(rows.len());
        for row in &rows {
            if get::<Option<i64>>(row, "version_number")?.is_some() {
                versions.push(version(row)?);
            }
        }
        Ok(Some((file(first)?, versions)))
    }

    /// The location of a version's content; of the current version if `version` is `None`. `None` if the file
    /// or version does not exist, the file is deleted, or the user is not a member of its space.
    pub async fn find_content(
        &self,
        id: FileId,
        caller: &Caller,
        version: Option<Version>,
    ) -> Result<Option<Content>, Error> {
        let rows = self
            .rows(
                &FIND_CONTENT,
                &[
                    &Uuid::from(id),
                    &caller.user_id.as_str(),
                    &version.map(Version::get),
                    &epoch(caller),
                ],
            )
            .await?;
        rows.first()
            .map(|row| {
                Ok(Content {
                    object_key: get(row, "object_key")?,
                    path: parse::<String, SpacePath>(row, "path")?,
                    content_type: parse_opt::<String, ContentType>(row, "content_type")?,
                })
            })
            .transpose()
    }

    /// The spaces of files, also of deleted ones. Those that do not exist, or are in a space that the user is
    /// not a member of, are left out.
    pub async fn find_spaces_of_files(
        &self,
        ids: &[FileId],
        caller: &Caller,
    ) -> Result<HashMap<FileId, SpaceId>, Error> {
        let ids: Vec<Uuid> = ids.iter().copied().map(Uuid::from).collect();
        let user_id = caller.user_id.as_str();
        let rows = self
            .rows(&FIND_SPACES_OF_FILES, &[&ids, &user_id, &epoch(caller)])
            .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    get::<Uuid>(row, "id")?.into(),
                    get::<Uuid>(row, "space_id")?.into(),
                ))
            })
            .collect()
    }

    /// Moves and deletes files of one space, in this order and in one transaction. Returns the result of each.
    pub async fn change_files(
        &self,
        space_id: SpaceId,
        changes: &[(FileCommand<'_>, NewChange<'_>)],
        commit: Commit<'_>,
    ) -> Result<Vec<Result<Effect, Rejection>>, Error> {
        within_rate(changes, async |changes| {
            let bound: Vec<_> = changes.iter().map(|(command, _)| command.bind()).collect();
            let parameters: Vec<Vec<&(dyn ToSql + Sync)>> = bound.iter().map(Bound::parameters).collect();
            let commands: Vec<Command<'_>> = changes
                .iter()
                .zip(&parameters)
                .map(|((command, new), parameters)| Command {
                    query: command.query(),
                    new: *new,
                    parameters,
                })
                .collect();
            self.commands((&LOCK_SPACE, &[&Uuid::from(space_id)]), commit, &commands)
                .await
        })
        .await
    }

    /// Moves or deletes a file.
    pub async fn change_file(
        &self,
        command: FileCommand<'_>,
        new: NewChange<'_>,
    ) -> Result<Result<Effect, Rejection>, Error> {
        let bound = command.bind();
        self.command(
            &LOCK_SPACE_OF_FILE,
            &[&bound.id],
            command.query(),
            new,
            &bound.parameters(),
        )
        .await
    }
}

pub(crate) fn file(row: &Row) -> Result<FileView, Error> {
    Ok(FileView {
        file_id: get::<Uuid>(row, "file_id")?.into(),
        space_id: get::<Uuid>(row, "space_id")?.into(),
        path: parse::<String, SpacePath>(row, "path")?,
        version: parse::<i64, Version>(row, "version")?,
        size: parse::<i64, ByteCount>(row, "size")?,
        sha256: parse::<&[u8], Sha256>(row, "sha256")?,
        composite: composite(row, "part_size", "composite_sha256")?,
        content_type: parse_opt::<String, ContentType>(row, "content_type")?,
        modified_at: parse_opt::<OffsetDateTime, ModifiedAt>(row, "modified_at")?,
        executable: get(row, "executable")?,
        created_at: get(row, "created_at")?,
        updated_at: get(row, "updated_at")?,
    })
}

fn version(row: &Row) -> Result<FileVersion, Error> {
    Ok(FileVersion {
        version: parse::<i64, Version>(row, "version_number")?,
        size: parse::<i64, ByteCount>(row, "version_size")?,
        sha256: parse::<&[u8], Sha256>(row, "version_sha256")?,
        composite: composite(row, "version_part_size", "version_composite_sha256")?,
        content_type: parse_opt::<String, ContentType>(row, "version_content_type")?,
        modified_at: parse_opt::<OffsetDateTime, ModifiedAt>(row, "version_modified_at")?,
        executable: get(row, "version_executable")?,
        user_id: parse::<String, UserId>(row, "version_user_id")?,
        user_name: parse_opt::<String, PersonName>(row, "version_user_name")?,
        device_id: parse_opt::<Uuid, DeviceId>(row, "version_device_id")?,
        created_at: get(row, "version_created_at")?,
    })
}

fn composite(row: &Row, part_size: &'static str, sha256: &'static str) -> Result<Option<Composite>, Error> {
    let (part_size, sha256) = (
        parse_opt::<i64, ByteCount>(row, part_size)?,
        parse_opt::<&[u8], Sha256>(row, sha256)?,
    );
    Ok(part_size
        .zip(sha256)
        .map(|(part_size, sha256)| Composite { part_size, sha256 }))
}
