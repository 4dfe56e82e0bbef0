//! Rows of the database.

use std::sync::Arc;

use model::{FileId, ModifiedAt, Sha256, SpacePath};
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use uuid::Uuid;

use super::super::{RowChange, Saved, SavedMeta};
use super::{Binding, SqliteStore};
use crate::disk::{Identity, Stamp};
use crate::path::LocalPath;
use crate::tree::{FolderState, LocalEntry, LocalFile, RemoteRow, SyncedRow};

impl SqliteStore {
    /// Everything.
    pub(super) fn read(&mut self) -> rusqlite::Result<Saved> {
        let connection = &self.0;
        let meta = connection.query_row("SELECT value FROM meta WHERE id = 1", [], |row| json(row, 0));
        let meta = match meta {
            Err(rusqlite::Error::QueryReturnedNoRows) => SavedMeta::default(),
            meta => meta?,
        };
        Ok(Saved {
            meta,
            remote: all(connection, "SELECT * FROM remote", remote)?,
            local: all(connection, "SELECT * FROM local", local)?,
            synced: all(connection, "SELECT * FROM synced", synced)?,
            intents: all(connection, "SELECT * FROM intents", named)?,
            uploads: all(connection, "SELECT * FROM uploads", |row| {
                Ok((parsed(row, 0)?, json(row, 1)?))
            })?,
            trash: all(connection, "SELECT * FROM trash", named)?,
            conflicts: all(connection, "SELECT * FROM conflicts", |row| {
                Ok((path(row, 0)?, json(row, 1)?))
            })?,
            excluded: all(connection, "SELECT * FROM excluded", |row| parsed(row, 0))?,
        })
    }
}

/// What the rows are about.
pub(super) fn binding(connection: &Connection) -> rusqlite::Result<Option<Binding>> {
    let read = |row: &Row<'_>| json(row, 0);
    let found = connection.query_row("SELECT value FROM binding WHERE id = 1", [], read);
    match found {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
        found => found.map(Some),
    }
}

pub(super) fn bind(connection: &Connection, binding: &Binding) -> rusqlite::Result<()> {
    let sql = "REPLACE INTO binding VALUES (1, ?)";
    connection.execute(sql, params![text(binding)?]).map(drop)
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare(sql)?.query_map([], read)?.collect()
}

/// Applies a change.
pub(super) fn write(connection: &Connection, change: &RowChange) -> rusqlite::Result<()> {
    let run = |sql: &str, params: &[&dyn rusqlite::ToSql]| {
        connection.prepare_cached(sql)?.execute(params).map(drop)
    };
    match change {
        RowChange::Meta(meta) => run("REPLACE INTO meta VALUES (1, ?)", params![text(meta)?]),
        RowChange::Remote(id, None) => run("DELETE FROM remote WHERE file_id = ?", params![bytes(*id)]),
        RowChange::Remote(id, Some(row)) => write_remote(connection, *id, row),
        RowChange::Local(path, None) => run("DELETE FROM local WHERE path = ?", params![path.as_str()]),
        RowChange::Local(path, Some(entry)) => write_local(connection, path, entry),
        RowChange::Synced(id, None) => run("DELETE FROM synced WHERE file_id = ?", params![bytes(*id)]),
        RowChange::Synced(id, Some(row)) => write_synced(connection, *id, row),
        RowChange::Intent(name, None) => run("DELETE FROM intents WHERE name = ?", params![&**name]),
        RowChange::Intent(name, Some(row)) => {
            run("REPLACE INTO intents VALUES (?, ?)", params![&**name, text(row)?])
        }
        RowChange::Upload(key, None) => run("DELETE FROM uploads WHERE name = ?", params![key.as_str()]),
        RowChange::Upload(key, Some(row)) => run(
            "REPLACE INTO uploads VALUES (?, ?)",
            params![key.as_str(), text(row)?],
        ),
        RowChange::Trash(name, None) => run("DELETE FROM trash WHERE name = ?", params![&**name]),
        RowChange::Trash(name, Some(row)) => {
            run("REPLACE INTO trash VALUES (?, ?)", params![&**name, text(row)?])
        }
        RowChange::Conflict(path, None) => {
            run("DELETE FROM conflicts WHERE name = ?", params![path.as_str()])
        }
        RowChange::Conflict(path, Some(row)) => run(
            "REPLACE INTO conflicts VALUES (?, ?)",
            params![path.as_str(), text(row)?],
        ),
        RowChange::Excluded(path, true) => run("REPLACE INTO excluded VALUES (?)", params![path.as_str()]),
        RowChange::Excluded(path, false) => {
            run("DELETE FROM excluded WHERE path = ?", params![path.as_str()])
        }
    }
}

