//! Batches while services fail, and what a batch costs.

use std::time::Instant;

use model::UploadId;
use serde_json::{Value, json};
use tests::{Environment, TestContext, hung_server, upload_body};
use time::Duration;

use super::{
    Fakes, announced, body, body_in, changed, changing, completing, files, open, opening, outcomes, put,
    sequences,
};

/// Longest time in which a function that waits for a hung service answers, with slack for a busy machine.
const BOUND: std::time::Duration = std::time::Duration::from_secs(12);

/// An environment whose queue never answers.
async fn with_hung_queue(apps: &TestContext) -> Environment {
    let hung = format!("http://127.0.0.1:{}", hung_server().await);
    let mut environment = apps.environment();
    for queue in [
        &mut environment.complete_upload.queue,
        &mut environment.files.queue,
    ] {
        let config = aws_sdk_sqs::config::Builder::from(&tests::aws()).endpoint_url(&hung);
        *queue = queue::Queue::new(config, &apps.queue.url);
    }
    environment
}

async fn wait_for_changes(apps: &TestContext, number: i64) {
    while apps.database.number("SELECT count(*) FROM changes").await < number {
        tokio::task::yield_now().await;
    }
}

async fn waiting(apps: &TestContext) -> i64 {
    apps.database.number("SELECT count(*) FROM outbox").await
}

#[tokio::test]
async fn a_function_that_dies_between_commit_and_send_leaves_every_change_to_maintenance() {
    let apps = Fakes::start().await;
    let space = apps.space("alice").await;
    announced(&apps);
    let before = apps.database.number("SELECT count(*) FROM changes").await;
    let mut items: Vec<Value> = (0..30)
        .map(|number| body_in(space, &format!("/{number}")))
        .collect();
    items.push(body_in(space, "/last"));
    let uploads = put(&apps, "alice", &items).await;
    let environment = with_hung_queue(&apps).await;
    // The function's future is dropped as soon as the change is committed.
    tokio::select! {
        answer = environment.call("alice", completing(&uploads)) => panic!("{answer:?}"),
        () = wait_for_changes(&apps, before + 31) => {}
    }
    drop(environment);
    apps.database.wait_until_disconnected().await;
    assert_eq!(waiting(&apps).await, 31);
    // The lease is that of the dead function.
    assert_eq!(apps.run_maintenance().await.unwrap().published, 0);
    apps.clock.advance(Duration::seconds(10));
    assert_eq!(apps.run_maintenance().await.unwrap().published, 31);
    let mut numbers = announced(&apps).concat();
    numbers.sort_unstable();
    assert_eq!((numbers, waiting(&apps).await), ((1..=31).collect(), 0));
    // The client repeats the request, and gets what was committed.
    let again = changed(&apps.call("alice", completing(&uploads)).await);
    assert_eq!(sequences(&again), (1..=31).collect::<Vec<_>>());
    assert!(announced(&apps).is_empty());
}

#[tokio::test]
async fn moves_and_deletions_whose_function_dies_before_sending_are_published_by_maintenance() {
    let apps = Fakes::start().await;
    let made = files(&apps, "alice", &["/a", "/b", "/c"]).await;
    announced(&apps);
    let changes = [
        json!({ "action": "move", "fileId": made[0].file_id, "path": "/folder/a" }),
        json!({ "action": "delete", "fileId": made[1].file_id }),
        json!({ "action": "move", "fileId": made[2].file_id, "path": "/b" }),
    ];
    let environment = with_hung_queue(&apps).await;
    tokio::select! {
        answer = environment.call("alice", changing(&changes)) => panic!("{answer:?}"),
        () = wait_for_changes(&apps, 6) => {}
    }
    drop(environment);
    apps.database.wait_until_disconnected().await;
    apps.clock.advance(Duration::seconds(10));
    assert_eq!(apps.run_maintenance().await.unwrap().published, 3);
    let mut numbers = announced(&apps).concat();
    numbers.sort_unstable();
    assert_eq!((numbers, waiting(&apps).await), (vec![4, 5, 6], 0));
}

