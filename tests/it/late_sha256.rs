//! The SHA-256 of the whole content, given when the upload is completed.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use model::{BatchResults, ChangeOutcome, CreatedUpload, FileChanged, Sha256, UploadStatus};
use serde_json::{Value, json};
use tests::{Answer, Call, TestContext, TestDatabase, upload_body};

use super::multipart::{content, piece, send, show};

/// A body of `POST /uploads` without `sha256`.
fn unread(path: &str, content: &[u8]) -> Value {
    let mut body = upload_body(path, content);
    body.as_object_mut().unwrap().remove("sha256");
    body
}

/// Opens an upload without `sha256`.
async fn opened(apps: &TestContext, path: &str, content: &[u8]) -> CreatedUpload {
    let answer = apps.open("alice", &unread(path, content)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.parsed()
}

async fn complete(apps: &TestContext, created: &CreatedUpload, sha256: Sha256) -> Answer {
    let call = Call::new("POST /uploads/{uploadId}/complete").path("uploadId", created.upload_id);
    apps.call("alice", call.body(json!({ "sha256": sha256 }))).await
}

async fn complete_in_batch(apps: &TestContext, created: &CreatedUpload) -> Answer {
    let call = Call::new("POST /uploads/batch/complete");
    apps.call("alice", call.body(json!({ "uploadIds": [created.upload_id] })))
        .await
}

async fn changes(apps: &TestContext) -> i64 {
    apps.database.number("SELECT count(*) FROM changes").await
}

#[tokio::test]
async fn a_sha256_that_is_given_at_completion_is_that_of_the_version() {
    let apps = super::apps().await;
    let content = content();
    let created = opened(&apps, "/big", &content).await;
    assert!(created.put().is_none());
    assert_eq!(show(&apps, &created).await.sha256, None);
    send(&apps, &created, &content, &[1, 2]).await;

    let sha256 = client::sha256(&content);
    let first = complete(&apps, &created, sha256).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.parsed::<FileChanged>().sha256, sha256);
    let view = show(&apps, &created).await;
    assert_eq!((view.state, view.sha256), (UploadStatus::Completed, Some(sha256)));
    let events = apps.queue.events().await;
    assert_eq!(events.len(), 1);
    assert!(
        serde_json::to_string(&events[0])
            .unwrap()
            .contains(&sha256.to_string())
    );

    // Repetitions with the same value or none find the change. Another value is a conflict.
    assert_eq!(complete(&apps, &created, sha256).await, first);
    assert_eq!(apps.complete("alice", &created).await, first);
    let batch = complete_in_batch(&apps, &created).await;
    let batch: BatchResults<ChangeOutcome> = batch.parsed();
    assert!(matches!(&batch.results[0].outcome, ChangeOutcome::Change(change) if change.sha256 == sha256));
    let other = complete(&apps, &created, client::sha256(b"other")).await;
    assert_eq!(other.problem(), (409, "sha256-conflict"));
    assert_eq!(changes(&apps).await, 1);
}

#[tokio::test]
async fn a_completion_without_any_sha256_is_refused_and_changes_nothing() {
    let apps = super::apps().await;
    let content = content();
    let created = opened(&apps, "/big", &content).await;
    send(&apps, &created, &content, &[1, 2]).await;
    let before = show(&apps, &created).await;
    let alone = apps.complete("alice", &created).await;
    assert_eq!(alone.problem(), (422, "sha256-required"));
    let batch = complete_in_batch(&apps, &created).await;
    assert_eq!(batch.status, 200);
    let item = &batch.body["results"][0];
    assert_eq!((&item["status"], &item["problem"]), (&json!(422), &alone.body));
    let route = "POST /uploads/{uploadId}/complete";
    assert!(
        item["problem"]["detail"].as_str().unwrap().contains(route),
        "{item}"
    );

    // The parts are still there, and not assembled.
    let after = show(&apps, &created).await;
    assert_eq!((after.state, after.stored), (UploadStatus::Pending, false));
    assert_eq!(after.parts, before.parts);
    assert_eq!(changes(&apps).await, 0);
    assert_eq!(
        complete(&apps, &created, client::sha256(&content)).await.status,
        200
    );
}

#[tokio::test]
async fn a_sha256_at_completion_must_be_that_of_the_opening() {
    let apps = super::apps().await;
    let content = content();
    let sha256 = client::sha256(&content);
    let in_parts = apps.opened("alice", "/big", &content).await;
    send(&apps, &in_parts, &content, &[1, 2]).await;
    let small = apps.put("alice", "/small", b"small").await;
    for (created, sha256) in [(&in_parts, sha256), (&small, client::sha256(b"small"))] {
        let refused = complete(&apps, created, client::sha256(b"other")).await;
        assert_eq!(refused.problem(), (409, "sha256-conflict"));
        assert_eq!(show(&apps, created).await.state, UploadStatus::Pending);
        assert_eq!(complete(&apps, created, sha256).await.status, 200);
    }
    assert_eq!(changes(&apps).await, 2);
}

#[tokio::test]
async fn of_completions_with_different_sha256s_at_once_one_decides() {
    let apps = super::apps().await;
    let content = content();
    let created = opened(&apps, "/big", &content).await;
    send(&apps, &created, &content, &[1, 2]).await;
    let digests: Vec<Sha256> = (0..8_u8).map(|number| client::sha256(&[number])).collect();
    let answers = join_all(digests.iter().map(|sha256| complete(&apps, &created, *sha256))).await;
    let mut accepted = BTreeSet::new();
    for (sha256, answer) in digests.iter().zip(&answers) {
        if answer.status == 200 {
            assert_eq!(answer.parsed::<FileChanged>().sha256, *sha256);
            accepted.insert(sha256.to_string());
        } else {
            assert_eq!(answer.problem(), (409, "sha256-conflict"));
        }
    }
    assert_eq!((accepted.len(), changes(&apps).await), (1, 1));
    let decided = show(&apps, &created).await.sha256.unwrap();
    assert!(accepted.contains(&decided.to_string()));
}

