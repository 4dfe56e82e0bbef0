//! Callers who are not served: blocked users, and clients that know another epoch than the current one.

use serde_json::json;
use tests::{Call, TestContext, template_routes, upload_body};
use uuid::Uuid;

use crate::apps;

/// A valid request to each route of the HTTP API, about items that do not exist.
fn requests() -> Vec<Call> {
    let routes = template_routes();
    let requests = routes.iter().map(|route| {
        let call = Call::new(Box::leak(route.clone().into_boxed_str()));
        let named = |call: Call, name: &'static str| {
            if route.contains(&format!("{{{name}}}")) {
                call.path(name, platform::ids::new_id())
            } else {
                call
            }
        };
        let call = ["uploadId", "fileId", "spaceId", "userId", "invitationId"]
            .into_iter()
            .fold(call, named);
        let call = if route.contains("{version}") {
            call.path("version", 1)
        } else {
            call
        };
        match route.as_str() {
            "POST /uploads" => call.body(upload_body("/a", b"x")),
            "POST /uploads/batch" => call.body(json!({ "uploads": [upload_body("/a", b"x")] })),
            "POST /uploads/batch/complete" => call.body(json!({ "uploadIds": [platform::ids::new_id()] })),
            "POST /files/batch" => call.body(json!({ "changes": [
                { "action": "move", "fileId": platform::ids::new_id(), "path": "/b" },
                { "action": "delete", "fileId": platform::ids::new_id() },
            ]})),
            "POST /uploads/{uploadId}/parts" => {
                call.body(json!({ "parts": [{ "partNumber": 1, "sha256": client::sha256(b"x") }] }))
            }
            "PATCH /files/{fileId}" => call.body(json!({ "path": "/b" })),
            "POST /spaces" | "PATCH /spaces/{spaceId}" => call.body(json!({ "name": "Team" })),
            "POST /spaces/{spaceId}/invitations" => {
                call.body(json!({ "email": "ada@example.com", "role": "viewer" }))
            }
            "PUT /spaces/{spaceId}/members/{userId}" => call.body(json!({ "role": "viewer" })),
            _ => call,
        }
    });
    requests.collect()
}

/// Every row that a request of a user could have made or changed.
async fn rows(apps: &TestContext) -> Vec<i64> {
    let tables = [
        "changes",
        "files",
        "invitations",
        "members",
        "refused_inviters",
        "spaces",
        "tickets",
        "uploads",
        "users",
    ];
    let mut rows = Vec::new();
    for table in tables {
        rows.push(
            apps.database
                .number(&format!("SELECT count(*) FROM {table}"))
                .await,
        );
    }
    rows
}

#[tokio::test]
async fn every_route_refuses_a_blocked_user_and_changes_nothing() {
    let apps = apps().await;
    apps.known("mallory").await;
    apps.database
        .execute("UPDATE users SET blocked_at = now() WHERE user_id = 'mallory'")
        .await;
    let before = rows(&apps).await;
    for call in requests() {
        let route = call.route();
        assert_eq!(
            apps.call("mallory", call).await.problem(),
            (403, "account-blocked"),
            "{route}"
        );
    }
    assert_eq!(rows(&apps).await, before);
    // Others are served.
    assert_eq!(apps.call("alice", Call::new("GET /spaces")).await.status, 200);
}

#[tokio::test]
async fn every_route_refuses_an_erased_user_and_changes_nothing() {
    let apps = apps().await;
    apps.known("ada").await;
    let erase = || Call::new("DELETE /me");
    assert_eq!(apps.call("ada", erase()).await.status, 204);
    // First by the row of the user, then by the hash that stays for a day.
    for _ in 0..2 {
        let before = rows(&apps).await;
        for call in requests() {
            let route = call.route();
            let answer = apps.call("ada", call).await;
            if route == erase().route() {
                assert_eq!(answer.status, 204);
            } else {
                assert_eq!(answer.problem(), (403, "account-erased"), "{route}");
            }
        }
        assert_eq!(rows(&apps).await, before);
        apps.clock.advance(time::Duration::minutes(3));
        apps.run_maintenance().await.unwrap();
        let users = "SELECT count(*) FROM users WHERE user_id = 'ada'";
        assert_eq!(apps.database.number(users).await, 0);
    }
    // Then the user may begin anew.
    apps.clock.advance(time::Duration::days(2));
    apps.run_maintenance().await.unwrap();
    apps.known("ada").await;
}

#[tokio::test]
async fn every_route_refuses_another_epoch_and_changes_nothing() {
    let apps = apps().await;
    apps.known("alice").await;
    let before = rows(&apps).await;
    for call in requests() {
        let route = call.route();
        let call = call.header("syncsphere-epoch", Uuid::from_u128(7));
        assert_eq!(
            apps.call("alice", call).await.problem(),
            (410, "feed-reset"),
            "{route}"
        );
    }
    assert_eq!(rows(&apps).await, before);

    let listed = apps.call("alice", Call::new("GET /spaces")).await.body;
    let current = listed["epoch"].as_str().unwrap();
    let call = Call::new("GET /changes").header("syncsphere-epoch", current);
    let feed = apps.call("alice", call).await;
    assert_eq!((feed.status, feed.body["epoch"].as_str()), (200, Some(current)));
    let call = Call::new("GET /changes").header("syncsphere-epoch", "yesterday");
    assert_eq!(apps.call("alice", call).await.problem(), (400, "invalid-request"));
}

#[tokio::test]
async fn a_ticket_of_a_user_who_is_blocked_since_opens_no_connection() {
    let apps = apps().await;
    let ticket = apps.ticket("mallory").await;
    apps.database
        .execute(
            "INSERT INTO users (user_id, seen_at, blocked_at) VALUES ('mallory', now(), now())
            ON CONFLICT (user_id) DO UPDATE SET blocked_at = now()",
        )
        .await;
    assert_eq!(
        apps.connect(&ticket.ticket, "one", None).await.problem(),
        (403, "account-blocked")
    );
    assert_eq!(apps.stored_connections("one").await, 0);
}

#[tokio::test]
async fn a_profile_is_that_of_the_newest_token_and_only_verified() {
    let apps = apps().await;
    let profile = async || {
        let sql =
            "SELECT coalesce(name, '-') || ' ' || coalesce(email, '-') FROM users WHERE user_id = 'ada'";
        apps.database.rows(sql).await[0].get::<_, String>(0)
    };
    let list = |claims: &[(&'static str, &'static str)]| {
        let call = Call::new("GET /spaces");
        claims
            .iter()
            .fold(call, |call, (name, value)| call.claim(name, value))
    };
    let steps: [(&[_], &str); 5] = [
        (&[("email", "Ada@Example.com")], "- -"),
        (
            &[
                ("name", "Ada"),
                ("email", "Ada@Example.com"),
                ("email_verified", "true"),
            ],
            "Ada ada@example.com",
        ),
        (
            &[
                ("name", "\u{200b}"),
                ("email", "else@example.com"),
                ("email_verified", "false"),
            ],
            "Ada ada@example.com",
        ),
        (&[], "Ada ada@example.com"),
        (
            &[
                ("name", "Ada L."),
                ("email", "new@example.com"),
                ("email_verified", "true"),
            ],
            "Ada L. new@example.com",
        ),
    ];
    for (claims, stored) in steps {
        assert_eq!(apps.call("ada", list(claims)).await.status, 200);
        assert_eq!(profile().await, stored, "{claims:?}");
    }
}
