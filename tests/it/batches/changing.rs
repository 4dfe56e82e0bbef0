//! `POST /files/batch`.

use model::{FileChanged, FileId, SpaceId};
use serde_json::{Value, json};
use tests::{Answer, Call, TestContext};
use time::Duration;

use super::{
    Fakes, announced, body_in, changed, changed_or_refused, changing, completing, files, limit, outcomes,
    problem, put, sequences, with,
};

fn moving(file: FileId, path: &str) -> Value {
    json!({ "action": "move", "fileId": file, "path": path })
}

fn deleting(file: FileId) -> Value {
    json!({ "action": "delete", "fileId": file })
}

/// Makes a file in a shared space.
async fn file_in(apps: &TestContext, user: &str, space: SpaceId, path: &str) -> FileId {
    let uploads = put(apps, user, &[body_in(space, path)]).await;
    changed(&apps.call(user, completing(&uploads)).await)[0].file_id
}

/// The request that is the same as a change of a batch.
async fn alone(apps: &TestContext, change: &Value) -> Answer {
    let file = change["fileId"].as_str().unwrap();
    if change["action"] == "move" {
        let mut body = change.clone();
        for field in ["action", "fileId"] {
            body.as_object_mut().unwrap().remove(field);
        }
        let call = Call::new("PATCH /files/{fileId}").path("fileId", file);
        return apps.call("alice", call.body(body)).await;
    }
    let mut call = Call::new("DELETE /files/{fileId}").path("fileId", file);
    for name in ["baseVersion", "basePath"] {
        match &change[name] {
            Value::Null => {}
            Value::String(text) => call = call.query(name, text),
            other => call = call.query(name, other),
        }
    }
    apps.call("alice", call).await
}

fn paths(changes: &[FileChanged]) -> Vec<String> {
    changes.iter().map(|change| change.path.to_string()).collect()
}

