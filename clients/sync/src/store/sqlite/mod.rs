//! A store in an SQLite database.
//!
//! The database is in the private folder of the root, so that both are copied, moved and restored together. It
//! is locked as long as it is open, which also avoids shared memory, so it works on network file systems. Each
//! commit is durable: the database may be older than the folder, but never newer.

mod explain;
mod rows;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use explain::Explained;
use model::SpaceId;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{RowChange, Saved, Store, StoreError};

/// The name of the database in the private folder.
const NAME: &str = "state.db";

/// The version of the schema (`user_version`).
const VERSION: i64 = 1;

/// Files that belong to the database while it is open, or after a crash.
const SUFFIXES: [&str; 3] = ["", "-wal", "-journal"];

/// How long to wait for another process that closes the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

const SCHEMA: &str = "
CREATE TABLE meta (id INTEGER PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE binding (id INTEGER PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE remote (
  file_id BLOB PRIMARY KEY, path TEXT NOT NULL, version INTEGER NOT NULL, size INTEGER NOT NULL,
  sha256 BLOB NOT NULL, modified_at INTEGER, executable INTEGER) STRICT, WITHOUT ROWID;
CREATE TABLE local (
  path TEXT PRIMARY KEY, kind TEXT NOT NULL, device INTEGER, inode INTEGER, birth INTEGER, size INTEGER,
  modified INTEGER, changed INTEGER, sha256 BLOB, is_racy INTEGER, executable INTEGER) STRICT, WITHOUT ROWID;
CREATE TABLE synced (
  file_id BLOB PRIMARY KEY, path TEXT NOT NULL, local TEXT, version INTEGER NOT NULL, size INTEGER NOT NULL,
  sha256 BLOB NOT NULL, executable INTEGER, device INTEGER NOT NULL, inode INTEGER NOT NULL, birth INTEGER,
  stamp_size INTEGER, modified INTEGER NOT NULL, changed INTEGER NOT NULL, sequence INTEGER)
  STRICT, WITHOUT ROWID;
CREATE TABLE intents (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE uploads (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE trash (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE conflicts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE excluded (path TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
";

/// A store in an SQLite database.
#[derive(Debug)]
pub struct SqliteStore(Connection);

/// The service and the space that the rows of a store are about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// The URL of the API.
    pub url: String,
    /// The space.
    pub space_id: SpaceId,
}

/// An open store.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: SqliteStore,
    /// What it has.
    pub saved: Saved,
    /// The damaged database, which got another name. The store is empty then.
    pub set_aside: Option<PathBuf>,
}

/// A store cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("another process uses the state of this folder")]
    InUse,
    /// It is of a later release.
    #[error("the state of this folder is of a later release of this program; update the program")]
    Newer,
    /// The system refused.
    #[error("cannot open the state of this folder at {0}: {1}")]
    Failed(PathBuf, String),
}

/// Why a database was not opened.
enum Trouble {
    Damaged,
    Error(OpenError),
}

impl SqliteStore {
    /// Opens the store in a private folder, whose path has no links, and makes it if it does not exist. A
    /// damaged database gets another name, and an empty one is made: the engine then compares everything.
    pub fn open(folder: &Path) -> Result<Opened, OpenError> {
        let path = folder.join(NAME);
        match open(&path) {
            Ok((store, saved)) => Ok(Opened {
                store,
                saved,
                set_aside: None,
            }),
            Err(Trouble::Error(error)) => Err(error),
            Err(Trouble::Damaged) => {
                let aside = set_aside(folder, &path)
                    .map_err(|error| OpenError::Failed(path.clone(), error.to_string()))?;
                let (store, saved) = open(&path).map_err(|trouble| match trouble {
                    Trouble::Error(error) => error,
                    Trouble::Damaged => OpenError::Failed(path, "a new database is damaged".to_owned()),
                })?;
                let set_aside = Some(aside);
                Ok(Opened {
                    store,
                    saved,
                    set_aside,
                })
            }
        }
    }

    /// Whether a private folder has a store.
    pub fn exists(folder: &Path) -> bool {
        folder.join(NAME).symlink_metadata().is_ok()
    }
}

/// Gives a damaged database another name, and returns it.
fn set_aside(folder: &Path, path: &Path) -> std::io::Result<PathBuf> {
    for number in 1_u32.. {
        let aside = folder.join(format!("damaged-{number}.db"));
        if aside.symlink_metadata().is_ok() {
            continue;
        }
        for suffix in SUFFIXES {
            let (from, to) = (with_suffix(path, suffix), with_suffix(&aside, suffix));
            match std::fs::rename(from, to) {
                Err(error) if !suffix.is_empty() && error.kind() == std::io::ErrorKind::NotFound => {}
                renamed => renamed?,
            }
        }
        return Ok(aside);
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn open(path: &Path) -> Result<(SqliteStore, Saved), Trouble> {
    let trouble = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Trouble::Error(OpenError::InUse),
        // Without a code: a row that no release has written.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) | None => Trouble::Damaged,
        Some(_) => Trouble::Error(OpenError::Failed(path.to_owned(), error.to_string())),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags).map_err(trouble)?;
    let version = prepare(&connection).map_err(trouble)?;
    if version > VERSION {
        return Err(Trouble::Error(OpenError::Newer));
    }
    if version == 0 {
        create(&mut connection).map_err(trouble)?;
    }
    let mut store = SqliteStore(connection);
    let saved = store.read().map_err(trouble)?;
    if !saved.meta.ended_cleanly && version > 0 {
        store.check().map_err(trouble)?;
    }
    Ok((store, saved))
}

/// Locks the database, and returns the version of its schema.
fn prepare(connection: &Connection) -> rusqlite::Result<i64> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Before the first access: the journal then needs no shared memory.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT;")?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

impl SqliteStore {
    /// Fails with [`ErrorCode::DatabaseCorrupt`] if the database is damaged.
    fn check(&self) -> rusqlite::Result<()> {
        let answer: String = self.0.pragma_query_value(None, "quick_check", |row| row.get(0))?;
        if answer == "ok" {
            return Ok(());
        }
        let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        Err(rusqlite::Error::SqliteFailure(corrupt, Some(answer)))
    }
}

impl SqliteStore {
    /// What the rows are about; `None` in a new store.
    pub fn binding(&self) -> Result<Option<Binding>, OpenError> {
        rows::binding(&self.0).map_err(|error| OpenError::Failed(NAME.into(), error.to_string()))
    }

    /// Saves what the rows are about.
    pub fn bind(&mut self, binding: &Binding) -> Result<(), OpenError> {
        rows::bind(&self.0, binding).map_err(|error| OpenError::Failed(NAME.into(), error.to_string()))
    }

    /// What is known about a path of the space, or of the folder.
    pub fn explain(&self, path: &str) -> Result<Explained, StoreError> {
        explain::explain(&self.0, path).map_err(|error| StoreError(error.to_string()))
    }
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Saved, StoreError> {
        self.read().map_err(|error| StoreError(error.to_string()))
    }

    fn commit(&mut self, changes: &[RowChange]) -> Result<(), StoreError> {
        let mut committing = || -> rusqlite::Result<()> {
            let transaction = self.0.transaction()?;
            // The single values change with each change of the feed, and are saved as a whole.
            let is_meta = |change: &RowChange| matches!(change, RowChange::Meta(_));
            let last_meta = changes.iter().rposition(is_meta);
            for (number, change) in changes.iter().enumerate() {
                if !is_meta(change) || last_meta == Some(number) {
                    rows::write(&transaction, change)?;
                }
            }
            transaction.commit()
        };
        committing().map_err(|error| StoreError(error.to_string()))
    }
}
