//! Uploads: opening, sending in one request or in parts, resuming and completing.

mod parts;
mod send;
mod source;

use std::io;
use std::time::Duration;

use fastrand::Rng;
use model::{
    ByteCount, ChangeOutcome, CompleteUploadRequest, CompleteUploadsRequest, Composite, CreateUploadRequest,
    CreateUploadsRequest, CreatedUpload, FileChanged, IdempotencyKey, OpeningOutcome, PartRequest,
    PendingUpload, PendingUploadList, PresignPartsRequest, PresignedParts, PresignedPut, Sha256, SpaceId,
    SpacePath, Transfer, UploadId, UploadStatus, UploadView,
};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tokio::time::sleep;

use crate::batch::Route;
use crate::files::{changed, is_unknown_field};
use crate::verification::PartsStream;
use crate::window::{MIN_WINDOW_BYTES, OpenUpload, Slot};
use crate::{Backoff, Client, Error, Progress, Sha256Stream};
pub(crate) use parts::Buffers;
pub use source::{LocalFile, Source};

/// Content of more than this many bytes is sent in parts, as the template sets it by default. It can be opened
/// without its SHA-256.
pub const MAX_PUT_BYTES: u64 = MIN_WINDOW_BYTES;

/// Attempts to complete an upload while the service answers 503. Assembling the largest content takes
/// minutes.
const COMPLETE_ATTEMPTS: u32 = 10;

/// Delays between these attempts.
const COMPLETE_BACKOFF: Backoff = Backoff::new(Duration::from_secs(3), Duration::from_secs(10));

/// The name of the limit of uploads that are neither complete nor aborted.
const PENDING_UPLOADS: &str = "pendingUploads";

/// Bytes per read of the content.
const READ_BYTES: u64 = 256 * 1024;

impl Client {
    /// `POST /uploads`, or `POST /uploads/batch` with concurrent calls. Repeating the call with the same key
    /// returns the same upload. A service of an earlier release that refuses `baseFileId`, `modifiedAt` or
    /// `executable` is asked again without it.
    pub async fn create_upload(
        &self,
        body: &CreateUploadRequest,
        key: Option<&IdempotencyKey>,
    ) -> Result<CreatedUpload, Error> {
        let mut body = CreateUploadRequest {
            idempotency_key: key.or(body.idempotency_key.as_ref()).cloned(),
            ..body.clone()
        };
        loop {
            match self
                .gathered(|batches| &batches.create_uploads, body.clone())
                .await
            {
                Err(error) if body.base_file_id.is_some() && is_unknown_field(&error, "baseFileId") => {
                    body.base_file_id = None;
                }
                Err(error) if body.modified_at.is_some() && is_unknown_field(&error, "modifiedAt") => {
                    body.modified_at = None;
                }
                Err(error) if body.executable.is_some() && is_unknown_field(&error, "executable") => {
                    body.executable = None;
                }
                created => return created,
            }
        }
    }

    /// `POST /uploads/{uploadId}/parts`: presigns the URLs of parts, at most 100 in one call.
    pub async fn presign_parts(
        &self,
        upload_id: UploadId,
        parts: Vec<PartRequest>,
    ) -> Result<PresignedParts, Error> {
        let request = self.request(Method::POST, &format!("/uploads/{upload_id}/parts"));
        self.call(request.json(&PresignPartsRequest { parts })).await
    }

    /// `GET /uploads`, page by page: the caller's pending uploads of all devices, oldest first.
    pub async fn pending_uploads(&self) -> Result<Vec<PendingUpload>, Error> {
        let mut uploads = Vec::new();
        self.pages("/uploads", |list: PendingUploadList| {
            uploads.extend(list.uploads);
            Ok::<_, Error>(list.next_page_token.map(|token| token.to_string()))
        })
        .await?;
        Ok(uploads)
    }

    /// `GET /uploads/{uploadId}`: the state of an upload.
    pub async fn show_upload(&self, upload_id: UploadId) -> Result<UploadView, Error> {
        self.call(self.request(Method::GET, &format!("/uploads/{upload_id}")))
            .await
    }

