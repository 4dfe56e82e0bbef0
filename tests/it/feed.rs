//! The change feed: gapless, in commit order, cheap to read, and complete for readers during concurrent
//! writes.

use std::cell::Cell;
use std::collections::BTreeSet;

use futures_util::future::join_all;
use model::{ChangeList, CreatedUpload, FileChanged, SpaceId};
use serde_json::json;
use tests::{Call, TestContext, upload_body};

/// Opens an upload and sends its content, without completing it.
async fn ready(apps: &TestContext, user: &str, space: Option<SpaceId>, path: &str) -> CreatedUpload {
    let mut body = upload_body(path, path.as_bytes());
    if let Some(space) = space {
        body["spaceId"] = json!(space);
    }
    let created: CreatedUpload = apps.open(user, &body).await.parsed();
    apps.send(&created, path.as_bytes()).await;
    created
}

fn sequences(feed: &ChangeList) -> Vec<i64> {
    feed.changes.iter().map(|change| change.sequence.get()).collect()
}

#[tokio::test]
async fn pages_of_the_feed_follow_each_other() {
    let apps = TestContext::create().await;
    for i in 0..5 {
        apps.upload("alice", &format!("/{i}"), b"x").await;
    }
    let page = async |after: i64, limit: i64| -> ChangeList {
        let call = Call::new("GET /changes")
            .query("after", after)
            .query("limit", limit);
        apps.call("alice", call).await.parsed()
    };
    for (after, limit, expected, more) in [
        (0, 2, vec![1, 2], true),
        (2, 2, vec![3, 4], true),
        (4, 2, vec![5], false),
        (3, 2, vec![4, 5], false),
        (5, 2, vec![], false),
        (99, 2, vec![], false),
    ] {
        let page = page(after, limit).await;
        assert_eq!(
            (sequences(&page), page.has_more),
            (expected, more),
            "after {after}"
        );
        assert_eq!(page.latest_sequence.get(), 5);
    }
}

#[tokio::test]
async fn thirty_two_completions_at_once_in_one_space_are_gapless_and_in_commit_order() {
    let apps = TestContext::create().await;
    let space = apps.space("alice").await;
    apps.share("alice", space, "bob", "editor").await;
    let mut uploads = Vec::new();
    for i in 0..32 {
        // Half of the uploads go to one path, from two users.
        let (user, path) = (
            ["alice", "bob"][i % 2],
            if i % 4 < 2 {
                "/same".to_owned()
            } else {
                format!("/{i}")
            },
        );
        uploads.push((user, ready(&apps, user, Some(space), &path).await));
    }
    // A concurrent reader sees a prefix of the feed at any time, without gaps.
    let done = Cell::new(false);
    let reading = async {
        let mut reads = 0;
        while !done.get() {
            let feed = apps.feed("bob", Some(space)).await;
            assert_eq!(
                sequences(&feed),
                (1..=feed.latest_sequence.get()).collect::<Vec<_>>()
            );
            reads += 1;
        }
        reads
    };
    let completing = async {
        let answers = join_all(uploads.iter().map(|(user, created)| apps.complete(user, created))).await;
        done.set(true);
        answers
    };
    let (reads, answers) = tokio::join!(reading, completing);
    assert!(reads > 0);

    let changes: Vec<FileChanged> = answers.iter().map(tests::Answer::parsed).collect();
    let taken: BTreeSet<i64> = changes.iter().map(|change| change.sequence.get()).collect();
    // The first change is that of bob's membership.
    assert_eq!(taken, (2..=33).collect());
    let feed = apps.feed("alice", Some(space)).await;
    assert_eq!(sequences(&feed), (1..=33).collect::<Vec<_>>());
    // In commit order: the versions of each file are consecutive.
    let same: Vec<i64> = feed
        .changes
        .iter()
        .filter_map(|change| change.file().filter(|file| file.path.as_str() == "/same"))
        .map(|file| file.version.get())
        .collect();
    assert_eq!(same, (1..=16).collect::<Vec<_>>());
}

