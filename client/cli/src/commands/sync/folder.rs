//! The folder on this machine. Nothing outside it is reached, whatever a path or a link in it says.

use std::fs::TryLockError;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, OpenOptions};
use client::{Content, Sha256Stream};
use model::{Sha256, SpacePath};
use serde::{Deserialize, Serialize};

use crate::failure::{Kind, failure};

/// Where this program keeps its own files in the folder.
const OWN: &str = ".syncsphere";

/// In [`OWN`]: what is known of the folder.
const STATE: &str = "state.json";

/// In [`OWN`]: what was put into the folder since the state was kept, a line each, written before it is done.
const JOURNAL: &str = "journal";

/// In [`OWN`]: files that are on their way.
const PARTS: &str = "parts";

/// In [`OWN`]: held while somebody keeps the folder current.
const LOCK: &str = "lock";

/// The longest name of a file, and of a folder, on the file systems of today, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// How much is read at once, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// A folder that this process alone keeps current.
pub(super) struct Folder {
    root: Dir,
    own: Dir,
    parts: Dir,
    journal: cap_std::fs::File,
    _lock: std::fs::File,
    /// Names that differ only in case are one file.
    pub(super) ignores_case: bool,
}

/// By what a file is known to be still the one that was put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    size: u64,
    /// Since 1970.
    modified: Duration,
    /// On Unix the inode, and when it was changed: programs set the time of modification as they like.
    inode: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> io::Result<Self> {
        let modified = metadata.modified()?.into_std();
        #[cfg(unix)]
        let (inode, changed) = {
            use cap_std::fs::MetadataExt as _;
            (metadata.ino(), (metadata.ctime(), metadata.ctime_nsec()))
        };
        #[cfg(not(unix))]
        let (inode, changed) = (0, (0, 0));
        Ok(Self {
            size: metadata.len(),
            modified: modified
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default(),
            inode,
            changed,
        })
    }

    /// Whether it can be the same file, moved, which changes when it was changed.
    fn is_moved(&self, other: &Self) -> bool {
        (self.size, self.modified, self.inode) == (other.size, other.modified, other.inode)
    }
}

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    File(Stamp),
    Folder,
    /// A link, or something else.
    Other,
}

