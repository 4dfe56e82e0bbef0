//! `administer`: what operators do, and what users notice of it.

use administer::{Answer, Request, handle};
use futures_util::future::join_all;
use model::UserId;
use serde_json::json;
use tests::{Call, ROLE, TestContext, TestDatabase};

use crate::apps;

async fn request(
    apps: &TestContext,
    request: serde_json::Value,
) -> Result<serde_json::Value, administer::Error> {
    let request: Request = serde_json::from_value(request).unwrap();
    let answer: Answer = handle(&apps.administer(), request).await?;
    Ok(serde_json::to_value(answer).unwrap())
}

#[tokio::test]
async fn a_blocked_user_is_cut_off_at_once_and_comes_back_with_everything() {
    let apps = apps().await;
    let space = apps.space("alice").await;
    apps.share("alice", space, "mallory", "editor").await;
    for connection in ["m1", "m2"] {
        apps.connected("mallory", connection).await;
    }
    apps.connected("alice", "a1").await;
    let ticket = apps.ticket("mallory").await;
    let pending = apps.put("mallory", "/pending", b"x").await;
    apps.queue.drain().await;

    let block = json!({ "action": "blockUser", "userId": "mallory" });
    let report = request(&apps, block.clone()).await.unwrap();
    assert_eq!(report["blockedAt"], "2026-01-02T03:04:05.678Z");
    let mut closed = apps.gateway.closed();
    closed.sort();
    assert_eq!(closed, ["m1", "m2"]);
    assert_eq!(
        apps.connect(&ticket.ticket, "m3", None).await.problem(),
        (401, "invalid-ticket")
    );
    assert_eq!(
        apps.complete("mallory", &pending).await.problem(),
        (403, "account-blocked")
    );
    for call in [
        Call::new("GET /spaces"),
        Call::new("POST /tickets").body(json!({})),
    ] {
        assert_eq!(
            apps.call("mallory", call).await.problem(),
            (403, "account-blocked")
        );
    }
    // Others are served, and the blocked user's sockets get nothing of it.
    apps.upload("alice", "/a", b"x").await;
    let body = json!({ "spaceId": space, "path": "/b", "size": 1, "sha256": client::sha256(b"x") });
    assert_eq!(apps.upload_as("alice", &body, b"x").await.status, 200);
    let mut records = Vec::new();
    for body in apps.queue.drain().await {
        records.push(apps.queue.record(&body).await);
    }
    assert!(apps.invoke_fan_out(&records).await.is_empty());
    assert!(!apps.gateway.frames("a1").is_empty());
    assert!(apps.gateway.frames("m1").is_empty() && apps.gateway.frames("m2").is_empty());

    // Again, an hour later: the same.
    apps.clock.advance(time::Duration::HOUR);
    assert_eq!(request(&apps, block).await.unwrap(), report);

    let unblock = json!({ "action": "unblockUser", "userId": "mallory" });
    assert!(request(&apps, unblock).await.unwrap()["blockedAt"].is_null());
    let listed = apps.call("mallory", Call::new("GET /spaces")).await;
    assert_eq!(listed.body["spaces"].as_array().unwrap().len(), 2);
    // The upload was aborted.
    assert_eq!(
        apps.complete("mallory", &pending).await.problem(),
        (410, "upload-expired")
    );
}

#[tokio::test]
async fn no_connection_that_opens_while_its_user_is_blocked_stays_open() {
    let apps = apps().await;
    apps.known("mallory").await;
    let mut tickets = Vec::new();
    for _ in 0..12 {
        tickets.push(apps.ticket("mallory").await.ticket);
    }
    let environments: Vec<_> = tickets.iter().map(|_| apps.connections()).collect();
    let connecting = async {
        let opening =
            (environments.iter().zip(&tickets).enumerate()).map(async |(number, (environment, ticket))| {
                apps.connect_in(environment, ticket, &format!("m{number}"), None)
                    .await
            });
        join_all(opening).await
    };
    let block = request(&apps, json!({ "action": "blockUser", "userId": "mallory" }));
    let (_, blocked) = tokio::join!(connecting, block);
    blocked.unwrap();
    let now = "'2026-01-02T03:04:05.678Z'";
    let open = format!("SELECT count(*) FROM connections WHERE user_id = 'mallory' AND expires_at > {now}");
    assert_eq!(apps.database.number(&open).await, 0);
}