    /// `POST /uploads/{uploadId}/complete`, or `POST /uploads/batch/complete` with concurrent calls: turns the
    /// upload into a version of the file. Repeating the call gives the same answer.
    pub async fn complete_upload(&self, upload_id: UploadId) -> Result<FileChanged, Error> {
        self.gathered(|batches| &batches.complete_uploads, upload_id)
            .await
    }

    /// `POST /uploads/{uploadId}/complete` with the SHA-256 of the content, for an upload that was opened without
    /// it.
    pub async fn complete_upload_with(
        &self,
        upload_id: UploadId,
        sha256: Sha256,
    ) -> Result<FileChanged, Error> {
        let request = self.request(Method::POST, &format!("/uploads/{upload_id}/complete"));
        let sha256 = Some(sha256);
        self.call(request.json(&CompleteUploadRequest { sha256 })).await
    }

    /// `DELETE /uploads/{uploadId}`: ends an upload without a version.
    pub async fn abort_upload(&self, upload_id: UploadId) -> Result<(), Error> {
        let request = self.request(Method::DELETE, &format!("/uploads/{upload_id}"));
        self.answer(request).await?;
        Ok(())
    }

    /// Uploads content to a path of a space. `None` stands for the caller's personal space.
    /// [`Error::Changed`] means that the content changed after the upload began. [`Error::FeedReset`] means
    /// that another epoch began meanwhile; the path must be looked up again before another upload.
    pub async fn upload(
        &self,
        space_id: Option<SpaceId>,
        path: SpacePath,
        content: &(impl Source + ?Sized),
    ) -> Result<FileChanged, Error> {
        let client = self.with_fixed_epoch();
        let description = if content.size() > MAX_PUT_BYTES {
            client.describe_unread(space_id, path, content)?
        } else {
            client.describe(space_id, path, content, &()).await?
        };
        let opening = client.opened_or_described(&description, None, content, &());
        let (created, sha256, slot, _open) = opening.await?;
        let client = client.clone().with_transfer_retries();
        let finished = client.finish(&created, sha256, content, &(), slot).await;
        // Without a key the upload cannot be resumed.
        if finished.is_err() {
            client.abort_quietly(created.upload_id).await;
        }
        finished
    }

    /// Uploads content that [`Client::describe`] or [`Client::describe_unread`] has described. A caller that
    /// keeps the key until this returns can repeat the call, also after a crash and from another process. Parts
    /// that storage already has are not sent again, and the change is made once.
    ///
    /// Without a SHA-256 in the description, the content is read once, and its SHA-256 is declared at the end. If
    /// the service needs it before, as for content that is sent in one request, the content is read twice.
    ///
    /// [`Error::Refused`] with status 410 means that the earlier upload has expired; start again with a new
    /// key. [`Error::Changed`] means that the content changed after the upload began, or is not that of the
    /// earlier upload; the upload is aborted if it is not complete. [`Error::FeedReset`] means that another
    /// epoch began meanwhile: the upload and its key belong to the former one. Forget the key, look the path up
    /// again, and then decide whether to upload.
    pub async fn upload_with_key(
        &self,
        description: &CreateUploadRequest,
        key: &IdempotencyKey,
        content: &(impl Source + ?Sized),
        progress: &impl Progress,
    ) -> Result<FileChanged, Error> {
        let client = self.with_fixed_epoch();
        let opening = client.opened_or_described(description, Some(key), content, progress);
        let (created, sha256, slot, _open) = opening.await?;
        let client = client.clone().with_transfer_retries();
        let finished = client.finish(&created, sha256, content, progress, slot).await;
        if finished.as_ref().is_err_and(is_content_changed) {
            client.abort_quietly(created.upload_id).await;
        }
        finished
    }

