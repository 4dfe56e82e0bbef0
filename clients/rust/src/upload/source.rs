//! Sources of content to upload.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use model::{ModifiedAt, Sha256};
use tokio::task::spawn_blocking;

/// A file of up to this size, in bytes, is read when it is opened.
const SMALL_BYTES: u64 = 64 * 1024;

/// Content that can be read at any offset and more than once, such as a file or a slice.
pub trait Source: Sync {
    /// The size in bytes.
    fn size(&self) -> u64;

    /// Reads exactly `length` bytes from `offset` on.
    fn read(&self, offset: u64, length: u64) -> impl Future<Output = io::Result<Bytes>> + Send;

    /// The modification time that the version gets; `None` if there is none.
    fn modified_at(&self) -> Option<ModifiedAt> {
        None
    }

    /// Whether the version is executable; `None` if that is not known.
    fn executable(&self) -> Option<bool> {
        None
    }

    /// The SHA-256 of the content, if it is known without reading.
    fn sha256(&self) -> Option<Sha256> {
        None
    }

    /// A text that identifies the content without reading it, such as the file and the time of its last change;
    /// `None` if there is none.
    fn identity(&self) -> Option<&str> {
        None
    }

    /// Whether the content is certainly the same as at the beginning, as can be told without reading it.
    /// Otherwise an upload that has read it once reads it again, to compare.
    fn is_unchanged(&self) -> impl Future<Output = io::Result<bool>> + Send {
        async { Ok(false) }
    }
}

impl Source for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    async fn read(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        slice(self, offset, length).map(Bytes::copy_from_slice)
    }

    async fn is_unchanged(&self) -> io::Result<bool> {
        Ok(true)
    }
}

pub(super) fn slice(content: &[u8], offset: u64, length: u64) -> io::Result<&[u8]> {
    let from = usize::try_from(offset).ok();
    let piece = from.zip(usize::try_from(offset + length).ok());
    let piece = piece.and_then(|(from, to)| content.get(from..to));
    piece.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// A file on this machine. A small one is held in memory.
#[derive(Clone)]
pub struct LocalFile {
    path: Arc<PathBuf>,
    size: u64,
    /// The whole content of a small file.
    content: Option<Bytes>,
    modified_at: Option<ModifiedAt>,
    executable: Option<bool>,
    /// The absolute path, size, times and on Unix the inode.
    identity: Arc<str>,
}

impl fmt::Debug for LocalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalFile").field(&self.path).finish()
    }
}

impl LocalFile {
    /// Reads the size of the file, its modification time and on Unix whether its owner may execute it, and the
    /// content of a file of up to 64 KiB. If the content of a larger file changes later, the upload fails.
    pub async fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        // All steps run in one blocking task; `tokio::fs` would start a task for each call.
        let opening = spawn_blocking(move || Self::open_now(path));
        opening.await?
    }

    fn open_now(path: PathBuf) -> io::Result<Self> {
        // Opening a pipe would wait for its writer.
        let found = path.metadata()?;
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        let size = found.len();
        let content = match size {
            1..=SMALL_BYTES => read_small(&path, size)?,
            _ => None,
        };
        Ok(Self {
            identity: identity(&path, &found)?.into(),
            path: Arc::new(path),
            size,
            content,
            // Some file systems have no times, or times that the service does not take.
            modified_at: found.modified().ok().and_then(|time| time.try_into().ok()),
            executable: is_executable(&found),
        })
    }
}

/// Identifies a file and its state. A write changes at least the times.
fn identity(path: &Path, found: &Metadata) -> io::Result<String> {
    let path = std::path::absolute(path)?;
    let path = path.display();
    let (size, modified, created) = (found.len(), found.modified().ok(), found.created().ok());
    Ok(format!("{path} {size} {modified:?} {created:?} {}", inode(found)))
}

/// The device, the inode, and the time of its last change, which programs cannot set.
#[cfg(unix)]
fn inode(found: &Metadata) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let changed = (found.ctime(), found.ctime_nsec());
    format!("{} {} {changed:?}", found.dev(), found.ino())
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> String {
    String::new()
}

/// The content of a file; `None` if it has another size by now.
fn read_small(path: &Path, size: u64) -> io::Result<Option<Bytes>> {
    // With room for one more byte, the end is found without a larger buffer.
    let mut content = Vec::with_capacity(usize::try_from(size + 1).map_err(io::Error::other)?);
    File::open(path)?.take(size + 1).read_to_end(&mut content)?;
    Ok((content.len() as u64 == size).then(|| content.into()))
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems do not know")]
fn is_executable(found: &Metadata) -> Option<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Some(found.permissions().mode() & 0o100 != 0)
}

#[cfg(not(unix))]
fn is_executable(_: &Metadata) -> Option<bool> {
    None
}

impl Source for LocalFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn modified_at(&self) -> Option<ModifiedAt> {
        self.modified_at
    }

    fn executable(&self) -> Option<bool> {
        self.executable
    }

    fn identity(&self) -> Option<&str> {
        Some(&self.identity)
    }

    async fn is_unchanged(&self) -> io::Result<bool> {
        let path = Arc::clone(&self.path);
        let now = spawn_blocking(move || identity(&path, &path.metadata()?));
        Ok(*now.await?? == *self.identity)
    }

    async fn read(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        if let Some(content) = &self.content {
            return slice(content, offset, length).map(|piece| content.slice_ref(piece));
        }
        let path = Arc::clone(&self.path);
        let reading = spawn_blocking(move || {
            let mut file = File::open(path.as_path())?;
            file.seek(io::SeekFrom::Start(offset))?;
            let mut piece = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
            file.take(length).read_to_end(&mut piece)?;
            if (piece.len() as u64) < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(piece.into())
        });
        reading.await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_small_file_is_uploaded_as_it_was_when_it_was_opened_and_a_large_one_as_it_is() {
        let path = std::env::temp_dir().join(format!("syncsphere-source-{}", std::process::id()));
        for (size, expected) in [(SMALL_BYTES, b'a'), (SMALL_BYTES + 1, b'b')] {
            let whole = |byte: u8| vec![byte; usize::try_from(size).unwrap()];
            std::fs::write(&path, whole(b'a')).unwrap();
            let file = LocalFile::open(&path).await.unwrap();
            std::fs::write(&path, whole(b'b')).unwrap();
            assert_eq!(file.size(), size);
            assert_eq!(file.read(1, 2).await.unwrap(), vec![expected; 2]);
            assert_eq!(file.read(0, size).await.unwrap(), whole(expected));
            assert!(file.read(1, size).await.is_err());
        }
        std::fs::remove_file(&path).unwrap();
    }
}
