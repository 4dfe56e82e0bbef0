//! The state of the database at the end of a run, read directly, without the functions and the proxies.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result};
use model::{EventId, FileId, Sha256, SpaceId, UploadId, UserId, Version};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use super::replica::FileSeen;

/// The content of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) object_key: String,
    /// Length in bytes.
    pub(crate) size: i64,
    pub(crate) sha256: Sha256,
}

/// Everything in the database that the checker compares.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// The last sequence number of each space.
    pub(crate) last_sequences: HashMap<SpaceId, i64>,
    /// Each membership as a pair of space and user.
    pub(crate) members: HashSet<(SpaceId, UserId)>,
    /// The events of each space with their sequence numbers, in ascending order.
    pub(crate) changes: HashMap<SpaceId, Vec<(i64, EventId)>>,
    /// The files of each space, without the deleted ones.
    pub(crate) files: HashMap<SpaceId, HashMap<FileId, FileSeen>>,
    pub(crate) versions: HashMap<(FileId, Version), Content>,
    /// The newest version of each file, including the deleted ones.
    pub(crate) newest: HashMap<FileId, Version>,
    /// The number of changes that gave a file each of its versions, including purged versions and files. A
    /// change that restores a deleted file gives it none.
    pub(crate) updates: HashMap<(FileId, Version), i64>,
    /// Uploads that are completed.
    pub(crate) completed_uploads: HashSet<UploadId>,
    /// Uploads that are not completed. Their objects may be in storage.
    pub(crate) other_uploads: HashSet<UploadId>,
    /// Spaces whose `bytes` differ from the sum of the sizes of their objects, with both numbers.
    pub(crate) miscounted: HashMap<SpaceId, (i64, i64)>,
    /// The number of changes of a member after which the member is as before, such as the second of two for
    /// one acceptance of an invitation.
    pub(crate) idle_member_changes: i64,
    /// Events in the outbox, which may not have reached the queue.
    pub(crate) outbox: Vec<EventId>,
    /// Events that the event bus may not have.
    pub(crate) bus_outbox: Vec<EventId>,
}

/// Connects to PostgreSQL directly, without a proxy.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .context("cannot connect to PostgreSQL")?;
    tokio::spawn(async move {
        // The connection ends with the client or with a crash of the server. The next query reports the
        // error.
        let _ = connection.await;
    });
    Ok(client)
}

/// The number of events in the outbox, which may not have reached the queue.
pub(crate) async fn outbox_size(url: &str) -> Result<i64> {
    let client = connect(url).await?;
    let row = client.query_one("SELECT count(*) FROM outbox", &[]).await?;
    Ok(row.try_get(0)?)
}

/// The number of rows that `maintenance` has to handle: events in the outbox, events for the event bus, and
/// what is due to be purged if files keep `keep` older versions.
pub(crate) async fn unfinished(url: &str, keep: i64) -> Result<i64> {
    let unfinished = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM bus_outbox)
        + (SELECT count(*) FROM files WHERE purge_at IS NOT NULL)
        + (SELECT count(*) FROM versions v JOIN files f ON f.id = v.file_id WHERE v.version < f.version - $1)";
    let row = connect(url).await?.query_one(unfinished, &[&keep]).await?;
    Ok(row.try_get(0)?)
}