    /// Opens an upload, with the SHA-256 of its content if the service needs it now. Returns the SHA-256 that
    /// was declared.
    async fn opened_or_described(
        &self,
        description: &CreateUploadRequest,
        key: Option<&IdempotencyKey>,
        content: &(impl Source + ?Sized),
        progress: &impl Progress,
    ) -> Result<(CreatedUpload, Option<Sha256>, Slot<'_>, OpenUpload<'_>), Error> {
        let mut sha256 = description.sha256;
        let opened = match self.opened(description, key).await {
            Err(error) if sha256.is_none() && is_sha256_required(&error) => {
                sha256 = Some(digest(content, 0, content.size(), |_| {}, progress).await?);
                let description = CreateUploadRequest {
                    sha256,
                    ..description.clone()
                };
                self.opened(&description, key).await
            }
            opened => opened,
        };
        let (created, slot, open) = opened?;
        Ok((created, sha256, slot, open))
    }

    /// Opens an upload when its content may be sent, because its time limit starts then. If the user has too
    /// many pending uploads, it waits as long as others of this client are open.
    async fn opened(
        &self,
        description: &CreateUploadRequest,
        key: Option<&IdempotencyKey>,
    ) -> Result<(CreatedUpload, Slot<'_>, OpenUpload<'_>), Error> {
        let length = description.size.get().unsigned_abs().min(MIN_WINDOW_BYTES);
        let mut is_alone = false;
        loop {
            let slot = self.window.acquire(length).await;
            match self.create_upload(description, key).await {
                Ok(created) => return Ok((created, slot, self.open_uploads.count())),
                Err(Error::Refused(problem)) if problem.limit == PENDING_UPLOADS => {
                    // Parts of open uploads need the window.
                    drop(slot);
                    let was_alone = std::mem::replace(&mut is_alone, !self.open_uploads.one_ends().await);
                    // At the first time, others may have been opened by the same request.
                    if was_alone && is_alone {
                        return Err(Error::Refused(problem));
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Aborts an upload that cannot be resumed, so that storage does not keep its content until it expires.
    /// If aborting fails, the upload expires.
    async fn abort_quietly(&self, upload_id: UploadId) {
        let once = self.clone().with_retry_budget(Duration::ZERO);
        let _ = once.abort_upload(upload_id).await;
    }

    /// Sends the content of an open upload, and completes it. `declared` is the SHA-256 that it was opened with.
    async fn finish(
        &self,
        created: &CreatedUpload,
        declared: Option<Sha256>,
        content: &(impl Source + ?Sized),
        progress: &impl Progress,
        slot: Slot<'_>,
    ) -> Result<FileChanged, Error> {
        let sha256 = self.transfer(created, content, progress, Some(slot)).await?;
        // With a declared SHA-256 the content was read twice, and was the same.
        if let Some(sha256) = sha256
            && !content.is_unchanged().await?
            && digest(content, 0, content.size(), |_| {}, &()).await? != sha256
        {
            return Err(Error::Changed);
        }
        let changed = self.complete_with_patience(created, sha256).await?;
        // The upload had been completed before, maybe with other content.
        if declared.or(sha256).is_none()
            && digest(content, 0, content.size(), |_| {}, &()).await? != changed.sha256
        {
            return Err(Error::Changed);
        }
        Ok(changed)
    }

    async fn complete_with_patience(
        &self,
        created: &CreatedUpload,
        sha256: Option<Sha256>,
    ) -> Result<FileChanged, Error> {
        let mut backoff = COMPLETE_BACKOFF;
        for _ in 1..COMPLETE_ATTEMPTS {
            match self.complete(created, sha256).await {
                Err(Error::Refused(problem)) if problem.status == 503 => {}
                // During a deployment, the release before may still answer some requests.
                Err(error) if is_unknown_field(&error, "sha256") => {}
                outcome => return outcome,
            }
            sleep(backoff.next_delay(&mut Rng::new())).await;
        }
        self.complete(created, sha256).await
    }

    /// Content in parts is completed by a request of its own, because assembling it takes long.
    async fn complete(&self, created: &CreatedUpload, sha256: Option<Sha256>) -> Result<FileChanged, Error> {
        let upload_id = created.upload_id;
        match (&created.transfer, sha256) {
            (Transfer::Put(_), _) => self.complete_upload(upload_id).await,
            (Transfer::Multipart(_), Some(sha256)) => self.complete_upload_with(upload_id, sha256).await,
            (Transfer::Multipart(_), None) => self.call(CompleteUploads::single(self, upload_id)).await,
        }
    }

    /// Sends the content of an upload that was just opened to storage. It does not complete the upload. If the
    /// upload was opened without the SHA-256 of its content, returns it, for
    /// [`complete_upload_with`](Self::complete_upload_with).
    pub async fn send(
        &self,
        created: &CreatedUpload,
        content: &(impl Source + ?Sized),
    ) -> Result<Option<Sha256>, Error> {
        self.transfer(created, content, &(), None).await
    }

    async fn transfer(
        &self,
        created: &CreatedUpload,
        content: &(impl Source + ?Sized),
        progress: &impl Progress,
        slot: Option<Slot<'_>>,
    ) -> Result<Option<Sha256>, Error> {
        let upload_id = created.upload_id;
        match &created.transfer {
            // No status is requested first: if the object is already stored, storage answers 412.
            Transfer::Put(put) => {
                self.send_whole(upload_id, put, content, progress, slot).await?;
                Ok(None)
            }
            Transfer::Multipart(_) => {
                // Each part takes a slot of its own.
                drop(slot);
                let upload = self.show_upload(upload_id).await?;
                self.send_missing(upload, content, progress).await
            }
        }
    }

    /// Builds the request for `POST /uploads`. This reads the whole content to compute its SHA-256, unless the
    /// source knows it.
    pub async fn describe(
        &self,
        space_id: Option<SpaceId>,
        path: SpacePath,
        content: &(impl Source + ?Sized),
        progress: &impl Progress,
    ) -> Result<CreateUploadRequest, Error> {
        let sha256 = match content.sha256() {
            Some(known) => known,
            None => digest(content, 0, content.size(), |_| {}, progress).await?,
        };
        Ok(CreateUploadRequest {
            sha256: Some(sha256),
            ..self.describe_unread(space_id, path, content)?
        })
    }

    /// Builds the request for `POST /uploads` without the SHA-256 of the content, and does not read it. This is
    /// for content of more than [`MAX_PUT_BYTES`].
    pub fn describe_unread(
        &self,
        space_id: Option<SpaceId>,
        path: SpacePath,
        content: &(impl Source + ?Sized),
    ) -> Result<CreateUploadRequest, Error> {
        Ok(CreateUploadRequest {
            path,
            size: byte_count(content.size())?,
            sha256: None,
            content_type: None,
            modified_at: content.modified_at(),
            executable: content.executable(),
            space_id,
            base_version: None,
            base_file_id: None,
            device_id: self.device_id(),
            idempotency_key: None,
        })
    }

    /// Sends the content that storage does not have. Returns the SHA-256 of the whole, if the upload has none.
    async fn send_missing(
        &self,
        upload: UploadView,
        content: &(impl Source + ?Sized),
        progress: &impl Progress,
    ) -> Result<Option<Sha256>, Error> {
        let upload_id = upload.upload_id;
        match upload.transfer.filter(|_| !upload.stored) {
            None if upload.sha256.is_none() && upload.state == UploadStatus::Pending => {
                let sha256 = assembled(upload.composite, content).await?;
                progress.skipped(content.size());
                Ok(Some(sha256))
            }
            None => {
                progress.skipped(content.size());
                Ok(None)
            }
            Some(Transfer::Put(put)) => {
                self.send_whole(upload_id, &put, content, progress, None).await?;
                Ok(None)
            }
            Some(Transfer::Multipart(layout)) => {
                let stored = upload.parts.unwrap_or_default();
                let sending = self.send_parts(upload_id, layout, content, &stored, progress);
                let sha256 = sending.await?;
                // Storage checks the SHA-256 of each part, but not the SHA-256 of the whole.
                match upload.sha256 {
                    None => Ok(Some(sha256)),
                    Some(declared) if declared == sha256 => Ok(None),
                    Some(_) => Err(Error::Changed),
                }
            }
        }
    }

    async fn send_whole(
        &self,
        upload_id: UploadId,
        put: &PresignedPut,
        content: &(impl Source + ?Sized),
        progress: &impl Progress,
        slot: Option<Slot<'_>>,
    ) -> Result<(), Error> {
        let renew_url = async || match self.show_upload(upload_id).await?.transfer {
            Some(Transfer::Put(put)) => Ok(Some(put)),
            _ => Ok(None),
        };
        self.put(put, content, 0, content.size(), progress, renew_url, slot)
            .await
    }
}

pub(crate) struct CreateUploads;

impl Route for CreateUploads {
    type Item = CreateUploadRequest;
    type Output = CreatedUpload;
    type Outcome = OpeningOutcome;

    /// The key is in the header, where a service of an earlier release reads it.
    fn single(client: &Client, mut item: CreateUploadRequest) -> RequestBuilder {
        let key = item.idempotency_key.take();
        let request = client.request(Method::POST, "/uploads").json(&item);
        match key {
            Some(key) => request.header("Idempotency-Key", key.as_str()),
            None => request,
        }
    }

    fn batch(client: &Client, uploads: Vec<CreateUploadRequest>) -> RequestBuilder {
        let request = client.request(Method::POST, "/uploads/batch");
        request.json(&CreateUploadsRequest { uploads })
    }

    fn output(outcome: OpeningOutcome) -> Result<CreatedUpload, Value> {
        match outcome {
            OpeningOutcome::Upload(created) => Ok(created),
            OpeningOutcome::Problem(problem) => Err(problem),
        }
    }

    fn are_exclusive(_: &CreateUploadRequest, _: &CreateUploadRequest) -> bool {
        false
    }
}

pub(crate) struct CompleteUploads;

impl Route for CompleteUploads {
    type Item = UploadId;
    type Output = FileChanged;
    type Outcome = ChangeOutcome;

    fn single(client: &Client, upload_id: UploadId) -> RequestBuilder {
        let request = client.request(Method::POST, &format!("/uploads/{upload_id}/complete"));
        request.json(&CompleteUploadRequest::default())
    }

    fn batch(client: &Client, upload_ids: Vec<UploadId>) -> RequestBuilder {
        let request = client.request(Method::POST, "/uploads/batch/complete");
        request.json(&CompleteUploadsRequest { upload_ids })
    }

    fn output(outcome: ChangeOutcome) -> Result<FileChanged, Value> {
        changed(outcome)
    }

    fn are_exclusive(one: &UploadId, other: &UploadId) -> bool {
        one == other
    }
}

/// Whether the content differs from the content that the upload was opened for, so that the upload can never
/// be completed.
fn is_content_changed(error: &Error) -> bool {
    match error {
        Error::Changed | Error::TooLarge => true,
        Error::Content(error) => error.kind() == io::ErrorKind::UnexpectedEof,
        _ => false,
    }
}

/// Whether the service takes the content only with its SHA-256: it is sent in one request, or the service is of
/// an earlier release.
fn is_sha256_required(error: &Error) -> bool {
    matches!(error, Error::Refused(problem) if problem.code == "sha256-required"
        || problem.code == "invalid-request" && problem.detail.contains("missing field `sha256`"))
}

/// Returns the SHA-256 of content whose parts an earlier call has sent and storage has assembled.
/// [`Error::Changed`] if the parts are not those of this content.
async fn assembled(composite: Option<Composite>, content: &(impl Source + ?Sized)) -> Result<Sha256, Error> {
    let composite = composite.filter(|composite| composite.part_size.get() > 0);
    let mut parts = PartsStream::new(composite.ok_or(Error::Changed)?);
    let sha256 = digest(content, 0, content.size(), |piece| parts.update(piece), &()).await?;
    if parts.matches() {
        Ok(sha256)
    } else {
        Err(Error::Changed)
    }
}

fn byte_count(size: u64) -> Result<ByteCount, Error> {
    let size = i64::try_from(size).ok().and_then(|size| size.try_into().ok());
    size.ok_or(Error::TooLarge)
}

/// Returns the SHA-256 of `length` bytes of the content from `offset` on. Each piece that is read goes to `also`
/// too.
async fn digest(
    content: &(impl Source + ?Sized),
    offset: u64,
    length: u64,
    mut also: impl FnMut(&[u8]),
    progress: &impl Progress,
) -> Result<Sha256, Error> {
    let mut digest = Sha256Stream::default();
    let (mut at, end) = (offset, offset + length);
    while at < end {
        let length = READ_BYTES.min(end - at);
        let piece = content.read(at, length).await?;
        digest.update(&piece);
        also(&piece);
        progress.hashed(length);
        at += length;
    }
    Ok(digest.finish())
}

#[cfg(test)]
mod tests {
    use futures_util::future::join;
    use serde_json::json;
    use std::sync::{Arc, Mutex};
    use std::time::SystemTime;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::Token;
    use crate::window::Window;

    const UPLOAD: &str = "0192f0c1-7a5e-7e4e-8f6a-0d5c3b2a1908";

    /// A server that plays API and storage, and completes no upload. If `refuses` is set, it answers each PUT
    /// with `BadDigest`. Returns a client, and the requests that it sent.
    async fn service(refuses: bool) -> (Client, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (there, log) = (url.clone(), Arc::clone(&requests));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, there.clone(), Arc::clone(&log), refuses));
            }
        });
        let client = Client::new(&url, Token::from("token".to_owned()), None).unwrap();
        (client.with_retry_budget(Duration::ZERO), requests)
    }