fn write_remote(connection: &Connection, id: FileId, row: &RemoteRow) -> rusqlite::Result<()> {
    let RemoteRow {
        path,
        version,
        size,
        sha256,
        modified_at,
        executable,
    } = row;
    let sql = "REPLACE INTO remote VALUES (?, ?, ?, ?, ?, ?, ?)";
    let params = params![
        bytes(id),
        path.as_str(),
        version.get(),
        signed(*size),
        sha256.as_bytes(),
        modified_at.map(microseconds),
        executable,
    ];
    connection.prepare_cached(sql)?.execute(params).map(drop)
}

pub(super) fn remote(row: &Row<'_>) -> rusqlite::Result<(FileId, RemoteRow)> {
    let found = RemoteRow {
        path: parsed(row, 1)?,
        version: number(row, 2)?,
        size: unsigned(row, 3)?,
        sha256: sha256(row, 4)?,
        modified_at: row
            .get::<_, Option<i64>>(5)?
            .map(|at| modified_at(5, at))
            .transpose()?,
        executable: row.get(6)?,
    };
    Ok((file_id(row, 0)?, found))
}

const FOLDERS: [(&str, FolderState); 4] = [
    ("unlisted", FolderState::Unlisted),
    ("listed", FolderState::Listed),
    ("unreadable", FolderState::Unreadable),
    ("mount", FolderState::Mount),
];

fn write_local(connection: &Connection, path: &LocalPath, entry: &LocalEntry) -> rusqlite::Result<()> {
    let kind = match entry {
        LocalEntry::File(file) => return write_local_file(connection, path, file),
        LocalEntry::Folder(state) => {
            let names = FOLDERS.iter().find(|(_, known)| known == state);
            names.map_or("unlisted", |(name, _)| *name)
        }
        LocalEntry::Link => "link",
        LocalEntry::Special => "special",
    };
    let sql = "REPLACE INTO local (path, kind) VALUES (?, ?)";
    connection
        .prepare_cached(sql)?
        .execute(params![path.as_str(), kind])
        .map(drop)
}

fn write_local_file(connection: &Connection, path: &LocalPath, file: &LocalFile) -> rusqlite::Result<()> {
    let LocalFile {
        stamp,
        sha256,
        is_racy,
        executable,
    } = file;
    let Stamp {
        identity: Identity { device, inode, birth },
        size,
        modified,
        changed,
    } = stamp;
    let sql = "REPLACE INTO local VALUES (?, 'file', ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let params = params![
        path.as_str(),
        signed(*device),
        signed(*inode),
        birth,
        signed(*size),
        modified,
        changed,
        sha256.as_ref().map(Sha256::as_bytes),
        is_racy,
        executable,
    ];
    connection.prepare_cached(sql)?.execute(params).map(drop)
}

pub(super) fn local(row: &Row<'_>) -> rusqlite::Result<(LocalPath, LocalEntry)> {
    let kind: String = row.get(1)?;
    let entry = match kind.as_str() {
        "file" => LocalEntry::File(LocalFile {
            stamp: Stamp {
                identity: identity(row, 2)?,
                size: unsigned(row, 5)?,
                modified: row.get(6)?,
                changed: row.get(7)?,
            },
            sha256: row.get::<_, Option<[u8; 32]>>(8)?.map(Sha256::from),
            is_racy: row.get(9)?,
            executable: row.get(10)?,
        }),
        "link" => LocalEntry::Link,
        "special" => LocalEntry::Special,
        kind => {
            let state = FOLDERS.iter().find(|(name, _)| *name == kind);
            LocalEntry::Folder(state.ok_or_else(|| wrong(1, "an unknown kind"))?.1)
        }
    };
    Ok((path(row, 0)?, entry))
}

