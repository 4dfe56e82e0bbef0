//! The local folder. Neither a path nor a link in the folder leads outside it.

use std::fs::TryLockError;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, OpenOptions};
use client::{Content, Sha256Stream};
use model::{ModifiedAt, Sha256, SpacePath};
use serde::{Deserialize, Serialize};

use crate::failure::{Kind, failure};
use ::sync::disk::{exchange, rename_with_flag};
use ::sync::path::PRIVATE as OWN;
use ::sync::portable_names::{self, is_short_name, is_windows_name};

/// In [`OWN`]: the saved state.
pub(super) const STATE: &str = "state.json";

/// In [`OWN`]: files placed since the state was saved, one a line, each written before the file is placed.
const JOURNAL: &str = "journal";

/// In [`OWN`]: the folder of unfinished downloads.
const PARTS: &str = "parts";

/// In [`PARTS`]: a file that was moved out of its place and is about to be deleted.
const REMOVED: &str = "removed";

/// In [`OWN`]: the lock file, locked while a process syncs the folder.
const LOCK: &str = "lock";

/// Length limit of file and folder names on common file systems, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// Length limit of an extension, in bytes with the dot. Longer text after the last dot belongs to the stem.
const MAX_EXTENSION_BYTES: usize = 32;

/// Size of one read, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// A folder that is locked by this process.
pub(super) struct Folder {
    root: Dir,
    own: Dir,
    parts: Dir,
    journal: cap_std::fs::File,
    _lock: std::fs::File,
    /// The file system treats names that differ only in case as one.
    pub(super) ignores_case: bool,
}

/// Metadata that shows whether a file is still the one that was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    size: u64,
    /// Modification time since 1970-01-01 UTC.
    modified: Duration,
    /// On Unix the inode and ctime, elsewhere zero. Programs can set the modification time, but not ctime.
    inode: u64,
    changed: (i64, i64),
}

impl Fingerprint {
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

    /// Whether both can be the same file before and after a rename, which changes ctime.
    fn is_moved(&self, other: &Self) -> bool {
        (self.size, self.modified, self.inode) == (other.size, other.modified, other.inode)
    }
}

#[derive(Debug)]
pub(super) struct Placement {
    pub(super) fingerprint: Fingerprint,
    /// The path of the owner's file, if one was found at the last moment.
    pub(super) kept: Option<PathBuf>,
}

/// What is at a path. Links are not followed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    File(Fingerprint),
    Folder,
    /// A link, device, socket or pipe.
    Other,
}

impl Folder {
    /// Opens and locks the folder. It is created if it does not exist.
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
            opening().with_context(|| format!("cannot open {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!(
                    "another `syncsphere sync` is running for {}; stop it first",
                    path.display()
                );
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

    /// The saved state, or `None` on the first run.
    pub(super) fn load_state(&self) -> anyhow::Result<Option<Vec<u8>>> {
        match self.own.read(STATE) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("cannot read the saved state of the folder"),
        }
    }