    async fn answer(mut stream: TcpStream, url: String, requests: Arc<Mutex<Vec<String>>>, refuses: bool) {
        let mut raw = Vec::new();
        let line = loop {
            stream.read_buf(&mut raw).await.unwrap();
            let text = String::from_utf8_lossy(&raw).to_ascii_lowercase();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let mut lines = head.lines();
            let first = lines.next().unwrap().to_owned();
            let length = lines.find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                let line = first.replace(" http/1.1", "");
                // The server plays an earlier release, which did not know these fields.
                let unknown = ["baseFileId", "modifiedAt", "executable"]
                    .into_iter()
                    .find(|field| body.contains(&field.to_lowercase()));
                break match unknown {
                    Some(field) => format!("{line} with {field}"),
                    // It also needs the SHA-256 when an upload is opened.
                    None if line == "post /uploads" && !body.contains("sha256") => {
                        format!("{line} without sha256")
                    }
                    None => line,
                };
            }
        };
        requests.lock().unwrap().push(line.clone());
        let (status, body) = match line.split_once(' ').unwrap() {
            ("post", "/uploads") => (
                "201 Created",
                json!({
                    "uploadId": UPLOAD, "spaceId": UPLOAD, "path": "/a", "expiresAt": "2030-01-01T00:00:00Z",
                    "put": { "url": format!("{url}/object"), "headers": {} },
                })
                .to_string(),
            ),
            ("post", path) if let Some(field) = path.strip_prefix("/uploads with ") => (
                "400 Bad Request",
                json!({
                    "status": 400, "code": "invalid-request", "requestId": "r",
                    "detail": format!("{field}: unknown field `{field}`, expected one of `path`, `size`"),
                })
                .to_string(),
            ),
            ("post", "/uploads without sha256") => (
                "400 Bad Request",
                json!({
                    "status": 400, "code": "invalid-request", "requestId": "r", "detail": "missing field `sha256`",
                })
                .to_string(),
            ),
            ("put", _) if refuses => (
                "400 Bad Request",
                "<Error><Code>BadDigest</Code></Error>".to_owned(),
            ),
            ("put", _) => ("200 OK", String::new()),
            ("delete", _) => ("204 No Content", String::new()),
            _ => ("404 Not Found", String::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn an_upload_of_other_content_is_aborted() {
        let (client, requests) = service(true).await;
        let content = b"content".as_slice();
        let path: SpacePath = "/a".parse().unwrap();
        let aborted = format!("delete /uploads/{UPLOAD}");

        let description = client.describe(None, path.clone(), content, &()).await.unwrap();
        let key: IdempotencyKey = "a-key-of-a-test".parse().unwrap();
        let error = client
            .upload_with_key(&description, &key, content, &())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Changed), "{error:?}");
        assert_eq!(requests.lock().unwrap().last(), Some(&aborted));

        requests.lock().unwrap().clear();
        client.upload(None, path, content).await.unwrap_err();
        assert_eq!(requests.lock().unwrap().last(), Some(&aborted));
    }

