//! Limits per user: changes within a minute, pending uploads, shared spaces. They hold for requests at once, and
//! nothing is changed by a request that would exceed one.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::{Answer, Call, TestContext, upload_body};
use time::Duration;

use crate::apps;

/// Number of requests at once.
const AT_ONCE: usize = 32;

async fn administer(apps: &TestContext, request: Value) {
    let request = serde_json::from_value(request).unwrap();
    administer::handle(&apps.administer(), request).await.unwrap();
}

async fn limit(apps: &TestContext, limits: Value) {
    apps.known("alice").await;
    administer(
        apps,
        json!({ "action": "setUserLimits", "userId": "alice", "limits": limits }),
    )
    .await;
}

/// Makes requests at once, each in an execution environment of its own. Returns the number of successes. All others
/// are refused by this limit.
async fn succeed(apps: &TestContext, calls: Vec<Call>, name: &str, maximum: i64) -> usize {
    let environments: Vec<_> = calls.iter().map(|_| apps.environment()).collect();
    let calling = environments.iter().zip(calls);
    let answers: Vec<Answer> =
        join_all(calling.map(async |(environment, call)| environment.call("alice", call).await)).await;
    let (good, refused): (Vec<&Answer>, Vec<&Answer>) =
        answers.iter().partition(|answer| answer.status < 300);
    for answer in refused {
        assert_eq!(answer.problem().1, "quota-exceeded");
        assert_eq!(answer.body["limit"], json!({ "name": name, "maximum": maximum }));
    }
    good.len()
}

#[tokio::test]
async fn no_more_uploads_are_pending_than_allowed() {
    let apps = apps().await;
    limit(&apps, json!({ "pendingUploads": 5 })).await;
    let open = |number: usize| Call::new("POST /uploads").body(upload_body(&format!("/{number}"), b"x"));
    let opened = succeed(&apps, (0..AT_ONCE).map(open).collect(), "pendingUploads", 5).await;
    assert_eq!(opened, 5);
    let pending = async || {
        apps.database
            .number("SELECT pending_uploads::bigint FROM users WHERE user_id = 'alice'")
            .await
    };
    let counted = "SELECT count(*) FROM uploads WHERE user_id = 'alice' AND state = 'pending'";
    assert_eq!((pending().await, apps.database.number(counted).await), (5, 5));
    let refused = apps.open("alice", &upload_body("/more", b"x")).await;
    assert_eq!(refused.problem(), (429, "quota-exceeded"));
    // Others have limits of their own.
    assert_eq!(apps.open("bob", &upload_body("/a", b"x")).await.status, 201);

    // A request that is repeated with its key needs no more room.
    let uploads = apps
        .database
        .rows("SELECT id FROM uploads WHERE user_id = 'alice' ORDER BY id")
        .await;
    let ids: Vec<uuid::Uuid> = uploads.iter().map(|row| row.get(0)).collect();
    // Each way to end an upload makes room for one: abort, complete, expiry.
    let abort = Call::new("DELETE /uploads/{uploadId}").path("uploadId", ids[0]);
    for _ in 0..2 {
        assert_eq!(apps.call("alice", abort.clone()).await.status, 204);
    }
    assert_eq!(pending().await, 4);
    let created = apps.put("alice", "/complete", b"x").await;
    assert_eq!(pending().await, 5);
    for _ in 0..2 {
        assert_eq!(apps.complete("alice", &created).await.status, 200);
    }
    assert_eq!(pending().await, 4);
    apps.clock.advance(Duration::hours(14));
    apps.run_maintenance().await.unwrap();
    assert_eq!((pending().await, apps.database.number(counted).await), (0, 0));
    assert_eq!(apps.open("alice", &upload_body("/again", b"x")).await.status, 201);
}

#[tokio::test]
async fn no_more_changes_are_made_in_a_minute_than_allowed() {
    let apps = apps().await;
    let file = apps.upload("alice", "/0", b"x").await.file_id;
    apps.clock.advance(Duration::MINUTE);
    limit(&apps, json!({ "changesPerMinute": 7 })).await;
    let moves = |from: usize| {
        (from..from + AT_ONCE).map(move |number| {
            let call = Call::new("PATCH /files/{fileId}").path("fileId", file);
            call.body(json!({ "path": format!("/{number}") }))
        })
    };
    assert_eq!(succeed(&apps, moves(1).collect(), "changesPerMinute", 7).await, 7);
    assert_eq!(apps.feed("alice", None).await.latest_sequence.get(), 8);

    apps.clock.advance(Duration::seconds(20));
    let call = || {
        Call::new("PATCH /files/{fileId}")
            .path("fileId", file)
            .body(json!({ "path": "/later" }))
    };
    let refused = apps.call("alice", call()).await;
    assert_eq!(
        (refused.problem(), refused.retry_after.as_deref()),
        ((429, "quota-exceeded"), Some("40"))
    );
    apps.clock.advance(Duration::seconds(40));
    assert_eq!(apps.call("alice", call()).await.status, 200);
    // Reading is not limited, nor is a request that changes nothing counted.
    for _ in 0..10 {
        assert_eq!(apps.call("alice", Call::new("GET /changes")).await.status, 200);
        assert_eq!(apps.call("alice", call()).await.status, 200);
    }
    assert_eq!(apps.feed("alice", None).await.latest_sequence.get(), 9);
}

