//! Uploads: opening, loading, completing, aborting.

use model::{
    ByteCount, Caller, ContentType, DeviceId, FileId, IdempotencyKey, ModifiedAt, PageLimit, PartLayout,
    PendingUpload, Sha256, SpaceId, SpacePath, UploadId, Version,
};
use time::{Duration, OffsetDateTime};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::changes::{
    Effect, NewChange, Rejection, UNLIMITED, command, epoch, event, event_columns, lock, locked, no_space,
    outcome,
};
use crate::client::{Database, Locked};
use crate::error::Error;
use crate::files::in_the_way;
use crate::query::Query;
use crate::row::{get, parse, parse_opt};
use model::Event;

pub(crate) const QUERIES: &[&Query] = &[
    &LOCK_CALLER,
    &OPEN_UPLOAD,
    &SET_MULTIPART_ID,
    &LOAD_UPLOAD,
    &LIST_PENDING_UPLOADS,
    &LOCK_SPACE_OF_UPLOAD,
    &COMPLETE_UPLOAD,
    &ABORT_UPLOAD,
];

/// The time after an upload's expiry in which it can still be completed. S3 accepts a PUT that began before
/// its presigned URL expired, however long it takes, and 64 MiB take 12 hours at 12 kbit/s. After this time
/// the upload is aborted, and its content is deleted from storage later.
pub const IN_FLIGHT: Duration = Duration::hours(12);

/// Maximum number of attempts to open an upload. An attempt is repeated if a request with the same key was
/// faster, and after the user's personal space has been created.
const OPEN_ATTEMPTS: usize = 3;

/// An upload to open.
#[derive(Debug)]
pub struct NewUpload<'a> {
    /// The id of the new upload.
    pub id: UploadId,
    /// The destination space; `None` for the user's personal space.
    pub space_id: Option<SpaceId>,
    /// The id for the user's personal space, if it must be created.
    pub new_space_id: SpaceId,
    /// The user who opens the upload.
    pub caller: &'a Caller,
    /// The device that opens the upload, if the client named one.
    pub device_id: Option<DeviceId>,
    /// The destination path in the space.
    pub path: &'a SpacePath,
    /// The exact size in bytes that the stored object must have.
    pub size: ByteCount,
    /// The SHA-256 that the stored object must have.
    pub sha256: Sha256,
    /// The content's media type, if the client gave one.
    pub content_type: Option<&'a ContentType>,
    /// The modification time of the file, if the client gave one.
    pub modified_at: Option<ModifiedAt>,
    /// Whether the file is executable, if the client said so.
    pub executable: Option<bool>,
    /// The required current version of the file at the path: 0 if there must be none, `None` for any.
    pub base_version: Option<Version>,
    /// The required file at the path; `None` for any.
    pub base_file_id: Option<FileId>,
    /// The size of all parts but the last, in bytes; `None` if the content is sent in one request.
    pub part_size: Option<ByteCount>,
    /// The maximum of bytes of a space, unless an operator has set another one for the space.
    pub max_space_bytes: i64,
    /// The maximum number of pending uploads of a user, unless an operator has set another one for the user.
    pub max_pending_uploads: i64,
    /// The idempotency key, and the SHA-256 of the request that came with it.
    pub key: Option<(&'a IdempotencyKey, [u8; 32])>,
    /// The time of the request.
    pub created_at: OffsetDateTime,
    /// The expiry. Content can be sent until then; the upload can be completed for [`IN_FLIGHT`] longer.
    pub expires_at: OffsetDateTime,
}

/// An open upload: a new one, or the one that an earlier request with the same key opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenUpload {
    /// The id of the upload.
    pub id: UploadId,
    /// The destination space.
    pub space_id: SpaceId,
    /// The expiry. Content can be sent until then; the upload can be completed for [`IN_FLIGHT`] longer.
    pub expires_at: OffsetDateTime,
    /// The size of all parts but the last, in bytes; `None` if the content is sent in one request.
    pub part_size: Option<ByteCount>,
    /// S3's id of the multipart upload; `None` until it is recorded, and for an upload in one request.
    pub multipart_id: Option<String>,
}

