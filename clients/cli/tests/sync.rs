//! Syncing folders in both directions, against the deployed stack.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's failure is a panic"
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use fastrand::Rng;
use serde_json::{Value, json};

use support::{Person, files_in, owned};

/// Two users who share a space.
async fn pair() -> (Person, Person) {
    let (alice, bob) = (Person::new().await, Person::new().await);
    alice.json(&["spaces", "create", "Team"]).await;
    alice.shares("Team", &bob).await;
    (alice, bob)
}

/// Syncs the folder `work` once, and returns its output.
async fn once(person: &Person) -> Vec<Value> {
    person
        .json(&["sync", "work", "--space", "Team", "--once", "--yes"])
        .await
}

/// The types and paths of the output.
fn told(values: &[Value]) -> Vec<(&str, &str)> {
    let values = values.iter().map(|value| {
        let text = |name: &str| value[name].as_str().unwrap_or_default();
        (text("type"), text("path"))
    });
    values.filter(|(kind, _)| *kind != "current").collect()
}

fn work(person: &Person) -> Vec<(String, String)> {
    files_in(&person.path("work"))
}

#[tokio::test]
async fn two_folders_become_equal() {
    let (alice, bob) = pair().await;
    alice.write("work/a", b"alice's");
    alice.write("work/folder/same", b"same");
    alice.write("work/empty", b"");
    bob.write("work/b", b"bob's");
    bob.write("work/folder/same", b"same");
    once(&alice).await;
    // What is equal is not sent again.
    let first = once(&bob).await;
    let mut first = told(&first);
    first.sort_unstable();
    assert_eq!(first, [("placed", "/a"), ("placed", "/empty"), ("sent", "/b")]);
    once(&alice).await;
    let all = owned(&[
        ("a", "alice's"),
        ("b", "bob's"),
        ("empty", ""),
        ("folder/same", "same"),
    ]);
    assert_eq!((work(&alice), work(&bob)), (all.clone(), all));
    assert_eq!(told(&once(&alice).await), []);

    // An edit, a move, a moved folder and a deletion, on each side.
    alice.write("work/a", b"edited");
    fs::rename(alice.path("work/folder"), alice.path("work/renamed")).unwrap();
    fs::rename(bob.path("work/b"), bob.path("work/moved")).unwrap();
    fs::remove_file(bob.path("work/empty")).unwrap();
    let first = once(&bob).await;
    let mut first = told(&first);
    first.sort_unstable();
    assert_eq!(first, [("deleted", "/empty"), ("movedThere", "/moved")]);
    once(&alice).await;
    let second = once(&bob).await;
    assert!(
        told(&second).contains(&("movedHere", "/renamed/same")),
        "{second:?}"
    );
    let all = owned(&[("a", "edited"), ("moved", "bob's"), ("renamed/same", "same")]);
    assert_eq!((work(&alice), work(&bob)), (all.clone(), all));
    assert!(!bob.path("work/folder").exists() && !alice.path("work/folder").exists());
    // What was deleted elsewhere is in the trash.
    let trash = fs::read_dir(alice.path("work/.syncsphere/trash")).unwrap();
    assert_eq!(trash.count(), 1);
}

#[tokio::test]
async fn changes_arrive_while_both_run() {
    let (alice, bob) = pair().await;
    fs::create_dir_all(alice.path("work")).unwrap();
    let mut first = alice.start(&["sync", "work", "--space", "Team"]);
    first.next("current").await;
    let mut second = bob.start(&["sync", "work", "--space", "Team"]);
    second.next("current").await;

    alice.write("work/new/folder/file", b"one");
    assert_eq!(second.next("placed").await["path"], "/new/folder/file");
    bob.write("work/new/folder/file", b"two");
    assert_eq!(first.next("placed").await["version"], 2);
    fs::rename(alice.path("work/new"), alice.path("work/renamed")).unwrap();
    assert_eq!(second.next("movedHere").await["path"], "/renamed/folder/file");
    fs::remove_dir_all(bob.path("work/renamed")).unwrap();
    assert_eq!(first.next("trashed").await["path"], "/renamed/folder/file");
    assert_eq!((work(&alice), work(&bob)), (vec![], vec![]));

    // A second sync of a folder is refused; the running one can be asked.
    alice.fails(5, &["sync", "work", "--space", "Team"]).await;
    let status = alice.json(&["sync", "status", "work"]).await;
    assert_eq!(status[0]["running"], true);
    alice.json(&["sync", "pause", "work"]).await;
    bob.write("work/later", b"later");
    second.next("sent").await;
    assert_eq!(alice.json(&["sync", "status", "work"]).await[0]["paused"], true);
    assert_eq!(work(&alice), []);
    alice.json(&["sync", "resume", "work"]).await;
    assert_eq!(first.next("placed").await["path"], "/later");
}