    /// Saves the state atomically and empties the journal.
    pub(super) fn save_state(&self, text: &[u8]) -> io::Result<()> {
        let new = format!("{STATE}.new");
        let mut file = self.own.create(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        self.own.rename(&new, &self.own, STATE)?;
        // Truncated by another handle: on Windows a handle for appending may not truncate
        // (rust-lang/rust#105437).
        self.own.create(JOURNAL).map(drop)
    }

    /// Files that were placed, or about to be, since the state was saved.
    pub(super) fn journal(&self) -> io::Result<Vec<(SpacePath, Sha256)>> {
        let text = self.own.read(JOURNAL)?;
        // A crash may have left the last line incomplete.
        let lines = text.split(|byte| *byte == b'\n');
        Ok(lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }

    pub(super) fn inspect(&self, at: &Path) -> io::Result<Found> {
        self.refuse_own(at)?;
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
        Fingerprint::of(&metadata).map(Found::File)
    }

    /// Refuses a path that the file system resolves to this program's own folder under another name.
    #[cfg(unix)]
    fn refuse_own(&self, at: &Path) -> io::Result<()> {
        use cap_std::fs::MetadataExt as _;
        let Some(first) = at.components().next() else {
            return Ok(());
        };
        let Ok(found) = self.root.metadata(first) else {
            return Ok(());
        };
        let own = self.own.dir_metadata()?;
        if (found.dev(), found.ino()) == (own.dev(), own.ino()) {
            let why = "this name is reserved for syncsphere on this file system";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(())
    }

    #[cfg(not(unix))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on Unix")]
    fn refuse_own(&self, _at: &Path) -> io::Result<()> {
        Ok(())
    }

    /// The SHA-256 of a file's current content.
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

    /// Opens the file that content is downloaded to. It may hold bytes of an earlier attempt.
    pub(super) fn open_part(&self, content: &Content) -> io::Result<tokio::fs::File> {
        let mut options = OpenOptions::new();
        options.create(true).read(true).write(true);
        let name = part_name(content);
        let file = match self.parts.open_with(&name, &options) {
            // A file that [`Self::take`] moved here keeps its permissions, which may forbid writing.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.parts.remove_file(&name)?;
                self.parts.open_with(&name, &options)?
            }
            opened => opened?,
        };
        Ok(tokio::fs::File::from_std(file.into_std()))
    }

    /// Moves downloaded content to its path in one step. `expected` is the file there that may be replaced;
    /// with `None` nothing is replaced.
    pub(super) fn place(
        &self,
        content: &Content,
        path: &SpacePath,
        at: &Path,
        expected: Option<Fingerprint>,
    ) -> io::Result<Placement> {
        if let Some(parent) = at.parent() {
            self.root
                .create_dir_all(parent)
                .map_err(|error| match error.kind() {
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                        let why = "a file has the name of its folder";
                        io::Error::new(io::ErrorKind::AlreadyExists, why)
                    }
                    _ => error,
                })?;
        }
        // Written first. After a crash a file that is not in the journal would not be recognized as this
        // program's, and would stay when it is removed from the space.
        let mut line = serde_json::to_vec(&(path, content.sha256))?;
        line.push(b'\n');
        (&self.journal).write_all(&line)?;
        let part = part_name(content);
        // Before the fingerprint, which has the modification time.
        self.set_attributes(&part, content);
        let downloaded = Fingerprint::of(&self.parts.metadata(&part)?)?;
        let (parent, name) = self.parent(at)?;
        let mut kept = None;
        match expected {
            None => rename_new(&self.parts, &part, &parent, &name)?,
            Some(expected) => {
                if exchange_or_replace(&self.parts, &part, &parent, &name)? {
                    kept = self.discard(&part, at, &expected)?;
                }
            }
        }
        match self.inspect(at)? {
            Found::File(fingerprint) if fingerprint.is_moved(&downloaded) => {
                Ok(Placement { fingerprint, kept })
            }
            // Another program wrote to the path at the same time, and the file there is not this program's.
            _ => Err(io::Error::other("another program changed it at the same time")),
        }
    }

    /// Gives a part the modification time and the executable bit of its version, as far as the file system
    /// allows: the part may be a file that [`Self::take`] moved and that belongs to another user.
    fn set_attributes(&self, part: &str, content: &Content) {
        let Ok(file) = self.parts.open_with(part, OpenOptions::new().write(true)) else {
            return;
        };
        let file = file.into_std();
        #[cfg(unix)]
        if let (Some(executable), Ok(found)) = (content.executable, file.metadata()) {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = found.permissions().mode();
            // Whoever may read it may execute it.
            let changed = if executable {
                mode | (mode & 0o444) >> 2
            } else {
                mode & !0o111
            };
            if changed != mode {
                let _ = file.set_permissions(std::fs::Permissions::from_mode(changed));
            }
        }
        if let Some(time) = content.modified_at.and_then(ModifiedAt::system_time) {
            let _ = file.set_modified(time);
        }
    }

    /// Removes a file and the parent folders that become empty. If the file is not the expected one, its
    /// owner changed it at the last moment: the file is kept, and its path is returned.
    pub(super) fn remove(&self, at: &Path, expected: &Fingerprint) -> io::Result<Option<PathBuf>> {
        let (parent, name) = self.parent(at)?;
        parent.rename(&name, &self.parts, REMOVED)?;
        let kept = self.discard(REMOVED, at, expected)?;
        if kept.is_none() {
            self.remove_empty_parents(at);
        }
        Ok(kept)
    }

    /// Like [`Self::remove`], but keeps the file as downloaded content, which saves a download.
    pub(super) fn take(
        &self,
        at: &Path,
        expected: &Fingerprint,
        content: &Content,
    ) -> io::Result<Option<PathBuf>> {
        let (parent, name) = self.parent(at)?;
        let part = part_name(content);
        parent.rename(&name, &self.parts, &part)?;
        if self.is_part(&part, expected)? {
            self.remove_empty_parents(at);
            return Ok(None);
        }
        self.put_back(&part, at).map(Some)
    }

    /// Deletes a file that was moved out of its place if it is the expected one. Otherwise moves it back and
    /// returns its path.
    fn discard(&self, part: &str, at: &Path, expected: &Fingerprint) -> io::Result<Option<PathBuf>> {
        if self.is_part(part, expected)? {
            self.parts.remove_file(part)?;
            return Ok(None);
        }
        self.put_back(part, at).map(Some)
    }

    fn is_part(&self, part: &str, expected: &Fingerprint) -> io::Result<bool> {
        let found = self.parts.symlink_metadata(part)?;
        Ok(found.is_file() && Fingerprint::of(&found)?.is_moved(expected))
    }

    /// Moves a file back to its place, or beside it if the place is taken. Returns its path.
    fn put_back(&self, part: &str, at: &Path) -> io::Result<PathBuf> {
        let (parent, name) = self.parent(at)?;
        match rename_new(&self.parts, part, &parent, &name) {
            Ok(()) => Ok(at.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let name = rename_beside(&self.parts, part, &parent, &name)?;
                Ok(at.with_file_name(name))
            }
            Err(error) => Err(error),
        }
    }

    /// Renames a file to a free name and returns the new path. An empty folder is deleted instead (`None`).
    pub(super) fn move_aside(&self, at: &Path) -> io::Result<Option<PathBuf>> {
        if self.root.remove_dir(at).is_ok() {
            return Ok(None);
        }
        let (parent, name) = self.parent(at)?;
        let kept = rename_beside(&parent, &name, &parent, &name)?;
        Ok(Some(at.with_file_name(kept)))
    }

    /// The parent folder of a path, and the last name of the path. System calls follow links in the parents
    /// of a path, so they get single names only.
    fn parent(&self, at: &Path) -> io::Result<(Dir, String)> {
        let name = at.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let parent = match at.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => self.root.open_dir(parent)?,
            None => self.root.try_clone()?,
        };
        Ok((parent, name))
    }