#[tokio::test]
async fn thirty_two_completions_at_once_in_many_spaces_are_gapless_in_each() {
    let apps = TestContext::create().await;
    let users: Vec<String> = (0..8).map(|i| format!("user-{i}")).collect();
    let mut uploads = Vec::new();
    for i in 0..32 {
        let user = &users[i % users.len()];
        uploads.push((user, ready(&apps, user, None, &format!("/{i}")).await));
    }
    let answers = join_all(uploads.iter().map(|(user, created)| apps.complete(user, created))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    for user in &users {
        assert_eq!(sequences(&apps.feed(user, None).await), [1, 2, 3, 4]);
    }
}

#[tokio::test]
async fn reading_the_feed_and_listing_files_touch_only_what_they_answer() {
    let apps = TestContext::create().await;
    let changed = apps.upload("alice", "/seed", b"x").await;
    let space = changed.space_id;
    // A space with 100,000 files and changes, among other spaces.
    let grow = format!(
        "INSERT INTO files (id, space_id, path, version, created_at)
            SELECT gen_random_uuid(), '{space}', '/f/' || lpad(i::text, 6, '0'), 1, now() FROM generate_series(1, 100000) i;
        INSERT INTO versions (file_id, version, size, sha256, object_key, user_id, created_at)
            SELECT id, 1, 1, sha256('x'), id::text, 'alice', now() FROM files WHERE path LIKE '/f/%';
        INSERT INTO changes (space_id, sequence, event_id, event_type, user_id, file_id, path, version, size, sha256,
                occurred_at)
            SELECT '{space}', 1 + row_number() OVER (), gen_random_uuid(), 'FILE_UPDATED', 'alice', id, path, 1, 1,
                sha256('x'), now()
            FROM files WHERE path LIKE '/f/%';
        UPDATE spaces SET last_sequence = 100001 WHERE id = '{space}';
        ANALYZE;
        SET plan_cache_mode = force_generic_plan"
    );
    apps.database.execute(&grow).await;
    let queries = [
        (
            "list_changes",
            format!("'{space}', 'alice', 50000, 100, NULL"),
            "changes",
        ),
        (
            "list_files",
            format!("'{space}', 'alice', '/f/05', '/f/06', 100, NULL"),
            "files",
        ),
    ];
    for (name, arguments, table) in queries {
        let (_, sql) = db::queries().find(|(found, _)| *found == name).unwrap();
        apps.database.execute(&format!("PREPARE {name} AS {sql}")).await;
        let explain = format!("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {name} ({arguments})");
        let rows = apps.database.rows(&explain).await;
        let plan: serde_json::Value = rows[0].get(0);
        let scans = scans(&plan[0]["Plan"], table);
        assert_eq!(scans.len(), 1, "{plan:#}");
        let (kind, rows, filtered) = &scans[0];
        assert!(kind.starts_with("Index"), "{plan:#}");
        assert!(
            *rows <= 101.0 && *filtered == 0.0,
            "{rows} rows, {filtered} filtered: {plan:#}"
        );
    }
    // A folder costs as many rows as it has entries, however many files they contain: the seed and /f.
    let (_, sql) = db::queries().find(|(found, _)| *found == "list_folder").unwrap();
    apps.database
        .execute(&format!("PREPARE list_folder AS {sql}"))
        .await;
    for (folder, entries) in [("", 2.0), ("/f", 101.0)] {
        let explain = format!(
            "EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE list_folder ('{space}', 'alice', '{folder}/', '{folder}0', '{folder}/', 101, NULL)"
        );
        let plan: serde_json::Value = apps.database.rows(&explain).await[0].get(0);
        let scans = scans(&plan[0]["Plan"], "files");
        assert_eq!(scans.len(), 1, "{plan:#}");
        let (kind, rows, filtered) = &scans[0];
        assert!(kind.starts_with("Index"), "{plan:#}");
        // Rows of each of the loops, of which the last finds nothing.
        assert!(*rows <= 1.0 && *filtered == 0.0, "{plan:#}");
        let found = plan[0]["Plan"]["Actual Rows"].as_f64();
        assert_eq!(found, Some(entries), "{plan:#}");
    }

    // The page has the right content.
    let call = Call::new("GET /changes")
        .query("after", 99_999)
        .query("limit", 1000);
    let feed: ChangeList = apps.call("alice", call).await.parsed();
    assert_eq!(
        (sequences(&feed), feed.latest_sequence.get()),
        (vec![100_000, 100_001], 100_001)
    );
}

#[tokio::test]
async fn the_last_page_of_10_000_pending_uploads_reads_only_its_uploads() {
    let apps = TestContext::create().await;
    let space = apps.opened("alice", "/seed", b"x").await.space_id;
    // As many of others, and twice as many that have ended.
    let grow = format!(
        "INSERT INTO uploads (id, space_id, user_id, path, size, sha256, state, created_at, expires_at)
            SELECT lpad(to_hex(i), 32, '0')::uuid, '{space}', CASE i % 2 WHEN 0 THEN 'alice' ELSE 'user-' || i % 1000 END, '/' || i, 1,
                sha256('x'),
                CASE WHEN i <= 20000 THEN 'pending' ELSE 'aborted' END, now(), now() + interval '1 hour'
            FROM generate_series(1, 60000) i;
        ANALYZE;
        SET plan_cache_mode = force_generic_plan"
    );
    apps.database.execute(&grow).await;
    let counted = "SELECT pending_uploads::bigint FROM users WHERE user_id = 'alice'";
    assert_eq!(apps.database.number(counted).await, 10_001);
    let (_, sql) = db::queries()
        .find(|(found, _)| *found == "list_pending_uploads")
        .unwrap();
    apps.database.execute(&format!("PREPARE pending AS {sql}")).await;
    let after = uuid::Uuid::from_u128(19_800);
    for (after, rows) in [("NULL".to_owned(), 101.0), (format!("'{after}'"), 101.0)] {
        let explain =
            format!("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE pending ('alice', {after}, 101, NULL, 'epoch')");
        let plan: serde_json::Value = apps.database.rows(&explain).await[0].get(0);
        let scans = scans(&plan[0]["Plan"], "uploads");
        assert_eq!(scans.len(), 1, "{plan:#}");
        assert_eq!(
            (scans[0].0.starts_with("Index"), scans[0].1, scans[0].2),
            (true, rows, 0.0),
            "{plan:#}"
        );
    }
}

/// Scans of a table in a query plan: node type, rows returned and rows removed by filters.
fn scans(plan: &serde_json::Value, table: &str) -> Vec<(String, f64, f64)> {
    let mut found = Vec::new();
    if plan["Relation Name"] == table {
        let number = |key: &str| plan[key].as_f64().unwrap_or(0.0);
        found.push((
            plan["Node Type"].as_str().unwrap().to_owned(),
            number("Actual Rows"),
            number("Rows Removed by Filter"),
        ));
    }
    for child in plan["Plans"].as_array().into_iter().flatten() {
        found.extend(scans(child, table));
    }
    found
}
