//! Calls of the service.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use client::{Client, Content, Error, Server, Source};
use model::{
    Change, ChangeList, CreateUploadRequest, Cursor, Epoch, Event, FileChanged, FileId, ModifiedAt, SpaceId,
    SpacePath, Version,
};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::disk::{DiskError, DiskErrorKind, Meta, RealDisk, disk_error};
use crate::effect::{Answer, ChangePage, Committed, Fetch, RemoteError, Request, Upload};
use crate::path::Place;
use crate::tree::{Position, RemoteChange, RemoteRow, Subject};

/// Files that are downloaded at the same time.
const CONCURRENT_FETCHES: usize = 8;

/// Files that are uploaded at the same time. Many, because the client opens and completes uploads in batches;
/// it limits the requests with content itself.
const CONCURRENT_UPLOADS: usize = 100;

/// A file of up to this size is read once, so what is hashed is what is sent.
const SMALL_BYTES: u64 = 1024 * 1024;

/// Limit on the content in memory. The others wait.
const MEMORY_KIB: u32 = 64 * 1024;

/// The service, for one space.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    client: Client,
    space_id: SpaceId,
    disk: Arc<RealDisk>,
    fetches: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    memory: Arc<Semaphore>,
}

impl Remote {
    pub(super) fn new(client: Client, space_id: SpaceId, disk: Arc<RealDisk>) -> Self {
        Self {
            client,
            space_id,
            disk,
            fetches: Arc::new(Semaphore::new(CONCURRENT_FETCHES)),
            uploads: Arc::new(Semaphore::new(CONCURRENT_UPLOADS)),
            memory: Arc::new(Semaphore::new(MEMORY_KIB as usize)),
        }
    }

    /// A clone whose requests name this epoch, also when another clone learns of a later one.
    pub(super) fn with_epoch(&self, epoch: Option<Epoch>) -> Self {
        let client = self.client.clone().with_epoch(epoch);
        Self {
            client,
            ..self.clone()
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Downloads a version into a part.
    pub(super) async fn fetch(&self, fetch: &Fetch) -> Result<(), RemoteError> {
        let _permit = self.fetches.acquire().await;
        let (disk, part) = (Arc::clone(&self.disk), Arc::clone(&fetch.part));
        let file = blocking(move || disk.open_part(&part)).await?;
        let content = Content {
            file_id: fetch.file_id,
            version: fetch.version,
            size: fetch.size.cast_signed().try_into().map_err(|_| too_large())?,
            sha256: fetch.sha256,
            composite: None,
            modified_at: None,
            executable: None,
        };
        let mut file = tokio::fs::File::from_std(file);
        let fetched = self.client.fetch(&content, &mut file, &()).await;
        fetched.map_err(|error| failed(error, &fetch.part))
    }

    /// Adds a version.
    pub(super) async fn upload(&self, upload: &Upload) -> Result<Committed, RemoteError> {
        let _permit = self.uploads.acquire().await;
        let kib = u32::try_from(upload.size.min(SMALL_BYTES).div_ceil(1024)).unwrap_or(MEMORY_KIB);
        let _memory = self.memory.acquire_many(kib).await;
        let (disk, place) = (Arc::clone(&self.disk), Place::Tree(upload.local.clone()));
        let (file, meta) = blocking(move || disk.open_file(&place))
            .await
            .map_err(|error| match error {
                // It was renamed or removed after it was hashed.
                RemoteError::Disk(error) if error.kind == DiskErrorKind::NotFound => {
                    RemoteError::ContentChanged
                }
                error => error,
            })?;
        if meta.stamp != upload.stamp {
            return Err(RemoteError::ContentChanged);
        }
        let file = Arc::new(file);
        let content = self.content(upload, &file).await?;
        let (base_file_id, base_version) = match upload.base {
            Some((file_id, version)) => (Some(file_id), version),
            None => (None, Version::try_from(0).map_err(|_| too_large())?),
        };
        let description = CreateUploadRequest {
            path: upload.path.clone(),
            size: upload.size.cast_signed().try_into().map_err(|_| too_large())?,
            sha256: Some(upload.sha256),
            content_type: None,
            modified_at: upload.modified_at,
            executable: upload.executable,
            space_id: Some(self.space_id),
            base_version: Some(base_version),
            base_file_id,
            device_id: self.client.device_id(),
            idempotency_key: None,
        };
        let uploading = self
            .client
            .upload_with_key(&description, &upload.key, &content, &());
        match uploading.await {
            Ok(changed) => Ok(committed(changed)),
            // Storage refuses content with another digest than the declared one.
            Err(_) if !self.is_unchanged(&file, &meta).await => Err(RemoteError::ContentChanged),
            Err(error) => Err(failed(error, &upload.local)),
        }
    }

    /// The content to send: that of a small file in memory, with the declared digest.
    async fn content(&self, upload: &Upload, file: &Arc<File>) -> Result<OpenFile, RemoteError> {
        let whole = OpenFile {
            file: Arc::clone(file),
            size: upload.size,
            content: None,
            modified_at: upload.modified_at,
            executable: upload.executable,
        };
        if upload.size > SMALL_BYTES {
            return Ok(whole);
        }
        let read = whole.read(0, upload.size).await;
        let content = read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => RemoteError::ContentChanged,
            _ => RemoteError::Disk(disk_error("read", &upload.local, &error)),
        })?;
        if client::sha256(&content) != upload.sha256 {
            return Err(RemoteError::ContentChanged);
        }
        let content = Some(content);
        Ok(OpenFile { content, ..whole })
    }

