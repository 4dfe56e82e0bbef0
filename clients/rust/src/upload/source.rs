//! Sources of content to upload.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _};
use std::path::PathBuf;
use std::sync::Arc;

use model::ModifiedAt;
use tokio::task::spawn_blocking;

/// Content that can be read at any offset and more than once, such as a file or a slice.
pub trait Source: Sync {
    /// The size in bytes.
    fn size(&self) -> u64;

    /// Reads exactly `length` bytes from `offset` on.
    fn read(&self, offset: u64, length: u64) -> impl Future<Output = io::Result<Vec<u8>>> + Send;

    /// The modification time that the version gets; `None` if there is none.
    fn modified_at(&self) -> Option<ModifiedAt> {
        None
    }

    /// Whether the version is executable; `None` if that is not known.
    fn executable(&self) -> Option<bool> {
        None
    }
}

impl Source for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    async fn read(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let piece = usize::try_from(offset)
            .ok()
            .zip(usize::try_from(offset + length).ok());
        let piece = piece.and_then(|(from, to)| self.get(from..to));
        piece
            .map(<[u8]>::to_vec)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// A file on this machine.
#[derive(Clone, Debug)]
pub struct LocalFile {
    path: Arc<PathBuf>,
    size: u64,
    modified_at: Option<ModifiedAt>,
    executable: Option<bool>,
}

impl LocalFile {
    /// Reads the size of the file, its modification time and on Unix whether its owner may execute it. If the
    /// content changes later, the upload fails.
    pub async fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let found = tokio::fs::metadata(&path).await?;
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        Ok(Self {
            path: Arc::new(path),
            size: found.len(),
            // Some file systems have no times, or times that the service does not take.
            modified_at: found.modified().ok().and_then(|time| time.try_into().ok()),
            executable: is_executable(&found),
        })
    }
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

    async fn read(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let path = Arc::clone(&self.path);
        // All steps run in one blocking task; `tokio::fs` would start a task for each call.
        let reading = spawn_blocking(move || {
            let mut file = File::open(path.as_path())?;
            file.seek(io::SeekFrom::Start(offset))?;
            let mut piece = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.read_exact(&mut piece)?;
            Ok(piece)
        });
        reading.await?
    }
}
