//! Tickets and WebSocket connections.

use futures_util::future::join_all;
use serde_json::json;
use tests::{Answer, TestContext, sample};
use time::Duration;

#[tokio::test]
async fn a_ticket_opens_one_connection_of_its_user() {
    let apps = TestContext::create().await;
    let created = apps.ticket("alice").await;
    assert_eq!(
        created.url,
        format!("wss://socket.example/live?ticket={}", created.ticket)
    );
    assert_eq!(created.expires_at, tests::START + Duration::seconds(30));
    assert_eq!(apps.connect(&created.ticket, "one", None).await.status, 200);
    assert_eq!(
        apps.connect(&created.ticket, "two", None).await.problem(),
        (401, "invalid-ticket")
    );
    let rows = apps
        .database
        .rows("SELECT connection_id, user_id FROM connections")
        .await;
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (rows[0].get::<_, &str>(0), rows[0].get::<_, &str>(1)),
        ("one", "alice")
    );
}

#[tokio::test]
async fn a_ticket_is_stored_only_as_a_hash() {
    let apps = TestContext::create().await;
    let ticket = apps.ticket("alice").await.ticket;
    let found = format!(
        "SELECT count(*) FROM tickets t WHERE t::text LIKE '%{ticket}%' OR hash = sha256('{ticket}')"
    );
    assert_eq!(apps.database.number(&found).await, 1);
    assert_eq!(
        apps.database
            .number(&format!(
                "SELECT count(*) FROM tickets t WHERE t::text LIKE '%{ticket}%'"
            ))
            .await,
        0
    );
}

#[tokio::test]
async fn of_a_hundred_parallel_uses_of_a_ticket_exactly_one_wins() {
    let apps = TestContext::create().await;
    let ticket = apps.ticket("alice").await.ticket;
    // One hundred concurrent environments, as Lambda would start them.
    let environments: Vec<_> = (0..100).map(|_| apps.connections()).collect();
    let uses = environments.iter().enumerate().map(async |(i, app)| {
        apps.connect_in(app, &ticket, &format!("connection-{i}"), None)
            .await
            .status
    });
    let mut statuses = join_all(uses).await;
    statuses.sort_unstable();
    assert_eq!(statuses[0], 200);
    assert!(statuses[1..].iter().all(|status| *status == 401), "{statuses:?}");
    assert_eq!(apps.database.number("SELECT count(*) FROM connections").await, 1);
}

#[tokio::test]
async fn a_ticket_is_worthless_after_30_seconds() {
    let apps = TestContext::create().await;
    let (early, late) = (apps.ticket("alice").await, apps.ticket("alice").await);
    apps.clock.advance(Duration::milliseconds(29_999));
    assert_eq!(apps.connect(&early.ticket, "early", None).await.status, 200);
    apps.clock.advance(Duration::milliseconds(1));
    assert_eq!(
        apps.connect(&late.ticket, "late", None).await.problem(),
        (401, "invalid-ticket")
    );
}

/// Anybody can send handshakes with malformed tickets, so these must not cost a query.
#[tokio::test]
async fn a_malformed_ticket_is_refused_without_the_database() {
    let apps = TestContext::create().await;
    let nobody = "postgresql://u@127.0.0.1:9/x?sslmode=disable";
    let mut app = apps.connections();
    app.db = db::Database::new(nobody.parse::<db::DatabaseUrl>().unwrap());
    for malformed in ["", "x", &"A".repeat(42), &"A".repeat(44), &"!".repeat(43)] {
        let answer = apps.connect_in(&app, malformed, "one", None).await;
        assert_eq!(answer.problem(), (401, "invalid-ticket"), "{malformed}");
    }
    let well_formed = apps.connect_in(&app, &"A".repeat(43), "one", None).await;
    assert_eq!(well_formed.status, 503);
}

