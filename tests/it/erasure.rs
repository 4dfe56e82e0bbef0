//! Erasing an account: nothing names the person afterwards, and others miss nothing.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use futures_util::future::join_all;
use model::{Change, ChangeList, DELETED_USER, FileChanged, InvitationView, SpaceId, SpaceList};
use serde_json::json;
use tests::{Answer, Call, TestContext, upload_body};

const ADA: [(&str, &str); 3] = [
    ("name", "Ada Lovelace"),
    ("email", "ada@example.com"),
    ("email_verified", "true"),
];

async fn erase(apps: &TestContext, user: &str) -> Answer {
    apps.call(user, Call::new("DELETE /me")).await
}

async fn upload(apps: &TestContext, user: &str, space: SpaceId, path: &str) -> FileChanged {
    let mut body = upload_body(path, b"x");
    body["spaceId"] = json!(space);
    apps.upload_as(user, &body, b"x").await.parsed()
}

async fn invite(apps: &TestContext, user: &str, space: SpaceId, body: serde_json::Value) -> InvitationView {
    let call = Call::new("POST /spaces/{spaceId}/invitations").path("spaceId", space);
    apps.call(user, call.body(body)).await.parsed()
}

/// Rows of all tables that contain this text in any column, as "table: row".
async fn rows_with(apps: &TestContext, text: &str) -> Vec<String> {
    let tables = apps
        .database
        .rows("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
        .await;
    let mut found = Vec::new();
    for table in tables {
        let table: String = table.get(0);
        let sql = format!("SELECT t::text FROM {table} t WHERE t::text LIKE '%{text}%'");
        for row in apps.database.rows(&sql).await {
            found.push(format!("{table}: {}", row.get::<_, String>(0)));
        }
    }
    found
}

/// Everything that names a user: a profile, files, uploads, tickets, connections, spaces that were made and
/// deleted, invitations in both directions, and changes of members. Returns a space of olga.
async fn lived(apps: &TestContext) -> SpaceId {
    let list = ADA.iter().fold(Call::new("GET /spaces"), |call, (name, value)| {
        call.claim(name, value)
    });
    apps.call("ada-1", list).await;
    apps.upload("ada-1", "/private", b"x").await;
    let space = apps.space("olga").await;
    apps.share("olga", space, "ada-1", "owner").await;
    apps.share("ada-1", space, "bob", "editor").await;
    upload(apps, "ada-1", space, "/a").await;
    upload(apps, "bob", space, "/b").await;
    let trash = upload(apps, "bob", space, "/trash").await;
    let call = Call::new("DELETE /files/{fileId}").path("fileId", trash.file_id);
    assert_eq!(apps.call("ada-1", call).await.status, 200);
    apps.open("ada-1", &upload_body("/pending", b"x")).await;
    let own = apps.space("ada-1").await;
    let deleted = apps.space("ada-1").await;
    apps.share("ada-1", deleted, "bob", "owner").await;
    let call = Call::new("DELETE /spaces/{spaceId}").path("spaceId", deleted);
    assert_eq!(apps.call("ada-1", call).await.status, 204);
    invite(apps, "ada-1", own, json!({ "userId": "bob", "role": "viewer" })).await;
    let other = apps.space("olga").await;
    invite(
        apps,
        "olga",
        other,
        json!({ "userId": "ada-1", "role": "viewer" }),
    )
    .await;
    let third = apps.space("olga").await;
    invite(
        apps,
        "olga",
        third,
        json!({ "email": "ada@example.com", "role": "viewer" }),
    )
    .await;
    let refused = apps.space("mallory").await;
    let made = invite(
        apps,
        "mallory",
        refused,
        json!({ "userId": "ada-1", "role": "viewer" }),
    )
    .await;
    let call = Call::new("POST /invitations/{invitationId}/decline").path("invitationId", made.invitation_id);
    apps.call("ada-1", call.body(json!({ "block": true }))).await;
    apps.connected("ada-1", "socket").await;
    apps.ticket("ada-1").await;
    space
}

fn sequences(feed: &ChangeList) -> Vec<i64> {
    feed.changes.iter().map(|change| change.sequence.get()).collect()
}

#[tokio::test]
async fn nothing_names_an_erased_user_and_other_feeds_stay_gapless() {
    let apps = TestContext::create().await;
    let space = lived(&apps).await;
    for text in ["ada-1", "Ada Lovelace", "ada@example.com"] {
        assert!(!rows_with(&apps, text).await.is_empty(), "{text}");
    }
    let before = apps.feed("bob", Some(space)).await;
    apps.queue.drain().await;
    for _ in 0..2 {
        assert_eq!(erase(&apps, "ada-1").await.status, 204);
    }
    // The others learn of it at once, and her sockets get nothing more.
    let after = apps.feed("bob", Some(space)).await;
    assert_eq!(
        after.changes.last().unwrap().change,
        Change::MemberRemoved {
            member_id: "ada-1".parse().unwrap()
        }
    );
    assert_eq!(after.latest_sequence.get(), before.latest_sequence.get() + 1);
    // One is of the space that was deleted before.
    assert_eq!(apps.queue.events().await.len(), 2);
    assert_eq!(apps.stored_connections("socket").await, 0);
    let named = rows_with(&apps, "Ada Lovelace").await;
    assert!(named.is_empty(), "{named:?}");

    // While requests may run that were admitted before, the row of the user stays and refuses further ones.
    apps.run_maintenance().await.unwrap();
    let kept = rows_with(&apps, "ada-1").await;
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0].starts_with("users: "), "{kept:?}");
    apps.clock.advance(time::Duration::minutes(3));
    assert_eq!(apps.run_maintenance().await.unwrap().erased, 1);
    for text in ["ada-1", "Ada Lovelace", "ada@example.com"] {
        let named = rows_with(&apps, text).await;
        assert!(named.is_empty(), "{named:?}");
    }
    let anonymous = apps.feed("bob", Some(space)).await;
    assert_eq!(
        sequences(&anonymous),
        (1..=after.latest_sequence.get()).collect::<Vec<_>>()
    );
    let hers = anonymous
        .changes
        .iter()
        .filter(|change| change.user_id.as_str() == DELETED_USER);
    assert!(hers.count() >= 3);
    let list: SpaceList = apps.call("bob", Call::new("GET /spaces")).await.parsed();
    assert!(list.spaces.iter().any(|view| view.space_id == space));
    let miscounted = "SELECT count(*) FROM spaces s
        WHERE member_count <> (SELECT count(*) FROM members m WHERE m.space_id = s.id)";
    assert_eq!(apps.database.number(miscounted).await, 0);
}

