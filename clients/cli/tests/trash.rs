//! The command's trash, versions, erasing and account, against the deployed stack. Run it with
//! `cargo xtask test`.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's failure is a panic"
)]

#[expect(dead_code, reason = "the other tests use more of it")]
mod support;

use std::collections::BTreeSet;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use support::{Person, values};

/// Runs a command with an answer on its standard input.
async fn answered(person: &Person, arguments: &[&str], answer: &str) -> Output {
    let mut command = person.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut input = running.stdin.take().unwrap();
    input.write_all(answer.as_bytes()).await.unwrap();
    drop(input);
    running.wait_with_output().await.unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

fn paths(listed: &[Value]) -> Vec<&str> {
    listed.iter().map(|it| it["path"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn deleted_files_are_listed_with_who_deleted_them_and_restored() {
    let (alice, bob) = (Person::new().await, Person::new().await);
    alice.json(&["spaces", "create", "Team"]).await;
    alice.shares("Team", &bob).await;
    for name in ["a", "b", "c"] {
        alice.write(name, name.as_bytes());
    }
    alice.json(&["upload", "a", "b", "c", "--space", "Team"]).await;
    let removed = bob.run(&["rm", "a", "b", "--space", "Team"]).await;
    assert_eq!(
        text(&removed.stdout),
        "moved /a to the trash\nmoved /b to the trash\n"
    );
    alice.json(&["rm", "c", "--space", "Team"]).await;

    let listed = alice.json(&["trash", "--space", "Team"]).await;
    // One request has deleted two of them, at the same time.
    assert_eq!((listed.len(), &listed[0]["path"]), (3, &json!("/c")));
    assert_eq!(
        paths(&listed).into_iter().collect::<BTreeSet<_>>(),
        ["/a", "/b", "/c"].into()
    );
    assert_eq!(listed[0]["deletedBy"], alice.user_id);
    let shown = alice.run(&["trash", "--space", "Team"]).await;
    let shown = text(&shown.stdout);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].contains(" by you, kept until ") && lines[0].ends_with("  /c"),
        "{shown}"
    );
    assert!(
        lines[1].contains(" by ") && !lines[1].contains("by you"),
        "{shown}"
    );

    let restored = bob.run(&["restore", "/a", "b", "--space", "Team"]).await;
    assert_eq!(text(&restored.stdout), "restored /a\nrestored /b\n");
    assert_eq!(paths(&alice.json(&["ls", "--space", "Team"]).await), ["/a", "/b"]);
    let to = ["restore", "c", "--to", "/old/", "--space", "Team"];
    assert_eq!(alice.json(&to).await[0]["path"], "/old/c");
    assert!(alice.json(&["trash", "--space", "Team"]).await.is_empty());
}

#[tokio::test]
async fn a_restoration_that_cannot_be_says_what_can() {
    let alice = Person::new().await;
    alice.write("a", b"one");
    alice.json(&["upload", "a"]).await;
    let there = alice.fails(4, &["restore", "a"]).await;
    assert!(
        there.contains("it is not deleted") && there.contains("syncsphere versions /a"),
        "{there}"
    );
    let nowhere = alice.fails(4, &["restore", "b"]).await;
    assert!(nowhere.contains("syncsphere trash"), "{nowhere}");

    alice.json(&["rm", "a"]).await;
    alice.write("a", b"two");
    alice.json(&["upload", "a"]).await;
    let taken = alice.fails(5, &["--json", "restore", "a"]).await;
    let taken = values(taken.as_bytes()).remove(0);
    assert_eq!(taken["error"]["code"], "path-taken");
    let message = taken["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("another file is at /a now") && message.contains("--to"),
        "{message}"
    );
    let below = alice.fails(5, &["restore", "a", "--to", "/a/b"]).await;
    assert!(
        below.contains("cannot restore /a to /a/b: /a is in the way"),
        "{below}"
    );
    // One of several fails, and the others are restored.
    let some = alice.fails(4, &["restore", "b", "c"]).await;
    assert!(some.contains("2 of 2 files could not be restored"), "{some}");
    alice.fails(2, &["restore", "a", "b", "--to", "/c"]).await;
    alice
        .fails(2, &["restore", "a", "--to", "/c", "--version", "1"])
        .await;
    assert_eq!(alice.json(&["restore", "a", "--to", "/b"]).await[0]["path"], "/b");
    let restored = alice.run(&["get", "/b", "-o", "-"]).await;
    assert_eq!(restored.stdout, b"one");
}

#[tokio::test]
async fn an_earlier_version_becomes_the_newest() {
    let alice = Person::new().await;
    for content in ["one", "two"] {
        alice.write("a", content.as_bytes());
        alice.json(&["upload", "a"]).await;
    }
    let restored = alice.run(&["restore", "a", "--version", "1"]).await;
    assert_eq!(text(&restored.stdout), "restored version 1 of /a, as version 3\n");
    assert_eq!(alice.run(&["get", "a", "-o", "-"]).await.stdout, b"one");
    let versions = alice.json(&["versions", "a"]).await;
    let numbers: Vec<i64> = versions
        .iter()
        .map(|it| it["version"].as_i64().unwrap())
        .collect();
    assert_eq!(numbers, [3, 2, 1]);
    assert_eq!(versions, alice.json(&["history", "a"]).await);
    let again = alice.run(&["restore", "a", "--version", "1"]).await;
    assert_eq!(text(&again.stdout), "/a has the content of version 1 already\n");
    let missing = alice.fails(4, &["restore", "a", "--version", "9"]).await;
    assert!(
        missing.contains("/a has no version 9; `syncsphere versions /a`"),
        "{missing}"
    );
}

#[tokio::test]
async fn erasing_asks_first_and_names_what_goes() {
    let (alice, bob) = (Person::new().await, Person::new().await);
    alice.json(&["spaces", "create", "Team"]).await;
    alice.shares("Team", &bob).await;
    for name in ["a", "b"] {
        alice.write(name, name.as_bytes());
    }
    alice.json(&["upload", "a", "b", "--space", "Team"]).await;
    let erase = ["rm", "a", "b", "--permanently", "--space", "Team"];
    let refused = answered(&alice, &erase, "no\n").await;
    assert_eq!(refused.status.code(), Some(1));
    let question = text(&refused.stderr);
    assert!(
        question.contains("2 files are erased with all of their versions"),
        "{question}"
    );
    assert!(
        question.contains("\n/a\n/b\n") && question.contains("nothing was changed"),
        "{question}"
    );
    let unanswered = answered(&alice, &erase, "").await;
    assert!(text(&unanswered.stderr).contains("--yes"));
    assert_eq!(alice.json(&["ls", "--space", "Team"]).await.len(), 2);

    let of_editor = ["rm", "a", "--permanently", "--yes", "--space", "Team"];
    let refused = bob.fails(6, &of_editor).await;
    assert!(refused.contains("only owners of the space can"), "{refused}");
    // Nothing is erased unless everything is found.
    let missing = ["rm", "a", "c", "--permanently", "--yes", "--space", "Team"];
    alice.fails(4, &missing).await;
    assert_eq!(alice.json(&["ls", "--space", "Team"]).await.len(), 2);
    let erased = answered(
        &alice,
        &["rm", "a", "--permanently", "--space", "Team"],
        "erase\n",
    )
    .await;
    assert_eq!(text(&erased.stdout), "erased /a with all of its versions\n");

    alice.json(&["rm", "b", "--space", "Team"]).await;
    let in_trash = alice
        .fails(4, &["rm", "b", "--permanently", "--yes", "--space", "Team"])
        .await;
    assert!(in_trash.contains("/b is in the trash; add --trash"), "{in_trash}");
    alice
        .json(&["rm", "b", "--permanently", "--trash", "--yes", "--space", "Team"])
        .await;
    assert!(alice.json(&["trash", "--space", "Team"]).await.is_empty());
    alice.fails(2, &["rm", "a", "--yes"]).await;
}

#[tokio::test]
async fn a_deleted_space_is_restored_by_its_name() {
    let (alice, bob) = (Person::new().await, Person::new().await);
    alice.json(&["space", "create", "Team"]).await;
    alice.shares("Team", &bob).await;
    alice.json(&["space", "delete", "Team"]).await;
    bob.fails(4, &["ls", "--space", "Team"]).await;
    bob.fails(4, &["space", "restore", "Team"]).await;
    let restored = alice.run(&["space", "restore", "Team"]).await;
    assert_eq!(text(&restored.stdout), "Team is restored\n");
    assert!(bob.json(&["ls", "--space", "Team"]).await.is_empty());
    let gone = alice.fails(4, &["space", "restore", "Team"]).await;
    assert!(gone.contains("syncsphere spaces deleted"), "{gone}");
}

#[tokio::test]
async fn an_account_is_shown_and_erased_once_no_space_needs_it() {
    let (alice, bob) = (Person::new().await, Person::new().await);
    let shown = alice.json(&["account"]).await;
    assert_eq!(shown[0]["userId"], alice.user_id);
    let shown = text(&alice.run(&["account", "show"]).await.stdout);
    assert!(shown.contains(&format!("user ID  {}", alice.user_id)), "{shown}");
    alice.write("a", b"three");
    alice.json(&["upload", "a"]).await;
    alice.json(&["rm", "a"]).await;
    let shown = text(&alice.run(&["account"]).await.stdout);
    assert!(
        shown.contains("storage  5 B of ") && shown.contains("spaces   0 of "),
        "{shown}"
    );
    assert!(shown.ends_with(" people in this day\n"), "{shown}");
    for name in ["Team", "Mine"] {
        alice.json(&["spaces", "create", name]).await;
    }
    alice.shares("Team", &bob).await;
    let needed = alice.fails(5, &["account", "erase", "--yes"]).await;
    assert!(
        needed.contains("the only owner of \"Team\", with other members"),
        "{needed}"
    );
    assert!(!needed.contains("Mine"), "{needed}");
    alice
        .json(&["share", "Team", &bob.user_id, "--role", "owner"])
        .await;

    let refused = answered(&alice, &["account", "erase"], "yes\n").await;
    assert_eq!(refused.status.code(), Some(1));
    let question = text(&refused.stderr);
    assert!(question.contains("no other member: \"Mine\".\n"), "{question}");
    assert!(question.contains("deleted user"), "{question}");
    assert_eq!(alice.json(&["spaces"]).await.len(), 3);

    let erased = answered(&alice, &["account", "erase"], "erase my account\n").await;
    assert!(erased.status.success(), "{}", text(&erased.stderr));
    let signed_out = alice.fails(3, &["whoami"]).await;
    assert!(signed_out.contains("syncsphere login"), "{signed_out}");
    assert_eq!(bob.json(&["spaces", "members", "Team"]).await.len(), 1);
}