#[tokio::test]
async fn changes_are_made_in_their_order_and_a_bad_one_fails_alone() {
    let apps = Fakes::start().await;
    let (theirs, read_only) = (apps.space("bob").await, apps.space("bob").await);
    assert_eq!(apps.share("bob", read_only, "alice", "viewer").await.status, 200);
    let hidden = file_in(&apps, "bob", theirs, "/x").await;
    let visible = file_in(&apps, "bob", read_only, "/x").await;
    let names: Vec<String> = (0..30).map(|number| format!("/{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let made = files(&apps, "alice", &names).await;
    let (unmoved, obstacle) = (made[20].file_id, "/21");
    let bad = [
        (
            with(moving(unmoved, "/x"), "path", json!("relative")),
            "400 invalid-request",
        ),
        (moving(hidden, "/y"), "404 not-found"),
        (deleting(hidden), "404 not-found"),
        (deleting(platform::ids::new_id().into()), "404 not-found"),
        (moving(visible, "/y"), "403 forbidden"),
        (deleting(visible), "403 forbidden"),
        (moving(unmoved, obstacle), "409 path-taken"),
        (moving(unmoved, "/21/below"), "409 path-taken"),
        (
            with(moving(unmoved, "/x"), "baseVersion", json!(7)),
            "409 version-conflict",
        ),
        (
            with(moving(unmoved, "/x"), "basePath", json!("/y")),
            "409 version-conflict",
        ),
        (
            with(deleting(unmoved), "baseVersion", json!(7)),
            "409 version-conflict",
        ),
        (
            with(deleting(unmoved), "basePath", json!("/y")),
            "409 version-conflict",
        ),
    ];
    let mut items = Vec::new();
    for (number, (change, _)) in bad.iter().enumerate() {
        let file = made[number].file_id;
        let good = if number % 2 == 0 {
            moving(file, &format!("/moved/{number}"))
        } else {
            deleting(file)
        };
        items.extend([good, change.clone()]);
    }
    let before = apps.feed("alice", None).await.latest_sequence.get();
    announced(&apps);
    let answer = apps.call("alice", changing(&items)).await;
    let expected: Vec<&str> = bad.iter().flat_map(|(_, outcome)| ["200", outcome]).collect();
    assert_eq!(outcomes(&answer), expected);
    let good: Vec<FileChanged> = changed_or_refused(&answer)
        .into_iter()
        .filter_map(Result::ok)
        .collect();
    let expected: Vec<i64> = (before + 1..).take(good.len()).collect();
    assert_eq!(sequences(&good), expected);
    let told: Vec<_> = good.iter().map(|change| change.file_id).collect();
    assert_eq!(
        told,
        made[..bad.len()]
            .iter()
            .map(|file| file.file_id)
            .collect::<Vec<_>>()
    );
    assert_eq!(announced(&apps).concat(), expected);
    assert_eq!(apps.feed("alice", None).await.latest_sequence.get(), before + 12);
    for (number, (change, _)) in bad.iter().enumerate() {
        assert_eq!(
            problem(&answer, 2 * number + 1),
            alone(&apps, change).await.body,
            "{change}"
        );
    }
}

#[tokio::test]
async fn an_item_of_another_shape_is_refused_alone() {
    let apps = Fakes::start().await;
    let file = files(&apps, "alice", &["/a"]).await[0].file_id;
    let bad = [
        json!(7),
        json!({ "fileId": file }),
        json!({ "action": "erase", "fileId": file }),
        json!({ "action": "move", "fileId": file }),
        json!({ "action": "delete", "fileId": file, "path": "/b" }),
        json!({ "action": "delete", "fileId": "no-id" }),
        json!({ "action": "delete", "fileId": file, "permanently": true }),
    ];
    let mut items = bad.to_vec();
    items.push(moving(file, "/b"));
    let answer = apps.call("alice", changing(&items)).await;
    let mut expected = vec!["400 invalid-request"; bad.len()];
    expected.push("200");
    assert_eq!(outcomes(&answer), expected);
    assert_eq!(apps.feed("alice", None).await.latest_sequence.get(), 2);
}

#[tokio::test]
async fn a_body_that_is_no_batch_is_refused_as_a_whole_and_changes_nothing() {
    let apps = Fakes::start().await;
    let file = files(&apps, "alice", &["/a"]).await[0].file_id;
    let change = deleting(file);
    let too_many = vec![change.clone(); 101];
    for body in [
        json!({}),
        json!({ "changes": [] }),
        json!({ "changes": null }),
        json!({ "changes": change }),
        json!({ "changes": too_many }),
        json!({ "changes": [change], "deviceId": "laptop" }),
        json!({ "changes": [change], "colour": "red" }),
        json!([change]),
    ] {
        let answer = apps
            .call("alice", Call::new("POST /files/batch").body(body.clone()))
            .await;
        assert_eq!(answer.problem(), (400, "invalid-request"), "{body}");
    }
    assert_eq!(apps.feed("alice", None).await.latest_sequence.get(), 1);
}

#[tokio::test]
async fn a_change_sees_those_before_it() {
    let apps = Fakes::start().await;
    let made = files(&apps, "alice", &["/a", "/c", "/x", "/y", "/d", "/e"]).await;
    let [a, c, left, right, file, content] = [0, 1, 2, 3, 4, 5].map(|number: usize| made[number].file_id);
    let answer = apps
        .call(
            "alice",
            changing(&[
                moving(a, "/b"),
                moving(c, "/a"),
                // Two files change places.
                moving(left, "/t"),
                moving(right, "/x"),
                moving(left, "/y"),
                // A folder takes the place of a deleted file.
                deleting(file),
                moving(content, "/d/e"),
                // This is too early, and the next is in time.
                moving(a, "/a/below"),
                moving(c, "/c"),
                moving(a, "/a/below"),
            ]),
        )
        .await;
    let mut expected = vec!["200"; 10];
    expected[7] = "409 path-taken";
    assert_eq!(outcomes(&answer), expected);
    let good: Vec<FileChanged> = changed_or_refused(&answer)
        .into_iter()
        .filter_map(Result::ok)
        .collect();
    assert_eq!(sequences(&good), (7..16).collect::<Vec<_>>());
    assert_eq!(
        paths(&good),
        ["/b", "/a", "/t", "/x", "/y", "/d", "/d/e", "/c", "/a/below"]
    );
    let listed = apps.call("alice", Call::new("GET /files")).await.body;
    let listed: Vec<&str> = (listed["files"].as_array().unwrap().iter())
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    assert_eq!(listed, ["/a/below", "/c", "/d/e", "/x", "/y"]);
}

#[tokio::test]
async fn deleting_again_returns_the_same_change_in_and_after_the_batch() {
    let apps = Fakes::start().await;
    let made = files(&apps, "alice", &["/a", "/b"]).await;
    let (a, b) = (made[0].file_id, made[1].file_id);
    let first = apps
        .call("alice", changing(&[deleting(a), deleting(b), deleting(a)]))
        .await;
    assert_eq!(sequences(&changed(&first)), [3, 4, 3]);
    let again = apps.call("alice", changing(&[deleting(b), deleting(a)])).await;
    assert_eq!(sequences(&changed(&again)), [4, 3]);
    let alone = apps
        .call("alice", Call::new("DELETE /files/{fileId}").path("fileId", a))
        .await;
    assert_eq!(alone.body, first.body["results"][0]["change"]);
    assert_eq!(announced(&apps).concat(), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_repeated_batch_finds_its_own_changes() {
    let apps = Fakes::start().await;
    let made = files(&apps, "alice", &["/a", "/b", "/c"]).await;
    let based = |change: Value, file: usize| {
        let change = with(change, "baseVersion", json!(1));
        with(change, "basePath", json!(made[file].path))
    };
    let items = [
        based(moving(made[0].file_id, "/folder/a"), 0),
        based(deleting(made[1].file_id), 1),
        based(moving(made[2].file_id, "/folder/c"), 2),
    ];
    let device = uuid::Uuid::from_u128(7);
    let call = Call::new("POST /files/batch").body(json!({ "changes": items, "deviceId": device }));
    let first = apps.call("alice", call.clone()).await;
    assert_eq!(sequences(&changed(&first)), [4, 5, 6]);
    assert_eq!(apps.call("alice", call.clone()).await.body, first.body);
    // Also after another device's change.
    files(&apps, "alice", &["/folder/a"]).await;
    assert_eq!(apps.call("alice", call).await.body, first.body);
    assert_eq!(apps.feed("alice", None).await.latest_sequence.get(), 7);
}

#[tokio::test]
async fn each_space_counts_its_own_changes_and_the_device_is_named() {
    let apps = Fakes::start().await;
    let space = apps.space("alice").await;
    let shared = [
        file_in(&apps, "alice", space, "/a").await,
        file_in(&apps, "alice", space, "/b").await,
    ];
    let own: Vec<FileId> = (files(&apps, "alice", &["/a", "/b"]).await.iter())
        .map(|file| file.file_id)
        .collect();
    let (before, own_before) = (
        apps.feed("alice", Some(space)).await.latest_sequence.get(),
        apps.feed("alice", None).await.latest_sequence.get(),
    );
    let device = uuid::Uuid::from_u128(7);
    let changes = [
        moving(own[1], "/c"),
        deleting(shared[0]),
        deleting(own[0]),
        moving(shared[1], "/a"),
    ];
    let call = Call::new("POST /files/batch").body(json!({ "changes": changes, "deviceId": device }));
    let made = changed(&apps.call("alice", call).await);
    assert_eq!(
        sequences(&made),
        [own_before + 1, before + 1, own_before + 2, before + 2]
    );
    let feed = apps.feed("alice", Some(space)).await;
    let newest = feed.changes.last().unwrap();
    assert_eq!(newest.device_id, Some(device.into()));
}

#[tokio::test]
async fn a_move_to_where_the_file_is_changes_nothing_and_counts_for_no_limit() {
    let apps = Fakes::start().await;
    let made = files(&apps, "alice", &["/a", "/b", "/c"]).await;
    apps.clock.advance(Duration::MINUTE);
    limit(&apps, json!({ "changesPerMinute": 2 })).await;
    let items: Vec<Value> = vec![
        moving(made[0].file_id, "/a"),
        moving(made[1].file_id, "/b2"),
        moving(made[1].file_id, "/b2"),
        moving(made[0].file_id, "/a"),
        deleting(made[2].file_id),
        moving(made[0].file_id, "/a2"),
    ];
    let answer = apps.call("alice", changing(&items)).await;
    assert_eq!(
        outcomes(&answer),
        ["200", "200", "200", "200", "200", "429 quota-exceeded"]
    );
    let good: Vec<FileChanged> = changed_or_refused(&answer)
        .into_iter()
        .filter_map(Result::ok)
        .collect();
    assert_eq!(sequences(&good), [1, 4, 4, 1, 5]);
    assert_eq!(answer.body["results"][5]["problem"]["retryAfter"], json!(60));
}

#[tokio::test]
async fn a_folder_of_a_hundred_files_moves_and_is_deleted_in_one_request_each() {
    let apps = Fakes::with_every_object(b"x").await;
    let items: Vec<Value> = (0..100)
        .map(|number| tests::upload_body(&format!("/folder/{number}"), b"x"))
        .collect();
    let uploads = super::open(&apps, "alice", &items).await;
    let ids: Vec<_> = uploads.iter().map(|upload| upload.upload_id).collect();
    let made = changed(&apps.call("alice", completing(&ids)).await);
    assert_eq!(sequences(&made), (1..=100).collect::<Vec<_>>());
    let changes: Vec<Value> = (made.iter())
        .map(|file| moving(file.file_id, &format!("/other{}", file.path.as_str())))
        .collect();
    let moved = changed(&apps.call("alice", changing(&changes)).await);
    assert_eq!(sequences(&moved), (101..=200).collect::<Vec<_>>());
    let deletions: Vec<Value> = made.iter().map(|file| deleting(file.file_id)).collect();
    let deleted = changed(&apps.call("alice", changing(&deletions)).await);
    assert_eq!(sequences(&deleted), (201..=300).collect::<Vec<_>>());
    assert_eq!(
        apps.database
            .number("SELECT count(*) FROM files WHERE deleted_at IS NULL")
            .await,
        0
    );
    let mut numbers = announced(&apps).concat();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=300).collect::<Vec<_>>());
}
