//! Opening and completing uploads with real PostgreSQL, storage and queue.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use model::{CurrentVersion, FileChanged, FileId, PendingUploadList};
use serde_json::{Value, json};
use tests::{Call, TestContext, hung_server, upload_body};

#[tokio::test]
async fn completing_twice_sends_one_event_and_answers_the_same() {
    let apps = TestContext::create().await;
    let created = apps.put("alice", "/Docs/a.txt", b"one").await;
    let first = apps.complete("alice", &created).await;
    let second = apps.complete("alice", &created).await;
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.body, second.body);

    let changed: FileChanged = first.parsed();
    assert_eq!((changed.sequence.get(), changed.version.get()), (1, 1));
    assert_eq!(changed.sha256, client::sha256(b"one"));
    let events = apps.queue.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(FileChanged::try_from(events[0].clone()).unwrap(), changed);
    assert_eq!(apps.database.number("SELECT count(*) FROM changes").await, 1);
    assert_eq!(apps.database.number("SELECT count(*) FROM outbox").await, 0);
}

#[tokio::test]
async fn completing_sixteen_times_at_once_makes_one_change() {
    let apps = TestContext::create().await;
    let created = apps.put("alice", "/a", b"one").await;
    let answers = join_all((0..16).map(|_| apps.complete("alice", &created))).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (200, &answers[0].body));
    }
    assert_eq!(apps.queue.events().await.len(), 1);
    assert_eq!(apps.database.number("SELECT last_sequence FROM spaces").await, 1);
}

