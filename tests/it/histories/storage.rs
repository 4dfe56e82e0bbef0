//! Compares storage, the rows of files and uploads, sockets and counters with the model.

use std::collections::BTreeSet;

use ::model::{FileId, UploadId};
use maintenance::UPLOAD_GRACE;
use time::Duration;
use uuid::Uuid;

use super::model::{Standing, UploadState};
use super::{History, Share};

/// Counters that differ from the rows that they count, as "name of row: counter, number of rows".
const MISCOUNTED: &str = "WITH counted AS (
    SELECT 'bytes of space ' || s.id AS counter, s.bytes AS value, (
        SELECT coalesce(sum(size), 0)
        FROM (
            SELECT DISTINCT v.object_key, v.size FROM versions v JOIN files f ON f.id = v.file_id WHERE f.space_id = s.id
        ) objects
    ) AS rows
    FROM spaces s
    UNION ALL
    SELECT 'members of space ' || s.id, s.member_count, (SELECT count(*) FROM members m WHERE m.space_id = s.id)
    FROM spaces s
    UNION ALL
    SELECT 'changes of space ' || s.id, s.last_sequence, (SELECT count(*) FROM changes c WHERE c.space_id = s.id)
    FROM spaces s
    UNION ALL
    SELECT 'memberships of user ' || p.owner_id, p.memberships, (
        SELECT count(*)
        FROM members m
        JOIN spaces s ON s.id = m.space_id
        WHERE m.user_id = p.owner_id AND s.kind = 'shared'
    )
    FROM spaces p
    -- That of a user who has erased the account is nobody's.
    WHERE p.kind = 'personal' AND p.deleted_at IS NULL
    UNION ALL
    SELECT 'pending uploads of user ' || u.user_id, u.pending_uploads,
        (SELECT count(*) FROM uploads o WHERE o.user_id = u.user_id AND o.state = 'pending')
    FROM users u
    -- The row of a user who has erased the account is no longer counted in, and is deleted soon.
    WHERE u.erased_at IS NULL
)
SELECT counter || ': ' || value || ', ' || rows FROM counted WHERE value <> rows";

/// What storage and the WebSocket API had before a history.
pub(super) struct Earlier {
    objects: BTreeSet<String>,
    closed: usize,
}

impl Earlier {
    pub(super) fn of(share: &Share) -> Self {
        Self {
            objects: share.s3.objects().into_keys().collect(),
            closed: share.apps.gateway.closed().len(),
        }
    }
}

impl History<'_> {
    /// Storage and rows are as the model says, so also: each version has its object, and each object has its
    /// row.
    pub(super) async fn check_storage(&self) {
        let database = &self.share.apps.database;
        let keys = |uploads: &mut dyn Iterator<Item = UploadId>| -> BTreeSet<String> {
            uploads.map(UploadId::object_key).collect()
        };
        let stored: BTreeSet<String> = self.share.s3.objects().into_keys().collect();
        let stored: BTreeSet<String> = stored.difference(&self.earlier.objects).cloned().collect();
        assert_eq!(stored, keys(&mut self.world.objects.iter().copied()));

        let rows = database
            .rows("SELECT file_id, version, object_key FROM versions")
            .await;
        let seen: BTreeSet<(FileId, i64, String)> = (rows.iter())
            .map(|row| (row.get::<_, Uuid>(0).into(), row.get(1), row.get(2)))
            .collect();
        let files = self.world.spaces.iter().flat_map(|space| &space.files);
        let versions = files.flat_map(|(id, file)| {
            let versions = file.versions.iter();
            versions.map(|(number, version)| (*id, *number, version.object.object_key()))
        });
        assert_eq!(seen, versions.collect());
        for (_, _, key) in &seen {
            assert!(stored.contains(key), "{key} has a version and no object");
        }

        let rows = database.rows("SELECT id, state FROM uploads").await;
        let seen: BTreeSet<(UploadId, String)> = (rows.iter())
            .map(|row| (row.get::<_, Uuid>(0).into(), row.get(1)))
            .collect();
        let uploads = self.world.uploads.iter().filter_map(|it| {
            let state = match it.state {
                UploadState::Pending => "pending",
                UploadState::Completed => "completed",
                UploadState::Aborted => "aborted",
                UploadState::Gone => return None,
            };
            Some((it.id, state.to_owned()))
        });
        assert_eq!(seen, uploads.collect());
        self.check_rows().await;
    }

    async fn check_rows(&self) {
        let database = &self.share.apps.database;
        let miscounted = database.rows(MISCOUNTED).await;
        let miscounted: Vec<String> = miscounted.iter().map(|row| row.get(0)).collect();
        assert!(miscounted.is_empty(), "{miscounted:?}");

        let rows = database.rows("SELECT id FROM spaces").await;
        let seen: BTreeSet<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        let spaces = self.world.spaces.iter().filter(|space| !space.gone);
        assert_eq!(seen, spaces.map(|space| space.id.into()).collect());

        let rows = database.rows("SELECT user_id FROM users").await;
        let seen: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
        let users = self
            .world
            .users
            .iter()
            .enumerate()
            .filter(|(_, user)| matches!(user.standing, Standing::Known | Standing::Erased(_)));
        assert_eq!(seen, users.map(|(user, _)| self.world.name(user)).collect());

        let rows = database.rows("SELECT connection_id FROM connections").await;
        let seen: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(seen, self.world.connections.keys().cloned().collect());
        let closed = self.share.apps.gateway.closed().split_off(self.earlier.closed);
        assert_eq!(closed.into_iter().collect::<BTreeSet<_>>(), self.world.closed);
    }

    /// When nothing can arrive any more, storage has the objects of versions and no others.
    pub(super) async fn check_what_stays(&mut self) {
        let clock = &self.share.apps.clock;
        clock.advance(uploads::MULTIPART_LIFETIME + UPLOAD_GRACE + Duration::MINUTE);
        self.maintain().await;
        self.check_storage().await;
        let versions = self.world.spaces.iter().flat_map(|space| space.files.values());
        let versions = versions.flat_map(|file| file.versions.values());
        assert_eq!(
            self.world.objects,
            versions.map(|version| version.object).collect()
        );
    }
}