/// Requests that are no changes are refused by no limit of changes, so that a user can always clean up.
#[tokio::test]
async fn aborting_declining_and_withdrawing_are_possible_after_the_last_change_of_a_minute() {
    let apps = apps().await;
    let (own, bobs) = (apps.space("alice").await, apps.space("bob").await);
    let invite = async |owner: &str, space: model::SpaceId, invited: &str| {
        apps.known(invited).await;
        let call = Call::new("POST /spaces/{spaceId}/invitations").path("spaceId", space);
        let call = call.body(json!({ "userId": invited, "role": "viewer" }));
        let made: model::InvitationView = apps.call(owner, call).await.parsed();
        made.invitation_id
    };
    let made = invite("alice", own, "carol").await;
    let received = invite("bob", bobs, "alice").await;
    let upload = apps.opened("alice", "/a", b"x").await.upload_id;
    limit(&apps, json!({ "changesPerMinute": 1 })).await;
    let rename = Call::new("PATCH /spaces/{spaceId}").path("spaceId", own);
    let refused = apps.call("alice", rename.body(json!({ "name": "Mine" }))).await;
    assert_eq!(refused.problem(), (429, "quota-exceeded"));
    for call in [
        Call::new("DELETE /uploads/{uploadId}").path("uploadId", upload),
        Call::new("POST /invitations/{invitationId}/decline")
            .path("invitationId", received)
            .body(json!({})),
        Call::new("DELETE /spaces/{spaceId}/invitations/{invitationId}")
            .path("spaceId", own)
            .path("invitationId", made),
    ] {
        let answer = apps.call("alice", call).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }
}

#[tokio::test]
async fn no_user_is_a_member_of_more_spaces_than_allowed() {
    let apps = apps().await;
    limit(&apps, json!({ "spaces": 3 })).await;
    let create = |number: usize| Call::new("POST /spaces").body(json!({ "name": format!("Space {number}") }));
    assert_eq!(
        succeed(&apps, (0..AT_ONCE).map(create).collect(), "spaces", 3).await,
        3
    );
    let refused = apps.call("alice", create(99)).await;
    assert_eq!(
        (refused.problem(), refused.retry_after.as_deref()),
        ((409, "quota-exceeded"), None)
    );
    let memberships = "SELECT memberships::bigint FROM spaces WHERE owner_id = 'alice'";
    assert_eq!(apps.database.number(memberships).await, 3);
    // An operator allows more, or the stack's number again.
    limit(&apps, json!({ "spaces": 4 })).await;
    assert_eq!(apps.call("alice", create(100)).await.status, 201);
    limit(&apps, json!({})).await;
    assert_eq!(apps.call("alice", create(101)).await.status, 201);
    assert_eq!(apps.database.number(memberships).await, 5);
}

#[tokio::test]
async fn no_space_holds_more_bytes_than_allowed() {
    let apps = apps().await;
    let space = apps.space("alice").await;
    let set = |limits: Value| json!({ "action": "setSpaceLimits", "spaceId": space, "limits": limits });
    administer(&apps, set(json!({ "bytes": 10 }))).await;
    let body = |path: &str, content: &[u8]| {
        let mut body = upload_body(path, content);
        body["spaceId"] = json!(space);
        body
    };
    // Too large for the space by itself.
    let refused = apps.open("alice", &body("/large", &[0; 11])).await;
    assert_eq!(refused.problem(), (413, "quota-exceeded"));
    assert_eq!(
        refused.body["limit"],
        json!({ "name": "spaceBytes", "maximum": 10 })
    );
    // Each of these fits by itself, and not more than three of them together.
    let mut opened: Vec<model::CreatedUpload> = Vec::new();
    for number in 0..AT_ONCE {
        let created = apps
            .open("alice", &body(&format!("/{number}"), b"abc"))
            .await
            .parsed();
        apps.send(&created, b"abc").await;
        opened.push(created);
    }
    let complete = |created: &model::CreatedUpload| {
        Call::new("POST /uploads/{uploadId}/complete")
            .path("uploadId", created.upload_id)
            .body(json!({}))
    };
    assert_eq!(
        succeed(&apps, opened.iter().map(complete).collect(), "spaceBytes", 10).await,
        3
    );
    let bytes = format!("SELECT bytes FROM spaces WHERE id = '{space}'");
    assert_eq!(apps.database.number(&bytes).await, 9);
    // An operator allows more.
    administer(&apps, set(json!({}))).await;
    assert_eq!(
        succeed(&apps, opened.iter().map(complete).collect(), "spaceBytes", 10).await,
        AT_ONCE
    );
    assert_eq!(apps.database.number(&bytes).await, 96);
}