#[tokio::test]
async fn versions_and_sequences_stay_gapless_when_devices_race() {
    let apps = TestContext::create().await;
    // Half of the uploads go to one path, half to distinct paths.
    let paths: Vec<String> = (0..16)
        .map(|i| {
            if i % 2 == 0 {
                "/same".to_owned()
            } else {
                format!("/own-{i}")
            }
        })
        .collect();
    let uploads = join_all(paths.iter().map(|path| apps.put("alice", path, path.as_bytes()))).await;
    let answers = join_all(uploads.iter().map(|created| apps.complete("alice", created))).await;
    let changes: Vec<FileChanged> = answers.iter().map(tests::Answer::parsed).collect();

    let sequences: BTreeSet<i64> = changes.iter().map(|change| change.sequence.get()).collect();
    assert_eq!(sequences, (1..=16).collect());
    let same = changes.iter().filter(|change| change.path.as_str() == "/same");
    let versions: BTreeSet<i64> = same.clone().map(|change| change.version.get()).collect();
    assert_eq!(versions, (1..=8).collect());
    let files: BTreeSet<String> = same.map(|change| change.file_id.to_string()).collect();
    assert_eq!(files.len(), 1);
    // In commit order: a path's versions increase with the sequence numbers.
    let rows = apps
        .database
        .rows("SELECT version FROM changes WHERE path = '/same' ORDER BY sequence")
        .await;
    assert_eq!(
        rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(),
        (1..=8).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_users_first_uploads_at_once_share_one_personal_space() {
    let apps = TestContext::create().await;
    let paths: Vec<String> = (0..16).map(|i| format!("/{i}")).collect();
    let opened = join_all(paths.iter().map(|path| apps.opened("alice", path, b"x"))).await;
    let spaces: BTreeSet<String> = opened
        .iter()
        .map(|created| created.space_id.to_string())
        .collect();
    assert_eq!(spaces.len(), 1);
    assert_eq!(apps.database.number("SELECT count(*) FROM members").await, 1);
}

#[tokio::test]
async fn someone_elses_upload_is_404() {
    let apps = TestContext::create().await;
    let created = apps.put("alice", "/a", b"one").await;
    assert_eq!(
        apps.complete("mallory", &created).await.problem(),
        (404, "not-found")
    );
    // The same holds after the upload is complete.
    assert_eq!(apps.complete("alice", &created).await.status, 200);
    assert_eq!(
        apps.complete("mallory", &created).await.problem(),
        (404, "not-found")
    );
    let unknown = platform::ids::new_id().to_string();
    for id in [unknown.as_str(), "no-id"] {
        assert_eq!(
            apps.complete_id("alice", id).await.problem(),
            (404, "not-found"),
            "{id}"
        );
    }
}

#[tokio::test]
async fn a_former_member_cannot_complete() {
    let apps = TestContext::create().await;
    let created = apps.put("alice", "/a", b"one").await;
    apps.database.execute("DELETE FROM members").await;
    assert_eq!(
        apps.complete("alice", &created).await.problem(),
        (404, "not-found")
    );
    assert_eq!(apps.database.number("SELECT last_sequence FROM spaces").await, 0);
}

#[tokio::test]
async fn completing_before_any_put_is_409_and_then_works() {
    let apps = TestContext::create().await;
    let created = apps.opened("alice", "/a", b"one").await;
    assert_eq!(
        apps.complete("alice", &created).await.problem(),
        (409, "upload-incomplete")
    );
    apps.send(&created, b"one").await;
    assert_eq!(apps.complete("alice", &created).await.status, 200);
}

#[tokio::test]
async fn an_upload_expires_but_a_completed_one_stays_completed() {
    let apps = TestContext::create().await;
    let (late, done) = (
        apps.put("alice", "/late", b"x").await,
        apps.put("alice", "/done", b"x").await,
    );
    let before = apps.complete("alice", &done).await;
    apps.clock.advance(uploads::PUT_LIFETIME + db::IN_FLIGHT);
    assert_eq!(
        apps.complete("alice", &late).await.problem(),
        (410, "upload-expired")
    );
    assert_eq!(apps.complete("alice", &done).await.body, before.body);
}

#[tokio::test]
async fn content_that_was_in_flight_when_its_url_ended_can_be_completed() {
    let apps = TestContext::create().await;
    let created = apps.opened("alice", "/slow", b"slow").await;
    let second = time::Duration::SECOND;
    apps.clock.advance(uploads::PUT_LIFETIME);
    // As if the transfer had begun earlier; storage has its own clock.
    apps.send(&created, b"slow").await;
    let show = Call::new("GET /uploads/{uploadId}").path("uploadId", created.upload_id);
    let shown = apps.call("alice", show.clone()).await;
    assert_eq!(
        (&shown.body["state"], &shown.body["stored"]),
        (&json!("pending"), &json!(true))
    );
    // New transfers are not possible any more.
    assert!(shown.body.get("put").is_none(), "{shown:?}");
    apps.clock.advance(db::IN_FLIGHT - second);
    assert_eq!(apps.run_maintenance().await.unwrap().expired, 0);
    assert_eq!(apps.complete("alice", &created).await.status, 200);

    let late = apps.put("alice", "/late", b"late").await;
    apps.clock.advance(uploads::PUT_LIFETIME + db::IN_FLIGHT);
    assert_eq!(
        apps.complete("alice", &late).await.problem(),
        (410, "upload-expired")
    );
    let show = Call::new("GET /uploads/{uploadId}").path("uploadId", late.upload_id);
    assert_eq!(apps.call("alice", show).await.body["state"], "aborted");
}

#[tokio::test]
async fn the_key_of_an_aborted_upload_opens_nothing() {
    let apps = TestContext::create().await;
    let open = || {
        Call::new("POST /uploads")
            .header("idempotency-key", "one")
            .body(upload_body("/a", b"x"))
    };
    let created: model::CreatedUpload = apps.call("alice", open()).await.parsed();
    let abort = Call::new("DELETE /uploads/{uploadId}").path("uploadId", created.upload_id);
    assert_eq!(apps.call("alice", abort).await.status, 204);
    assert_eq!(
        apps.call("alice", open()).await.problem(),
        (410, "upload-expired")
    );
}

#[tokio::test]
async fn a_url_ends_with_its_upload_and_after_an_hour_at_most() {
    let apps = TestContext::create().await;
    let lifetime = |put: &model::PresignedPut| -> i64 {
        let (_, rest) = put.url.split_once("X-Amz-Expires=").unwrap();
        rest.split('&').next().unwrap().parse().unwrap()
    };
    let created = apps.opened("alice", "/small", b"x").await;
    assert_eq!(lifetime(created.put().unwrap()), 3600);
    let show = Call::new("GET /uploads/{uploadId}").path("uploadId", created.upload_id);
    for (minutes, left) in [(15, 45 * 60), (44, 60)] {
        apps.clock.advance(time::Duration::minutes(minutes));
        let view: model::UploadView = apps.call("alice", show.clone()).await.parsed();
        let Some(model::Transfer::Put(put)) = view.transfer else {
            panic!("{view:?}")
        };
        assert_eq!(lifetime(&put), left);
    }

    let content = vec![0; 2 * 1024 * 1024];
    let parts: model::CreatedUpload = apps.open("alice", &upload_body("/big", &content)).await.parsed();
    let presign = || {
        let part = json!({ "partNumber": 1, "sha256": client::sha256(&content) });
        Call::new("POST /uploads/{uploadId}/parts")
            .path("uploadId", parts.upload_id)
            .body(json!({ "parts": [part] }))
    };
    for (on, left) in [
        (time::Duration::ZERO, 3600),
        (uploads::MULTIPART_LIFETIME - time::Duration::minutes(10), 600),
    ] {
        apps.clock.advance(on);
        let presigned: model::PresignedParts = apps.call("alice", presign()).await.parsed();
        assert_eq!(lifetime(&presigned.parts[0].put), left);
    }
    apps.clock.advance(time::Duration::minutes(10));
    assert_eq!(
        apps.call("alice", presign()).await.problem(),
        (410, "upload-expired")
    );
}

#[tokio::test]
async fn content_with_a_header_that_nobody_declared_is_not_completed() {
    let apps = TestContext::create().await;
    let created = apps.opened("alice", "/bomb", b"bomb").await;
    let mut put = created.put().unwrap().clone();
    put.headers
        .insert("content-encoding".to_owned(), "gzip".to_owned());
    tests::put_to_storage(&put, b"bomb").await;
    let refused = apps.complete("alice", &created).await;
    assert_eq!(refused.problem(), (422, "undeclared-headers"));
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("Content-Encoding"), "{detail}");
    assert_eq!(apps.database.number("SELECT count(*) FROM changes").await, 0);
}

#[tokio::test]
async fn storage_is_asked_for_nothing_on_behalf_of_strangers() {
    let apps = TestContext::create().await;
    let created = apps.put("alice", "/a", b"one").await;
    let mut app = apps.complete_upload();
    let dead = aws_sdk_s3::config::Builder::from(&tests::aws()).endpoint_url("http://127.0.0.1:9");
    app.storage = storage::Storage::new(dead, &apps.storage.bucket);
    let id = created.upload_id.to_string();
    assert_eq!(
        apps.complete_in(&app, "mallory", &id).await.problem(),
        (404, "not-found")
    );
    assert_eq!(
        apps.complete_in(&app, "alice", &id).await.problem(),
        (503, "unavailable")
    );
}

#[tokio::test]
async fn what_storage_has_must_be_what_was_declared() {
    let apps = TestContext::create().await;
    let (short, other) = (
        apps.put("alice", "/a", b"one").await,
        apps.put("alice", "/b", b"one").await,
    );
    // Simulates a defect that accepted other bytes than declared.
    let set = |column: &str, id| format!("UPDATE uploads SET {column} WHERE id = '{id}'");
    apps.database.execute(&set("size = 4", short.upload_id)).await;
    apps.database
        .execute(&set("sha256 = sha256('two')", other.upload_id))
        .await;
    assert_eq!(
        apps.complete("alice", &short).await.problem(),
        (422, "size-mismatch")
    );
    assert_eq!(
        apps.complete("alice", &other).await.problem(),
        (422, "checksum-mismatch")
    );
    assert_eq!(apps.database.number("SELECT count(*) FROM changes").await, 0);
}

#[tokio::test]
async fn of_two_devices_with_the_same_base_exactly_one_wins() {
    let apps = TestContext::create().await;
    let base = apps.upload("alice", "/a", b"base").await;
    let open = async |content: &'static [u8]| {
        let body = json!({ "path": "/a", "size": content.len(), "sha256": client::sha256(content), "baseVersion": 1 });
        let created: model::CreatedUpload = apps.open("alice", &body).await.parsed();
        apps.send(&created, content).await;
        created
    };
    let uploads = [open(b"one").await, open(b"other").await];
    let answers = join_all(uploads.iter().map(|created| apps.complete("alice", created))).await;
    let mut statuses: Vec<i64> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    let loser = answers.iter().find(|answer| answer.status == 409).unwrap();
    assert_eq!(loser.problem(), (409, "version-conflict"));
    let current: CurrentVersion = serde_json::from_value(loser.body["current"].clone()).unwrap();
    assert_eq!((current.version.get(), current.file_id), (2, Some(base.file_id)));
    // The losing upload consumed no sequence number.
    assert_eq!(apps.database.number("SELECT last_sequence FROM spaces").await, 2);
    // An upload from an outdated base is refused when it is opened.
    let late = json!({ "path": "/a", "size": 1, "sha256": client::sha256(b"x"), "baseVersion": 1 });
    assert_eq!(
        apps.open("alice", &late).await.problem(),
        (409, "version-conflict")
    );
}

