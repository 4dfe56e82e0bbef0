//! What is known about one path.

use model::FileId;
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::rows;
use crate::path::LocalPath;
use crate::tree::{LocalEntry, RemoteRow, SyncedRow};

/// The rows of the three trees that concern a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// What the space has at the path, or has of a file that was synced at the path.
    pub remote: Vec<(FileId, RemoteRow)>,
    /// What the folder has at the path, or at the place of a file that was synced at the path.
    pub local: Vec<(LocalPath, LocalEntry)>,
    /// Files that were equal at the path.
    pub synced: Vec<(FileId, SyncedRow)>,
}

pub(super) fn explain(connection: &Connection, path: &str) -> rusqlite::Result<Explained> {
    let synced = "SELECT * FROM synced WHERE path = ?1 OR local = ?1
                  OR file_id IN (SELECT file_id FROM remote WHERE path = ?1)";
    let remote = "SELECT * FROM remote WHERE path = ?1
                  OR file_id IN (SELECT file_id FROM synced WHERE path = ?1 OR local = ?1)";
    let local = "SELECT * FROM local WHERE path = ?1
                 OR path IN (SELECT coalesce(local, path) FROM synced WHERE path = ?1)";
    Ok(Explained {
        remote: find(connection, remote, path, rows::remote)?,
        local: find(connection, local, path, rows::local)?,
        synced: find(connection, synced, path, rows::synced)?,
    })
}

fn find<T>(
    connection: &Connection,
    sql: &str,
    path: &str,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection
        .prepare_cached(sql)?
        .query_map(params![path], read)?
        .collect()
}
