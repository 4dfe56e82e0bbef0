//! Listing, reading, downloading, moving and deleting files.

use futures_util::future::join_all;
use model::{CurrentVersion, DownloadUrl, FileChanged, FileDetail, FileId, FileList, FolderList};
use serde_json::{Value, json};
use tests::{Answer, Call, TestContext, raw_http, upload_body};

async fn list(apps: &TestContext, user: &str, call: Call) -> FileList {
    apps.call(user, call).await.parsed()
}

fn paths(list: &FileList) -> Vec<&str> {
    list.files.iter().map(|file| file.path.as_str()).collect()
}

fn file(route: &'static str, id: FileId) -> Call {
    Call::new(route).path("fileId", id)
}

async fn rename(apps: &TestContext, user: &str, id: FileId, body: Value) -> Answer {
    apps.call(user, file("PATCH /files/{fileId}", id).body(body))
        .await
}

async fn delete(apps: &TestContext, user: &str, id: FileId) -> Answer {
    apps.call(user, file("DELETE /files/{fileId}", id)).await
}

async fn download(apps: &TestContext, user: &str, call: Call) -> (reqwest::header::HeaderMap, Vec<u8>) {
    let answer = apps.call(user, call).await;
    assert_eq!(answer.status, 307, "{answer:?}");
    let response = raw_http().get(answer.location.unwrap()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    (
        response.headers().clone(),
        response.bytes().await.unwrap().to_vec(),
    )
}

fn current(answer: &Answer) -> CurrentVersion {
    serde_json::from_value(answer.body["current"].clone()).unwrap()
}

#[tokio::test]
async fn pages_of_a_prefix_are_in_order_and_stay_right_while_files_come_and_go() {
    let apps = TestContext::create().await;
    let mut ids = Vec::new();
    for path in ["/b/3", "/a", "/b/1", "/b.", "/b/2", "/ba", "/c", "/b/4", "/B/1"] {
        ids.push((path, apps.upload("alice", path, b"x").await.file_id));
    }
    let everything = list(&apps, "alice", Call::new("GET /files")).await;
    assert_eq!(
        paths(&everything),
        ["/B/1", "/a", "/b.", "/b/1", "/b/2", "/b/3", "/b/4", "/ba", "/c"]
    );
    let page = Call::new("GET /files").query("prefix", "/b/").query("limit", 2);
    let first = list(&apps, "alice", page.clone()).await;
    assert_eq!(paths(&first), ["/b/1", "/b/2"]);
    // Deletes the last file of the page, and adds one file before it and one after it.
    let (_, second) = ids.iter().find(|(path, _)| *path == "/b/2").unwrap();
    assert_eq!(delete(&apps, "alice", *second).await.status, 200);
    apps.upload("alice", "/b/0", b"x").await;
    apps.upload("alice", "/b/25", b"x").await;
    let page = page.query("pageToken", first.next_page_token.unwrap());
    let next = list(&apps, "alice", page).await;
    assert_eq!(paths(&next), ["/b/25", "/b/3"]);
    let last = Call::new("GET /files")
        .query("prefix", "/b/")
        .query("pageToken", next.next_page_token.unwrap());
    let last = list(&apps, "alice", last).await;
    assert_eq!((paths(&last), &last.next_page_token), (vec!["/b/4"], &None));
}

#[tokio::test]
async fn a_prefix_may_end_anywhere_even_in_the_last_character_that_there_is() {
    let apps = TestContext::create().await;
    for path in ["/a\u{10FFFF}x", "/a\u{10FFFF}", "/b", "/ab", "/日本/é"] {
        apps.upload("alice", path, b"x").await;
    }
    let with =
        async |prefix: &str| list(&apps, "alice", Call::new("GET /files").query("prefix", prefix)).await;
    assert_eq!(paths(&with("/a").await), ["/ab", "/a\u{10FFFF}", "/a\u{10FFFF}x"]);
    assert_eq!(
        paths(&with("/a\u{10FFFF}").await),
        ["/a\u{10FFFF}", "/a\u{10FFFF}x"]
    );
    assert_eq!(paths(&with("/日").await), ["/日本/é"]);
    // `LIKE` wildcards in the prefix match only themselves.
    assert!(paths(&with("/%").await).is_empty());
}

#[tokio::test]
async fn a_user_who_has_done_nothing_yet_has_no_files_and_no_changes() {
    let apps = TestContext::create().await;
    assert!(list(&apps, "new", Call::new("GET /files")).await.files.is_empty());
    let feed = apps.feed("new", None).await;
    assert_eq!(
        (feed.changes.len(), feed.latest_sequence.get(), feed.has_more),
        (0, 0, false)
    );
    assert_eq!(apps.database.number("SELECT count(*) FROM spaces").await, 0);
    // The first `GET /spaces` creates the personal space.
    let spaces = apps.call("new", Call::new("GET /spaces")).await.body;
    assert_eq!(
        (&spaces["spaces"][0]["kind"], &spaces["spaces"][1]),
        (&json!("personal"), &json!(null))
    );
    assert!(list(&apps, "new", Call::new("GET /files")).await.files.is_empty());
}

#[tokio::test]
async fn bad_parameters_are_400_that_name_them() {
    let apps = TestContext::create().await;
    for (route, name, value) in [
        ("GET /files", "limit", "0"),
        ("GET /files", "limit", "1001"),
        ("GET /files", "limit", "ten"),
        ("GET /files", "prefix", "relative"),
        ("GET /files", "pageToken", "!"),
        ("GET /files", "pageToken", "AAAA"),
        ("GET /files", "spaceId", "mine"),
        ("GET /files", "colour", "red"),
        ("GET /spaces", "pageToken", "L2E"),
        ("GET /changes", "after", "-1"),
        ("GET /changes", "after", "9223372036854775808"),
        ("GET /changes", "limit", "1001"),
    ] {
        let answer = apps.call("alice", Call::new(route).query(name, value)).await;
        assert_eq!(answer.problem(), (400, "invalid-request"), "{name}={value}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains(name), "{detail}");
    }
    let id = platform::ids::new_id();
    for call in [
        Call::new("GET /uploads/{uploadId}").path("uploadId", id),
        Call::new("DELETE /uploads/{uploadId}").path("uploadId", id),
        Call::new("PATCH /files/{fileId}")
            .path("fileId", id)
            .body(json!({ "path": "/a" })),
    ] {
        let answer = apps.call("alice", call.query("baseVersion", 3)).await;
        assert_eq!(answer.problem(), (400, "invalid-request"));
        assert_eq!(answer.body["detail"], "This route takes no query parameters.");
    }
}

#[tokio::test]
async fn a_file_shows_its_versions_newest_first_in_pages() {
    let apps = TestContext::create().await;
    let mut changed = Vec::new();
    for content in [b"one".as_slice(), b"two!", b"three"] {
        let mut body = upload_body("/a.txt", content);
        body["contentType"] = json!("text/plain");
        changed.push(
            apps.upload_as("alice", &body, content)
                .await
                .parsed::<FileChanged>(),
        );
    }
    let id = changed[0].file_id;
    let detail: FileDetail = apps.call("alice", file("GET /files/{fileId}", id)).await.parsed();
    assert_eq!((detail.file.version.get(), detail.file.size.get()), (3, 5));
    assert_eq!(
        detail.file.content_type.map(String::from).as_deref(),
        Some("text/plain")
    );
    let versions: Vec<(i64, i64)> = detail
        .versions
        .iter()
        .map(|v| (v.version.get(), v.size.get()))
        .collect();
    assert_eq!(versions, [(3, 5), (2, 4), (1, 3)]);
    assert_eq!(detail.versions[2].sha256, client::sha256(b"one"));
    assert_eq!(detail.versions[2].user_id.as_str(), "alice");

    let page = file("GET /files/{fileId}", id).query("limit", 2);
    let first: FileDetail = apps.call("alice", page.clone()).await.parsed();
    assert_eq!(first.versions.len(), 2);
    // A version added between pages does not shift the next page.
    apps.upload("alice", "/a.txt", b"four").await;
    let page = page.query("pageToken", first.next_page_token.unwrap());
    let last: FileDetail = apps.call("alice", page).await.parsed();
    assert_eq!((last.versions.len(), last.versions[0].version.get()), (1, 1));
    assert_eq!((last.file.version.get(), last.next_page_token), (4, None));
}

#[tokio::test]
async fn every_version_can_be_downloaded_under_its_name_and_never_as_a_page() {
    let apps = TestContext::create().await;
    let path = "/Docs/\"quoted\"; filename=evil – ü.html";
    let mut body = upload_body(path, b"<script>");
    body["contentType"] = json!("text/html");
    let first: FileChanged = apps.upload_as("alice", &body, b"<script>").await.parsed();
    apps.upload("alice", path, b"plain").await;

    let content = file("GET /files/{fileId}/content", first.file_id);
    let (headers, bytes) = download(&apps, "alice", content.clone().query("version", 1)).await;
    assert_eq!(
        (bytes.as_slice(), &headers["content-type"]),
        (b"<script>".as_slice(), &"text/html".parse().unwrap())
    );
    assert_eq!(
        headers["content-disposition"],
        "attachment; filename=\"_quoted__ filename_evil _ _.html\"; \
         filename*=UTF-8''%22quoted%22%3B%20filename%3Devil%20%E2%80%93%20%C3%BC.html"
    );
    let (headers, bytes) = download(&apps, "alice", content.clone()).await;
    assert_eq!(bytes, b"plain");
    assert_eq!(headers["content-type"], "application/octet-stream");
    let as_json = content.clone().header("accept", "application/json");
    let answer = apps.call("alice", as_json.clone()).await;
    assert_eq!(answer.status, 200);
    let located: DownloadUrl = answer.parsed();
    // The response headers do not depend on the headers of the upload.
    for pinned in [
        "response-content-encoding=identity",
        "response-cache-control=private%2C%20no-store",
    ] {
        assert!(located.url.contains(pinned), "{}", located.url);
    }
    let stored = raw_http().get(located.url).send().await.unwrap();
    assert_eq!(stored.bytes().await.unwrap(), b"plain".as_slice());
    assert_eq!(apps.call("mallory", as_json).await.problem(), (404, "not-found"));
    for version in [0, 3] {
        let missing = content.clone().query("version", version);
        assert_eq!(apps.call("alice", missing).await.problem(), (404, "not-found"));
    }
    assert_eq!(apps.call("mallory", content).await.problem(), (404, "not-found"));
}

#[tokio::test]
async fn moving_is_a_change_like_any_other() {
    let apps = TestContext::create().await;
    let before = apps.upload("alice", "/a", b"one").await;
    let moved: FileChanged = rename(&apps, "alice", before.file_id, json!({ "path": "/b" }))
        .await
        .parsed();
    assert_eq!(
        (moved.path.as_str(), moved.version, moved.sequence.get()),
        ("/b", before.version, 2)
    );
    assert_eq!(
        paths(&list(&apps, "alice", Call::new("GET /files")).await),
        ["/b"]
    );
    let events = apps.queue.events().await;
    assert_eq!(events.len(), 2);
    assert!(matches!(&events[1].change, model::Change::FileMoved(file) if file.path.as_str() == "/b"));
    assert_eq!(events, apps.feed("alice", None).await.changes);
    assert_eq!(apps.database.number("SELECT count(*) FROM outbox").await, 0);

    // A repetition, as after a lost response: the same response and no second change.
    let again: FileChanged = rename(&apps, "alice", before.file_id, json!({ "path": "/b" }))
        .await
        .parsed();
    assert_eq!(again, moved);
    assert!(apps.queue.events().await.is_empty());
    // The former path is free.
    assert_ne!(apps.upload("alice", "/a", b"two").await.file_id, before.file_id);
    // The next upload continues the file's version numbers.
    assert_eq!(apps.upload("alice", "/b", b"three").await.version.get(), 2);
}

#[tokio::test]
async fn a_move_is_refused_when_the_path_is_taken_or_the_version_old() {
    let apps = TestContext::create().await;
    let (a, b) = (
        apps.upload("alice", "/a", b"a").await,
        apps.upload("alice", "/b", b"b").await,
    );
    apps.upload("alice", "/a", b"a2").await;
    let taken = rename(&apps, "alice", a.file_id, json!({ "path": "/b" })).await;
    assert_eq!(taken.problem(), (409, "path-taken"));
    assert_eq!(
        current(&taken),
        CurrentVersion {
            version: b.version,
            file_id: Some(b.file_id),
            path: Some(Box::new(b.path)),
        }
    );
    let old = rename(
        &apps,
        "alice",
        a.file_id,
        json!({ "path": "/c", "baseVersion": 1 }),
    )
    .await;
    assert_eq!(old.problem(), (409, "version-conflict"));
    assert_eq!(
        (current(&old).version.get(), current(&old).file_id),
        (2, Some(a.file_id))
    );
    assert_eq!(apps.feed("alice", None).await.latest_sequence.get(), 3);
    let body = json!({ "path": "/c", "baseVersion": 2 });
    assert_eq!(rename(&apps, "alice", a.file_id, body).await.status, 200);
}

/// Asserts that the response is `path-taken` because of this file and that the detail names the file.
fn assert_taken(answer: &Answer, by: &FileChanged) {
    assert_eq!(answer.problem(), (409, "path-taken"));
    let expected = CurrentVersion {
        version: by.version,
        file_id: Some(by.file_id),
        path: Some(Box::new(by.path.clone())),
    };
    assert_eq!(current(answer), expected);
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.starts_with(by.path.as_str()), "{detail}");
}

#[tokio::test]
async fn a_path_is_never_both_a_file_and_a_folder() {
    let apps = TestContext::create().await;
    let deep = apps.upload("alice", "/a/b/c", b"deep").await;
    let flat = apps.upload("alice", "/f", b"flat").await;
    // A path that is only a string prefix of another path is not its folder.
    for path in ["/a.b", "/a0", "/ab", "/A", "/f.", "/a/b0"] {
        apps.upload("alice", path, b"x").await;
    }
    for (path, by) in [
        ("/a", &deep),
        ("/a/b", &deep),
        ("/a/b/c/d/e", &deep),
        ("/f/1", &flat),
    ] {
        assert_taken(&apps.open("alice", &upload_body(path, b"x")).await, by);
        let other = if by.file_id == deep.file_id { &flat } else { &deep };
        assert_taken(
            &rename(&apps, "alice", other.file_id, json!({ "path": path })).await,
            by,
        );
    }
    // A file does not block its own move to a parent or child path.
    for path in ["/a/b", "/a/b/c/d", "/a/b/c"] {
        let moved = rename(&apps, "alice", deep.file_id, json!({ "path": path })).await;
        assert_eq!(moved.status, 200, "{moved:?}");
    }
    // Deleted files and files of other spaces block no path.
    assert_eq!(delete(&apps, "alice", flat.file_id).await.status, 200);
    apps.upload("alice", "/f/1", b"x").await;
    apps.upload("bob", "/a", b"x").await;
}

#[tokio::test]
async fn of_a_file_and_a_folder_that_race_for_a_path_one_is_completed() {
    let apps = TestContext::create().await;
    let uploads = [
        apps.put("alice", "/a", b"file").await,
        apps.put("alice", "/a/b", b"in a folder").await,
        apps.put("alice", "/a/b/c", b"deeper").await,
    ];
    let answers = join_all(uploads.iter().map(|created| apps.complete("alice", created))).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(won.len(), 1);
    for answer in lost {
        assert_taken(answer, &won[0].parsed());
    }
    // Repeating the winning request returns its result. The other uploads succeed once the path is free.
    let won: FileChanged = won[0].parsed();
    for (created, answer) in uploads
        .iter()
        .zip(&answers)
        .filter(|(_, answer)| answer.status == 200)
    {
        assert_eq!(apps.complete("alice", created).await.body, answer.body);
    }
    assert_eq!(delete(&apps, "alice", won.file_id).await.status, 200);
    let (created, _) = uploads
        .iter()
        .zip(&answers)
        .find(|(_, answer)| answer.status == 409)
        .unwrap();
    assert_eq!(apps.complete("alice", created).await.status, 200);
}

/// Earlier releases accepted both a file and a folder at one path.
#[tokio::test]
async fn a_file_that_is_a_folder_already_can_be_updated_moved_and_deleted() {
    let apps = TestContext::create().await;
    let both = apps.upload("alice", "/a", b"one").await;
    let below = apps.upload("alice", "/b", b"below").await;
    apps.database
        .execute("UPDATE files SET path = '/a/b' WHERE path = '/b'")
        .await;
    assert_eq!(apps.upload("alice", "/a", b"two").await.file_id, both.file_id);
    assert_eq!(apps.upload("alice", "/a/b", b"two").await.file_id, below.file_id);
    assert_taken(
        &apps.open("alice", &upload_body("/a/c", b"x")).await,
        &FileChanged {
            version: 2.try_into().unwrap(),
            ..both.clone()
        },
    );
    let moved = rename(&apps, "alice", both.file_id, json!({ "path": "/free" })).await;
    assert_eq!(moved.status, 200);
    assert_eq!(delete(&apps, "alice", both.file_id).await.status, 200);
}

/// Nodes of the plan that read `files`: the node type and the number of rows.
fn reads_of_files(plan: &Value, found: &mut Vec<(String, f64)>) {
    if plan["Relation Name"] == "files" {
        let rows = plan["Actual Rows"].as_f64().unwrap() * plan["Actual Loops"].as_f64().unwrap();
        let removed = plan["Rows Removed by Filter"].as_f64().unwrap_or(0.0);
        found.push((plan["Node Type"].as_str().unwrap().to_owned(), rows + removed));
    }
    for child in plan["Plans"].as_array().into_iter().flatten() {
        reads_of_files(child, found);
    }
}

#[tokio::test]
async fn whether_a_path_is_free_costs_the_same_among_a_hundred_thousand_files() {
    let apps = TestContext::create().await;
    let file = apps.upload("alice", "/folder/first", b"x").await;
    let created = apps.put("alice", "/folder/sub/new", b"x").await;
    let many = format!(
        "INSERT INTO files (id, space_id, path, version, created_at)
            SELECT gen_random_uuid(), '{}', '/folder/' || n % 100 || '/' || n, 1, now() FROM generate_series(1, 100000) n;
        ANALYZE files",
        file.space_id
    );
    apps.database.execute(&many).await;
    let (space, id, upload) = (file.space_id, file.file_id, created.upload_id);
    let common = "ARRAY[gen_random_uuid()], now(), now(), 'alice', NULL";
    let opening = |path: &str| {
        let sha256 = client::sha256(b"x");
        let item = json!({
            "item": 1, "id": uuid::Uuid::from_u128(1), "space_id": space, "path": path, "size": 1, "sha256": sha256,
            "expires_at": "2100-01-01T00:00:00Z",
        });
        format!("'alice', NULL, now(), '[{item}]', 10, 100")
    };
    let item = json!({
        "item": 1, "upload_id": upload, "new_file_id": uuid::Uuid::from_u128(2), "object_key": "objects/x",
    });
    for (name, arguments) in [
        ("open_uploads", opening("/folder")),
        ("open_uploads", opening("/folder/1/1/x")),
        ("move_file", format!("{common}, '{id}', '/folder', NULL, NULL")),
        (
            "move_file",
            format!("{common}, '{id}', '/folder/2/2/x', 1, '/folder/first'"),
        ),
        (
            "complete_uploads",
            format!(
                "ARRAY[gen_random_uuid()], now(), now(), 'alice', '[{item}]', now() - interval '12 hours', 100"
            ),
        ),
    ] {
        let (_, sql) = db::queries().find(|(query, _)| *query == name).unwrap();
        // A warm environment ends up with the generic plan.
        let prepare = format!(
            "SET plan_cache_mode = force_generic_plan; SET syncsphere.locked_space = '{space}';
            SET syncsphere.locked_user = 'alice'; DEALLOCATE ALL; PREPARE {name} AS {sql}"
        );
        apps.database.execute(&prepare).await;
        let explain = format!("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {name} ({arguments})");
        let rows = apps.database.rows(&explain).await;
        let plan: Value = rows[0].get(0);
        let mut reads = Vec::new();
        reads_of_files(&plan[0]["Plan"], &mut reads);
        let read: f64 = reads.iter().map(|(_, rows)| rows).sum();
        assert!(
            reads.len() >= 3 && read <= 8.0 && reads.iter().all(|(node, _)| !node.contains("Seq")),
            "{name}: {reads:?}"
        );
    }
}

#[tokio::test]
async fn a_move_from_where_the_file_is_no_longer_is_a_conflict_and_its_repetition_finds_its_own_change() {
    let apps = TestContext::create().await;
    let id = apps.upload("alice", "/a", b"one").await.file_id;
    let body = |path: &str, base: &str, version: i64, device: u128| {
        json!({
            "path": path, "basePath": base, "baseVersion": version, "deviceId": uuid::Uuid::from_u128(device),
        })
    };
    let first = body("/b", "/a", 1, 1);
    let moved: FileChanged = rename(&apps, "alice", id, first.clone()).await.parsed();
    // Another device saw the file at its former path.
    let late = rename(&apps, "alice", id, body("/c", "/a", 1, 2)).await;
    assert_eq!(late.problem(), (409, "version-conflict"));
    assert_eq!(current(&late).file_id, Some(id));
    // The other device moves the file from its current path. Then the first device repeats its request.
    assert_eq!(
        rename(&apps, "alice", id, body("/c", "/b", 1, 2)).await.status,
        200
    );
    let again = rename(&apps, "alice", id, first.clone()).await;
    assert_eq!(
        (again.status, again.parsed::<FileChanged>()),
        (200, moved.clone())
    );
    // Neither a move by another device nor a different move by the same device is recognised.
    for other in [
        body("/b", "/a", 1, 3),
        body("/d", "/a", 1, 1),
        body("/b", "/d", 1, 1),
    ] {
        let refused = rename(&apps, "alice", id, other).await;
        assert_eq!(refused.problem(), (409, "version-conflict"));
    }
    // A new version does not prevent the repetition from being recognised.
    apps.upload("alice", "/c", b"two").await;
    assert_eq!(rename(&apps, "alice", id, first.clone()).await.body, again.body);
    let unsaid = json!({ "path": "/b", "baseVersion": 1, "deviceId": uuid::Uuid::from_u128(1) });
    assert_eq!(rename(&apps, "alice", id, unsaid).await.body, again.body);
    let feed = apps.feed("alice", None).await;
    assert_eq!(feed.latest_sequence.get(), 4);
    assert_eq!(
        paths(&list(&apps, "alice", Call::new("GET /files")).await),
        ["/c"]
    );
    // The same move is made again if the file has returned to its base.
    let back: FileChanged = rename(&apps, "alice", id, body("/a", "/c", 2, 2)).await.parsed();
    assert_eq!(back.sequence.get(), 5);
    let anew: FileChanged = rename(&apps, "alice", id, body("/b", "/a", 2, 1)).await.parsed();
    assert_eq!((anew.sequence.get(), anew.path.as_str()), (6, "/b"));
}

#[tokio::test]
async fn a_move_that_its_device_has_undone_is_not_the_answer_to_a_new_request() {
    let apps = TestContext::create().await;
    let id = apps.upload("alice", "/a", b"one").await.file_id;
    let body = |path: &str, base: &str, device: u128| {
        json!({
            "path": path, "basePath": base, "baseVersion": 1, "deviceId": uuid::Uuid::from_u128(device),
        })
    };
    for (path, base, device) in [("/b", "/a", 1), ("/a", "/b", 1), ("/c", "/a", 2)] {
        assert_eq!(
            rename(&apps, "alice", id, body(path, base, device)).await.status,
            200
        );
    }
    let late = rename(&apps, "alice", id, body("/b", "/a", 1)).await;
    assert_eq!(late.problem(), (409, "version-conflict"));
}

#[tokio::test]
async fn a_delete_of_a_file_that_was_moved_is_a_conflict() {
    let apps = TestContext::create().await;
    let id = apps.upload("alice", "/a", b"one").await.file_id;
    assert_eq!(
        rename(&apps, "alice", id, json!({ "path": "/b" })).await.status,
        200
    );
    let from = |path: &str| {
        file("DELETE /files/{fileId}", id)
            .query("baseVersion", 1)
            .query("basePath", path)
    };
    let refused = apps.call("alice", from("/a")).await;
    assert_eq!(refused.problem(), (409, "version-conflict"));
    assert_eq!(current(&refused).file_id, Some(id));
    let deleted = apps.call("alice", from("/b")).await;
    assert_eq!((deleted.status, &deleted.body["sequence"]), (200, &json!(3)));
    assert_eq!(apps.call("alice", from("/b")).await.body, deleted.body);
    assert_eq!(apps.call("alice", from("/a")).await.problem(), (404, "not-found"));
}

#[tokio::test]
async fn a_viewer_who_repeats_somebody_elses_delete_sees_no_file() {
    let apps = TestContext::create().await;
    let space = apps.space("alice").await;
    let mut body = upload_body("/a", b"one");
    body["spaceId"] = json!(space);
    let made: FileChanged = apps.upload_as("alice", &body, b"one").await.parsed();
    apps.call("victor", Call::new("GET /spaces")).await;
    assert_eq!(apps.share("alice", space, "victor", "viewer").await.status, 200);
    assert_eq!(
        delete(&apps, "victor", made.file_id).await.problem(),
        (403, "forbidden")
    );
    assert_eq!(delete(&apps, "alice", made.file_id).await.status, 200);
    assert_eq!(
        delete(&apps, "victor", made.file_id).await.problem(),
        (404, "not-found")
    );
    assert_eq!(delete(&apps, "alice", made.file_id).await.status, 200);
}

#[tokio::test]
async fn two_files_that_swap_paths_or_race_for_one_never_deadlock() {
    let apps = TestContext::create().await;
    let (a, b) = (
        apps.upload("alice", "/a", b"a").await,
        apps.upload("alice", "/b", b"b").await,
    );
    for round in 0..8 {
        let (one, other) = tokio::join!(
            rename(&apps, "alice", a.file_id, json!({ "path": format!("/{round}") })),
            rename(&apps, "alice", b.file_id, json!({ "path": format!("/{round}") })),
        );
        let mut statuses = [one.status, other.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409]);
        let (one, other) = tokio::join!(
            rename(&apps, "alice", a.file_id, json!({ "path": "/b" })),
            rename(&apps, "alice", b.file_id, json!({ "path": "/a" })),
        );
        assert!(
            [one.status, other.status]
                .iter()
                .all(|status| [200, 409].contains(status))
        );
    }
    let feed = apps.feed("alice", None).await;
    let sequences: Vec<i64> = feed.changes.iter().map(|change| change.sequence.get()).collect();
    assert_eq!(sequences, (1..=feed.latest_sequence.get()).collect::<Vec<_>>());
}

