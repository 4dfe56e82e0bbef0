//! Downloads, verified, and gone on with where they ended.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use model::{ByteCount, ContentLocation, FileChanged, FileId, FileState, FileView, Sha256, Version};
use reqwest::header::{ACCEPT, RANGE};
use reqwest::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::api::checked;
use crate::error::Party;
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
        let mut fetching = Fetching {
            client: self.clone().persistent(),
            content,
            size: content.size.get().unsigned_abs(),
            into,
            length: 0,
            digest: Sha256Stream::default(),
            progress,
        };
        fetching.read_beginning().await?;
        let resumed = fetching.length > 0;
        let mut outcome = fetching.rest().await;
        if matches!(outcome, Err(Error::Mismatch)) {
            fetching.empty().await?;
            if resumed {
                outcome = fetching.rest().await;
            }
        }
        outcome?;
        // A write that failed after it was taken is only told of here.
        into.flush().await?;
        into.sync_all().await?;
        Ok(())
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
        checked(Party::Storage, answer.map_err(reqwest::Error::without_url)?).await
    }
}

/// The next piece of a download; nothing at its end.
pub async fn next_piece(download: &mut Response) -> Result<Option<Bytes>, Error> {
    let piece = timeout(SILENCE, download.chunk()).await;
    let piece = piece.map_err(|_| Error::Silent)?;
    // The URL is a secret.
    Ok(piece.map_err(reqwest::Error::without_url)?)
}

/// A download into a file, and what of it is there.
struct Fetching<'a, P> {
    client: Client,
    content: &'a Content,
    size: u64,
    into: &'a mut File,
    /// How many bytes are there.
    length: u64,
    /// Theirs.
    digest: Sha256Stream,
    progress: &'a P,
}

impl<P: Progress> Fetching<'_, P> {
    /// Reads what an earlier attempt left; more than the whole is nothing.
    async fn read_beginning(&mut self) -> io::Result<()> {
        if self.into.metadata().await?.len() > self.size {
            return self.empty().await;
        }
        self.into.rewind().await?;
        let mut piece = vec![0; READ_BYTES];
        loop {
            let length = self.into.read(&mut piece).await?;
            let Some(read) = piece.get(..length).filter(|read| !read.is_empty()) else {
                break;
            };
            self.digest.update(read);
            self.length += length as u64;
        }
        self.progress.found(self.length);
        Ok(())
    }

    /// Begins anew.
    async fn empty(&mut self) -> io::Result<()> {
        self.progress.lost(self.length);
        (self.length, self.digest) = (0, Sha256Stream::default());
        self.into.set_len(0).await?;
        self.into.rewind().await?;
        Ok(())
    }

    /// Appends what is missing.
    async fn rest(&mut self) -> Result<(), Error> {
        let mut retries = self.client.retries();
        while self.length < self.size {
            let before = self.length;
            let Err(error) = self.once().await else {
                continue;
            };
            if self.length > before {
                retries = self.client.retries();
            }
            retries.after(error).await?;
        }
        if self.digest.clone().finish() == self.content.sha256 {
            Ok(())
        } else {
            Err(Error::Mismatch)
        }
    }

    /// Appends what comes until the connection ends.
    async fn once(&mut self) -> Result<(), Error> {
        let Content { file_id, version, .. } = *self.content;
        let asking = self.client.download_from(file_id, Some(version), self.length);
        let mut answer = asking.await?;
        if self.length > 0 && answer.status() != StatusCode::PARTIAL_CONTENT {
            self.empty().await?;
        }
        let before = self.length;
        while let Some(piece) = next_piece(&mut answer).await? {
            let bytes = piece.len() as u64;
            if self.length + bytes > self.size {
                return Err(Error::Mismatch);
            }
            self.into.write_all(&piece).await?;
            self.length += bytes;
            self.digest.update(&piece);
            self.progress.moved(bytes);
        }
        // An answer that ends where it began would be asked for without end.
        if self.length > before || self.length == self.size {
            Ok(())
        } else {
            Err(Error::Silent)
        }
    }
}
