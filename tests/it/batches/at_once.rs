//! Batches at once: numbers stay gapless, nothing is done twice, and no limit is exceeded.

use std::collections::BTreeSet;

use model::UploadId;
use serde_json::{Value, json};
use tests::upload_body;
use time::Duration;

use super::{
    Fakes, announced, at_once, body, body_in, changed, changing, completing, files, limit, limit_bytes, open,
    outcomes, put, sequences,
};

#[tokio::test]
async fn eight_batches_of_a_hundred_files_in_one_space_are_numbered_without_gaps() {
    let apps = Fakes::with_every_object(b"x").await;
    let mut batches: Vec<Vec<UploadId>> = Vec::new();
    for batch in 0..8 {
        let items: Vec<Value> = (0..100)
            .map(|number| upload_body(&format!("/{batch}/{number}"), b"x"))
            .collect();
        let uploads = open(&apps, "alice", &items).await;
        batches.push(uploads.iter().map(|upload| upload.upload_id).collect());
    }
    let calls = batches.iter().map(|batch| completing(batch)).collect();
    let answers = at_once(&apps, "alice", calls).await;
    let mut all = Vec::new();
    for (batch, answer) in answers.iter().enumerate() {
        let changes = changed(answer);
        let numbers = sequences(&changes);
        let consecutive: Vec<i64> = (numbers[0]..).take(100).collect();
        assert_eq!(numbers, consecutive, "batch {batch}");
        for (number, change) in changes.iter().enumerate() {
            assert_eq!(change.path.as_str(), format!("/{batch}/{number}"));
        }
        all.extend(numbers);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=800).collect::<Vec<_>>());
    let feed = apps.feed("alice", None).await;
    let numbers: Vec<i64> = feed.changes.iter().map(|change| change.sequence.get()).collect();
    assert_eq!(numbers, all);
    let mut told = announced(&apps).concat();
    told.sort_unstable();
    assert_eq!(told, all);
    assert_eq!(apps.database.number("SELECT count(*) FROM outbox").await, 0);
}

#[tokio::test]
async fn batches_with_the_same_uploads_at_once_complete_each_once_and_answer_the_same() {
    let apps = Fakes::with_every_object(b"x").await;
    let space = apps.space("alice").await;
    let items: Vec<Value> = (0..20)
        .map(|number| {
            let mut item = upload_body(&format!("/{number}"), b"x");
            if number % 2 == 0 {
                item["spaceId"] = json!(space);
            }
            item
        })
        .collect();
    let uploads = open(&apps, "alice", &items).await;
    let ids: Vec<UploadId> = uploads.iter().map(|upload| upload.upload_id).collect();
    let mut backwards = ids.clone();
    backwards.reverse();
    announced(&apps);
    let calls = (0..8).map(|call| completing(if call % 2 == 0 { &ids } else { &backwards }));
    let answers = at_once(&apps, "alice", calls.collect()).await;
    let first = changed(&answers[0]);
    for (call, answer) in answers.iter().enumerate() {
        let mut changes = changed(answer);
        if call % 2 == 1 {
            changes.reverse();
        }
        assert_eq!(changes, first);
    }
    let events: BTreeSet<String> = first.iter().map(|change| change.event_id.to_string()).collect();
    assert_eq!(events.len(), 20);
    assert_eq!(announced(&apps).concat().len(), 20);
}

#[tokio::test]
async fn batches_at_once_make_no_more_changes_in_a_minute_than_allowed() {
    let apps = Fakes::with_every_object(b"x").await;
    limit(&apps, json!({ "changesPerMinute": 42 })).await;
    let mut calls = Vec::new();
    for batch in 0..32 {
        let items: Vec<Value> = (0..4)
            .map(|number| upload_body(&format!("/{batch}/{number}"), b"x"))
            .collect();
        let uploads = open(&apps, "alice", &items).await;
        let ids: Vec<UploadId> = uploads.iter().map(|upload| upload.upload_id).collect();
        calls.push(completing(&ids));
    }
    let answers = at_once(&apps, "alice", calls).await;
    let all: Vec<String> = answers.iter().flat_map(outcomes).collect();
    let count = |outcome: &str| all.iter().filter(|found| *found == outcome).count();
    assert_eq!((count("200"), count("429 quota-exceeded")), (42, 86));
    assert_eq!(apps.feed("alice", None).await.latest_sequence.get(), 42);
}

