use fastrand::Rng;
use model::{IdempotencyKey, Sequence};

use super::super::memory::MemoryStore;
use super::super::{ConflictRow, Intent, SavedMeta, SentUpload, TrashRow};
use super::*;
use crate::disk::{Identity, RootIdentity, Stamp};
use crate::path::LocalPath;
use crate::tree::{FolderState, LocalEntry, LocalFile, RemoteRow, SyncedRow};

/// Random rows with few keys, so that rows are often replaced and removed.
struct Random(Rng);

impl Random {
    fn path(&mut self) -> LocalPath {
        let names = ["/a", "/a/b", "/\u{e9}", "/e\u{301}", "/a'b\n", "/\u{1f600}", "/A"];
        LocalPath::new(*self.0.choice(names.iter()).unwrap())
    }

    fn space_path(&mut self) -> model::SpacePath {
        let names = ["/a", "/a/b", "/\u{e9}", "/A"];
        self.0.choice(names.iter()).unwrap().parse().unwrap()
    }

    fn file_id(&mut self) -> model::FileId {
        uuid::Uuid::from_u128(self.0.u128(0..6)).into()
    }

    fn sha256(&mut self) -> model::Sha256 {
        [self.0.u8(..); 32].into()
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.0.bool().then(|| value(self))
    }

    fn stamp(&mut self) -> Stamp {
        Stamp {
            identity: Identity {
                device: self.0.u64(..),
                inode: self.0.u64(..),
                birth: self.maybe(|it| it.0.i64(..)),
            },
            size: self.0.u64(0..3),
            modified: self.0.i64(..),
            changed: self.0.i64(..),
        }
    }

    fn version(&mut self) -> model::Version {
        self.0.i64(1..4).try_into().unwrap()
    }

    fn modified_at(&mut self) -> model::ModifiedAt {
        let micros = self.0.i64(-62_000_000_000_000_000..250_000_000_000_000_000);
        let time = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000);
        time.unwrap().try_into().unwrap()
    }

    fn entry(&mut self) -> LocalEntry {
        match self.0.u8(0..7) {
            0 => LocalEntry::Link,
            1 => LocalEntry::Special,
            2 => LocalEntry::Folder(FolderState::Unlisted),
            3 => LocalEntry::Folder(FolderState::Listed),
            4 => LocalEntry::Folder(FolderState::Unreadable),
            5 => LocalEntry::Folder(FolderState::Mount),
            _ => LocalEntry::File(LocalFile {
                stamp: self.stamp(),
                sha256: self.maybe(Self::sha256),
                is_racy: self.0.bool(),
                executable: self.maybe(|it| it.0.bool()),
            }),
        }
    }

    fn remote(&mut self) -> RemoteRow {
        RemoteRow {
            path: self.space_path(),
            version: self.version(),
            size: self.0.u64(0..9),
            sha256: self.sha256(),
            modified_at: self.maybe(Self::modified_at),
            executable: self.maybe(|it| it.0.bool()),
        }
    }

    fn synced(&mut self) -> SyncedRow {
        SyncedRow {
            path: self.space_path(),
            local: self.path(),
            version: self.version(),
            size: self.0.u64(0..3),
            sha256: self.sha256(),
            executable: self.maybe(|it| it.0.bool()),
            stamp: self.stamp(),
            sequence: self.maybe(|it| Sequence::try_from(it.0.i64(1..9)).unwrap()),
        }
    }

    fn key(&mut self) -> IdempotencyKey {
        format!("key {}", self.0.u8(0..4)).parse().unwrap()
    }

    fn meta(&mut self) -> SavedMeta {
        SavedMeta {
            root: self.maybe(|it| RootIdentity {
                marker: "marker".to_owned(),
                device: it.0.u64(..),
                inode: it.0.u64(..),
                host: String::new(),
            }),
            cursor: self.0.i64(0..9).try_into().unwrap(),
            paused: self.0.bool(),
            ended_cleanly: self.0.bool(),
            ..SavedMeta::default()
        }
    }

    fn change(&mut self) -> RowChange {
        match self.0.u8(0..9) {
            0 => RowChange::Meta(self.meta().into()),
            1 => RowChange::Remote(self.file_id(), self.maybe(|it| it.remote().into())),
            2 => RowChange::Local(self.path(), self.maybe(|it| it.entry().into())),
            3 => RowChange::Synced(self.file_id(), self.maybe(|it| it.synced().into())),
            4 => {
                let row = self.maybe(|it| Intent {
                    path: it.path(),
                    known: vec![it.sha256()],
                    is_move: it.0.bool(),
                });
                RowChange::Intent(self.path().as_str().into(), row.map(Into::into))
            }
            5 => {
                let row = self.maybe(|it| SentUpload {
                    local: it.path(),
                    path: it.space_path(),
                    sha256: it.sha256(),
                    size: it.0.u64(0..9),
                    stamp: it.stamp(),
                    base: it.maybe(|it| (it.file_id(), it.version())),
                    epoch: serde_json::from_value("0192f0c1-7a5e-7e4e-8f6a-0d5c3b2a1908".into()).unwrap(),
                });
                RowChange::Upload(self.key(), row.map(Into::into))
            }
            6 => {
                let row = self.maybe(|it| TrashRow {
                    path: it.path(),
                    sha256: it.sha256(),
                    stamp: it.stamp(),
                    at: it.0.i64(..),
                });
                RowChange::Trash(self.path().as_str().into(), row.map(Into::into))
            }
            7 => {
                let row = self.maybe(|it| ConflictRow {
                    of: it.path(),
                    at: it.0.i64(..),
                });
                RowChange::Conflict(self.path(), row.map(Into::into))
            }
            _ => RowChange::Excluded(self.space_path(), self.0.bool()),
        }
    }
}

