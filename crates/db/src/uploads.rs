//! Uploads: opening, loading, completing, aborting.

use std::collections::HashMap;
use std::time::Duration as StdDuration;

use model::{
    ByteCount, Caller, ContentType, DeviceId, Event, EventId, FileId, IdempotencyKey, ModifiedAt, PageLimit,
    PartLayout, PendingUpload, Sha256, SpaceId, SpacePath, UploadId, Version,
};
use serde::Serialize;
use time::serde::rfc3339;
use time::{Duration, OffsetDateTime};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::batch::{items, position, within_rate};
use crate::changes::{
    Commit, Effect, Limit, LimitName, Outcome, Rejection, UNLIMITED, batch, epoch, event, event_columns,
    lock, locked, no_space, outcome,
};
use crate::client::{Database, Locked, Statement};
use crate::error::Error;
use crate::files::in_the_way;
use crate::query::Query;
use crate::row::{get, parse, parse_opt};
use crate::spaces::LOCK_SPACE;

pub(crate) const QUERIES: &[&Query] = &[
    &LOCK_CALLER,
    &OPEN_UPLOADS,
    &SET_MULTIPART_ID,
    &LOAD_UPLOADS,
    &LIST_PENDING_UPLOADS,
    &LOCK_SPACE_OF_UPLOAD,
    &COMPLETE_UPLOADS,
    &ABORT_UPLOAD,
];

/// The time after an upload's expiry in which it can still be completed. S3 accepts a PUT that began before
/// its presigned URL expired, however long it takes, and 64 MiB take 12 hours at 12 kbit/s. After this time
/// the upload is aborted, and its content is deleted from storage later.
pub const IN_FLIGHT: Duration = Duration::hours(12);

/// The time after which a user with too many pending uploads may try again.
const PENDING_RETRY: StdDuration = StdDuration::from_mins(1);

/// Maximum number of attempts to open an upload. An attempt is repeated if a request with the same key was
/// faster, and after the user's personal space has been created.
const OPEN_ATTEMPTS: usize = 3;

/// The parameters that all uploads of a request have in common.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// The user who opens the uploads.
    pub caller: &'a Caller,
    /// The id for the user's personal space, if it must be created.
    pub new_space_id: SpaceId,
    /// The maximum of bytes of a space, unless an operator has set another one for the space.
    pub max_space_bytes: i64,
    /// The maximum number of pending uploads of a user, unless an operator has set another one for the user.
    pub max_pending_uploads: i64,
    /// The time of the request.
    pub created_at: OffsetDateTime,
}

