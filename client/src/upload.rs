//! Uploads from opening to completing, whole or in parts, begun or resumed.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use model::{
    ByteCount, CreateUploadRequest, CreatedUpload, FileChanged, PartNumber, PartRequest, Parts, Sha256,
    SpaceId, SpacePath, StoredPart, Transfer, UploadId,
};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::{Client, Error, Sha256Stream};

/// How many parts are on their way at once.
const CONCURRENT_PARTS: usize = 4;

/// How many parts are presigned at once: their URLs live for an hour, and a slow line must not outlive them.
const PRESIGNED_PARTS: usize = 4 * CONCURRENT_PARTS;

/// How often completing is tried while the service says that it cannot answer: assembling the largest content takes minutes.
const COMPLETE_ATTEMPTS: u32 = 10;

/// How long to wait in between.
const COMPLETE_PAUSE: Duration = Duration::from_secs(3);

/// How much is read at once to compute a SHA-256, in bytes.
const READ_BYTES: u64 = 1024 * 1024;

/// Content of which any piece can be read at any time, such as a file's or a slice's.
pub trait Source: Sync {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Reads a piece, all of it.
    fn read(&self, offset: u64, length: u64) -> impl Future<Output = io::Result<Vec<u8>>> + Send;
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
    path: PathBuf,
    size: u64,
}

impl LocalFile {
    /// Looks how large it is. Should it change later, the upload fails, since its SHA-256 is no longer what was declared.
    pub async fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let size = tokio::fs::metadata(&path).await?.len();
        Ok(Self { path, size })
    }
}

impl Source for LocalFile {
    fn size(&self) -> u64 {
        self.size
    }

    async fn read(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut file = tokio::fs::File::open(&self.path).await?;
        file.seek(io::SeekFrom::Start(offset)).await?;
        let mut piece = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact(&mut piece).await?;
        Ok(piece)
    }
}

impl Client {
    /// Uploads content to a path, of the caller's personal space if none is said.
    pub async fn upload(
        &self,
        space_id: Option<SpaceId>,
        path: SpacePath,
        content: &(impl Source + ?Sized),
    ) -> Result<FileChanged, Error> {
        let description = self.describe(space_id, path, content).await?;
        let created = self.create_upload(&description, None).await?;
        self.send(&created, content).await?;
        self.complete(created.upload_id).await
    }

    /// Sends the content of an upload that was just opened to storage.
    pub async fn send(&self, created: &CreatedUpload, content: &(impl Source + ?Sized)) -> Result<(), Error> {
        self.transfer(created.upload_id, &created.transfer, content, &[])
            .await
    }

    /// What `POST /uploads` is to be told of content.
    pub async fn describe(
        &self,
        space_id: Option<SpaceId>,
        path: SpacePath,
        content: &(impl Source + ?Sized),
    ) -> Result<CreateUploadRequest, Error> {
        Ok(CreateUploadRequest {
            path,
            size: byte_count(content.size())?,
            sha256: digest(content, 0, content.size()).await?,
            content_type: None,
            space_id,
            base_version: None,
            device_id: self.device_id(),
        })
    }

    /// Goes on with an upload of this content that was interrupted, wherever that was. Parts that storage has are not sent
    /// again.
    pub async fn resume(
        &self,
        upload_id: UploadId,
        content: &(impl Source + ?Sized),
    ) -> Result<FileChanged, Error> {
        let upload = self.show_upload(upload_id).await?;
        if let Some(transfer) = upload.transfer.filter(|_| !upload.stored) {
            let parts = upload.parts.unwrap_or_default();
            self.transfer(upload_id, &transfer, content, &parts).await?;
        }
        self.complete(upload_id).await
    }

    async fn complete(&self, upload_id: UploadId) -> Result<FileChanged, Error> {
        for _ in 1..COMPLETE_ATTEMPTS {
            match self.complete_upload(upload_id).await {
                Err(Error::Refused(problem)) if problem.status == 503 => {
                    tokio::time::sleep(COMPLETE_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
        self.complete_upload(upload_id).await
    }

    async fn transfer(
        &self,
        upload_id: UploadId,
        transfer: &Transfer,
        content: &(impl Source + ?Sized),
        stored: &[StoredPart],
    ) -> Result<(), Error> {
        match transfer {
            Transfer::Put(put) => self.put(put, content.read(0, content.size()).await?).await,
            Transfer::Multipart(cut) => self.send_parts(upload_id, *cut, content, stored).await,
        }
    }

    async fn send_parts(
        &self,
        upload_id: UploadId,
        cut: Parts,
        content: &(impl Source + ?Sized),
        stored: &[StoredPart],
    ) -> Result<(), Error> {
        let stored: BTreeMap<PartNumber, Sha256> = stored
            .iter()
            .map(|part| (part.part_number, part.sha256))
            .collect();
        let size = byte_count(content.size())?;
        let mut missing = Vec::new();
        for number in 1..=cut.part_count.get() {
            let part_number = PartNumber::try_from(number).map_err(|_| Error::TooLarge)?;
            let (offset, length) = piece(cut, part_number, size)?;
            let sha256 = digest(content, offset, length).await?;
            // What storage has may be of another state of the file.
            if stored.get(&part_number) != Some(&sha256) {
                missing.push(PartRequest { part_number, sha256 });
            }
        }
        for page in missing.chunks(PRESIGNED_PARTS) {
            let presigned = self.presign_parts(upload_id, page.to_vec()).await?;
            let sending = presigned.parts.into_iter().map(async |part| {
                let (offset, length) = piece(cut, part.part_number, size)?;
                self.put(&part.put, content.read(offset, length).await?).await
            });
            stream::iter(sending)
                .buffer_unordered(CONCURRENT_PARTS)
                .try_collect::<()>()
                .await?;
        }
        Ok(())
    }
}

/// Where a part begins, and its length.
fn piece(cut: Parts, part: PartNumber, size: ByteCount) -> Result<(u64, u64), Error> {
    let length = cut.size_of(part, size).ok_or(Error::TooLarge)?;
    let offset = (part.get() - 1) * cut.part_size.get();
    Ok((offset.unsigned_abs(), length.get().unsigned_abs()))
}

fn byte_count(size: u64) -> Result<ByteCount, Error> {
    let size = i64::try_from(size).ok().and_then(|size| size.try_into().ok());
    size.ok_or(Error::TooLarge)
}

async fn digest(content: &(impl Source + ?Sized), offset: u64, length: u64) -> Result<Sha256, Error> {
    let mut digest = Sha256Stream::default();
    let (mut at, end) = (offset, offset + length);
    while at < end {
        let length = READ_BYTES.min(end - at);
        digest.update(&content.read(at, length).await?);
        at += length;
    }
    Ok(digest.finish())
}
