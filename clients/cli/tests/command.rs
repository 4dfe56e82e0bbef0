//! The command as people and scripts run it, against the deployed stack. Run it with `cargo xtask test`.
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
use std::io::Write as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tests::{new_user, stack, subject};
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use support::{NOTIFICATION_LIMIT, Person, files_in, owned, values};

const MIB: usize = 1024 * 1024;

/// Content without repeated parts.
fn large(bytes: usize) -> Vec<u8> {
    (0..bytes / 8).flat_map(usize::to_le_bytes).collect()
}

#[tokio::test]
async fn files_of_a_folder_are_uploaded_downloaded_moved_and_deleted() {
    let alice = Person::new().await;
    alice.write("docs/a.txt", b"one");
    alice.write("docs/deep/b.txt", b"two");
    let uploaded = alice.json(&["upload", "docs", "--to", "/backup"]).await;
    let mut paths: Vec<&str> = uploaded
        .iter()
        .map(|it| it["change"]["path"].as_str().unwrap())
        .collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/backup/docs/a.txt", "/backup/docs/deep/b.txt"]);

    // A second upload sends only the changed file.
    alice.write("docs/a.txt", b"three");
    let again = alice.json(&["upload", "docs", "--to", "/backup"]).await;
    let outcome = |name: &str| {
        let found = again.iter().find(|it| it["file"] == name).unwrap();
        found["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(outcome("docs/a.txt"), "uploaded");
    assert_eq!(outcome("docs/deep/b.txt"), "unchanged");

    let listed = alice.json(&["ls", "/backup/docs/"]).await;
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["version"], 2);
    let history = alice.json(&["history", "/backup/docs/a.txt"]).await;
    assert_eq!(history.len(), 2);

    alice.json(&["get", "/backup/docs/a.txt"]).await;
    assert_eq!(fs::read(alice.path("a.txt")).unwrap(), b"three");
    let occupied = alice.fails(5, &["get", "/backup/docs/a.txt"]).await;
    assert!(occupied.contains("--force"), "{occupied}");
    alice
        .json(&["get", "/backup/docs/a.txt", "--version", "1", "--force"])
        .await;
    assert_eq!(fs::read(alice.path("a.txt")).unwrap(), b"one");
    let out = alice.run(&["get", "/backup/docs/a.txt", "-o", "-"]).await;
    assert_eq!(out.stdout, b"three");

    alice.json(&["mv", "/backup/docs/a.txt", "/other/"]).await;
    alice.fails(4, &["get", "/backup/docs/a.txt"]).await;
    alice
        .fails(5, &["rm", "/other/a.txt", "--base-version", "1"])
        .await;
    alice.json(&["rm", "/other/a.txt"]).await;
    alice.fails(4, &["rm", "/other/a.txt"]).await;
    let feed = alice.json(&["history"]).await;
    assert_eq!(feed.last().unwrap()["eventType"], "FILE_DELETED");
    // No unfinished download is left.
    let left: Vec<_> = fs::read_dir(alice.folder.path()).unwrap().collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[tokio::test]
async fn a_file_comes_back_with_its_modification_time_and_its_executable_bit() {
    use std::os::unix::fs::PermissionsExt as _;
    let alice = Person::new().await;
    let old = std::time::SystemTime::UNIX_EPOCH + Duration::new(987_654_321, 123_456_000);
    for (name, mode) in [("up/program", 0o755), ("up/text", 0o640)] {
        alice.write(name, name.as_bytes());
        let file = fs::File::options().write(true).open(alice.path(name)).unwrap();
        file.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
        file.set_modified(old).unwrap();
    }
    alice.json(&["upload", "up/."]).await;
    alice.json(&["get", "/program"]).await;
    alice.json(&["get", "/text"]).await;
    alice.json(&["sync", "--down", "down", "--once"]).await;
    let is_executable = |metadata: &fs::Metadata| metadata.permissions().mode() & 0o100 != 0;
    for (name, executable) in [
        ("program", true),
        ("text", false),
        ("down/program", true),
        ("down/text", false),
    ] {
        let found = fs::metadata(alice.path(name)).unwrap();
        assert_eq!(
            (found.modified().unwrap(), is_executable(&found)),
            (old, executable),
            "{name}"
        );
    }
    // Sync recognizes its files, although they are older than itself, and replaces and removes them.
    assert!(alice.json(&["sync", "--down", "down", "--once"]).await.is_empty());
    alice.write("up/text", b"edited");
    alice.json(&["upload", "up/text"]).await;
    alice.json(&["rm", "/program"]).await;
    alice.json(&["sync", "--down", "down", "--once"]).await;
    assert_eq!(files_in(&alice.path("down")), owned(&[("text", "edited")]));
    // An edit that gives the file its former size and time is an edit.
    alice.write("down/text", b"EDITED");
    let file = fs::File::options()
        .write(true)
        .open(alice.path("down/text"))
        .unwrap();
    file.set_modified(fs::metadata(alice.path("up/text")).unwrap().modified().unwrap())
        .unwrap();
    alice.json(&["rm", "/text"]).await;
    alice.json(&["sync", "--down", "down", "--once"]).await;
    assert_eq!(files_in(&alice.path("down")), owned(&[("text", "EDITED")]));
}

#[tokio::test]
async fn each_failure_has_its_exit_status() {
    let alice = Person::new().await;
    alice.write("a.txt", b"one");
    alice.fails(4, &["upload", "nowhere"]).await;
    alice.fails(2, &["upload", "a.txt", "--to", "/../a"]).await;
    alice.fails(2, &["upload"]).await;
    alice.fails(4, &["ls", "--space", "nothing of that name"]).await;
    alice.fails(2, &["spaces", "create", " "]).await;
    alice.json(&["upload", "a.txt", "--base-version", "0"]).await;
    alice.write("a.txt", b"two");
    let conflict = alice
        .fails(5, &["--json", "upload", "a.txt", "--base-version", "0"])
        .await;
    let conflict = values(conflict.as_bytes()).remove(0);
    assert_eq!(conflict["error"]["code"], "version-conflict");
    assert_eq!(conflict["error"]["current"]["version"], 1);
    assert!(conflict["error"]["requestId"].is_string());

    let stranger = |name: &str, value: &str| {
        let mut command = alice.command(&["ls"]);
        command.env(name, value);
        command
    };
    let status = async |mut command: Command| command.output().await.unwrap().status.code();
    assert_eq!(status(stranger("SYNCSPHERE_HOME", "/nonexistent")).await, Some(3));
    assert_eq!(status(stranger("SYNCSPHERE_STACK", "another")).await, Some(3));
    assert_eq!(status(stranger("SYNCSPHERE_USER", "nobody")).await, Some(3));
    let mut forged = stranger("SYNCSPHERE_TOKEN", "forged");
    forged.env("SYNCSPHERE_URL", &stack().outputs.http_api_url);
    let forged = forged.output().await.unwrap();
    assert_eq!(forged.status.code(), Some(3));
    let message = String::from_utf8(forged.stderr).unwrap();
    assert!(
        message.contains("a new token") && !message.contains("syncsphere login"),
        "{message}"
    );
    let folder = alice.fails(2, &["get", "/a.txt/"]).await;
    assert!(folder.contains("names a folder"), "{folder}");
    let mut nowhere = stranger("SYNCSPHERE_TOKEN", "any");
    nowhere.env("SYNCSPHERE_URL", "http://127.0.0.1:1");
    assert_eq!(status(nowhere).await, Some(7));

    let mut wrong = alice.command(&["login", "--stack", "local", "--user", &alice.user]);
    wrong.stdin(Stdio::null());
    assert_eq!(status(wrong).await, Some(2));
    assert!(alice.run(&["logout"]).await.status.success());
    alice.fails(3, &["whoami"]).await;
}

#[tokio::test]
async fn another_machine_sees_changes_and_a_member_can_leave_a_space() {
    let (alice, bob) = (Person::new().await, Person::new().await);
    let mut watching = bob.start(&["watch"]);
    watching.next("live").await;
    let made = alice.json(&["spaces", "create", "Holiday"]).await;
    let space_id = made[0]["spaceId"].as_str().unwrap().to_owned();
    alice
        .json(&["share", "Holiday", &bob.user_id, "--role", "viewer"])
        .await;
    assert_eq!(watching.next("change").await["eventType"], "SPACE_INVITED");
    bob.fails(4, &["ls", "--space", &space_id]).await;
    let invitations = bob.json(&["invitations"]).await;
    assert_eq!(invitations[0]["spaceName"], "Holiday");
    let accepted = bob.json(&["invitations", "accept", "Holiday"]).await;
    assert_eq!(accepted[0]["role"], "viewer");
    // One in each space's feed.
    let mut joined = [watching.next("change").await, watching.next("change").await]
        .map(|change| change["eventType"].as_str().unwrap().to_owned());
    joined.sort();
    assert_eq!(joined, ["MEMBER_CHANGED", "SPACE_SHARED"]);
    alice.write("beach.jpg", b"sand");
    alice.json(&["upload", "beach.jpg", "--space", "Holiday"]).await;
    // The memberships of the space come first.
    let mut change = watching.next("change").await;
    while change["eventType"] == "MEMBER_CHANGED" {
        change = watching.next("change").await;
    }
    assert_eq!(
        (change["path"].as_str(), change["spaceId"].as_str()),
        (Some("/beach.jpg"), Some(&*space_id))
    );

    bob.write("mine.jpg", b"mine");
    bob.fails(6, &["upload", "mine.jpg", "--space", &space_id]).await;
    let members = bob.json(&["spaces", "members", &space_id]).await;
    assert_eq!(members.len(), 2);
    bob.json(&["share", &space_id, &bob.user_id, "--remove"]).await;
    assert_eq!(watching.next("change").await["eventType"], "SPACE_LEFT");
    bob.fails(4, &["ls", "--space", &space_id]).await;
}

#[tokio::test]
async fn a_killed_upload_is_resumed() {
    let _exclusive = tests::lock_exclusive().await;
    let alice = Person::new().await;
    let content = large(96 * MIB);
    alice.write("film", &content);
    let s3 = aws_sdk_s3::Client::new(&tests::aws());
    let bucket = &stack().outputs.bucket_name;
    let open = s3.list_multipart_uploads().bucket(bucket).send().await.unwrap();
    let others: Vec<String> = open
        .uploads()
        .iter()
        .map(|it| it.upload_id().unwrap().to_owned())
        .collect();
    let mut killed = alice.start(&["upload", "film"]);
    // Wait until some parts are uploaded, but not all.
    let looking = async {
        loop {
            let open = s3.list_multipart_uploads().bucket(bucket).send().await.unwrap();
            for upload in open.uploads() {
                let (key, id) = (upload.key().unwrap(), upload.upload_id().unwrap());
                if others.iter().any(|other| other == id) {
                    continue;
                }
                let parts = s3.list_parts().bucket(bucket).key(key).upload_id(id).send().await;
                if parts.is_ok_and(|parts| parts.parts().len() >= 2) {
                    return;
                }
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_mins(1), looking)
        .await
        .expect("no part came");
    killed.child.start_kill().unwrap();
    assert_eq!(killed.child.wait().await.unwrap().code(), None);

    let again = alice.json(&["upload", "film"]).await;
    let sent = usize::try_from(again[0]["sentBytes"].as_u64().unwrap()).unwrap();
    assert!(
        0 < sent && sent <= content.len() - 16 * MIB,
        "{sent} bytes were sent again"
    );
    assert_eq!(again[0]["change"]["version"], 1);
    let unchanged = alice.json(&["upload", "film"]).await;
    assert_eq!(unchanged[0]["outcome"], "unchanged");
    // Content that storage has verified counts as unchanged on any machine.
    fs::remove_dir_all(alice.path("home/versions")).unwrap();
    let unchanged = alice.json(&["upload", "film"]).await;
    assert_eq!(unchanged[0]["outcome"], "unchanged");
    assert_eq!(fs::read_dir(alice.path("home/uploads")).unwrap().count(), 0);

    // The same for downloads.
    let mut killed = alice.start(&["get", "/film", "-o", "copy"]);
    let part = async {
        loop {
            let found = fs::read_dir(alice.folder.path()).unwrap().map(Result::unwrap);
            let part = found
                .filter(|entry| entry.file_name().to_string_lossy().ends_with(".part"))
                .find(|entry| entry.metadata().unwrap().len() > 0);
            if let Some(part) = part {
                return part.path();
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    let part = timeout(NOTIFICATION_LIMIT, part).await.expect("no beginning");
    killed.child.start_kill().unwrap();
    killed.child.wait().await.unwrap();
    assert!(!alice.path("copy").exists() && part.exists());
    // Simulates lost data on the disk.
    fs::OpenOptions::new()
        .write(true)
        .open(&part)
        .unwrap()
        .write_all(b"damaged")
        .unwrap();
    alice.json(&["get", "/film", "-o", "copy"]).await;
    assert!(fs::read(alice.path("copy")).unwrap() == content);
    assert!(!part.exists());
}

#[tokio::test]
async fn sync_updates_a_folder_and_keeps_local_changes() {
    let alice = Person::new().await;
    for (name, content) in [("a", "1"), ("b", "2"), ("c/d", "3")] {
        alice.write(&format!("up/{name}"), content.as_bytes());
    }
    alice.json(&["upload", "up/."]).await;
    alice.write("down/mine", b"mine");
    alice.write("down/b", b"older than the space");
    let mut sync = alice.start(&["sync", "--down", "down"]);
    sync.next("current").await;
    let down = alice.path("down");
    let kept = ("b (kept 1)", "older than the space");
    assert_eq!(
        files_in(&down),
        owned(&[("a", "1"), ("b", "2"), kept, ("c/d", "3"), ("mine", "mine")])
    );
    let second = alice.fails(5, &["sync", "--down", "down"]).await;
    assert!(second.contains("another"), "{second}");

    alice.json(&["mv", "/c/d", "/e/f"]).await;
    sync.next("current").await;
    alice.json(&["rm", "/a"]).await;
    sync.next("current").await;
    assert_eq!(
        files_in(&down),
        owned(&[("b", "2"), kept, ("e/f", "3"), ("mine", "mine")])
    );
    sync.child.start_kill().unwrap();
    sync.child.wait().await.unwrap();

    // While no sync runs: a new version, and a change on each side.
    alice.write("up/b", b"4");
    alice.json(&["upload", "up/b"]).await;
    alice.write("down/b", b"changed here");
    alice.json(&["rm", "/e/f"]).await;
    alice.json(&["sync", "--down", "down", "--once"]).await;
    let changed = ("b (kept 2)", "changed here");
    assert_eq!(
        files_in(&down),
        owned(&[("b", "4"), kept, changed, ("mine", "mine")])
    );
    let nothing = alice.json(&["sync", "--down", "down", "--once"]).await;
    assert!(nothing.is_empty(), "{nothing:?}");
    alice.json(&["spaces", "create", "Other"]).await;
    alice
        .fails(5, &["sync", "--down", "down", "--space", "Other", "--once"])
        .await;
}

#[tokio::test]
async fn local_files_are_never_deleted_or_replaced() {
    let alice = Person::new().await;
    for name in ["goes", "changes"] {
        alice.write(&format!("up/{name}"), b"the same");
        alice.write(&format!("down/{name}"), b"the same");
    }
    alice.json(&["upload", "up/."]).await;
    alice.json(&["sync", "--down", "down", "--once"]).await;
    alice.json(&["rm", "/goes"]).await;
    alice.write("up/changes", b"another");
    alice.json(&["upload", "up/changes"]).await;
    alice.json(&["sync", "--down", "down", "--once"]).await;
    let kept = ("changes (kept 1)", "the same");
    let wanted = [("changes", "another"), kept, ("goes", "the same")];
    assert_eq!(files_in(&alice.path("down")), owned(&wanted));
}

/// Changes rows of the deployed database in a way that no request can.
async fn change_rows(statement: &str, file_id: &str) {
    let (client, connection) = tokio_postgres::connect(&stack().database_url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let file_id: uuid::Uuid = file_id.parse().unwrap();
    assert_eq!(client.execute(statement, &[&file_id]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_version_with_wrong_content_is_downloaded_once() {
    let alice = Person::new().await;
    alice.write("up/wrong", b"other content than declared");
    alice.write("up/right", b"right");
    let uploaded = alice.json(&["upload", "up/."]).await;
    let wrong = uploaded
        .iter()
        .find(|it| it["change"]["path"] == "/wrong")
        .unwrap();
    let file_id = wrong["change"]["fileId"].as_str().unwrap();
    let declare = "UPDATE versions SET sha256 = sha256(sha256) WHERE file_id = $1";
    change_rows(declare, file_id).await;
    let message = alice.fails(6, &["sync", "--down", "down", "--once"]).await;
    assert!(
        message.contains("/wrong") && message.contains("1 of 2 files"),
        "{message}"
    );
    assert_eq!(files_in(&alice.path("down")), owned(&[("right", "right")]));
    // The content matches now, but the same version is not attempted again.
    let declare = "UPDATE versions SET sha256 = sha256('other content than declared') WHERE file_id = $1";
    change_rows(declare, file_id).await;
    alice.fails(6, &["sync", "--down", "down", "--once"]).await;
    assert_eq!(files_in(&alice.path("down")), owned(&[("right", "right")]));
    alice.write("up/wrong", b"a new version");
    alice.json(&["upload", "up/wrong"]).await;
    alice.json(&["sync", "--down", "down", "--once"]).await;
    let wanted = owned(&[("right", "right"), ("wrong", "a new version")]);
    assert_eq!(files_in(&alice.path("down")), wanted);
}

#[tokio::test]
async fn sync_reports_content_that_storage_does_not_have() {
    let alice = Person::new().await;
    alice.write("up/here", b"here");
    // A size that no other object has.
    let size = fastrand::u16(20_000..);
    alice.write("up/lost", &vec![b'x'; size.into()]);
    alice.json(&["upload", "up/."]).await;
    let s3 = aws_sdk_s3::Client::new(&tests::aws());
    let bucket = &stack().outputs.bucket_name;
    let mut pages = s3.list_objects_v2().bucket(bucket).into_paginator().send();
    let mut listed = Vec::new();
    while let Some(page) = pages.next().await {
        listed.extend(page.unwrap().contents.unwrap_or_default());
    }
    let lost = listed.iter().find(|it| it.size() == Some(size.into())).unwrap();
    let deleting = s3.delete_object().bucket(bucket).key(lost.key().unwrap());
    deleting.send().await.unwrap();
    let message = alice.fails(4, &["sync", "--down", "down", "--once"]).await;
    assert!(
        message.contains("/lost") && message.contains("storage does not have"),
        "{message}"
    );
    assert_eq!(files_in(&alice.path("down")), owned(&[("here", "here")]));
}

#[tokio::test]
async fn sync_once_needs_no_web_socket() {
    let alice = Person::new().await;
    alice.write("a", b"1");
    alice.json(&["upload", "a"]).await;
    let token = stack().sign_in(&alice.user).await.unwrap().token().await.unwrap();
    let mut sync = alice.command(&["sync", "--down", "down", "--once"]);
    sync.env("SYNCSPHERE_URL", broken_api("POST", "/tickets").await);
    sync.env("SYNCSPHERE_TOKEN", token.as_str());
    let output = timeout(NOTIFICATION_LIMIT, sync.output())
        .await
        .expect("it hangs")
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(files_in(&alice.path("down")), owned(&[("a", "1")]));
}

#[tokio::test]
async fn most_of_a_folder_is_deleted_only_on_request() {
    let alice = Person::new().await;
    for number in 0..12 {
        alice.write(&format!("up/{number}"), format!("{number}").as_bytes());
    }
    alice.json(&["upload", "up/."]).await;
    alice.json(&["sync", "--down", "down", "--once"]).await;
    let all = files_in(&alice.path("down"));
    let paths: Vec<String> = (0..11).map(|number| format!("/{number}")).collect();
    let rm: Vec<&str> = ["rm"]
        .into_iter()
        .chain(paths.iter().map(String::as_str))
        .collect();
    alice.json(&rm).await;
    let message = alice.fails(6, &["sync", "--down", "down", "--once"]).await;
    assert!(
        message.contains("11 of 12") && message.contains("--allow-deletes"),
        "{message}"
    );
    assert_eq!(files_in(&alice.path("down")), all);
    alice.fails(6, &["sync", "--down", "down", "--once"]).await;
    assert_eq!(files_in(&alice.path("down")), all);
    alice
        .json(&["sync", "--down", "down", "--once", "--allow-deletes"])
        .await;
    assert_eq!(files_in(&alice.path("down")), owned(&[("11", "11")]));
}

/// Removals that arrive as separate changes are counted together.
#[tokio::test]
async fn most_of_a_folder_is_not_deleted_one_by_one() {
    let alice = Person::new().await;
    for number in 0..14 {
        alice.write(&format!("up/{number}"), format!("{number}").as_bytes());
    }
    alice.json(&["upload", "up/."]).await;
    let mut sync = alice.start(&["sync", "--down", "down"]);
    sync.next("current").await;
    let paths: Vec<String> = (0..13).map(|number| format!("/{number}")).collect();
    let rm: Vec<&str> = ["rm"]
        .into_iter()
        .chain(paths.iter().map(String::as_str))
        .collect();
    alice.json(&rm).await;
    let ended = timeout(NOTIFICATION_LIMIT, sync.child.wait())
        .await
        .expect("it goes on");
    assert_eq!(ended.unwrap().code(), Some(6));
    let left = files_in(&alice.path("down"));
    assert!(left.len() >= 4, "{left:?}");
    // The next start refuses too.
    alice.fails(6, &["sync", "--down", "down", "--once"]).await;
    assert_eq!(files_in(&alice.path("down")), left);
    alice
        .json(&["sync", "--down", "down", "--once", "--allow-deletes"])
        .await;
    assert_eq!(files_in(&alice.path("down")), owned(&[("13", "13")]));
}

#[tokio::test]
async fn an_edit_of_a_file_with_a_long_name_is_kept_with_its_extension() {
    let alice = Person::new().await;
    let name = format!("{}.pdf", "\u{e4}".repeat(125));
    assert_eq!(name.len(), 254);
    alice.write(&format!("up/{name}"), b"1");
    alice.json(&["upload", "up/."]).await;
    alice.json(&["sync", "--down", "down", "--once"]).await;
    alice.write(&format!("down/{name}"), b"edit");
    alice.write(&format!("up/{name}"), b"2");
    alice.json(&["upload", "up/."]).await;
    alice.json(&["sync", "--down", "down", "--once"]).await;
    let kept = format!("{} (kept 1).pdf", "\u{e4}".repeat(121));
    assert_eq!(
        files_in(&alice.path("down")),
        owned(&[(&kept, "edit"), (&name, "2")])
    );
}

#[tokio::test]
async fn sync_reports_files_that_are_not_in_the_space() {
    let alice = Person::new().await;
    alice.write("a", b"1");
    alice.json(&["upload", "a"]).await;
    alice.write("down/mine", b"mine");
    alice.write("down/b/mine", b"mine");
    let output = alice.run(&["sync", "--down", "down", "--once"]).await;
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("2 files here are not in the space"), "{message}");
}

#[tokio::test]
async fn an_upload_does_not_replace_changes_of_another_device() {
    let (alice, bob) = (Person::new().await, Person::new().await);
    alice.json(&["spaces", "create", "Shared"]).await;
    alice.shares("Shared", &bob).await;
    alice.write("stale/a", b"one");
    alice.write("stale/z.txt", b"old");
    alice.json(&["upload", "stale/.", "--space", "Shared"]).await;
    bob.write("z.txt", b"newer");
    bob.json(&["upload", "z.txt", "--space", "Shared"]).await;
    alice.write("stale/a", b"two");
    let message = alice.fails(5, &["upload", "stale/.", "--space", "Shared"]).await;
    assert!(
        message.contains("\"/z.txt\" was changed on another device (version 2). Keep both with --keep-both"),
        "{message}"
    );
    let content = async |person: &Person, path: &str| {
        let output = person.run(&["get", path, "-o", "-", "--space", "Shared"]).await;
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(content(&bob, "/z.txt").await, "newer");
    assert_eq!(content(&bob, "/a").await, "two");
    // A user who has downloaded the other version may replace it.
    assert_eq!(content(&alice, "/z.txt").await, "newer");
    alice.write("stale/z.txt", b"newest");
    alice.json(&["upload", "stale/.", "--space", "Shared"]).await;
    bob.write("z.txt", b"mine");
    bob.fails(5, &["upload", "z.txt", "--space", "Shared"]).await;
    assert_eq!(content(&alice, "/z.txt").await, "newest");
    bob.json(&["upload", "z.txt", "--space", "Shared", "--replace"])
        .await;
    assert_eq!(content(&alice, "/z.txt").await, "mine");
}

#[tokio::test]
async fn keep_both_keeps_the_changes_of_two_devices() {
    let (alice, bob) = (Person::new().await, Person::new().await);
    alice.json(&["spaces", "create", "Shared"]).await;
    alice.shares("Shared", &bob).await;
    let upload = ["upload", "report.pdf", "--space", "Shared"];
    let keeping = [&upload[..], &["--keep-both"]].concat();
    let mut copies = Vec::new();
    alice.write("report.pdf", b"first");
    alice.json(&upload).await;
    bob.write("report.pdf", b"bob's");
    bob.json(&upload).await;
    alice.write("report.pdf", b"alice's");
    alice.fails(5, &upload).await;
    for edit in ["alice's", "alice's other"] {
        alice.write("report.pdf", edit.as_bytes());
        let kept = alice.json(&keeping).await.remove(0);
        assert_eq!(kept["change"]["version"], 1);
        let path = kept["change"]["path"].as_str().unwrap().to_owned();
        assert!(
            path.starts_with("/report (conflict, ") && path.ends_with(").pdf"),
            "{path}"
        );
        // Repeating the command creates no further copy.
        let again = alice.json(&keeping).await.remove(0);
        assert_eq!(
            (&again["outcome"], &again["path"]),
            (&"unchanged".into(), &path.clone().into())
        );
        let content = bob.run(&["get", &path, "-o", "-", "--space", "Shared"]).await;
        assert_eq!(String::from_utf8(content.stdout).unwrap(), edit);
        copies.push(path);
    }
    let listed = alice.json(&["ls", "--space", "Shared"]).await;
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert_ne!(copies[0], copies[1]);
    let content = bob
        .run(&["get", "/report.pdf", "-o", "-", "--space", "Shared"])
        .await;
    assert_eq!(content.stdout, b"bob's");
    alice.fails(5, &upload).await;
}

/// Version 1 of a deleted file and version 1 of its replacement at the same path are different.
#[tokio::test]
async fn an_upload_names_the_last_seen_file() {
    let (alice, bob) = (Person::new().await, Person::new().await);
    alice.json(&["spaces", "create", "Shared"]).await;
    alice.shares("Shared", &bob).await;
    alice.write("r", b"alice's");
    alice.json(&["upload", "r", "--space", "Shared"]).await;
    bob.json(&["rm", "/r", "--space", "Shared"]).await;
    bob.write("r", b"bob's");
    bob.json(&["upload", "r", "--space", "Shared"]).await;
    alice.write("r", b"alice's other");
    let based = ["upload", "r", "--space", "Shared", "--base-version", "1"];
    let message = alice.fails(5, &based).await;
    assert!(
        message.contains("\"/r\" was changed on another device (version 1)"),
        "{message}"
    );
    let content = bob.run(&["get", "/r", "-o", "-", "--space", "Shared"]).await;
    assert_eq!(content.stdout, b"bob's");
}

#[tokio::test]
async fn a_file_created_during_an_upload_is_not_replaced() {
    let alice = Person::new().await;
    alice.write("a", b"one");
    alice.json(&["upload", "a"]).await;
    let token = stack().sign_in(&alice.user).await.unwrap().token().await.unwrap();
    let upload = async |content: &[u8]| {
        // Simulates a file that appears after the lookup.
        let looked = Arc::new(AtomicBool::new(false));
        let url = api_but_for(move |method, target| {
            let is_first =
                method == "GET" && target.starts_with("/files?") && !looked.swap(true, Ordering::SeqCst);
            is_first.then_some((StatusCode::OK, r#"{"files":[]}"#))
        });
        alice.write("a", content);
        let mut command = alice.command(&["--json", "upload", "a"]);
        command.env("SYNCSPHERE_URL", url.await);
        command.env("SYNCSPHERE_TOKEN", token.as_str());
        command.output().await.unwrap()
    };
    let other = upload(b"two").await;
    assert_eq!(other.status.code(), Some(5), "{other:?}");
    let message = values(&other.stderr).remove(0);
    assert_eq!(message["error"]["code"], "version-conflict");
    let message = message["error"]["message"].as_str().unwrap();
    assert!(
        message.ends_with(
            "\"/a\" was changed on another device (version 1). Keep both with --keep-both, or replace it with --replace."
        ),
        "{message}"
    );
    let same = upload(b"one").await;
    assert_eq!(values(&same.stdout)[0]["outcome"], "unchanged", "{same:?}");
    assert_eq!(alice.json(&["history", "/a"]).await.len(), 1);
}

#[tokio::test]
async fn a_file_moved_by_another_device_is_neither_moved_nor_deleted() {
    let alice = Person::new().await;
    alice.write("a", b"one");
    alice.json(&["upload", "a"]).await;
    let listed = alice.json(&["ls"]).await.remove(0);
    alice.json(&["mv", "/a", "/b"]).await;
    let token = stack().sign_in(&alice.user).await.unwrap().token().await.unwrap();
    // Simulates a move after the lookup.
    let former: &str = Box::leak(format!("{{\"files\":[{listed}]}}").into_boxed_str());
    let url = api_but_for(move |method, target| {
        let is_listing = method == "GET" && target.starts_with("/files?");
        is_listing.then_some((StatusCode::OK, former))
    })
    .await;
    for arguments in [&["rm", "/a"][..], &["mv", "/a", "/c"]] {
        let mut command = alice.command(arguments);
        command.env("SYNCSPHERE_URL", &url);
        command.env("SYNCSPHERE_TOKEN", token.as_str());
        let output = command.output().await.unwrap();
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            message.contains("moved on another device") && message.contains("version 1 at /b"),
            "{message}"
        );
    }
    let files = alice.json(&["ls"]).await;
    assert_eq!((files.len(), &files[0]["path"]), (1, &"/b".into()));
}

/// The service does not verify the SHA-256 of content in parts.
#[tokio::test]
async fn large_content_is_unchanged_only_if_this_machine_uploaded_it() {
    let (alice, bob) = (Person::new().await, Person::new().await);
    alice.json(&["spaces", "create", "Shared"]).await;
    alice.shares("Shared", &bob).await;
    alice.write("film", &large(16 * MIB));
    let honest = alice.json(&["upload", "film", "--space", "Shared"]).await;
    let again = alice.json(&["upload", "film", "--space", "Shared"]).await;
    assert_eq!(again[0]["outcome"], "unchanged");
    bob.write("film", &vec![b'x'; 16 * MIB]);
    bob.json(&["upload", "film", "--space", "Shared"]).await;
    // Simulates content sent in parts that is declared with the SHA-256 of the first version.
    let file_id = honest[0]["change"]["fileId"].as_str().unwrap();
    let declare = "UPDATE versions v SET sha256 = o.sha256 FROM versions o
        WHERE v.file_id = $1 AND o.file_id = v.file_id AND v.version = 2 AND o.version = 1";
    change_rows(declare, file_id).await;
    let repaired = alice.json(&["upload", "film", "--space", "Shared"]).await;
    assert_eq!(repaired[0]["outcome"], "uploaded");
    assert_eq!(repaired[0]["change"]["version"], 3);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_of_unknown_size_is_not_uploaded_as_empty() {
    let alice = Person::new().await;
    let message = alice.fails(6, &["upload", "/proc/version"]).await;
    assert!(message.contains("its size is not known"), "{message}");
    assert!(alice.json(&["ls"]).await.is_empty());
}

#[tokio::test]
async fn a_space_is_shared_with_a_user_id_or_an_address() {
    let alice = Person::new().await;
    alice.json(&["spaces", "create", "Team"]).await;
    for name in ["bob", "a/b", " "] {
        let message = alice.fails(2, &["share", "Team", name]).await;
        assert!(
            message.contains("is neither an e-mail address nor a user ID") && message.contains("whoami"),
            "{message}"
        );
    }
    alice
        .json(&["share", "Team", "Bob@example.com", "--role", "viewer"])
        .await;
    let pending = alice.json(&["spaces", "invitations", "Team"]).await;
    assert_eq!(
        (&pending[0]["email"], pending.len()),
        (&"bob@example.com".into(), 1)
    );
    alice
        .json(&["share", "Team", "bob@example.com", "--remove"])
        .await;
    assert!(alice.json(&["spaces", "invitations", "Team"]).await.is_empty());
    assert_eq!(alice.json(&["spaces", "members", "Team"]).await.len(), 1);
}

#[tokio::test]
async fn a_declined_invitation_is_gone_and_a_blocked_inviter_is_not_shown() {
    let (alice, bob) = (Person::new().await, Person::new().await);
    bob.json(&["spaces"]).await;
    alice.json(&["spaces", "create", "Team"]).await;
    for flags in [&[][..], &["--block"][..]] {
        alice.json(&["share", "Team", &bob.user_id]).await;
        let arguments = [&["invitations", "decline", "Team"][..], flags].concat();
        let declined = String::from_utf8(bob.run(&arguments).await.stdout).unwrap();
        assert!(declined.contains("declined the invitation to Team"), "{declined}");
        assert_eq!(
            declined.contains("you see no more invitations of "),
            !flags.is_empty()
        );
        assert!(bob.json(&["invitations"]).await.is_empty());
    }
    alice.json(&["share", "Team", &bob.user_id]).await;
    assert!(bob.json(&["invitations"]).await.is_empty());
    let message = bob.fails(4, &["invitations", "accept", "Team"]).await;
    assert!(message.contains("you have no invitation to"), "{message}");
}

#[tokio::test]
async fn a_space_is_renamed_deleted_and_restored() {
    let alice = Person::new().await;
    alice.json(&["spaces", "create", "Team"]).await;
    alice.json(&["spaces", "rename", "Team", "Club"]).await;
    alice.write("a", b"1");
    alice.json(&["upload", "a", "--space", "Club"]).await;
    alice.json(&["spaces", "delete", "Club"]).await;
    alice.fails(4, &["ls", "--space", "Club"]).await;
    assert_eq!(alice.json(&["spaces", "deleted"]).await[0]["name"], "Club");
    alice.json(&["spaces", "restore", "Club"]).await;
    assert_eq!(alice.json(&["ls", "--space", "Club"]).await.len(), 1);
    alice.fails(4, &["spaces", "restore", "Club"]).await;
}

#[tokio::test]
async fn a_killed_sync_completes_when_it_runs_again() {
    let alice = Person::new().await;
    let mut wanted = Vec::new();
    for number in 0..60 {
        let (name, content) = (format!("{number:02}"), format!("{number}").repeat(100));
        alice.write(&format!("up/{name}"), content.as_bytes());
        wanted.push((name, content));
    }
    alice.json(&["upload", "up/."]).await;
    for millis in [150, 300, 450, 600] {
        let mut killed = alice.start(&["sync", "--down", "down"]);
        sleep(Duration::from_millis(millis)).await;
        killed.child.start_kill().unwrap();
        killed.child.wait().await.unwrap();
        // Files in the folder are always complete.
        for file in fs::read_dir(alice.path("down"))
            .map(|_| files_in(&alice.path("down")))
            .unwrap_or_default()
        {
            assert!(wanted.contains(&file), "{file:?}");
        }
    }
    alice.json(&["sync", "--down", "down", "--once"]).await;
    assert_eq!(files_in(&alice.path("down")), wanted);
    assert_eq!(
        fs::read_dir(alice.path("down/.syncsphere/parts"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn sync_ends_when_the_user_is_no_longer_a_member() {
    let (alice, bob) = (Person::new().await, Person::new().await);
    // Only users who have used the service can be added.
    bob.json(&["spaces"]).await;
    alice.json(&["spaces", "create", "Shared"]).await;
    alice.write("a", b"1");
    alice.json(&["upload", "a", "--space", "Shared"]).await;
    alice.shares("Shared", &bob).await;
    let mut sync = bob.start(&["sync", "--down", "down", "--space", "Shared"]);
    sync.next("current").await;
    alice.json(&["share", "Shared", &bob.user_id, "--remove"]).await;
    let ended = timeout(NOTIFICATION_LIMIT, sync.child.wait())
        .await
        .expect("it goes on");
    assert_eq!(ended.unwrap().code(), Some(4));
    assert_eq!(files_in(&bob.path("down")), owned(&[("a", "1")]));
}

#[tokio::test]
async fn doctor_passes_and_leaves_no_file() {
    let alice = Person::new().await;
    let steps = alice.json(&["doctor"]).await;
    assert!(steps.iter().all(|step| step["ok"] == true), "{steps:?}");
    assert_eq!(steps.len(), 13);
    assert!(alice.json(&["ls"]).await.is_empty());
}

/// A proxy of the deployed API that answers 503 on one route.
async fn broken_api(method: &'static str, path: &'static str) -> String {
    api_but_for(move |asked, target| {
        let is_broken = asked == method && target.contains(path);
        is_broken.then_some((StatusCode::SERVICE_UNAVAILABLE, ""))
    })
    .await
}

/// A proxy of the deployed API that answers the requests for which `answer` returns a response.
async fn api_but_for(
    answer: impl Fn(&Method, &str) -> Option<(StatusCode, &'static str)> + Clone + Send + Sync + 'static,
) -> String {
    let http = reqwest::Client::new();
    let app = Router::new().fallback(async move |request: Request| {
        let (parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let mut response = Response::new(Body::empty());
        if let Some((status, body)) = answer(&parts.method, target) {
            *response.status_mut() = status;
            *response.body_mut() = Body::from(body);
            return response;
        }
        let mut headers = parts.headers;
        headers.remove("host");
        let url = format!("{}{target}", stack().outputs.http_api_url);
        let sent = http.request(parts.method, url).headers(headers);
        let answer = sent
            .body(to_bytes(body, MIB).await.unwrap())
            .send()
            .await
            .unwrap();
        *response.status_mut() = answer.status();
        *response.body_mut() = Body::from(answer.bytes().await.unwrap());
        response
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn doctor_names_the_broken_component_and_cleans_up() {
    client::install_crypto_provider();
    let (user, token) = new_user().await;
    let person = Person {
        folder: tempfile::tempdir().unwrap(),
        user,
        user_id: subject(&token),
    };
    for (method, path, step, look_at) in [
        ("GET", "/spaces", "reaching the API", "HttpApiUrl"),
        ("POST", "/tickets", "getting a ticket", "connections"),
        ("POST", "/uploads", "opening an upload", "uploads"),
        ("POST", "/complete", "completing the upload", "complete-upload"),
        ("GET", "/changes", "reading the feed", "changes"),
        ("GET", "/content", "downloading the file", "files"),
    ] {
        let mut doctor = person.command(&["--json", "doctor"]);
        doctor.env("SYNCSPHERE_URL", broken_api(method, path).await);
        doctor.env("SYNCSPHERE_TOKEN", token.as_str());
        let output = doctor.output().await.unwrap();
        assert_eq!(output.status.code(), Some(7), "{step}");
        let steps = values(&output.stdout);
        let failed: Vec<&Value> = steps.iter().filter(|it| it["ok"] == false).collect();
        assert_eq!(failed.len(), 1, "{steps:?}");
        assert_eq!(failed[0]["step"], step);
        assert!(
            failed[0]["lookAt"].as_str().unwrap().contains(look_at),
            "{failed:?}"
        );
    }
    let mut list = person.command(&["ls"]);
    list.env("SYNCSPHERE_URL", &stack().outputs.http_api_url);
    list.env("SYNCSPHERE_TOKEN", token.as_str());
    assert_eq!(list.output().await.unwrap().stdout, b"");
}

/// A WebSocket API that answers a heartbeat with this text, or nothing at all. Returns its URL.
async fn socket_api(answer: Option<&'static str>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/live", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            let is_heartbeat = matches!(&message, Message::Text(text) if text.contains("heartbeat"));
            if let Some(answer) = answer.filter(|_| is_heartbeat) {
                socket.send(Message::text(answer)).await.unwrap();
            }
        }
    });
    url
}

#[tokio::test]
async fn doctor_names_what_the_websocket_api_does_not_answer() {
    client::install_crypto_provider();
    let (user, token) = new_user().await;
    let person = Person {
        folder: tempfile::tempdir().unwrap(),
        user,
        user_id: subject(&token),
    };
    for (answer, said) in [
        (
            Some(r#"{"type":"error","code":"invalid-message","detail":""}"#),
            "does not know heartbeats",
        ),
        (Some(r#"{"message":"Internal server error"}"#), "with an error"),
        (None, "did not answer a ping"),
    ] {
        let url = socket_api(answer).await;
        let ticket = json!({ "ticket": "t", "url": url, "expiresAt": "2030-01-01T00:00:00Z" });
        let ticket: &str = ticket.to_string().leak();
        let api = api_but_for(move |method, target| {
            (method == Method::POST && target == "/tickets").then_some((StatusCode::CREATED, ticket))
        });
        let mut doctor = person.command(&["--json", "doctor"]);
        doctor.env("SYNCSPHERE_URL", api.await);
        doctor.env("SYNCSPHERE_TOKEN", token.as_str());
        let output = doctor.output().await.unwrap();
        let steps = values(&output.stdout);
        let failed = steps.last().unwrap();
        assert_eq!(
            (&failed["step"], &failed["ok"]),
            (&json!("sending messages"), &json!(false))
        );
        assert!(failed["error"].as_str().unwrap().contains(said), "{failed}");
        assert!(
            failed["lookAt"].as_str().unwrap().contains("heartbeat"),
            "{failed}"
        );
        assert_eq!(output.status.code(), Some(1), "{said}");
    }
}

/// The state may be another one now, so the user decides whether to make the change again.
#[tokio::test]
async fn a_change_is_not_repeated_after_a_restore_of_the_service() {
    const RESET: &str = r#"{"status":410,"code":"feed-reset","detail":"Another epoch.","requestId":"r1"}"#;
    client::install_crypto_provider();
    let (user, token) = new_user().await;
    let person = Person {
        folder: tempfile::tempdir().unwrap(),
        user,
        user_id: subject(&token),
    };
    // The requests for changes and content, and the answer to them.
    let asked = Arc::new(Mutex::new(Vec::new()));
    let answer = Arc::new(Mutex::new((StatusCode::BAD_REQUEST, "")));
    let (log, current) = (Arc::clone(&asked), Arc::clone(&answer));
    let url = api_but_for(move |method, target| {
        let is_opening = method == Method::POST && target == "/uploads";
        let is_other = target.ends_with("/complete") || target.contains("/files/");
        if is_opening || is_other {
            log.lock().unwrap().push(method.clone());
        }
        is_other.then(|| *current.lock().unwrap())
    });
    let url = url.await;
    let run = async |arguments: &[&str], url: &str| {
        let mut command = person.command(arguments);
        command.env("SYNCSPHERE_URL", url);
        command.env("SYNCSPHERE_TOKEN", token.as_str());
        asked.lock().unwrap().clear();
        let output = command.output().await.unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), message, asked.lock().unwrap().clone())
    };
    person.write("a", b"a");
    person.write("b", b"b");
    let (status, message, _) = run(&["upload", "a"], &stack().outputs.http_api_url).await;
    assert_eq!(status, Some(0), "{message}");
    let keys = || fs::read_dir(person.path("home/uploads")).unwrap().count();

    // This failure leaves the key of the upload.
    run(&["upload", "b"], &url).await;
    assert_eq!(keys(), 1);
    *answer.lock().unwrap() = (StatusCode::GONE, RESET);
    for (arguments, requests) in [
        (&["upload", "b"][..], &[Method::POST, Method::POST][..]),
        (&["mv", "/a", "/c"], &[Method::PATCH]),
        (&["rm", "/a"], &[Method::DELETE]),
        (&["get", "/a", "-o", "copy"], &[Method::GET]),
    ] {
        let (status, message, asked) = run(arguments, &url).await;
        assert_eq!(status, Some(5), "{arguments:?}: {message}");
        assert!(
            message.contains("the service was restored to an earlier state"),
            "{message}"
        );
        assert_eq!(asked, requests, "{arguments:?}");
    }
    // The key belongs to the former history.
    assert_eq!(keys(), 0);
}

#[tokio::test]
async fn completions_and_man_pages_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_syncsphere"));
        command.args(arguments).env_clear().env("HOME", folder.path());
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(run(&["completions", shell]).await.contains("doctor"), "{shell}");
    }
    let man = folder.path().join("man");
    run(&["man", man.to_str().unwrap()]).await;
    let page = fs::read_to_string(man.join("syncsphere.1")).unwrap();
    assert!(page.contains("Exit status"));
    assert!(man.join("syncsphere-upload.1").exists());
}