#[tokio::test]
async fn base_version_0_means_that_the_path_must_not_exist() {
    let apps = TestContext::create().await;
    let body =
        |base: i64| json!({ "path": "/a", "size": 3, "sha256": client::sha256(b"one"), "baseVersion": base });
    assert_eq!(
        apps.open("alice", &body(1)).await.body["current"],
        json!({ "version": 0 })
    );
    let mut uploads = Vec::new();
    for _ in 0..2 {
        let created: model::CreatedUpload = apps.open("alice", &body(0)).await.parsed();
        apps.send(&created, b"one").await;
        uploads.push(created);
    }
    let answers = join_all(uploads.iter().map(|created| apps.complete("alice", created))).await;
    let mut statuses: Vec<i64> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    assert_eq!(
        apps.open("alice", &body(0)).await.problem(),
        (409, "version-conflict")
    );
}

/// Body of `POST /uploads` with the version, and the file if given, that the upload is based on.
fn based(path: &str, content: &[u8], version: i64, file_id: Option<FileId>) -> Value {
    let mut body = upload_body(path, content);
    body["baseVersion"] = json!(version);
    if let Some(file_id) = file_id {
        body["baseFileId"] = json!(file_id);
    }
    body
}

async fn rename(apps: &TestContext, file_id: FileId, path: &str) {
    let call = Call::new("PATCH /files/{fileId}").path("fileId", file_id);
    let answer = apps.call("alice", call.body(json!({ "path": path }))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn delete(apps: &TestContext, file_id: FileId) {
    let call = Call::new("DELETE /files/{fileId}").path("fileId", file_id);
    assert_eq!(apps.call("alice", call).await.status, 200);
}

/// Puts another file with the same version number at `/a`, in one of several ways, and returns its id.
async fn replace(apps: &TestContext, way: usize, first: FileId) -> FileId {
    match way {
        0 => delete(apps, first).await,
        1 => rename(apps, first, "/away").await,
        2 => {
            let other = apps.upload("alice", "/other", b"other").await.file_id;
            delete(apps, first).await;
            rename(apps, other, "/a").await;
            return other;
        }
        _ => {
            let other = apps.upload("alice", "/other", b"other").await.file_id;
            rename(apps, first, "/third").await;
            rename(apps, other, "/a").await;
            rename(apps, first, "/other").await;
            return other;
        }
    }
    apps.upload("alice", "/a", b"second").await.file_id
}

#[tokio::test]
async fn version_1_of_another_file_is_not_the_base_when_opening() {
    for way in 0..4 {
        let apps = TestContext::create().await;
        let first = apps.upload("alice", "/a", b"first").await.file_id;
        let second = replace(&apps, way, first).await;
        let refused = apps.open("alice", &based("/a", b"late", 1, Some(first))).await;
        assert_eq!(refused.problem(), (409, "version-conflict"), "way {way}");
        assert_eq!(refused.body["current"]["version"], 1);
        assert_eq!(refused.body["current"]["fileId"], json!(second));
        let answer = apps
            .upload_as("alice", &based("/a", b"next", 1, Some(second)), b"next")
            .await;
        assert_eq!((answer.status, &answer.body["version"]), (200, &json!(2)));
    }
}

#[tokio::test]
async fn a_file_that_was_replaced_after_opening_is_a_conflict_whether_or_not_the_request_named_it() {
    for way in 0..4 {
        let apps = TestContext::create().await;
        let first = apps.upload("alice", "/a", b"first").await.file_id;
        let mut uploads = Vec::new();
        for named in [None, Some(first)] {
            let body = based("/a", b"late", 1, named);
            let created: model::CreatedUpload = apps.open("alice", &body).await.parsed();
            apps.send(&created, b"late").await;
            uploads.push(created);
        }
        let second = replace(&apps, way, first).await;
        for created in uploads {
            let refused = apps.complete("alice", &created).await;
            assert_eq!(refused.problem(), (409, "version-conflict"), "way {way}");
            assert_eq!(refused.body["current"]["fileId"], json!(second));
        }
    }
}

#[tokio::test]
async fn a_base_file_alone_is_compared_and_contradicts_that_there_is_none() {
    let apps = TestContext::create().await;
    let first = apps.upload("alice", "/a", b"first").await.file_id;
    let named = |version: Option<i64>| {
        let mut body = based("/a", b"next", 0, Some(first));
        body["baseVersion"] = json!(version);
        body
    };
    let contradiction = apps.open("alice", &named(Some(0))).await;
    assert_eq!(contradiction.problem(), (400, "invalid-request"));
    assert!(
        contradiction.body["detail"]
            .as_str()
            .unwrap()
            .starts_with("baseFileId: ")
    );
    assert_eq!(apps.upload_as("alice", &named(None), b"next").await.status, 200);
    let created: model::CreatedUpload = apps.open("alice", &named(None)).await.parsed();
    apps.send(&created, b"next").await;
    delete(&apps, first).await;
    for refused in [
        apps.open("alice", &named(None)).await,
        apps.complete("alice", &created).await,
    ] {
        assert_eq!(refused.problem(), (409, "version-conflict"));
        assert_eq!(refused.body["current"], json!({ "version": 0 }));
    }
}

#[tokio::test]
async fn a_commit_whose_send_fails_still_answers_200_and_keeps_its_outbox_row() {
    let apps = TestContext::create().await;
    let created = apps.put("alice", "/a", b"one").await;
    let mut app = apps.complete_upload();
    let config = aws_sdk_sqs::config::Builder::from(&tests::aws()).endpoint_url("http://127.0.0.1:9");
    app.queue = queue::Queue::new(config, &apps.queue.url);
    let answer = apps
        .complete_in(&app, "alice", &created.upload_id.to_string())
        .await;
    assert_eq!(answer.status, 200);

    let changed: FileChanged = answer.parsed();
    let waiting = apps
        .database
        .rows("SELECT event_id::text, leased_until <= created_at FROM outbox")
        .await;
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].get::<_, String>(0), changed.event_id.to_string());
    // The lease is released, so any relay may send the event.
    assert!(waiting[0].get::<_, bool>(1));
    assert!(apps.queue.events().await.is_empty());
}

