//! `maintenance`: events left in the outbox, expired rows and dead letters.

use std::collections::BTreeSet;
use std::time::Duration as StdDuration;

use aws_sdk_sqs::config::interceptors::{
    BeforeSerializationInterceptorContextMut, FinalizerInterceptorContextMut,
};
use aws_sdk_sqs::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sqs::error::BoxError;
use aws_sdk_sqs::operation::send_message_batch::{SendMessageBatchInput, SendMessageBatchOutput};
use aws_sdk_sqs::types::BatchResultErrorEntry;
use maintenance::{Report, UPLOAD_GRACE};
use model::{CreatedUpload, EventId, Message};
use tests::{TestContext, storage_that_answers, upload_body};
use time::Duration;
use tokio::time::Instant;

/// Makes changes whose events are not sent, as if their functions died right after the commit.
async fn unsent(apps: &TestContext, changes: usize) {
    for i in 0..changes {
        apps.upload("alice", &format!("/{i}"), b"1").await;
    }
    apps.queue.drain().await;
    let outbox = "INSERT INTO outbox
        SELECT event_id, occurred_at, occurred_at + interval '10 seconds' FROM changes";
    apps.database.execute(outbox).await;
}

async fn waiting(apps: &TestContext) -> i64 {
    apps.database.number("SELECT count(*) FROM outbox").await
}

async fn stored(apps: &TestContext, created: &CreatedUpload) -> bool {
    let s3 = aws_sdk_s3::Client::new(&tests::aws());
    let head = s3
        .head_object()
        .bucket(&tests::stack().outputs.bucket_name)
        .key(created.upload_id.object_key())
        .send()
        .await;
    // All tests use one bucket, and this test's objects have keys of their own.
    let _ = apps;
    head.is_ok()
}

#[tokio::test]
async fn what_a_failed_send_left_is_published_by_the_next_run_and_once() {
    let apps = TestContext::create().await;
    let created = apps.put("alice", "/a", b"one").await;
    let mut app = apps.complete_upload();
    app.queue = app
        .queue
        .with_url(format!("{}-that-is-not-there", apps.queue.url));
    let id = created.upload_id.to_string();
    assert_eq!(apps.complete_in(&app, "alice", &id).await.status, 200);
    assert_eq!(waiting(&apps).await, 1);
    // The clock does not advance: a function that cannot send an event releases its lease.
    assert_eq!(apps.run_maintenance().await.unwrap().published, 1);
    let events = apps.queue.events().await;
    assert_eq!((events.len(), waiting(&apps).await), (1, 0));
    assert_eq!(apps.feed("alice", None).await.changes, events);
    assert_eq!(apps.run_maintenance().await.unwrap(), Report::default());
}

#[tokio::test]
async fn a_run_waits_for_the_leases_of_those_who_died_before_it() {
    let apps = TestContext::create().await;
    unsent(&apps, 1).await;
    apps.clock.advance(Duration::seconds(5));
    let app = apps.maintenance();
    // The function that made the change may still run, so the relay respects its lease.
    let early = maintenance::handle(&app, Instant::now() + StdDuration::from_secs(1)).await;
    assert_eq!((early.unwrap().published, waiting(&apps).await), (0, 1));
    let later = async {
        tokio::time::sleep(StdDuration::from_millis(500)).await;
        apps.clock.advance(Duration::seconds(5));
    };
    let (report, ()) = tokio::join!(apps.run_maintenance(), later);
    assert_eq!((report.unwrap().published, waiting(&apps).await), (1, 0));
}

#[tokio::test]
async fn two_runs_at_once_share_the_work() {
    let apps = TestContext::create().await;
    unsent(&apps, 1).await;
    // A space with many changes, none of which was sent.
    let more = "INSERT INTO changes
        SELECT space_id, 1 + i, gen_random_uuid(), event_type, user_id, device_id, file_id, path, version, size, sha256,
            subject_space_id, subject_role, occurred_at
        FROM changes, generate_series(1, 999) i";
    apps.database.execute(more).await;
    apps.database
        .execute("UPDATE spaces SET last_sequence = 1000")
        .await;
    let outbox =
        "INSERT INTO outbox SELECT event_id, occurred_at, occurred_at FROM changes ON CONFLICT DO NOTHING";
    apps.database.execute(outbox).await;
    apps.clock.advance(Duration::seconds(10));
    let (one, other) = tokio::join!(apps.run_maintenance(), apps.run_maintenance());
    assert_eq!(one.unwrap().published + other.unwrap().published, 1_000);
    assert_eq!(waiting(&apps).await, 0);
    let events = apps.queue.events().await;
    let distinct: BTreeSet<EventId> = events.iter().map(|event| event.event_id).collect();
    assert_eq!((events.len(), distinct.len()), (1_000, 1_000));
}