/// An upload, as shown to the user who opened it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The destination space.
    pub space_id: SpaceId,
    /// The device that opened the upload, if the client named one.
    pub device_id: Option<DeviceId>,
    /// The destination path in the space.
    pub path: SpacePath,
    /// The size in bytes that the client declared when opening the upload.
    pub size: ByteCount,
    /// The SHA-256 that the client declared when opening the upload.
    pub sha256: Sha256,
    /// The content's media type, if the client gave one.
    pub content_type: Option<ContentType>,
    /// The size of all parts but the last, in bytes; `None` if the content is sent in one request.
    pub part_size: Option<ByteCount>,
    /// S3's id of the multipart upload; `None` until it is recorded, and for an upload in one request.
    pub multipart_id: Option<String>,
    /// The expiry. Content can be sent until then; the upload can be completed for [`IN_FLIGHT`] longer.
    pub expires_at: OffsetDateTime,
    /// Whether the user is still allowed to write to the space.
    pub may_write: bool,
    /// The stored state. [`Upload::phase_at`] derives the possible steps from it and the time.
    pub state: UploadState,
}

impl Upload {
    /// The layout of its parts; `None` if the content is sent in one request.
    pub fn parts(&self) -> Option<PartLayout> {
        self.part_size
            .and_then(|part_size| PartLayout::with_part_size(self.size, part_size))
    }

    /// The phase of the upload at a time. This is the only place that decides it.
    pub fn phase_at(&self, now: OffsetDateTime) -> UploadPhase<'_> {
        match &self.state {
            UploadState::Completed(event) => UploadPhase::Completed(event),
            UploadState::Pending if now < self.expires_at => UploadPhase::Open,
            UploadState::Pending if now < self.expires_at + IN_FLIGHT => UploadPhase::Arriving,
            UploadState::Pending | UploadState::Aborted => UploadPhase::Ended,
        }
    }
}

/// The phase of an upload at a time, which decides the possible steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadPhase<'a> {
    /// Content can be sent, and the upload can be completed.
    Open,
    /// No new content is accepted, but requests that began before the expiry may still be sending it. The
    /// upload can be completed.
    Arriving,
    /// The upload was completed by this change.
    Completed(&'a Event),
    /// The upload was aborted, or expired at least [`IN_FLIGHT`] ago.
    Ended,
}

/// The stored state of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadState {
    /// Not completed and not aborted. The upload may have expired.
    Pending,
    /// Completed, by this change.
    Completed(Box<Event>),
    /// Aborted, by its user or after expiry.
    Aborted,
}

/// The parameters of completing an upload.
#[derive(Debug)]
pub struct Completing<'a> {
    /// The upload. Only the user who opened it can complete it.
    pub upload_id: UploadId,
    /// The id for a new file, if there is no file at the path.
    pub new_file_id: FileId,
    /// The upload's destination path. It must equal the stored one.
    pub path: &'a SpacePath,
    /// The SHA-256 of the parts' SHA-256s, as S3 stores it for the object; `None` if the content was sent in
    /// one request.
    pub composite_sha256: Option<Sha256>,
    /// The key of the S3 object. The caller has verified its content.
    pub object_key: &'a str,
    /// The maximum of bytes of a space, unless an operator has set another one for the space.
    pub max_space_bytes: i64,
}

/// $1 user. A user opens one upload after the other, so that concurrent requests cannot exceed the limit of
/// pending uploads. The lock is recorded in a setting of the transaction, and the statement finds only the
/// locked user: otherwise one that found the user's row a moment later would insert an upload, and then wait
/// for a user who is locked by a request that waits for this upload's key.
const LOCK_CALLER: Query = Query::new(
    "-- lock_caller
WITH locked AS (
    SELECT user_id
    FROM users
    WHERE user_id = $1
    FOR NO KEY UPDATE
)
SELECT set_config('syncsphere.locked_user', user_id, true)
FROM locked",
);