#[tokio::test]
async fn a_hung_or_absent_queue_fails_no_item_and_keeps_every_event() {
    let apps = Fakes::start().await;
    let first = put(&apps, "alice", &[body("/a"), body("/b"), body("/c")]).await;
    let second = put(&apps, "alice", &[body("/d"), body("/e")]).await;
    let mut environment = with_hung_queue(&apps).await;
    let started = Instant::now();
    let answer = environment.call("alice", completing(&first)).await;
    assert_eq!(sequences(&changed(&answer)), [1, 2, 3]);
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    let config = aws_sdk_sqs::config::Builder::from(&tests::aws()).endpoint_url("http://127.0.0.1:9");
    environment.complete_upload.queue = queue::Queue::new(config, &apps.queue.url);
    let answer = environment.call("alice", completing(&second)).await;
    assert_eq!(sequences(&changed(&answer)), [4, 5]);
    assert_eq!(waiting(&apps).await, 5);
    // The leases are released, so maintenance need not wait for them.
    assert_eq!(apps.run_maintenance().await.unwrap().published, 5);
    let mut numbers = announced(&apps).concat();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn an_object_that_storage_does_not_answer_for_fails_its_item_alone() {
    let apps = Fakes::start().await;
    let items: Vec<Value> = (0..20).map(|number| body(&format!("/{number}"))).collect();
    let uploads = put(&apps, "alice", &items).await;
    apps.s3.hang_for(&uploads[7].object_key());
    let started = Instant::now();
    let answer = apps.call("alice", completing(&uploads)).await;
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    let mut expected = vec!["200"; 20];
    expected[7] = "503 unavailable";
    assert_eq!(outcomes(&answer), expected);
    let feed = apps.feed("alice", None).await;
    assert_eq!(feed.latest_sequence.get(), 19);
    assert_eq!(announced(&apps).concat(), (1..=19).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_batch_for_which_storage_hangs_altogether_is_answered_in_time() {
    let apps = Fakes::start().await;
    let items: Vec<Value> = (0..100).map(|number| body(&format!("/{number}"))).collect();
    let uploads = put(&apps, "alice", &items).await;
    for upload in &uploads {
        apps.s3.hang_for(&upload.object_key());
    }
    let started = Instant::now();
    let answer = apps.call("alice", completing(&uploads)).await;
    assert_eq!(outcomes(&answer), ["503 unavailable"; 100]);
    // Lambda ends the function after 29 s.
    assert!(started.elapsed().as_secs() < 29, "{:?}", started.elapsed());
}

#[tokio::test]
async fn storage_is_asked_for_nothing_on_behalf_of_strangers_and_once_for_each_object() {
    let apps = Fakes::start().await;
    let own = put(&apps, "alice", &[body("/a"), body("/b")]).await;
    let others = put(&apps, "bob", &[body("/a"), body("/b"), body("/c")]).await;
    let unknown: UploadId = platform::ids::new_id().into();
    apps.s3.server.take_requests();
    let items = [own[0], others[0], others[1], unknown, own[1], others[2]];
    let answer = apps.call("alice", completing(&items)).await;
    let refused = "404 not-found";
    assert_eq!(
        outcomes(&answer),
        ["200", refused, refused, refused, "200", refused]
    );
    assert_eq!(apps.s3.server.take_requests(), 2);
    // A repetition needs no storage.
    assert_eq!(apps.call("alice", completing(&own)).await.status, 200);
    assert_eq!(apps.s3.server.take_requests(), 0);
}

#[tokio::test]
async fn a_database_that_is_away_is_503_for_the_whole_request() {
    let apps = Fakes::start().await;
    let uploads = put(&apps, "alice", &[body("/a")]).await;
    let file = files(&apps, "alice", &["/b"]).await[0].file_id;
    let mut environment = apps.environment();
    let away = || {
        let url: db::DatabaseUrl = "postgresql://u@127.0.0.1:9/x?sslmode=disable".parse().unwrap();
        db::Database::new(url)
    };
    environment.uploads.db = away();
    environment.complete_upload.db = away();
    environment.files.db = away();
    let deletion = json!({ "action": "delete", "fileId": file });
    for call in [
        opening(&[body("/c")]),
        completing(&uploads),
        changing(&[deletion]),
    ] {
        assert_eq!(
            environment.call("alice", call).await.problem(),
            (503, "unavailable")
        );
    }
}

/// Exchanges with the database and requests to SQS of 100 small files in one space: opened, completed and
/// announced to a device. The functions are warm.
#[tokio::test]
async fn a_hundred_files_cost_eight_exchanges_with_the_database_and_eight_requests_to_the_queue() {
    let apps = Fakes::with_every_object(b"x").await;
    apps.connected("alice", "c1").await;
    let relay = apps.database.relay().await;
    let mut environment = apps.environment();
    environment.uploads.db = apps.database.environment_through(&relay);
    environment.complete_upload.db = apps.database.environment_through(&relay);
    environment.files.db = apps.database.environment_through(&relay);
    let mut fan_out = apps.fan_out();
    fan_out.db = apps.database.environment_through(&relay);
    for round in 0..2 {
        let items: Vec<Value> = (0..100)
            .map(|number| upload_body(&format!("/folder {round}/file {number}.txt"), b"x"))
            .collect();
        relay.take();
        apps.sqs.server.take_requests();
        let opened = super::opened(&environment.call("alice", opening(&items)).await);
        let opening = relay.take().round_trips;
        let ids: Vec<UploadId> = opened.iter().map(|upload| upload.upload_id).collect();
        let made = changed(&environment.call("alice", completing(&ids)).await);
        let (completing, sends) = (relay.take().round_trips, apps.sqs.server.take_requests());
        let first = 100 * round + 1;
        assert_eq!(sequences(&made), (first..first + 100).collect::<Vec<_>>());

        let bodies = apps.sqs.take(usize::MAX);
        apps.sqs.server.take_requests();
        let records: Vec<Value> = (bodies.iter().enumerate())
            .map(|(number, body)| json!({ "messageId": number.to_string(), "receiptHandle": "r", "body": body }))
            .collect();
        let batch = serde_json::from_value(json!({ "Records": records })).unwrap();
        let stop = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        let failures = fan_out::handle(&fan_out, batch, stop).await.batch_item_failures;
        assert!(failures.is_empty(), "{failures:?}");
        let (announcing, more) = (relay.take().round_trips, apps.sqs.server.take_requests());
        assert_eq!(more, 0);
        if round == 0 {
            // The first requests connect and prepare their statements.
            continue;
        }
        tests::report(&format!(
            "100 files: {opening} + {completing} + {announcing} exchanges, {sends} requests to SQS, {} messages",
            bodies.len()
        ));
        assert!(
            opening + completing + announcing <= 8,
            "{opening} + {completing} + {announcing}"
        );
        // Lambda receives the messages with one request and deletes them with another.
        assert!(sends + 2 <= 8, "{sends}");
        // Two frames of at most 32 KB hold 100 changes of this size.
        assert!(bodies.len() <= 2, "{}", bodies.len());
        let numbers = apps.gateway.sequences("c1");
        assert_eq!(numbers, (1..=200).collect::<Vec<_>>());
        assert!(apps.gateway.posts("c1") <= 4);

        let deletions: Vec<Value> = (made.iter())
            .map(|file| json!({ "action": "delete", "fileId": file.file_id }))
            .collect();
        // Prepares the statements.
        environment.call("alice", changing(&deletions[..1])).await;
        relay.take();
        apps.sqs.server.take_requests();
        changed(&environment.call("alice", changing(&deletions)).await);
        let (exchanges, sends) = (relay.take().round_trips, apps.sqs.server.take_requests());
        tests::report(&format!(
            "100 deletions: {exchanges} exchanges, {sends} requests to SQS"
        ));
        assert!(exchanges <= 4 && sends <= 2, "{exchanges}, {sends}");
    }
}

#[tokio::test]
async fn every_change_of_batches_reaches_a_device_in_its_order() {
    let apps = Fakes::with_every_object(b"x").await;
    let space = apps.space("alice").await;
    apps.connected("alice", "c1").await;
    announced(&apps);
    // The longest paths need more than one message for a batch.
    let long = "x".repeat(250);
    let mut expected = Vec::new();
    for batch in 0..3 {
        let items: Vec<Value> = (0..40)
            .map(|number| {
                let path = format!("/{long}/{long}/{long}/{batch}-{number}");
                let mut item = upload_body(&path, b"x");
                item["spaceId"] = json!(space);
                item
            })
            .collect();
        let uploads = open(&apps, "alice", &items).await;
        let ids: Vec<UploadId> = uploads.iter().map(|upload| upload.upload_id).collect();
        let made = changed(&apps.call("alice", completing(&ids)).await);
        expected.extend(sequences(&made));
    }
    let messages = apps.sqs.take(usize::MAX);
    assert!(messages.len() > 3, "{}", messages.len());
    let records: Vec<Value> = (messages.iter().enumerate())
        .map(|(number, body)| json!({ "messageId": number.to_string(), "receiptHandle": "r", "body": body }))
        .collect();
    assert!(apps.invoke_fan_out(&records).await.is_empty());
    assert_eq!(apps.gateway.sequences("c1"), expected);
}