#[tokio::test]
async fn both_edits_of_a_file_are_kept() {
    let (alice, bob) = pair().await;
    alice.write("work/report.pdf", b"original");
    once(&alice).await;
    once(&bob).await;
    alice.write("work/report.pdf", b"of alice");
    bob.write("work/report.pdf", b"bob's edit");
    once(&alice).await;
    let conflict = once(&bob).await;
    let conflict = conflict.iter().find(|value| value["type"] == "conflict").unwrap();
    let copy = conflict["copy"].as_str().unwrap();
    assert!(
        copy.starts_with("/report (conflict ") && copy.ends_with(").pdf"),
        "{copy}"
    );
    once(&alice).await;
    let all = owned(&[(&copy[1..], "bob's edit"), ("report.pdf", "of alice")]);
    assert_eq!((work(&alice), work(&bob)), (all.clone(), all));
    let listed = bob.json(&["sync", "conflicts", "work"]).await;
    assert_eq!(
        (&listed[0]["path"], &listed[0]["copy"]),
        (&json!("/report.pdf"), &json!(copy))
    );

    // An edit goes before a deletion, on both sides.
    alice.write("work/report.pdf", b"edited");
    fs::remove_file(bob.path("work/report.pdf")).unwrap();
    once(&alice).await;
    once(&bob).await;
    assert_eq!(fs::read(bob.path("work/report.pdf")).unwrap(), b"edited");
    alice.write("work/report.pdf", b"edited again");
    fs::remove_file(bob.path("work/report.pdf")).unwrap();
    once(&bob).await;
    once(&alice).await;
    once(&bob).await;
    assert_eq!(work(&alice), work(&bob));
    assert_eq!(fs::read(bob.path("work/report.pdf")).unwrap(), b"edited again");
}

#[tokio::test]
async fn the_first_sync_of_a_folder_with_files_is_confirmed() {
    let (alice, bob) = pair().await;
    alice.write("work/file", b"content");
    let asked = alice
        .fails(1, &["sync", "work", "--space", "Team", "--once"])
        .await;
    assert!(
        asked.contains("will be merged") && asked.contains("--yes"),
        "{asked}"
    );
    once(&bob).await;
    assert_eq!(work(&bob), []);
    // It is asked once.
    once(&alice).await;
    alice.json(&["sync", "work", "--space", "Team", "--once"]).await;
    // Another space is refused.
    alice.fails(5, &["sync", "work", "--once"]).await;
    alice
        .fails(5, &["sync", "--down", "work", "--space", "Team", "--once"])
        .await;
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let (alice, bob) = pair().await;
    alice.write("work/a", b"a");
    once(&alice).await;
    bob.write("work/b", b"b");
    let dry = ["sync", "work", "--space", "Team", "--dry-run"];
    let planned = bob.json(&dry).await;
    let mut planned = told(&planned);
    planned.sort_unstable();
    assert_eq!(planned, [("download", "/a"), ("upload", "/b")]);
    assert_eq!(work(&bob), owned(&[("b", "b")]));
    once(&alice).await;
    assert_eq!(work(&alice), owned(&[("a", "a")]));
    once(&bob).await;
    assert_eq!(bob.json(&dry).await, [] as [Value; 0]);
}

