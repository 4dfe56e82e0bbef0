//! From the queue to connections: coalescing, gone connections, connections whose `$connect` still runs, and
//! messages that cannot be decoded.

use std::time::{Duration as StdDuration, Instant};

use futures_util::future::join_all;
use model::{Message, Recipients};
use serde_json::{Value, json};
use tests::{Counted, TestContext, TestQueue, hung_server, sample};
use time::Duration;

/// Uploads once to each path, and returns the messages as records received from a separate queue.
async fn records(apps: &TestContext, user: &str, paths: &[&str]) -> Vec<Value> {
    let mut records = Vec::new();
    for path in paths {
        apps.upload(user, path, path.as_bytes()).await;
    }
    for body in apps.queue.drain().await {
        records.push(apps.queue.record(&body).await);
    }
    records
}

/// Deadline for a batch: 10 s from now.
fn stop() -> tokio::time::Instant {
    tokio::time::Instant::now() + StdDuration::from_secs(10)
}

/// Approximate time after which `fan-out` gives up on a database that does not respond.
const DATABASE_TIMEOUT: StdDuration = StdDuration::from_secs(3);

/// A message as a record that has been received this number of times.
fn received(message: &Message, times: u32) -> Value {
    json!({
        "messageId": format!("{}-{times}", message.event.event_id),
        "receiptHandle": "made-up",
        "body": message.encode().unwrap(),
        "attributes": { "ApproximateReceiveCount": times.to_string() },
    })
}

/// Recipients of a message that names these connections.
fn only(connections: &[&str]) -> Recipients {
    Recipients::Only(connections.iter().map(|id| (*id).to_owned()).collect())
}

