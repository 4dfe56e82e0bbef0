//! A fake of S3. Objects are written once, in one request or in parts, and their length and SHA-256 are checked.
//! Their content is not kept.

mod multipart;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anyhow::Result;
use model::Sha256;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use ring::digest::{SHA256, digest};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::http::{Fault, Reply, Request, Server, Service, reply, without_body};
use multipart::MultipartUploads;

/// The metadata that is kept of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// Length in bytes.
    pub size: i64,
    /// SHA-256 of the content, or for an object of parts the SHA-256 of their SHA-256s.
    pub sha256: Sha256,
    /// Number of parts; 0 if the content was written in one request.
    pub parts: usize,
}

impl Object {
    /// The checksum in S3's form.
    fn checksum(&self) -> String {
        match self.parts {
            0 => self.sha256.to_string(),
            parts => format!("{}-{parts}", self.sha256),
        }
    }
}

/// The running fake, with one bucket.
pub struct S3 {
    /// The server, for its counters and latency.
    pub server: Server,
    bucket: Arc<Bucket>,
}

impl S3 {
    /// Starts the fake with an empty bucket; with `tls`, it serves HTTPS. `faults` chooses the fault of each
    /// request.
    pub async fn start(
        tls: Option<TlsAcceptor>,
        bucket: &str,
        faults: impl Fn() -> Fault + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::with(tls, bucket, None, Box::new(faults)).await
    }

    /// Starts the fake with a bucket that has this object under every key.
    pub async fn with_every_object(tls: Option<TlsAcceptor>, bucket: &str, object: Object) -> Result<Self> {
        Self::with(tls, bucket, Some(object), Box::new(|| Fault::None)).await
    }

    async fn with(
        tls: Option<TlsAcceptor>,
        bucket: &str,
        default: Option<Object>,
        faults: Box<dyn Fn() -> Fault + Send + Sync>,
    ) -> Result<Self> {
        let bucket = Arc::new(Bucket {
            prefix: format!("/{bucket}/"),
            objects: Mutex::default(),
            uploads: Mutex::default(),
            default,
            hung: Mutex::default(),
            watched: Mutex::default(),
            faults,
        });
        Ok(Self {
            server: Server::start(tls, Arc::clone(&bucket)).await?,
            bucket,
        })
    }

    /// Endpoint with an IP address, so that S3 clients put the bucket into the path.
    pub fn endpoint(&self) -> String {
        self.server.url("127.0.0.1")
    }

    /// Answers no further request for this object.
    pub fn hang_for(&self, key: &str) {
        self.bucket.hung.lock().insert(key.to_owned());
    }

    /// Resolves when the next `HEAD` request for this object arrives.
    pub fn next_head(&self, key: &str) -> oneshot::Receiver<()> {
        let (arrived, next) = oneshot::channel();
        self.bucket.watched.lock().insert(key.to_owned(), arrived);
        next
    }

    /// All written objects by key.
    pub fn objects(&self) -> HashMap<String, Object> {
        self.bucket.objects.lock().clone()
    }
}

struct Bucket {
    /// The start of the path of every object.
    prefix: String,
    objects: Mutex<HashMap<String, Object>>,
    uploads: Mutex<MultipartUploads>,
    /// The object under each key that was not written.
    default: Option<Object>,
    /// The keys of objects for which no request is answered.
    hung: Mutex<HashSet<String>>,
    /// The keys of objects whose next `HEAD` request somebody waits for.
    watched: Mutex<HashMap<String, oneshot::Sender<()>>>,
    faults: Box<dyn Fn() -> Fault + Send + Sync>,
}

impl Service for Bucket {
    fn fault(&self, request: &Request) -> Fault {
        let path = request.target().split('?').next().unwrap_or_default();
        let key = path.strip_prefix(&self.prefix).unwrap_or_default();
        if request.method() == "HEAD"
            && let Some(watcher) = self.watched.lock().remove(key)
        {
            // Nobody may wait any more.
            let _ = watcher.send(());
        }
        if self.hung.lock().contains(key) {
            return Fault::Hang;
        }
        (self.faults)()
    }

    fn error(&self, status: u16, code: &str) -> Reply {
        let body = format!(
            r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>refused by the fake</Message></Error>"#
        );
        reply(status, "content-type: application/xml\r\n", body.as_bytes())
    }

    fn answer(&self, request: &Request) -> Reply {
        let (path, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
        if request.method() == "GET" && path.trim_end_matches('/') == self.prefix.trim_end_matches('/') {
            return self.versions(query);
        }
        let Some(key) = path.strip_prefix(&self.prefix) else {
            return self.error(404, "NoSuchBucket");
        };
        let upload = parameter(query, "uploadId");
        match (request.method(), upload) {
            ("POST", None)
                if query
                    .split('&')
                    .any(|pair| pair.trim_end_matches('=') == "uploads") =>
            {
                self.begin_parts(key)
            }
            ("PUT", Some(upload)) => self.put_part(key, upload, query, request),
            ("GET", Some(upload)) => self.list_parts(key, upload),
            ("POST", Some(upload)) => self.assemble(key, upload, request),
            ("DELETE", Some(upload)) => {
                self.uploads.lock().abort(key, upload);
                without_body(204, "")
            }
            ("PUT", None) => self.put(key, request),
            ("HEAD", None) => self.head(key),
            ("DELETE", None) => {
                self.objects.lock().remove(key);
                without_body(204, "")
            }
            _ => self.error(501, "NotImplemented"),
        }
    }
}

impl Bucket {
    fn put(&self, key: &str, request: &Request) -> Reply {
        let Some((size, sha256)) = checked(request) else {
            return self.error(400, "BadDigest");
        };
        let mut objects = self.objects.lock();
        if request.header("if-none-match").as_deref() == Some("*") && objects.contains_key(key) {
            return self.error(412, "PreconditionFailed");
        }
        let parts = 0;
        objects.insert(key.to_owned(), Object { size, sha256, parts });
        let headers = format!("etag: \"{}\"\r\nx-amz-checksum-sha256: {sha256}\r\n", key.len());
        reply(200, &headers, b"")
    }