/// $1 id, $2 user, $3 device, $4 path, $5 size, $6 sha256, $7 content type, $8 base version, $9 now, $10
/// expiry, $11 space or null for the personal one, $12 part size, $13 idempotency key, $14 SHA-256 of the
/// request, $15 base file, $16 the path's folders, $17 epoch or null, $18 maximum number of pending uploads,
/// $19 maximum of bytes of a space, $20 modification time or null, $21 whether the file is executable or
/// null.
///
/// If the request has a base version, the row also records the id of the file now at the path. Until the
/// upload is completed, another file may take the path, and its versions are counted from 1 too.
///
/// No row if the user is not a member of the space, has no personal space yet, or was not locked.
/// `earlier_id` is an upload with the same key, or this upload if the statement is repeated. `allowed`
/// without `opened` means that a concurrent request with the same key was faster.
const OPEN_UPLOAD: Query = Query::new(concat!(
    "-- open_upload
WITH target AS (
    SELECT s.id AS space_id, coalesce(f.id, way.id) AS current_file_id, coalesce(f.version, way.version) AS current_version,
        coalesce(f.path, way.path) AS current_path,
        e.id AS earlier_id, e.expires_at AS earlier_expires_at, e.part_size AS earlier_part_size, e.multipart_id,
        CASE
            WHEN m.role = 'viewer' THEN 'forbidden'
            WHEN e.request_hash <> $14 THEN 'key_reused'
            WHEN e.state = 'aborted' OR e.state = 'pending' AND e.expires_at <= $9 THEN 'expired'
            WHEN e.id IS NOT NULL THEN 'already'
            WHEN $8::bigint <> coalesce(f.version, 0) THEN 'version_conflict'
            WHEN $15::uuid IS NOT NULL AND $15 IS DISTINCT FROM f.id THEN 'version_conflict'
            WHEN way.id IS NOT NULL THEN 'path_taken'
            WHEN within('spaceBytes', s.bytes, $5, coalesce(s.max_bytes, $19), 0)
                AND within('pendingUploads', u.pending_uploads, 1, coalesce(u.max_pending_uploads, $18), 60) THEN 'allowed'
        END AS outcome
    FROM spaces s
    JOIN users u ON u.user_id = $2 AND u.user_id = current_setting('syncsphere.locked_user', true)
    JOIN active_members m ON m.space_id = s.id AND m.user_id = $2
    LEFT JOIN files f ON f.space_id = s.id AND f.path = $4 AND f.deleted_at IS NULL
    LEFT JOIN LATERAL ",
    in_the_way!("s.id", "$4", "$16", "$1"),
    " way ON f.id IS NULL AND coalesce($8::bigint, 0) = 0 AND $15::uuid IS NULL
    LEFT JOIN uploads e ON (e.user_id = $2 AND e.idempotency_key = $13) OR e.id = $1
    WHERE s.id = coalesce($11, (SELECT id FROM spaces WHERE owner_id = $2)) AND admit($2, $17)
), opened AS (
    INSERT INTO uploads
        (id, space_id, user_id, device_id, path, size, sha256, content_type, base_version, base_file_id, part_size,
        idempotency_key, request_hash, created_at, expires_at, modified_at, executable)
    SELECT $1, space_id, $2, $3, $4, $5, $6, $7, $8,
        CASE WHEN $8 IS NOT NULL OR $15 IS NOT NULL THEN current_file_id END, $12, $13, $14, $9, $10,
        $20, $21
    FROM target
    WHERE outcome = 'allowed'
    ON CONFLICT (user_id, idempotency_key) DO NOTHING
    RETURNING id
)
SELECT t.outcome, t.current_file_id, t.current_version, t.current_path, t.space_id, t.multipart_id, EXISTS (SELECT FROM opened) AS opened,
    t.earlier_id, t.earlier_expires_at, t.earlier_part_size
FROM target t",
));

/// $1 upload, $2 S3's id of its multipart upload. No row if another id is recorded or the upload is not
/// pending.
const SET_MULTIPART_ID: Query = Query::new(
    "-- set_multipart_id
UPDATE uploads
SET multipart_id = $2
WHERE id = $1 AND (multipart_id IS NULL OR multipart_id = $2) AND state = 'pending'
RETURNING id",
);

/// $1 upload, $2 user, $3 epoch or null.
const LOAD_UPLOAD: Query = Query::new(concat!(
    "-- load_upload
SELECT u.space_id AS upload_space_id, u.device_id AS upload_device_id, u.path AS upload_path, u.size AS upload_size,
    u.sha256 AS upload_sha256, u.content_type, u.part_size, u.multipart_id, u.expires_at, u.state,
    m.role <> 'viewer' AS may_write,
    author.name AS user_name, ",
    event_columns!(),
    "
FROM uploads u
JOIN active_members m ON m.space_id = u.space_id AND m.user_id = $2
LEFT JOIN changes c ON c.event_id = u.event_id
LEFT JOIN users author ON author.user_id = c.user_id
WHERE u.id = $1 AND u.user_id = $2 AND admit($2, $3)"
));