/// Message id of a record. Logs and responses of `fan-out` name a record by it.
fn id(record: &Value) -> String {
    record["messageId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn changes_of_a_batch_travel_in_one_frame_to_every_device_of_the_user_and_no_other() {
    let apps = TestContext::create().await;
    for connection in ["a1", "a2"] {
        apps.connected("alice", connection).await;
    }
    apps.connected("bob", "b1").await;
    let mut records = records(&apps, "alice", &["/1", "/2", "/3"]).await;
    records.reverse();
    // A standard queue may deliver a message twice.
    records.push(records[0].clone());
    assert!(apps.invoke_fan_out(&records).await.is_empty());
    for connection in ["a1", "a2"] {
        assert_eq!(apps.gateway.frames(connection).len(), 1);
        assert_eq!(apps.gateway.sequences(connection), [1, 2, 3]);
    }
    assert!(apps.gateway.frames("b1").is_empty());
}

#[tokio::test]
async fn a_frame_carries_what_a_device_needs() {
    let apps = TestContext::create().await;
    apps.connected("alice", "a1").await;
    let changed = apps.upload("alice", "/Docs/a.txt", b"content").await;
    let body = apps.queue.drain().await.remove(0);
    let record = apps.queue.record(&body).await;
    apps.invoke_fan_out(&[record]).await;
    let epoch: uuid::Uuid = apps.database.rows("SELECT epoch FROM history").await[0].get(0);
    let expected = serde_json::json!({
        "type": "changes",
        "epoch": epoch,
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
    let apps = TestContext::create().await;
    apps.connected("alice", "a1").await;
    let mut batch = records(&apps, "alice", &["/1", "/2"]).await;
    let poison = sample("fan-out.poison")["Records"][0].clone();
    batch.insert(1, poison.clone());
    assert!(apps.invoke_fan_out(&batch).await.is_empty());
    assert_eq!(apps.gateway.sequences("a1"), [1, 2]);
    assert_eq!(
        apps.dead_letters.drain().await,
        [poison["body"].as_str().unwrap()]
    );
}

#[tokio::test]
async fn poison_that_cannot_be_set_aside_comes_again_alone() {
    let mut apps = TestContext::create().await;
    apps.connected("alice", "a1").await;
    let mut batch = records(&apps, "alice", &["/1"]).await;
    let poison = sample("fan-out.poison")["Records"][0].clone();
    batch.push(poison.clone());
    apps.dead_letters = TestQueue::create().await;
    let mut app = apps.fan_out();
    app.dead_letters = app
        .dead_letters
        .with_url(format!("{}-that-is-not-there", apps.dead_letters.url));
    let event = serde_json::from_value(serde_json::json!({ "Records": batch })).unwrap();
    let failures = fan_out::handle(&app, event, stop()).await.batch_item_failures;
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
    let apps = TestContext::create().await;
    apps.connected("alice", "dead").await;
    apps.connected("alice", "alive").await;
    apps.gateway.answer("dead", 410);
    let batch = records(&apps, "alice", &["/1"]).await;
    apps.clock.advance(fan_out::CONNECT_GRACE);
    assert!(apps.invoke_fan_out(&batch).await.is_empty());
    assert_eq!(
        (
            apps.stored_connections("dead").await,
            apps.stored_connections("alive").await
        ),
        (0, 1)
    );
    assert_eq!(apps.gateway.sequences("alive"), [1]);
}

#[tokio::test]
async fn a_gone_connection_younger_than_30_s_is_kept_and_tried_again() {
    let apps = TestContext::create().await;
    apps.connected("alice", "young").await;
    apps.gateway.answer("young", 410);
    let batch = records(&apps, "alice", &["/1"]).await;
    apps.clock
        .advance(fan_out::CONNECT_GRACE - Duration::milliseconds(1));
    assert!(apps.invoke_fan_out(&batch).await.is_empty());
    assert_eq!(apps.stored_connections("young").await, 1);
    assert!(apps.gateway.posts("young") > 1, "it was tried again at once");
    // `$connect` has ended.
    apps.gateway.answer("young", 200);
    let body = apps.queue.wait_for_one().await.unwrap();
    let left = Message::decode(&body).unwrap();
    assert_eq!((left.delivery.attempt, &left.delivery.to), (1, &only(&["young"])));
    assert!(apps.invoke_fan_out(&[received(&left, 1)]).await.is_empty());
    assert_eq!(apps.gateway.sequences("young"), [1]);
}

#[tokio::test]
async fn an_id_that_was_given_to_a_newer_connection_is_not_forgotten() {
    let apps = TestContext::create().await;
    apps.connected("alice", "reused").await;
    let environment = apps.database.environment();
    let old = tests::START - Duration::hours(1);
    environment
        .remove_gone_connections(&[("reused", old)])
        .await
        .unwrap();
    assert_eq!(apps.stored_connections("reused").await, 1);
    environment
        .remove_gone_connections(&[("reused", tests::START)])
        .await
        .unwrap();
    assert_eq!(apps.stored_connections("reused").await, 0);
}

#[tokio::test]
async fn only_those_who_did_not_hear_are_tried_again_and_within_seconds() {
    let apps = TestContext::create().await;
    for connection in ["a1", "a2"] {
        apps.connected("alice", connection).await;
    }
    for (status, sequence) in [(429, 1), (500, 2)] {
        apps.gateway.answer("a2", status);
        let batch = records(&apps, "alice", &[&format!("/{status}")]).await;
        apps.queue.drain().await;
        assert!(apps.invoke_fan_out(&batch).await.is_empty(), "{status}");
        let waiting = Instant::now();
        let left = Message::decode(&apps.queue.wait_for_one().await.unwrap()).unwrap();
        assert!(
            waiting.elapsed() < StdDuration::from_secs(15),
            "{:?}",
            waiting.elapsed()
        );
        assert_eq!((left.delivery.attempt, &left.delivery.to), (1, &only(&["a2"])));
        assert_eq!(left.event.sequence.get(), sequence);
        apps.gateway.answer("a2", 200);
        assert!(apps.invoke_fan_out(&[received(&left, 1)]).await.is_empty());
        apps.queue.drain().await;
    }
    assert_eq!(apps.gateway.sequences("a1"), [1, 2]);
    assert_eq!(apps.gateway.sequences("a2"), [1, 2]);
}

#[tokio::test]
async fn a_connection_that_fails_now_and_then_hears_within_the_invocation() {
    let apps = TestContext::create().await;
    apps.connected("alice", "a1").await;
    apps.gateway.answer("a1", 503);
    let batch = records(&apps, "alice", &["/1"]).await;
    apps.queue.drain().await;
    let mended = async {
        while apps.gateway.posts("a1") < 2 {
            tokio::task::yield_now().await;
        }
        apps.gateway.answer("a1", 200);
    };
    let (failed, ()) = tokio::join!(apps.invoke_fan_out(&batch), mended);
    assert!(failed.is_empty());
    assert_eq!(apps.gateway.sequences("a1"), [1]);
    assert!(apps.queue.drain().await.is_empty());
}

#[tokio::test]
async fn a_hanging_connection_holds_up_nobody_else() {
    let apps = TestContext::create().await;
    apps.connected("alice", "hangs").await;
    apps.connected("alice", "hears").await;
    apps.gateway.answer("hangs", 0);
    let batch = records(&apps, "alice", &["/1"]).await;
    apps.queue.drain().await;
    let event = serde_json::from_value(json!({ "Records": batch })).unwrap();
    let stop = tokio::time::Instant::now() + StdDuration::from_secs(2);
    let response = fan_out::handle(&apps.fan_out(), event, stop).await;
    assert!(response.batch_item_failures.is_empty());
    assert_eq!(apps.gateway.sequences("hears"), [1]);
    let left = Message::decode(&apps.queue.wait_for_one().await.unwrap()).unwrap();
    assert_eq!(left.delivery.to, only(&["hangs"]));
}

#[tokio::test]
async fn a_refused_post_is_dead_lettered_for_those_alone_and_not_tried_again() {
    let apps = TestContext::create().await;
    for connection in ["a1", "a2"] {
        apps.connected("alice", connection).await;
    }
    apps.gateway.answer("a2", 403);
    let batch = records(&apps, "alice", &["/1"]).await;
    apps.queue.drain().await;
    assert!(apps.invoke_fan_out(&batch).await.is_empty());
    assert_eq!(apps.gateway.posts("a2"), 1);
    assert!(apps.queue.drain().await.is_empty());
    let dead = apps.dead_letters.messages().await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].delivery.to, only(&["a2"]));
    // After the role is corrected, `maintenance` returns the message to the queue.
    apps.gateway.answer("a2", 200);
    apps.dead_letters
        .send(dead.iter().map(|message| message.encode().unwrap()))
        .await;
    assert_eq!(apps.run_maintenance().await.unwrap().redriven, 1);
    let again = apps.queue.messages().await;
    assert_eq!((again.len(), again[0].delivery.attempt), (1, 1));
    assert!(apps.invoke_fan_out(&[received(&again[0], 1)]).await.is_empty());
    assert_eq!(apps.gateway.sequences("a1"), [1]);
    assert_eq!(apps.gateway.sequences("a2"), [1]);
}

#[tokio::test]
async fn a_connection_that_takes_no_post_in_ten_attempts_is_closed_and_its_messages_are_dropped() {
    let apps = TestContext::create().await;
    for connection in ["deaf", "hears"] {
        apps.connected("alice", connection).await;
    }
    apps.upload("alice", "/1", b"1").await;
    let mut message = apps.queue.messages().await.remove(0);
    apps.gateway.answer("deaf", 429);
    message.delivery.attempt = fan_out::MAX_ATTEMPTS - 2;
    assert!(apps.invoke_fan_out(&[received(&message, 1)]).await.is_empty());
    assert_eq!(
        (apps.gateway.closed(), apps.stored_connections("deaf").await),
        (Vec::new(), 1)
    );
    message.delivery.attempt = fan_out::MAX_ATTEMPTS - 1;
    assert!(apps.invoke_fan_out(&[received(&message, 1)]).await.is_empty());
    assert_eq!(
        (apps.gateway.closed(), apps.stored_connections("deaf").await),
        (vec!["deaf".to_owned()], 0)
    );
    assert_eq!(apps.stored_connections("hears").await, 1);
    assert!(apps.dead_letters.drain().await.is_empty());
    // A message still queued for the closed connection reaches nobody.
    let posts = apps.gateway.posts("deaf");
    message.delivery.to = only(&["deaf"]);
    assert!(apps.invoke_fan_out(&[received(&message, 1)]).await.is_empty());
    assert_eq!(apps.gateway.posts("deaf"), posts);
}

#[tokio::test]
async fn a_connection_that_hangs_costs_one_post_an_invocation_and_is_closed_at_the_third() {
    let apps = TestContext::create().await;
    apps.connected("alice", "hangs").await;
    apps.gateway.answer("hangs", 0);
    // Two audiences require two posts.
    let space = apps.space("alice").await;
    let mut body = tests::upload_body("/1", b"1");
    body["spaceId"] = json!(space);
    apps.upload_as("alice", &body, b"1").await;
    let mut messages = apps.queue.messages().await;
    assert_eq!(messages.len(), 2);
    for attempt in 0..fan_out::MAX_TIMED_OUT_ATTEMPTS {
        assert!(apps.gateway.closed().is_empty(), "attempt {attempt}");
        let batch: Vec<Value> = messages
            .iter_mut()
            .map(|message| {
                message.delivery.attempt = attempt;
                received(message, 1)
            })
            .collect();
        let begun = Instant::now();
        assert!(apps.invoke_fan_out(&batch).await.is_empty());
        assert!(
            begun.elapsed() < 2 * platform::aws::ATTEMPT_TIMEOUT,
            "{:?}",
            begun.elapsed()
        );
    }
    assert_eq!(apps.gateway.closed(), ["hangs"]);
    assert_eq!(apps.stored_connections("hangs").await, 0);
}

/// While API Gateway answers every call with an error, no connection is deleted and the messages stay queued.
#[tokio::test]
async fn a_connection_that_cannot_be_closed_is_kept_and_tried_again_in_a_minute() {
    let apps = TestContext::create().await;
    apps.connected("alice", "a1").await;
    apps.upload("alice", "/1", b"1").await;
    let mut message = apps.queue.messages().await.remove(0);
    apps.gateway.answer("a1", 503);
    message.delivery.attempt = fan_out::MAX_ATTEMPTS - 1;
    assert!(apps.invoke_fan_out(&[received(&message, 1)]).await.is_empty());
    assert_eq!(
        (apps.gateway.closed(), apps.stored_connections("a1").await),
        (Vec::new(), 1)
    );
    assert_eq!(apps.queue.delayed().await, 1);
    assert!(apps.dead_letters.drain().await.is_empty());
    // The connection accepts posts again.
    apps.gateway.answer("a1", 200);
    message.delivery.attempt = fan_out::MAX_ATTEMPTS;
    assert!(apps.invoke_fan_out(&[received(&message, 1)]).await.is_empty());
    assert_eq!(apps.gateway.sequences("a1"), [1]);
}

/// 64 connections of mallory that do not answer, and one of zoe.
async fn with_hanging_connections() -> TestContext {
    let apps = TestContext::create().await;
    apps.connected("mallory", "hangs-0").await;
    // More than the limit of connections per user, which is not tested here.
    let more = "INSERT INTO connections SELECT 'hangs-' || i, user_id, device_id, connected_at, expires_at
        FROM connections, generate_series(1, 63) i";
    apps.database.execute(more).await;
    for i in 0..64 {
        apps.gateway.answer(&format!("hangs-{i}"), 0);
    }
    apps.connected("zoe", "hears").await;
    apps
}

/// Notifies mallory and zoe of a change of their own each. Zoe must be reached before a post of mallory's could
/// time out.
async fn zoe_is_reached_soon(apps: &TestContext) {
    let mut batch = records(apps, "mallory", &["/1"]).await;
    batch.extend(records(apps, "zoe", &["/1"]).await);
    let app = apps.fan_out();
    let event = serde_json::from_value(json!({ "Records": batch })).unwrap();
    let begun = Instant::now();
    let heard = async {
        while apps.gateway.sequences("hears").is_empty() {
            tokio::task::yield_now().await;
        }
        begun.elapsed()
    };
    tokio::select! {
        _ = fan_out::handle(&app, event, stop()) => panic!("zoe was told last, or not at all"),
        took = heard => assert!(took < platform::aws::ATTEMPT_TIMEOUT, "{took:?}"),
    }
}

#[tokio::test]
async fn sixty_connections_of_one_user_that_hang_hold_up_nobody_else() {
    zoe_is_reached_soon(&with_hanging_connections().await).await;
}

#[tokio::test]
async fn connections_that_were_not_tried_have_no_attempt_less() {
    let apps = TestContext::create().await;
    apps.connected("alice", "c0").await;
    let more = "INSERT INTO connections SELECT 'c' || i, user_id, device_id, connected_at, expires_at
        FROM connections, generate_series(1, 29) i";
    apps.database.execute(more).await;
    for i in 0..30 {
        apps.gateway.answer(&format!("c{i}"), 0);
    }
    apps.upload("alice", "/1", b"1").await;
    let message = apps.queue.messages().await.remove(0);
    let event = serde_json::from_value(json!({ "Records": [received(&message, 1)] })).unwrap();
    let stop = tokio::time::Instant::now() + StdDuration::from_millis(500);
    fan_out::handle(&apps.fan_out(), event, stop).await;
    let mut left = Vec::new();
    for _ in 0..2 {
        let body = apps.queue.wait_for_one().await.unwrap();
        let delivery = Message::decode(&body).unwrap().delivery;
        let Recipients::Only(connections) = delivery.to else {
            panic!("{:?}", delivery.to)
        };
        left.push((delivery.attempt, connections.len()));
    }
    left.sort_unstable();
    let (untried, tried) = (left[0], left[1]);
    assert_eq!((untried.0, tried.0, untried.1 + tried.1), (0, 1, 30));
    assert!(untried.1 > 0 && tried.1 > 0, "{left:?}");
}

#[tokio::test]
async fn a_message_that_is_queued_again_waits_the_longer_the_more_often_it_was_tried() {
    let apps = TestContext::create().await;
    apps.connected("alice", "a1").await;
    apps.upload("alice", "/1", b"1").await;
    let mut message = apps.queue.messages().await.remove(0);
    apps.gateway.answer("a1", 500);
    for attempt in [0, 3] {
        message.delivery.attempt = attempt;
        assert!(apps.invoke_fan_out(&[received(&message, 1)]).await.is_empty());
        assert_eq!(
            (apps.queue.delayed().await, apps.queue.drain().await.len()),
            (1, 0),
            "{attempt}"
        );
        let waiting = Instant::now();
        apps.queue.wait_for_one().await.unwrap();
        let earliest = StdDuration::from_secs(if attempt == 0 { 0 } else { 6 });
        assert!(
            waiting.elapsed() >= earliest,
            "{attempt}: {:?}",
            waiting.elapsed()
        );
        apps.queue.purge().await;
    }
}

#[tokio::test]
async fn a_retry_posts_only_the_frames_that_are_left() {
    let apps = TestContext::create().await;
    apps.connected("alice", "a1").await;
    // More than fits in one frame.
    let paths: Vec<String> = (0..40)
        .map(|i| format!("/{i}/{}", ["x".repeat(224).as_str(); 4].join("/")))
        .collect();
    for chunk in paths.chunks(10) {
        join_all(chunk.iter().map(|path| apps.upload("alice", path, b"x"))).await;
    }
    let mut batch = Vec::new();
    for message in apps.queue.messages().await {
        batch.push(received(&message, 1));
    }
    apps.gateway.answer_once_each("a1", &[200, 500]);
    assert!(apps.invoke_fan_out(&batch).await.is_empty());
    assert_eq!(apps.gateway.sequences("a1"), (1..=40).collect::<Vec<_>>());
    assert_eq!(apps.gateway.posts("a1"), 3);
}

#[tokio::test]
async fn an_expired_connection_is_not_posted_to() {
    let apps = TestContext::create().await;
    apps.connected("alice", "expired").await;
    apps.clock.advance(connections::CONNECTION_LIFETIME);
    apps.connected("alice", "open").await;
    apps.upload("alice", "/1", b"1").await;
    let mut message = apps.queue.messages().await.remove(0);
    for to in [Recipients::All, only(&["expired", "open"])] {
        message.delivery.to = to;
        assert!(apps.invoke_fan_out(&[received(&message, 1)]).await.is_empty());
    }
    assert_eq!(
        (apps.gateway.posts("expired"), apps.gateway.posts("open")),
        (0, 2)
    );
}

#[tokio::test]
async fn what_cannot_be_carried_over_comes_again_as_a_whole() {
    let apps = TestContext::create().await;
    apps.connected("alice", "a1").await;
    apps.gateway.answer("a1", 500);
    let batch = records(&apps, "alice", &["/1"]).await;
    let mut app = apps.fan_out();
    app.queue = app
        .queue
        .with_url(format!("{}-that-is-not-there", apps.queue.url));
    let event = serde_json::from_value(json!({ "Records": batch })).unwrap();
    let failures = fan_out::handle(&app, event, stop()).await.batch_item_failures;
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].item_identifier, id(&batch[0]));
}

