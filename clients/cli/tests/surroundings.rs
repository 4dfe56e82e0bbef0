//! The command in unusual environments, against the deployed stack: a wrong clock, an HTTP proxy, other file
//! systems, and files of all kinds of sizes.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's failure is a panic"
)]

#[expect(dead_code, reason = "the other tests use more of it")]
mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use support::{Person, Running, files_in, owned, values};

/// Content of at least this size, in bytes, is sent in parts.
const THRESHOLD: u64 = 64 * 1024 * 1024;

/// Reports a skipped test directly on the standard error, because a passing test's output is captured.
fn skip(test: &str, missing: &str) {
    let line = format!("\nSKIPPED {test}: this machine has no {missing}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

#[tokio::test]
async fn content_of_every_size_is_uploaded_and_downloaded() {
    let alice = Person::new().await;
    for size in [0, 1, THRESHOLD, THRESHOLD + 1] {
        let name = format!("{size}");
        alice.write(&name, b"");
        let file = File::options().write(true).open(alice.path(&name)).unwrap();
        file.set_len(size).unwrap();
        let uploaded = alice.json(&["upload", &name]).await;
        assert_eq!(uploaded[0]["change"]["size"], size);
        let again = alice.json(&["upload", &name]).await;
        assert_eq!(again[0]["outcome"], "unchanged");
        alice
            .json(&["get", &format!("/{name}"), "-o", "copy", "--force"])
            .await;
        assert_eq!(fs::metadata(alice.path("copy")).unwrap().len(), size);
    }
    for name in ["tree/__init__.py", "tree/a/__init__.py", "tree/.gitkeep"] {
        alice.write(name, b"");
    }
    assert_eq!(alice.json(&["upload", "tree"]).await.len(), 3);
    alice.json(&["sync", "--down", "down", "--once"]).await;
    for size in [0, 1, THRESHOLD, THRESHOLD + 1] {
        let found = fs::metadata(alice.path(&format!("down/{size}"))).unwrap();
        assert_eq!(found.len(), size);
    }
    assert!(alice.path("down/tree/.gitkeep").exists());
}

/// The path of libfaketime, if it is installed (Debian package `libfaketime`).
fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists())
}

#[tokio::test]
async fn a_clock_that_is_two_hours_off_changes_nothing() {
    let Some(library) = faketime() else {
        return skip("a_clock_that_is_two_hours_off_changes_nothing", "libfaketime");
    };
    for offset in ["+2h", "-2h"] {
        let alice = Person::new().await;
        let run = async |arguments: &[&str]| {
            let mut command = alice.command(&[&["--json"], arguments].concat());
            command.env("LD_PRELOAD", &library).env("FAKETIME", offset);
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            let output = command.output().await.unwrap();
            assert!(output.status.success(), "{offset} {arguments:?}: {output:?}");
            values(&output.stdout)
        };
        alice.write("up/a", b"one");
        alice.write("up/b", b"two");
        assert_eq!(run(&["upload", "up/."]).await.len(), 2);
        run(&["sync", "--down", "down", "--once"]).await;
        assert_eq!(
            files_in(&alice.path("down")),
            owned(&[("a", "one"), ("b", "two")])
        );
        alice.write("up/a", b"three");
        run(&["upload", "up/."]).await;
        run(&["sync", "--down", "down", "--once"]).await;
        assert_eq!(
            files_in(&alice.path("down")),
            owned(&[("a", "three"), ("b", "two")])
        );
        run(&["get", "/a", "-o", "copy"]).await;
    }
}

/// A proxy for plain HTTP and, if allowed, for CONNECT tunnels.
struct Proxy {
    url: String,
    /// Methods of the requests received.
    methods: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(allows_connect: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let methods = Arc::new(Mutex::new(Vec::new()));
        let came = Arc::clone(&methods);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A connection that its client closes early does not fail the test.
                tokio::spawn(pass(stream, Arc::clone(&came), allows_connect));
            }
        });
        Self { url, methods }
    }

    fn command(&self, person: &Person, arguments: &[&str]) -> tokio::process::Command {
        let mut command = person.command(&[&["--json"], arguments].concat());
        command.env("HTTP_PROXY", &self.url).env("http_proxy", &self.url);
        command
    }

    fn count(&self, method: &str) -> usize {
        let methods = self.methods.lock().unwrap();
        methods.iter().filter(|it| *it == method).count()
    }
}

