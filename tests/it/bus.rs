//! Events on an EventBridge bus, for other services.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration as StdDuration;

use aws_sdk_eventbridge::config::Builder;
use aws_sdk_eventbridge::types::Target;
use bus::Bus;
use fakes::eventbridge::{Behaviour, Entry, EventBridge};
use fakes::http::Fault;
use maintenance::{App, Report, Unfinished};
use model::{EventId, InvitationView};
use serde_json::{Value, json};
use tests::{Call, Contract, Counted, Proxy, TestContext, TestQueue, invoke, new_user, sample};
use time::Duration;
use tokio::time::Instant;

/// The name of the bus in requests to the fake.
const NAME: &str = "files/changes";

/// A bus that shows one fault at each request, and then none.
#[derive(Clone, Default)]
struct Faults(Arc<Mutex<VecDeque<Fault>>>);

impl Faults {
    fn of(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self(Arc::new(Mutex::new(faults.into_iter().collect())))
    }
}

impl Behaviour for Faults {
    fn fault(&self) -> Fault {
        self.0.lock().unwrap().pop_front().unwrap_or_default()
    }
}

/// A bus that answers some entries by an error, chosen by their detail, until it is repaired.
#[derive(Clone)]
struct Refusing {
    codes: Arc<Mutex<Vec<(&'static str, &'static str)>>>,
}

impl Refusing {
    fn of(codes: &[(&'static str, &'static str)]) -> Self {
        Self {
            codes: Arc::new(Mutex::new(codes.to_vec())),
        }
    }

    fn repair(&self) {
        self.codes.lock().unwrap().clear();
    }
}

impl Behaviour for Refusing {
    fn refuses(&self, entry: &Entry) -> Option<&'static str> {
        let codes = self.codes.lock().unwrap();
        let (_, code) = codes.iter().find(|(part, _)| entry.detail.contains(part))?;
        Some(code)
    }
}

/// New functions on a stack with an event bus, and a fake of the bus.
async fn with_bus(behaviour: impl Behaviour) -> (TestContext, EventBridge) {
    let apps = TestContext::create().await;
    db::set_bus(&apps.database.owner(), true).await.unwrap();
    (apps, EventBridge::start(behaviour).await.unwrap())
}

/// New execution environment of `maintenance` with the bus.
fn maintenance(apps: &TestContext, bus: &EventBridge) -> App {
    let config = Builder::from(&tests::aws()).endpoint_url(bus.server.url("127.0.0.1"));
    let mut app = apps.maintenance();
    app.bus = Some(Bus::new(config, NAME));
    app
}

async fn run(app: &App) -> Result<Report, Unfinished> {
    maintenance::handle(app, Instant::now() + StdDuration::from_secs(30)).await
}

/// Number of events that wait for the bus.
async fn waiting(apps: &TestContext) -> i64 {
    apps.database.number("SELECT count(*) FROM bus_outbox").await
}

fn details(entries: &[Entry]) -> Vec<Value> {
    let details = entries.iter().map(|entry| &entry.detail);
    details
        .map(|detail| serde_json::from_str(detail).unwrap())
        .collect()
}

fn ids(entries: &[Entry]) -> BTreeSet<EventId> {
    let ids = details(entries).into_iter();
    ids.map(|detail| serde_json::from_value(detail["eventId"].clone()).unwrap())
        .collect()
}

/// Adds changes to alice's space, which has one, and makes all of them wait for the bus alone.
async fn many(apps: &TestContext, changes: i64) {
    apps.upload("alice", "/0", b"1").await;
    let more = format!(
        "INSERT INTO changes
            SELECT space_id, 1 + i, gen_random_uuid(), event_type, user_id, device_id, file_id, path, version, size, sha256,
                subject_space_id, subject_role, occurred_at
            FROM changes, generate_series(1, {changes} - 1) i;
        UPDATE spaces SET last_sequence = {changes};
        INSERT INTO bus_outbox SELECT event_id, occurred_at, occurred_at FROM changes ON CONFLICT DO NOTHING"
    );
    apps.database.execute(&more).await;
}