/// $1 user, $2 the last upload of the page before or null, $3 maximum number of uploads, $4 epoch or null, $5
/// time: uploads with an expiry up to it have ended. If there is no upload, one row without one.
const LIST_PENDING_UPLOADS: Query = Query::new(
    "-- list_pending_uploads
SELECT u.*
FROM history h
LEFT JOIN LATERAL (
    SELECT u.id, u.space_id, u.device_id, u.path, u.size, u.part_size, u.created_at, u.expires_at
    FROM uploads u
    JOIN active_members m ON m.space_id = u.space_id AND m.user_id = u.user_id
    WHERE u.user_id = $1 AND u.state = 'pending' AND u.expires_at > $5
        AND u.id > coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid)
    ORDER BY u.id
    LIMIT $3
) u ON true
WHERE admit($1, $4)
ORDER BY u.id",
);

/// $1 upload.
const LOCK_SPACE_OF_UPLOAD: Query = lock!(
    "lock_space_of_upload",
    "JOIN uploads u ON u.space_id = s.id
    JOIN active_members m ON m.space_id = s.id AND m.user_id = u.user_id
    WHERE u.id = $1 AND u.user_id = $2"
);

/// $6 upload, $7 id for a new file, $8 S3 key, $9 path, $10 the path's folders, $11 composite SHA-256 or
/// null, $12 time: uploads with an expiry up to it can no longer be completed, $13 maximum of bytes of a space.
const COMPLETE_UPLOAD: Query = command!(concat!(
    "-- complete_upload
WITH target AS (
    SELECT u.*, u.event_id AS earlier_event_id, coalesce(f.id, way.id) AS current_file_id,
        coalesce(f.version, way.version) AS current_version,
        CASE
            WHEN u.state = 'completed' THEN 'already'
            WHEN u.state = 'aborted' OR u.expires_at <= $12 THEN 'expired'
            WHEN m.role = 'viewer' THEN 'forbidden'
            WHEN u.base_version <> coalesce(f.version, 0) THEN 'version_conflict'
            WHEN u.base_file_id IS NOT NULL AND u.base_file_id IS DISTINCT FROM f.id THEN 'version_conflict'
            WHEN way.id IS NOT NULL THEN 'path_taken'
            WHEN within('spaceBytes', s.bytes, u.size, coalesce(s.max_bytes, $13), 0) THEN 'allowed'
        END AS outcome
    FROM uploads u
    JOIN spaces s ON s.id = u.space_id
    JOIN active_members m ON m.space_id = u.space_id AND m.user_id = $4
    LEFT JOIN files f ON f.space_id = u.space_id AND f.path = u.path AND f.deleted_at IS NULL
    LEFT JOIN LATERAL ",
    in_the_way!("u.space_id", "u.path", "$10", "$7"),
    " way ON f.id IS NULL AND coalesce(u.base_version, 0) = 0 AND u.base_file_id IS NULL
    WHERE u.id = $6 AND u.user_id = $4 AND u.path = $9 AND ",
    locked!("u.space_id"),
    "
), created AS (
    INSERT INTO files (id, space_id, path, version, created_at)
    SELECT $7, space_id, path, 1, $2
    FROM target
    WHERE outcome = 'allowed' AND current_file_id IS NULL
    RETURNING id, version
), updated AS (
    UPDATE files f
    SET version = f.version + 1
    FROM target t
    WHERE t.outcome = 'allowed' AND f.id = t.current_file_id
    RETURNING f.id, f.version
), file AS (
    SELECT id, version FROM created
    UNION ALL
    SELECT id, version FROM updated
), added AS (
    INSERT INTO versions
        (file_id, version, size, sha256, part_size, composite_sha256, object_key, content_type, modified_at, executable,
        user_id, device_id, created_at)
    SELECT file.id, file.version, t.size, t.sha256, CASE WHEN $11::bytea IS NOT NULL THEN t.part_size END, $11, $8,
        t.content_type, t.modified_at, t.executable, t.user_id, t.device_id, $2
    FROM target t, file
), completed AS (
    UPDATE uploads u
    SET state = 'completed', event_id = ($1::uuid[])[1]
    FROM target t
    WHERE t.outcome = 'allowed' AND u.id = t.id
), changed AS (
    SELECT t.space_id, 'FILE_UPDATED' AS event_type, file.id AS file_id, t.path, file.version, t.size, t.sha256,
        t.modified_at, t.executable, ",
    no_space!(),
    ", 1 AS position
    FROM target t, file
)"
));