    /// Counts the files that `leave_out` does not exclude. It gets the file's path in the space, or `None` if
    /// the file cannot have one.
    pub(super) fn count_files(&self, leave_out: impl Fn(Option<&SpacePath>) -> bool) -> io::Result<usize> {
        let mut folders = vec![(self.root.try_clone()?, PathBuf::new())];
        let mut count = 0;
        while let Some((folder, at)) = folders.pop() {
            for entry in folder.entries()? {
                let entry = entry?;
                let (kind, name) = (entry.file_type()?, entry.file_name());
                let path = at.join(&name);
                if path == Path::new(OWN) {
                    continue;
                }
                if kind.is_dir() {
                    folders.push((entry.open_dir()?, path));
                } else if kind.is_file() && !leave_out(space_path(&path).as_ref()) {
                    count += 1;
                }
            }
        }
        Ok(count)
    }

    /// Deletes all unfinished downloads.
    pub(super) fn delete_parts(&self) -> io::Result<()> {
        for entry in self.parts.entries()? {
            self.parts.remove_file(entry?.file_name())?;
        }
        Ok(())
    }

    fn remove_empty_parents(&self, at: &Path) {
        for parent in at.ancestors().skip(1) {
            // The first folder that is not empty ends the loop, as does the root.
            if parent.as_os_str().is_empty() || self.root.remove_dir(parent).is_err() {
                return;
            }
        }
    }
}

