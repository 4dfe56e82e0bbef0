//! One trace from the change to the post: through the queue, and again when something is carried over.

use std::net::UdpSocket;
use std::time::Duration;

use edge::trace::{Tracer, within};
use serde_json::{Value, json};
use tests::Apps;
use tokio::time::{Instant, timeout};

const SENDER: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
const RECEIVER: &str = "Root=1-67891233-abcdef012345678912345678;Parent=463ac35c9f6413ad;Sampled=1";

#[tokio::test]
async fn a_changes_message_goes_on_with_the_trace_of_who_made_it() {
    let apps = Apps::create().await;
    within(
        Some(SENDER.to_owned()),
        Box::pin(apps.upload("alice", "/a", b"one")),
    )
    .await;
    assert_eq!(apps.queue.traces().await, [SENDER]);
}

#[tokio::test]
async fn what_a_failed_send_left_goes_on_with_the_relays_trace() {
    let apps = Apps::create().await;
    apps.upload("alice", "/a", b"one").await;
    apps.queue.drain().await;
    apps.database
        .execute("INSERT INTO outbox SELECT event_id, occurred_at, occurred_at FROM changes")
        .await;
    let relay = apps.relay_events().await;
    let stop = Instant::now() + Duration::from_secs(30);
    let run = within(Some(RECEIVER.to_owned()), relay_events::handle(&relay, stop)).await;
    run.unwrap();
    assert_eq!(apps.queue.traces().await, [RECEIVER]);
}

#[tokio::test]
async fn posting_is_recorded_and_what_is_carried_over_goes_on_with_the_trace() {
    let apps = Apps::create().await;
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
    let mut app = apps.fan_out().await;
    app.tracer = Tracer::new(Some(daemon.local_addr().unwrap()));
    let batch = serde_json::from_value(json!({ "Records": [record] })).unwrap();
    let stop = Instant::now() + Duration::from_secs(20);
    within(
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
        "1 of 2 connections were told"
    );

    // It is hidden for a second.
    let waiting = async {
        loop {
            let traces = apps.queue.traces().await;
            if !traces.is_empty() {
                return traces;
            }
        }
    };
    let traces = timeout(Duration::from_secs(20), waiting).await;
    assert_eq!(traces.unwrap(), [RECEIVER]);
}