#[tokio::test]
async fn deleting_is_a_change_like_any_other_and_frees_the_path() {
    let apps = TestContext::create().await;
    let before = apps.upload("alice", "/a", b"one").await;
    let call = file("DELETE /files/{fileId}", before.file_id);
    let old = apps.call("alice", call.clone().query("baseVersion", 7)).await;
    assert_eq!(old.problem(), (409, "version-conflict"));
    let deleted: FileChanged = apps
        .call("alice", call.clone().query("baseVersion", 1))
        .await
        .parsed();
    assert_eq!((deleted.version.get(), deleted.sequence.get()), (1, 2));
    // A repetition: the same response and no second change.
    assert_eq!(
        apps.call("alice", call.clone()).await.parsed::<FileChanged>(),
        deleted
    );
    assert_eq!(
        apps.call("alice", call.query("baseVersion", 7)).await.problem(),
        (404, "not-found")
    );
    let events = apps.queue.events().await;
    assert!(matches!(events[1].change, model::Change::FileDeleted(_)) && events.len() == 2);

    for call in [
        file("GET /files/{fileId}", before.file_id),
        file("GET /files/{fileId}/content", before.file_id),
        file("PATCH /files/{fileId}", before.file_id).body(json!({ "path": "/b" })),
    ] {
        assert_eq!(apps.call("alice", call).await.problem(), (404, "not-found"));
    }
    assert!(
        list(&apps, "alice", Call::new("GET /files"))
            .await
            .files
            .is_empty()
    );
    let mut body = upload_body("/a", b"two");
    body["baseVersion"] = json!(0);
    let new: FileChanged = apps.upload_as("alice", &body, b"two").await.parsed();
    assert_ne!(new.file_id, before.file_id);
    assert_eq!((new.version.get(), new.sequence.get()), (1, 3));
}