impl Folder {
    /// Opens it, and makes it if it is not there.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let opening = || -> io::Result<_> {
            std::fs::create_dir_all(path)?;
            let root = Dir::open_ambient_dir(path, ambient_authority())?;
            root.create_dir_all(OWN)?;
            let own = root.open_dir(OWN)?;
            own.create_dir_all(PARTS)?;
            let parts = own.open_dir(PARTS)?;
            let mut append = OpenOptions::new();
            let journal = own.open_with(JOURNAL, append.create(true).append(true).write(true))?;
            let lock = own.create(LOCK)?.into_std();
            Ok((root, own, parts, journal, lock))
        };
        let (root, own, parts, journal, lock) =
            opening().with_context(|| format!("cannot use {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("another `syncsphere sync` keeps {} current", path.display());
                return Err(failure(Kind::Conflict, message));
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        let ignores_case = own.exists(LOCK.to_uppercase());
        Ok(Self {
            root,
            own,
            parts,
            journal,
            _lock: lock,
            ignores_case,
        })
    }

    /// What was kept; nothing the first time.
    pub(super) fn kept(&self) -> anyhow::Result<Option<Vec<u8>>> {
        match self.own.read(STATE) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("cannot read what is known of the folder"),
        }
    }

    /// Keeps it, all or nothing.
    pub(super) fn keep(&self, text: &[u8]) -> io::Result<()> {
        let new = format!("{STATE}.new");
        let mut file = self.own.create(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        self.own.rename(&new, &self.own, STATE)?;
        // By another handle: on Windows one that appends may not truncate (rust-lang/rust#105437).
        self.own.create(JOURNAL).map(drop)
    }

    /// What was put there since, or was about to be.
    pub(super) fn journal(&self) -> io::Result<Vec<(SpacePath, Sha256)>> {
        let text = self.own.read(JOURNAL)?;
        // The last line may be half of one.
        let lines = text.split(|byte| *byte == b'\n');
        Ok(lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }

    /// What is at a path.
    pub(super) fn look(&self, at: &Path) -> io::Result<Found> {
        let metadata = match self.root.symlink_metadata(at) {
            Ok(metadata) => metadata,
            Err(error) if is_absent(&error) => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        if metadata.is_dir() {
            return Ok(Found::Folder);
        }
        if !metadata.is_file() {
            return Ok(Found::Other);
        }
        Stamp::of(&metadata).map(Found::File)
    }

    /// The SHA-256 of a file.
    pub(super) fn digest(&self, at: &Path) -> io::Result<Sha256> {
        let mut file = self.root.open(at)?;
        let mut digest = Sha256Stream::default();
        let mut piece = vec![0; READ_BYTES];
        loop {
            let length = file.read(&mut piece)?;
            match piece.get(..length) {
                Some(read) if length > 0 => digest.update(read),
                _ => return Ok(digest.finish()),
            }
        }
    }

    /// The file that content is gathered in, with what an earlier attempt left.
    pub(super) fn part(&self, content: &Content) -> io::Result<tokio::fs::File> {
        let mut options = OpenOptions::new();
        options.create(true).read(true).write(true);
        let name = part_name(content);
        let file = match self.parts.open_with(&name, &options) {
            // One that was taken from its place with rights of its owner's.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.parts.remove_file(&name)?;
                self.parts.open_with(&name, &options)?
            }
            opened => opened?,
        };
        Ok(tokio::fs::File::from_std(file.into_std()))
    }

    /// Puts gathered content in its place, in one step.
    pub(super) fn place(&self, content: &Content, path: &SpacePath, at: &Path) -> io::Result<Stamp> {
        if let Some(parent) = at.parent() {
            self.root
                .create_dir_all(parent)
                .map_err(|error| match error.kind() {
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                        let why = "a file is where its folder should be";
                        io::Error::new(io::ErrorKind::AlreadyExists, why)
                    }
                    _ => error,
                })?;
        }
        // Or it would not be known as this program's if that ended here, and stay when it goes from the space.
        let mut line = serde_json::to_vec(&(path, content.sha256))?;
        line.push(b'\n');
        (&self.journal).write_all(&line)?;
        let gathered = Stamp::of(&self.parts.metadata(part_name(content))?)?;
        self.parts.rename(part_name(content), &self.root, at)?;
        match self.look(at)? {
            Found::File(stamp) if stamp.is_moved(&gathered) => Ok(stamp),
            // Somebody was faster, and what is there now is theirs.
            _ => Err(io::Error::other("it was changed at the same time")),
        }
    }

    /// Removes a file, and the folders that it leaves empty.
    pub(super) fn remove(&self, at: &Path) -> io::Result<()> {
        self.root.remove_file(at)?;
        self.remove_empty_parents(at);
        Ok(())
    }

    /// Takes a file away as gathered content, which spares a download.
    pub(super) fn take(&self, at: &Path, content: &Content) -> io::Result<()> {
        self.root.rename(at, &self.parts, part_name(content))?;
        self.remove_empty_parents(at);
        Ok(())
    }

    /// Renames what is at a path to a name that is free, and says which. Of an empty folder nothing need be kept.
    pub(super) fn set_aside(&self, at: &Path) -> io::Result<Option<PathBuf>> {
        if self.root.remove_dir(at).is_ok() {
            return Ok(None);
        }
        let name = at.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for number in 1_u32.. {
            let other = at.with_file_name(format!("{name} (kept {number})"));
            if self.look(&other)? == Found::Nothing {
                self.root.rename(at, &self.root, &other)?;
                return Ok(Some(other));
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Removes what was gathered and is not wanted any more.
    pub(super) fn forget_parts(&self) -> io::Result<()> {
        for entry in self.parts.entries()? {
            self.parts.remove_file(entry?.file_name())?;
        }
        Ok(())
    }

    fn remove_empty_parents(&self, at: &Path) {
        for parent in at.ancestors().skip(1) {
            // The first that is not empty ends it; so does the root.
            if parent.as_os_str().is_empty() || self.root.remove_dir(parent).is_err() {
                return;
            }
        }
    }
}

fn part_name(content: &Content) -> String {
    format!("{}-{}", content.file_id, content.version)
}

/// Not there, or what should be a folder on the way is none.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// What the space calls a file of the folder, if it can.
pub(super) fn space_path(at: &Path) -> Option<SpacePath> {
    let mut path = String::new();
    for name in at {
        path.push('/');
        path.push_str(name.to_str()?);
    }
    path.parse().ok()
}

/// Where a file of the space is in the folder, if a file can have that name on this machine.
pub(super) fn local(path: &SpacePath) -> anyhow::Result<PathBuf> {
    let mut local = PathBuf::new();
    for (depth, name) in path.as_str().split('/').skip(1).enumerate() {
        let refused = if depth == 0 && name.eq_ignore_ascii_case(OWN) {
            Some("this name is the program's own")
        } else if name.len() > MAX_NAME_BYTES {
            Some("the name is longer than file systems allow")
        } else if cfg!(windows) && !is_windows_name(name) {
            Some("Windows does not allow the name")
        } else {
            None
        };
        if let Some(why) = refused {
            return Err(failure(Kind::Refused, format!("{path} cannot be kept: {why}")));
        }
        local.push(name);
    }
    Ok(local)
}

/// Microsoft, "Naming Files, Paths, and Namespaces".
fn is_windows_name(name: &str) -> bool {
    let stem = name
        .split('.')
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_ascii_uppercase();
    let device = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&stem.as_str())
        || ["COM", "LPT"].iter().any(|kind| {
            let number = stem.strip_prefix(kind);
            number.is_some_and(|it| {
                matches!(it, "\u{b9}" | "\u{b2}" | "\u{b3}")
                    || it.len() == 1 && it.as_bytes()[0].is_ascii_digit()
            })
        });
    !device && !name.ends_with(['.', ' ']) && !name.contains(['<', '>', ':', '"', '|', '?', '*', '\\'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content {
        Content {
            file_id: uuid::Uuid::from_u128(1).into(),
            version: 1.try_into().unwrap(),
            size: 3.try_into().unwrap(),
            sha256: client::sha256(b"new"),
        }
    }

    async fn gather(folder: &Folder) {
        use tokio::io::AsyncWriteExt as _;
        let mut part = folder.part(&content()).unwrap();
        part.write_all(b"new").await.unwrap();
        part.sync_all().await.unwrap();
    }

    #[tokio::test]
    async fn content_takes_its_place_in_one_step_and_leaves_nothing() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(&temporary.path().join("new/folder")).unwrap();
        let at = local(&"/a/b/c".parse().unwrap()).unwrap();
        assert_eq!(folder.look(&at).unwrap(), Found::Nothing);
        gather(&folder).await;
        let stamp = folder.place(&content(), &"/a/b/c".parse().unwrap(), &at).unwrap();
        assert_eq!(folder.look(&at).unwrap(), Found::File(stamp));
        assert_eq!(folder.digest(&at).unwrap(), content().sha256);
        assert_eq!(folder.parts.entries().unwrap().count(), 0);
        folder.remove(&at).unwrap();
        assert!(!temporary.path().join("new/folder/a").exists());
    }

    #[tokio::test]
    async fn keeping_the_state_empties_the_journal_which_goes_on() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        for path in ["/a", "/b"] {
            let path: SpacePath = path.parse().unwrap();
            gather(&folder).await;
            folder.place(&content(), &path, &local(&path).unwrap()).unwrap();
            assert_eq!(folder.journal().unwrap(), [(path, content().sha256)]);
            folder.keep(b"{}").unwrap();
            assert_eq!(folder.journal().unwrap(), []);
            assert_eq!(folder.kept().unwrap().unwrap(), b"{}");
        }
    }

    #[tokio::test]
    async fn what_is_set_aside_never_replaces_anything() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        for number in 1..3 {
            std::fs::write(temporary.path().join("a"), number.to_string()).unwrap();
            let name = folder.set_aside(Path::new("a")).unwrap();
            assert_eq!(name.unwrap(), Path::new(&format!("a (kept {number})")));
        }
        assert_eq!(std::fs::read(temporary.path().join("a (kept 1)")).unwrap(), b"1");
    }

    #[test]
    fn a_second_one_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let _first = Folder::open(temporary.path()).unwrap();
        assert!(Folder::open(temporary.path()).is_err());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn links_lead_nowhere() {
        let (temporary, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = Folder::open(temporary.path()).unwrap();
        std::os::unix::fs::symlink(outside.path(), temporary.path().join("link")).unwrap();
        std::fs::write(outside.path().join("theirs"), "theirs").unwrap();
        gather(&folder).await;
        assert!(
            folder
                .place(&content(), &"/link/mine".parse().unwrap(), Path::new("link/mine"))
                .is_err()
        );
        assert!(folder.remove(Path::new("link/theirs")).is_err());
        assert!(folder.digest(Path::new("link/theirs")).is_err());
        // A link itself is not followed, but set aside.
        assert_eq!(folder.look(Path::new("link")).unwrap(), Found::Other);
        folder.set_aside(Path::new("link")).unwrap();
        folder
            .place(&content(), &"/link/mine".parse().unwrap(), Path::new("link/mine"))
            .unwrap();
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_that_cannot_be_kept_are_refused() {
        for bad in [
            "/.syncsphere/state.json",
            "/.SyncSphere",
            &format!("/{}", "x".repeat(256)),
        ] {
            assert!(local(&bad.parse().unwrap()).is_err(), "{bad}");
        }
        assert_eq!(
            local(&"/a/.syncsphere".parse().unwrap()).unwrap(),
            Path::new("a/.syncsphere")
        );
        for bad in ["nul", "COM1.txt", "a:b", "a ", "a.", "..\\x", "lpt\u{b9}"] {
            assert!(!is_windows_name(bad), "{bad}");
        }
        for good in ["a", "null", "com.txt", "COM10", "\u{fc}"] {
            assert!(is_windows_name(good), "{good}");
        }
    }
}
