//! The command while the service's database is restored from a backup, against the deployed stack. These
//! tests have their own executable, because the restore deletes the data of other tests.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's failure is a panic"
)]

#[expect(dead_code, reason = "the other tests use more of it")]
mod support;

use std::fs;

use serde_json::{Value, json};
use tests::{invoke, stack};
use tokio_postgres::{Client, NoTls};

use support::{Person, files_in, owned};

/// A copy of the deployed database that can replace it. As in a restore on RDS, all connections end.
struct Backup {
    admin: Client,
    name: String,
}

const COPY: &str = "restored";

impl Backup {
    async fn take() -> Self {
        let (server, database) = stack().database_url.rsplit_once('/').unwrap();
        let name = database.split('?').next().unwrap().to_owned();
        let url = format!("{server}/template1?sslmode=disable");
        let (admin, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        let backup = Self { admin, name };
        let name = &backup.name;
        backup.close().await;
        backup.run(&format!("DROP DATABASE IF EXISTS {COPY}")).await;
        backup
            .run(&format!("CREATE DATABASE {COPY} TEMPLATE {name}"))
            .await;
        backup
            .run(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
            .await;
        backup
    }

    async fn restore(self) {
        let name = &self.name;
        self.close().await;
        self.run(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        self.run(&format!("ALTER DATABASE {COPY} RENAME TO {name}")).await;
    }

    async fn close(&self) {
        let name = &self.name;
        self.run(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
            .await;
        let ended = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE datname = $1";
        self.admin.query_one(ended, &[name]).await.unwrap();
    }

    async fn run(&self, statement: &str) {
        self.admin.batch_execute(statement).await.unwrap();
    }
}

/// A user with files from before the backup, and with later changes that the restore loses: a new file, a new
/// version and a move.
async fn mirror_and_backup() -> (Person, Backup) {
    let alice = Person::new().await;
    alice.write("up/a", b"first");
    alice.write("up/moved", b"moves");
    alice.write("up/same", b"same");
    alice.json(&["upload", "up/."]).await;
    let backup = Backup::take().await;
    alice.write("up/a", b"second");
    alice.write("up/b", b"only here");
    alice.json(&["upload", "up/a", "up/b"]).await;
    alice.json(&["mv", "/moved", "/elsewhere"]).await;
    (alice, backup)
}

const AFTER: [(&str, &str); 6] = [
    ("a", "first"),
    ("a (kept 1)", "second"),
    ("b", "only here"),
    ("elsewhere", "moves"),
    ("moved", "moves"),
    ("same", "same"),
];

#[tokio::test]
async fn a_restored_database_deletes_nothing_in_a_synced_folder() {
    stopped_while_the_service_went_back().await;
    stopped_until_the_service_had_as_many_changes_again().await;
    running_while_the_service_went_back().await;
    everything_notices_a_new_epoch().await;
    both_directions_bring_back_what_the_service_lost().await;
}

fn count_of(kind: &str, lines: &[Value]) -> usize {
    lines.iter().filter(|it| it["type"] == kind).count()
}

async fn stopped_while_the_service_went_back() {
    let (alice, backup) = mirror_and_backup().await;
    alice.json(&["sync", "--down", "down", "--once"]).await;
    backup.restore().await;
    let lines = alice.json(&["sync", "--down", "down", "--once"]).await;
    assert_eq!(files_in(&alice.path("down")), owned(&AFTER));
    let reported = ["cursorReset", "left", "kept"].map(|kind| count_of(kind, &lines));
    assert_eq!(reported, [1, 2, 1], "{lines:?}");
    // From now on the files are the owner's and never deleted, whatever changes follow.
    alice.json(&["sync", "--down", "down", "--once"]).await;
    alice.json(&["upload", "down/b"]).await;
    alice.json(&["sync", "--down", "down", "--once"]).await;
    alice.json(&["rm", "/b"]).await;
    alice.json(&["sync", "--down", "down", "--once"]).await;
    assert_eq!(files_in(&alice.path("down")), owned(&AFTER));
}

/// Then the number of the last change does not reveal the restore.
async fn stopped_until_the_service_had_as_many_changes_again() {
    let (alice, backup) = mirror_and_backup().await;
    alice.json(&["sync", "--down", "down", "--once"]).await;
    backup.restore().await;
    for _ in 0..2 {
        for name in ["x", "y"] {
            alice.write(name, name.as_bytes());
            alice.json(&["upload", name]).await;
            alice.json(&["rm", &format!("/{name}")]).await;
        }
    }
    alice.json(&["sync", "--down", "down", "--once"]).await;
    assert_eq!(files_in(&alice.path("down")), owned(&AFTER));
}

/// A running sync that survives the restore receives only changes with higher numbers than it knows.
async fn running_while_the_service_went_back() {
    let alice = Person::new().await;
    alice.write("up/a", b"first");
    alice.write("up/moved", b"moves");
    alice.write("up/same", b"same");
    alice.json(&["upload", "up/."]).await;
    let mut sync = alice.start(&["sync", "--down", "down"]);
    sync.next("current").await;
    let backup = Backup::take().await;
    alice.write("up/a", b"second");
    alice.write("up/b", b"only here");
    alice.json(&["upload", "up/a"]).await;
    sync.next("placed").await;
    alice.json(&["upload", "up/b"]).await;
    sync.next("placed").await;
    alice.json(&["mv", "/moved", "/elsewhere"]).await;
    sync.next("placed").await;
    backup.restore().await;
    let later = ["x1", "x2", "x3", "x4", "x5"];
    for name in later {
        alice.write(name, name.as_bytes());
        alice.json(&["upload", name]).await;
    }
    alice.json(&["mv", "/same", "/there"]).await;
    sync.next("cursorReset").await;
    sync.next("current").await;
    // The file that was moved in the lost period is also at its old path.
    let more = later.map(|name| (name, name));
    let wanted = [&AFTER[..], &[("there", "same")], &more].concat();
    assert_eq!(files_in(&alice.path("down")), owned(&wanted));
}

/// As an operator does it: another epoch begins before clients reach the restored database. When they do, it
/// has got further than before.
async fn everything_notices_a_new_epoch() {
    let alice = Person::new().await;
    alice.write("up/a", b"first");
    alice.write("up/moved", b"moves");
    alice.write("up/same", b"same");
    alice.json(&["upload", "up/."]).await;
    let mut sync = alice.start(&["sync", "--down", "down"]);
    sync.next("current").await;
    let mut watch = alice.start(&["watch"]);
    watch.next("live").await;
    let backup = Backup::take().await;
    alice.write("up/a", b"second");
    alice.write("up/b", b"only here");
    alice.json(&["upload", "up/a"]).await;
    sync.next("placed").await;
    alice.json(&["upload", "up/b"]).await;
    sync.next("placed").await;
    alice.json(&["mv", "/moved", "/elsewhere"]).await;
    sync.next("placed").await;
    sync.next("current").await;
    alice.json(&["sync", "--down", "stopped", "--once"]).await;
    backup.restore().await;
    invoke("Administer", &json!({ "action": "beginEpoch" })).await;
    let later = ["x1", "x2", "x3", "x4", "x5"];
    for name in later {
        alice.write(name, name.as_bytes());
        alice.json(&["upload", name]).await;
    }
    let more = later.map(|name| (name, name));
    let wanted = owned(&[&AFTER[..], &more].concat());

    let lines = sync.until("current").await;
    assert_eq!(count_of("cursorReset", &lines), 1, "{lines:?}");
    assert_eq!(count_of("removed", &lines), 0, "{lines:?}");
    watch.next("cursorReset").await;
    watch.next("live").await;
    // In the new epoch, deletions are applied as before.
    alice.json(&["upload", "x1", "--to", "/z"]).await;
    while sync.next("placed").await["path"] != "/z" {}
    sync.next("current").await;
    alice.json(&["rm", "/z"]).await;
    sync.next("current").await;
    assert_eq!(files_in(&alice.path("down")), wanted);
    let lines = alice.json(&["sync", "--down", "stopped", "--once"]).await;
    let reported = ["cursorReset", "left", "kept", "removed"].map(|kind| count_of(kind, &lines));
    assert_eq!(reported, [1, 2, 1, 0], "{lines:?}");
    assert_eq!(files_in(&alice.path("stopped")), wanted);
    // It reports that once.
    assert_eq!(resets_of_the_stopped_sync(&alice).await, 0);
    // In a state of an earlier release there is no epoch.
    let state = alice.path("stopped/.syncsphere/state.json");
    let mut saved: Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    assert!(saved.as_object_mut().unwrap().remove("epoch").is_some());
    fs::write(&state, saved.to_string()).unwrap();
    assert_eq!(resets_of_the_stopped_sync(&alice).await, 0);
    // The history may look the same in another epoch, and yet be another one.
    invoke("Administer", &json!({ "action": "beginEpoch" })).await;
    assert_eq!(resets_of_the_stopped_sync(&alice).await, 1);
    assert_eq!(files_in(&alice.path("stopped")), wanted);
    alice.json(&["upload", "x1", "--to", "/zz"]).await;
    let lines = sync.until("current").await;
    assert_eq!(count_of("cursorReset", &lines), 1, "{lines:?}");
    assert_eq!(
        files_in(&alice.path("down")),
        [wanted, owned(&[("zz", "x1")])].concat()
    );
}

async fn resets_of_the_stopped_sync(alice: &Person) -> usize {
    count_of(
        "cursorReset",
        &alice.json(&["sync", "--down", "stopped", "--once"]).await,
    )
}

/// What a folder that is synced in both directions has beyond the restored service is sent again.
async fn both_directions_bring_back_what_the_service_lost() {
    let alice = Person::new().await;
    for (name, content) in [
        ("a", "first"),
        ("moved", "moves"),
        ("same", "same"),
        ("later", "deleted"),
    ] {
        alice.write(&format!("work/{name}"), content.as_bytes());
    }
    alice.json(&["sync", "work", "--once", "--yes"]).await;
    let mut running = alice.start(&["sync", "live"]);
    running.next("current").await;
    let backup = Backup::take().await;
    alice.write("work/a", b"second");
    alice.write("work/b", b"only here");
    fs::rename(alice.path("work/moved"), alice.path("work/elsewhere")).unwrap();
    alice.json(&["sync", "work", "--once"]).await;
    let before = files_in(&alice.path("work"));
    running.next("movedHere").await;
    running.next("current").await;
    backup.restore().await;
    invoke("Administer", &json!({ "action": "beginEpoch" })).await;
    alice.write("x", b"x");
    alice.json(&["upload", "x"]).await;
    running.next("restore").await;
    while running.next("placed").await["path"] != "/x" {}
    for _ in 0..2 {
        alice.json(&["sync", "work", "--once"]).await;
    }
    let wanted = [before, owned(&[("x", "x")])].concat();
    assert_eq!(files_in(&alice.path("work")), wanted);
    alice.json(&["sync", "new", "--once"]).await;
    assert_eq!(files_in(&alice.path("new")), wanted);
}
