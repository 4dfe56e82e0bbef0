//! Sending content to storage.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use model::PresignedPut;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, Response, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{READ_BYTES, Source};
use crate::api::checked;
use crate::error::Server;
use crate::window::Slot;
use crate::{Client, Error, Progress};

/// Bytes per write to the connection. The chunk is small so that a slow connection still shows progress
/// within `WRITE_TIMEOUT`.
const CHUNK_BYTES: usize = 64 * 1024;

/// A 403 means that a renewed URL has expired only if the URL is older than this.
const MIN_EXPIRED_AGE: Duration = Duration::from_mins(10);

/// How long the connection may accept no data.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);

/// How long to wait for the answer after the connection has accepted all data. Up to some MB may then still
/// be in the send buffers of this machine.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(2);

impl Client {
    /// Sends a piece of content to storage, with retries. If the object is already stored, by a request whose
    /// answer was lost, this succeeds.
    ///
    /// If the URL has expired, `renew_url` gets a new one, or `None` if there is nothing left to send. `slot` is
    /// the place in the window for the first attempt, if the caller already has one.
    #[expect(clippy::too_many_arguments, reason = "a piece, where it goes, and how")]
    pub(super) async fn put(
        &self,
        put: &PresignedPut,
        content: &(impl Source + ?Sized),
        offset: u64,
        length: u64,
        progress: &impl Progress,
        renew_url: impl AsyncFn() -> Result<Option<PresignedPut>, Error>,
        mut slot: Option<Slot<'_>>,
    ) -> Result<(), Error> {
        let mut retries = self.retries();
        let mut renewed = None;
        let mut signed_at = None;
        loop {
            let mut sent_bytes = 0;
            let slot = match slot.take() {
                Some(slot) => slot,
                None => self.window.acquire(length).await,
            };
            let request = self.window.request().await;
            let url = renewed.as_ref().unwrap_or(put);
            let sending = self.put_once(url, content, (offset, length), progress, &mut sent_bytes);
            let Err(error) = sending.await else {
                slot.finish();
                progress.skipped(length - sent_bytes);
                return Ok(());
            };
            // Other pieces can use the slot during the pause.
            drop((slot, request));
            progress.reverted(sent_bytes);
            let is_old = signed_at.is_none_or(|at: Instant| at.elapsed() > MIN_EXPIRED_AGE);
            if is_old && error.status() == Some(403) {
                renewed = renew_url().await?;
                signed_at = Some(Instant::now());
                if renewed.is_some() {
                    continue;
                }
                progress.skipped(length);
                return Ok(());
            }
            retries.after(error).await?;
        }
    }

    async fn put_once(
        &self,
        put: &PresignedPut,
        content: &(impl Source + ?Sized),
        (offset, length): (u64, u64),
        progress: &impl Progress,
        sent_bytes: &mut u64,
    ) -> Result<(), Error> {
        // The length is a signed header, and S3 refuses a body of unknown length. For an empty body, hyper
        // sends no length unless the header is set.
        let request = self.http.put(&put.url).header(CONTENT_LENGTH, length);
        let request = put
            .headers
            .iter()
            .filter(|(name, _)| !name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str()))
            .fold(request, |request, (name, value)| request.header(name, value));
        if length <= CHUNK_BYTES as u64 {
            // One write sends the whole request.
            let whole = content.read(offset, length).await?;
            let sending = request.body(whole).send();
            *sent_bytes += length;
            progress.transferred(length);
            let answer = timeout(WRITE_TIMEOUT + RESPONSE_TIMEOUT, sending).await;
            return stored(answer.map_err(|_| Error::Timeout)?).await;
        }
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(1);
        let body = stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|piece| (piece, receiver))
        });
        let request = request.body(Body::wrap_stream(body));
        let mut sending = pin!(request.send());

        let writing = async {
            let (mut at, end) = (offset, offset + length);
            while at < end {
                let length = READ_BYTES.min(end - at);
                let mut piece = content.read(at, length).await?;
                while !piece.is_empty() {
                    let chunk = piece.split_to(CHUNK_BYTES.min(piece.len()));
                    let bytes = chunk.len() as u64;
                    match timeout(WRITE_TIMEOUT, sender.send(Ok(chunk))).await {
                        Ok(Ok(())) => {}
                        // The receiver is closed, because the answer has already arrived.
                        Ok(Err(_)) => std::future::pending().await,
                        Err(_) => return Err(Error::Timeout),
                    }
                    *sent_bytes += bytes;
                    progress.transferred(bytes);
                }
                at += length;
            }
            drop(sender);
            Ok(())
        };
        let answer = tokio::select! {
            answer = &mut sending => answer,
            written = writing => {
                written?;
                timeout(RESPONSE_TIMEOUT, sending).await.map_err(|_| Error::Timeout)?
            }
        };
        stored(answer).await
    }
}