#[tokio::test]
async fn a_hung_queue_costs_one_bounded_wait_and_not_the_upload() {
    let apps = TestContext::create().await;
    let created = apps.put("alice", "/a", b"one").await;
    let mut app = apps.complete_upload();
    let hung = format!("http://127.0.0.1:{}", hung_server().await);
    let config = aws_sdk_sqs::config::Builder::from(&tests::aws()).endpoint_url(hung);
    app.queue = queue::Queue::new(config, &apps.queue.url);
    let started = Instant::now();
    assert_eq!(
        apps.complete_in(&app, "alice", &created.upload_id.to_string())
            .await
            .status,
        200
    );
    // The bound is 2.5 s. The rest is slack for a machine that is busy with other tests.
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(apps.database.number("SELECT count(*) FROM outbox").await, 1);
}

#[tokio::test]
async fn a_hung_or_absent_database_is_503_within_seconds() {
    let apps = TestContext::create().await;
    let created = apps.put("alice", "/a", b"one").await;
    for port in [hung_server().await, 9] {
        let mut app = apps.complete_upload();
        app.db = db::Database::new(
            format!("postgresql://u@127.0.0.1:{port}/x?sslmode=disable")
                .parse::<db::DatabaseUrl>()
                .unwrap(),
        );
        let started = Instant::now();
        let answer = apps
            .complete_in(&app, "alice", &created.upload_id.to_string())
            .await;
        assert_eq!(answer.problem(), (503, "unavailable"));
        assert!(
            started.elapsed() < Duration::from_secs(8),
            "{:?}",
            started.elapsed()
        );
    }
    assert_eq!(apps.complete("alice", &created).await.status, 200);
}

