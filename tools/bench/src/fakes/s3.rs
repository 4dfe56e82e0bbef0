//! Fake of S3 that has every object, with the size and checksum that the benchmarks' uploads declare.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio_rustls::TlsAcceptor;

use super::{Request, Server, reply};
use crate::settings::{SHA256, SIZE};

/// Fake of S3.
pub(crate) struct S3 {
    pub(crate) server: Server,
    requests: Arc<AtomicU64>,
    tls: bool,
}

impl S3 {
    pub(crate) async fn start(tls: Option<TlsAcceptor>) -> Result<Self> {
        let requests = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&requests);
        let headers = format!(
            "content-length: {SIZE}\r\netag: \"e\"\r\nx-amz-checksum-sha256: {SHA256}\r\nx-amz-checksum-type: FULL_OBJECT\r\n"
        );
        let found = format!("HTTP/1.1 200 OK\r\n{headers}\r\n").into_bytes().into();
        let refused = reply(501, "", b"");
        let is_tls = tls.is_some();
        let service = move |request: Request| {
            counted.fetch_add(1, Ordering::Relaxed);
            if request.raw.starts_with(b"HEAD ") {
                bytes::Bytes::clone(&found)
            } else {
                refused.clone()
            }
        };
        Ok(Self {
            server: Server::start(tls, Arc::new(service)).await?,
            requests,
            tls: is_tls,
        })
    }

    /// Endpoint with an IP address instead of a name, so that S3 clients put the bucket into the path.
    pub(crate) fn endpoint(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.server.address)
    }

    /// Requests since the last call.
    pub(crate) fn take_requests(&self) -> u64 {
        self.requests.swap(0, Ordering::Relaxed)
    }
}