fn write_synced(connection: &Connection, id: FileId, row: &SyncedRow) -> rusqlite::Result<()> {
    let SyncedRow {
        path,
        local,
        version,
        size,
        sha256,
        executable,
        stamp,
        sequence,
    } = row;
    let Identity { device, inode, birth } = stamp.identity;
    let sql = "REPLACE INTO synced VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let params = params![
        bytes(id),
        path.as_str(),
        // Both are equal almost always.
        (local.as_str() != path.as_str()).then(|| local.as_str()),
        version.get(),
        signed(*size),
        sha256.as_bytes(),
        executable,
        signed(device),
        signed(inode),
        birth,
        (stamp.size != *size).then(|| signed(stamp.size)),
        stamp.modified,
        stamp.changed,
        sequence.map(i64::from),
    ];
    connection.prepare_cached(sql)?.execute(params).map(drop)
}

pub(super) fn synced(row: &Row<'_>) -> rusqlite::Result<(FileId, SyncedRow)> {
    let path: SpacePath = parsed(row, 1)?;
    let local: Option<String> = row.get(2)?;
    let size = unsigned(row, 4)?;
    let found = SyncedRow {
        local: LocalPath::new(local.unwrap_or_else(|| path.as_str().to_owned())),
        path,
        version: number(row, 3)?,
        size,
        sha256: sha256(row, 5)?,
        executable: row.get(6)?,
        stamp: Stamp {
            identity: identity(row, 7)?,
            size: row.get::<_, Option<i64>>(10)?.map_or(size, i64::cast_unsigned),
            modified: row.get(11)?,
            changed: row.get(12)?,
        },
        sequence: row
            .get::<_, Option<i64>>(13)?
            .map(|it| it.try_into().map_err(|error| wrong(13, error)))
            .transpose()?,
    };
    Ok((file_id(row, 0)?, found))
}

/// Device, inode and birth, from this column on.
fn identity(row: &Row<'_>, column: usize) -> rusqlite::Result<Identity> {
    Ok(Identity {
        device: unsigned(row, column)?,
        inode: unsigned(row, column + 1)?,
        birth: row.get(column + 2)?,
    })
}

fn named<T: DeserializeOwned>(row: &Row<'_>) -> rusqlite::Result<(Arc<str>, T)> {
    let name: String = row.get(0)?;
    Ok((name.into(), json(row, 1)?))
}

fn wrong(column: usize, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, why.into())
}

fn path(row: &Row<'_>, column: usize) -> rusqlite::Result<LocalPath> {
    row.get::<_, String>(column).map(LocalPath::new)
}

fn parsed<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|error| wrong(column, error))
}

fn number<T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    row.get::<_, i64>(column)?
        .try_into()
        .map_err(|error| wrong(column, error))
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| wrong(column, error))
}

fn text(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn bytes(id: FileId) -> [u8; 16] {
    Uuid::from(id).into_bytes()
}

fn file_id(row: &Row<'_>, column: usize) -> rusqlite::Result<FileId> {
    row.get::<_, [u8; 16]>(column)
        .map(|bytes| Uuid::from_bytes(bytes).into())
}

fn sha256(row: &Row<'_>, column: usize) -> rusqlite::Result<Sha256> {
    row.get::<_, [u8; 32]>(column).map(Sha256::from)
}

/// SQLite has no unsigned numbers: the bits stay.
fn signed(number: u64) -> i64 {
    number.cast_signed()
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// A modification time has whole microseconds, and the years 0 to 9999 fit.
fn microseconds(at: ModifiedAt) -> i64 {
    i64::try_from(at.get().unix_timestamp_nanos() / 1_000).unwrap_or_default()
}

fn modified_at(column: usize, microseconds: i64) -> rusqlite::Result<ModifiedAt> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(microseconds) * 1_000);
    let time = time.map_err(|error| wrong(column, error))?;
    time.try_into()
        .map_err(|error: model::InvalidModifiedAt| wrong(column, error))
}
