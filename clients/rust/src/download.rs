//! Downloads, verified, and gone on with where they ended.

use std::collections::HashSet;
use std::io;
use std::sync::{MutexGuard, PoisonError};
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
    /// Lost connections are tried again, any number of times while each brings something. A beginning that
    /// turns out to be of something else is replaced. [`Error::Mismatch`] empties the file. The content of a
    /// version never changes, so this client and its clones do not fetch that version again.
    pub async fn fetch(
        &self,
        content: &Content,
        into: &mut File,
        progress: &impl Progress,
    ) -> Result<(), Error> {
        let version = (content.file_id, content.version);
        if self.mismatched().contains(&version) {
            return Err(Error::Mismatch);
        }
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
        if matches!(outcome, Err(Error::Mismatch)) {
            self.mismatched().insert(version);
        }
        outcome?;
        // A write that failed after it was taken is only told of here.
        into.flush().await?;
        into.sync_all().await?;
        Ok(())
    }

    fn mismatched(&self) -> MutexGuard<'_, HashSet<(FileId, Version)>> {
        self.mismatched.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;
    use crate::Token;

    /// API and storage in one, where each version holds "content": a client, and how often storage was asked.
    async fn service() -> (Client, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let (there, told) = (url.clone(), Arc::clone(&asked));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut raw = Vec::new();
                while !raw.ends_with(b"\r\n\r\n") {
                    stream.read_buf(&mut raw).await.unwrap();
                }
                let body = if raw.starts_with(b"GET /object") {
                    told.fetch_add(1, Ordering::SeqCst);
                    "content".to_owned()
                } else {
                    json!({ "url": format!("{there}/object"), "expiresAt": "2030-01-01T00:00:00Z" })
                        .to_string()
                };
                let head = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all((head + &body).as_bytes()).await.unwrap();
            }
        });
        let client = Client::new(&url, Token::from("token".to_owned()), None).unwrap();
        (client, asked)
    }

    #[tokio::test]
    async fn a_version_that_is_not_what_was_declared_is_fetched_once() {
        let (client, asked) = service().await;
        let path = std::env::temp_dir().join(format!("client-download-{}", std::process::id()));
        let mut options = File::options();
        let mut file = options
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)
            .await
            .unwrap();
        let of = |version: i64, declared: &[u8]| -> Content {
            serde_json::from_value(json!({
                "fileId": "0192f0c1-7a5e-7e4e-8f6a-0d5c3b2a1908", "version": version, "size": 7,
                "sha256": crate::sha256(declared),
            }))
            .unwrap()
        };
        for _ in 0..3 {
            let fetched = client.clone().fetch(&of(1, b"CONTENT"), &mut file, &()).await;
            assert!(matches!(fetched, Err(Error::Mismatch)), "{fetched:?}");
            assert_eq!(file.metadata().await.unwrap().len(), 0);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // Another version is another content.
        client.fetch(&of(2, b"content"), &mut file, &()).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        std::fs::remove_file(path).unwrap();
    }
}
