//! Downloads: verified, and resumed after an interruption.

use std::collections::HashSet;
use std::io;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use model::{
    ByteCount, Composite, DownloadUrl, FileChanged, FileId, FileState, FileView, ModifiedAt, Sha256, Version,
};
use reqwest::header::{ACCEPT, RANGE};
use reqwest::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::api::checked;
use crate::error::Server;
use crate::{Client, Error, Progress, Verification};

/// How long to wait for storage to answer, or to send more of the content.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// Bytes per read when the beginning that an earlier attempt left is hashed.
const READ_BYTES: usize = 1024 * 1024;

/// A version of a file, and the size and digests that its content must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// The file's id.
    pub file_id: FileId,
    /// The version of the file. The content of a version never changes.
    pub version: Version,
    /// The size in bytes.
    pub size: ByteCount,
    /// The SHA-256 of the whole content, as its uploader declared it.
    pub sha256: Sha256,
    /// The composite SHA-256 that storage has verified. `None` if the content was not uploaded in parts, or
    /// if it is not known: listings include it, changes do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composite: Option<Composite>,
    /// The modification time of the uploader's file, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at: Option<ModifiedAt>,
    /// Whether the uploader's file was executable, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
}

macro_rules! content_of {
    ($($named:ident, $composite:expr;)*) => {$(
        impl From<&$named> for Content {
            fn from(file: &$named) -> Self {
                let composite: fn(&$named) -> Option<Composite> = $composite;
                Self {
                    file_id: file.file_id,
                    version: file.version,
                    size: file.size,
                    sha256: file.sha256,
                    composite: composite(file),
                    modified_at: file.modified_at,
                    executable: file.executable,
                }
            }
        }
    )*};
}
content_of! {
    FileView, |file| file.composite;
    FileState, |_| None;
    FileChanged, |_| None;
}

impl Client {
    /// `GET /files/{fileId}/content`, then the download from storage: the content of a version, or of the
    /// current one if `version` is `None`. The content is not verified; a caller that keeps it must compare
    /// it with the version by a [`Verification`].
    pub async fn download(&self, file_id: FileId, version: Option<Version>) -> Result<Response, Error> {
        self.download_from(file_id, version, 0).await
    }

    /// Downloads content into a file, which may already hold its beginning from an earlier attempt. When this
    /// returns, the file is complete and synced to disk, and its SHA-256 and composite SHA-256 match.
    ///
    /// Lost connections are retried without a limit as long as each one delivers some data. If the existing
    /// beginning belongs to other content, it is replaced. After [`Error::Mismatch`] the file is empty. The
    /// content of a version never changes, so this client and its clones do not download that version again.
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
            client: self.with_fixed_epoch().with_transfer_retries(),
            content,
            size: content.size.get().unsigned_abs(),
            into,
            length: 0,
            verification: Verification::of(content),
            progress,
        };
        fetching.read_beginning().await?;
        let resumed = fetching.length > 0;
        let mut outcome = fetching.download_rest().await;
        if matches!(outcome, Err(Error::Mismatch)) {
            // If the stored content matches its composite SHA-256, the uploader declared a wrong SHA-256, and
            // a second download would get the same content.
            let is_stored = fetching.verification.matches_composite() == Some(true);
            fetching.empty().await?;
            if resumed && !is_stored {
                outcome = fetching.download_rest().await;
            }
        }
        if matches!(outcome, Err(Error::Mismatch)) {
            self.mismatched().insert(version);
        }
        outcome?;
        // `File` buffers writes; an error of the last write is reported only by the flush.
        into.flush().await?;
        into.sync_all().await?;
        Ok(())
    }

    pub(crate) fn mismatched(&self) -> MutexGuard<'_, HashSet<(FileId, Version)>> {
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
        let location: DownloadUrl = self.call(request.header(ACCEPT, "application/json")).await?;
        // The bearer token is only for the API, so storage does not get it.
        let mut request = self.http.get(location.url);
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
        }
        let answer = timeout(READ_TIMEOUT, request.send())
            .await
            .map_err(|_| Error::Timeout)?;
        // The presigned URL is a secret, so errors must not contain it.
        checked(Server::Storage, answer.map_err(reqwest::Error::without_url)?).await
    }
}

/// Returns the next piece of a download, or `None` at its end.
pub async fn next_piece(download: &mut Response) -> Result<Option<Bytes>, Error> {
    let piece = timeout(READ_TIMEOUT, download.chunk()).await;
    let piece = piece.map_err(|_| Error::Timeout)?;
    // The presigned URL is a secret, so errors must not contain it.
    Ok(piece.map_err(reqwest::Error::without_url)?)
}

/// A download into a file, and its state.
struct Fetching<'a, P> {
    client: Client,
    content: &'a Content,
    size: u64,
    into: &'a mut File,
    /// Bytes in the file so far.
    length: u64,
    /// The digests of these bytes.
    verification: Verification,
    progress: &'a P,
}

