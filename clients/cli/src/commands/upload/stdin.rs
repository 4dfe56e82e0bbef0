//! The standard input as the content of an upload.
//!
//! An upload needs the size of its content when it is opened, and may have to send some of it again. So the
//! standard input is first written to a file without a name, which the system deletes when the command ends,
//! however it ends. Its SHA-256 is computed meanwhile.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bytes::Bytes;
use client::{Sha256Stream, Source};
use indicatif::HumanBytes;
use model::{Sha256, SpacePath};
use tokio::task::spawn_blocking;

use crate::accounts::Account;
use crate::arguments::Upload;
use crate::failure::{Kind, failure};
use crate::progress::Spooling;
use crate::resolve;

/// The argument that stands for the standard input.
pub(super) const STDIN: &str = "-";

/// Bytes of one read.
const READ_BYTES: usize = 1024 * 1024;

/// Whether the command line names the standard input. It must then be the only argument.
pub(super) fn is_named(upload: &Upload) -> anyhow::Result<bool> {
    let is_stdin = |file: &PathBuf| file.as_os_str() == OsStr::new(STDIN);
    match upload.files.iter().any(is_stdin) {
        true if upload.files.len() > 1 => Err(failure(
            Kind::Usage,
            "- stands for the standard input, which is uploaded alone; a file of that name is ./-",
        )),
        named => Ok(named),
    }
}

/// The path of the standard input in the space.
pub(super) fn destination(upload: &Upload) -> anyhow::Result<SpacePath> {
    if upload.to.is_empty() || upload.to.ends_with('/') {
        let message = format!(
            "the standard input has no name, and \"{}\" is a folder; give the path of the file, such as --to \"{}NAME\"",
            upload.to, upload.to
        );
        return Err(failure(Kind::Usage, message));
    }
    resolve::path(&upload.to)
}

/// The content of the standard input, in a file without a name.
pub(super) struct Stdin {
    file: Arc<Mutex<File>>,
    size: u64,
    sha256: Sha256,
}

impl Stdin {
    /// Reads the standard input to its end.
    pub(super) async fn read(account: &Account) -> anyhow::Result<Self> {
        // The folder of temporary files is often in memory, unless somebody has chosen it.
        let folder = match env::var_os("TMPDIR") {
            Some(chosen) if !chosen.is_empty() => PathBuf::from(chosen),
            _ => account.accounts.data_folder("stdin")?,
        };
        let spooling = spawn_blocking(move || Self::spool(io::stdin().lock(), &folder));
        spooling.await?
    }

    fn spool(mut input: impl Read, folder: &Path) -> anyhow::Result<Self> {
        let cannot_write = || format!("cannot write a temporary file in {}", folder.display());
        let mut file = tempfile::tempfile_in(folder).with_context(cannot_write)?;
        let bar = Spooling::new();
        let mut buffer = vec![0; READ_BYTES];
        let (mut size, mut digest) = (0, Sha256Stream::default());
        loop {
            let length = match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot read the standard input"),
            };
            let piece = buffer.get(..length).unwrap_or_default();
            file.write_all(piece)
                .map_err(|error| not_written(error, size, folder))?;
            digest.update(piece);
            size += length as u64;
            bar.read(length as u64);
        }
        if size == 0 {
            let message = "the standard input is empty, so nothing was uploaded; to upload an empty file, give its name";
            return Err(failure(Kind::Refused, message));
        }
        let file = Arc::new(Mutex::new(file));
        let sha256 = digest.finish();
        Ok(Self { file, size, sha256 })
    }
}

fn not_written(error: io::Error, size: u64, folder: &Path) -> anyhow::Error {
    let read = HumanBytes(size);
    let folder = folder.display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => failure(
            Kind::Refused,
            format!(
                "the standard input does not fit on this machine: after {read}, {folder} has no space left; set TMPDIR to a folder with more"
            ),
        ),
        _ => anyhow::Error::new(error).context(format!("cannot write the standard input to {folder}")),
    }
}

impl Source for Stdin {
    fn size(&self) -> u64 {
        self.size
    }

    fn sha256(&self) -> Option<Sha256> {
        Some(self.sha256)
    }

    async fn is_unchanged(&self) -> io::Result<bool> {
        Ok(true)
    }

    async fn read(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        let file = Arc::clone(&self.file);
        let reading = spawn_blocking(move || {
            let mut piece = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(&mut piece)?;
            Ok(piece.into())
        });
        reading.await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_input_is_read_at_any_offset_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        let stdin = Stdin::spool(content.as_slice(), folder.path()).unwrap();
        assert_eq!(stdin.size(), 3_000_000);
        assert_eq!(stdin.sha256(), Some(client::sha256(&content)));
        assert_eq!(stdin.read(2_999_000, 1_000).await.unwrap(), content[2_999_000..]);
        assert_eq!(stdin.read(0, 10).await.unwrap(), content[..10]);
        assert!(stdin.read(2_999_000, 1_001).await.is_err());
        #[cfg(unix)]
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_empty_input_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Stdin::spool([].as_slice(), folder.path()).err().unwrap();
        assert!(error.to_string().contains("is empty"), "{error}");
    }

    #[test]
    fn a_full_disk_is_named_with_what_to_do() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let message = not_written(full, 5_000_000, Path::new("/small")).to_string();
        assert!(
            message.contains("/small has no space left") && message.contains("TMPDIR"),
            "{message}"
        );
    }
}