#[tokio::test]
async fn no_ticket_or_a_made_up_one_is_401() {
    let apps = TestContext::create().await;
    for made_up in ["made-up", &"A".repeat(43)] {
        assert_eq!(
            apps.connect(made_up, "one", None).await.problem(),
            (401, "invalid-ticket"),
            "{made_up}"
        );
    }
    let mut event = sample("connections.connect");
    event.as_object_mut().unwrap().remove("queryStringParameters");
    event
        .as_object_mut()
        .unwrap()
        .remove("multiValueQueryStringParameters");
    let answer = connections::handle(&apps.connections(), &serde_json::from_value(event).unwrap()).await;
    assert_eq!(Answer::from(answer).problem(), (401, "invalid-ticket"));
}

/// API Gateway selects the route by a field of the message, and the client controls that field.
#[tokio::test]
async fn a_message_that_names_a_lifecycle_route_does_nothing() {
    let apps = TestContext::create().await;
    apps.connected("alice", "one").await;
    let ticket = apps.ticket("alice").await.ticket;
    for route in ["$disconnect", "$connect"] {
        let mut event = sample("connections.message");
        event["requestContext"]["connectionId"] = json!("one");
        event["requestContext"]["routeKey"] = json!(route);
        event["queryStringParameters"] = json!({ "ticket": ticket });
        event["multiValueQueryStringParameters"] = json!({ "ticket": [ticket] });
        event["body"] = json!(json!({ "action": route }).to_string());
        let event = serde_json::from_value(event).unwrap();
        let answer = connections::handle(&apps.connections(), &event).await;
        let answer = Answer::from(answer);
        assert_eq!((answer.status, answer.body), (200, json!(null)), "{route}");
        assert_eq!(apps.stored_connections("one").await, 1, "{route}");
    }
    assert_eq!(apps.database.number("SELECT count(*) FROM tickets").await, 1);
}

#[tokio::test]
async fn only_pages_of_allowed_origins_may_connect() {
    let apps = TestContext::create().await;
    let ticket = apps.ticket("alice").await.ticket;
    for origin in [
        "https://evil.example",
        "https://app.example.evil",
        "http://app.example",
        "null",
        "",
    ] {
        let answer = apps.connect(&ticket, "bad", Some(origin)).await;
        assert_eq!(answer.problem(), (403, "origin-not-allowed"), "{origin}");
    }
    // A refused handshake does not consume the ticket.
    assert_eq!(
        apps.connect(&ticket, "good", Some("https://app.example"))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_user_has_at_most_the_allowed_connections_even_when_they_come_at_once() {
    let apps = TestContext::create().await;
    let environments: Vec<_> = (0..12).map(|_| apps.connections()).collect();
    // Connects each environment and prepares its statements, so that all requests run at the same moment.
    let unknown = "A".repeat(43);
    for app in &environments {
        assert_eq!(apps.connect_in(app, &unknown, "none", None).await.status, 401);
    }
    for round in 0..16 {
        let user = &format!("user-{round}");
        let tickets = join_all((0..12).map(|_| apps.ticket(user))).await;
        let connecting = environments.iter().zip(&tickets).enumerate();
        let connecting = connecting.map(async |(i, (app, created))| {
            let connection_id = format!("{user}-{i}");
            let answer = apps.connect_in(app, &created.ticket, &connection_id, None).await;
            answer.status
        });
        let mut statuses = join_all(connecting).await;
        statuses.sort_unstable();
        assert_eq!(
            statuses,
            [200, 200, 200, 429, 429, 429, 429, 429, 429, 429, 429, 429]
        );
    }
    // Other users are not affected, and expired connections are not counted.
    apps.connected("bob", "bob-1").await;
    apps.clock.advance(connections::CONNECTION_LIFETIME);
    apps.connected("user-0", "later").await;
}

#[tokio::test]
async fn disconnect_removes_the_row_and_is_harmless_twice() {
    let apps = TestContext::create().await;
    let event = sample("connections.disconnect");
    let connection_id = event["requestContext"]["connectionId"].as_str().unwrap();
    apps.connected("alice", connection_id).await;
    apps.connected("alice", "another").await;
    for _ in 0..2 {
        let event = serde_json::from_value(event.clone()).unwrap();
        let answer = connections::handle(&apps.connections(), &event).await;
        assert_eq!(Answer::from(answer).status, 200);
        assert_eq!(apps.stored_connections(connection_id).await, 0);
        assert_eq!(apps.stored_connections("another").await, 1);
    }
}
