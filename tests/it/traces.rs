//! One trace spans the change, the queue and the post, also after undelivered recipients are queued again.

use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use platform::trace::{Tracer, scope};
use serde_json::{Value, json};
use tests::TestContext;
use tokio::net::TcpListener;
use tokio::time::Instant;

const SENDER: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
const RECEIVER: &str = "Root=1-67891233-abcdef012345678912345678;Parent=463ac35c9f6413ad;Sampled=1";

type Traces = Arc<Mutex<Vec<String>>>;

/// Fake queue that records the trace header of each message. The emulator does not keep it for batches.
async fn recording_queue() -> (queue::Queue, Traces) {
    let traces = Traces::default();
    let take = async |State(traces): State<Traces>, body: Bytes| {
        let request: Value = serde_json::from_slice(&body).unwrap();
        // A single message uses `SendMessage` instead of a batch.
        let single = request["MessageBody"].is_string();
        let entries = if single {
            vec![request]
        } else {
            request["Entries"].as_array().cloned().unwrap_or_default()
        };
        let trace = |entry: &Value| {
            let attribute = &entry["MessageSystemAttributes"]["AWSTraceHeader"];
            attribute["StringValue"].as_str().map(str::to_owned)
        };
        traces.lock().unwrap().extend(entries.iter().filter_map(trace));
        let taken = entries
            .iter()
            .map(|entry| json!({ "Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "" }));
        if single {
            return Json(json!({ "MessageId": "m", "MD5OfMessageBody": "" }));
        }
        Json(json!({ "Successful": taken.collect::<Vec<_>>(), "Failed": [] }))
    };
    let app = Router::new()
        .route("/", post(take))
        .with_state(Arc::clone(&traces));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });
    let config = aws_sdk_sqs::config::Builder::from(&tests::aws()).endpoint_url(endpoint);
    (queue::Queue::new(config, "recording"), traces)
}

#[tokio::test]
async fn a_changes_message_goes_on_with_the_trace_of_who_made_it() {
    let apps = TestContext::create().await;
    let created = apps.put("alice", "/a", b"one").await;
    let (queue, traces) = recording_queue().await;
    let mut app = apps.complete_upload();
    app.queue = queue;
    let id = created.upload_id.to_string();
    let completing = Box::pin(apps.complete_in(&app, "alice", &id));
    let completed = scope(Some(SENDER.to_owned()), completing).await;
    assert_eq!(completed.status, 200);
    assert_eq!(*traces.lock().unwrap(), [SENDER]);
}

#[tokio::test]
async fn what_a_failed_send_left_goes_on_with_the_relays_trace() {
    let apps = TestContext::create().await;
    apps.upload("alice", "/a", b"one").await;
    apps.queue.drain().await;
    apps.database
        .execute("INSERT INTO outbox SELECT event_id, occurred_at, occurred_at FROM changes")
        .await;
    let (queue, traces) = recording_queue().await;
    let mut relay = apps.maintenance();
    relay.queue = queue;
    let stop = Instant::now() + Duration::from_secs(30);
    // The fake returns no dead letters, so redriving fails.
    let _ = scope(Some(RECEIVER.to_owned()), maintenance::handle(&relay, stop)).await;
    assert_eq!(*traces.lock().unwrap(), [RECEIVER]);
}

#[tokio::test]
async fn posting_is_recorded_and_what_is_carried_over_goes_on_with_the_trace() {
    let apps = TestContext::create().await;
    apps.connected("alice", "heard").await;
    apps.connected("alice", "away").await;
    apps.gateway.answer("away", 500);
    apps.upload("alice", "/a", b"one").await;
    let body = apps.queue.drain().await.remove(0);
    let mut record = apps.queue.record(&body).await;
    apps.queue.drain().await;
    record["attributes"]["AWSTraceHeader"] = json!(SENDER);

    let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
    daemon.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (queue, traces) = recording_queue().await;
    let mut app = apps.fan_out();
    app.queue = queue;
    app.tracer = Tracer::new(Some(daemon.local_addr().unwrap()));
    let batch = serde_json::from_value(json!({ "Records": [record] })).unwrap();
    let stop = Instant::now() + Duration::from_secs(20);
    scope(
        Some(RECEIVER.to_owned()),
        Box::pin(fan_out::handle(&app, batch, stop)),
    )
    .await;

    let mut buffer = [0; 2_000];
    let length = daemon.recv(&mut buffer).unwrap();
    let (_, document) = std::str::from_utf8(&buffer[..length])
        .unwrap()
        .split_once('\n')
        .unwrap();
    let document: Value = serde_json::from_str(document).unwrap();
    assert_eq!(document["name"], "@connections");
    assert!(RECEIVER.contains(document["trace_id"].as_str().unwrap()));
    assert_eq!(
        document["metadata"]["default"]["outcome"],
        "1 of 2 connections were notified"
    );

    assert_eq!(*traces.lock().unwrap(), [RECEIVER]);
}
