//! A file of 1 GiB on the deployed stack.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::{LocalFile, Progress, Sha256Stream, Source};
use model::{IdempotencyKey, MIN_PART_BYTES};
use ring::rand::{SecureRandom as _, SystemRandom};
use tests::{Proxy, lock_exclusive, new_user, report};

const MIB: u64 = 1024 * 1024;

/// Maximum growth of a function's peak resident memory, in KiB: much less than one part.
const FLAT_KIB: u64 = 4 * 1024;

/// 1 GiB of content without two equal MiB, generated while it is read.
struct Gibibyte {
    block: Vec<u8>,
}

impl Gibibyte {
    fn new() -> Self {
        let mut block = vec![0; usize::try_from(MIB).unwrap()];
        SystemRandom::new().fill(&mut block).unwrap();
        Self { block }
    }
}

impl Source for Gibibyte {
    fn size(&self) -> u64 {
        1024 * MIB
    }

    async fn read(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        let mut piece = Vec::with_capacity(usize::try_from(length).unwrap());
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let number = at / MIB;
            let mut block = self.block.clone();
            block[..8].copy_from_slice(&number.to_le_bytes());
            let next = end.min((number + 1) * MIB);
            let within = |offset: u64| usize::try_from(offset - number * MIB).unwrap();
            piece.extend_from_slice(&block[within(at)..within(next)]);
            at = next;
        }
        Ok(piece.into())
    }
}

/// Bytes that an attempt sent, and bytes that storage already had.
#[derive(Default)]
struct Sent {
    moved: AtomicU64,
    found: AtomicU64,
}

impl Progress for Sent {
    fn transferred(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::SeqCst);
    }

    fn skipped(&self, bytes: u64) {
        self.found.fetch_add(bytes, Ordering::SeqCst);
    }
}

/// Peak resident memory of every function's process, in KiB, by function name.
fn peaks() -> BTreeMap<String, u64> {
    let mut peaks = BTreeMap::new();
    for process in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let (Ok(environment), Ok(status)) = (
            fs::read(process.path().join("environ")),
            fs::read_to_string(process.path().join("status")),
        ) else {
            continue;
        };
        let mut variables = environment.split(|byte| *byte == 0);
        let name = variables.find_map(|variable| variable.strip_prefix(b"AWS_LAMBDA_FUNCTION_NAME="));
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let (Some(name), Some(peak)) = (name, peak) {
            let name = String::from_utf8_lossy(name).into_owned();
            let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
            let highest = peaks.entry(name).or_insert(0);
            *highest = peak.max(*highest);
        }
    }
    peaks
}

fn of(peaks: &BTreeMap<String, u64>, function: &str) -> u64 {
    let found = peaks.iter().find(|(name, _)| name.contains(function));
    *found
        .unwrap_or_else(|| panic!("no process of {function} among {:?}", peaks.keys()))
        .1
}