    /// Lists the objects with a prefix. Each has one version, and there are no delete markers. If every key
    /// has an object, it lists the one whose key is the prefix.
    fn versions(&self, query: &str) -> Reply {
        let prefix = parameter(query, "prefix").unwrap_or_default();
        let prefix = percent_decode_str(prefix).decode_utf8_lossy();
        let mut found: Vec<String> = (self.objects.lock().keys())
            .filter(|key| key.starts_with(&*prefix))
            .map(|key| version(key))
            .collect();
        if found.is_empty() && self.default.is_some() && !prefix.is_empty() {
            found.push(version(&prefix));
        }
        found.sort();
        let body = format!(
            r#"<?xml version="1.0" encoding="UTF-8"?><ListVersionsResult><IsTruncated>false</IsTruncated>{}</ListVersionsResult>"#,
            found.concat()
        );
        reply(200, "content-type: application/xml\r\n", body.as_bytes())
    }

    fn head(&self, key: &str) -> Reply {
        let written = self.objects.lock().get(key).copied();
        let Some(object) = written.or(self.default) else {
            return without_body(404, "");
        };
        let kind = if object.parts > 0 {
            "COMPOSITE"
        } else {
            "FULL_OBJECT"
        };
        let headers = format!(
            "content-length: {}\r\netag: \"{}\"\r\nx-amz-checksum-sha256: {}\r\nx-amz-checksum-type: {kind}\r\n",
            object.size,
            key.len(),
            object.checksum()
        );
        without_body(200, &headers)
    }
}

/// The value of a parameter, as it is in the query string.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(given, value)| (given == name).then_some(value))
}

/// The length of a request's body and its SHA-256; `None` if it is not the declared one.
fn checked(request: &Request) -> Option<(i64, Sha256)> {
    let body = request.body();
    let sha256 = sha256(&body);
    let is_declared = request.header("x-amz-checksum-sha256") == Some(sha256.to_string());
    let size = i64::try_from(body.len()).unwrap_or(i64::MAX);
    is_declared.then_some((size, sha256))
}

fn sha256(content: &[u8]) -> Sha256 {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, content).as_ref());
    hash.into()
}

fn version(key: &str) -> String {
    format!("<Version><Key>{key}</Key><VersionId>1</VersionId></Version>")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::http::tests::send;

    /// The SHA-256 of `hello`.
    const HELLO: &str = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";

    fn put(sha256: &str) -> String {
        format!("PUT /bucket/key HTTP/1.1\r\nif-none-match: *\r\nx-amz-checksum-sha256: {sha256}")
    }

    #[tokio::test]
    async fn an_object_is_written_once_with_the_declared_checksum() {
        let s3 = S3::start(None, "bucket", || Fault::None).await.unwrap();
        let head = "HEAD /bucket/key HTTP/1.1";
        assert!(send(&s3.server, head, "").await.starts_with("HTTP/1.1 404"));
        assert!(send(&s3.server, &put(HELLO), "other").await.contains("BadDigest"));
        assert!(
            send(&s3.server, &put(HELLO), "hello")
                .await
                .starts_with("HTTP/1.1 200")
        );
        assert!(
            send(&s3.server, &put(HELLO), "hello")
                .await
                .contains("PreconditionFailed")
        );
        let answer = send(&s3.server, head, "").await;
        assert!(
            answer.contains(HELLO) && answer.contains("content-length: 5"),
            "{answer}"
        );
        send(&s3.server, "DELETE /bucket/key HTTP/1.1", "").await;
        assert!(s3.objects().is_empty());
    }

    #[tokio::test]
    async fn an_object_whose_answer_is_lost_is_written_and_one_that_is_refused_is_not() {
        let lost = Arc::new(AtomicBool::new(false));
        let chosen = Arc::clone(&lost);
        let faults = move || {
            if chosen.load(Ordering::Relaxed) {
                Fault::AnswerLost
            } else {
                Fault::Error(503, "SlowDown")
            }
        };
        let s3 = S3::start(None, "bucket", faults).await.unwrap();
        assert!(send(&s3.server, &put(HELLO), "hello").await.contains("SlowDown"));
        assert!(s3.objects().is_empty());
        lost.store(true, Ordering::Relaxed);
        assert_eq!(send(&s3.server, &put(HELLO), "hello").await, "");
        assert_eq!(s3.objects()["key"].size, 5);
    }
}