/// The removed member's device is still connected, and the message still names it.
#[tokio::test]
async fn whoever_was_removed_meanwhile_gets_nothing_of_what_was_carried_over() {
    let apps = TestContext::create().await;
    apps.connected("alice", "a1").await;
    apps.connected("bob", "b1").await;
    let space = apps.space("alice").await;
    apps.share("alice", space, "bob", "viewer").await;
    let mut body = tests::upload_body("/1", b"1");
    body["spaceId"] = json!(space);
    apps.upload_as("alice", &body, b"1").await;
    let messages = apps.queue.messages().await;
    let mut message = messages
        .into_iter()
        .find(|message| message.event.space_id == space);
    let message = message.as_mut().unwrap();
    message.delivery.to = only(&["a1", "b1", "nobody's"]);
    message.delivery.attempt = 1;
    assert!(apps.invoke_fan_out(&[received(message, 1)]).await.is_empty());
    assert_eq!((apps.gateway.posts("a1"), apps.gateway.posts("b1")), (1, 1));
    apps.unshare("alice", space, "bob").await;
    assert!(apps.invoke_fan_out(&[received(message, 1)]).await.is_empty());
    assert_eq!((apps.gateway.posts("a1"), apps.gateway.posts("b1")), (2, 1));
}

#[tokio::test]
async fn an_audience_of_2500_is_told_in_three_pages_and_nobody_twice() {
    let apps = TestContext::create().await;
    // Connections of three members, more than the limit per user, which is not tested here.
    let space = apps.space("alice").await;
    for member in ["bob", "carol"] {
        apps.share("alice", space, member, "viewer").await;
    }
    apps.connected("alice", "c").await;
    let more = "INSERT INTO connections
        SELECT 'c' || i, (ARRAY['alice', 'bob', 'carol'])[1 + i % 3], NULL, connected_at, expires_at
        FROM connections, generate_series(1, 2499) i";
    apps.database.execute(more).await;
    let mut body = tests::upload_body("/1", b"1");
    body["spaceId"] = json!(space);
    apps.upload_as("alice", &body, b"1").await;
    let first = apps.queue.messages().await;
    let mut page = first.into_iter().find(|message| message.event.space_id == space);
    let mut pages = 0;
    while let Some(message) = page {
        pages += 1;
        assert!(apps.invoke_fan_out(&[received(&message, 1)]).await.is_empty());
        let mut next = apps.queue.messages().await;
        assert!(next.len() <= 1);
        page = next.pop();
    }
    assert_eq!(pages, 3);
    let names = (1..2_500).map(|i| format!("c{i}")).chain(["c".to_owned()]);
    for connection in names {
        assert_eq!(apps.gateway.posts(&connection), 1, "{connection}");
    }
}

