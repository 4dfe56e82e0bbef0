//! From the queue to connections: coalescing, the dead and the not yet living, the poisonous.

use std::time::{Duration as StdDuration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use tests::{Apps, TestQueue, sample};
use time::Duration;

/// Uploads once per path, and returns the messages as records received from a queue of their own.
async fn records(apps: &Apps, user: &str, paths: &[&str]) -> Vec<Value> {
    let mut records = Vec::new();
    for path in paths {
        apps.upload(user, path, path.as_bytes()).await;
    }
    for body in apps.queue.drain().await {
        records.push(apps.queue.record(&body).await);
    }
    records
}

/// `fan-out`'s logs and outcomes name a record by its message id.
fn id(record: &Value) -> String {
    record["messageId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn changes_of_a_batch_travel_in_one_frame_to_every_device_of_the_user_and_no_other() {
    let apps = Apps::create().await;
    for connection in ["a1", "a2"] {
        apps.connected("alice", connection).await;
    }
    apps.connected("bob", "b1").await;
    let mut records = records(&apps, "alice", &["/1", "/2", "/3"]).await;
    records.reverse();
    // The queue may deliver twice.
    records.push(records[0].clone());
    assert!(apps.fan(&records).await.is_empty());
    for connection in ["a1", "a2"] {
        assert_eq!(apps.gateway.frames(connection).len(), 1);
        assert_eq!(apps.gateway.sequences(connection), [1, 2, 3]);
    }
    assert!(apps.gateway.frames("b1").is_empty());
}

#[tokio::test]
async fn a_frame_carries_what_a_device_needs() {
    let apps = Apps::create().await;
    apps.connected("alice", "a1").await;
    let changed = apps.upload("alice", "/Docs/a.txt", b"content").await;
    let body = apps.queue.drain().await.remove(0);
    let record = apps.queue.record(&body).await;
    apps.fan(&[record]).await;
    let expected = serde_json::json!({
        "type": "changes",
        "spaceId": changed.space_id,
        "changes": [{
            "sequence": 1, "eventId": changed.event_id, "eventType": "FILE_UPDATED", "fileId": changed.file_id,
            "spaceId": changed.space_id, "userId": "alice", "path": "/Docs/a.txt", "version": 1, "size": 7,
            "sha256": client::sha256(b"content"), "occurredAt": "2026-01-02T03:04:05.678Z",
        }],
    });
    assert_eq!(apps.gateway.frames("a1"), [expected]);
}

#[tokio::test]
async fn one_poison_record_does_not_fail_its_batch() {
    let apps = Apps::create().await;
    apps.connected("alice", "a1").await;
    let mut batch = records(&apps, "alice", &["/1", "/2"]).await;
    let poison = sample("fan-out.poison")["Records"][0].clone();
    batch.insert(1, poison.clone());
    assert!(apps.fan(&batch).await.is_empty());
    assert_eq!(apps.gateway.sequences("a1"), [1, 2]);
    assert_eq!(
        apps.dead_letters.drain().await,
        [poison["body"].as_str().unwrap()]
    );
}

#[tokio::test]
async fn poison_that_cannot_be_set_aside_comes_again_alone() {
    let mut apps = Apps::create().await;
    apps.connected("alice", "a1").await;
    let mut batch = records(&apps, "alice", &["/1"]).await;
    let poison = sample("fan-out.poison")["Records"][0].clone();
    batch.push(poison.clone());
    apps.dead_letters = TestQueue::create().await;
    let mut app = apps.fan_out().await;
    app.dead_letter_queue_url = format!("{}-that-is-not-there", apps.dead_letters.url);
    let event = serde_json::from_value(serde_json::json!({ "Records": batch })).unwrap();
    let failures = fan_out::handle(&app, event).await.batch_item_failures;
    assert_eq!(
        failures
            .iter()
            .map(|failure| failure.item_identifier.clone())
            .collect::<Vec<_>>(),
        [id(&poison)]
    );
    assert_eq!(apps.gateway.sequences("a1"), [1]);
}

#[tokio::test]
async fn a_gone_connection_older_than_30_s_is_forgotten() {
    let apps = Apps::create().await;
    apps.connected("alice", "dead").await;
    apps.connected("alice", "alive").await;
    apps.gateway.answer("dead", 410);
    let batch = records(&apps, "alice", &["/1"]).await;
    apps.clock.advance(fan_out::SETTLING_TIME);
    assert!(apps.fan(&batch).await.is_empty());
    assert_eq!(
        (apps.connections("dead").await, apps.connections("alive").await),
        (0, 1)
    );
    assert_eq!(apps.gateway.sequences("alive"), [1]);
}

#[tokio::test]
async fn a_gone_connection_younger_than_30_s_is_kept_and_tried_again() {
    let apps = Apps::create().await;
    apps.connected("alice", "young").await;
    apps.gateway.answer("young", 410);
    let batch = records(&apps, "alice", &["/1"]).await;
    apps.clock
        .advance(fan_out::SETTLING_TIME - Duration::milliseconds(1));
    assert_eq!(apps.fan(&batch).await, [id(&batch[0])]);
    assert_eq!(apps.connections("young").await, 1);
    // `$connect` is through now.
    apps.gateway.answer("young", 200);
    assert!(apps.fan(&batch).await.is_empty());
    assert_eq!(apps.gateway.sequences("young"), [1]);
}

#[tokio::test]
async fn an_id_that_was_given_to_a_newer_connection_is_not_forgotten() {
    let apps = Apps::create().await;
    apps.connected("alice", "reused").await;
    let environment = apps.database.environment();
    let old = tests::START - Duration::hours(1);
    environment
        .remove_gone_connections(&[("reused", old)])
        .await
        .unwrap();
    assert_eq!(apps.connections("reused").await, 1);
    environment
        .remove_gone_connections(&[("reused", tests::START)])
        .await
        .unwrap();
    assert_eq!(apps.connections("reused").await, 0);
}

#[tokio::test]
async fn a_failed_post_brings_back_its_record_within_seconds_and_no_other() {
    let apps = Apps::create().await;
    apps.connected("alice", "a1").await;
    apps.connected("bob", "b1").await;
    for status in [429, 500, 403] {
        apps.gateway.answer("b1", status);
        let alices = records(&apps, "alice", &["/a"]).await;
        let bobs = records(&apps, "bob", &["/b"]).await;
        let batch: Vec<Value> = alices.into_iter().chain(bobs.clone()).collect();
        assert_eq!(apps.fan(&batch).await, [id(&bobs[0])], "{status}");
        // The queue's own visibility timeout is 30 s.
        let waiting = Instant::now();
        assert_eq!(
            apps.queue.wait_for_one().await.as_deref(),
            bobs[0]["body"].as_str()
        );
        assert!(
            waiting.elapsed() < StdDuration::from_secs(15),
            "{:?}",
            waiting.elapsed()
        );
        assert_eq!(apps.connections("b1").await, 1);
        apps.queue.drain().await;
    }
    assert_eq!(apps.gateway.sequences("a1"), [1, 2, 3]);
}

#[tokio::test]
async fn without_the_database_the_whole_batch_comes_again() {
    let apps = Apps::create().await;
    let batch = records(&apps, "alice", &["/1", "/2"]).await;
    let mut app = apps.fan_out().await;
    app.db = db::Database::new("postgresql://u@127.0.0.1:9/x?sslmode=disable".parse().unwrap());
    let event = serde_json::from_value(serde_json::json!({ "Records": batch })).unwrap();
    assert_eq!(fan_out::handle(&app, event).await.batch_item_failures.len(), 2);
}

#[tokio::test]
async fn a_hundred_changes_fit_into_frames_and_reach_sixty_devices() {
    let apps = Apps::create().await;
    // Past the limit per user, which is not what this is about.
    apps.connected("alice", "c0").await;
    let more = "INSERT INTO connections SELECT 'c' || i, user_id, device_id, connected_at, expires_at
        FROM connections, generate_series(1, 59) i";
    apps.database.execute(more).await;
    let paths: Vec<String> = (0..100).map(|i| format!("/{i}/{}", "x".repeat(900))).collect();
    for chunk in paths.chunks(10) {
        join_all(chunk.iter().map(|path| apps.upload("alice", path, b"x"))).await;
    }
    let mut batch = Vec::new();
    for body in apps.queue.drain().await {
        batch.push(apps.queue.record(&body).await);
    }
    assert!(apps.fan(&batch).await.is_empty());
    for i in 0..60 {
        let frames = apps.gateway.frames(&format!("c{i}"));
        assert!(
            frames.len() > 1
                && frames
                    .iter()
                    .all(|frame| frame.to_string().len() <= model::MAX_FRAME_BYTES)
        );
        assert_eq!(
            apps.gateway.sequences(&format!("c{i}")),
            (1..=100).collect::<Vec<_>>()
        );
    }
}