/// The event as a rule's target gets it (Amazon EventBridge User Guide, "Events").
fn delivered(entry: &Entry) -> Value {
    json!({
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": entry.detail_type,
        "source": entry.source,
        "account": "123456789012",
        "time": "2026-01-02T03:04:05Z",
        "region": "eu-central-1",
        "resources": [],
        "detail": serde_json::from_str::<Value>(&entry.detail).unwrap(),
    })
}

#[tokio::test]
async fn without_a_bus_nothing_waits_for_one() {
    let apps = TestContext::create().await;
    apps.upload("alice", "/a", b"1").await;
    assert_eq!(waiting(&apps).await, 0);
    assert_eq!(apps.run_maintenance().await.unwrap(), Report::default());
}

#[tokio::test]
async fn a_change_is_put_on_the_bus_once_and_also_in_the_queue() {
    let (apps, bus) = with_bus(()).await;
    let created = apps.put("alice", "/a", b"one").await;
    let completed = apps.complete("alice", &created).await;
    // The repetition finds the same change and makes no other event.
    assert_eq!(apps.complete("alice", &created).await.body, completed.body);
    apps.upload("bob", "/b", b"two").await;
    let queued = apps.queue.events().await;
    let counted = Counted::default();
    let _counting = counted.begin();
    let app = maintenance(&apps, &bus);
    assert_eq!(run(&app).await.unwrap().put_on_bus, 2);
    let entries = bus.take();
    assert_eq!(entries.len(), 2);
    assert_eq!(ids(&entries), queued.iter().map(|event| event.event_id).collect());
    for (name, value) in [
        ("EventsPutOnBus", 2),
        ("OldestBusEventAge", 0),
        ("EventsWaiting", 0),
    ] {
        assert_eq!(counted.take(name), Some(value), "{name}");
    }
    assert_eq!(run(&app).await.unwrap(), Report::default());
    assert_eq!((bus.take().len(), waiting(&apps).await), (0, 0));
}

#[tokio::test]
async fn an_event_that_is_put_into_the_outbox_again_waits_for_the_bus_once() {
    let (apps, _bus) = with_bus(()).await;
    apps.upload("alice", "/a", b"1").await;
    let again = "INSERT INTO outbox SELECT event_id, now(), now() FROM changes";
    apps.database.execute(again).await;
    assert_eq!(apps.database.number("SELECT count(*) FROM outbox").await, 1);
    assert_eq!(waiting(&apps).await, 1);
}

/// One change of every type, made by the API, compared with the feeds and with `docs/asyncapi.yaml`.
#[tokio::test]
async fn every_type_of_change_arrives_as_described() {
    let (apps, bus) = with_bus(()).await;
    let done = async |user: &str, call: Call| {
        let answer = apps.call(user, call).await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
        answer
    };
    let file = apps.upload("alice", "/a", b"1").await.file_id;
    let of_file = |route| Call::new(route).path("fileId", file);
    done(
        "alice",
        of_file("PATCH /files/{fileId}").body(json!({ "path": "/ä" })),
    )
    .await;
    done("alice", of_file("DELETE /files/{fileId}")).await;
    let space = apps.space("alice").await;
    let of_space = |route| Call::new(route).path("spaceId", space);
    done(
        "alice",
        of_space("PATCH /spaces/{spaceId}").body(json!({ "name": "Team" })),
    )
    .await;
    apps.known("bob").await;
    let inviting =
        of_space("POST /spaces/{spaceId}/invitations").body(json!({ "userId": "bob", "role": "viewer" }));
    let invitation: InvitationView = done("alice", inviting).await.parsed();
    assert_eq!(apps.accept("bob", invitation.invitation_id).await.status, 200);
    assert_eq!(apps.unshare("alice", space, "bob").await.status, 204);
    done("alice", of_space("DELETE /spaces/{spaceId}")).await;
    done("alice", of_space("POST /spaces/{spaceId}/restore")).await;

    run(&maintenance(&apps, &bus)).await.unwrap();
    let entries = bus.take();
    let mut changes = Vec::new();
    for (user, space) in [("alice", None), ("alice", Some(space)), ("bob", None)] {
        changes.extend(apps.feed(user, space).await.changes);
    }
    let mut of_feeds: Vec<Value> = changes.iter().map(|change| json!(change)).collect();
    let mut of_bus = details(&entries);
    for list in [&mut of_feeds, &mut of_bus] {
        list.sort_by_key(|change| change["eventId"].to_string());
    }
    assert_eq!(of_bus, of_feeds);
    let mut types = BTreeSet::new();
    for entry in &entries {
        Contract::get().check_event(&delivered(entry));
        let detail: Value = serde_json::from_str(&entry.detail).unwrap();
        assert_eq!(detail["eventType"], entry.detail_type);
        assert_eq!(
            (entry.source.as_str(), entry.event_bus_name.as_str()),
            ("syncsphere", NAME)
        );
        #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
        let started = tests::START.unix_timestamp() as f64;
        assert_eq!(entry.time, Some(started));
        types.insert(entry.detail_type.clone());
    }
    assert_eq!(types, Contract::get().event_types());
}