#[tokio::test]
async fn uploading_deleting_and_moving_at_once_leaves_a_feed_that_tells_what_is_there() {
    let apps = TestContext::create().await;
    let start = apps.upload("alice", "/a", b"0").await.file_id;
    let uploads: Vec<String> = (0..6).map(|i| format!("content {i}")).collect();
    let uploading = join_all(
        uploads
            .iter()
            .map(|content| apps.upload("alice", "/a", content.as_bytes())),
    );
    let (_, moved, deleted) = tokio::join!(
        uploading,
        rename(&apps, "alice", start, json!({ "path": "/b" })),
        async { delete(&apps, "alice", start).await },
    );
    assert!([200, 404].contains(&moved.status) && deleted.status == 200);

    let mut files = std::collections::BTreeMap::new();
    let feed = apps.feed("alice", None).await;
    for change in &feed.changes {
        let state = change.file().unwrap();
        match change.change {
            model::Change::FileDeleted(_) => assert!(files.remove(&state.file_id).is_some()),
            _ => {
                files.insert(state.file_id, (state.path.clone(), state.version));
            }
        }
    }
    let listed = list(&apps, "alice", Call::new("GET /files")).await.files;
    let listed = listed
        .into_iter()
        .map(|file| (file.file_id, (file.path, file.version)));
    assert_eq!(files, listed.collect());
}