/// A sync that is killed at any point goes on at the next start.
#[tokio::test]
async fn a_killed_sync_goes_on() {
    let (alice, bob) = pair().await;
    let mut random = Rng::with_seed(1);
    for round in 0..4 {
        for number in 0..12 {
            let name = format!("work/{}/{number}", number % 3);
            alice.write(&name, format!("alice {round} {number}").as_bytes());
            let name = format!("work/{}/{number}", number % 3 + 3);
            bob.write(&name, format!("bob {round} {number}").as_bytes());
        }
        for person in [&alice, &bob] {
            for _ in 0..6 {
                let arguments = ["sync", "work", "--space", "Team", "--yes"];
                let mut sync = person.start(&arguments);
                for _ in 0..random.usize(1..8) {
                    if sync.line().await["type"] == "current" {
                        break;
                    }
                }
                sync.child.kill().await.unwrap();
            }
        }
        for person in [&alice, &bob, &alice] {
            once(person).await;
        }
        assert_eq!(work(&alice), work(&bob));
        assert_eq!(work(&alice).len(), 24);
        assert!(
            work(&alice)
                .iter()
                .all(|(_, content)| content.split(' ').nth(1) == Some(&round.to_string()))
        );
        assert_eq!(alice.json(&["sync", "conflicts", "work"]).await, [] as [Value; 0]);
    }
}

#[tokio::test]
async fn many_deletions_wait_for_the_user() {
    let (alice, bob) = pair().await;
    for number in 0..4 {
        alice.write(&format!("work/{number}"), number.to_string().as_bytes());
    }
    once(&alice).await;
    once(&bob).await;
    let before = work(&alice);
    for (name, _) in &before {
        fs::remove_file(bob.path("work").join(name)).unwrap();
    }
    let careful = ["sync", "work", "--space", "Team", "--once", "--max-delete", "2"];
    let message = bob.fails(8, &careful).await;
    assert!(message.contains("4 paths wait for you"), "{message}");
    once(&alice).await;
    assert_eq!(work(&alice), before);

    // The running sync brings them back.
    let mut running = bob.start(&["sync", "work", "--space", "Team", "--max-delete", "2"]);
    assert_eq!(running.next("deletionsHeld").await["there"], 4);
    for _ in 0..4 {
        running.next("held").await;
    }
    assert_eq!(bob.json(&["sync", "held", "work"]).await.len(), 4);
    bob.json(&["sync", "undo", "work"]).await;
    for _ in 0..4 {
        running.next("placed").await;
    }
    assert_eq!(work(&bob), before);

    // Or makes them.
    for (name, _) in &before {
        fs::remove_file(bob.path("work").join(name)).unwrap();
    }
    running.next("deletionsHeld").await;
    for _ in 0..4 {
        running.next("held").await;
    }
    bob.json(&["sync", "confirm", "work"]).await;
    for _ in 0..4 {
        running.next("deleted").await;
    }
    once(&alice).await;
    assert_eq!(work(&alice), []);
}

#[tokio::test]
async fn changes_of_a_viewer_are_held() {
    let (alice, bob) = (Person::new().await, Person::new().await);
    alice.json(&["spaces", "create", "Team"]).await;
    bob.json(&["spaces"]).await;
    alice
        .json(&["share", "Team", &bob.user_id, "--role", "viewer"])
        .await;
    bob.json(&["invitations", "accept", "Team"]).await;
    alice.write("work/a", b"a");
    alice.write("work/b", b"b");
    once(&alice).await;
    once(&bob).await;
    bob.write("work/a", b"of the viewer");
    fs::remove_file(bob.path("work/b")).unwrap();
    bob.write("work/c", b"new");
    let message = bob.fails(8, &["sync", "work", "--space", "Team", "--once"]).await;
    assert!(message.contains("3 paths wait for you"), "{message}");
    let own = owned(&[("a", "of the viewer"), ("c", "new")]);
    assert_eq!(work(&bob), own);
    once(&alice).await;
    assert_eq!(work(&alice), owned(&[("a", "a"), ("b", "b")]));
}