/// Forwards one request or one tunnel.
async fn pass(
    mut client: TcpStream,
    came: Arc<Mutex<Vec<String>>>,
    allows_connect: bool,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    came.lock().unwrap().push(method.to_owned());
    if method == "CONNECT" {
        if !allows_connect {
            return client
                .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                .await;
        }
        let mut server = TcpStream::connect(target).await?;
        client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
        copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    let (authority, path) = target.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut server = TcpStream::connect(authority).await?;
    // `Connection: close`, so that the next request uses a new connection and its head is rewritten too.
    let head = format!("{method} /{path} HTTP/1.1\r\nConnection: close\r\n{headers}");
    server.write_all(head.as_bytes()).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

#[tokio::test]
async fn everything_goes_through_the_proxy() {
    let alice = Person::new().await;
    let proxy = Proxy::start(true).await;
    let mut watching = Running::of(proxy.command(&alice, &["watch"]));
    watching.next("live").await;
    assert_eq!(proxy.count("CONNECT"), 1);
    alice.write("a", b"one");
    let uploaded = proxy.command(&alice, &["upload", "a"]).output().await.unwrap();
    assert!(uploaded.status.success(), "{uploaded:?}");
    assert_eq!(watching.next("change").await["path"], "/a");
    // The upload's content also went through the proxy.
    assert_eq!(proxy.count("PUT"), 1);
    let got = proxy
        .command(&alice, &["get", "/a", "-o", "copy"])
        .output()
        .await
        .unwrap();
    assert!(got.status.success(), "{got:?}");
    assert_eq!(fs::read(alice.path("copy")).unwrap(), b"one");
}

#[tokio::test]
async fn sync_works_without_web_sockets() {
    let alice = Person::new().await;
    alice.write("a", b"one");
    alice.json(&["upload", "a"]).await;
    let proxy = Proxy::start(false).await;
    let mut sync = Running::of(proxy.command(&alice, &["sync", "--down", "down"]));
    let message = sync.next("polling").await;
    assert!(
        message["reason"].as_str().unwrap().contains("the proxy"),
        "{message}"
    );
    sync.next("current").await;
    assert_eq!(files_in(&alice.path("down")), owned(&[("a", "one")]));
}

/// A mounted file system image that treats names that differ only in case as one. Dropping it unmounts it.
struct Mounted {
    at: PathBuf,
    /// The loop device of the image.
    device: String,
}

impl Mounted {
    fn new(image: &Path, at: &Path, make: &[&str], mount: &[&str]) -> Option<Self> {
        File::create(image).unwrap().set_len(64 * 1024 * 1024).unwrap();
        fs::create_dir_all(at).unwrap();
        run_program(make, &[image])?;
        // The FUSE driver for exFAT mounts only block devices.
        let device = run_program(&["losetup", "--find", "--show"], &[image])?
            .trim()
            .to_owned();
        let mounted = run_program(mount, &[Path::new(&device), at]);
        let at = at.to_owned();
        // Built even if mounting failed, so that dropping it detaches the device.
        let attached = Self { at, device };
        mounted.map(|_| attached)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run_program(&["umount"], &[&self.at]);
        run_program(&["losetup", "--detach", &self.device], &[]);
    }
}

/// The standard output of a program, or `None` if it fails.
fn run_program(program: &[&str], last: &[&Path]) -> Option<String> {
    let (name, arguments) = program.split_first().unwrap();
    let output = Program::new(name).args(arguments).args(last).output().ok()?;
    let output_text = String::from_utf8(output.stdout).unwrap();
    output.status.success().then_some(output_text)
}

/// The contents of a folder's files, sorted. Names are left out because file systems may list them
/// differently.
fn contents(folder: &Path) -> Vec<String> {
    let mut contents: Vec<String> = files_in(folder).into_iter().map(|(_, content)| content).collect();
    contents.sort();
    contents
}

async fn equal_names(test: &str, make: &[&str], mount: &[&str]) {
    let alice = Person::new().await;
    let (image, at) = (alice.path("image"), alice.path("mounted"));
    let Some(mounted) = Mounted::new(&image, &at, make, mount) else {
        return skip(test, mount[0]);
    };
    let one = "\u{39b}\u{39f}\u{393}\u{39f}\u{3a3}.TXT";
    let other = "\u{3bb}\u{3bf}\u{3b3}\u{3bf}\u{3c2}.txt";
    for (number, name) in ["A", "b/c", "d", one, "D/e", "a/b", other]
        .into_iter()
        .enumerate()
    {
        alice.write("file", name.as_bytes());
        let to = format!("/{name}");
        alice.json(&["upload", "file", "--to", &to]).await;
        if number == 3 {
            alice.json(&["sync", "--down", "mounted/down", "--once"]).await;
        }
    }
    let first = ["A", "b/c", "d", one];
    let down = alice.path("mounted/down");
    let mut first_message = None;
    for _ in 0..3 {
        let message = alice
            .fails(6, &["sync", "--down", "mounted/down", "--once"])
            .await;
        for name in ["/D/e", "/a/b", other] {
            assert!(message.contains(name), "{name}: {message}");
        }
        assert_eq!(&message, first_message.get_or_insert(message.clone()));
        assert_eq!(contents(&down), first);
    }
    // Deleting one of two clashing files makes room for the other.
    alice.json(&["rm", "/A", "/d", &format!("/{one}")]).await;
    alice.json(&["sync", "--down", "mounted/down", "--once"]).await;
    assert_eq!(contents(&down), ["D/e", "a/b", "b/c", other]);
    drop(mounted);
}

#[tokio::test]
async fn equal_names_on_ntfs_do_not_displace_each_other() {
    let test = "equal_names_on_ntfs_do_not_displace_each_other";
    let mount = ["lowntfs-3g", "-o", "ignore_case"];
    equal_names(test, &["mkntfs", "--fast", "--force", "--quiet"], &mount).await;
}

#[tokio::test]
async fn equal_names_on_exfat_do_not_displace_each_other() {
    let test = "equal_names_on_exfat_do_not_displace_each_other";
    equal_names(test, &["mkfs.exfat"], &["mount.exfat-fuse"]).await;
}

/// A folder on a file system that ignores case, and one on another, are synced in both directions.
async fn both_directions(test: &str, make: &[&str], mount: &[&str]) {
    let alice = Person::new().await;
    let (image, at) = (alice.path("image"), alice.path("mounted"));
    let Some(mounted) = Mounted::new(&image, &at, make, mount) else {
        return skip(test, mount[0]);
    };
    let both = async || {
        for _ in 0..2 {
            for folder in ["mounted/work", "work"] {
                alice.json(&["sync", folder, "--once", "--yes"]).await;
            }
        }
    };
    alice.write("mounted/work/a", b"a");
    alice.write("mounted/work/folder/b", b"b");
    alice.write("work/folder/c", b"c");
    alice.write("work/\u{e4}/d", b"d");
    both().await;
    alice.write("mounted/work/a", b"edited there");
    alice.write("work/folder/b", b"edited here");
    fs::rename(
        alice.path("mounted/work/folder/c"),
        alice.path("mounted/work/moved"),
    )
    .unwrap();
    fs::remove_file(alice.path("work/\u{e4}/d")).unwrap();
    both().await;
    let wanted = owned(&[("a", "edited there"), ("folder/b", "edited here"), ("moved", "c")]);
    assert_eq!(files_in(&alice.path("work")), wanted);
    assert_eq!(files_in(&alice.path("mounted/work")), wanted);
    // Of two names that are one there, the second one is held, in each run.
    alice.write("work/name", b"first");
    both().await;
    alice.write("work/NAME", b"second");
    alice.json(&["sync", "work", "--once"]).await;
    for _ in 0..2 {
        alice.fails(8, &["sync", "mounted/work", "--once"]).await;
        assert_eq!(fs::read(alice.path("mounted/work/name")).unwrap(), b"first");
    }
    alice.json(&["sync", "work", "--once"]).await;
    assert_eq!(files_in(&alice.path("work")).len(), 5);
    drop(mounted);
}

#[tokio::test]
async fn a_folder_on_ntfs_is_synced_in_both_directions() {
    let test = "a_folder_on_ntfs_is_synced_in_both_directions";
    let mount = ["lowntfs-3g", "-o", "ignore_case"];
    both_directions(test, &["mkntfs", "--fast", "--force", "--quiet"], &mount).await;
}

#[tokio::test]
async fn a_folder_on_exfat_is_synced_in_both_directions() {
    let test = "a_folder_on_exfat_is_synced_in_both_directions";
    both_directions(test, &["mkfs.exfat"], &["mount.exfat-fuse"]).await;
}