#[test]
fn the_database_has_the_same_rows_as_memory() {
    for seed in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let mut random = Random(Rng::with_seed(seed));
        let mut memory = MemoryStore::default();
        let mut opened = SqliteStore::open(&folder).unwrap();
        assert_eq!(opened.saved, Saved::default());
        for _ in 0..40 {
            let count = random.0.usize(0..20);
            let changes: Vec<RowChange> = (0..count).map(|_| random.change()).collect();
            opened.store.commit(&changes).unwrap();
            memory.commit(&changes).unwrap();
            if random.0.u8(0..8) == 0 {
                drop(opened);
                opened = SqliteStore::open(&folder).unwrap();
                assert_eq!(opened.set_aside, None);
                assert_eq!(opened.saved, memory.load().unwrap());
            }
            assert_eq!(opened.store.load().unwrap(), memory.load().unwrap());
        }
    }
}

/// What a process that was killed has committed is there, without what it had not.
#[test]
fn a_commit_is_there_as_a_whole_after_a_crash() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (folder, copy) = (
        folder.path().canonicalize().unwrap(),
        copy.path().canonicalize().unwrap(),
    );
    let mut random = Random(Rng::with_seed(1));
    let mut memory = MemoryStore::default();
    let mut opened = SqliteStore::open(&folder).unwrap();
    for _ in 0..50 {
        let changes: Vec<RowChange> = (0..10).map(|_| random.change()).collect();
        opened.store.commit(&changes).unwrap();
        memory.commit(&changes).unwrap();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        let after = SqliteStore::open(&copy).unwrap();
        assert_eq!(after.set_aside, None);
        assert_eq!(after.saved, memory.load().unwrap());
        for entry in std::fs::read_dir(&copy).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}

#[test]
fn a_damaged_database_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let mut opened = SqliteStore::open(&folder).unwrap();
    let changes: Vec<RowChange> = (0_u32..2_000)
        .map(|number| {
            let path = LocalPath::new(format!("/{number}"));
            RowChange::Local(path, Some(LocalEntry::Link.into()))
        })
        .collect();
    opened.store.commit(&changes).unwrap();
    drop(opened);
    let path = folder.join(NAME);
    let whole = std::fs::read(&path).unwrap();
    let mut holes = whole.clone();
    holes[8_192..20_000].fill(0x5a);
    for (number, damaged) in [b"not a database, but long enough to be read".to_vec(), holes]
        .iter()
        .enumerate()
    {
        std::fs::write(&path, damaged).unwrap();
        let opened = SqliteStore::open(&folder).unwrap();
        assert_eq!(opened.saved, Saved::default());
        let aside = folder.join(format!("damaged-{}.db", number + 1));
        assert_eq!(opened.set_aside.as_ref(), Some(&aside));
        assert_eq!(&std::fs::read(aside).unwrap(), damaged);
    }
    std::fs::write(&path, whole).unwrap();
    assert_eq!(SqliteStore::open(&folder).unwrap().saved.local.len(), 2_000);
}

#[test]
fn one_process_has_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    assert!(!SqliteStore::exists(&folder));
    let opened = SqliteStore::open(&folder).unwrap();
    assert!(SqliteStore::exists(&folder));
    assert!(matches!(SqliteStore::open(&folder), Err(OpenError::InUse)));
    drop(opened);
    SqliteStore::open(&folder).unwrap();
}

#[test]
fn a_database_of_a_later_release_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let opened = SqliteStore::open(&folder).unwrap();
    opened
        .store
        .0
        .pragma_update(None, "user_version", VERSION + 1)
        .unwrap();
    drop(opened);
    assert!(matches!(SqliteStore::open(&folder), Err(OpenError::Newer)));
}

#[cfg(unix)]
#[test]
fn a_link_is_not_followed() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = folder.path().canonicalize().unwrap();
    std::os::unix::fs::symlink(outside.path().join("database"), folder.join(NAME)).unwrap();
    assert!(SqliteStore::open(&folder).is_err());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

/// A row of each tree: the bytes of the database for each file.
#[test]
fn a_file_takes_less_than_700_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let mut opened = SqliteStore::open(&folder).unwrap();
    let mut random = Random(Rng::with_seed(1));
    let count = 10_000_u32;
    let mut changes = Vec::new();
    for number in 0..count {
        let path = format!("/projects/client-{}/reports/report-{number}.pdf", number / 100);
        let id: model::FileId = uuid::Uuid::from_u128(number.into()).into();
        let remote = RemoteRow {
            path: path.parse().unwrap(),
            ..random.remote()
        };
        let synced = SyncedRow {
            path: path.parse().unwrap(),
            local: LocalPath::new(path.clone()),
            ..random.synced()
        };
        let local = LocalEntry::File(LocalFile {
            stamp: random.stamp(),
            sha256: Some(random.sha256()),
            is_racy: false,
            executable: Some(false),
        });
        changes.push(RowChange::Remote(id, Some(remote.into())));
        changes.push(RowChange::Synced(id, Some(synced.into())));
        changes.push(RowChange::Local(LocalPath::new(path), Some(local.into())));
    }
    opened.store.commit(&changes).unwrap();
    drop(opened);
    let bytes = std::fs::metadata(folder.join(NAME)).unwrap().len();
    assert!(
        bytes < 700 * u64::from(count),
        "{} bytes a file",
        bytes / u64::from(count)
    );
}