/// $1 upload, $2 user.
const ABORT_UPLOAD: Query = Query::new(concat!(
    "-- abort_upload
WITH target AS (
    SELECT u.id, u.multipart_id, NULL::uuid AS current_file_id, NULL::bigint AS current_version,
        CASE u.state WHEN 'pending' THEN 'allowed' WHEN 'aborted' THEN 'already' ELSE 'completed' END AS outcome
    FROM uploads u
    JOIN active_members m ON m.space_id = u.space_id AND m.user_id = $2
    WHERE u.id = $1 AND u.user_id = $2 AND ",
    locked!("u.space_id"),
    "
), aborted AS (
    UPDATE uploads u
    SET state = 'aborted'
    FROM target t
    WHERE t.outcome = 'allowed' AND u.id = t.id
)
SELECT outcome, current_file_id, current_version, multipart_id
FROM target",
));

impl Database {
    /// Opens an upload. Creates the user's personal space if the upload goes there and it does not exist. If
    /// the same request with the same key opened an upload before, returns that one.
    pub async fn open_upload(&self, new: NewUpload<'_>) -> Result<Result<OpenUpload, Rejection>, Error> {
        for _ in 0..OPEN_ATTEMPTS {
            match self.try_open_upload(&new).await? {
                Attempt::Decided(decision) => return Ok(decision),
                Attempt::NoSpace if new.space_id.is_some() => return Ok(Err(Rejection::NotFound)),
                Attempt::NoSpace => {
                    self.create_personal_space(new.new_space_id, new.caller, new.created_at)
                        .await?;
                }
                Attempt::Overtaken => {}
            }
        }
        Err(Error::Contended("open_upload"))
    }

    async fn try_open_upload(&self, new: &NewUpload<'_>) -> Result<Attempt, Error> {
        let hash = new.key.as_ref().map(|(_, hash)| hash.as_slice());
        let Locked { rows, .. } = self
            .query_locked(
                (&LOCK_CALLER, &[&new.caller.user_id.as_str()]),
                (
                    &OPEN_UPLOAD,
                    &[
                        &Uuid::from(new.id),
                        &new.caller.user_id.as_str(),
                        &new.device_id.map(Uuid::from),
                        &new.path.as_str(),
                        &new.size.get(),
                        &new.sha256.as_bytes().as_slice(),
                        &new.content_type.map(ContentType::as_str),
                        &new.base_version.map(Version::get),
                        &new.created_at,
                        &new.expires_at,
                        &new.space_id.map(Uuid::from),
                        &new.part_size.map(ByteCount::get),
                        &new.key.map(|(key, _)| key.as_str()),
                        &hash,
                        &new.base_file_id.map(Uuid::from),
                        &new.path.folders().collect::<Vec<_>>(),
                        &epoch(new.caller),
                        &new.max_pending_uploads,
                        &new.max_space_bytes,
                        &new.modified_at.map(ModifiedAt::get),
                        &new.executable,
                    ],
                ),
            )
            .await?;
        let Some(row) = rows.first() else {
            return Ok(Attempt::NoSpace);
        };
        if let Err(refusal) = outcome(row)? {
            return Ok(Attempt::Decided(Err(refusal)));
        }
        let space_id = get::<Uuid>(row, "space_id")?.into();
        if let Some(id) = parse_opt::<Uuid, UploadId>(row, "earlier_id")? {
            return Ok(Attempt::Decided(Ok(OpenUpload {
                id,
                space_id,
                expires_at: get(row, "earlier_expires_at")?,
                part_size: parse_opt::<i64, ByteCount>(row, "earlier_part_size")?,
                multipart_id: get(row, "multipart_id")?,
            })));
        }
        if !get::<bool>(row, "opened")? {
            return Ok(Attempt::Overtaken);
        }
        Ok(Attempt::Decided(Ok(OpenUpload {
            id: new.id,
            space_id,
            expires_at: new.expires_at,
            part_size: new.part_size,
            multipart_id: None,
        })))
    }

    /// Records S3's id of the upload's multipart upload. False if another id is recorded or the upload is not
    /// pending.
    pub async fn set_multipart_id(&self, id: UploadId, multipart_id: &str) -> Result<bool, Error> {
        let rows = self
            .rows(&SET_MULTIPART_ID, &[&Uuid::from(id), &multipart_id])
            .await?;
        Ok(!rows.is_empty())
    }

    /// Reads an upload. `None` if it does not exist, was opened by another user, or is in a space that the
    /// user is not a member of.
    pub async fn load_upload(&self, id: UploadId, caller: &Caller) -> Result<Option<Upload>, Error> {
        let rows = self
            .rows(
                &LOAD_UPLOAD,
                &[&Uuid::from(id), &caller.user_id.as_str(), &epoch(caller)],
            )
            .await?;
        rows.first().map(upload).transpose()
    }

