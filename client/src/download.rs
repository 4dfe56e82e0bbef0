//! Downloads, verified, and gone on with where they ended.

use std::io;
use std::time::Duration;

use model::{ByteCount, ContentLocation, FileChanged, FileId, FileState, FileView, Sha256, Version};
use reqwest::header::{ACCEPT, RANGE};
use reqwest::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::api::checked;
use crate::{Client, Error, Progress, Sha256Stream};

/// How long storage may say nothing.
const SILENCE: Duration = Duration::from_mins(1);

/// How much is read at once of what an earlier attempt left, in bytes.
const READ_BYTES: usize = 1024 * 1024;

/// Content that the service has: which, and what it must turn out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// The file.
    pub file_id: FileId,
    /// Its version.
    pub version: Version,
    /// How many bytes it has.
    pub size: ByteCount,
    /// Their SHA-256.
    pub sha256: Sha256,
}

macro_rules! content_of {
    ($($named:ident),*) => {$(
        impl From<&$named> for Content {
            fn from(file: &$named) -> Self {
                Self { file_id: file.file_id, version: file.version, size: file.size, sha256: file.sha256 }
            }
        }
    )*};
}
content_of!(FileView, FileState, FileChanged);

impl Client {
    /// `GET /files/{fileId}/content`, followed to storage: the content of a version, or of the current one, as it comes. Who
    /// keeps it compares its SHA-256 with the version's.
    pub async fn download(&self, file_id: FileId, version: Option<Version>) -> Result<Response, Error> {
        self.download_from(file_id, version, 0).await
    }

    /// Downloads content into a file, which may have its beginning from an earlier attempt, and returns once all of it is there,
    /// with the declared SHA-256, and on the disk.
    ///
    /// Lost connections are tried again, any number of times while each brings something. A beginning that turns out to be of
    /// something else is replaced. [`Error::Mismatch`] empties the file.
    pub async fn fetch(
        &self,
        content: &Content,
        into: &mut File,
        progress: &impl Progress,
    ) -> Result<(), Error> {
        let size = content.size.get().unsigned_abs();
        let mut there = Beginning::read(into, size).await?;
        progress.found(there.length);
        let resumed = there.length > 0;
        let client = self.clone().persistent();
        let mut outcome = client.fetch_rest(content, into, &mut there, progress).await;
        if matches!(outcome, Err(Error::Mismatch)) {
            progress.lost(there.length);
            there = Beginning::empty(into).await?;
            if resumed {
                outcome = client.fetch_rest(content, into, &mut there, progress).await;
            }
        }
        outcome?;
        // A write that failed after it was taken is only told of here.
        into.flush().await?;
        into.sync_all().await?;
        Ok(())
    }

    async fn fetch_rest(
        &self,
        content: &Content,
        into: &mut File,
        there: &mut Beginning,
        progress: &impl Progress,
    ) -> Result<(), Error> {
        let size = content.size.get().unsigned_abs();
        let mut retries = self.retries();
        while there.length < size {
            let before = there.length;
            let Err(error) = self.fetch_once(content, into, there, progress).await else {
                continue;
            };
            if there.length > before {
                retries = self.retries();
            }
            retries.after(error).await?;
        }
        if there.digest.clone().finish() == content.sha256 {
            Ok(())
        } else {
            Err(Error::Mismatch)
        }
    }

    /// Appends what comes until the connection ends.
    async fn fetch_once(
        &self,
        content: &Content,
        into: &mut File,
        there: &mut Beginning,
        progress: &impl Progress,
    ) -> Result<(), Error> {
        let size = content.size.get().unsigned_abs();
        let mut answer = self
            .download_from(content.file_id, Some(content.version), there.length)
            .await?;
        if there.length > 0 && answer.status() != StatusCode::PARTIAL_CONTENT {
            progress.lost(there.length);
            *there = Beginning::empty(into).await?;
        }
        let before = there.length;
        loop {
            let piece = timeout(SILENCE, answer.chunk())
                .await
                .map_err(|_| Error::Silent)?;
            let Some(piece) = piece.map_err(reqwest::Error::without_url)? else {
                // An answer that ends where it began would be asked for without end.
                let moved = there.length > before || there.length == size;
                return if moved { Ok(()) } else { Err(Error::Silent) };
            };
            if there.length + piece.len() as u64 > size {
                return Err(Error::Mismatch);
            }
            into.write_all(&piece).await?;
            there.length += piece.len() as u64;
            there.digest.update(&piece);
            progress.moved(piece.len() as u64);
        }
    }

    async fn download_from(
        &self,
        file_id: FileId,
        version: Option<Version>,
        offset: u64,
    ) -> Result<Response, Error> {
        let version = version.map_or(String::new(), |version| format!("?version={version}"));
        let request = self.request(Method::GET, &format!("/files/{file_id}/content{version}"));
        let location: ContentLocation = self.call(request.header(ACCEPT, "application/json")).await?;
        // Without the token: it is not for storage.
        let mut request = self.http.get(location.url);
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
        }
        let answer = timeout(SILENCE, request.send())
            .await
            .map_err(|_| Error::Silent)?;
        // The URL is a secret.
        checked(answer.map_err(reqwest::Error::without_url)?).await
    }
}

/// What is there of content.
struct Beginning {
    length: u64,
    digest: Sha256Stream,
}

impl Beginning {
    /// Reads what an earlier attempt left; more than the whole is nothing.
    async fn read(file: &mut File, size: u64) -> io::Result<Self> {
        if file.metadata().await?.len() > size {
            return Self::empty(file).await;
        }
        let mut there = Self {
            length: 0,
            digest: Sha256Stream::default(),
        };
        file.rewind().await?;
        let mut piece = vec![0; READ_BYTES];
        loop {
            let length = file.read(&mut piece).await?;
            let Some(read) = piece.get(..length).filter(|read| !read.is_empty()) else {
                return Ok(there);
            };
            there.digest.update(read);
            there.length += length as u64;
        }
    }

    async fn empty(file: &mut File) -> io::Result<Self> {
        file.set_len(0).await?;
        file.rewind().await?;
        Ok(Self {
            length: 0,
            digest: Sha256Stream::default(),
        })
    }
}