/// Returns `Ok` if the object is stored. A 412 says that it already was.
async fn stored(answer: reqwest::Result<Response>) -> Result<(), Error> {
    // The presigned URL is a secret, so errors must not contain it.
    let answer = answer.map_err(reqwest::Error::without_url)?;
    if answer.status() != StatusCode::PRECONDITION_FAILED {
        checked(Server::Storage, answer).await.map_err(content_changed)?;
    }
    Ok(())
}

/// Storage computes the digest of the data that it received. TLS protects the data on the way, so a wrong
/// digest means that the content changed.
fn content_changed(error: Error) -> Error {
    match error {
        Error::Unexpected(answer) if answer.code == "BadDigest" => Error::Changed,
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::Token;

    /// Sends "content" to a storage that gives these answers in order. Returns the outcome, and the number of
    /// requests.
    async fn put(answers: &[(&str, &str)]) -> (Result<(), Error>, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "http://{}/object?signature=secret",
            listener.local_addr().unwrap()
        );
        let client = Client::new(&url, Token::from("token".to_owned()), None).unwrap();
        let headers = [].into();
        let presigned = PresignedPut { url, headers };
        let mut sent = 0;
        let answering = async {
            for (status, code) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut raw = Vec::new();
                while !raw.ends_with(b"content") {
                    assert!(stream.read_buf(&mut raw).await.unwrap() > 0);
                }
                sent += 1;
                let body =
                    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code></Error>");
                let head = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all((head + &body).as_bytes()).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let content = b"content".as_slice();
        let renew_url = async || unreachable!("no URL has expired");
        let outcome = tokio::select! {
            outcome = client.put(&presigned, content, 0, 7, &(), renew_url, None) => outcome,
            () = answering => unreachable!("it answers for ever"),
        };
        (outcome, sent)
    }

    #[tokio::test]
    async fn a_conflict_with_an_earlier_attempt_is_retried() {
        let conflict = ("409 Conflict", "ConditionalRequestConflict");
        let (outcome, sent) = put(&[
            conflict,
            conflict,
            ("412 Precondition Failed", "PreconditionFailed"),
        ])
        .await;
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(sent, 3);
        let (outcome, sent) = put(&[conflict, ("200 OK", "")]).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(sent, 2);
    }

    /// S3 refuses a request in which a signed header is missing.
    #[tokio::test]
    async fn every_size_is_sent_with_its_signed_length() {
        for size in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/object", listener.local_addr().unwrap());
            let client = Client::new(&url, Token::from("token".to_owned()), None)
                .unwrap()
                .with_retry_budget(Duration::ZERO);
            let headers = [("content-length".to_owned(), size.to_string())].into();
            let presigned = PresignedPut { url, headers };
            let answering = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut raw = Vec::new();
                let head = loop {
                    assert!(stream.read_buf(&mut raw).await.unwrap() > 0);
                    let text = String::from_utf8_lossy(&raw);
                    if let Some((head, body)) = text.split_once("\r\n\r\n")
                        && body.len() >= size
                    {
                        break head.to_ascii_lowercase();
                    }
                };
                let length = format!("content-length: {size}");
                let status = match head.lines().filter(|line| *line == length).count() {
                    1 => "200 OK",
                    _ => "403 Forbidden",
                };
                let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            };
            let content = vec![b'x'; size];
            let mut sent_bytes = 0;
            let sending = client.put_once(
                &presigned,
                content.as_slice(),
                (0, size as u64),
                &(),
                &mut sent_bytes,
            );
            let (outcome, ()) = tokio::join!(sending, answering);
            assert!(outcome.is_ok(), "{size} bytes: {outcome:?}");
        }
    }

    #[tokio::test]
    async fn an_aborted_operation_is_repeated() {
        let (outcome, sent) = put(&[("409 Conflict", "OperationAborted"), ("200 OK", "")]).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(sent, 2);
    }

    #[tokio::test]
    async fn a_wrong_digest_means_that_the_content_changed() {
        let (outcome, sent) = put(&[("400 Bad Request", "BadDigest")]).await;
        assert!(matches!(outcome, Err(Error::Changed)), "{outcome:?}");
        assert_eq!(sent, 1);
    }

    #[tokio::test]
    async fn another_conflict_is_an_error() {
        let (outcome, sent) = put(&[("409 Conflict", "InvalidBucketState")]).await;
        assert_eq!(outcome.unwrap_err().status(), Some(409));
        assert_eq!(sent, 1);
    }
}
