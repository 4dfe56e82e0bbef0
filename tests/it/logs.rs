//! At the default level each invocation writes one line with all identifiers. Details are written on demand.

use model::{CreatedUpload, Message};
use serde_json::Value;
use tests::{Call, Logs, upload_body};
use tracing::level_filters::LevelFilter;

use crate::apps;

/// The one line that was written since the last call.
#[track_caller]
fn only_line(logs: &Logs) -> Value {
    let mut lines = logs.take();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.remove(0)
}

/// Whether a line has a field with this value, of its own or of a span.
fn has(line: &Value, name: &str, value: &str) -> bool {
    let mut spans = line["spans"].as_array().into_iter().flatten();
    line["fields"][name] == value || spans.any(|span| span[name] == value)
}

#[tokio::test]
async fn each_function_writes_one_line_with_all_ids_about_an_upload() {
    let apps = apps().await;
    // The personal space exists, and a device listens.
    apps.upload("alice", "/first", b"x").await;
    apps.connected("alice", "device").await;
    apps.queue.drain().await;
    let logs = Logs::default();
    let _logging = logs.begin(LevelFilter::INFO);

    let created: CreatedUpload = apps.open("alice", &upload_body("/a", b"one")).await.parsed();
    let line = only_line(&logs);
    let (upload_id, space_id) = (created.upload_id.to_string(), created.space_id.to_string());
    for (name, value) in [
        ("route", "POST /uploads"),
        ("user_id", "alice"),
        ("upload_ids", &upload_id),
        ("space_ids", &space_id),
    ] {
        assert!(has(&line, name, value), "{name}: {line}");
    }
    assert_eq!(line["fields"]["status"], 201);
    assert!(line["fields"]["duration_ms"].is_u64(), "{line}");

    apps.send(&created, b"one").await;
    assert_eq!(apps.complete("alice", &created).await.status, 200);
    let line = only_line(&logs);
    let body = apps.queue.drain().await.remove(0);
    let event_id = Message::decode(&body).unwrap().event.event_id.to_string();
    for (name, value) in [
        ("user_id", "alice"),
        ("upload_id", &upload_id),
        ("event_ids", &event_id),
        ("space_ids", &space_id),
    ] {
        assert!(has(&line, name, value), "{name}: {line}");
    }

    let record = apps.queue.record(&body).await;
    logs.take();
    assert!(apps.invoke_fan_out(&[record]).await.is_empty());
    let line = only_line(&logs);
    assert!(has(&line, "event_ids", &event_id), "{line}");
    assert_eq!(line["fields"]["notified"], 1);
    assert!(line["fields"]["duration_ms"].is_u64(), "{line}");
}

#[tokio::test]
async fn each_other_function_writes_one_line_too() {
    let apps = apps().await;
    apps.known("alice").await;
    let logs = Logs::default();
    let _logging = logs.begin(LevelFilter::INFO);

    let ticket = apps.ticket("alice").await.ticket;
    assert!(has(&only_line(&logs), "route", "POST /tickets"));
    assert_eq!(apps.connect(&ticket, "device", None).await.status, 200);
    let line = only_line(&logs);
    assert!(
        has(&line, "connection_id", "device") && has(&line, "user_id", "alice"),
        "{line}"
    );

    let space = apps.space("alice").await;
    // A change of the space, and one for the owner's devices.
    let line = only_line(&logs);
    let ids = line["fields"]["space_ids"].as_str().unwrap();
    assert!(ids.split(' ').any(|id| id == space.to_string()), "{line}");
    apps.feed("alice", Some(space)).await;
    assert!(has(&only_line(&logs), "route", "GET /changes"));
    apps.call("alice", Call::new("GET /me")).await;
    assert!(has(&only_line(&logs), "route", "GET /me"));

    // A repeated request names the change that it found.
    let file = apps.upload("alice", "/a", b"one").await;
    logs.take();
    let delete = Call::new("DELETE /files/{fileId}").path("fileId", file.file_id);
    for _ in 0..2 {
        assert_eq!(apps.call("alice", delete.clone()).await.status, 200);
        let line = only_line(&logs);
        assert!(has(&line, "file_id", &file.file_id.to_string()), "{line}");
        assert!(line["fields"]["event_ids"].is_string(), "{line}");
    }

    assert!(apps.run_maintenance().await.is_ok());
    let line = only_line(&logs);
    assert_eq!(line["fields"]["purged"], 0);
    assert!(line["fields"]["duration_ms"].is_u64(), "{line}");
}

#[tokio::test]
async fn a_refused_request_and_a_failed_one_write_one_line_too() {
    let apps = apps().await;
    let logs = Logs::default();
    let _logging = logs.begin(LevelFilter::INFO);
    let missing = Call::new("GET /uploads/{uploadId}").path("uploadId", platform::ids::new_id());
    assert_eq!(apps.call("alice", missing).await.status, 404);
    let line = only_line(&logs);
    assert_eq!(
        (&line["level"], &line["fields"]["status"]),
        (&"INFO".into(), &404.into())
    );

    let mut app = apps.complete_upload();
    app.storage = tests::storage_that_answers(&apps.storage, |_, _| (500, "InternalError")).await;
    let created = apps.opened("alice", "/a", b"one").await;
    logs.take();
    let id = created.upload_id.to_string();
    assert_eq!(apps.complete_in(&app, "alice", &id).await.status, 503);
    let line = only_line(&logs);
    assert_eq!(
        (&line["level"], &line["fields"]["status"]),
        (&"ERROR".into(), &503.into())
    );
    assert!(
        has(&line, "upload_id", &id) && line["fields"]["error"].is_string(),
        "{line}"
    );
}

/// Libraries write whole requests at this level.
#[tokio::test]
async fn details_are_written_on_demand_and_have_no_secrets() {
    let apps = apps().await;
    let logs = Logs::default();
    let _logging = logs.begin(LevelFilter::DEBUG);
    apps.upload("alice", "/a", b"one").await;
    let lines = logs.take();
    let details: Vec<_> = lines.iter().filter(|line| line["level"] == "DEBUG").collect();
    let committed = |line: &&&Value| {
        let message = line["fields"]["message"].as_str();
        message.is_some_and(|text| text.starts_with("committed event"))
    };
    assert_eq!(details.iter().filter(committed).count(), 1, "{details:#?}");
    let all = Value::from(lines).to_string();
    for secret in [
        "X-Amz-Signature",
        "AWS4-HMAC-SHA256",
        "Authorization",
        "postgresql://",
    ] {
        assert!(!all.to_lowercase().contains(&secret.to_lowercase()), "{secret}");
    }
}