    #[tokio::test]
    async fn a_resumable_upload_is_not_aborted() {
        let (client, requests) = service(false).await;
        let content = b"content".as_slice();
        let description = client
            .describe(None, "/a".parse().unwrap(), content, &())
            .await
            .unwrap();
        let key: IdempotencyKey = "a-key-of-a-test".parse().unwrap();
        // This service does not complete uploads.
        client
            .upload_with_key(&description, &key, content, &())
            .await
            .unwrap_err();
        let last = requests.lock().unwrap().last().cloned();
        assert_eq!(last, Some(format!("post /uploads/{UPLOAD}/complete")));
    }

    #[tokio::test]
    async fn a_service_that_does_not_know_base_files_and_modification_times_takes_uploads() {
        let (client, requests) = service(false).await;
        let content = b"content".as_slice();
        let path = "/a".parse().unwrap();
        let mut description = client.describe(None, path, content, &()).await.unwrap();
        description.base_version = Some(1.try_into().unwrap());
        description.base_file_id = Some(uuid::Uuid::from_u128(1).into());
        description.modified_at = SystemTime::UNIX_EPOCH.try_into().ok();
        description.executable = Some(true);
        client.create_upload(&description, None).await.unwrap();
        let requests = requests.lock().unwrap();
        assert_eq!(
            *requests,
            [
                "post /uploads with baseFileId",
                "post /uploads with modifiedAt",
                "post /uploads with executable",
                "post /uploads"
            ]
        );
    }

