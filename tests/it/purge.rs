//! Purging what is past its time: when, in which order, at any kill, and how much at once.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration as StdDuration;

use fakes::http::Fault;
use fakes::s3::S3;
use maintenance::{PURGED_ROWS, UPLOAD_GRACE};
use model::{FileChanged, FileId, SpaceId};
use serde_json::json;
use tests::{Call, Counted, TestContext, TestStorage, raw_http, storage_that_answers, upload_body};
use time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::histories::die_after;
use crate::trash::MISCOUNTED;

/// Rows that are marked and not deleted yet.
const MARKED: &str = "SELECT (SELECT count(*) FROM files WHERE purge_at IS NOT NULL)
    + (SELECT count(*) FROM versions WHERE purge_at IS NOT NULL)";

/// Functions with storage of their own, whose objects the test sees.
struct Scenario {
    apps: TestContext,
    s3: S3,
}

impl Scenario {
    async fn new() -> Self {
        let s3 = S3::start(None, "content", || Fault::None).await.unwrap();
        let sdk = ::stack::emulator::aws_config(&s3.endpoint()).unwrap();
        let storage = TestStorage {
            s3: aws_sdk_s3::Client::new(&sdk),
            bucket: "content".to_owned(),
        };
        Self {
            apps: TestContext::on(storage).await,
            s3,
        }
    }

    fn objects(&self) -> BTreeSet<String> {
        self.s3.objects().into_keys().collect()
    }

