//! Uploads: opened, loaded, completed.

use model::{
    ByteCount, ContentType, CurrentVersion, DeviceId, Event, EventId, FileId, Sha256, SpaceId, SpacePath,
    UploadId, UserId, Version,
};
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::client::Database;
use crate::error::Error;
use crate::query::Query;
use crate::row::{column, event, optional, plain};

pub(crate) const QUERIES: &[&Query] = &[
    &OPEN_UPLOAD,
    &CREATE_PERSONAL_SPACE,
    &LOAD_UPLOAD,
    &COMPLETE_UPLOAD,
];

/// An upload to open in its user's personal space.
#[derive(Debug)]
pub struct NewUpload<'a> {
    /// Its id.
    pub id: UploadId,
    /// The id of the user's personal space, should this be its first use.
    pub new_space_id: SpaceId,
    /// Who uploads.
    pub user_id: &'a UserId,
    /// On which device, if it said so.
    pub device_id: Option<DeviceId>,
    /// Where the file goes.
    pub path: &'a SpacePath,
    /// The exact size that storage must hold in the end.
    pub size: ByteCount,
    /// The SHA-256 that storage must hold in the end.
    pub sha256: Sha256,
    /// The content's media type.
    pub content_type: Option<&'a ContentType>,
    /// The version that must be current, 0 for none; nothing for any.
    pub base_version: Option<Version>,
    /// Now.
    pub created_at: OffsetDateTime,
    /// Until when it can be completed.
    pub expires_at: OffsetDateTime,
}

/// What became of opening an upload.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// It is pending, in this space.
    Opened(SpaceId),
    /// `base_version` is not what is current; nothing was stored.
    Conflict(CurrentVersion),
}

/// An upload as its user sees it.
#[derive(Debug, PartialEq, Eq)]
pub struct Upload {
    /// The size that was declared.
    pub size: ByteCount,
    /// The SHA-256 that was declared.
    pub sha256: Sha256,
    /// Until when it can be completed.
    pub expires_at: OffsetDateTime,
    /// How far it got.
    pub state: UploadState,
}

/// How far an upload got.
#[derive(Debug, PartialEq, Eq)]
pub enum UploadState {
    /// Waiting for content and completion.
    Pending,
    /// Done; this is the change that it made.
    Completed(Box<Event>),
    /// Given up.
    Aborted,
}

/// The names under which an upload's change is to be stored, if it can be completed.
#[derive(Debug)]
pub struct Completing<'a> {
    /// The upload.
    pub upload_id: UploadId,
    /// Who completes it: only the one who opened it may.
    pub user_id: &'a UserId,
    /// The file's id, should the path hold no file.
    pub new_file_id: FileId,
    /// The event's id.
    pub event_id: EventId,
    /// The S3 key that was verified to hold the content.
    pub object_key: &'a str,
    /// Now.
    pub now: OffsetDateTime,
    /// Until when nobody else sends the event.
    pub leased_until: OffsetDateTime,
}

/// What became of completing an upload.
#[derive(Debug, PartialEq, Eq)]
pub enum Completion {
    /// Version, change and outbox row are committed.
    Done(Box<Event>),
    /// An earlier call did it; this is its change.
    Already(Box<Event>),
    /// There is no such upload for this user.
    NotFound,
    /// It is too late.
    Expired,
    /// The base version is not what is current; nothing was stored.
    Conflict(CurrentVersion),
}

/// $1 id, $2 user, $3 device, $4 path, $5 size, $6 sha256, $7 content type, $8 base version, $9 now, $10 expiry.
/// No row if the user has no personal space yet.
const OPEN_UPLOAD: Query = Query::new(
    "-- open_upload
WITH space AS (
    SELECT s.id
    FROM spaces s
    JOIN members m ON m.space_id = s.id AND m.user_id = $2 AND m.role IN ('owner', 'editor')
    WHERE s.owner_id = $2
), current AS (
    SELECT f.id, f.version
    FROM files f
    JOIN space ON space.id = f.space_id
    WHERE f.path = $4 AND f.deleted_at IS NULL
), opened AS (
    INSERT INTO uploads
        (id, space_id, user_id, device_id, path, size, sha256, content_type, base_version, created_at, expires_at)
    SELECT $1, space.id, $2, $3, $4, $5, $6, $7, $8, $9, $10
    FROM space
    WHERE $8::bigint IS NULL OR $8 = coalesce((SELECT version FROM current), 0)
    RETURNING id
)
SELECT space.id AS space_id, current.id AS current_file_id, current.version AS current_version,
    EXISTS (SELECT FROM opened) AS opened
FROM space
LEFT JOIN current ON true",
);