impl<P: Progress> Fetching<'_, P> {
    /// Hashes the beginning that an earlier attempt left. A file that is larger than the content is emptied.
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
            self.verification.update(read);
            self.length += length as u64;
        }
        self.progress.skipped(self.length);
        Ok(())
    }

    /// Empties the file and restarts its digests.
    async fn empty(&mut self) -> io::Result<()> {
        self.progress.reverted(self.length);
        (self.length, self.verification) = (0, Verification::of(self.content));
        self.into.set_len(0).await?;
        self.into.rewind().await?;
        Ok(())
    }

    /// Downloads the missing bytes, with retries, and verifies the whole.
    async fn download_rest(&mut self) -> Result<(), Error> {
        let mut retries = self.client.retries();
        while self.length < self.size {
            let before = self.length;
            let Err(error) = self.download_once().await else {
                continue;
            };
            if self.length > before {
                retries = self.client.retries();
            }
            retries.after(error).await?;
        }
        self.verification.clone().finish()
    }

    /// Appends what one connection delivers.
    async fn download_once(&mut self) -> Result<(), Error> {
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
            self.verification.update(&piece);
            self.progress.transferred(bytes);
        }
        // An answer without any data is an error; otherwise `rest` would request it again without end.
        if self.length > before || self.length == self.size {
            Ok(())
        } else {
            Err(Error::Timeout)
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

    /// A server that plays API and storage, and holds "content" for each version. Returns a client, and the
    /// number of requests to storage.
    async fn service() -> (Client, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let (there, counter) = (url.clone(), Arc::clone(&requests));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut raw = Vec::new();
                while !raw.ends_with(b"\r\n\r\n") {
                    stream.read_buf(&mut raw).await.unwrap();
                }
                let head = String::from_utf8(raw).unwrap();
                let (status, body) = if head.starts_with("GET /object") {
                    counter.fetch_add(1, Ordering::SeqCst);
                    match head.split_once("range: bytes=") {
                        Some((_, from)) => {
                            let from: usize = from.split_once('-').unwrap().0.parse().unwrap();
                            ("206 Partial Content", "content"[from..].to_owned())
                        }
                        None => ("200 OK", "content".to_owned()),
                    }
                } else {
                    let url = format!("{there}/object");
                    (
                        "200 OK",
                        json!({ "url": url, "expiresAt": "2030-01-01T00:00:00Z" }).to_string(),
                    )
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all((head + &body).as_bytes()).await.unwrap();
            }
        });
        let client = Client::new(&url, Token::from("token".to_owned()), None).unwrap();
        (client, requests)
    }

    /// Creates an empty file in the temporary folder.
    async fn empty_file(name: &str) -> (std::path::PathBuf, File) {
        let path = std::env::temp_dir().join(format!("client-{name}-{}", std::process::id()));
        let mut options = File::options();
        let options = options.create(true).truncate(true).read(true).write(true);
        let file = options.open(&path).await.unwrap();
        (path, file)
    }

    fn declared(version: i64, declared: &[u8], parts: Option<&[&[u8]]>) -> Content {
        let composite = parts.map(|parts| {
            let digests = parts.iter().flat_map(|part| *crate::sha256(part).as_bytes());
            json!({
                "partSize": parts[0].len(),
                "sha256": crate::sha256(&digests.collect::<Vec<u8>>()),
            })
        });
        serde_json::from_value(json!({
            "fileId": "0192f0c1-7a5e-7e4e-8f6a-0d5c3b2a1908", "version": version, "size": 7,
            "sha256": crate::sha256(declared), "composite": composite,
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn a_version_with_wrong_content_is_downloaded_once() {
        let (client, requests) = service().await;
        let (path, mut file) = empty_file("download").await;
        for _ in 0..3 {
            let fetched = client
                .clone()
                .fetch(&declared(1, b"CONTENT", None), &mut file, &())
                .await;
            assert!(matches!(fetched, Err(Error::Mismatch)), "{fetched:?}");
            assert_eq!(file.metadata().await.unwrap().len(), 0);
        }
        assert_eq!(requests.load(Ordering::SeqCst), 1);
        // The mismatch of version 1 does not affect version 2.
        client
            .fetch(&declared(2, b"content", None), &mut file, &())
            .await
            .unwrap();
        assert_eq!(requests.load(Ordering::SeqCst), 2);
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn content_with_a_wrong_composite_digest_is_downloaded_once() {
        let (client, requests) = service().await;
        let (path, mut file) = empty_file("composite").await;
        let other = declared(1, b"content", Some(&[b"con", b"TEN", b"t"]));
        for _ in 0..2 {
            let fetched = client.fetch(&other, &mut file, &()).await;
            assert!(matches!(fetched, Err(Error::Mismatch)), "{fetched:?}");
            assert_eq!(file.metadata().await.unwrap().len(), 0);
        }
        assert_eq!(requests.load(Ordering::SeqCst), 1);
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn a_resumed_download_is_compared_with_what_storage_has_proved() {
        let (client, requests) = service().await;
        let (path, mut file) = empty_file("resumed").await;
        let proved: Option<&[&[u8]]> = Some(&[b"con", b"ten", b"t"]);
        // The earlier attempt ended inside the second part.
        file.write_all(b"cont").await.unwrap();
        client
            .fetch(&declared(1, b"content", proved), &mut file, &())
            .await
            .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        // The beginning belongs to other content, so a second request gets the whole.
        file.rewind().await.unwrap();
        file.write_all(b"CONT").await.unwrap();
        file.set_len(4).await.unwrap();
        client
            .fetch(&declared(1, b"content", proved), &mut file, &())
            .await
            .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        assert_eq!(requests.load(Ordering::SeqCst), 3);
        // The stored content is proved, but the declared SHA-256 is another one: a second download would not
        // help.
        file.set_len(4).await.unwrap();
        let fetched = client
            .fetch(&declared(2, b"CONTENT", proved), &mut file, &())
            .await;
        assert!(matches!(fetched, Err(Error::Mismatch)), "{fetched:?}");
        assert_eq!(requests.load(Ordering::SeqCst), 4);
        std::fs::remove_file(path).unwrap();
    }
}