    #[tokio::test]
    async fn a_service_that_needs_the_sha256_at_the_opening_gets_it_then() {
        let (client, requests) = service(false).await;
        let content = b"content".as_slice();
        let unread = client
            .describe_unread(None, "/a".parse().unwrap(), content)
            .unwrap();
        assert_eq!(unread.sha256, None);
        let key: IdempotencyKey = "a-key-of-a-test".parse().unwrap();
        // This service does not complete uploads.
        client
            .upload_with_key(&unread, &key, content, &())
            .await
            .unwrap_err();
        let requests = requests.lock().unwrap();
        let opened = ["post /uploads without sha256", "post /uploads", "put /object"];
        assert_eq!(requests[..3], opened);
    }

    /// Otherwise its time limit would run while other uploads are sent.
    #[tokio::test]
    async fn an_upload_is_opened_only_when_its_content_may_be_sent() {
        let (mut client, requests) = service(false).await;
        client.window = Arc::new(Window::new(8, 1));
        let upload = async |path: &str| {
            let content = b"content".as_slice();
            client
                .upload(None, path.parse().unwrap(), content)
                .await
                .unwrap_err()
        };
        join(upload("/a"), upload("/b")).await;
        let requests = requests.lock().unwrap();
        let of = |wanted: &str| -> Vec<usize> {
            let found = requests.iter().enumerate().filter(|(_, line)| *line == wanted);
            found.map(|(at, _)| at).collect()
        };
        let (opened, sent) = (of("post /uploads"), of("put /object"));
        assert_eq!((opened.len(), sent.len()), (2, 2), "{requests:?}");
        assert!(sent[0] < opened[1], "{requests:?}");
    }
}