#[tokio::test]
async fn batches_at_once_store_no_more_bytes_than_allowed() {
    let apps = Fakes::with_every_object(b"xxx").await;
    let space = apps.space("alice").await;
    let mut calls = Vec::new();
    for batch in 0..32 {
        let items: Vec<Value> = (0..4)
            .map(|number| {
                let mut item = upload_body(&format!("/{batch}/{number}"), b"xxx");
                item["spaceId"] = json!(space);
                item
            })
            .collect();
        let uploads = open(&apps, "alice", &items).await;
        let ids: Vec<UploadId> = uploads.iter().map(|upload| upload.upload_id).collect();
        calls.push(completing(&ids));
    }
    limit_bytes(&apps, space, 100).await;
    let answers = at_once(&apps, "alice", calls).await;
    let all: Vec<String> = answers.iter().flat_map(outcomes).collect();
    let count = |outcome: &str| all.iter().filter(|found| *found == outcome).count();
    assert_eq!((count("200"), count("413 quota-exceeded")), (33, 95));
    let bytes = "SELECT bytes::bigint FROM spaces WHERE name IS NOT NULL";
    assert_eq!(apps.database.number(bytes).await, 99);
}

#[tokio::test]
async fn moves_and_deletions_at_once_are_numbered_without_gaps() {
    let apps = Fakes::start().await;
    let names: Vec<String> = (0..64).map(|number| format!("/{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let made = files(&apps, "alice", &names).await;
    apps.clock.advance(Duration::MINUTE);
    limit(&apps, json!({ "changesPerMinute": 50 })).await;
    let calls = made.chunks(2).map(|pair| {
        changing(&[
            json!({ "action": "move", "fileId": pair[0].file_id, "path": format!("/moved{}", pair[0].path.as_str()) }),
            json!({ "action": "delete", "fileId": pair[1].file_id }),
        ])
    });
    let answers = at_once(&apps, "alice", calls.collect()).await;
    let all: Vec<String> = answers.iter().flat_map(outcomes).collect();
    let count = |outcome: &str| all.iter().filter(|found| *found == outcome).count();
    assert_eq!((count("200"), count("429 quota-exceeded")), (50, 14));
    let feed = apps.feed("alice", None).await;
    let numbers: Vec<i64> = feed.changes.iter().map(|change| change.sequence.get()).collect();
    assert_eq!(numbers, (1..=114).collect::<Vec<_>>());
}

/// Batches lock spaces in one order, whatever the order of their items.
#[tokio::test]
async fn batches_to_the_same_spaces_in_opposite_orders_do_not_wait_for_each_other() {
    let apps = Fakes::start().await;
    let spaces = [
        apps.space("alice").await,
        apps.space("alice").await,
        apps.space("alice").await,
    ];
    let mut calls = Vec::new();
    for batch in 0..8 {
        let mut items: Vec<Value> = (spaces.iter())
            .map(|space| body_in(*space, &format!("/{batch}")))
            .collect();
        items.push(body(&format!("/{batch}")));
        if batch % 2 == 1 {
            items.reverse();
        }
        calls.push(completing(&put(&apps, "alice", &items).await));
    }
    for answer in at_once(&apps, "alice", calls).await {
        assert_eq!(changed(&answer).len(), 4);
    }
    for space in spaces {
        assert_eq!(apps.feed("alice", Some(space)).await.latest_sequence.get(), 8);
    }
}
