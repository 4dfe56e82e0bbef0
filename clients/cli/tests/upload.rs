//! `upload` of many small files and of the standard input, and changes of folders, against the deployed stack.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's failure is a panic"
)]

#[expect(dead_code, reason = "the other tests use more of it")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

use support::{Person, values};

/// More than two full requests.
const FILES: usize = 230;

fn outcomes(values: &[Value]) -> BTreeMap<&str, usize> {
    values.iter().fold(BTreeMap::new(), |mut counts, value| {
        *counts
            .entry(value["outcome"].as_str().unwrap_or("failed"))
            .or_default() += 1;
        counts
    })
}

impl Person {
    /// Runs a command with this standard input.
    async fn with_input(&self, input: &[u8], arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // The command does not read its input if its arguments are wrong.
        let _ = stdin.write_all(input).await;
        drop(stdin);
        let running = child.wait_with_output();
        timeout(Duration::from_mins(2), running)
            .await
            .expect("it hangs")
            .unwrap()
    }

    async fn content(&self, path: &str) -> Vec<u8> {
        let output = self.run(&["get", path, "-o", "-"]).await;
        assert!(output.status.success(), "{path}: {output:?}");
        output.stdout
    }
}

#[tokio::test]
async fn each_of_many_files_has_its_own_result() {
    let alice = Person::new().await;
    for number in 0..FILES {
        alice.write(
            &format!("many/{number:03}"),
            format!("content of {number}").as_bytes(),
        );
    }
    let uploaded = alice.json(&["upload", "many/.", "--to", "/m/"]).await;
    assert_eq!(outcomes(&uploaded), [("uploaded", FILES)].into());
    let listed = alice.json(&["ls", "/m/"]).await;
    assert!(listed.len() == FILES && listed.iter().all(|file| file["version"] == 1));
    assert_eq!(alice.content("/m/229").await, b"content of 229");
    // No key is left, and every version is known.
    assert_eq!(fs::read_dir(alice.path("home/uploads")).unwrap().count(), 0);

    // Another machine of the same user changes a file.
    let home = alice.path("home/versions");
    let kept = alice.path("versions");
    fs::rename(&home, &kept).unwrap();
    alice.write("other/007", b"changed elsewhere");
    alice
        .json(&["upload", "other/007", "--to", "/m/007", "--replace"])
        .await;
    fs::remove_dir_all(&home).unwrap();
    fs::rename(&kept, &home).unwrap();
    for number in [5, 6, 7] {
        alice.write(&format!("many/{number:03}"), b"changed here");
    }
    let output = alice.run(&["--json", "upload", "many/.", "--to", "/m/"]).await;
    assert_eq!(output.status.code(), Some(5));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        stderr.contains("/m/007") && stderr.contains("--keep-both"),
        "{stderr}"
    );
    let results = values(&output.stdout);
    assert_eq!(
        outcomes(&results),
        [("unchanged", FILES - 3), ("uploaded", 2)].into()
    );
    assert_eq!(alice.content("/m/007").await, b"changed elsewhere");
    assert_eq!(alice.content("/m/005").await, b"changed here");
}

#[tokio::test]
async fn an_upload_of_many_files_is_resumed_after_a_kill_and_makes_each_version_once() {
    let alice = Person::new().await;
    for number in 0..FILES {
        alice.write(
            &format!("many/{number:03}"),
            format!("content of {number}").as_bytes(),
        );
    }
    let mut killed = alice.command(&["--json", "upload", "many/.", "--to", "/m/"]);
    let mut killed = killed.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(killed.stdout.take().unwrap()).lines();
    let first = timeout(Duration::from_mins(1), lines.next_line()).await;
    first.expect("it hangs").unwrap().expect("no file was uploaded");
    killed.start_kill().unwrap();
    assert_eq!(killed.wait().await.unwrap().code(), None, "it had ended already");
    let again = alice.json(&["upload", "many/.", "--to", "/m/"]).await;
    assert_eq!(again.len(), FILES);
    assert!(
        outcomes(&again)
            .get("unchanged")
            .is_some_and(|number| *number > 0)
    );
    let listed = alice.json(&["ls", "/m/"]).await;
    assert!(listed.len() == FILES && listed.iter().all(|file| file["version"] == 1));
}

#[tokio::test]
async fn folders_are_moved_and_deleted_with_all_of_their_files() {
    let alice = Person::new().await;
    for number in 0..FILES {
        alice.write(&format!("many/deep/{number:03}"), b"x");
    }
    alice.write("many-more", b"not in the folder");
    alice
        .json(&["upload", "many", "many-more", "--to", "/old/"])
        .await;
    let moved = alice.json(&["mv", "/old/many/", "/new/"]).await;
    assert_eq!(moved.len(), FILES);
    let listed = alice.json(&["ls", "/new/many/deep/"]).await;
    assert_eq!(listed.len(), FILES);
    alice.fails(4, &["mv", "/old/many/", "/new/"]).await;
    alice.fails(2, &["mv", "/new/", "/new/many/"]).await;
    assert_eq!(alice.json(&["mv", "/new/many/", "/renamed"]).await.len(), FILES);

    // A file that is in the way stays, and all others are moved.
    alice.write("007", b"in the way");
    alice.json(&["upload", "007", "--to", "/target/deep/007"]).await;
    let output = alice.run(&["--json", "mv", "/renamed/", "/target"]).await;
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert_eq!(values(&output.stdout).len(), FILES - 1);
    assert_eq!(alice.content("/target/deep/007").await, b"in the way");
    assert_eq!(alice.json(&["ls", "/renamed/"]).await.len(), 1);

    alice.fails(4, &["rm", "/target/deep"]).await;
    alice.fails(2, &["rm", "-r", "/"]).await;
    let deleted = alice.json(&["rm", "-r", "/target/", "/target/deep"]).await;
    assert_eq!(deleted.len(), FILES);
    let left = alice.json(&["ls"]).await;
    let left: Vec<&str> = left.iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(left, ["/old/many-more", "/renamed/deep/007"]);
    assert_eq!(
        alice
            .json(&["rm", "/old/many-more", "/renamed/deep/007"])
            .await
            .len(),
        2
    );
}