#[tokio::test]
async fn the_only_owner_hands_over_or_deletes_first() {
    let apps = TestContext::create().await;
    let space = apps.space("ada-1").await;
    let alone = apps.space("ada-1").await;
    apps.share("ada-1", space, "bob", "editor").await;
    let refused = erase(&apps, "ada-1").await;
    assert_eq!(refused.problem(), (409, "last-owner"));
    assert_eq!(refused.body["spaceIds"], json!([space]));
    // Nothing has changed.
    let list: SpaceList = apps.call("ada-1", Call::new("GET /spaces")).await.parsed();
    assert_eq!(list.spaces.len(), 3);
    apps.share("ada-1", space, "bob", "owner").await;
    assert_eq!(erase(&apps, "ada-1").await.status, 204);
    let deleted = format!("SELECT count(*) FROM spaces WHERE id = '{alone}' AND deleted_at IS NOT NULL");
    assert_eq!(apps.database.number(&deleted).await, 1);
    assert_eq!(
        apps.unshare("bob", space, "bob").await.problem(),
        (409, "last-owner")
    );
}

#[tokio::test]
async fn users_who_erase_their_accounts_at_once_and_share_spaces_do_not_wait_for_each_other_for_ever() {
    let apps = TestContext::create().await;
    let people: Vec<String> = (0..16).map(|i| format!("person-{i}")).collect();
    let spaces = join_all((0..4).map(|_| apps.space("olga"))).await;
    for person in &people {
        for space in &spaces {
            assert_eq!(apps.share("olga", *space, person, "owner").await.status, 200);
        }
    }
    let erasing = people
        .iter()
        .flat_map(|person| [erase(&apps, person), erase(&apps, person)]);
    for answer in join_all(erasing).await {
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    for space in spaces {
        let feed = apps.feed("olga", Some(space)).await;
        assert_eq!(sequences(&feed), (1..=32).collect::<Vec<i64>>());
    }
}

#[tokio::test]
async fn the_trash_of_spaces_that_nobody_else_sees_does_not_outlive_the_account() {
    let apps = TestContext::create().await;
    let space = apps.space("ada-1").await;
    let trash = [
        apps.upload("ada-1", "/private", b"x").await.file_id,
        upload(&apps, "ada-1", space, "/shared").await.file_id,
    ];
    for file in trash {
        let call = Call::new("DELETE /files/{fileId}").path("fileId", file);
        assert_eq!(apps.call("ada-1", call).await.status, 200);
    }
    upload(&apps, "ada-1", space, "/kept").await;
    assert_eq!(erase(&apps, "ada-1").await.status, 204);
    assert_eq!(apps.run_maintenance().await.unwrap().purged, 3);
    assert_eq!(apps.database.number("SELECT count(*) FROM files").await, 0);
}

/// A request that was admitted before the erasure, and makes the user a member after it.
#[tokio::test]
async fn a_membership_that_comes_late_ends_too() {
    let apps = TestContext::create().await;
    let space = apps.space("olga").await;
    apps.known("ada-1").await;
    assert_eq!(erase(&apps, "ada-1").await.status, 204);
    apps.database
        .execute(&format!(
            "INSERT INTO members (space_id, user_id, role, added_at) VALUES ('{space}', 'ada-1', 'owner', now())"
        ))
        .await;
    apps.clock.advance(time::Duration::minutes(3));
    apps.run_maintenance().await.unwrap();
    assert_eq!(rows_with(&apps, "ada-1").await, [""; 0]);
    let feed = apps.feed("olga", Some(space)).await;
    assert!(matches!(
        feed.changes.last().unwrap().change,
        Change::MemberRemoved { .. }
    ));
    assert!(!apps.queue.events().await.is_empty());
}

/// Runs a future, or drops it after this number of await points; then returns `None`.
async fn die_after<T>(waits: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut waited = 0;
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if waited == waits => Poll::Ready(None),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}

#[tokio::test]
async fn maintenance_that_is_killed_at_any_point_finishes_the_erasure_later() {
    let apps = TestContext::create().await;
    let space = lived(&apps).await;
    assert_eq!(erase(&apps, "ada-1").await.status, 204);
    apps.clock.advance(time::Duration::minutes(3));
    for waits in 0.. {
        if die_after(waits, apps.run_maintenance()).await.is_some() {
            break;
        }
        apps.database.wait_until_disconnected().await;
    }
    apps.run_maintenance().await.unwrap();
    assert_eq!(rows_with(&apps, "ada-1").await, [""; 0]);
    let feed = apps.feed("bob", Some(space)).await;
    assert_eq!(
        sequences(&feed),
        (1..=feed.latest_sequence.get()).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn each_statement_of_an_erasure_changes_a_bounded_number_of_rows() {
    let apps = TestContext::create().await;
    let space = apps.space("olga").await;
    apps.share("olga", space, "ada-1", "viewer").await;
    apps.database
        .execute(&format!(
            "INSERT INTO changes (space_id, sequence, event_id, event_type, user_id, file_id, path, version, occurred_at)
            SELECT '{space}', 1000 + i, gen_random_uuid(), 'FILE_UPDATED', 'ada-1', gen_random_uuid(), '/x', 1, now()
            FROM generate_series(1, 2500) i"
        ))
        .await;
    assert_eq!(erase(&apps, "ada-1").await.status, 204);
    let database = apps.database.environment();
    let ada = "ada-1".parse().unwrap();
    let left = "SELECT count(*) FROM changes WHERE user_id = 'ada-1' OR member_id = 'ada-1'";
    let mut before = apps.database.number(left).await;
    assert!(before > 2_500);
    while database.forget_user(&ada, 1_000).await.unwrap() == 1_000 {
        let now = apps.database.number(left).await;
        assert_eq!(before - now, 1_000);
        before = now;
    }
    assert_eq!(apps.database.number(left).await, 0);
}