    /// The caller's pending uploads to spaces that the caller is a member of, oldest first, from after
    /// `after`. Returns `limit` + 1 uploads if there are more than `limit`.
    pub async fn list_pending_uploads(
        &self,
        caller: &Caller,
        after: Option<UploadId>,
        limit: PageLimit,
        now: OffsetDateTime,
    ) -> Result<Vec<PendingUpload>, Error> {
        let rows = self
            .rows(
                &LIST_PENDING_UPLOADS,
                &[
                    &caller.user_id.as_str(),
                    &after.map(Uuid::from),
                    &(limit.get() + 1),
                    &epoch(caller),
                    &(now - IN_FLIGHT),
                ],
            )
            .await?;
        let mut uploads = Vec::with_capacity(rows.len());
        for row in &rows {
            if get::<Option<Uuid>>(row, "id")?.is_some() {
                uploads.push(pending_upload(row)?);
            }
        }
        Ok(uploads)
    }

    /// Makes the upload's content the next version of the file at its path, or the first version of a new
    /// file.
    pub async fn complete_upload(
        &self,
        completing: Completing<'_>,
        new: NewChange<'_>,
    ) -> Result<Result<Effect, Rejection>, Error> {
        let upload_id = Uuid::from(completing.upload_id);
        self.command(
            &LOCK_SPACE_OF_UPLOAD,
            &[&upload_id],
            &COMPLETE_UPLOAD,
            new,
            &[
                &upload_id,
                &Uuid::from(completing.new_file_id),
                &completing.object_key,
                &completing.path.as_str(),
                &completing.path.folders().collect::<Vec<_>>(),
                &completing
                    .composite_sha256
                    .as_ref()
                    .map(|sha256| sha256.as_bytes().as_slice()),
                &(new.now - IN_FLIGHT),
                &completing.max_space_bytes,
            ],
        )
        .await
    }

    /// Aborts an upload, and returns S3's id of its multipart upload if it has one. Aborting again returns
    /// the same.
    pub async fn abort_upload(
        &self,
        id: UploadId,
        caller: &Caller,
    ) -> Result<Result<Option<String>, Rejection>, Error> {
        let (id, user_id) = (Uuid::from(id), caller.user_id.as_str());
        let Locked { rows, .. } = self
            .query_in_space(
                caller,
                UNLIMITED,
                (&LOCK_SPACE_OF_UPLOAD, &[&id]),
                (&ABORT_UPLOAD, &[&id, &user_id]),
            )
            .await?;
        let Some(row) = rows.first() else {
            return Ok(Err(Rejection::NotFound));
        };
        Ok(match outcome(row)? {
            Ok(_) => Ok(get(row, "multipart_id")?),
            Err(refusal) => Err(refusal),
        })
    }
}

/// The result of one attempt to open an upload.
enum Attempt {
    Decided(Result<OpenUpload, Rejection>),
    /// The space does not exist, or the user is not a member of it.
    NoSpace,
    /// A concurrent request with the same key was faster.
    Overtaken,
}

fn upload(row: &Row) -> Result<Upload, Error> {
    let state = match get::<&str>(row, "state")? {
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
        space_id: get::<Uuid>(row, "upload_space_id")?.into(),
        device_id: parse_opt::<Uuid, DeviceId>(row, "upload_device_id")?,
        path: parse::<String, SpacePath>(row, "upload_path")?,
        size: parse::<i64, ByteCount>(row, "upload_size")?,
        sha256: parse::<&[u8], Sha256>(row, "upload_sha256")?,
        content_type: parse_opt::<String, ContentType>(row, "content_type")?,
        part_size: parse_opt::<i64, ByteCount>(row, "part_size")?,
        multipart_id: get(row, "multipart_id")?,
        expires_at: get(row, "expires_at")?,
        may_write: get(row, "may_write")?,
        state,
    })
}

fn pending_upload(row: &Row) -> Result<PendingUpload, Error> {
    Ok(PendingUpload {
        upload_id: get::<Uuid>(row, "id")?.into(),
        space_id: get::<Uuid>(row, "space_id")?.into(),
        path: parse::<String, SpacePath>(row, "path")?,
        size: parse::<i64, ByteCount>(row, "size")?,
        in_parts: get::<Option<i64>>(row, "part_size")?.is_some(),
        device_id: parse_opt::<Uuid, DeviceId>(row, "device_id")?,
        created_at: get(row, "created_at")?,
        expires_at: get(row, "expires_at")?,
    })
}
