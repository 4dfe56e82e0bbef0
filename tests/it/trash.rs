//! The trash, restoring files and versions, erasing, and the bytes that a space stores.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use model::{Change, DeletedFileList, FileChanged, FileDetail, FileId, FileList, SpaceId};
use serde_json::{Value, json};
use tests::{Answer, Call, TestContext, TestDatabase, raw_http, upload_body};
use time::Duration;
use uuid::Uuid;

/// Spaces whose `bytes` differ from the sum of the sizes of the distinct objects that their versions name.
pub(crate) const MISCOUNTED: &str = "SELECT count(*) FROM spaces s WHERE bytes <> (
    SELECT coalesce(sum(size), 0) FROM (
        SELECT DISTINCT v.object_key, v.size FROM versions v JOIN files f ON f.id = v.file_id WHERE f.space_id = s.id
    ) objects)";

fn file(route: &'static str, id: FileId) -> Call {
    Call::new(route).path("fileId", id)
}

async fn delete(apps: &TestContext, user: &str, id: FileId) -> FileChanged {
    let answer = apps.call(user, file("DELETE /files/{fileId}", id)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.parsed()
}

async fn erase(apps: &TestContext, user: &str, id: FileId) -> Answer {
    let call = file("DELETE /files/{fileId}", id).query("permanently", "true");
    apps.call(user, call).await
}

async fn restore(apps: &TestContext, user: &str, id: FileId, body: Value) -> Answer {
    apps.call(user, file("POST /files/{fileId}/restore", id).body(body))
        .await
}

async fn restore_version(apps: &TestContext, user: &str, id: FileId, version: i64, body: Value) -> Answer {
    let call = file("POST /files/{fileId}/versions/{version}/restore", id).path("version", version);
    apps.call(user, call.body(body)).await
}

async fn trash(apps: &TestContext, user: &str, call: Call) -> DeletedFileList {
    apps.call(user, call.query("deleted", "true")).await.parsed()
}

fn paths(list: &DeletedFileList) -> Vec<&str> {
    list.files
        .iter()
        .map(|deleted| deleted.file.path.as_str())
        .collect()
}

async fn stored(apps: &TestContext) -> i64 {
    assert_eq!(apps.database.number(MISCOUNTED).await, 0);
    apps.database
        .number("SELECT sum(bytes)::bigint FROM spaces")
        .await
}

async fn content(apps: &TestContext, user: &str, id: FileId) -> Vec<u8> {
    let answer = apps.call(user, file("GET /files/{fileId}/content", id)).await;
    let response = raw_http().get(answer.location.unwrap()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.bytes().await.unwrap().to_vec()
}

async fn shared(apps: &TestContext, role: &str) -> SpaceId {
    let space = apps.space("alice").await;
    assert_eq!(apps.share("alice", space, "bob", role).await.status, 200);
    space
}

async fn upload_to(apps: &TestContext, space: SpaceId, path: &str, content: &[u8]) -> FileChanged {
    let mut body = upload_body(path, content);
    body["spaceId"] = json!(space);
    apps.upload_as("alice", &body, content).await.parsed()
}

#[tokio::test]
async fn a_space_counts_the_bytes_of_every_object_once() {
    let apps = TestContext::create().await;
    apps.upload("alice", "/a", b"four").await;
    let a = apps.upload("alice", "/a", b"seven77").await;
    apps.upload("alice", "/empty", b"").await;
    apps.upload("bob", "/b", b"bob").await;
    assert_eq!(stored(&apps).await, 14);
    // The trash counts, and a restored version stores nothing new.
    assert_eq!(
        restore_version(&apps, "alice", a.file_id, 1, json!({}))
            .await
            .status,
        200
    );
    delete(&apps, "alice", a.file_id).await;
    assert_eq!(stored(&apps).await, 14);
    // Many versions in one statement, two of which name one object.
    let many = format!(
        "INSERT INTO versions (file_id, version, size, sha256, object_key, user_id, created_at)
            SELECT '{}', 3 + i, 10, sha256('x'), 'objects/' || i % 9, 'alice', now() FROM generate_series(1, 10) i",
        a.file_id
    );
    apps.database.execute(&many).await;
    assert_eq!(stored(&apps).await, 14 + 90);
    let gone = "DELETE FROM versions WHERE version > 4";
    apps.database.execute(gone).await;
    assert_eq!(stored(&apps).await, 14 + 10);
    let gone = "DELETE FROM versions WHERE version > 3";
    apps.database.execute(gone).await;
    assert_eq!(stored(&apps).await, 14);
    // Versions 1 and 3 name one object, which goes with the last of them.
    apps.database
        .execute("DELETE FROM versions WHERE version = 3")
        .await;
    assert_eq!(stored(&apps).await, 14);
    let gone = format!(
        "DELETE FROM versions WHERE version = 1 AND file_id = '{}'",
        a.file_id
    );
    apps.database.execute(&gone).await;
    assert_eq!(stored(&apps).await, 10);
}

#[tokio::test]
async fn thirty_two_completions_at_once_are_all_counted() {
    let apps = TestContext::create().await;
    let mut uploads = Vec::new();
    for i in 0..32 {
        uploads.push(apps.put("alice", &format!("/{}", i % 4), &vec![b'x'; i]).await);
    }
    let answers = join_all(uploads.iter().map(|created| apps.complete("alice", created))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(stored(&apps).await, (0..32).sum::<i64>());
    // Every version but the newest of each file says when the next one came.
    let superseded = "SELECT count(*) FROM versions WHERE superseded_at IS NOT NULL";
    assert_eq!(apps.database.number(superseded).await, 28);
}

/// What the former release left, and what it writes while it still serves.
#[tokio::test]
async fn the_migration_counts_what_is_there() {
    let database = TestDatabase::create_empty().await;
    let migration = |name: &str| {
        let path = tests::project_file("crates/db/migrations").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    let mut names: Vec<String> = std::fs::read_dir(tests::project_file("crates/db/migrations"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| ('1'..='7').any(|number| name.starts_with(&format!("V{number}__"))))
        .collect();
    names.sort();
    for name in names {
        database.execute(&migration(&name)).await;
    }
    let former = "
        INSERT INTO spaces (id, kind, owner_id, last_sequence, created_at)
            SELECT ('00000000-0000-7000-8000-00000000000' || i)::uuid, 'personal', 'user-' || i, 0, now()
            FROM generate_series(1, 2) i;
        INSERT INTO files (id, space_id, path, version, created_at, deleted_at)
            SELECT id, id, '/a', 3, created_at, CASE WHEN owner_id = 'user-2' THEN now() END FROM spaces;
        INSERT INTO versions (file_id, version, size, sha256, object_key, user_id, created_at)
            SELECT id, v, v, sha256('x'), 'objects/' || id || v, 'u', '2026-01-01'::timestamptz + v * interval '1 day'
            FROM files, generate_series(1, 3) v;
        INSERT INTO changes (space_id, sequence, event_id, event_type, user_id, file_id, path, version, occurred_at)
            SELECT id, 1, gen_random_uuid(), 'FILE_DELETED', 'deleter', id, '/a', 3, now() FROM files
            WHERE deleted_at IS NOT NULL";
    database.execute(former).await;
    database.execute(&migration("V8__trash_and_purge.sql")).await;
    assert_eq!(database.number(MISCOUNTED).await, 0);
    assert_eq!(database.number("SELECT sum(bytes)::bigint FROM spaces").await, 12);
    let superseded = "SELECT count(*) FROM versions v WHERE superseded_at IS NOT DISTINCT FROM
        (SELECT created_at FROM versions n WHERE n.file_id = v.file_id AND n.version = v.version + 1)";
    assert_eq!(database.number(superseded).await, 6);
    // The former release deletes a file: the deletion, and then its change.
    let former = "
        UPDATE files SET deleted_at = now() WHERE deleted_at IS NULL;
        INSERT INTO changes (space_id, sequence, event_id, event_type, user_id, file_id, path, version, occurred_at)
            SELECT id, 2, gen_random_uuid(), 'FILE_DELETED', 'deleter', id, '/a', 3, now() FROM files
            WHERE deleted_by IS NULL";
    database.execute(former).await;
    let deleted = "SELECT count(*) FROM files WHERE deleted_by = 'deleter'";
    assert_eq!(database.number(deleted).await, 2);
}

#[tokio::test]
async fn the_trash_is_listed_in_pages_newest_first_with_who_deleted_and_until_when() {
    let apps = TestContext::create().await;
    let space = shared(&apps, "editor").await;
    assert_eq!(apps.share("alice", space, "victor", "viewer").await.status, 200);
    let mut ids = Vec::new();
    for path in ["/a", "/b", "/c", "/d", "/kept"] {
        ids.push(upload_to(&apps, space, path, path.as_bytes()).await.file_id);
    }
    // Two of them at one time, which the id tells apart.
    for (index, user) in [(0, "alice"), (1, "bob"), (2, "alice"), (3, "bob")] {
        delete(&apps, user, ids[index]).await;
        if index != 1 {
            apps.clock.advance(Duration::seconds(1));
        }
    }
    let call = Call::new("GET /files").query("spaceId", space).query("limit", 3);
    let first = trash(&apps, "victor", call.clone()).await;
    assert_eq!(paths(&first), ["/d", "/c", "/b"]);
    let by: Vec<&str> = (first.files.iter())
        .map(|deleted| deleted.deleted_by.as_ref().unwrap().as_str())
        .collect();
    assert_eq!(by, ["bob", "alice", "bob"]);
    let newest = &first.files[0];
    assert_eq!(newest.deleted_at, apps.clock.now() - Duration::seconds(1));
    assert_eq!(newest.purged_at, newest.deleted_at + Duration::days(30));
    assert_eq!((newest.file.version.get(), newest.file.size.get()), (1, 2));
    let next = call.query("pageToken", first.next_page_token.unwrap());
    let last = trash(&apps, "victor", next).await;
    assert_eq!((paths(&last), &last.next_page_token), (vec!["/a"], &None));

    // The trash of the personal space is another one, and strangers see none.
    assert!(
        trash(&apps, "alice", Call::new("GET /files"))
            .await
            .files
            .is_empty()
    );
    let call = Call::new("GET /files").query("deleted", "true");
    let stranger = apps.call("mallory", call.clone().query("spaceId", space)).await;
    assert_eq!(stranger.problem(), (404, "not-found"));
    for (name, value) in [("prefix", "/a"), ("pageToken", "L2E"), ("deleted", "maybe")] {
        let answer = apps.call("alice", call.clone().query(name, value)).await;
        assert_eq!(answer.problem(), (400, "invalid-request"), "{name}");
    }
    let live = Call::new("GET /files")
        .query("spaceId", space)
        .query("deleted", "false");
    let live: FileList = apps.call("alice", live).await.parsed();
    assert_eq!(live.files.len(), 1);
}

#[tokio::test]
async fn a_restored_file_is_there_again_with_its_versions() {
    let apps = TestContext::create().await;
    let space = shared(&apps, "editor").await;
    let id = upload_to(&apps, space, "/a", b"one").await.file_id;
    upload_to(&apps, space, "/a", b"two").await;
    let deleted = delete(&apps, "bob", id).await;
    for call in [
        file("GET /files/{fileId}", id),
        file("GET /files/{fileId}/content", id),
    ] {
        assert_eq!(apps.call("alice", call).await.problem(), (404, "not-found"));
    }
    apps.queue.drain().await;
    let restored = restore(&apps, "bob", id, json!({})).await;
    let change: FileChanged = restored.parsed();
    assert_eq!(
        (change.path.as_str(), change.version, change.sequence.get()),
        ("/a", deleted.version, deleted.sequence.get() + 1)
    );
    let events = apps.queue.events().await;
    assert!(
        matches!(&events[0].change, Change::FileUpdated(file) if file.file_id == id) && events.len() == 1
    );
    let detail: FileDetail = apps.call("alice", file("GET /files/{fileId}", id)).await.parsed();
    assert_eq!(detail.versions.len(), 2);
    assert_eq!(content(&apps, "alice", id).await, b"two");
    let list = Call::new("GET /files").query("spaceId", space);
    assert!(trash(&apps, "alice", list).await.files.is_empty());

    // A repetition finds its own change, also after a change of another device.
    assert_eq!(restore(&apps, "bob", id, json!({})).await.body, restored.body);
    assert_eq!(upload_to(&apps, space, "/a", b"three").await.version.get(), 3);
    assert_eq!(restore(&apps, "bob", id, json!({})).await.body, restored.body);
    // Who restores what another one has restored is told of its newest change.
    let newest: FileChanged = restore(&apps, "alice", id, json!({})).await.parsed();
    assert_eq!(newest.version.get(), 3);
    assert!(apps.queue.events().await.len() == 1);
}

#[tokio::test]
async fn a_file_comes_back_only_to_a_free_path_and_by_an_editor() {
    let apps = TestContext::create().await;
    let space = shared(&apps, "viewer").await;
    let id = upload_to(&apps, space, "/f/a/b", b"one").await.file_id;
    delete(&apps, "alice", id).await;
    assert_eq!(
        restore(&apps, "bob", id, json!({})).await.problem(),
        (403, "forbidden")
    );
    assert_eq!(
        restore(&apps, "mallory", id, json!({})).await.problem(),
        (404, "not-found")
    );
    let missing = platform::ids::new_id().into();
    assert_eq!(
        restore(&apps, "alice", missing, json!({})).await.problem(),
        (404, "not-found")
    );
    for other in ["/f/a/b", "/f", "/f/a", "/f/a/b/c"] {
        let taken = upload_to(&apps, space, other, b"x").await;
        for body in [json!({}), json!({ "path": "/f/a/b" }), json!({ "path": null })] {
            let refused = restore(&apps, "alice", id, body).await;
            assert_eq!(refused.problem(), (409, "path-taken"), "{other}");
            assert_eq!(refused.body["current"]["fileId"], json!(taken.file_id));
        }
        assert_eq!(erase(&apps, "alice", taken.file_id).await.status, 200);
    }
    // Neighbours of the path and of its folders are not in its way.
    for other in ["/f/a/b.", "/f/a/b0", "/f.", "/f/a0", "/e"] {
        upload_to(&apps, space, other, b"x").await;
    }
    let bad = restore(&apps, "alice", id, json!({ "path": "relative" })).await;
    assert_eq!(bad.problem(), (400, "invalid-request"));
    let moved: FileChanged = restore(&apps, "alice", id, json!({ "path": "/g/a" }))
        .await
        .parsed();
    assert_eq!((moved.path.as_str(), moved.file_id), ("/g/a", id));
    let device = json!({ "path": "/g/a", "deviceId": Uuid::from_u128(1) });
    assert_eq!(
        restore(&apps, "alice", id, device).await.parsed::<FileChanged>(),
        moved
    );
}

#[tokio::test]
async fn of_thirty_two_who_restore_to_one_path_one_succeeds() {
    let apps = TestContext::create().await;
    let mut ids = Vec::new();
    for _ in 0..32 {
        let id = apps.upload("alice", "/a", b"x").await.file_id;
        delete(&apps, "alice", id).await;
        ids.push(id);
    }
    let restoring = ids.iter().map(|id| restore(&apps, "alice", *id, json!({})));
    let statuses: Vec<i64> = join_all(restoring)
        .await
        .iter()
        .map(|answer| answer.status)
        .collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 31);
}

#[tokio::test]
async fn an_old_version_becomes_the_newest_without_moving_bytes() {
    let apps = TestContext::create().await;
    let mut body = upload_body("/a", b"one");
    body["contentType"] = json!("text/plain");
    let id = apps
        .upload_as("alice", &body, b"one")
        .await
        .parsed::<FileChanged>()
        .file_id;
    apps.upload("alice", "/a", b"two").await;
    apps.queue.drain().await;
    let device = Uuid::from_u128(1);
    let request = json!({ "baseVersion": 2, "deviceId": device });
    let restored = restore_version(&apps, "alice", id, 1, request.clone()).await;
    let change: FileChanged = restored.parsed();
    assert_eq!((change.version.get(), change.sequence.get()), (3, 3));
    assert_eq!(change.sha256, client::sha256(b"one"));
    assert_eq!(content(&apps, "alice", id).await, b"one");
    assert_eq!(apps.queue.events().await.len(), 1);
    let detail: FileDetail = apps.call("alice", file("GET /files/{fileId}", id)).await.parsed();
    assert_eq!(detail.versions.len(), 3);
    assert_eq!(detail.file.content_type, detail.versions[2].content_type);
    assert_eq!(detail.versions[0].device_id, Some(device.into()));
    let objects = "SELECT count(DISTINCT object_key) FROM versions";
    assert_eq!(apps.database.number(objects).await, 2);

    // Restoring what is there already, by either number, changes nothing.
    for version in [1, 3] {
        let same = restore_version(&apps, "alice", id, version, json!({})).await;
        assert_eq!(same.body, restored.body);
    }
    // A repetition finds its own change, also after a change of another device.
    assert_eq!(
        restore_version(&apps, "alice", id, 1, request.clone()).await.body,
        restored.body
    );
    apps.upload("bob", "/b", b"two").await;
    let mut other = upload_body("/a", b"four");
    other["deviceId"] = json!(Uuid::from_u128(2));
    assert_eq!(apps.upload_as("alice", &other, b"four").await.status, 200);
    assert_eq!(
        restore_version(&apps, "alice", id, 1, request).await.body,
        restored.body
    );
    // Others who saw version 2 are told of the conflict.
    let late = json!({ "baseVersion": 2, "deviceId": Uuid::from_u128(3) });
    let refused = restore_version(&apps, "alice", id, 1, late).await;
    assert_eq!(refused.problem(), (409, "version-conflict"));
    assert_eq!(refused.body["current"]["version"], 4);
    for version in [0, 5] {
        let missing = restore_version(&apps, "alice", id, version, json!({})).await;
        assert_eq!(missing.problem(), (404, "not-found"));
    }
    assert_eq!(
        restore_version(&apps, "mallory", id, 1, json!({}))
            .await
            .problem(),
        (404, "not-found")
    );
    delete(&apps, "alice", id).await;
    assert_eq!(
        restore_version(&apps, "alice", id, 1, json!({})).await.problem(),
        (404, "not-found")
    );
    assert_eq!(apps.database.number(MISCOUNTED).await, 0);
}

#[tokio::test]
async fn of_thirty_two_who_restore_over_one_version_one_succeeds() {
    let apps = TestContext::create().await;
    let id = apps.upload("alice", "/a", b"1").await.file_id;
    apps.upload("alice", "/a", b"2").await;
    let restoring = (0..32).map(|device| {
        let body = json!({ "baseVersion": 2, "deviceId": Uuid::from_u128(device) });
        restore_version(&apps, "alice", id, 1, body)
    });
    let answers = join_all(restoring).await;
    let won = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(won, 1);
    assert_eq!(apps.database.number(MISCOUNTED).await, 0);
    assert_eq!(apps.feed("alice", None).await.latest_sequence.get(), 3);
}

#[tokio::test]
async fn a_purged_version_is_not_shown_not_downloaded_and_not_restored() {
    let apps = TestContext::create().await;
    let id = apps.upload("alice", "/a", b"one").await.file_id;
    apps.upload("alice", "/a", b"two").await;
    apps.database
        .execute("UPDATE versions SET purge_at = now() WHERE version = 1")
        .await;
    let detail: FileDetail = apps.call("alice", file("GET /files/{fileId}", id)).await.parsed();
    assert_eq!(detail.versions.len(), 1);
    let old = file("GET /files/{fileId}/content", id).query("version", 1);
    assert_eq!(apps.call("alice", old).await.problem(), (404, "not-found"));
    assert_eq!(
        restore_version(&apps, "alice", id, 1, json!({})).await.problem(),
        (404, "not-found")
    );
}

#[tokio::test]
async fn an_owner_erases_a_file_and_nothing_brings_it_back() {
    let apps = TestContext::create().await;
    let space = shared(&apps, "editor").await;
    let live = upload_to(&apps, space, "/live", b"live").await.file_id;
    let binned = upload_to(&apps, space, "/binned", b"binned").await.file_id;
    let deleted = delete(&apps, "bob", binned).await;
    for id in [live, binned] {
        assert_eq!(
            erase(&apps, "bob", id).await.problem(),
            (403, "forbidden"),
            "an editor may not"
        );
        assert_eq!(erase(&apps, "mallory", id).await.problem(), (404, "not-found"));
    }
    let old = file("DELETE /files/{fileId}", live)
        .query("permanently", "true")
        .query("baseVersion", 7);
    assert_eq!(
        apps.call("alice", old.clone()).await.problem(),
        (409, "version-conflict")
    );
    apps.queue.drain().await;
    let erased = erase(&apps, "alice", live).await;
    let change: FileChanged = erased.parsed();
    assert_eq!(
        (change.file_id, change.sequence),
        (live, {
            let latest = apps.feed("alice", Some(space)).await.latest_sequence;
            latest.get().try_into().unwrap()
        })
    );
    let events = apps.queue.events().await;
    assert!(matches!(events[0].change, Change::FileDeleted(_)) && events.len() == 1);
    // A file in the trash had its change when it was deleted.
    assert_eq!(
        erase(&apps, "alice", binned).await.parsed::<FileChanged>(),
        deleted
    );
    assert!(apps.queue.events().await.is_empty());
    assert_eq!(erase(&apps, "alice", live).await.body, erased.body);
    assert_eq!(apps.call("alice", old).await.problem(), (404, "not-found"));
    let list = Call::new("GET /files").query("spaceId", space);
    assert!(trash(&apps, "alice", list).await.files.is_empty());
    for id in [live, binned] {
        assert_eq!(
            restore(&apps, "alice", id, json!({})).await.problem(),
            (404, "not-found")
        );
        let plain = file("DELETE /files/{fileId}", id);
        assert_eq!(apps.call("alice", plain).await.problem(), (404, "not-found"));
    }
    // Who deleted the file first is still known.
    let by: BTreeSet<String> = (apps.database.rows("SELECT deleted_by FROM files").await.iter())
        .map(|row| row.get(0))
        .collect();
    assert_eq!(by, ["alice", "bob"].map(str::to_owned).into());
    assert_eq!(upload_to(&apps, space, "/live", b"new").await.version.get(), 1);
}