#[tokio::test]
async fn what_a_run_had_claimed_when_it_died_is_published_by_a_later_one() {
    let apps = TestContext::create().await;
    unsent(&apps, 3).await;
    apps.clock.advance(Duration::seconds(10));
    let now = apps.clock.now();
    let environment = apps.database.environment();
    let claimed = environment
        .claim_events(now, now + Duration::seconds(30), 100)
        .await
        .unwrap();
    assert_eq!(claimed.len(), 3);
    assert!(
        environment
            .claim_events(now, now + Duration::seconds(30), 100)
            .await
            .unwrap()
            .is_empty()
    );
    apps.clock.advance(Duration::seconds(30));
    assert_eq!(apps.run_maintenance().await.unwrap().published, 3);
    assert_eq!(apps.queue.events().await.len(), 3);
}

#[tokio::test]
async fn while_the_queue_is_away_events_wait_and_other_passes_go_on() {
    let apps = TestContext::create().await;
    unsent(&apps, 3).await;
    apps.ticket("alice").await;
    apps.clock.advance(Duration::minutes(1));
    let mut app = apps.maintenance();
    app.queue = app
        .queue
        .with_url(format!("{}-that-is-not-there", apps.queue.url));
    let run = maintenance::handle(&app, Instant::now() + StdDuration::from_secs(10)).await;
    assert_eq!(run.unwrap_err().to_string(), r#"unfinished: ["publishing"]"#);
    assert_eq!(waiting(&apps).await, 3);
    assert_eq!(apps.database.number("SELECT count(*) FROM tickets").await, 0);
    // The queue works again, and no lease has to expire first.
    assert_eq!(apps.run_maintenance().await.unwrap().published, 3);
}

#[tokio::test]
async fn an_event_that_cannot_be_read_keeps_no_other_waiting() {
    let apps = TestContext::create().await;
    unsent(&apps, 3).await;
    // The schema accepts this path; the model rejects it.
    let spoilt = "UPDATE changes SET path = 'spoilt' WHERE sequence = 2";
    apps.database.execute(spoilt).await;
    apps.clock.advance(Duration::seconds(10));
    let app = apps.maintenance();
    let run = maintenance::handle(&app, Instant::now() + StdDuration::from_secs(1)).await;
    assert_eq!(run.unwrap().published, 2);
    let sequences: BTreeSet<i64> = (apps.queue.events().await.iter())
        .map(|event| event.sequence.get())
        .collect();
    assert_eq!(sequences, [1, 3].into());
    assert_eq!(waiting(&apps).await, 1);
}

#[tokio::test]
async fn a_character_that_the_queue_refuses_reaches_devices_all_the_same() {
    let apps = TestContext::create().await;
    let changed = apps.upload("alice", "/a\u{ffff}\u{fffe}", b"1").await;
    let bodies = apps.queue.drain().await;
    assert!(!bodies[0].contains(['\u{ffff}', '\u{fffe}']), "{bodies:?}");
    let message = Message::decode(&bodies[0]).unwrap();
    assert_eq!(message.event.file().unwrap().path, changed.path);
}

#[tokio::test]
async fn tickets_and_connections_are_forgotten_when_they_expire_and_not_before() {
    let apps = TestContext::create().await;
    apps.connected("alice", "a1").await;
    apps.ticket("alice").await;
    assert_eq!(apps.run_maintenance().await.unwrap().expired, 0);
    apps.clock.advance(connections::TICKET_LIFETIME);
    assert_eq!(apps.run_maintenance().await.unwrap().expired, 1);
    assert_eq!(apps.stored_connections("a1").await, 1);
    apps.clock.advance(connections::CONNECTION_LIFETIME);
    assert_eq!(apps.run_maintenance().await.unwrap().expired, 1);
    assert_eq!(apps.stored_connections("a1").await, 0);
    // More rows than one statement deletes.
    let many = "INSERT INTO connections
        SELECT 'c' || i, 'alice', NULL, now() - interval '9 years', now() - interval '9 years'
        FROM generate_series(1, 2500) i";
    apps.database.execute(many).await;
    assert_eq!(apps.run_maintenance().await.unwrap().expired, 2_500);
}

#[tokio::test]
async fn what_an_expired_upload_left_is_freed_once_nothing_more_can_arrive() {
    let apps = TestContext::create().await;
    let kept = apps.put("alice", "/kept", b"kept").await;
    assert_eq!(apps.complete("alice", &kept).await.status, 200);
    let expired = apps.put("alice", "/expired", b"expired").await;
    let given_up = apps.put("alice", "/given-up", b"given up").await;
    let call = tests::Call::new("DELETE /uploads/{uploadId}").path("uploadId", given_up.upload_id);
    assert_eq!(apps.call("alice", call).await.status, 204);

    apps.clock.advance(uploads::PUT_LIFETIME + db::IN_FLIGHT);
    let report = apps.run_maintenance().await.unwrap();
    assert_eq!((report.aborted, report.freed), (1, 0));
    assert_eq!(
        apps.complete("alice", &expired).await.problem(),
        (410, "upload-expired")
    );
    assert!(stored(&apps, &expired).await && stored(&apps, &given_up).await);

    apps.clock.advance(UPLOAD_GRACE);
    assert_eq!(apps.run_maintenance().await.unwrap().freed, 2);
    assert!(!stored(&apps, &expired).await && !stored(&apps, &given_up).await);
    assert!(stored(&apps, &kept).await);
    assert_eq!(apps.database.number("SELECT count(*) FROM uploads").await, 1);
    assert_eq!(apps.complete("alice", &kept).await.status, 200);
    assert_eq!(apps.run_maintenance().await.unwrap(), Report::default());
}

#[tokio::test]
async fn the_parts_of_an_expired_upload_are_freed() {
    let apps = TestContext::create().await;
    let body = upload_body("/large", &vec![7; 2 * 1024 * 1024]);
    let created: CreatedUpload = apps.open("alice", &body).await.parsed();
    let multipart_id = apps.database.rows("SELECT multipart_id FROM uploads").await;
    let multipart_id: String = multipart_id[0].get(0);
    apps.clock.advance(uploads::MULTIPART_LIFETIME + UPLOAD_GRACE);
    let report = apps.run_maintenance().await.unwrap();
    assert_eq!((report.aborted, report.freed), (1, 1));
    let s3 = aws_sdk_s3::Client::new(&tests::aws());
    let listing = s3
        .list_parts()
        .bucket(&tests::stack().outputs.bucket_name)
        .key(created.upload_id.object_key())
        .upload_id(multipart_id);
    assert!(listing.send().await.is_err());
}

#[tokio::test]
async fn what_a_version_names_is_never_deleted_whatever_the_uploads_state() {
    let apps = TestContext::create().await;
    let created = apps.put("alice", "/a", b"one").await;
    assert_eq!(apps.complete("alice", &created).await.status, 200);
    apps.database
        .execute("UPDATE uploads SET state = 'aborted', event_id = NULL")
        .await;
    apps.clock.advance(uploads::PUT_LIFETIME + UPLOAD_GRACE);
    assert_eq!(apps.run_maintenance().await.unwrap().freed, 0);
    assert!(stored(&apps, &created).await);
}

#[tokio::test]
async fn dead_letters_come_back_unless_they_cannot_be_read_or_the_queue_is_backed_up() {
    let apps = TestContext::create().await;
    apps.upload("alice", "/a", b"one").await;
    let mut message = apps.queue.messages().await.remove(0);
    message.delivery.attempt = fan_out::MAX_ATTEMPTS;
    let letters = || ["unreadable".to_owned(), message.encode().unwrap()];
    apps.dead_letters.send(letters()).await;
    let mut app = apps.maintenance();
    app.queue = app
        .queue
        .with_url(format!("{}-that-is-not-there", apps.queue.url));
    let run = maintenance::handle(&app, Instant::now() + StdDuration::from_secs(10)).await;
    assert_eq!(run.unwrap_err().to_string(), r#"unfinished: ["redriving"]"#);

    // The letters received by that run are invisible for a while, so the test sends new ones.
    apps.dead_letters.send(letters()).await;
    // Enough letters for several rounds: a run continues while the main queue is not backed up.
    apps.dead_letters
        .send((0..24).map(|_| message.encode().unwrap()))
        .await;
    assert_eq!(apps.run_maintenance().await.unwrap().redriven, 25);
    let back: Vec<Message> = apps.queue.messages().await;
    // The attempt count is kept. Without it, a message that always fails would be retried without end.
    assert_eq!(
        (back.len(), back[0].delivery.attempt),
        (25, fan_out::MAX_ATTEMPTS)
    );
    // Two of either kind from the first run, and one undecodable letter from the second.
    assert_eq!(apps.dead_letters.count_all().await, 3);

    apps.queue.send((0..1_001).map(|i| i.to_string())).await;
    apps.dead_letters.send(letters()).await;
    assert_eq!(apps.run_maintenance().await.unwrap().redriven, 0);
}

#[tokio::test]
async fn what_cannot_be_read_stays_where_operators_look() {
    let apps = TestContext::create().await;
    apps.upload("alice", "/a", b"one").await;
    let message = apps.queue.messages().await.remove(0);
    apps.dead_letters
        .send([
            "unreadable".to_owned(),
            message.encode().unwrap(),
            "{}".to_owned(),
        ])
        .await;
    assert_eq!(apps.run_maintenance().await.unwrap().redriven, 1);
    assert_eq!(
        (apps.queue.count_all().await, apps.dead_letters.count_all().await),
        (1, 2)
    );
}

/// Every connection that was open at the time of the change is closed, and newer connections have read the
/// change in the feed.
#[tokio::test]
async fn a_dead_letter_that_can_reach_nobody_any_more_is_dropped() {
    let apps = TestContext::create().await;
    assert!(maintenance::MESSAGE_LIFETIME >= connections::CONNECTION_LIFETIME);
    apps.upload("alice", "/a", b"one").await;
    let message = apps.queue.messages().await.remove(0);
    apps.clock
        .advance(maintenance::MESSAGE_LIFETIME - Duration::milliseconds(1));
    apps.dead_letters.send([message.encode().unwrap()]).await;
    assert_eq!(apps.run_maintenance().await.unwrap().redriven, 1);
    assert_eq!(apps.queue.messages().await.len(), 1);
    apps.clock.advance(Duration::milliseconds(1));
    apps.dead_letters.send([message.encode().unwrap()]).await;
    assert_eq!(apps.run_maintenance().await.unwrap().redriven, 0);
    assert_eq!(
        (apps.queue.count_all().await, apps.dead_letters.count_all().await),
        (0, 0)
    );
}

#[tokio::test]
async fn an_upload_whose_parts_are_gone_already_is_forgotten_too() {
    let apps = TestContext::create().await;
    let body = upload_body("/large", &vec![7; 2 * 1024 * 1024]);
    let created: CreatedUpload = apps.open("alice", &body).await.parsed();
    let multipart_id = apps.database.rows("SELECT multipart_id FROM uploads").await;
    let multipart_id: String = multipart_id[0].get(0);
    let request = apps
        .storage
        .s3
        .abort_multipart_upload()
        .bucket(&apps.storage.bucket);
    let request = request
        .key(created.upload_id.object_key())
        .upload_id(multipart_id);
    request.send().await.unwrap();
    apps.clock.advance(uploads::MULTIPART_LIFETIME + UPLOAD_GRACE);
    let report = apps.run_maintenance().await.unwrap();
    assert_eq!((report.aborted, report.freed), (1, 1));
    assert_eq!(apps.database.number("SELECT count(*) FROM uploads").await, 0);
}

/// Otherwise a run would never end while other functions commit.
#[tokio::test]
async fn a_run_waits_for_no_event_that_is_newer_than_itself() {
    let apps = TestContext::create().await;
    let database = apps.database.environment();
    unsent(&apps, 2).await;
    let committed = apps.clock.now();
    let before = database.waiting_events(committed).await.unwrap();
    assert_eq!((before.events, before.claimable_at), (2, None));
    let after = database
        .waiting_events(committed + Duration::milliseconds(1))
        .await
        .unwrap();
    assert!(after.claimable_at.is_some_and(|at| at > committed), "{after:?}");
}

/// SQS client interceptor for a queue that refuses the first message of each batch and accepts the others.
#[derive(Debug)]
struct Refusing;

impl Intercept for Refusing {
    fn name(&self) -> &'static str {
        "refusing"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(batch) = context.input_mut().downcast_mut::<SendMessageBatchInput>() {
            batch.entries.as_mut().unwrap().remove(0);
        }
        Ok(())
    }

    fn modify_before_completion(
        &self,
        context: &mut FinalizerInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let output = context.output_or_error_mut().unwrap().as_mut().unwrap();
        if let Some(batch) = output.downcast_mut::<SendMessageBatchOutput>() {
            let refusal = BatchResultErrorEntry::builder().id("0").sender_fault(true);
            batch.failed.push(refusal.code("InvalidMessageContents").build()?);
        }
        Ok(())
    }
}

fn refusing(url: &str) -> queue::Queue {
    let config = aws_sdk_sqs::config::Builder::from(&tests::aws()).interceptor(Refusing);
    queue::Queue::new(config, url)
}

#[tokio::test]
async fn an_event_that_the_queue_refuses_keeps_no_other_waiting_and_is_told() {
    let apps = TestContext::create().await;
    for user in ["alice", "bob"] {
        apps.upload(user, "/first", b"1").await;
    }
    unsent(&apps, 3).await;
    apps.clock.advance(Duration::seconds(10));
    let mut app = apps.maintenance();
    // The changes of a space are in one message. Alice's is refused, and then one of its four changes.
    app.queue = refusing(&apps.queue.url);
    // The run ends before its deadline, because the queue would refuse the event again.
    let run = maintenance::handle(&app, Instant::now() + StdDuration::from_mins(10));
    let run = tokio::time::timeout(StdDuration::from_secs(20), run).await;
    let unfinished = run.expect("the run goes on").unwrap_err();
    assert_eq!(unfinished.to_string(), r#"unfinished: ["publishing"]"#);
    assert_eq!((apps.queue.events().await.len(), waiting(&apps).await), (4, 1));
    apps.clock.advance(Duration::seconds(30));
    assert_eq!(apps.run_maintenance().await.unwrap().published, 1);
}

#[tokio::test]
async fn a_dead_letter_that_the_queue_refuses_stays_and_is_told() {
    let apps = TestContext::create().await;
    apps.upload("alice", "/a", b"one").await;
    let message = apps.queue.messages().await.remove(0).encode().unwrap();
    apps.dead_letters.send((0..3).map(|_| message.clone())).await;
    let mut app = apps.maintenance();
    app.queue = refusing(&apps.queue.url);
    let run = maintenance::handle(&app, Instant::now() + StdDuration::from_secs(10)).await;
    assert_eq!(run.unwrap_err().to_string(), r#"unfinished: ["redriving"]"#);
    assert_eq!(
        (apps.queue.count_all().await, apps.dead_letters.count_all().await),
        (2, 1)
    );
}

#[tokio::test]
async fn an_upload_that_cannot_be_freed_keeps_no_other_waiting_and_is_told() {
    let apps = TestContext::create().await;
    let kept = apps.put("alice", "/kept", b"kept").await;
    apps.put("alice", "/freed", b"freed").await;
    apps.clock.advance(uploads::PUT_LIFETIME + UPLOAD_GRACE);
    let key = kept.upload_id.object_key();
    let mut app = apps.maintenance();
    app.storage = storage_that_answers(&apps.storage, move |_, target| {
        if target.contains(&key) {
            (403, "AccessDenied")
        } else {
            (204, "")
        }
    })
    .await;
    let run = maintenance::handle(&app, Instant::now() + StdDuration::from_secs(10)).await;
    assert_eq!(run.unwrap_err().to_string(), r#"unfinished: ["freeing"]"#);
    let left = apps.database.rows("SELECT id::text FROM uploads").await;
    let left: Vec<String> = left.iter().map(|row| row.get(0)).collect();
    assert_eq!(left, [kept.upload_id.to_string()]);
    assert_eq!(apps.run_maintenance().await.unwrap().freed, 1);
}