/// $1 space's id, $2 user, $3 now. Of two at once, the second waits for the first and changes nothing.
const CREATE_PERSONAL_SPACE: Query = Query::new(
    "-- create_personal_space
WITH space AS (
    INSERT INTO spaces (id, kind, owner_id, created_at)
    VALUES ($1, 'personal', $2, $3)
    ON CONFLICT (owner_id) DO NOTHING
    RETURNING id
)
INSERT INTO members (space_id, user_id, role, added_at)
SELECT id, $2, 'owner', $3
FROM space",
);

/// $1 upload, $2 user.
const LOAD_UPLOAD: Query = Query::new(
    "-- load_upload
SELECT u.size AS declared_size, u.sha256 AS declared_sha256, u.expires_at, u.state,
    f.id AS current_file_id, f.version AS current_version,
    c.sequence, c.event_id, c.event_type, c.file_id, c.space_id, c.user_id, c.device_id, c.path, c.version, c.size,
    c.sha256, c.occurred_at
FROM uploads u
JOIN members m ON m.space_id = u.space_id AND m.user_id = $2 AND m.role IN ('owner', 'editor')
LEFT JOIN files f ON f.space_id = u.space_id AND f.path = u.path AND f.deleted_at IS NULL
LEFT JOIN changes c ON c.event_id = u.event_id
WHERE u.id = $1 AND u.user_id = $2",
);

/// $1 upload, $2 user, $3 now, $4 id of a new file, $5 event's id, $6 S3 key, $7 end of the outbox row's lease.
///
/// Rows are locked in one order, upload, file, space, each only when the one before allowed it. So two calls for the same
/// upload, for the same path or in the same space take turns, no number is taken by a call that then changes nothing, and
/// what waited sees what the other committed: `FOR UPDATE`, `ON CONFLICT DO UPDATE` and `UPDATE` look at the newest row
/// (PostgreSQL documentation, 13.2.1, Read Committed Isolation Level).
const COMPLETE_UPLOAD: Query = Query::new(
    "-- complete_upload
WITH upload AS (
    SELECT u.*
    FROM uploads u
    JOIN members m ON m.space_id = u.space_id AND m.user_id = $2 AND m.role IN ('owner', 'editor')
    WHERE u.id = $1 AND u.user_id = $2 AND u.state = 'pending' AND u.expires_at > $3
    FOR UPDATE OF u
), created AS (
    INSERT INTO files (id, space_id, path, version, created_at)
    SELECT $4, space_id, path, 1, $3
    FROM upload
    WHERE coalesce(base_version, 0) = 0
    ON CONFLICT (space_id, path) WHERE deleted_at IS NULL
        DO UPDATE SET version = files.version + 1
        WHERE (SELECT base_version FROM upload) IS NULL
    RETURNING id, version
), updated AS (
    UPDATE files f
    SET version = f.version + 1
    FROM upload u
    WHERE u.base_version > 0 AND f.space_id = u.space_id AND f.path = u.path AND f.deleted_at IS NULL
        AND f.version = u.base_version
    RETURNING f.id, f.version
), file AS (
    SELECT id, version FROM created
    UNION ALL
    SELECT id, version FROM updated
), space AS (
    UPDATE spaces s
    SET last_sequence = s.last_sequence + 1
    FROM upload u, file
    WHERE s.id = u.space_id
    RETURNING s.id, s.last_sequence
), version AS (
    INSERT INTO versions (file_id, version, size, sha256, object_key, content_type, user_id, device_id, created_at)
    SELECT file.id, file.version, u.size, u.sha256, $6, u.content_type, u.user_id, u.device_id, $3
    FROM upload u, file
), change AS (
    INSERT INTO changes
        (space_id, sequence, event_id, event_type, user_id, device_id, file_id, path, version, size, sha256, occurred_at)
    SELECT space.id, space.last_sequence, $5, 'FILE_UPDATED', u.user_id, u.device_id, file.id, u.path, file.version, u.size,
        u.sha256, $3
    FROM upload u, file, space
    RETURNING *
), waiting AS (
    INSERT INTO outbox (event_id, created_at, leased_until)
    SELECT event_id, $3, $7
    FROM change
), completed AS (
    UPDATE uploads
    SET state = 'completed', event_id = change.event_id
    FROM change
    WHERE id = $1
)
SELECT sequence, event_id, event_type, file_id, space_id, user_id, device_id, path, version, size, sha256, occurred_at
FROM change",
);