#[test]
fn the_examples_of_the_documents_are_as_described() {
    let read = |path| std::fs::read_to_string(tests::project_file(path)).unwrap();
    let guide = read("docs/events.md");
    let (_, guide) = guide.split_once("```json\n").unwrap();
    let (guide, _) = guide.split_once("```").unwrap();
    let guide: Value = serde_json::from_str(guide).unwrap();
    Contract::get().check_event(&guide);
    let described: Value = serde_norway::from_str(&read("docs/asyncapi.yaml")).unwrap();
    assert_eq!(
        described["components"]["messages"]["event"]["examples"][0]["payload"],
        guide
    );
    // A description that allows anything would prove nothing.
    for (name, wrong) in [
        ("source", json!("other")),
        ("detail", json!({})),
        ("resources", json!(["a"])),
    ] {
        let mut event = guide.clone();
        event[name] = wrong;
        Contract::get().verify_event(&event).unwrap_err();
    }
}

/// The sender dies after the bus has taken the event, and before the row is deleted.
#[tokio::test]
async fn what_a_killed_run_had_put_on_the_bus_is_put_again() {
    let (apps, bus) = with_bus(()).await;
    apps.upload("alice", "/a", b"1").await;
    let app = maintenance(&apps, &bus);
    tokio::select! {
        biased;
        () = bus.taken() => {}
        outcome = run(&app) => panic!("it was not killed: {outcome:?}"),
    }
    assert_eq!((ids(&bus.take()).len(), waiting(&apps).await), (1, 1));
    // The lease of the killed run holds.
    assert_eq!(run(&maintenance(&apps, &bus)).await.unwrap().put_on_bus, 0);
    apps.clock.advance(Duration::seconds(30));
    assert_eq!(run(&maintenance(&apps, &bus)).await.unwrap().put_on_bus, 1);
    assert_eq!((ids(&bus.take()).len(), waiting(&apps).await), (1, 0));
}

#[tokio::test]
async fn an_event_whose_answer_is_lost_is_put_again() {
    // The SDK makes two attempts.
    let (apps, bus) = with_bus(Faults::of([Fault::AnswerLost; 2])).await;
    apps.upload("alice", "/a", b"1").await;
    let app = maintenance(&apps, &bus);
    run(&app).await.unwrap_err();
    assert_eq!(waiting(&apps).await, 1);
    assert_eq!(run(&app).await.unwrap().put_on_bus, 1);
    let entries = bus.take();
    assert_eq!(
        (entries.len(), ids(&entries).len(), waiting(&apps).await),
        (3, 1, 0)
    );
}