impl Snapshot {
    /// Reads the whole state from the database at `url`.
    pub(crate) async fn read(url: &str) -> Result<Self> {
        let client = connect(url).await?;
        let mut snapshot = Self::default();
        for row in client.query("SELECT id, last_sequence FROM spaces", &[]).await? {
            let space: Uuid = row.try_get(0)?;
            snapshot.last_sequences.insert(space.into(), row.try_get(1)?);
        }
        for row in client.query("SELECT space_id, user_id FROM members", &[]).await? {
            let (space, user): (Uuid, String) = (row.try_get(0)?, row.try_get(1)?);
            snapshot.members.insert((space.into(), user.try_into()?));
        }
        let changes = "SELECT space_id, sequence, event_id FROM changes ORDER BY space_id, sequence";
        for row in client.query(changes, &[]).await? {
            let (space, event): (Uuid, Uuid) = (row.try_get(0)?, row.try_get(2)?);
            let numbered = (row.try_get(1)?, event.into());
            snapshot.changes.entry(space.into()).or_default().push(numbered);
        }
        let files = "SELECT f.space_id, f.id, f.path, f.version, v.sha256 FROM files f \
                     LEFT JOIN versions v ON v.file_id = f.id AND v.version = f.version WHERE f.deleted_at IS NULL";
        for row in client.query(files, &[]).await? {
            let (space, file): (Uuid, Uuid) = (row.try_get(0)?, row.try_get(1)?);
            let (path, version): (String, i64) = (row.try_get(2)?, row.try_get(3)?);
            let seen = FileSeen {
                path: path.parse()?,
                version: version.try_into()?,
                sha256: row.try_get::<_, &[u8]>(4)?.try_into()?,
            };
            let own = snapshot.files.entry(space.into()).or_default();
            own.insert(file.into(), seen);
        }
        let versions = "SELECT file_id, version, object_key, size, sha256 FROM versions";
        for row in client.query(versions, &[]).await? {
            let (file, version): (Uuid, i64) = (row.try_get(0)?, row.try_get(1)?);
            let content = Content {
                object_key: row.try_get(2)?,
                size: row.try_get(3)?,
                sha256: row.try_get::<_, &[u8]>(4)?.try_into()?,
            };
            snapshot
                .versions
                .insert((file.into(), version.try_into()?), content);
        }
        let miscounted = "SELECT id, bytes, stored FROM spaces LEFT JOIN LATERAL ( \
                          SELECT coalesce(sum(size), 0)::bigint AS stored FROM ( \
                          SELECT DISTINCT v.object_key, v.size FROM versions v JOIN files f ON f.id = v.file_id \
                          WHERE f.space_id = spaces.id) objects) s ON true WHERE bytes <> stored";
        for row in client.query(miscounted, &[]).await? {
            let space: Uuid = row.try_get(0)?;
            let counted = (row.try_get(1)?, row.try_get(2)?);
            snapshot.miscounted.insert(space.into(), counted);
        }
        for row in client.query("SELECT event_id FROM outbox", &[]).await? {
            snapshot.outbox.push(row.try_get::<_, Uuid>(0)?.into());
        }
        for row in client.query("SELECT id, version FROM files", &[]).await? {
            let (file, version): (Uuid, i64) = (row.try_get(0)?, row.try_get(1)?);
            snapshot.newest.insert(file.into(), version.try_into()?);
        }
        let updates = "SELECT file_id, version, count(*) FROM ( \
                       SELECT file_id, version, event_type, lag(event_type) OVER (PARTITION BY file_id ORDER BY sequence) \
                       AS type_before FROM changes WHERE file_id IS NOT NULL \
                       ) c WHERE event_type = 'FILE_UPDATED' AND type_before IS DISTINCT FROM 'FILE_DELETED' \
                       GROUP BY file_id, version";
        for row in client.query(updates, &[]).await? {
            let (file, version): (Uuid, i64) = (row.try_get(0)?, row.try_get(1)?);
            let made = (file.into(), version.try_into()?);
            snapshot.updates.insert(made, row.try_get(2)?);
        }
        for row in client
            .query("SELECT id, state = 'completed' FROM uploads", &[])
            .await?
        {
            let upload: Uuid = row.try_get(0)?;
            let uploads = if row.try_get(1)? {
                &mut snapshot.completed_uploads
            } else {
                &mut snapshot.other_uploads
            };
            uploads.insert(upload.into());
        }
        for row in client.query("SELECT event_id FROM bus_outbox", &[]).await? {
            snapshot.bus_outbox.push(row.try_get::<_, Uuid>(0)?.into());
        }
        let idle = "SELECT count(*) FROM (
                SELECT event_type, subject_role, lag(event_type) OVER history AS type_before,
                    lag(subject_role) OVER history AS role_before
                FROM changes
                WHERE member_id IS NOT NULL
                WINDOW history AS (PARTITION BY space_id, member_id ORDER BY sequence)
            ) c
            WHERE event_type = type_before AND subject_role IS NOT DISTINCT FROM role_before";
        snapshot.idle_member_changes = client.query_one(idle, &[]).await?.try_get(0)?;
        Ok(snapshot)
    }

    /// The keys of the objects that versions name.
    pub(crate) fn named_objects(&self) -> HashSet<&str> {
        let versions = self.versions.values();
        versions.map(|content| content.object_key.as_str()).collect()
    }

    /// The number of changes in all spaces.
    pub(crate) fn committed(&self) -> usize {
        self.changes.values().map(Vec::len).sum()
    }
}