impl Database {
    /// Opens an upload in the user's personal space, which is made on its first use.
    pub async fn open_upload(&self, new: NewUpload<'_>) -> Result<Opened, Error> {
        if let Some(opened) = self.try_open_upload(&new).await? {
            return Ok(opened);
        }
        self.rows(
            &CREATE_PERSONAL_SPACE,
            &[
                &Uuid::from(new.new_space_id),
                &new.user_id.as_str(),
                &new.created_at,
            ],
        )
        .await?;
        self.try_open_upload(&new).await?.ok_or_else(|| Error::Column {
            column: "owner_id",
            source: "a personal space cannot be written to by its owner".into(),
        })
    }

    async fn try_open_upload(&self, new: &NewUpload<'_>) -> Result<Option<Opened>, Error> {
        let rows = self
            .rows(
                &OPEN_UPLOAD,
                &[
                    &Uuid::from(new.id),
                    &new.user_id.as_str(),
                    &new.device_id.map(Uuid::from),
                    &new.path.as_str(),
                    &new.size.get(),
                    &new.sha256.as_bytes().as_slice(),
                    &new.content_type.map(ContentType::as_str),
                    &new.base_version.map(Version::get),
                    &new.created_at,
                    &new.expires_at,
                ],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let opened: bool = plain(row, "opened")?;
        Ok(Some(if opened {
            Opened::Opened(column::<Uuid, SpaceId>(row, "space_id")?)
        } else {
            Opened::Conflict(current_version(row)?)
        }))
    }

    /// Reads an upload. Nothing if it is not there, not this user's, or in a space that the user may no longer write to.
    pub async fn load_upload(&self, id: UploadId, user_id: &UserId) -> Result<Option<Upload>, Error> {
        let rows = self
            .rows(&LOAD_UPLOAD, &[&Uuid::from(id), &user_id.as_str()])
            .await?;
        rows.first().map(upload).transpose()
    }

    /// Makes the upload's content the file's next version: checks access and base version, takes the space's next number,
    /// and writes version, change and outbox row, in one statement.
    pub async fn complete_upload(&self, completing: Completing<'_>) -> Result<Completion, Error> {
        let rows = self
            .rows(
                &COMPLETE_UPLOAD,
                &[
                    &Uuid::from(completing.upload_id),
                    &completing.user_id.as_str(),
                    &completing.now,
                    &Uuid::from(completing.new_file_id),
                    &Uuid::from(completing.event_id),
                    &completing.object_key,
                    &completing.leased_until,
                ],
            )
            .await?;
        if let Some(row) = rows.first() {
            return Ok(Completion::Done(Box::new(event(row)?)));
        }
        // Nothing was changed. Why not?
        let rows = self
            .rows(
                &LOAD_UPLOAD,
                &[&Uuid::from(completing.upload_id), &completing.user_id.as_str()],
            )
            .await?;
        let Some(row) = rows.first() else {
            return Ok(Completion::NotFound);
        };
        let upload = upload(row)?;
        Ok(match upload.state {
            UploadState::Completed(event) => Completion::Already(event),
            UploadState::Aborted => Completion::Expired,
            UploadState::Pending if upload.expires_at <= completing.now => Completion::Expired,
            UploadState::Pending => Completion::Conflict(current_version(row)?),
        })
    }
}

fn upload(row: &Row) -> Result<Upload, Error> {
    let state = match plain::<&str>(row, "state")? {
        "pending" => UploadState::Pending,
        "completed" => UploadState::Completed(Box::new(event(row)?)),
        "aborted" => UploadState::Aborted,
        other => {
            return Err(Error::Column {
                column: "state",
                source: format!("unknown state {other}").into(),
            });
        }
    };
    Ok(Upload {
        size: column::<i64, ByteCount>(row, "declared_size")?,
        sha256: column::<&[u8], Sha256>(row, "declared_sha256")?,
        expires_at: plain(row, "expires_at")?,
        state,
    })
}

fn current_version(row: &Row) -> Result<CurrentVersion, Error> {
    let version = plain::<Option<i64>>(row, "current_version")?.unwrap_or(0);
    Ok(CurrentVersion {
        version: version.try_into().map_err(|source| Error::Column {
            column: "current_version",
            source: Box::new(source),
        })?,
        file_id: optional::<Uuid, FileId>(row, "current_file_id")?,
    })
}