#[tokio::test]
async fn each_entry_is_kept_or_deleted_by_its_own_answer() {
    let refusing = Refusing::of(&[("/refused", "MalformedDetail"), ("/later", "ThrottlingException")]);
    let (apps, bus) = with_bus(refusing.clone()).await;
    for path in ["/a", "/refused", "/later", "/b"] {
        apps.upload("alice", path, b"1").await;
    }
    let app = maintenance(&apps, &bus);
    let unfinished = run(&app).await.unwrap_err().to_string();
    assert!(unfinished.contains("bus"), "{unfinished}");
    assert_eq!((bus.take().len(), waiting(&apps).await), (2, 2));
    refusing.repair();
    // The refused event keeps its lease.
    assert_eq!(run(&app).await.unwrap().put_on_bus, 1);
    assert!(bus.take()[0].detail.contains("/later"));
    apps.clock.advance(Duration::seconds(30));
    assert_eq!(run(&app).await.unwrap().put_on_bus, 1);
    assert!(bus.take()[0].detail.contains("/refused"));
    assert_eq!(waiting(&apps).await, 0);
}

/// Refused events stay first in line, and the run goes on behind them.
#[tokio::test]
async fn refused_events_keep_no_other_waiting() {
    let (apps, bus) = with_bus(Refusing::of(&[("/0", "MalformedDetail")])).await;
    many(&apps, 250).await;
    apps.clock.advance(Duration::minutes(1));
    apps.upload("alice", "/new", b"1").await;
    run(&maintenance(&apps, &bus)).await.unwrap_err();
    assert_eq!((bus.take().len(), waiting(&apps).await), (1, 250));
}

#[tokio::test]
async fn a_throttled_run_leaves_the_rest_to_the_next_one() {
    let throttled = Fault::Error(400, "ThrottlingException");
    let (apps, bus) = with_bus(Faults::of([throttled; 2])).await;
    apps.upload("alice", "/a", b"1").await;
    let app = maintenance(&apps, &bus);
    run(&app).await.unwrap_err();
    assert_eq!((bus.take().len(), waiting(&apps).await), (0, 1));
    // The clock does not advance: the lease was released.
    assert_eq!(run(&app).await.unwrap().put_on_bus, 1);
    assert_eq!((bus.take().len(), waiting(&apps).await), (1, 0));
}

#[tokio::test]
async fn a_bus_that_hangs_delays_neither_the_queue_nor_the_other_passes() {
    let (apps, bus) = with_bus(Faults::of([Fault::Hang; 100])).await;
    many(&apps, 250).await;
    apps.queue.drain().await;
    let unsent =
        "INSERT INTO outbox SELECT event_id, occurred_at, occurred_at FROM changes WHERE sequence = 1";
    apps.database
        .execute(&format!(
            "ALTER TABLE outbox DISABLE TRIGGER events_committed; {unsent}"
        ))
        .await;
    apps.ticket("alice").await;
    apps.clock.advance(Duration::minutes(10));
    let counted = Counted::default();
    let _counting = counted.begin();
    let started = Instant::now();
    run(&maintenance(&apps, &bus)).await.unwrap_err();
    // One timeout, of 2.5 s, whatever the number of events.
    assert!(
        started.elapsed() < maintenance::DEADLINE_MARGIN,
        "{:?}",
        started.elapsed()
    );
    assert_eq!(apps.queue.events().await.len(), 1);
    assert_eq!(apps.database.number("SELECT count(*) FROM tickets").await, 0);
    assert_eq!(waiting(&apps).await, 250);
    for (name, value) in [
        ("EventsPublished", Some(1)),
        ("OldestBusEventAge", Some(600)),
        ("EventsPutOnBus", None),
    ] {
        assert_eq!(counted.take(name), value, "{name}");
    }
}