/// Adds members without a connection to the space, bypassing the limit on members: earlier releases had no
/// limit.
async fn fill(apps: &TestContext, space: model::SpaceId, members: usize) {
    let made_up = format!(
        "INSERT INTO members
        SELECT '{space}', 'made-up-' || lpad(i::text, 8, '0'), 'viewer', now() FROM generate_series(1, {members}) i
        ON CONFLICT DO NOTHING;
        ANALYZE members"
    );
    apps.database.execute(&made_up).await;
}

/// Message about a change of the space.
async fn changed(apps: &TestContext, user: &str, space: model::SpaceId) -> Message {
    let mut body = tests::upload_body("/1", b"1");
    body["spaceId"] = json!(space);
    apps.upload_as(user, &body, b"1").await;
    let messages = apps.queue.messages().await;
    let mut messages = messages.into_iter();
    messages.find(|message| message.event.space_id == space).unwrap()
}

#[tokio::test]
async fn a_space_of_5000_members_is_told_page_by_page_whether_they_are_connected_or_not() {
    let apps = TestContext::create().await;
    let space = apps.space("alice").await;
    apps.share("alice", space, "zoe", "viewer").await;
    fill(&apps, space, 5_000).await;
    for (user, connection) in [("alice", "a1"), ("zoe", "z1"), ("zoe", "z2")] {
        apps.connected(user, connection).await;
    }
    let mut page = Some(changed(&apps, "alice", space).await);
    let mut pages = 0;
    while let Some(message) = page {
        pages += 1;
        assert!(apps.invoke_fan_out(&[received(&message, 1)]).await.is_empty());
        page = apps.queue.messages().await.pop();
    }
    assert_eq!(pages, 6);
    for connection in ["a1", "z1", "z2"] {
        assert_eq!(apps.gateway.posts(connection), 1, "{connection}");
    }
}