/// An upload to open.
#[derive(Clone, Debug)]
pub struct NewUpload<'a> {
    /// The id of the new upload.
    pub id: UploadId,
    /// The destination space; `None` for the user's personal space.
    pub space_id: Option<SpaceId>,
    /// The device that opens the upload, if the client named one.
    pub device_id: Option<DeviceId>,
    /// The destination path in the space.
    pub path: &'a SpacePath,
    /// The exact size in bytes that the stored object must have.
    pub size: ByteCount,
    /// The SHA-256 that the stored object must have; `None` if it is given at completion, which needs parts.
    pub sha256: Option<Sha256>,
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
    /// The idempotency key, and the SHA-256 of the request that came with it.
    pub key: Option<(&'a IdempotencyKey, [u8; 32])>,
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
    /// The SHA-256 that the client declared when opening or completing the upload; `None` until it does.
    pub sha256: Option<Sha256>,
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

/// An upload to complete.
#[derive(Clone, Debug)]
pub struct Completing<'a> {
    /// The upload. Only the user who opened it can complete it.
    pub upload_id: UploadId,
    /// The id of the event of the change.
    pub event_id: EventId,
    /// The id for a new file, if there is no file at the path.
    pub new_file_id: FileId,
    /// The upload's destination path. Uploads whose paths exclude each other are completed one after the other.
    pub path: &'a SpacePath,
    /// The SHA-256 of the content, if the client declares it now. One that was declared before must be the same.
    pub sha256: Option<Sha256>,
    /// The SHA-256 of the parts' SHA-256s, as S3 stores it for the object; `None` if the content was sent in
    /// one request.
    pub composite_sha256: Option<Sha256>,
    /// The key of the S3 object. The caller has verified its content.
    pub object_key: &'a str,
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

/// $1 user, $2 epoch or null, $3 now, $4 uploads, $5 maximum number of pending uploads, $6 maximum of bytes
/// of a space. An upload without a space goes to the personal one.
///
/// If an upload has a base version, the row also records the id of the file now at the path. Until the upload
/// is completed, another file may take the path, and its versions are counted from 1 too.
///
/// One row for each upload, with its number `item`; none if the user is not a member of the space, has no
/// personal space yet, or was not locked. `earlier_id` is an upload with the same key, or this upload if the
/// statement is repeated. `allowed` without `opened` means that a concurrent request with the same key was
/// faster, or that another upload of this request has it.
const OPEN_UPLOADS: Query = Query::new(concat!(
    "-- open_uploads
WITH wanted AS (
    SELECT i.item, i.id, i.device_id, i.path, i.size, i.sha256, i.content_type, i.base_version, i.base_file_id, i.part_size,
        i.key, i.request_hash, i.expires_at, i.modified_at, i.executable,
        s.id AS target_space_id, coalesce(f.id, way.id) AS current_file_id, coalesce(f.version, way.version) AS current_version,
        coalesce(f.path, way.path) AS current_path,
        e.id AS earlier_id, e.expires_at AS earlier_expires_at, e.part_size AS earlier_part_size, e.multipart_id,
        s.bytes AS bytes_used, coalesce(s.max_bytes, $6) AS max_bytes,
        u.pending_uploads, coalesce(u.max_pending_uploads, $5) AS max_pending,
        CASE
            WHEN m.role = 'viewer' THEN 'forbidden'
            WHEN e.request_hash <> decode(i.request_hash, 'base64') THEN 'key_reused'
            WHEN e.state = 'aborted' OR e.state = 'pending' AND e.expires_at <= $3 THEN 'expired'
            WHEN e.id IS NOT NULL THEN 'already'
            WHEN i.base_version <> coalesce(f.version, 0) THEN 'version_conflict'
            WHEN i.base_file_id IS NOT NULL AND i.base_file_id IS DISTINCT FROM f.id THEN 'version_conflict'
            WHEN way.id IS NOT NULL THEN 'path_taken'
            WHEN s.bytes + i.size > coalesce(s.max_bytes, $6) THEN 'space_bytes'
        END AS refusal
    FROM json_to_recordset($4::text::json) AS i (
        item bigint, id uuid, space_id uuid, device_id uuid, path text, size bigint, sha256 text, content_type text,
        base_version bigint, base_file_id uuid, part_size bigint, key text, request_hash text, expires_at timestamptz,
        modified_at timestamptz, executable boolean
    )
    JOIN users u ON u.user_id = $1 AND u.user_id = current_setting('syncsphere.locked_user', true)
    JOIN spaces s ON s.id = coalesce(i.space_id, (SELECT id FROM spaces WHERE owner_id = $1))
    JOIN active_members m ON m.space_id = s.id AND m.user_id = $1
    LEFT JOIN LATERAL (
        SELECT id, version, path
        FROM files
        WHERE space_id = s.id AND path = i.path AND deleted_at IS NULL
        LIMIT 1
    ) f ON true
    LEFT JOIN LATERAL ",
    in_the_way!("s.id", "i.path", "i.id"),
    " way ON f.id IS NULL AND coalesce(i.base_version, 0) = 0 AND i.base_file_id IS NULL
    LEFT JOIN LATERAL (
        SELECT *
        FROM uploads
        WHERE (user_id = $1 AND idempotency_key = i.key) OR id = i.id
        LIMIT 1
    ) e ON true
    WHERE admit($1, $2)
), target AS (
    SELECT *, pending_uploads + count(*) FILTER (WHERE refusal IS NULL) OVER (
            ORDER BY item
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS pending_used
    FROM wanted
), decided AS (
    SELECT *, coalesce(refusal, CASE WHEN pending_used < max_pending THEN 'allowed' ELSE 'pending_uploads' END) AS outcome
    FROM target
), opened AS (
    INSERT INTO uploads
        (id, space_id, user_id, device_id, path, size, sha256, content_type, base_version, base_file_id, part_size,
        idempotency_key, request_hash, created_at, expires_at, modified_at, executable)
    SELECT id, target_space_id, $1, device_id, path, size, decode(sha256, 'base64'), content_type, base_version,
        CASE WHEN base_version IS NOT NULL OR base_file_id IS NOT NULL THEN current_file_id END, part_size,
        key, decode(request_hash, 'base64'), $3, expires_at, modified_at, executable
    FROM decided
    WHERE outcome = 'allowed'
    ON CONFLICT (user_id, idempotency_key) DO NOTHING
    RETURNING id
)
SELECT d.item, d.outcome, d.current_file_id, d.current_version, d.current_path, d.target_space_id AS space_id, d.multipart_id,
    EXISTS (SELECT FROM opened o WHERE o.id = d.id) AS opened, d.earlier_id, d.earlier_expires_at, d.earlier_part_size,
    d.bytes_used, d.max_bytes, d.pending_used, d.max_pending
FROM decided d
ORDER BY d.item",
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

/// $1 uploads, $2 user, $3 epoch or null.
const LOAD_UPLOADS: Query = Query::new(concat!(
    "-- load_uploads
SELECT u.id AS upload_id, u.space_id AS upload_space_id, u.device_id AS upload_device_id, u.path AS upload_path, u.size AS upload_size,
    u.sha256 AS upload_sha256, u.content_type, u.part_size, u.multipart_id, u.expires_at, u.state,
    m.role <> 'viewer' AS may_write,
    author.name AS user_name, ",
    event_columns!(),
    "
FROM uploads u
JOIN active_members m ON m.space_id = u.space_id AND m.user_id = $2
LEFT JOIN changes c ON c.event_id = u.event_id
LEFT JOIN users author ON author.user_id = c.user_id
WHERE u.id = ANY ($1) AND u.user_id = $2 AND admit($2, $3)"
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

/// $5 uploads, $6 time: uploads with an expiry up to it can no longer be completed, $7 maximum of bytes of a
/// space. The paths must not exclude each other. The limit of bytes is compared with the uploads that fit, in
/// their order.
const COMPLETE_UPLOADS: Query = batch!(concat!(
    "-- complete_uploads
WITH wanted AS (
    SELECT i.item, i.new_file_id, i.object_key, decode(i.composite_sha256, 'base64') AS composite_sha256,
        u.id, u.space_id, u.user_id, u.device_id, u.path, u.size, coalesce(u.sha256, decode(i.sha256, 'base64')) AS sha256,
        u.content_type, u.part_size, u.modified_at,
        u.executable, u.event_id AS earlier_event_id, coalesce(f.id, way.id) AS current_file_id,
        coalesce(f.version, way.version) AS current_version, s.bytes, coalesce(s.max_bytes, $7) AS max_bytes,
        CASE
            WHEN u.state = 'aborted' OR u.state = 'pending' AND u.expires_at <= $6 THEN 'expired'
            WHEN u.state = 'pending' AND m.role = 'viewer' THEN 'forbidden'
            WHEN u.sha256 <> decode(i.sha256, 'base64') THEN 'sha256_conflict'
            WHEN u.state = 'completed' THEN 'already'
            WHEN u.sha256 IS NULL AND i.sha256 IS NULL THEN 'sha256_missing'
            WHEN u.base_version <> coalesce(f.version, 0) THEN 'version_conflict'
            WHEN u.base_file_id IS NOT NULL AND u.base_file_id IS DISTINCT FROM f.id THEN 'version_conflict'
            WHEN way.id IS NOT NULL THEN 'path_taken'
        END AS refusal
    FROM json_to_recordset($5::text::json) AS i (
        item bigint, upload_id uuid, new_file_id uuid, object_key text, sha256 text, composite_sha256 text
    )
    JOIN uploads u ON u.id = i.upload_id AND u.user_id = $4
    JOIN spaces s ON s.id = u.space_id
    JOIN active_members m ON m.space_id = u.space_id AND m.user_id = $4
    LEFT JOIN LATERAL (
        SELECT id, version
        FROM files
        WHERE space_id = u.space_id AND path = u.path AND deleted_at IS NULL
        LIMIT 1
    ) f ON true
    LEFT JOIN LATERAL ",
    in_the_way!("u.space_id", "u.path", "i.new_file_id"),
    " way ON f.id IS NULL AND coalesce(u.base_version, 0) = 0 AND u.base_file_id IS NULL
    WHERE ",
    locked!("u.space_id"),
    "
), fitting AS (
    SELECT item, bytes + coalesce(sum_within(size, max_bytes - bytes) OVER (
            ORDER BY item
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ), 0) AS bytes_used
    FROM wanted
    WHERE refusal IS NULL
), target AS (
    SELECT w.*, coalesce(fitting.bytes_used, w.bytes) AS bytes_used,
        coalesce(refusal, CASE WHEN fitting.bytes_used + w.size <= w.max_bytes THEN 'allowed' ELSE 'space_bytes' END) AS outcome
    FROM wanted w
    LEFT JOIN fitting ON fitting.item = w.item
), completing AS (
    SELECT *, coalesce(current_file_id, new_file_id) AS file_id, coalesce(current_version, 0) + 1 AS version
    FROM target
    WHERE outcome = 'allowed'
), created AS (
    INSERT INTO files (id, space_id, path, version, created_at)
    SELECT file_id, space_id, path, version, $2
    FROM completing
    WHERE current_file_id IS NULL
), updated AS (
    UPDATE files f
    SET version = c.version
    FROM completing c
    WHERE f.id = c.current_file_id
), added AS (
    INSERT INTO versions
        (file_id, version, size, sha256, part_size, composite_sha256, object_key, content_type, modified_at, executable,
        user_id, device_id, created_at)
    SELECT file_id, version, size, sha256, CASE WHEN composite_sha256 IS NOT NULL THEN part_size END, composite_sha256,
        object_key, content_type, modified_at, executable, user_id, device_id, $2
    FROM completing
), completed AS (
    UPDATE uploads u
    SET state = 'completed', event_id = ($1::uuid[])[c.item], sha256 = c.sha256
    FROM completing c
    WHERE u.id = c.id
), changed AS (
    SELECT space_id, 'FILE_UPDATED' AS event_type, file_id, path, version, size, sha256, modified_at, executable, device_id, ",
    no_space!(),
    ", item AS position
    FROM completing
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
    /// Opens uploads, and returns the result of each in the same order. Creates the user's personal space if an
    /// upload goes there and it does not exist. If the same request with the same key opened an upload before,
    /// returns that one.
    pub async fn open_uploads(
        &self,
        uploads: &[NewUpload<'_>],
        opening: Opening<'_>,
    ) -> Result<Vec<Result<OpenUpload, Rejection>>, Error> {
        let mut decided: Vec<_> = uploads.iter().map(|_| None).collect();
        for _ in 0..OPEN_ATTEMPTS {
            let undecided = decided
                .iter()
                .enumerate()
                .filter(|(_, decision)| decision.is_none());
            let undecided: Vec<usize> = undecided.map(|(index, _)| index).collect();
            if undecided.is_empty() {
                break;
            }
            let mut has_no_space = false;
            let attempts = self.try_open_uploads(uploads, &undecided, opening).await?;
            for (index, attempt) in undecided.into_iter().zip(attempts) {
                decided[index] = match attempt {
                    Attempt::Decided(decision) => Some(decision),
                    Attempt::NoSpace if uploads[index].space_id.is_some() => Some(Err(Rejection::NotFound)),
                    Attempt::NoSpace => {
                        has_no_space = true;
                        None
                    }
                    Attempt::Overtaken => None,
                };
            }
            if has_no_space {
                self.create_personal_space(opening.new_space_id, opening.caller, opening.created_at)
                    .await?;
            }
        }
        let decided: Option<Vec<_>> = decided.into_iter().collect();
        decided.ok_or(Error::Contended("open_uploads"))
    }

    async fn try_open_uploads(
        &self,
        uploads: &[NewUpload<'_>],
        wanted: &[usize],
        opening: Opening<'_>,
    ) -> Result<Vec<Attempt>, Error> {
        let items = items(wanted.iter().map(|index| {
            let new = &uploads[*index];
            OpeningItem {
                id: new.id.into(),
                space_id: new.space_id.map(Uuid::from),
                device_id: new.device_id.map(Uuid::from),
                path: new.path.as_str(),
                size: new.size.get(),
                sha256: new.sha256,
                content_type: new.content_type.map(ContentType::as_str),
                base_version: new.base_version.map(Version::get),
                base_file_id: new.base_file_id.map(Uuid::from),
                part_size: new.part_size.map(ByteCount::get),
                key: new.key.map(|(key, _)| key.as_str()),
                request_hash: new.key.map(|(_, hash)| hash.into()),
                expires_at: new.expires_at,
                modified_at: new.modified_at.map(ModifiedAt::get),
                executable: new.executable,
            }
        }))?;
        let user_id = opening.caller.user_id.as_str();
        let rows = self
            .query_locked(
                (&LOCK_CALLER, &[&user_id]),
                (
                    &OPEN_UPLOADS,
                    &[
                        &user_id,
                        &epoch(opening.caller),
                        &opening.created_at,
                        &items,
                        &opening.max_pending_uploads,
                        &opening.max_space_bytes,
                    ],
                ),
            )
            .await?;
        let mut attempts: Vec<Attempt> = wanted.iter().map(|_| Attempt::NoSpace).collect();
        for row in &rows {
            let position = position(row)?;
            if let Some((attempt, index)) = attempts.get_mut(position).zip(wanted.get(position)) {
                *attempt = opened(row, &uploads[*index])?;
            }
        }
        Ok(attempts)
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
        Ok(self.load_uploads(&[id], caller).await?.remove(&id))
    }

    /// Reads uploads. Those that do not exist, were opened by another user, or are in a space that the user is
    /// not a member of, are left out.
    pub async fn load_uploads(
        &self,
        ids: &[UploadId],
        caller: &Caller,
    ) -> Result<HashMap<UploadId, Upload>, Error> {
        let ids: Vec<Uuid> = ids.iter().copied().map(Uuid::from).collect();
        let rows = self
            .rows(&LOAD_UPLOADS, &[&ids, &caller.user_id.as_str(), &epoch(caller)])
            .await?;
        rows.iter()
            .map(|row| Ok((get::<Uuid>(row, "upload_id")?.into(), upload(row)?)))
            .collect()
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

    /// Makes the content of uploads to one space the next version of the file at their path, or the first
    /// version of a new file, in one transaction. Returns the result of each in the same order. The changes
    /// have consecutive numbers.
    pub async fn complete_uploads(
        &self,
        space_id: SpaceId,
        uploads: &[Completing<'_>],
        max_space_bytes: i64,
        commit: Commit<'_>,
    ) -> Result<Vec<Result<Effect, Rejection>>, Error> {
        within_rate(uploads, async |uploads| {
            self.try_complete_uploads(space_id, uploads, max_space_bytes, commit)
                .await
        })
        .await
    }

    async fn try_complete_uploads(
        &self,
        space_id: SpaceId,
        uploads: &[Completing<'_>],
        max_space_bytes: i64,
        commit: Commit<'_>,
    ) -> Result<Vec<Result<Effect, Rejection>>, Error> {
        let (rounds, user_id) = (rounds(uploads), commit.caller.user_id.as_str());
        let expired = commit.now - IN_FLIGHT;
        let mut bound = Vec::with_capacity(rounds.len());
        for round in &rounds {
            let event_ids: Vec<Uuid> = round
                .iter()
                .map(|index| uploads[*index].event_id.into())
                .collect();
            let items = items(round.iter().map(|index| {
                let completing = &uploads[*index];
                CompletingItem {
                    upload_id: completing.upload_id.into(),
                    new_file_id: completing.new_file_id.into(),
                    object_key: completing.object_key,
                    sha256: completing.sha256,
                    composite_sha256: completing.composite_sha256,
                }
            }))?;
            bound.push((event_ids, items));
        }
        let parameters: Vec<[&(dyn ToSql + Sync); 7]> = bound
            .iter()
            .map(|(event_ids, items)| -> [&(dyn ToSql + Sync); 7] {
                [
                    event_ids,
                    &commit.now,
                    &commit.leased_until,
                    &user_id,
                    items,
                    &expired,
                    &max_space_bytes,
                ]
            })
            .collect();
        let statements: Vec<Statement<'_>> = parameters
            .iter()
            .map(|parameters| -> Statement<'_> { (&COMPLETE_UPLOADS, parameters) })
            .collect();
        let Locked { rows, .. } = self
            .queries_in_space(
                commit.caller,
                commit.rate(uploads.len()),
                (&LOCK_SPACE, &[&Uuid::from(space_id)]),
                &statements,
            )
            .await?;
        let mut results: Vec<_> = uploads.iter().map(|_| Err(Rejection::NotFound)).collect();
        for (round, rows) in rounds.iter().zip(rows) {
            for row in &rows {
                if let Some(index) = round.get(position(row)?) {
                    results[*index] = completed(row, uploads[*index].event_id)?;
                }
            }
        }
        Ok(results)
    }

    /// Aborts an upload, and returns S3's id of its multipart upload if it has one. Aborting again returns
    /// the same.
    pub async fn abort_upload(
        &self,
        id: UploadId,
        caller: &Caller,
    ) -> Result<Result<Option<String>, Rejection>, Error> {
        let (id, user_id) = (Uuid::from(id), caller.user_id.as_str());
        let rows = self
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

/// An upload to open, as the statement reads it.
#[derive(Serialize)]
struct OpeningItem<'a> {
    id: Uuid,
    space_id: Option<Uuid>,
    device_id: Option<Uuid>,
    path: &'a str,
    size: i64,
    sha256: Option<Sha256>,
    content_type: Option<&'a str>,
    base_version: Option<i64>,
    base_file_id: Option<Uuid>,
    part_size: Option<i64>,
    key: Option<&'a str>,
    request_hash: Option<Sha256>,
    #[serde(with = "rfc3339")]
    expires_at: OffsetDateTime,
    #[serde(with = "rfc3339::option")]
    modified_at: Option<OffsetDateTime>,
    executable: Option<bool>,
}

/// An upload to complete, as the statement reads it.
#[derive(Serialize)]
struct CompletingItem<'a> {
    upload_id: Uuid,
    new_file_id: Uuid,
    object_key: &'a str,
    sha256: Option<Sha256>,
    composite_sha256: Option<Sha256>,
}

/// The result of one attempt to open an upload.
enum Attempt {
    Decided(Result<OpenUpload, Rejection>),
    /// The space does not exist, or the user is not a member of it.
    NoSpace,
    /// A concurrent request with the same key was faster.
    Overtaken,
}

fn opened(row: &Row, new: &NewUpload<'_>) -> Result<Attempt, Error> {
    if get::<&str>(row, "outcome")? == "pending_uploads" {
        let limit = Limit {
            name: LimitName::PendingUploads,
            maximum: get(row, "max_pending")?,
            used: get(row, "pending_used")?,
            retry_after: Some(PENDING_RETRY),
        };
        return Ok(Attempt::Decided(Err(Rejection::LimitExceeded(limit))));
    }
    if let Err(refusal) = limited(row)? {
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

/// The result of completing an upload. A statement that was repeated may find its own change.
fn completed(row: &Row, event_id: EventId) -> Result<Result<Effect, Rejection>, Error> {
    Ok(match limited(row)? {
        Ok(_) => {
            let event = event(row)?;
            Ok(if event.event_id == event_id {
                Effect::Applied(vec![event])
            } else {
                Effect::AlreadyApplied(Box::new(event))
            })
        }
        Err(refusal) => Err(refusal),
    })
}

/// The outcome of a statement that compares the bytes of a space with their limit.
fn limited(row: &Row) -> Result<Result<Outcome, Rejection>, Error> {
    if get::<&str>(row, "outcome")? != "space_bytes" {
        return outcome(row);
    }
    Ok(Err(Rejection::LimitExceeded(Limit {
        name: LimitName::SpaceBytes,
        maximum: get(row, "max_bytes")?,
        used: get(row, "bytes_used")?,
        retry_after: None,
    })))
}

/// Divides uploads into rounds, as their indices. The paths of a round do not exclude each other: none is
/// another one or one of its folders. The rounds keep the order of the list, since changes are numbered in it.
fn rounds(uploads: &[Completing<'_>]) -> Vec<Vec<usize>> {
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for (index, upload) in uploads.iter().enumerate() {
        let excludes = |other: &usize| uploads[*other].path.excludes(upload.path);
        match rounds.last_mut() {
            Some(round) if !round.iter().any(excludes) => round.push(index),
            _ => rounds.push(vec![index]),
        }
    }
    rounds
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
        sha256: parse_opt::<&[u8], Sha256>(row, "upload_sha256")?,
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