/// Renames a file to a free name beside a path, and returns the name.
fn rename_beside(from: &Dir, part: &str, parent: &Dir, name: &str) -> io::Result<String> {
    for number in 1_u32.. {
        let kept = kept_name(name, number);
        match rename_new(from, part, parent, &kept) {
            Ok(()) => return Ok(kept),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// `report (kept 1).pdf`: the name keeps the extension and is at most [`MAX_NAME_BYTES`] long.
fn kept_name(name: &str, number: u32) -> String {
    with_suffix(name, &format!(" (kept {number})"))
}

/// Inserts a suffix before the extension of a name. The stem is shortened if the result would be too long.
pub(crate) fn with_suffix(name: &str, suffix: &str) -> String {
    let dot = name
        .rfind('.')
        .filter(|dot| *dot > 0 && name.len() - dot <= MAX_EXTENSION_BYTES);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    let room = MAX_NAME_BYTES.saturating_sub(suffix.len() + extension.len());
    let stem = stem.get(..stem.floor_char_boundary(room)).unwrap_or(stem);
    format!("{stem}{suffix}{extension}")
}

/// Renames a file, and fails if the new name is taken.
fn rename_new(from: &Dir, name: &str, to: &Dir, new_name: &str) -> io::Result<()> {
    if let Some(renamed) = rename_with_flag(from, name, to, new_name) {
        return renamed;
    }
    // File systems without this flag: check first, which is not atomic.
    if to.symlink_metadata(new_name).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    from.rename(name, to, new_name)
}

/// Exchanges two files and returns true. Where the file system cannot, replaces the second file and returns
/// false.
fn exchange_or_replace(from: &Dir, name: &str, to: &Dir, new_name: &str) -> io::Result<bool> {
    match exchange(from, name, to, new_name) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        exchanged => return exchanged.map(|()| true),
    }
    from.rename(name, to, new_name)?;
    Ok(false)
}

fn part_name(content: &Content) -> String {
    format!("{}-{}", content.file_id, content.version)
}

/// Whether the path does not exist. A parent that is not a folder counts as absent.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The path in the space of a local file, or `None` if its name is not valid there.
pub(super) fn space_path(at: &Path) -> Option<SpacePath> {
    let mut path = String::new();
    for name in at {
        path.push('/');
        path.push_str(name.to_str()?);
    }
    path.parse().ok()
}

/// The local path, relative to the folder, of a file in the space. Names that this machine cannot store are
/// refused.
pub(super) fn local_path(path: &SpacePath) -> anyhow::Result<PathBuf> {
    let mut local_path = PathBuf::new();
    for (depth, name) in path.as_str().split('/').skip(1).enumerate() {
        let refused = if depth == 0 && portable_names::key(name) == OWN {
            Some("this name is reserved for syncsphere; rename it in the space")
        } else if name.len() > MAX_NAME_BYTES {
            Some("the name is longer than 255 bytes; rename it in the space")
        } else if cfg!(windows) && depth == 0 && is_short_name(name) {
            Some("on Windows this can be the short form of another name; rename it in the space")
        } else if cfg!(windows) && !is_windows_name(name) {
            Some("Windows does not allow this name; rename it in the space")
        } else {
            None
        };
        if let Some(why) = refused {
            return Err(failure(
                Kind::Refused,
                format!("{path} cannot be saved here: {why}"),
            ));
        }
        local_path.push(name);
    }
    Ok(local_path)
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
            composite: None,
            modified_at: None,
            executable: None,
        }
    }

    async fn gather(folder: &Folder) {
        use tokio::io::AsyncWriteExt as _;
        let mut part = folder.open_part(&content()).unwrap();
        part.write_all(b"new").await.unwrap();
        part.sync_all().await.unwrap();
    }

    #[tokio::test]
    async fn content_is_placed_atomically_and_leaves_no_part() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(&temporary.path().join("new/folder")).unwrap();
        let at = local_path(&"/a/b/c".parse().unwrap()).unwrap();
        assert_eq!(folder.inspect(&at).unwrap(), Found::Nothing);
        gather(&folder).await;
        let path: SpacePath = "/a/b/c".parse().unwrap();
        let fingerprint = folder.place(&content(), &path, &at, None).unwrap().fingerprint;
        assert_eq!(folder.inspect(&at).unwrap(), Found::File(fingerprint));
        assert_eq!(folder.digest(&at).unwrap(), content().sha256);
        assert_eq!(folder.parts.entries().unwrap().count(), 0);
        assert_eq!(folder.remove(&at, &fingerprint).unwrap(), None);
        assert!(!temporary.path().join("new/folder/a").exists());
    }

    #[tokio::test]
    async fn saving_the_state_empties_the_journal() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        for path in ["/a", "/b"] {
            let path: SpacePath = path.parse().unwrap();
            gather(&folder).await;
            folder
                .place(&content(), &path, &local_path(&path).unwrap(), None)
                .unwrap();
            assert_eq!(folder.journal().unwrap(), [(path, content().sha256)]);
            folder.save_state(b"{}").unwrap();
            assert_eq!(folder.journal().unwrap(), []);
            assert_eq!(folder.load_state().unwrap().unwrap(), b"{}");
        }
    }

    #[tokio::test]
    async fn a_file_moved_aside_replaces_nothing() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        for number in 1..3 {
            std::fs::write(temporary.path().join("a"), number.to_string()).unwrap();
            let name = folder.move_aside(Path::new("a")).unwrap();
            assert_eq!(name.unwrap(), Path::new(&format!("a (kept {number})")));
        }
        assert_eq!(std::fs::read(temporary.path().join("a (kept 1)")).unwrap(), b"1");
    }

    #[test]
    fn a_kept_name_keeps_its_extension_and_fits() {
        for (name, kept) in [
            ("report.pdf", "report (kept 1).pdf"),
            ("a.tar.gz", "a.tar (kept 1).gz"),
            (".profile", ".profile (kept 1)"),
            ("Makefile", "Makefile (kept 1)"),
        ] {
            assert_eq!(kept_name(name, 1), kept);
        }
        for length in 240..=255 {
            for (name, end) in [
                ("x".repeat(length), " (kept 12)"),
                (format!("{}.pdf", "x".repeat(length - 4)), " (kept 12).pdf"),
                (format!("x.{}", "y".repeat(length - 2)), " (kept 12)"),
                (
                    format!("{}{}", "x".repeat(length % 2), "\u{e4}".repeat(length / 2)),
                    " (kept 12)",
                ),
            ] {
                let kept = kept_name(&name, 12);
                assert!(kept.len() <= MAX_NAME_BYTES && kept.ends_with(end), "{kept}");
            }
        }
    }

    /// An edit between the check of the file and its replacement or removal.
    #[tokio::test]
    async fn a_last_moment_edit_is_kept() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        let path: SpacePath = "/a.txt".parse().unwrap();
        let at = local_path(&path).unwrap();
        gather(&folder).await;
        let ours = folder.place(&content(), &path, &at, None).unwrap().fingerprint;
        std::fs::write(temporary.path().join("a.txt"), "an edit").unwrap();
        gather(&folder).await;
        let placed = folder.place(&content(), &path, &at, Some(ours)).unwrap();
        assert_eq!(placed.kept.as_deref(), Some(Path::new("a (kept 1).txt")));
        let kept = std::fs::read(temporary.path().join("a (kept 1).txt")).unwrap();
        assert_eq!(kept, b"an edit");

        std::fs::write(temporary.path().join("a.txt"), "another").unwrap();
        assert_eq!(folder.remove(&at, &placed.fingerprint).unwrap(), Some(at.clone()));
        assert_eq!(
            folder.take(&at, &placed.fingerprint, &content()).unwrap(),
            Some(at.clone())
        );
        assert_eq!(std::fs::read(temporary.path().join("a.txt")).unwrap(), b"another");
        gather(&folder).await;
        assert!(folder.place(&content(), &path, &at, None).is_err());
        assert_eq!(std::fs::read(temporary.path().join("a.txt")).unwrap(), b"another");
    }

    #[cfg(unix)]
    #[test]
    fn an_alias_of_the_internal_folder_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        // The link stands for a second name of the folder on such a file system.
        std::os::unix::fs::symlink(OWN, temporary.path().join("alias")).unwrap();
        for at in ["alias", "alias/journal", "alias/parts/x"] {
            assert!(folder.inspect(Path::new(at)).is_err(), "{at}");
        }
    }

    #[test]
    fn a_second_sync_of_a_folder_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let _first = Folder::open(temporary.path()).unwrap();
        assert!(Folder::open(temporary.path()).is_err());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn links_are_not_followed() {
        let (temporary, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = Folder::open(temporary.path()).unwrap();
        std::os::unix::fs::symlink(outside.path(), temporary.path().join("link")).unwrap();
        std::fs::write(outside.path().join("theirs"), "theirs").unwrap();
        gather(&folder).await;
        assert!(
            folder
                .place(
                    &content(),
                    &"/link/mine".parse().unwrap(),
                    Path::new("link/mine"),
                    None
                )
                .is_err()
        );
        let theirs = Fingerprint {
            size: 6,
            modified: Duration::ZERO,
            inode: 0,
            changed: (0, 0),
        };
        assert!(folder.remove(Path::new("link/theirs"), &theirs).is_err());
        assert!(folder.digest(Path::new("link/theirs")).is_err());
        // A link in the place of a folder is renamed, not followed.
        assert_eq!(folder.inspect(Path::new("link")).unwrap(), Found::Other);
        folder.move_aside(Path::new("link")).unwrap();
        folder
            .place(
                &content(),
                &"/link/mine".parse().unwrap(),
                Path::new("link/mine"),
                None,
            )
            .unwrap();
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_that_cannot_be_saved_are_refused() {
        for bad in [
            "/.syncsphere/state.json",
            "/.SyncSphere",
            "/.\u{17f}yncsphere/journal",
            "/.sync\u{200c}sphere/lock",
            &format!("/{}", "x".repeat(256)),
        ] {
            assert!(local_path(&bad.parse().unwrap()).is_err(), "{bad}");
        }
        assert_eq!(
            local_path(&"/a/.syncsphere".parse().unwrap()).unwrap(),
            Path::new("a/.syncsphere")
        );
    }
}