/// Counts the 8 KiB pages that PostgreSQL reads for ten audiences.
#[tokio::test]
async fn what_is_read_of_an_audience_does_not_grow_with_the_space() {
    let apps = TestContext::create().await;
    let space = apps.space("alice").await;
    apps.connected("alice", "a1").await;
    let (_, sql) = db::queries().find(|(name, _)| *name == "recipients").unwrap();
    apps.database
        .execute(&format!(
            "SET plan_cache_mode = force_generic_plan; PREPARE recipients AS {sql}"
        ))
        .await;
    let mut read = Vec::new();
    for members in [2 * fan_out::MEMBERS, 100_000] {
        fill(
            &apps,
            space,
            members - usize::from(members == 100_000) * 2 * fan_out::MEMBERS,
        )
        .await;
        let explained = format!(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE recipients
            (array[0], array['{space}'::uuid], array[''], array[''], '{{}}', '{{}}', '{{}}', now(), 1001, {})",
            fan_out::MEMBERS
        );
        let plan: Value = apps.database.rows(&explained).await[0].get(0);
        let plan = &plan[0]["Plan"];
        read.push(plan["Shared Hit Blocks"].as_i64().unwrap() + plan["Shared Read Blocks"].as_i64().unwrap());
    }
    assert!(read[1] <= 2 * read[0], "{read:?}");
}