    async fn is_unchanged(&self, file: &Arc<File>, before: &Meta) -> bool {
        let (disk, file) = (Arc::clone(&self.disk), Arc::clone(file));
        let meta = spawn_blocking(move || disk.meta_of(&file)).await;
        // The number of names and the time of a rename say nothing about the content.
        meta.is_ok_and(|meta| meta.is_ok_and(|meta| meta.stamp.is_renamed(&before.stamp)))
    }

    /// Calls the service. `page` gets the pages of a listing.
    pub(super) async fn request(
        &self,
        request: &Request,
        mut page: impl FnMut(Vec<(FileId, RemoteRow)>),
    ) -> Result<Answer, RemoteError> {
        match request {
            Request::Position => self.position().await,
            Request::List => {
                let listing = self.client.list_files(Some(self.space_id), "/", |files| {
                    page(
                        files
                            .iter()
                            .map(|file| (file.file_id, row(file.path.clone(), &Content::from(file))))
                            .collect(),
                    );
                    Ok::<_, Error>(())
                });
                listing.await.map_err(of_space)?;
                let epoch = self.client.epoch().ok_or(RemoteError::OtherEpoch)?;
                Ok(Answer::Listed(epoch))
            }
            Request::Changes(cursor) => {
                let list = self.changes(*cursor).await?;
                Ok(Answer::Changes(ChangePage {
                    position: position_of(&list),
                    has_more: list.has_more && !list.changes.is_empty(),
                    changes: list.changes.into_iter().map(change).collect(),
                }))
            }
            Request::Move {
                file_id,
                to,
                base_version,
                base_path,
            } => {
                let moving =
                    self.client
                        .move_file(*file_id, to.clone(), Some(*base_version), Some(base_path));
                let changed = moving.await.map_err(|error| failed(error, base_path))?;
                Ok(Answer::Committed(committed(changed)))
            }
            Request::Delete {
                file_id,
                base_version,
                base_path,
            } => {
                let deleting = self
                    .client
                    .delete_file(*file_id, Some(*base_version), Some(base_path));
                let changed = deleting.await.map_err(|error| failed(error, base_path))?;
                Ok(Answer::Committed(committed(changed)))
            }
        }
    }

    async fn changes(&self, after: Cursor) -> Result<ChangeList, RemoteError> {
        let listing = self.client.list_changes(Some(self.space_id), after).await;
        listing.map_err(of_space)
    }

    /// The role and the newest change, in the epoch that is current now.
    async fn position(&self) -> Result<Answer, RemoteError> {
        let current = self.with_epoch(None);
        let spaces = current.client.all_spaces().await.map_err(of_space)?;
        let found = spaces.into_iter().find(|space| space.space_id == self.space_id);
        let space = found.ok_or(RemoteError::SpaceGone)?;
        let list = current.changes(space.latest_sequence).await?;
        Ok(Answer::Position(space.role, position_of(&list)))
    }
}

fn too_large() -> RemoteError {
    RemoteError::Refused("the file is too large".to_owned())
}

fn position_of(list: &ChangeList) -> Position {
    Position {
        epoch: list.epoch,
        latest: list.latest_sequence,
        restored_at: list.restored_at_sequence,
    }
}

fn committed(changed: FileChanged) -> Committed {
    Committed {
        file_id: changed.file_id,
        path: changed.path,
        version: changed.version,
        sequence: changed.sequence,
    }
}