/// The bus gets a change also while the queue is away.
#[tokio::test]
async fn the_bus_does_not_wait_for_the_queue() {
    let (apps, bus) = with_bus(()).await;
    apps.upload("alice", "/a", b"1").await;
    let mut app = maintenance(&apps, &bus);
    app.queue = app
        .queue
        .with_url(format!("{}-that-is-not-there", apps.queue.url));
    let unsent = "INSERT INTO outbox SELECT event_id, occurred_at, occurred_at FROM changes";
    apps.database
        .execute(&format!(
            "ALTER TABLE outbox DISABLE TRIGGER events_committed; {unsent}"
        ))
        .await;
    run(&app).await.unwrap_err();
    assert_eq!((bus.take().len(), waiting(&apps).await), (1, 0));
    assert_eq!(apps.database.number("SELECT count(*) FROM outbox").await, 1);
}

#[tokio::test]
async fn ten_thousand_events_are_put_by_one_run() {
    let (apps, bus) = with_bus(()).await;
    many(&apps, 10_000).await;
    let app = maintenance(&apps, &bus);
    let started = Instant::now();
    let deadline = started + StdDuration::from_mins(2);
    let report = maintenance::handle(&app, deadline).await.unwrap();
    tests::report(&format!("10,000 events on the bus after {:?}", started.elapsed()));
    assert_eq!(report.put_on_bus, 10_000);
    assert_eq!(bus.server.take_requests(), 1_000);
    let entries = bus.take();
    assert_eq!(
        (entries.len(), ids(&entries).len(), waiting(&apps).await),
        (10_000, 10_000, 0)
    );
}

#[tokio::test]
async fn two_runs_at_once_share_the_events() {
    let (apps, bus) = with_bus(()).await;
    many(&apps, 1_000).await;
    let (one, other) = (maintenance(&apps, &bus), maintenance(&apps, &bus));
    let (one, other) = tokio::join!(run(&one), run(&other));
    assert_eq!(one.unwrap().put_on_bus + other.unwrap().put_on_bus, 1_000);
    let entries = bus.take();
    assert_eq!(
        (entries.len(), ids(&entries).len(), waiting(&apps).await),
        (1_000, 1_000, 0)
    );
}

/// Another run is claiming half of the events and has not committed.
#[tokio::test]
async fn a_run_does_not_wait_for_one_that_is_claiming() {
    let (apps, bus) = with_bus(()).await;
    many(&apps, 100).await;
    let mut other = apps.database.another_client().await;
    let claiming = other.transaction().await.unwrap();
    let locked = "SELECT FROM bus_outbox ORDER BY leased_until LIMIT 50 FOR UPDATE";
    claiming.batch_execute(locked).await.unwrap();
    let app = maintenance(&apps, &bus);
    assert_eq!(run(&app).await.unwrap().put_on_bus, 50);
    claiming.rollback().await.unwrap();
    assert_eq!(run(&app).await.unwrap().put_on_bus, 50);
    assert_eq!((ids(&bus.take()).len(), waiting(&apps).await), (100, 0));
}

/// A path and a name of the largest size, of characters that take two bytes for each in JSON.
#[tokio::test]
async fn events_of_the_largest_size_fit_into_requests() {
    let (apps, bus) = with_bus(()).await;
    many(&apps, 100).await;
    let segment = r#"\""#.repeat(127);
    let path = format!("/{segment}").repeat(4);
    apps.database
        .execute(&format!("UPDATE changes SET path = '{path}'"))
        .await;
    assert_eq!(run(&maintenance(&apps, &bus)).await.unwrap().put_on_bus, 100);
    assert_eq!(details(&bus.take())[99]["path"], path);
}

