//! `POST /uploads/batch/complete`.

use model::{CreatedUpload, UploadId};
use serde_json::{Value, json};
use tests::{Call, TestContext, upload_body};
use time::Duration;

use super::{
    Fakes, announced, body, body_in, changed, changed_or_refused, completing, files, limit, limit_bytes,
    open, outcomes, problem, put, send, sequences, with,
};

/// Sets a column of an upload.
async fn set(apps: &TestContext, upload: UploadId, assignment: &str) {
    let sql = format!("UPDATE uploads SET {assignment} WHERE id = '{upload}'");
    apps.database.execute(&sql).await;
}

async fn one(apps: &TestContext, user: &str, body: Value) -> UploadId {
    put(apps, user, &[body]).await.remove(0)
}

#[tokio::test]
async fn items_of_one_space_get_consecutive_numbers_in_their_order_and_a_bad_one_fails_alone() {
    let apps = Fakes::start().await;
    let (theirs, read_only) = (apps.space("bob").await, apps.space("bob").await);
    for (space, role) in [(theirs, "viewer"), (read_only, "editor")] {
        assert_eq!(apps.share("bob", space, "alice", role).await.status, 200);
    }
    let mut bad: Vec<(UploadId, &str)> = Vec::new();

    bad.push((platform::ids::new_id().into(), "404 not-found"));
    bad.push((one(&apps, "bob", body("/x")).await, "404 not-found"));
    bad.push((one(&apps, "bob", body_in(theirs, "/x")).await, "404 not-found"));
    bad.push((
        one(&apps, "alice", body_in(read_only, "/x")).await,
        "403 forbidden",
    ));
    assert_eq!(apps.share("bob", read_only, "alice", "viewer").await.status, 200);

    let conflict = one(&apps, "alice", with(body("/conflict"), "baseVersion", json!(0))).await;
    bad.push((conflict, "409 version-conflict"));
    bad.push((one(&apps, "alice", body("/taken/below")).await, "409 path-taken"));
    bad.push((one(&apps, "alice", body("/folder")).await, "409 path-taken"));
    files(&apps, "alice", &["/conflict", "/taken", "/folder/file"]).await;

    let absent = open(&apps, "alice", &[body("/absent")]).await.remove(0);
    bad.push((absent.upload_id, "409 upload-incomplete"));
    let expired = one(&apps, "alice", body("/expired")).await;
    let ended =
        "created_at = created_at - interval '14 hours', expires_at = expires_at - interval '14 hours'";
    set(&apps, expired, ended).await;
    bad.push((expired, "410 upload-expired"));
    let aborted = one(&apps, "alice", body("/aborted")).await;
    let abort = Call::new("DELETE /uploads/{uploadId}").path("uploadId", aborted);
    assert_eq!(apps.call("alice", abort).await.status, 204);
    bad.push((aborted, "410 upload-expired"));
    let short = one(&apps, "alice", body("/short")).await;
    set(&apps, short, "size = size + 1").await;
    bad.push((short, "422 size-mismatch"));
    let other = one(&apps, "alice", body("/other")).await;
    set(&apps, other, "sha256 = sha256('another')").await;
    bad.push((other, "422 checksum-mismatch"));

    let paths: Vec<Value> = (0..=bad.len())
        .map(|number| body(&format!("/{number}")))
        .collect();
    let good = put(&apps, "alice", &paths).await;
    let mut items = vec![good[0]];
    for (number, (upload, _)) in bad.iter().enumerate() {
        items.extend([*upload, good[number + 1]]);
    }
    let before = apps.feed("alice", None).await.latest_sequence.get();
    announced(&apps);
    let answer = apps.call("alice", completing(&items)).await;
    let outcome = |(_, outcome): &(UploadId, &'static str)| [*outcome, "200"];
    let expected: Vec<&str> = std::iter::once("200")
        .chain(bad.iter().flat_map(outcome))
        .collect();
    assert_eq!(outcomes(&answer), expected);

    let made: Vec<_> = changed_or_refused(&answer)
        .into_iter()
        .filter_map(Result::ok)
        .collect();
    let expected: Vec<i64> = (before + 1..).take(good.len()).collect();
    assert_eq!(sequences(&made), expected);
    let paths: Vec<String> = made.iter().map(|change| change.path.to_string()).collect();
    assert_eq!(
        paths,
        (0..good.len())
            .map(|number| format!("/{number}"))
            .collect::<Vec<_>>()
    );
    // The feed has the same, and the queue too.
    let feed = apps.feed("alice", None).await;
    assert_eq!(
        feed.latest_sequence.get(),
        before + i64::try_from(good.len()).unwrap()
    );
    assert_eq!(announced(&apps).concat(), expected);
    // Alone, each would have been refused in the same way.
    for (number, (upload, _)) in bad.iter().enumerate() {
        let alone = apps.complete_id("alice", &upload.to_string()).await;
        assert_eq!(problem(&answer, 2 * number + 1), alone.body, "{upload}");
    }
}

#[tokio::test]
async fn content_with_a_header_that_nobody_declared_fails_alone() {
    let apps = TestContext::create().await;
    let uploads = open(&apps, "alice", &[body("/bomb"), body("/a")]).await;
    let mut put = uploads[0].put().unwrap().clone();
    put.headers
        .insert("content-encoding".to_owned(), "gzip".to_owned());
    tests::put_to_storage(&put, b"/bomb").await;
    send(&apps, &uploads[1..]).await;
    let answer = apps.call("alice", completing(&ids(&uploads))).await;
    assert_eq!(outcomes(&answer), ["422 undeclared-headers", "200"]);
}

fn ids(uploads: &[CreatedUpload]) -> Vec<UploadId> {
    uploads.iter().map(|upload| upload.upload_id).collect()
}

#[tokio::test]
async fn each_space_counts_its_own_items_in_their_order() {
    let apps = Fakes::start().await;
    let (one, two) = (apps.space("alice").await, apps.space("alice").await);
    let items = [
        body_in(one, "/a"),
        body("/a"),
        body_in(two, "/a"),
        body_in(one, "/b"),
        body("/b"),
        body_in(one, "/c"),
        body_in(two, "/b"),
    ];
    let uploads = put(&apps, "alice", &items).await;
    let first = async |space| apps.feed("alice", space).await.latest_sequence.get();
    let before = [first(Some(one)).await, first(None).await, first(Some(two)).await];
    let made = changed(&apps.call("alice", completing(&uploads)).await);
    let numbers: Vec<i64> = (made.iter().zip([0, 1, 2, 0, 1, 0, 2]))
        .map(|(change, space): (_, usize)| change.sequence.get() - before[space])
        .collect();
    assert_eq!(numbers, [1, 1, 1, 2, 2, 3, 2]);
    for (change, item) in made.iter().zip(&items) {
        assert_eq!(json!(change.path), item["path"]);
        if let Some(space) = item["spaceId"].as_str() {
            assert_eq!(change.space_id.to_string(), space);
        }
    }
    assert_eq!(apps.database.number("SELECT count(*) FROM outbox").await, 0);
}

#[tokio::test]
async fn a_repeated_batch_answers_the_same_and_makes_no_second_change() {
    let apps = Fakes::start().await;
    let items: Vec<Value> = (0..8).map(|number| body(&format!("/{number}"))).collect();
    let uploads = put(&apps, "alice", &items).await;
    // Some of them were completed before, alone and in another batch.
    assert_eq!(
        apps.complete_id("alice", &uploads[5].to_string()).await.status,
        200
    );
    let part = changed(&apps.call("alice", completing(&[uploads[6], uploads[1]])).await);
    assert_eq!(sequences(&part), [2, 3]);
    let first = apps.call("alice", completing(&uploads)).await;
    assert_eq!(sequences(&changed(&first)), [4, 3, 5, 6, 7, 1, 2, 8]);
    // Other changes since do not alter what the batch has done.
    files(&apps, "alice", &["/0", "/new"]).await;
    let again = apps.call("alice", completing(&uploads)).await;
    assert_eq!(again.body, first.body);
    assert_eq!(apps.feed("alice", None).await.latest_sequence.get(), 10);
    let mut numbers = announced(&apps).concat();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn items_with_the_same_path_are_versions_unless_one_asks_for_a_free_path() {
    let apps = Fakes::start().await;
    let free = with(body("/free"), "baseVersion", json!(0));
    let items = [body("/a"), body("/a"), free.clone(), free, body("/a")];
    let uploads = put(&apps, "alice", &items).await;
    let answer = apps.call("alice", completing(&uploads)).await;
    assert_eq!(
        outcomes(&answer),
        ["200", "200", "200", "409 version-conflict", "200"]
    );
    let made: Vec<_> = changed_or_refused(&answer)
        .into_iter()
        .filter_map(Result::ok)
        .collect();
    let versions: Vec<i64> = made.iter().map(|change| change.version.get()).collect();
    assert_eq!((sequences(&made), versions), (vec![1, 2, 3, 4], vec![1, 2, 1, 3]));
    assert!(made[0].file_id == made[1].file_id && made[0].file_id == made[3].file_id);
    // The refusal names the file that the same batch made.
    let current = &problem(&answer, 3)["current"];
    assert_eq!(current["fileId"], json!(made[2].file_id));
}

#[tokio::test]
async fn a_file_and_a_folder_of_one_name_do_not_come_from_one_batch() {
    for (first, second) in [
        ("/a", "/a/b"),
        ("/a/b", "/a"),
        ("/a/b/c/d", "/a/b"),
        ("/a", "/a/b/c/d"),
    ] {
        let apps = Fakes::start().await;
        let items = [body(first), body(second), body("/c")];
        let uploads = put(&apps, "alice", &items).await;
        let answer = apps.call("alice", completing(&uploads)).await;
        assert_eq!(
            outcomes(&answer),
            ["200", "409 path-taken", "200"],
            "{first} {second}"
        );
        assert_eq!(problem(&answer, 1)["current"]["path"], json!(first));
        // When the file is gone, only the refused item need be repeated.
        let file = changed_or_refused(&answer)[0].as_ref().unwrap().file_id;
        let delete = Call::new("DELETE /files/{fileId}").path("fileId", file);
        assert_eq!(apps.call("alice", delete).await.status, 200);
        let again = changed(&apps.call("alice", completing(&uploads)).await);
        assert_eq!(sequences(&again), [1, 4, 2]);
    }
}

#[tokio::test]
async fn a_body_that_is_no_batch_is_refused_as_a_whole_and_completes_nothing() {
    let apps = Fakes::start().await;
    let upload = one(&apps, "alice", body("/a")).await;
    let new = || json!(platform::ids::new_id());
    let too_many: Vec<Value> = (0..101).map(|_| new()).collect();
    for body in [
        json!({}),
        json!({ "uploadIds": [] }),
        json!({ "uploadIds": null }),
        json!({ "uploadIds": upload }),
        json!({ "uploadIds": too_many }),
        json!({ "uploadIds": [upload, new(), upload] }),
        json!({ "uploadIds": [upload, "no-id"] }),
        json!({ "uploadIds": [upload], "colour": "red" }),
        json!([upload]),
    ] {
        let call = Call::new("POST /uploads/batch/complete").body(body.clone());
        let answer = apps.call("alice", call).await;
        assert_eq!(answer.problem(), (400, "invalid-request"), "{body}");
    }
    assert_eq!(apps.database.number("SELECT count(*) FROM changes").await, 0);
    let answer = apps.call("alice", completing(&[upload])).await;
    assert_eq!(outcomes(&answer), ["200"]);
}

#[tokio::test]
async fn no_more_changes_are_made_in_a_minute_than_allowed_and_the_rest_later() {
    let apps = Fakes::start().await;
    limit(&apps, json!({ "changesPerMinute": 3 })).await;
    let items: Vec<Value> = (0..5).map(|number| body(&format!("/{number}"))).collect();
    let uploads = put(&apps, "alice", &items).await;
    let answer = apps.call("alice", completing(&uploads)).await;
    let refused = "429 quota-exceeded";
    assert_eq!(outcomes(&answer), ["200", "200", "200", refused, refused]);
    for item in 3..5 {
        let told = &answer.body["results"][item]["problem"];
        assert_eq!(
            told["limit"],
            json!({ "name": "changesPerMinute", "used": 3, "maximum": 3 })
        );
        assert_eq!(told["retryAfter"], json!(60));
    }
    apps.clock.advance(Duration::MINUTE);
    let again = apps.call("alice", completing(&uploads)).await;
    assert_eq!(sequences(&changed(&again)), [1, 2, 3, 4, 5]);
    assert_eq!(again.body["results"][2], answer.body["results"][2]);
}

#[tokio::test]
async fn the_items_that_fit_into_the_space_are_completed() {
    let apps = Fakes::start().await;
    let space = apps.space("alice").await;
    let items: Vec<Value> = ["/123456789", "/abcdefghi", "/ABCDEFGHI", "/1234"]
        .map(|path| body_in(space, path))
        .into();
    let uploads = put(&apps, "alice", &items).await;
    limit_bytes(&apps, space, 25).await;
    let answer = apps.call("alice", completing(&uploads)).await;
    assert_eq!(outcomes(&answer), ["200", "200", "413 quota-exceeded", "200"]);
    let limit = &problem(&answer, 2)["limit"];
    assert_eq!(
        (&limit["name"], &limit["maximum"]),
        (&json!("spaceBytes"), &json!(25))
    );
    let bytes = "SELECT bytes::bigint FROM spaces WHERE name IS NOT NULL";
    assert_eq!(apps.database.number(bytes).await, 25);
}

#[tokio::test]
async fn content_in_parts_is_completed_in_a_batch() {
    let apps = TestContext::create().await;
    let content = vec![7; 2 * 1024 * 1024];
    let large = |path: &str| upload_body(path, &content);
    let items = [body("/small"), large("/large"), large("/missing"), body("/other")];
    let uploads = open(&apps, "alice", &items).await;
    let call = Call::new("POST /uploads/{uploadId}/parts").path("uploadId", uploads[1].upload_id);
    let part = json!({ "partNumber": 1, "sha256": client::sha256(&content) });
    let presigned = apps.call("alice", call.body(json!({ "parts": [part] }))).await;
    let presigned: model::PresignedParts = presigned.parsed();
    tests::put_to_storage(&presigned.parts[0].put, &content).await;
    send(&apps, &[uploads[0].clone(), uploads[3].clone()]).await;
    let answer = apps.call("alice", completing(&ids(&uploads))).await;
    assert_eq!(outcomes(&answer), ["200", "200", "409 upload-incomplete", "200"]);
    let alone = apps.complete("alice", &uploads[2]).await;
    assert_eq!(problem(&answer, 2), alone.body);
    let composite = "SELECT count(*) FROM versions WHERE composite_sha256 IS NOT NULL";
    assert_eq!(apps.database.number(composite).await, 1);
    let again = apps.call("alice", completing(&ids(&uploads))).await;
    assert_eq!(again.body["results"], answer.body["results"]);
}