fn row(path: SpacePath, content: &Content) -> RemoteRow {
    RemoteRow {
        path,
        version: content.version,
        size: content.size.get().unsigned_abs(),
        sha256: content.sha256,
        modified_at: content.modified_at,
        executable: content.executable,
    }
}

fn change(event: Event) -> RemoteChange {
    let subject = match event.change {
        Change::FileUpdated(file) | Change::FileMoved(file) => {
            let content = Content::from(&file);
            Subject::File(file.file_id, Box::new(row(file.path, &content)))
        }
        Change::FileDeleted(file) => Subject::Deleted(file.file_id),
        Change::SpaceRenamed { .. }
        | Change::SpaceDeleted {}
        | Change::SpaceRestored {}
        | Change::MemberChanged { .. }
        | Change::MemberRemoved { .. } => Subject::Space,
        _ => Subject::Unknown,
    };
    RemoteChange {
        sequence: event.sequence,
        subject,
    }
}

/// Runs a call of the disk on a thread that may wait.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
) -> Result<T, RemoteError> {
    match spawn_blocking(call).await {
        Ok(result) => result.map_err(RemoteError::Disk),
        // The runtime ends.
        Err(_) => Err(RemoteError::Cancelled),
    }
}

/// A failed call that concerns the space as a whole.
fn of_space(error: Error) -> RemoteError {
    match failed(error, "") {
        RemoteError::Outdated(_) => RemoteError::SpaceGone,
        error => error,
    }
}

fn failed(error: Error, at: impl std::fmt::Display) -> RemoteError {
    let text = text(&error);
    match error {
        Error::FeedReset(_) => RemoteError::OtherEpoch,
        Error::Unauthenticated(_) | Error::NewPassword => RemoteError::SignedOut,
        Error::Content(error) => RemoteError::Disk(disk_error("read or write", at, &error)),
        Error::Changed => RemoteError::ContentChanged,
        Error::Mismatch => RemoteError::WrongContent,
        Error::TooLarge | Error::Insecure(_) => RemoteError::Refused(text),
        error if error.is_retryable() => RemoteError::Unavailable(text),
        Error::Refused(problem) => match problem.status {
            401 => RemoteError::SignedOut,
            403 if problem.code == "quota-exceeded" => RemoteError::Refused(text),
            403 => RemoteError::Forbidden(text),
            404 | 409 | 412 => RemoteError::Outdated(text),
            410 => RemoteError::Expired,
            _ => RemoteError::Refused(text),
        },
        // The content is missing. A later change may bring another version.
        Error::Unexpected(answer) if answer.server == Server::Storage && answer.status == 404 => {
            RemoteError::Refused("its content is missing in storage; ask whoever runs the service".to_owned())
        }
        Error::Unexpected(answer) if answer.status == 401 => RemoteError::SignedOut,
        Error::Unexpected(answer) if matches!(answer.status, 400 | 413) => RemoteError::Refused(text),
        // For example the page of a proxy.
        _ => RemoteError::Unavailable(text),
    }
}

/// An error with its causes.
fn text(error: &Error) -> String {
    let text = match error {
        Error::Refused(problem) | Error::FeedReset(problem) => {
            format!("{} (request {})", problem.detail, problem.request_id)
        }
        error => error.to_string(),
    };
    client::with_causes(text, error)
}

/// An open file of the folder, which is read wherever it is moved to.
struct OpenFile {
    file: Arc<File>,
    size: u64,
    /// The whole content of a small file.
    content: Option<Bytes>,
    modified_at: Option<ModifiedAt>,
    executable: Option<bool>,
}

impl Source for OpenFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn modified_at(&self) -> Option<ModifiedAt> {
        self.modified_at
    }

    fn executable(&self) -> Option<bool> {
        self.executable
    }

    async fn read(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        if let Some(content) = &self.content {
            let (from, to) = (
                usize::try_from(offset).ok(),
                usize::try_from(offset + length).ok(),
            );
            let piece = from.zip(to).and_then(|(from, to)| content.get(from..to));
            return piece
                .map(|piece| content.slice_ref(piece))
                .ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        }
        let file = Arc::clone(&self.file);
        let reading = spawn_blocking(move || {
            let mut piece = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            read_at(&file, &mut piece, offset)?;
            Ok(piece.into())
        });
        reading.await?
    }
}

#[cfg(unix)]
fn read_at(file: &File, piece: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, piece, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut piece: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt as _;
    while !piece.is_empty() {
        match file.seek_read(piece, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                piece = piece.split_at_mut(length).1;
                offset += length as u64;
            }
        }
    }
    Ok(())
}