#[tokio::test]
async fn the_standard_input_is_uploaded() {
    let alice = Person::new().await;
    let upload = ["--json", "upload", "-", "--to", "/log/today"];
    let first = alice.with_input(b"one", &upload).await;
    assert!(first.status.success(), "{first:?}");
    let first = values(&first.stdout);
    assert_eq!(
        (&first[0]["outcome"], &first[0]["file"]),
        (&"uploaded".into(), &"-".into())
    );
    assert_eq!(first[0]["change"]["path"], "/log/today");
    assert_eq!(alice.content("/log/today").await, b"one");
    let again = alice.with_input(b"one", &upload).await;
    assert_eq!(values(&again.stdout)[0]["outcome"], "unchanged");
    // More than one read, and in parts.
    let long = b"0123456789abcdef".repeat(5 * 1024 * 1024);
    let replaced = alice.with_input(&long, &upload).await;
    assert_eq!(
        values(&replaced.stdout)[0]["change"]["version"],
        2,
        "{replaced:?}"
    );
    assert!(alice.content("/log/today").await == long);
    // Nothing is left of it on this machine.
    assert_eq!(fs::read_dir(alice.path("home/stdin")).unwrap().count(), 0);

    // A change of another device.
    fs::remove_dir_all(alice.path("home/versions")).unwrap();
    let mut based = upload.to_vec();
    based.extend(["--base-version", "1"]);
    let conflict = alice.with_input(b"two", &based).await;
    assert_eq!(conflict.status.code(), Some(5), "{conflict:?}");
    based.push("--keep-both");
    let both = alice.with_input(b"two", &based).await;
    let path = values(&both.stdout)[0]["change"]["path"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(path.starts_with("/log/today (conflict, "), "{path}");
    assert_eq!(alice.content(&path).await, b"two");
    let mut replacing = upload.to_vec();
    replacing.push("--replace");
    assert!(alice.with_input(b"three", &replacing).await.status.success());
    assert_eq!(alice.content("/log/today").await, b"three");
}

/// A large file is hashed while it is sent, unless the space has one of the same size.
#[tokio::test]
async fn a_large_file_is_uploaded_again_only_if_it_changed() {
    let alice = Person::new().await;
    let mut content = vec![7; 72 * 1024 * 1024];
    alice.write("film", &content);
    let first = alice.json(&["upload", "film"]).await;
    assert_eq!(first[0]["change"]["version"], 1);
    let again = alice.json(&["upload", "film"]).await;
    assert_eq!(again[0]["outcome"], "unchanged");
    content[5] = 8;
    alice.write("film", &content);
    let changed = alice.json(&["upload", "film"]).await;
    assert_eq!(changed[0]["change"]["version"], 2);
    content.push(9);
    alice.write("film", &content);
    let longer = alice.json(&["upload", "film"]).await;
    assert_eq!(longer[0]["change"]["version"], 3);
    assert_eq!(longer[0]["sentBytes"], content.len());
    assert!(alice.content("/film").await == content);
    // No key is left.
    assert_eq!(fs::read_dir(alice.path("home/uploads")).unwrap().count(), 0);

    // Another device has changed it, and this one has another size.
    fs::remove_dir_all(alice.path("home/versions")).unwrap();
    content.push(9);
    alice.write("film", &content);
    let upload = ["--json", "upload", "film", "--base-version", "2"];
    let conflict = alice.run(&upload).await;
    assert_eq!(conflict.status.code(), Some(5), "{conflict:?}");
    let both = alice.json(&[&upload[1..], &["--keep-both"]].concat()).await;
    let path = both[0]["change"]["path"].as_str().unwrap();
    assert!(path.starts_with("/film (conflict, "), "{path}");
}

#[tokio::test]
async fn a_standard_input_that_cannot_be_uploaded_is_refused_with_the_reason() {
    let alice = Person::new().await;
    alice
        .with_input(b"one", &["upload", "-", "--to", "/folder/file"])
        .await;
    for (input, arguments, status, reason) in [
        (
            &b""[..],
            &["upload", "-", "--to", "/empty"][..],
            6,
            "the standard input is empty",
        ),
        (b"x", &["upload", "-"], 2, "--to \"/NAME\""),
        (
            b"x",
            &["upload", "-", "--to", "/folder/"],
            2,
            "--to \"/folder/NAME\"",
        ),
        (
            b"x",
            &["upload", "-", "--to", "/folder"],
            5,
            "\"/folder\" is a folder of the space",
        ),
        (
            b"x",
            &["upload", "-", "home", "--to", "/a"],
            2,
            "a file of that name is ./-",
        ),
    ] {
        let output = alice.with_input(input, arguments).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {stderr}");
        assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
    }
    let mut command = alice.command(&["upload", "-", "--to", "/a"]);
    command
        .env("TMPDIR", "/proc")
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let output = command.output().await.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("cannot write a temporary file in /proc"),
        "{stderr}"
    );
}