#[tokio::test]
async fn a_key_belongs_to_the_request_with_or_without_the_sha256() {
    let apps = super::apps().await;
    let content = content();
    let open = |key: &'static str, body: Value| {
        let call = Call::new("POST /uploads").header("idempotency-key", key);
        apps.call("alice", call.body(body))
    };
    let (without, with) = (unread("/big", &content), upload_body("/big", &content));
    for (key, first, other) in [("a", &without, &with), ("b", &with, &without)] {
        let opened: CreatedUpload = open(key, first.clone()).await.parsed();
        let again: CreatedUpload = open(key, first.clone()).await.parsed();
        assert_eq!(opened.upload_id, again.upload_id);
        let refused = open(key, other.clone()).await;
        assert_eq!(refused.problem(), (422, "idempotency-key-reused"));
    }
    let mut null = without.clone();
    null["sha256"] = Value::Null;
    assert_eq!(open("a", null).await.status, 201);
}

#[tokio::test]
async fn content_that_is_put_in_one_request_needs_its_sha256_at_the_opening() {
    let apps = super::apps().await;
    let body = unread("/small", b"small");
    let alone = apps.open("alice", &body).await;
    assert_eq!(alone.problem(), (422, "sha256-required"));
    let large = unread("/big", &content());
    let call = Call::new("POST /uploads/batch").body(json!({ "uploads": [body, large] }));
    let batch = apps.call("alice", call).await;
    assert_eq!(batch.body["results"][0]["problem"], alone.body);
    assert_eq!(batch.body["results"][1]["status"], 201);
    let uploads = "SELECT count(*) FROM uploads";
    assert_eq!(apps.database.number(uploads).await, 1);
}

/// A client that crashed meanwhile can prove that the object is that of its file.
#[tokio::test]
async fn assembled_parts_are_shown_with_their_composite_until_they_are_complete() {
    let apps = super::apps().await;
    let content = content();
    let created = opened(&apps, "/big", &content).await;
    send(&apps, &created, &content, &[1, 2]).await;
    assert_eq!(show(&apps, &created).await.composite, None);
    apps.database
        .execute("ALTER TABLE outbox RENAME TO unreachable")
        .await;
    let sha256 = client::sha256(&content);
    let failed = complete(&apps, &created, sha256).await;
    assert_eq!(failed.problem(), (503, "unavailable"));
    apps.database
        .execute("ALTER TABLE unreachable RENAME TO outbox")
        .await;

    let view = show(&apps, &created).await;
    assert_eq!((view.stored, view.sha256, view.parts), (true, None, None));
    let digests = [1, 2].map(|part| *client::sha256(piece(&content, part)).as_bytes());
    assert_eq!(view.composite.unwrap().sha256, client::sha256(&digests.concat()));
    // The failed completion has decided nothing.
    assert_eq!(
        apps.complete("alice", &created).await.problem(),
        (422, "sha256-required")
    );
    assert_eq!(complete(&apps, &created, sha256).await.status, 200);
    assert_eq!(show(&apps, &created).await.composite, None);
}

/// Its functions still run when the migration has been applied, and after a rollback.
#[tokio::test]
async fn the_former_release_cannot_complete_an_upload_without_a_sha256() {
    let database = TestDatabase::create().await;
    let former = "
        INSERT INTO users (user_id, seen_at) VALUES ('u', now());
        INSERT INTO spaces (id, kind, owner_id, created_at)
            VALUES ('00000000-0000-7000-8000-000000000001', 'personal', 'u', now());
        INSERT INTO uploads (id, space_id, user_id, path, size, sha256, part_size, created_at, expires_at)
            SELECT gen_random_uuid(), id, 'u', '/a', 1, sha256('x'), part_size, now(), now()
            FROM spaces, (VALUES (NULL), (8388608)) AS parts (part_size)";
    database.execute(former).await;
    let unread = "
        INSERT INTO uploads (id, space_id, user_id, path, size, sha256, part_size, created_at, expires_at)
            SELECT '00000000-0000-7000-8000-000000000002', id, 'u', '/b', 1, NULL, 8388608, now(), now() FROM spaces";
    database.execute(unread).await;
    let made = "
        INSERT INTO changes (space_id, sequence, event_id, event_type, user_id, subject_space_id, occurred_at)
            SELECT id, 1, '00000000-0000-7000-8000-000000000003', 'SPACE_SHARED', 'u', id, now() FROM spaces";
    database.execute(made).await;
    let client = database.another_client().await;
    for refused in [
        "UPDATE uploads SET state = 'completed', event_id = '00000000-0000-7000-8000-000000000003' WHERE sha256 IS NULL",
        "UPDATE uploads SET part_size = NULL WHERE sha256 IS NULL",
    ] {
        let error = client.execute(refused, &[]).await.unwrap_err();
        let constraint = error.as_db_error().and_then(|error| error.constraint());
        assert_eq!(constraint, Some("uploads_sha256"), "{error}");
    }
    let completed =
        "UPDATE uploads SET state = 'completed', event_id = '00000000-0000-7000-8000-000000000003'
        WHERE path = '/a' AND part_size IS NOT NULL";
    database.execute(completed).await;
}