/// An empty folder in the place of the synced one, as when a disk is not mounted.
#[tokio::test]
async fn nothing_is_deleted_when_the_folder_is_another_one() {
    let (alice, bob) = pair().await;
    alice.write("work/a", b"a");
    once(&alice).await;
    fs::remove_file(alice.path("work/a")).unwrap();
    fs::remove_file(alice.path("work/.syncsphere/root")).unwrap();
    let message = alice
        .fails(8, &["sync", "work", "--space", "Team", "--once"])
        .await;
    assert!(message.contains("nothing was deleted"), "{message}");
    once(&bob).await;
    assert_eq!(work(&bob), owned(&[("a", "a")]));

    // Files that are missing in a copy of a folder are no deletions.
    let status = std::process::Command::new("cp")
        .args(["-a", "work", "copy"])
        .current_dir(bob.folder.path())
        .status();
    assert!(status.unwrap().success());
    fs::remove_file(bob.path("copy/a")).unwrap();
    let copy = ["sync", "copy", "--space", "Team", "--once"];
    let values = bob.json(&copy).await;
    assert!(told(&values).contains(&("placed", "/a")), "{values:?}");
}

/// A folder that `--down` keeps current needs no transfer.
#[tokio::test]
async fn a_mirror_is_adopted() {
    let (alice, bob) = pair().await;
    alice.write("work/a", b"a");
    alice.write("work/b/c", b"c");
    once(&alice).await;
    bob.json(&["sync", "--down", "work", "--space", "Team", "--once"])
        .await;
    bob.fails(1, &["sync", "work", "--space", "Team", "--once"]).await;
    assert_eq!(told(&once(&bob).await), []);
    bob.write("work/a", b"edited");
    assert_eq!(told(&once(&bob).await), [("sent", "/a")]);
}

#[tokio::test]
async fn only_one_direction_is_synced_if_wanted() {
    let (alice, bob) = pair().await;
    alice.write("work/a", b"a");
    once(&alice).await;
    bob.write("work/b", b"b");
    let up = ["sync", "work", "--space", "Team", "--once", "--yes", "--up"];
    let values = bob.json(&up).await;
    assert!(told(&values).contains(&("held", "/a")), "{values:?}");
    assert_eq!(work(&bob), owned(&[("b", "b")]));
    once(&alice).await;
    assert_eq!(work(&alice), owned(&[("a", "a"), ("b", "b")]));
}

/// Links and pipes are neither followed nor sent, and a file that cannot be read does not hold up the others.
#[tokio::test]
async fn what_is_no_readable_file_is_left_alone() {
    let (alice, bob) = pair().await;
    alice.write("outside/secret", b"secret");
    alice.write("work/file", b"file");
    std::os::unix::fs::symlink(alice.path("outside"), alice.path("work/link")).unwrap();
    std::os::unix::fs::symlink("nowhere", alice.path("work/broken")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        alice.path("work/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    once(&alice).await;
    // The space has a file where this folder has a link, and one below it.
    bob.write("work/link/mine", b"mine");
    bob.write("work/broken", b"file");
    once(&bob).await;
    assert_eq!(
        work(&bob),
        owned(&[("broken", "file"), ("file", "file"), ("link/mine", "mine")])
    );
    alice
        .fails(8, &["sync", "work", "--space", "Team", "--once"])
        .await;
    assert_eq!(files_in(&alice.path("outside")), owned(&[("secret", "secret")]));
    assert!(alice.path("work/link").is_symlink() && alice.path("work/broken").is_symlink());
}

#[tokio::test]
async fn modes_and_times_are_synced() {
    let (alice, bob) = pair().await;
    alice.write("work/run.sh", b"#!/bin/sh");
    let path = alice.path("work/run.sh");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::open(&path).unwrap().set_modified(time).unwrap();
    once(&alice).await;
    once(&bob).await;
    let placed = fs::metadata(bob.path("work/run.sh")).unwrap();
    assert_eq!(placed.permissions().mode() & 0o111, 0o111);
    assert_eq!(placed.modified().unwrap(), time);
    assert_eq!(told(&once(&bob).await), []);
}