#[tokio::test]
async fn a_connection_that_could_not_be_closed_is_closed_by_the_repetition() {
    let apps = apps().await;
    apps.known("mallory").await;
    apps.connected("mallory", "m1").await;
    apps.gateway.answer("m1", 503);
    let block = json!({ "action": "blockUser", "userId": "mallory" });
    let error = request(&apps, block.clone()).await.unwrap_err();
    assert!(matches!(error, administer::Error::OpenConnections(1)), "{error}");
    assert_eq!(
        apps.call("mallory", Call::new("GET /spaces")).await.problem(),
        (403, "account-blocked")
    );
    apps.gateway.answer("m1", 200);
    request(&apps, block).await.unwrap();
    assert_eq!(apps.gateway.closed(), ["m1"]);
    assert_eq!(apps.stored_connections("m1").await, 0);
}

#[tokio::test]
async fn an_unknown_user_and_an_unknown_action_are_errors_that_say_so() {
    let apps = apps().await;
    for action in ["blockUser", "unblockUser", "showUser"] {
        let error = request(&apps, json!({ "action": action, "userId": "nobody" }))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "no user with the id nobody has used the service"
        );
    }
    for bad in [
        json!({}),
        json!({ "action": "delete" }),
        json!({ "action": "beginEpoch", "now": true }),
    ] {
        assert!(serde_json::from_value::<Request>(bad.clone()).is_err(), "{bad}");
    }
    let user: UserId = "alice".parse().unwrap();
    apps.known(user.as_str()).await;
    let shown = request(&apps, json!({ "action": "showUser", "userId": "alice" }))
        .await
        .unwrap();
    assert_eq!(
        (&shown["userId"], &shown["seenAt"]),
        (&json!("alice"), &json!("2026-01-02T03:04:05.678Z"))
    );
}

#[tokio::test]
async fn a_new_epoch_resets_every_feed_and_says_how_far_the_restored_database_was() {
    let apps = apps().await;
    for path in ["/a", "/b"] {
        apps.upload("alice", path, b"x").await;
    }
    let before = apps.feed("alice", None).await;
    assert_eq!(before.restored_at_sequence, None);
    let begun = request(&apps, json!({ "action": "beginEpoch" })).await.unwrap();
    let list = |epoch: String| Call::new("GET /changes").header("syncsphere-epoch", epoch);
    let refused = apps.call("alice", list(before.epoch.to_string())).await;
    assert_eq!(refused.problem(), (410, "feed-reset"));
    assert_eq!(
        apps.call("alice", list(begun["epoch"].as_str().unwrap().to_owned()))
            .await
            .status,
        200
    );

    let restored = async || {
        apps.feed("alice", None)
            .await
            .restored_at_sequence
            .map(model::Cursor::get)
    };
    assert_eq!(restored().await, Some(2));
    // Later changes do not move it.
    apps.upload("alice", "/c", b"x").await;
    assert_eq!(restored().await, Some(2));
    // A space that is new in this epoch lost nothing.
    apps.upload("bob", "/c", b"x").await;
    assert_eq!(
        apps.feed("bob", None)
            .await
            .restored_at_sequence
            .map(model::Cursor::get),
        Some(0)
    );
}

#[tokio::test]
async fn migrating_another_database_begins_an_epoch_and_the_same_one_does_not() {
    let database = TestDatabase::create().await;
    let epoch = async || -> (uuid::Uuid, bool) {
        let rows = database.rows("SELECT epoch, restored FROM history").await;
        (rows[0].get(0), rows[0].get(1))
    };
    let role = db::Role {
        name: ROLE,
        by_iam: false,
    };
    let migrate = async |id| db::migrate(&database.owner(), Some(role), id).await.unwrap();
    let first = epoch().await;
    assert!(!first.1);
    for known in [None, Some("db-ONE"), Some("db-ONE"), None] {
        migrate(known).await;
        assert_eq!(epoch().await, first, "{known:?}");
    }
    migrate(Some("db-TWO")).await;
    let second = epoch().await;
    assert!(second.0 != first.0 && second.1);
    migrate(Some("db-TWO")).await;
    assert_eq!(epoch().await, second);
}