#[tokio::test]
async fn one_gibibyte_killed_half_way_is_resumed_and_downloads_identical() {
    let (_, token) = new_user().await;
    // Assembling 1 GiB blocks the emulator, which has a single thread.
    let _exclusive = lock_exclusive().await;
    let proxy = Proxy::start_unshared().await;
    let content = Gibibyte::new();
    let parts = usize::try_from(content.size()).unwrap() / usize::try_from(MIN_PART_BYTES).unwrap();
    // One-time initialisation of the functions happens before the measurement.
    let device = proxy.device(token.clone());
    device
        .upload(None, "/small".parse().unwrap(), b"x".as_slice())
        .await
        .unwrap();
    let description = device
        .describe(None, "/big".parse().unwrap(), &content, &())
        .await
        .unwrap();
    let created = device.create_upload(&description, None).await.unwrap();
    device.show_upload(created.upload_id).await.unwrap();
    let key: IdempotencyKey = "the one that is kept".parse().unwrap();
    let before = peaks();

    let started = Instant::now();
    let first = Sent::default();
    tokio::select! {
        sent = device.upload_with_key(&description, &key, &content, &first) => panic!("not killed: {sent:?}"),
        () = async {
            while first.moved.load(Ordering::SeqCst) < content.size() / 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
    drop(device);

    // Simulates another process with the same idempotency key and file.
    let device = proxy.device(token);
    let second = Sent::default();
    let uploading = device.upload_with_key(&description, &key, &content, &second);
    let changed = uploading.await.unwrap();
    let (found, moved) = (second.found.into_inner(), second.moved.into_inner());
    assert!(
        found > 0 && found + moved == content.size(),
        "{found} found, {moved} sent again"
    );
    let uploaded = started.elapsed();

    let mut download = device.download(changed.file_id, None).await.unwrap();
    let (mut digest, mut size) = (Sha256Stream::default(), 0);
    while let Some(chunk) = download.chunk().await.unwrap() {
        digest.update(&chunk);
        size += chunk.len() as u64;
    }
    assert_eq!(
        (Some(digest.finish()), size),
        (description.sha256, content.size())
    );

    let after = peaks();
    report(&format!(
        "1 GiB in {parts} parts, {} MiB there after the kill, {} MiB sent again, {uploaded:.1?} altogether",
        found / MIB,
        moved / MIB
    ));
    for function in ["Uploads", "CompleteUpload", "Files"] {
        let after = of(&after, function);
        report(&format!("{function}: peak of resident memory {after} KiB"));
        let Some((_, before)) = before.iter().find(|(name, _)| name.contains(function)) else {
            continue;
        };
        // The environment with the highest peak before may have ended.
        let grown = after.saturating_sub(*before);
        report(&format!("{function}: {grown} KiB of it since the upload began"));
        assert!(grown <= FLAT_KIB, "{function} grew by {grown} KiB");
    }
}

/// A file that is modified after its upload has begun.
struct Changing {
    reads: AtomicU64,
}

impl Source for Changing {
    fn size(&self) -> u64 {
        80 * MIB
    }

    async fn read(&self, _: u64, length: u64) -> io::Result<Bytes> {
        let read = self.reads.fetch_add(length, Ordering::SeqCst);
        let byte = u8::from(read >= self.size());
        Ok(vec![byte; usize::try_from(length).unwrap()].into())
    }
}

/// Changes a file once some of it was sent.
struct Changer<'a> {
    file: &'a Path,
    sent: AtomicU64,
}

impl Progress for Changer<'_> {
    fn transferred(&self, bytes: u64) {
        let before = self.sent.fetch_add(bytes, Ordering::SeqCst);
        if before < 20 * MIB && before + bytes >= 20 * MIB {
            let file = fs::File::options().write(true).open(self.file).unwrap();
            file.write_all_at(b"changed", 0).unwrap();
        }
    }
}

/// The first part was read before the change, and the last one after it.
#[tokio::test]
async fn a_large_file_that_is_written_to_while_it_is_read_once_is_no_version() {
    let (_, token) = new_user().await;
    let device = Proxy::start().await.device(token);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film");
    fs::File::create(&path).unwrap().set_len(160 * MIB).unwrap();
    let content = LocalFile::open(&path).await.unwrap();
    let description = device.describe_unread(None, "/film".parse().unwrap(), &content);
    let (description, key) = (description.unwrap(), "a key".parse().unwrap());
    let writer = Changer {
        file: &path,
        sent: AtomicU64::new(0),
    };
    let uploading = device.upload_with_key(&description, &key, &content, &writer);
    let error = uploading.await.unwrap_err();
    assert!(matches!(error, client::Error::Changed), "{error}");
    let changes = device.list_changes(None, model::Cursor::START).await.unwrap();
    assert!(changes.changes.is_empty());
    assert!(device.pending_uploads().await.unwrap().is_empty());

    // A change of the times alone does no harm.
    let content = LocalFile::open(&path).await.unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let version = device
        .upload(None, "/film".parse().unwrap(), &content)
        .await
        .unwrap();
    assert_eq!(version.size.get().unsigned_abs(), content.size());
}

/// Storage compares each part with the checksum declared for that part, which would match.
#[tokio::test]
async fn a_large_file_that_changes_while_it_is_uploaded_is_no_version() {
    let (_, token) = new_user().await;
    let device = Proxy::start().await.device(token);
    let content = Changing {
        reads: AtomicU64::new(0),
    };
    let error = device
        .upload(None, "/a".parse().unwrap(), &content)
        .await
        .unwrap_err();
    assert!(matches!(error, client::Error::Changed), "{error}");
    let changes = device.list_changes(None, model::Cursor::START).await.unwrap();
    assert!(changes.changes.is_empty());
}