/// One space has a member with an id that no request could have created. The error in its audience must not
/// delay other audiences.
#[tokio::test]
async fn an_audience_that_cannot_be_read_fails_alone() {
    let apps = TestContext::create().await;
    let space = apps.space("alice").await;
    apps.connected("bob", "b1").await;
    let spoilt = format!(
        "INSERT INTO members VALUES ('{space}', '', 'viewer', now());
        INSERT INTO connections SELECT 'spoilt', '', NULL, connected_at, expires_at FROM connections"
    );
    apps.database.execute(&spoilt).await;
    let failing = received(&changed(&apps, "alice", space).await, 1);
    let mut batch = records(&apps, "bob", &["/1", "/2"]).await;
    batch.insert(1, failing.clone());
    assert_eq!(apps.invoke_fan_out(&batch).await, [id(&failing)]);
    assert_eq!(apps.gateway.sequences("b1"), [1, 2]);
}

#[tokio::test]
async fn the_next_page_goes_ahead_at_first_and_last_after_a_crash() {
    let apps = TestContext::create().await;
    apps.connected("alice", "c").await;
    let more = "INSERT INTO connections
        SELECT 'c' || i, user_id, device_id, connected_at, expires_at
        FROM connections, generate_series(1, 1000) i";
    apps.database.execute(more).await;
    apps.upload("alice", "/1", b"1").await;
    let message = apps.queue.messages().await.remove(0);
    for (times, ahead) in [(1, 1), (2, 0)] {
        let event = serde_json::from_value(json!({ "Records": [received(&message, times)] })).unwrap();
        let app = apps.fan_out();
        let before = apps.gateway.total();
        // The invocation is dropped right after the first posts.
        tokio::select! {
            _ = fan_out::handle(&app, event, stop()) => panic!("it was not cut short"),
            () = async { while apps.gateway.total() == before { tokio::task::yield_now().await } } => {}
        }
        assert_eq!(apps.queue.messages().await.len(), ahead, "received {times} times");
    }
}