    async fn named(&self, condition: &str) -> BTreeSet<String> {
        let sql =
            format!("SELECT v.object_key FROM versions v JOIN files f ON f.id = v.file_id WHERE {condition}");
        let rows = self.apps.database.rows(&sql).await;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// What holds at every moment: counters are right, and what can be seen has its object.
    async fn check(&self) {
        assert_eq!(self.apps.database.number(MISCOUNTED).await, 0);
        let seen = self.named("v.purge_at IS NULL AND f.purge_at IS NULL").await;
        let objects = self.objects();
        assert!(seen.is_subset(&objects), "{seen:?} of {objects:?}");
    }

    /// What holds after a run that was not killed: also, no object is without a row, and nothing is marked.
    async fn check_purged(&self) {
        self.check().await;
        assert_eq!(self.objects(), self.named("true").await);
        assert_eq!(self.apps.database.number(MARKED).await, 0);
    }

    async fn run(&self) -> usize {
        self.apps.run_maintenance().await.unwrap().purged
    }

    async fn upload(&self, user: &str, path: &str, content: &[u8]) -> FileId {
        self.apps.upload(user, path, content).await.file_id
    }

    async fn delete(&self, user: &str, id: FileId) {
        let call = Call::new("DELETE /files/{fileId}").path("fileId", id);
        assert_eq!(self.apps.call(user, call).await.status, 200);
    }

    async fn erase(&self, user: &str, id: FileId) {
        let call = Call::new("DELETE /files/{fileId}").path("fileId", id);
        let answer = self.apps.call(user, call.query("permanently", "true")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    async fn restore_version(&self, user: &str, id: FileId, version: i64) -> i64 {
        let call = Call::new("POST /files/{fileId}/versions/{version}/restore");
        let call = call.path("fileId", id).path("version", version);
        self.apps.call(user, call.body(json!({}))).await.status
    }

    /// A space with one file, deleted now.
    async fn deleted_space(&self) -> SpaceId {
        let space = self.apps.space("alice").await;
        let mut body = upload_body("/a", b"gone");
        body["spaceId"] = json!(space);
        let uploaded: FileChanged = self.apps.upload_as("alice", &body, b"gone").await.parsed();
        assert_eq!(uploaded.space_id, space);
        let now = self.apps.clock.now();
        let sql = "UPDATE spaces SET deleted_at = $1, deleted_by = 'alice' WHERE id = $2";
        let client = self.apps.database.another_client().await;
        client
            .execute(sql, &[&now, &uuid::Uuid::from(space)])
            .await
            .unwrap();
        space
    }

    async fn count(&self, table: &str) -> i64 {
        self.apps
            .database
            .number(&format!("SELECT count(*) FROM {table}"))
            .await
    }
}

#[tokio::test]
async fn a_deleted_file_is_purged_when_its_time_is_over_and_not_before() {
    let scenario = Scenario::new().await;
    let id = scenario.upload("alice", "/a", b"one").await;
    scenario.upload("alice", "/a", b"two!").await;
    scenario.upload("alice", "/kept", b"kept").await;
    scenario.delete("alice", id).await;
    scenario
        .apps
        .clock
        .advance(Duration::days(30) - Duration::milliseconds(1));
    assert_eq!(scenario.run().await, 0);
    assert_eq!(scenario.objects().len(), 3);
    scenario.apps.clock.advance(Duration::milliseconds(1));
    let counted = Counted::default();
    let recording = counted.begin();
    assert_eq!(scenario.run().await, 2);
    drop(recording);
    assert_eq!(
        (counted.take("ObjectsPurged"), counted.take("BytesPurged")),
        (Some(2), Some(7))
    );
    scenario.check_purged().await;
    assert_eq!(
        (scenario.count("files").await, scenario.count("uploads").await),
        (1, 1)
    );
    let bytes = "SELECT sum(bytes)::bigint FROM spaces";
    assert_eq!(scenario.apps.database.number(bytes).await, 4);
    // The feed keeps the changes.
    assert_eq!(scenario.apps.feed("alice", None).await.changes.len(), 4);
    assert_eq!(scenario.run().await, 0);
}

#[tokio::test]
async fn old_versions_are_purged_by_age_and_by_number_but_never_the_newest() {
    let mut scenario = Scenario::new().await;
    let by_age = scenario.upload("alice", "/age", b"1").await;
    scenario.apps.clock.advance(Duration::days(1));
    scenario.upload("alice", "/age", b"2").await;
    let old = scenario.upload("alice", "/old", b"never replaced").await;
    scenario
        .apps
        .clock
        .advance(Duration::days(180) - Duration::milliseconds(1));
    assert_eq!(scenario.run().await, 0);
    scenario.apps.clock.advance(Duration::milliseconds(1));
    assert_eq!(scenario.run().await, 1);
    assert_eq!(scenario.restore_version("alice", by_age, 1).await, 404);
    assert_eq!(scenario.restore_version("alice", old, 1).await, 200);
    scenario.check_purged().await;

    scenario.apps.retention.versions = 3.try_into().unwrap();
    for i in 3..=5 {
        scenario.upload("alice", "/age", &[b'x'; 10][..i]).await;
    }
    // Version 5 and three older ones.
    assert_eq!(scenario.run().await, 0);
    for _ in 0..3 {
        scenario.upload("alice", "/age", b"6 to 8").await;
    }
    assert_eq!(scenario.run().await, 3);
    let left =
        "SELECT min(version) FROM versions WHERE file_id IN (SELECT id FROM files WHERE path = '/age')";
    assert_eq!(scenario.apps.database.number(left).await, 5);
    scenario.check_purged().await;
    scenario.apps.retention.versions = 0.try_into().unwrap();
    assert_eq!(scenario.run().await, 3);
    assert_eq!(scenario.count("versions").await, 2);
    scenario.check_purged().await;
}

#[tokio::test]
async fn the_object_of_a_purged_version_stays_while_a_restored_one_names_it() {
    let mut scenario = Scenario::new().await;
    scenario.apps.retention.versions = 1.try_into().unwrap();
    let id = scenario.upload("alice", "/a", b"one").await;
    scenario.upload("alice", "/a", b"two!").await;
    assert_eq!(scenario.restore_version("alice", id, 1).await, 200);
    // Version 1 goes; version 3 names its object.
    assert_eq!(scenario.run().await, 1);
    assert_eq!(scenario.objects().len(), 2);
    scenario.check_purged().await;
    scenario.upload("alice", "/a", b"four4").await;
    assert_eq!(scenario.run().await, 1);
    scenario.check_purged().await;
    scenario.upload("alice", "/a", b"five55").await;
    assert_eq!(scenario.run().await, 1);
    assert_eq!(scenario.objects().len(), 2);
    scenario.check_purged().await;
    let bytes = "SELECT sum(bytes)::bigint FROM spaces";
    assert_eq!(scenario.apps.database.number(bytes).await, 11);
}

#[tokio::test]
async fn what_is_marked_cannot_be_restored_and_what_is_restored_before_is_kept() {
    let scenario = Scenario::new().await;
    let id = scenario.upload("alice", "/a", b"one").await;
    scenario.upload("alice", "/a", b"two").await;
    let binned = scenario.upload("alice", "/b", b"binned").await;
    scenario.delete("alice", binned).await;
    scenario.apps.clock.advance(Duration::days(200));
    let now = scenario.apps.clock.now();
    let environment = scenario.apps.database.environment();
    // A run is killed after marking.
    assert_eq!(environment.mark_replaced_versions(now, now, 10).await.unwrap(), 1);
    assert_eq!(environment.mark_trash(now, now, 10).await.unwrap(), 1);
    assert_eq!(scenario.restore_version("alice", id, 1).await, 404);
    let restore = Call::new("POST /files/{fileId}/restore").path("fileId", binned);
    let answer = scenario.apps.call("alice", restore.body(json!({}))).await;
    assert_eq!(answer.problem(), (404, "not-found"));
    let trash = Call::new("GET /files").query("deleted", "true");
    assert_eq!(scenario.apps.call("alice", trash).await.body["files"], json!([]));
    assert_eq!(scenario.run().await, 2);
    scenario.check_purged().await;

    // Version 2 is restored before it is marked: the object stays for version 4.
    scenario.upload("alice", "/a", b"three").await;
    assert_eq!(scenario.restore_version("alice", id, 2).await, 200);
    scenario.apps.clock.advance(Duration::days(180));
    assert_eq!(scenario.run().await, 2);
    scenario.check_purged().await;
    let content = Call::new("GET /files/{fileId}/content").path("fileId", id);
    assert_eq!(scenario.apps.call("alice", content).await.status, 307);
    assert_eq!(scenario.named("v.version = 4").await.len(), 1);
}

/// Runs a future, and sends a message when it has been polled this many times or is done.
async fn at_poll<T>(polls: usize, message: oneshot::Sender<()>, future: impl Future<Output = T>) -> T {
    let (mut future, mut message, mut polled) = (pin!(future), Some(message), 0);
    poll_fn(|context| {
        let polling = future.as_mut().poll(context);
        polled += 1;
        if polled > polls || polling.is_ready() {
            message.take().map(|message| message.send(()));
        }
        polling
    })
    .await
}

#[tokio::test]
async fn a_version_that_is_restored_while_it_is_purged_is_kept_or_gone() {
    let scenario = Scenario::new().await;
    let mut kept = 0;
    for round in 0..16 {
        let path = format!("/{round}");
        let id = scenario.upload("alice", &path, b"one").await;
        scenario.upload("alice", &path, b"two").await;
        scenario.apps.clock.advance(Duration::days(180));
        // The request arrives at another moment of the run in each round: before it in the first one, and after it in the
        // last one.
        let early = if round == 0 {
            Some(scenario.restore_version("alice", id, 1).await)
        } else {
            None
        };
        let (arrive, arrives) = oneshot::channel();
        let polls = if round == 15 { usize::MAX } else { round * 5 };
        let run = at_poll(polls, arrive, scenario.apps.run_maintenance());
        let restoring = async {
            let _ = arrives.await;
            match early {
                Some(status) => status,
                None => scenario.restore_version("alice", id, 1).await,
            }
        };
        let (restored, run, again) = tokio::join!(restoring, run, scenario.apps.run_maintenance());
        assert!(run.is_ok() && again.is_ok());
        scenario.check().await;
        // Marking skips spaces that a command has locked, and leaves them to the next run.
        scenario.run().await;
        scenario.check_purged().await;
        let object = scenario.named(&format!("f.path = '{path}'")).await;
        match restored {
            200 => {
                kept += 1;
                assert_eq!(object.len(), 2);
            }
            404 => assert_eq!(object.len(), 1),
            other => panic!("{other}"),
        }
    }
    tests::report(&format!(
        "{kept} of 16 versions were restored before they were marked"
    ));
}

#[tokio::test]
async fn a_deleted_space_goes_with_its_feed_and_members_and_others_stay() {
    let scenario = Scenario::new().await;
    let space = scenario.deleted_space().await;
    let restored = scenario.deleted_space().await;
    let pending = {
        let id = uuid::Uuid::from(space);
        format!(
            "UPDATE uploads SET space_id = '{id}' WHERE state = 'pending';
            INSERT INTO changes (space_id, sequence, event_id, event_type, user_id, member_id, occurred_at)
                SELECT '{id}', 100 + i, gen_random_uuid(), 'MEMBER_REMOVED', 'alice', 'bob', now()
                FROM generate_series(1, 1000) i;
            INSERT INTO outbox SELECT event_id, now(), now() + interval '9 years' FROM changes
                WHERE sequence > 900 AND space_id = '{id}';
            INSERT INTO members SELECT '{id}', 'member-' || i, 'viewer', now() FROM generate_series(1, 500) i"
        )
    };
    scenario.apps.opened("alice", "/pending", b"x").await;
    scenario.apps.database.execute(&pending).await;
    scenario.apps.clock.advance(Duration::days(30));
    // The pending upload is aborted and freed, but the space stays for the grace of restoring.
    let report = scenario.apps.run_maintenance().await.unwrap();
    assert_eq!((report.aborted, report.freed, report.purged), (1, 1, 0));
    assert_eq!(
        scenario.count(&format!("files WHERE space_id = '{space}'")).await,
        1
    );
    let undelete = format!("UPDATE spaces SET deleted_at = NULL WHERE id = '{restored}'");
    scenario.apps.database.execute(&undelete).await;
    scenario.apps.clock.advance(db::PURGE_GRACE);
    assert_eq!(scenario.run().await, 1);
    scenario.check_purged().await;
    let of = |table: &str| format!("{table} WHERE space_id = '{space}'");
    for table in ["files", "uploads", "changes", "members"] {
        assert_eq!(scenario.count(&of(table)).await, 0, "{table}");
    }
    assert_eq!(scenario.count("outbox").await, 0);
    assert_eq!(scenario.count(&format!("spaces WHERE id = '{space}'")).await, 0);
    // The personal feed keeps that the space was shared, and the restored space keeps its file.
    assert_eq!(
        scenario.count("changes WHERE event_type = 'SPACE_SHARED'").await,
        2
    );
    assert_eq!(scenario.apps.feed("alice", Some(restored)).await.changes.len(), 1);
    assert_eq!(
        scenario
            .count(&format!("files WHERE space_id = '{restored}'"))
            .await,
        1
    );
}

/// A client that was slow, or repeats its PUT, puts the content of an erased file into storage again.
#[tokio::test]
async fn content_that_arrives_after_its_file_is_purged_is_freed_too() {
    let scenario = Scenario::new().await;
    let created = scenario.apps.put("alice", "/a", b"late").await;
    assert_eq!(scenario.apps.complete("alice", &created).await.status, 200);
    let files = scenario.apps.database.rows("SELECT id FROM files").await;
    let id: uuid::Uuid = files[0].get(0);
    scenario.erase("alice", id.into()).await;
    assert_eq!(scenario.run().await, 1);
    assert!(scenario.objects().is_empty());
    let again = scenario.apps.complete("alice", &created).await;
    assert_eq!(again.problem(), (410, "upload-expired"));
    scenario.apps.send(&created, b"late").await;
    assert_eq!(scenario.objects().len(), 1);
    scenario.apps.clock.advance(uploads::PUT_LIFETIME + UPLOAD_GRACE);
    assert_eq!(scenario.apps.run_maintenance().await.unwrap().freed, 1);
    scenario.check_purged().await;
    assert_eq!(scenario.count("uploads").await, 0);
}

/// The content arrives again after the object was deleted and before the row is, while its URL becomes invalid.
#[tokio::test]
async fn content_that_arrives_while_its_file_is_purged_is_freed_too() {
    let scenario = Scenario::new().await;
    let id = scenario.upload("alice", "/a", b"late").await;
    scenario.erase("alice", id).await;
    let clock = scenario.apps.clock.clone();
    clock.advance(uploads::PUT_LIFETIME + UPLOAD_GRACE - Duration::seconds(1));
    let mut app = scenario.apps.maintenance();
    // It deletes nothing from the real storage, as if the content arrived again right after.
    app.storage = storage_that_answers(&scenario.apps.storage, move |_, _| {
        clock.advance(Duration::minutes(1));
        (200, "")
    })
    .await;
    let run = maintenance::handle(&app, Instant::now() + StdDuration::from_secs(20)).await;
    assert_eq!(run.unwrap().purged, 1);
    assert_eq!(scenario.objects().len(), 1);
    assert_eq!(scenario.run().await, 0);
    scenario.check_purged().await;
    assert_eq!(scenario.count("uploads").await, 0);
}

#[tokio::test]
async fn an_object_that_storage_does_not_delete_keeps_no_other_waiting_and_is_told() {
    let scenario = Scenario::new().await;
    for i in 0..40 {
        let id = scenario.upload("alice", &format!("/{i}"), b"x").await;
        scenario.erase("alice", id).await;
    }
    let kept = scenario.objects().pop_first().unwrap();
    let id = kept.strip_prefix("objects/").unwrap().to_owned();
    let mut app = scenario.apps.maintenance();
    app.storage = storage_that_answers(&scenario.apps.storage, move |_, target| {
        if target.contains(&id) {
            (403, "AccessDenied")
        } else {
            (200, "")
        }
    })
    .await;
    let run = maintenance::handle(&app, Instant::now() + StdDuration::from_secs(20)).await;
    assert_eq!(run.unwrap_err().to_string(), r#"unfinished: ["purging"]"#);
    assert_eq!(scenario.named("true").await, [kept].into());
    assert_eq!(scenario.count("files").await, 1);
    assert_eq!(scenario.apps.database.number(MISCOUNTED).await, 0);
    assert_eq!(scenario.run().await, 1);
    assert_eq!(scenario.count("files").await, 0);
}

#[tokio::test]
async fn two_runs_at_once_purge_everything_once() {
    let scenario = Scenario::new().await;
    for i in 0..40 {
        let id = scenario.upload("alice", &format!("/{i}"), b"x").await;
        scenario.erase("alice", id).await;
    }
    let (one, other) = tokio::join!(scenario.apps.run_maintenance(), scenario.apps.run_maintenance());
    assert_eq!(one.unwrap().purged + other.unwrap().purged, 40);
    scenario.check_purged().await;
    assert!(scenario.objects().is_empty());
}

impl Scenario {
    /// Adds, past their times: a file whose first version is surplus and shares its object with the third, a
    /// deleted file, an erased file, and a deleted space with a file.
    async fn prepare(&self) {
        let add = |sql: &str| format!("INSERT INTO {sql};");
        let file = |name: &str, space: &str, more: &str| {
            add(&format!(
                "files (id, space_id, path, version, created_at, deleted_at, purge_at)
                SELECT gen_random_uuid(), id, '/{name}' || gen_random_uuid(), {more} FROM spaces WHERE {space}"
            ))
        };
        let (mine, gone) = ("owner_id = 'alice'", "name = 'Gone'");
        let past = "'2020-01-01'";
        let sql = [
            add(&format!(
                "spaces (id, kind, name, last_sequence, created_at, deleted_at)
                VALUES (gen_random_uuid(), 'shared', 'Gone', 2, {past}, {past})"
            )),
            add(&format!(
                "members SELECT id, 'alice', 'owner', {past} FROM spaces WHERE {gone}"
            )),
            file("replaced", mine, "4, now(), NULL, NULL"),
            file("binned", mine, &format!("1, now(), {past}, NULL")),
            file("erased", mine, "1, now(), now(), now()"),
            file("gone", gone, "1, now(), NULL, NULL"),
            add(&format!(
                "changes (space_id, sequence, event_id, event_type, user_id, file_id, path, version, occurred_at)
                SELECT f.space_id, i, gen_random_uuid(), 'FILE_UPDATED', 'alice', f.id, f.path, 1, {past}
                FROM files f, generate_series(1, 2) i WHERE path LIKE '/gone%'"
            )),
            // One event was not published, and nobody can any more.
            add("outbox SELECT event_id, now(), '9999-01-01' FROM changes WHERE path LIKE '/gone%' AND sequence = 2"),
            // Each file without versions gets those that it counts.
            "CREATE TEMP TABLE added ON COMMIT DROP AS
                SELECT f.id, f.space_id, f.path, v AS version, gen_random_uuid() AS upload
                FROM files f, generate_series(1, f.version) v
                WHERE NOT EXISTS (SELECT FROM versions WHERE file_id = f.id);
            UPDATE added SET upload = first.upload
                FROM added first WHERE first.id = added.id AND first.version = 1 AND added.version = 3;"
                .to_owned(),
            add(
                "versions (file_id, version, size, sha256, object_key, user_id, created_at)
                SELECT id, version, 7, sha256('content'), 'objects/' || upload, 'alice', now() FROM added",
            ),
            add(&format!(
                "uploads (id, space_id, user_id, path, size, sha256, state, event_id, created_at, expires_at)
                SELECT upload, space_id, 'alice', path, 7, sha256('content'), 'completed',
                    (SELECT event_id FROM changes c WHERE c.file_id = added.id AND sequence = 1), {past}, {past}
                FROM added WHERE path LIKE '/gone%'"
            )),
        ];
        self.apps
            .database
            .execute(&format!("BEGIN; {} COMMIT", sql.concat()))
            .await;
        for key in self.named("true").await.difference(&self.objects()) {
            let putting = self.apps.storage.s3.put_object().bucket("content").key(key);
            let putting = putting.checksum_sha256(client::sha256(b"content").to_string());
            let body = aws_sdk_s3::primitives::ByteStream::from_static(b"content");
            putting.body(body).send().await.unwrap();
        }
    }
}

/// Each round prepares one of each kind of thing that is past its time, kills a run at one await point later
/// than the round before, checks, and lets another run finish.
#[tokio::test]
async fn a_run_that_is_killed_at_any_point_is_continued_by_the_next() {
    let mut scenario = Scenario::new().await;
    scenario.apps.known("alice").await;
    scenario.apps.retention.versions = 2.try_into().unwrap();
    let mut waits = 0;
    loop {
        scenario.prepare().await;
        scenario.check().await;
        let app = scenario.apps.maintenance();
        let deadline = Instant::now() + StdDuration::from_secs(20);
        let run = die_after(waits, maintenance::handle(&app, deadline)).await;
        drop(app);
        scenario.apps.database.wait_until_disconnected().await;
        scenario.check().await;
        let finished = run.is_some();
        scenario.run().await;
        scenario.check_purged().await;
        waits += 1;
        let files = i64::try_from(waits).unwrap();
        assert_eq!(
            (scenario.count("files").await, scenario.count("versions").await),
            (files, 3 * files)
        );
        for table in [
            "spaces WHERE deleted_at IS NOT NULL",
            "outbox",
            "changes",
            "uploads",
        ] {
            assert_eq!(scenario.count(table).await, 0, "{table}");
        }
        if finished {
            break;
        }
    }
    tests::report(&format!("killed at {waits} await points"));
    assert!(waits > 30);
}

#[tokio::test]
async fn a_hundred_thousand_versions_are_purged_by_small_statements() {
    let scenario = Scenario::new().await;
    let id = scenario.upload("alice", "/a", b"x").await;
    let many = format!(
        "INSERT INTO versions (file_id, version, size, sha256, object_key, user_id, created_at)
            SELECT '{id}', 1 + i, 10, sha256('x'), 'objects/' || gen_random_uuid(), 'alice', now()
            FROM generate_series(1, 100000) i;
        UPDATE files SET version = 100001;
        INSERT INTO files (id, space_id, path, version, created_at, deleted_at, deleted_by, purge_at)
            SELECT gen_random_uuid(), space_id, '/f' || i, 1, now(), now(), 'alice', now()
            FROM files, generate_series(1, 1000) i;
        INSERT INTO versions (file_id, version, size, sha256, object_key, user_id, created_at)
            SELECT id, 1, 10, sha256('x'), 'objects/' || gen_random_uuid(), 'alice', now()
            FROM files WHERE path LIKE '/f%';
        ANALYZE"
    );
    scenario.apps.database.execute(&many).await;
    assert_eq!(scenario.apps.database.number(MISCOUNTED).await, 0);
    let db = scenario.apps.database.environment();
    let now = scenario.apps.clock.now();
    let limit = usize::try_from(PURGED_ROWS).unwrap();
    let (mut statements, mut deleted) = (0, 0);
    let mut slowest = StdDuration::ZERO;
    loop {
        let marked = "versions WHERE purge_at IS NOT NULL";
        let before = scenario.count(marked).await;
        let began = Instant::now();
        let files = db.mark_surplus_versions(now, 100, PURGED_ROWS).await.unwrap();
        slowest = slowest.max(began.elapsed());
        assert!(scenario.count(marked).await <= before + PURGED_ROWS);
        while db.delete_files(PURGED_ROWS).await.unwrap() > 0 {}
        let began = Instant::now();
        let page = db.marked_versions(None, PURGED_ROWS).await.unwrap();
        slowest = slowest.max(began.elapsed());
        assert!(page.len() <= limit && page.iter().all(|version| !version.is_shared));
        if page.is_empty() && files == 0 {
            break;
        }
        if let Some(first) = page.first() {
            let rows: Vec<_> = page.iter().map(|row| (row.file_id, row.version)).collect();
            let began = Instant::now();
            let gone = db.delete_versions(first.space_id, &rows, &[], now).await.unwrap();
            slowest = slowest.max(began.elapsed());
            assert_eq!(gone.len(), page.len());
            deleted += gone.len();
        }
        statements += 1;
    }
    tests::report(&format!(
        "{deleted} versions in {statements} rounds, the slowest statement in {slowest:?}"
    ));
    assert_eq!(deleted, 100_001 - 101 + 1_000);
    assert_eq!(
        (scenario.count("files").await, scenario.count("versions").await),
        (1, 101)
    );
    assert_eq!(scenario.apps.database.number(MISCOUNTED).await, 0);
    // A statement that reads every row of the file would be slower by far.
    assert!(slowest < StdDuration::from_millis(500), "{slowest:?}");
}

/// In the emulator's S3, whose bucket keeps versions as on AWS.
#[tokio::test]
async fn an_object_goes_with_all_its_versions_and_markers_and_its_neighbours_stay() {
    let apps = crate::apps().await;
    let (s3, bucket) = (&apps.storage.s3, &apps.storage.bucket);
    let key = format!("objects/{}", platform::ids::new_id());
    let neighbour = format!("{key}0");
    for key in [&key, &neighbour] {
        for content in ["one", "two"] {
            let body = aws_sdk_s3::primitives::ByteStream::from_static(content.as_bytes());
            let putting = s3.put_object().bucket(bucket).key(key);
            putting.body(body).send().await.unwrap();
        }
        s3.delete_object().bucket(bucket).key(key).send().await.unwrap();
    }
    let left = async |prefix: &str| {
        let listing = s3.list_object_versions().bucket(bucket).prefix(prefix);
        let listed = listing.send().await.unwrap();
        listed.versions().len() + listed.delete_markers().len()
    };
    assert_eq!(left(&key).await, 6);
    apps.storage.storage().purge(&key).await.unwrap();
    assert_eq!(left(&key).await, 3);
    assert_eq!(left(&neighbour).await, 3);
    apps.storage.storage().purge(&key).await.unwrap();
    // A presigned URL of a purged object leads nowhere.
    let id = apps.upload("alice", "/a", b"one").await.file_id;
    let content = Call::new("GET /files/{fileId}/content").path("fileId", id);
    let url = apps.call("alice", content).await.location.unwrap();
    let erase = Call::new("DELETE /files/{fileId}").path("fileId", id);
    let erase = erase.query("permanently", "true");
    assert_eq!(apps.call("alice", erase).await.status, 200);
    assert_eq!(apps.run_maintenance().await.unwrap().purged, 1);
    assert_eq!(raw_http().get(url).send().await.unwrap().status(), 404);
}