#[tokio::test]
async fn no_path_reaches_a_key_of_storage() {
    let apps = TestContext::create().await;
    let path = "/..secret../evil\u{200b}/%2e%2e/C:\\x/~/-rf/'; DROP TABLE files; --";
    let changed = apps.upload("alice", path, b"x").await;
    assert_eq!(changed.path.as_str(), path);
    let rows = apps.database.rows("SELECT object_key FROM versions").await;
    let key: &str = rows[0].get(0);
    let id = key.strip_prefix("objects/").unwrap();
    assert!(id.parse::<model::UploadId>().is_ok(), "{key}");
}

/// What `GET /files?folder=` lists with pages of this size: paths, where a folder's ends with a slash, in the
/// order of the pages.
async fn folder_of(
    apps: &TestContext,
    user: &str,
    query: &[(&'static str, String)],
    limit: i64,
) -> Vec<String> {
    let (mut entries, mut token) = (Vec::new(), None);
    loop {
        let call = Call::new("GET /files").query("limit", limit);
        let call = query
            .iter()
            .fold(call, |call, (name, value)| call.query(name, value));
        let call = match token {
            Some(token) => call.query("pageToken", token),
            None => call,
        };
        let list: FolderList = apps.call(user, call).await.parsed();
        let files = list.files.iter().map(|file| file.path.to_string());
        let folders = list.folders.iter().map(|folder| format!("{}/", folder.path));
        let mut page: Vec<String> = files.chain(folders).collect();
        page.sort();
        entries.extend(page);
        token = list.next_page_token;
        if token.is_none() {
            return entries;
        }
    }
}

#[tokio::test]
async fn a_folder_lists_its_files_and_folders_and_nothing_below_them() {
    let apps = TestContext::create().await;
    for path in [
        "/a",
        "/b b",
        "/b-b/x",
        "/b/1",
        "/b/2/3/4",
        "/b/2/5",
        "/b0",
        "/b/2 2",
        "/Übung/\u{1F980}/x",
        "/Übung/\u{1F980}\u{1F980}",
        "/c/only/deep/one",
    ] {
        apps.upload("alice", path, path.as_bytes()).await;
    }
    let deleted = apps.upload("alice", "/b/deleted/x", b"x").await.file_id;
    let answer = apps.call("alice", file("DELETE /files/{fileId}", deleted)).await;
    assert_eq!(answer.status, 200);
    for limit in [1, 2, 3, 1000] {
        let folder =
            async |path: &str| folder_of(&apps, "alice", &[("folder", path.to_owned())], limit).await;
        assert_eq!(
            folder("").await,
            ["/a", "/b b", "/b-b/", "/b/", "/b0", "/c/", "/Übung/"]
        );
        assert_eq!(folder("/b").await, ["/b/1", "/b/2 2", "/b/2/"]);
        assert_eq!(folder("/b/2").await, ["/b/2/3/", "/b/2/5"]);
        assert_eq!(
            folder("/Übung").await,
            ["/Übung/\u{1F980}/", "/Übung/\u{1F980}\u{1F980}"]
        );
        assert_eq!(folder("/c/only").await, ["/c/only/deep/"]);
        // A file, a folder without files, and none.
        for empty in ["/a", "/b/deleted", "/none"] {
            assert_eq!(folder(empty).await, [""; 0], "{empty}");
        }
    }
    // A file is shown with its version.
    let call = Call::new("GET /files").query("folder", "/b");
    let list: FolderList = apps.call("alice", call).await.parsed();
    assert_eq!(list.files[0].sha256, client::sha256(b"/b/1"));
    // Somebody new has an empty personal space; others' spaces are not there.
    assert_eq!(
        folder_of(&apps, "bob", &[("folder", String::new())], 10).await,
        [""; 0]
    );
    let space = list.files[0].space_id;
    let call = || {
        Call::new("GET /files")
            .query("folder", "")
            .query("spaceId", space)
    };
    assert_eq!(apps.call("bob", call()).await.problem(), (404, "not-found"));
    for (name, value) in [
        ("deleted", "true"),
        ("prefix", "/b"),
        ("pageToken", "AAAA"),
        ("folder", "/b"),
    ] {
        let refused = apps.call("alice", call().query(name, value)).await;
        assert_eq!(refused.problem(), (400, "invalid-request"), "{name}");
    }
    for wrong in ["/", "b", "/b/", "/b//c", "/./b"] {
        let call = Call::new("GET /files").query("folder", wrong);
        assert_eq!(
            apps.call("alice", call).await.problem(),
            (400, "invalid-request"),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_version_keeps_the_modification_time_and_the_executable_bit_wherever_it_is_shown() {
    let apps = TestContext::create().await;
    apps.connected("alice", "a1").await;
    let body = |content: &[u8], attributes: [(&str, Value); 2]| {
        let mut body = upload_body("/a", content);
        for (name, value) in attributes {
            body[name] = value;
        }
        body
    };
    let first = [
        ("modifiedAt", json!("2001-02-03T04:05:06.789012345+01:00")),
        ("executable", json!(true)),
    ];
    let kept = (json!("2001-02-03T03:05:06.789012Z"), json!(true));
    let answer = apps.upload_as("alice", &body(b"one", first), b"one").await;
    let shown = |value: &Value| (value["modifiedAt"].clone(), value["executable"].clone());
    assert_eq!(shown(&answer.body), kept);
    let id: FileId = answer.parsed::<FileChanged>().file_id;

    // Another version, then one of a client that gives neither.
    let second = [
        ("modifiedAt", json!("1969-12-31T00:00:00Z")),
        ("executable", json!(false)),
    ];
    let other = (json!("1969-12-31T00:00:00Z"), json!(false));
    apps.upload_as("alice", &body(b"two", second), b"two").await;
    let third = [("modifiedAt", json!(null)), ("executable", json!(null))];
    let none = (Value::Null, Value::Null);
    let answer = apps.upload_as("alice", &body(b"three", third), b"three").await;
    assert_eq!(shown(&answer.body), none);
    // The first one again, which is then moved and deleted.
    let restore = Call::new("POST /files/{fileId}/versions/{version}/restore").path("version", 1);
    let restored = apps
        .call("alice", restore.path("fileId", id).body(json!({})))
        .await;
    assert_eq!((restored.status, shown(&restored.body)), (200, kept.clone()));
    let moved = rename(&apps, "alice", id, json!({ "path": "/folder/b" })).await;
    assert_eq!(shown(&moved.body), kept);

    let versions = apps.call("alice", file("GET /files/{fileId}", id)).await.body;
    assert_eq!(shown(&versions), kept);
    let each: Vec<_> = versions["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(shown)
        .collect();
    assert_eq!(each, [kept.clone(), none.clone(), other.clone(), kept.clone()]);
    for query in [("prefix", "/"), ("folder", "/folder")] {
        let listed = apps
            .call("alice", Call::new("GET /files").query(query.0, query.1))
            .await;
        assert_eq!(shown(&listed.body["files"][0]), kept);
    }
    assert_eq!(delete(&apps, "alice", id).await.status, 200);
    let trash = apps
        .call("alice", Call::new("GET /files").query("deleted", true))
        .await;
    assert_eq!(shown(&trash.body["files"][0]), kept);

    let history = [&kept, &other, &none, &kept, &kept, &kept].map(Clone::clone);
    let feed = apps.call("alice", Call::new("GET /changes")).await.body;
    let told: Vec<_> = feed["changes"].as_array().unwrap().iter().map(shown).collect();
    assert_eq!(told, history);
    let mut records = Vec::new();
    for body in apps.queue.drain().await {
        records.push(apps.queue.record(&body).await);
    }
    assert!(apps.invoke_fan_out(&records).await.is_empty());
    let mut pushed: Vec<Value> = Vec::new();
    for frame in apps.gateway.frames("a1") {
        pushed.extend(frame["changes"].as_array().unwrap().iter().cloned());
    }
    pushed.sort_by_key(|change| change["sequence"].as_i64());
    assert_eq!(pushed.iter().map(shown).collect::<Vec<_>>(), history);

    for wrong in [
        ("modifiedAt", json!("9999-12-31T23:59:59-01:00")),
        ("modifiedAt", json!("yesterday")),
        ("executable", json!("yes")),
    ] {
        let refused = apps
            .open(
                "alice",
                &body(b"x", [wrong.clone(), ("contentType", json!(null))]),
            )
            .await;
        assert_eq!(refused.problem(), (400, "invalid-request"), "{wrong:?}");
    }
}