#[tokio::test]
async fn a_database_connection_that_was_cut_is_replaced_within_the_request() {
    let apps = TestContext::create().await;
    let app = apps.complete_upload();
    for i in 0..5 {
        let created = apps.put("alice", &format!("/{i}"), b"1").await;
        // The client in the environment notices the closed connection only at the next request, as after a
        // freeze.
        let cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'syncsphere'";
        apps.database.execute(cut).await;
        let answer = apps
            .complete_in(&app, "alice", &created.upload_id.to_string())
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(apps.queue.events().await.len(), 5);
}

#[tokio::test]
async fn a_statement_whose_answer_a_migration_changed_is_prepared_again() {
    let apps = TestContext::create().await;
    let app = apps.complete_upload();
    let uploads = [
        apps.put("alice", "/a", b"1").await,
        apps.put("alice", "/b", b"2").await,
    ];
    let complete = async |created: &model::CreatedUpload| {
        apps.complete_in(&app, "alice", &created.upload_id.to_string())
            .await
            .status
    };
    assert_eq!(complete(&uploads[0]).await, 200);
    // One is a single statement, the other a statement under a lock.
    apps.database
        .execute("ALTER TABLE uploads ALTER content_type TYPE varchar(255)")
        .await;
    apps.database
        .execute("ALTER TABLE changes ALTER user_id TYPE varchar(255)")
        .await;
    assert_eq!(complete(&uploads[1]).await, 200);
    assert_eq!(apps.database.number("SELECT count(*) FROM changes").await, 2);
}

#[tokio::test]
async fn what_is_sent_to_the_database_twice_is_done_once() {
    let apps = TestContext::create().await;
    let environment = apps.database.environment();
    // Opening a connection consumes its ticket.
    let ticket = apps.ticket("alice").await.ticket;
    for _ in 0..2 {
        assert_eq!(apps.connect(&ticket, "one", None).await.status, 200);
    }
    apps.clock.advance(time::Duration::milliseconds(1));
    assert_eq!(apps.connect(&ticket, "one", None).await.status, 401);

    // Opening an upload consumes its id, and creating a space consumes the space's id.
    let alice = model::Caller::from("alice".parse::<model::UserId>().unwrap());
    let (id, path) = (
        model::UploadId::from(platform::ids::new_id()),
        "/o".parse().unwrap(),
    );
    for _ in 0..2 {
        let new = db::NewUpload {
            id,
            space_id: None,
            device_id: None,
            path: &path,
            size: 1.try_into().unwrap(),
            sha256: Some(client::sha256(b"o")),
            content_type: None,
            modified_at: None,
            executable: None,
            base_version: None,
            base_file_id: None,
            part_size: None,
            key: None,
            expires_at: apps.clock.now() + time::Duration::hours(1),
        };
        let opening = db::Opening {
            caller: &alice,
            new_space_id: platform::ids::new_id().into(),
            max_space_bytes: i64::MAX,
            max_pending_uploads: i64::MAX,
            created_at: apps.clock.now(),
        };
        let opened = environment.open_uploads(&[new], opening).await.unwrap();
        assert_eq!(opened[0].as_ref().unwrap().id, id);
    }
    let (space_id, name) = (
        model::SpaceId::from(platform::ids::new_id()),
        "Shared".to_owned().try_into().unwrap(),
    );
    for _ in 0..2 {
        let space = db::NewSpace {
            id: space_id,
            name: &name,
            max_spaces: i64::MAX,
            key: None,
            new_space_id: platform::ids::new_id().into(),
        };
        let new = commands::begin(&apps.clock, &alice, None, i64::MAX);
        let (_, view) = environment.create_space(space, new).await.unwrap().unwrap();
        assert_eq!(view.space_id, space_id);
    }
    assert_eq!(apps.database.number("SELECT count(*) FROM changes").await, 1);

    // A completed upload is not completed again.
    let created = apps.put("alice", "/a", b"1").await;
    let commit = commands::begin_all(&apps.clock, &alice, i64::MAX);
    for _ in 0..2 {
        let completing = db::Completing {
            upload_id: created.upload_id,
            event_id: platform::ids::new_id().into(),
            new_file_id: platform::ids::new_id().into(),
            path: &created.path,
            sha256: None,
            composite_sha256: None,
            object_key: &created.upload_id.object_key(),
        };
        let completed = environment
            .complete_uploads(created.space_id, &[completing], i64::MAX, commit)
            .await
            .unwrap();
        assert!(completed[0].is_ok());
    }
    assert_eq!(apps.database.number("SELECT count(*) FROM changes").await, 2);

    // S3's id of a multipart upload belongs to this request alone.
    let body = upload_body("/b", &vec![0; 2 * 1024 * 1024]);
    let parts: model::CreatedUpload = apps.open("alice", &body).await.parsed();
    let upload = environment.load_upload(parts.upload_id, &alice).await.unwrap();
    let multipart_id = upload.unwrap().multipart_id.unwrap();
    let (same, other) = (
        environment
            .set_multipart_id(parts.upload_id, &multipart_id)
            .await
            .unwrap(),
        environment
            .set_multipart_id(parts.upload_id, "another")
            .await
            .unwrap(),
    );
    assert_eq!((same, other), (true, false));
}

/// The refusal comes before any request to storage.
#[tokio::test]
async fn who_may_not_write_any_more_is_refused_whether_or_not_the_content_is_there() {
    let apps = TestContext::create().await;
    let space = apps.space("alice").await;
    assert_eq!(apps.share("alice", space, "bob", "editor").await.status, 200);
    let mut body = upload_body("/a", b"one");
    body["spaceId"] = json!(space);
    let created: model::CreatedUpload = apps.open("bob", &body).await.parsed();
    assert_eq!(apps.share("alice", space, "bob", "viewer").await.status, 200);
    let refused = apps.complete("bob", &created).await;
    assert_eq!(refused.problem(), (403, "forbidden"));
}

/// The answer to `GET /uploads` with this query.
async fn pending(apps: &TestContext, user: &str, query: &[(&'static str, String)]) -> PendingUploadList {
    let call = Call::new("GET /uploads");
    let call = query
        .iter()
        .fold(call, |call, (name, value)| call.query(name, value));
    apps.call(user, call).await.parsed()
}

fn listed(list: &PendingUploadList) -> Vec<&str> {
    list.uploads.iter().map(|upload| upload.path.as_str()).collect()
}

#[tokio::test]
async fn pending_uploads_are_listed_to_their_user_oldest_first_until_they_end() {
    let apps = TestContext::create().await;
    assert_eq!(listed(&pending(&apps, "alice", &[]).await), [""; 0]);
    let space = apps.space("alice").await;
    apps.share("alice", space, "bob", "editor").await;
    let shared = |path: &str| {
        let mut body = upload_body(path, b"x");
        body["spaceId"] = json!(space);
        body
    };
    let completed = apps.put("alice", "/1", b"x").await;
    let large = upload_body("/2", &vec![0; 2 * 1024 * 1024]);
    let large: model::CreatedUpload = apps.open("alice", &large).await.parsed();
    let mut body = shared("/3");
    let device = uuid::Uuid::from_u128(7);
    body["deviceId"] = json!(device);
    let third: model::CreatedUpload = apps.open("alice", &body).await.parsed();
    let aborted = apps.opened("alice", "/4", b"x").await;
    assert_eq!(apps.open("bob", &shared("/bobs")).await.status, 201);

    let all = pending(&apps, "alice", &[]).await;
    assert_eq!(
        (listed(&all), all.next_page_token.is_some()),
        (vec!["/1", "/2", "/3", "/4"], false)
    );
    let in_parts: Vec<bool> = all.uploads.iter().map(|upload| upload.in_parts).collect();
    assert_eq!(in_parts, [false, true, false, false]);
    let upload = &all.uploads[2];
    assert_eq!(
        (upload.upload_id, upload.space_id, upload.size.get()),
        (third.upload_id, space, 1)
    );
    assert_eq!(upload.device_id, Some(device.into()));
    assert_eq!(upload.expires_at, third.expires_at);
    assert_eq!(upload.created_at + uploads::PUT_LIFETIME, third.expires_at);
    // Page by page.
    let first = pending(&apps, "alice", &[("limit", "3".to_owned())]).await;
    let token = first.next_page_token.as_ref().unwrap().to_string();
    let second = pending(&apps, "alice", &[("limit", "3".to_owned()), ("pageToken", token)]).await;
    assert_eq!(
        (listed(&first), listed(&second)),
        (vec!["/1", "/2", "/3"], vec!["/4"])
    );
    assert_eq!(second.next_page_token, None);

    // Others see their own.
    assert_eq!(listed(&pending(&apps, "bob", &[]).await), ["/bobs"]);
    assert_eq!(apps.unshare("alice", space, "bob").await.status, 204);
    assert_eq!(listed(&pending(&apps, "bob", &[]).await), [""; 0]);
    // Ended ones are gone.
    assert_eq!(apps.complete("alice", &completed).await.status, 200);
    let abort = Call::new("DELETE /uploads/{uploadId}").path("uploadId", aborted.upload_id);
    assert_eq!(apps.call("alice", abort).await.status, 204);
    assert_eq!(listed(&pending(&apps, "alice", &[]).await), ["/2", "/3"]);
    // After its expiry an upload can be completed for a time, and is listed as long.
    let left = third.expires_at + db::IN_FLIGHT - apps.clock.now();
    apps.clock.advance(left - time::Duration::SECOND);
    assert_eq!(listed(&pending(&apps, "alice", &[]).await), ["/2", "/3"]);
    apps.clock.advance(time::Duration::SECOND);
    let left = pending(&apps, "alice", &[]).await;
    assert_eq!(left.uploads[0].upload_id, large.upload_id);
    assert_eq!(listed(&left), ["/2"]);
}