/// The parameter is set while functions run: the schema first, then `maintenance`.
#[tokio::test]
async fn changes_that_are_made_while_the_bus_comes_or_goes_are_sent_or_dropped_as_a_whole() {
    let apps = TestContext::create().await;
    let bus = EventBridge::start(()).await.unwrap();
    let owner = apps.database.owner();
    apps.upload("alice", "/before", b"1").await;
    db::set_bus(&owner, true).await.unwrap();
    apps.upload("alice", "/during", b"1").await;
    // `maintenance` of the former deployment does not know of the bus.
    apps.run_maintenance().await.unwrap();
    assert_eq!(waiting(&apps).await, 1);
    assert_eq!(run(&maintenance(&apps, &bus)).await.unwrap().put_on_bus, 1);
    assert!(bus.take()[0].detail.contains("/during"));

    apps.upload("alice", "/last", b"1").await;
    db::set_bus(&owner, false).await.unwrap();
    apps.upload("alice", "/after", b"1").await;
    assert_eq!(waiting(&apps).await, 1);
    apps.run_maintenance().await.unwrap();
    assert_eq!(waiting(&apps).await, 0);
    assert_eq!(run(&maintenance(&apps, &bus)).await.unwrap(), Report::default());
}

#[tokio::test]
async fn what_an_earlier_bus_left_is_dropped_however_much_it_is() {
    let apps = TestContext::create().await;
    many(&apps, 10_000).await;
    apps.run_maintenance().await.unwrap();
    assert_eq!(waiting(&apps).await, 0);
}

/// A deleted space is purged when the bus has its changes, and the one without waiting changes at once.
#[tokio::test]
async fn no_change_is_purged_before_the_bus_has_it() {
    let (apps, bus) = with_bus(Refusing::of(&[("SPACE_DELETED", "MalformedDetail")])).await;
    let space = apps.space("alice").await;
    let deleting = Call::new("DELETE /spaces/{spaceId}").path("spaceId", space);
    assert_eq!(apps.call("alice", deleting).await.status, 204);
    apps.clock.advance(Duration::days(30) + db::PURGE_GRACE);
    let left = async || {
        let sql = format!("SELECT count(*) FROM spaces WHERE id = '{space}'");
        (apps.database.number(&sql).await, waiting(&apps).await)
    };
    run(&maintenance(&apps, &bus)).await.unwrap_err();
    assert_eq!(left().await, (1, 1));
    db::set_bus(&apps.database.owner(), false).await.unwrap();
    apps.run_maintenance().await.unwrap();
    assert_eq!(left().await, (0, 0));
}

/// On the deployed stack: a rule of another service sends what it wants to a queue.
#[tokio::test]
async fn a_rule_of_another_service_gets_the_changes_that_it_names() {
    let eventbridge = aws_sdk_eventbridge::Client::new(&tests::aws());
    let (queue, rule) = (
        TestQueue::create().await,
        format!("rule-{}", platform::ids::new_id()),
    );
    let (_, token) = new_user().await;
    let device = Proxy::start().await.device(token);
    let space_id = device.all_spaces().await.unwrap()[0].space_id;
    let pattern = json!({
        "source": ["syncsphere"],
        "detail-type": ["FILE_UPDATED"],
        "detail": { "spaceId": [space_id] },
    });
    let putting = eventbridge
        .put_rule()
        .name(&rule)
        .event_pattern(pattern.to_string());
    putting.send().await.unwrap();
    let target = Target::builder()
        .id("queue")
        .arn(queue.arn().await)
        .build()
        .unwrap();
    let targeting = eventbridge.put_targets().rule(&rule).targets(target);
    targeting.send().await.unwrap();

    let file = device
        .upload(None, "/a".parse().unwrap(), b"content".as_slice())
        .await
        .unwrap();
    device.delete_file(file.file_id, None, None).await.unwrap();
    invoke("Maintenance", &sample("maintenance.schedule")).await;
    let event: Value = serde_json::from_str(&queue.wait_for_one().await.unwrap()).unwrap();
    Contract::get().check_event(&event);
    assert_eq!(event["detail"]["eventId"], json!(file.event_id));
    assert_eq!(event["detail-type"], "FILE_UPDATED");
    let removing = eventbridge.remove_targets().rule(&rule).ids("queue");
    removing.send().await.unwrap();
    eventbridge.delete_rule().name(&rule).send().await.unwrap();
}
