//! Error responses: each has the right status and shows no internals.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use serde_json::{Value, json};
use tests::{Answer, MAX_UPLOAD_BYTES, TestContext, http_event, sample};

fn valid() -> Value {
    json!({ "path": "/a", "size": 3, "sha256": client::sha256(b"one") })
}

fn with(field: &str, value: Value) -> Value {
    let mut body = valid();
    body[field] = value;
    body
}

async fn raw(apps: &TestContext, change: impl FnOnce(&mut ApiGatewayV2httpRequest)) -> Answer {
    let mut event = http_event("uploads.post", "alice", &valid());
    change(&mut event);
    uploads::handle(&apps.uploads(), &event).await.into()
}

#[tokio::test]
async fn each_invalid_field_is_a_400_that_names_it() {
    let apps = TestContext::create().await;
    let cases = [
        ("path", json!("relative"), "path: a path begins with /"),
        (
            "path",
            json!("/a/../b"),
            "path: no segment of a path is empty, . or ..",
        ),
        (
            "path",
            json!(7),
            "path: invalid type: integer `7`, expected a string",
        ),
        (
            "size",
            json!(-1),
            "size: must be a whole number from 0 to 5497558138880",
        ),
        (
            "size",
            json!("3"),
            "size: invalid type: string \"3\", expected i64",
        ),
        (
            "size",
            json!(1.5),
            "size: invalid type: floating point `1.5`, expected i64",
        ),
        (
            "sha256",
            json!("abc"),
            "sha256: a sha256 is 32 bytes in base64 (44 characters with padding)",
        ),
        (
            "contentType",
            json!("text"),
            "contentType: a content type is type/subtype in printable ASCII, at most 255 bytes",
        ),
        (
            "baseVersion",
            json!(-1),
            "baseVersion: must be a whole number from 0 to 9223372036854775807",
        ),
        (
            "path",
            json!(format!("/a/{}", "x".repeat(256))),
            "path: a segment of a path has at most 255 bytes of UTF-8",
        ),
        (
            "path",
            json!("/invoice\u{202e}fdp.exe"),
            "path: a path holds no bidirectional control character",
        ),
        (
            "path",
            json!("/a/\u{200b}"),
            "path: each segment of a path has a character that can be seen",
        ),
        ("deviceId", json!("laptop"), "deviceId: an id is a UUID such as"),
        (
            "spaceId",
            json!("{0192f0c1-7a5e-7e4e-8f6a-0d5c3b2a1908}"),
            "spaceId: an id is a UUID such as",
        ),
        (
            "baseFileId",
            json!("0192f0c17a5e7e4e8f6a0d5c3b2a1908"),
            "baseFileId: an id is a UUID such as",
        ),
        ("colour", json!("red"), "colour: unknown field `colour`"),
    ];
    for (field, value, detail) in cases {
        let answer = apps.open("alice", &with(field, value)).await;
        assert_eq!(answer.problem(), (400, "invalid-request"), "{field}");
        let told = answer.body["detail"].as_str().unwrap();
        assert!(told.starts_with(detail), "{told}");
        assert_eq!(answer.body["type"], "urn:syncsphere:problem:invalid-request");
        assert_eq!(answer.body["requestId"], "JKJaXmPLvHcESHA=");
    }
    for field in ["path", "size"] {
        let mut body = valid();
        body.as_object_mut().unwrap().remove(field);
        assert_eq!(
            apps.open("alice", &body).await.body["detail"],
            format!("missing field `{field}`")
        );
    }
    assert_eq!(apps.database.number("SELECT count(*) FROM uploads").await, 0);
    assert_eq!(apps.database.number("SELECT count(*) FROM spaces").await, 0);
}

#[tokio::test]
async fn what_is_no_json_is_400_and_what_is_huge_is_413() {
    let apps = TestContext::create().await;
    for body in [
        "",
        "nonsense",
        "{",
        "[]",
        "null",
        "\u{0}",
        r#"{"path":"/a"} trailing"#,
    ] {
        let answer = raw(&apps, |event| event.body = Some(body.to_owned())).await;
        assert_eq!(answer.problem(), (400, "invalid-request"), "{body}");
    }
    let answer = raw(&apps, |event| event.body = None).await;
    assert_eq!(answer.problem(), (400, "invalid-request"));
    let answer = raw(&apps, |event| event.is_base64_encoded = true).await;
    assert_eq!(answer.problem(), (400, "invalid-request"));
    let huge = format!(r#"{{"path":"{}"}}"#, "x".repeat(600_000));
    assert_eq!(
        raw(&apps, |event| event.body = Some(huge)).await.problem(),
        (413, "body-too-large")
    );
}

#[tokio::test]
async fn a_base64_body_is_read() {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let apps = TestContext::create().await;
    let answer = raw(&apps, |event| {
        event.body = Some(BASE64_STANDARD.encode(valid().to_string()));
        event.is_base64_encoded = true;
    });
    assert_eq!(answer.await.status, 201);
}

#[tokio::test]
async fn a_file_over_the_limit_is_413() {
    let apps = TestContext::create().await;
    assert_eq!(
        apps.open("alice", &with("size", json!(MAX_UPLOAD_BYTES)))
            .await
            .status,
        201
    );
    assert_eq!(
        apps.open("alice", &with("size", json!(MAX_UPLOAD_BYTES + 1)))
            .await
            .problem(),
        (413, "upload-too-large")
    );
}

#[tokio::test]
async fn a_request_without_a_usable_subject_is_401() {
    let apps = TestContext::create().await;
    let claims = |event: &mut ApiGatewayV2httpRequest, sub: Option<String>| {
        let jwt = event
            .request_context
            .authorizer
            .as_mut()
            .unwrap()
            .jwt
            .as_mut()
            .unwrap();
        jwt.claims.remove("sub");
        jwt.claims.extend(sub.map(|sub| ("sub".to_owned(), sub)));
    };
    for sub in [
        None,
        Some(String::new()),
        Some("x".repeat(256)),
        Some("a\nb".to_owned()),
    ] {
        assert_eq!(
            raw(&apps, |event| claims(event, sub)).await.problem(),
            (401, "unauthorized")
        );
    }
    assert_eq!(
        raw(&apps, |event| event.request_context.authorizer = None)
            .await
            .problem(),
        (401, "unauthorized")
    );
}

#[tokio::test]
async fn an_unknown_route_is_404_in_every_function() {
    let apps = TestContext::create().await;
    let event: ApiGatewayV2httpRequest = serde_json::from_value(sample("uploads.unknown-route")).unwrap();
    let answers = [
        Answer::from(uploads::handle(&apps.uploads(), &event).await),
        complete_upload::handle(&apps.complete_upload(), &event)
            .await
            .into(),
        connections::handle(&apps.connections(), &connections::Incoming::Http(Box::new(event)))
            .await
            .into(),
    ];
    for answer in answers {
        assert_eq!(answer.problem(), (404, "not-found"));
        assert_eq!(answer.body["detail"], "There is no route GET /nowhere.");
    }
}

#[tokio::test]
async fn failures_inside_show_nothing_of_the_inside() {
    let apps = TestContext::create().await;
    apps.database.execute("DROP TABLE uploads CASCADE").await;
    let answer = apps.open("alice", &valid()).await;
    assert_eq!(answer.problem(), (503, "unavailable"));
    let shown = answer.body.to_string().to_lowercase();
    for inside in ["uploads", "sql", "postgres", "relation", "error", "panic", "aws"] {
        assert!(!shown.contains(inside), "{inside} in {shown}");
    }
}
