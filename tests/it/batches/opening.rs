//! `POST /uploads/batch`.

use std::collections::BTreeSet;

use model::{Transfer, UploadId};
use serde_json::{Value, json};
use tests::{Call, MAX_UPLOAD_BYTES, TestContext, upload_body};

use super::{
    Fakes, at_once, body, body_in, completing, files, limit, open, opened, opening, outcomes, problem, put,
    with,
};

async fn uploads(apps: &TestContext) -> i64 {
    apps.database.number("SELECT count(*) FROM uploads").await
}

fn ids(uploads: &[model::CreatedUpload]) -> Vec<UploadId> {
    uploads.iter().map(|upload| upload.upload_id).collect()
}

#[tokio::test]
async fn each_bad_item_is_refused_as_it_would_be_alone_and_the_others_are_opened() {
    let apps = Fakes::start().await;
    let (theirs, read_only) = (apps.space("bob").await, apps.space("bob").await);
    assert_eq!(apps.share("bob", read_only, "alice", "viewer").await.status, 200);
    files(&apps, "alice", &["/old"]).await;
    let bad = [
        (with(body("/x"), "path", json!("relative")), "400 invalid-request"),
        (with(body("/x"), "size", json!(-1)), "400 invalid-request"),
        (with(body("/x"), "colour", json!("red")), "400 invalid-request"),
        (json!({ "path": "/x" }), "400 invalid-request"),
        (json!({ "path": "/x", "size": 1 }), "422 sha256-required"),
        (
            with(
                with(body("/x"), "baseVersion", json!(0)),
                "baseFileId",
                json!(theirs),
            ),
            "400 invalid-request",
        ),
        (body_in(read_only, "/x"), "403 forbidden"),
        (body_in(theirs, "/x"), "404 not-found"),
        (
            with(body("/old"), "baseVersion", json!(0)),
            "409 version-conflict",
        ),
        (with(body("/x"), "baseVersion", json!(7)), "409 version-conflict"),
        (body("/old/x"), "409 path-taken"),
        (
            with(body("/x"), "size", json!(MAX_UPLOAD_BYTES + 1)),
            "413 upload-too-large",
        ),
    ];
    let mut items = Vec::new();
    for (number, (item, _)) in bad.iter().enumerate() {
        items.extend([body(&format!("/good-{number}")), item.clone()]);
    }
    let answer = apps.call("alice", opening(&items)).await;
    let expected: Vec<&str> = bad.iter().flat_map(|(_, outcome)| ["201", outcome]).collect();
    assert_eq!(outcomes(&answer), expected);
    for (number, (item, _)) in bad.iter().enumerate() {
        let good = &answer.body["results"][2 * number]["upload"];
        assert_eq!(good["path"], json!(format!("/good-{number}")));
        let alone = apps.open("alice", item).await;
        assert_eq!(problem(&answer, 2 * number + 1), alone.body, "{item}");
    }
    let detail = problem(&answer, 1)["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with("path: "), "{detail}");
    assert_eq!(uploads(&apps).await, 13);
}

#[tokio::test]
async fn an_item_that_is_no_object_is_refused_alone() {
    let apps = Fakes::start().await;
    let items = [json!(7), body("/a"), json!(null), json!([]), json!("/b")];
    let answer = apps.call("alice", opening(&items)).await;
    let refused = "400 invalid-request";
    assert_eq!(outcomes(&answer), [refused, "201", refused, refused, refused]);
}

#[tokio::test]
async fn a_body_that_is_no_batch_is_refused_as_a_whole_and_opens_nothing() {
    let apps = Fakes::start().await;
    let one = body("/a");
    let too_many = vec![one.clone(); 101];
    for body in [
        json!({}),
        json!({ "uploads": [] }),
        json!({ "uploads": null }),
        json!({ "uploads": one }),
        json!({ "uploads": too_many }),
        json!({ "uploads": [one], "colour": "red" }),
        json!([one]),
    ] {
        let answer = apps
            .call("alice", Call::new("POST /uploads/batch").body(body.clone()))
            .await;
        assert_eq!(answer.problem(), (400, "invalid-request"), "{body}");
    }
    assert_eq!(uploads(&apps).await, 0);
    assert_eq!(
        opened(&apps.call("alice", opening(&vec![one; 100])).await).len(),
        100
    );
}

#[tokio::test]
async fn a_key_in_the_body_is_the_key_in_the_header() {
    let apps = Fakes::start().await;
    let keyed = with(body("/a"), "idempotencyKey", json!("one"));
    let first = open(&apps, "alice", std::slice::from_ref(&keyed)).await.remove(0);
    let post = |body: &Value| Call::new("POST /uploads").body(body.clone());
    for call in [
        post(&keyed),
        post(&body("/a")).header("idempotency-key", "one"),
        post(&keyed).header("idempotency-key", "one"),
    ] {
        let answer = apps.call("alice", call).await;
        assert_eq!(
            (answer.status, answer.parsed::<model::CreatedUpload>().upload_id),
            (201, first.upload_id)
        );
    }
    let contradiction = apps
        .call("alice", post(&keyed).header("idempotency-key", "two"))
        .await;
    assert_eq!(contradiction.problem(), (400, "invalid-request"));
    // The key of another user is another key.
    let other = open(&apps, "bob", std::slice::from_ref(&keyed)).await.remove(0);
    assert_ne!(other.upload_id, first.upload_id);
    assert_eq!(uploads(&apps).await, 2);
}

#[tokio::test]
async fn the_same_key_twice_in_a_batch_is_one_upload_or_a_reused_key() {
    let apps = Fakes::start().await;
    let keyed = |path: &str, key: &str| with(body(path), "idempotencyKey", json!(key));
    let items = [
        keyed("/a", "one"),
        keyed("/b", "two"),
        keyed("/a", "one"),
        keyed("/c", "two"),
        keyed("/a", "three"),
    ];
    let answer = apps.call("alice", opening(&items)).await;
    assert_eq!(
        outcomes(&answer),
        ["201", "201", "201", "422 idempotency-key-reused", "201"]
    );
    let id = |item: usize| &answer.body["results"][item]["upload"]["uploadId"];
    assert_eq!(id(0), id(2));
    assert_ne!(id(0), id(4));
    assert_eq!(uploads(&apps).await, 3);
    // An abort ends the upload and its key.
    let abort = Call::new("DELETE /uploads/{uploadId}").path("uploadId", id(1).as_str().unwrap());
    assert_eq!(apps.call("alice", abort).await.status, 204);
    let answer = apps.call("alice", opening(&items[..2])).await;
    assert_eq!(outcomes(&answer), ["201", "410 upload-expired"]);
}

#[tokio::test]
async fn a_repeated_batch_returns_the_same_uploads_with_urls_also_when_they_are_complete() {
    let apps = Fakes::start().await;
    let items: Vec<Value> = (0..10)
        .map(|number| {
            with(
                body(&format!("/{number}")),
                "idempotencyKey",
                json!(number.to_string()),
            )
        })
        .collect();
    let first = open(&apps, "alice", &items).await;
    let mut more = items.clone();
    more.insert(0, with(body("/new"), "idempotencyKey", json!("new")));
    let second = open(&apps, "alice", &more).await;
    assert_eq!(ids(&second[1..]), ids(&first));
    super::send(&apps, &second).await;
    let done = apps.call("alice", completing(&ids(&second))).await;
    assert_eq!(super::changed(&done).len(), 11);
    let third = open(&apps, "alice", &items).await;
    assert_eq!(ids(&third), ids(&first));
    assert!(
        third
            .iter()
            .all(|upload| matches!(upload.transfer, Transfer::Put(_)))
    );
    assert_eq!(uploads(&apps).await, 11);
}

#[tokio::test]
async fn batches_with_the_same_keys_at_once_open_each_upload_once() {
    let apps = Fakes::start().await;
    let items: Vec<Value> = (0..20)
        .map(|number| {
            with(
                body(&format!("/{number}")),
                "idempotencyKey",
                json!(number.to_string()),
            )
        })
        .collect();
    // The orders differ, so the batches meet each other's keys in the middle.
    let mut backwards = items.clone();
    backwards.reverse();
    let calls = (0..8).map(|number| opening(if number % 2 == 0 { &items } else { &backwards }));
    let answers = at_once(&apps, "alice", calls.collect()).await;
    let expected: BTreeSet<UploadId> = ids(&opened(&answers[0])).into_iter().collect();
    assert_eq!(expected.len(), 20);
    for answer in &answers {
        assert_eq!(
            ids(&opened(answer)).into_iter().collect::<BTreeSet<_>>(),
            expected
        );
    }
    let pending = "SELECT pending_uploads::bigint FROM users WHERE user_id = 'alice'";
    assert_eq!(
        (uploads(&apps).await, apps.database.number(pending).await),
        (20, 20)
    );
}

#[tokio::test]
async fn the_first_batches_of_a_user_share_one_new_personal_space() {
    let apps = Fakes::start().await;
    let items = [body("/a"), body("/b"), body("/c")];
    let answers = at_once(&apps, "alice", (0..8).map(|_| opening(&items)).collect()).await;
    let spaces: BTreeSet<String> = (answers.iter().flat_map(opened))
        .map(|upload| upload.space_id.to_string())
        .collect();
    assert_eq!(spaces.len(), 1);
    assert_eq!(apps.database.number("SELECT count(*) FROM spaces").await, 1);
    assert_eq!(apps.database.number("SELECT count(*) FROM members").await, 1);
}

#[tokio::test]
async fn a_batch_goes_to_several_spaces() {
    let apps = Fakes::start().await;
    let (one, two) = (apps.space("alice").await, apps.space("alice").await);
    let items = [
        body_in(two, "/a"),
        body("/a"),
        body_in(one, "/a"),
        body_in(two, "/b"),
    ];
    let uploads = open(&apps, "alice", &items).await;
    let spaces: Vec<_> = uploads.iter().map(|upload| upload.space_id).collect();
    assert_eq!((spaces[0], spaces[2], spaces[3]), (two, one, two));
    assert!(spaces[1] != one && spaces[1] != two);
}

#[tokio::test]
async fn the_items_that_fit_are_opened_and_the_others_are_told_of_the_limit() {
    let apps = Fakes::start().await;
    limit(&apps, json!({ "pendingUploads": 5 })).await;
    put(&apps, "alice", &[body("/0"), body("/1")]).await;
    let items: Vec<Value> = (2..8).map(|number| body(&format!("/{number}"))).collect();
    let answer = apps.call("alice", opening(&items)).await;
    let refused = "429 quota-exceeded";
    assert_eq!(
        outcomes(&answer),
        ["201", "201", "201", refused, refused, refused]
    );
    let told = &answer.body["results"][3]["problem"];
    assert_eq!(
        told["limit"],
        json!({ "name": "pendingUploads", "used": 5, "maximum": 5 })
    );
    assert!(told["retryAfter"].as_i64().unwrap() > 0);
    assert_eq!(uploads(&apps).await, 5);
}

#[tokio::test]
async fn batches_at_once_open_no_more_than_allowed() {
    let apps = Fakes::start().await;
    limit(&apps, json!({ "pendingUploads": 50 })).await;
    let items: Vec<Value> = (0..4).map(|number| body(&format!("/{number}"))).collect();
    let answers = at_once(&apps, "alice", (0..32).map(|_| opening(&items)).collect()).await;
    let all: Vec<String> = answers.iter().flat_map(outcomes).collect();
    let opened = all.iter().filter(|outcome| *outcome == "201").count();
    let refused = all
        .iter()
        .filter(|outcome| *outcome == "429 quota-exceeded")
        .count();
    assert_eq!((opened, refused), (50, 78));
    let counted = "SELECT count(*) FROM uploads WHERE state = 'pending'";
    assert_eq!(apps.database.number(counted).await, 50);
}

#[tokio::test]
async fn content_in_parts_is_opened_in_a_batch() {
    let apps = TestContext::create().await;
    let large = |path: &str| upload_body(path, &vec![7; 2 * 1024 * 1024]);
    let keyed = |path: &str, key: &str| with(large(path), "idempotencyKey", json!(key));
    let items = [
        body("/small"),
        keyed("/large", "a"),
        large("/other"),
        keyed("/large", "a"),
    ];
    let uploads = open(&apps, "alice", &items).await;
    let in_parts: Vec<bool> = (uploads.iter())
        .map(|upload| matches!(upload.transfer, Transfer::Multipart(_)))
        .collect();
    assert_eq!(in_parts, [false, true, true, true]);
    assert_eq!(uploads[1].upload_id, uploads[3].upload_id);
    // Each has a multipart upload of its own, which accepts parts.
    let distinct = "SELECT count(DISTINCT multipart_id) FROM uploads";
    assert_eq!(apps.database.number(distinct).await, 2);
    for upload in &uploads[1..] {
        let call = Call::new("POST /uploads/{uploadId}/parts").path("uploadId", upload.upload_id);
        let part = json!({ "partNumber": 1, "sha256": client::sha256(b"x") });
        let presigned = apps.call("alice", call.body(json!({ "parts": [part] }))).await;
        assert_eq!(presigned.status, 200, "{presigned:?}");
    }
}