#[tokio::test]
async fn without_the_database_the_whole_batch_comes_again() {
    let apps = TestContext::create().await;
    let batch = records(&apps, "alice", &["/1", "/2"]).await;
    let others = [
        records(&apps, "bob", &["/1"]).await,
        records(&apps, "carol", &["/1"]).await,
    ];
    let mut app = apps.fan_out();
    let nobody = "postgresql://u@127.0.0.1:9/x?sslmode=disable";
    app.db = db::Database::new(nobody.parse::<db::DatabaseUrl>().unwrap());
    let event = serde_json::from_value(json!({ "Records": batch })).unwrap();
    let again = fan_out::handle(&app, event, stop()).await;
    assert_eq!(again.batch_item_failures.len(), 2);
    // The message returns soon, before the queue's visibility timeout.
    assert!(apps.queue.wait_for_one().await.is_some());

    // The database timeout is waited for once per batch, not once per audience.
    let batch = [batch, others.concat()].concat();
    let hung = format!(
        "postgresql://u@127.0.0.1:{}/x?sslmode=disable",
        hung_server().await
    );
    app.db = db::Database::new(hung.parse::<db::DatabaseUrl>().unwrap());
    let event = serde_json::from_value(json!({ "Records": batch })).unwrap();
    let begun = Instant::now();
    let again = fan_out::handle(&app, event, stop()).await;
    assert_eq!(again.batch_item_failures.len(), 4);
    assert!(begun.elapsed() < 2 * DATABASE_TIMEOUT, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_hundred_changes_fit_into_frames_and_reach_sixty_devices() {
    let apps = TestContext::create().await;
    // More than the limit of connections per user, which is not tested here.
    apps.connected("alice", "c0").await;
    let more = "INSERT INTO connections SELECT 'c' || i, user_id, device_id, connected_at, expires_at
        FROM connections, generate_series(1, 59) i";
    apps.database.execute(more).await;
    let paths: Vec<String> = (0..100)
        .map(|i| format!("/{i}/{}", ["x".repeat(224).as_str(); 4].join("/")))
        .collect();
    for chunk in paths.chunks(10) {
        join_all(chunk.iter().map(|path| apps.upload("alice", path, b"x"))).await;
    }
    let mut batch = Vec::new();
    for body in apps.queue.drain().await {
        batch.push(apps.queue.record(&body).await);
    }
    assert!(apps.invoke_fan_out(&batch).await.is_empty());
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

/// Zoe's post is retried at once, although posts to hanging connections have waited longer.
#[tokio::test]
async fn whoever_is_tried_again_does_not_wait_for_connections_that_hang() {
    let apps = with_hanging_connections().await;
    apps.gateway.answer_once_each("hears", &[500]);
    zoe_is_reached_soon(&apps).await;
}

#[tokio::test]
async fn what_became_of_each_connection_is_counted() {
    let apps = TestContext::create().await;
    for connection in ["hears", "gone", "refuses"] {
        apps.connected("alice", connection).await;
    }
    apps.connected("bob", "fails").await;
    apps.gateway.answer("gone", 410);
    apps.gateway.answer("refuses", 403);
    apps.gateway.answer("fails", 500);
    let mut batch = records(&apps, "alice", &["/1", "/2"]).await;
    batch.extend(records(&apps, "bob", &["/1"]).await);
    apps.clock.advance(Duration::minutes(1));

    let counted = Counted::default();
    let _counting = counted.begin();
    assert!(apps.invoke_fan_out(&batch).await.is_empty());
    for (name, expected) in [
        ("ConnectionsNotified", 1),
        ("ConnectionsGone", 1),
        ("PostsRefused", 1),
        ("ConnectionsCarriedOver", 1),
        ("ConnectionsClosed", 0),
        // Two changes, refused by one connection.
        ("MessagesDeadLettered", 2),
        // Five attempts at the failing post.
        ("PostsRetried", 4),
        // One minute for each of two changes, in milliseconds.
        ("NotificationLatency", 120_000),
    ] {
        assert_eq!(counted.take(name).unwrap_or_default(), expected, "{name}");
    }
    assert_eq!(apps.gateway.posts("fails"), 5);

    // A record that could not be moved to the dead-letter queue is not counted.
    let mut app = apps.fan_out();
    app.dead_letters = app
        .dead_letters
        .with_url(format!("{}-that-is-not-there", apps.dead_letters.url));
    let poison = sample("fan-out.poison")["Records"][0].clone();
    let event = serde_json::from_value(json!({ "Records": [poison] })).unwrap();
    fan_out::handle(&app, event, stop()).await;
    assert_eq!(counted.take("MessagesDeadLettered"), Some(0));
}
