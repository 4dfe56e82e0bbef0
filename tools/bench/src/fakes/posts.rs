//! Fake of `@connections`: accepts or refuses frames, and checks every request afterwards.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use runner::environment::{ACCESS_KEY, REGION};
use time::PrimitiveDateTime;
use time::macros::format_description;
use tokio_rustls::TlsAcceptor;

use super::{Reply, Request, Server, reply};

/// Shares of posts that are refused.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Connections in a hundred that are gone.
    pub(crate) gone: u32,
    /// Connections in a hundred that are throttled at their first post.
    pub(crate) throttled: u32,
}

/// A connection's number from 0 to 99: the last two digits of its id.
pub(crate) fn lot(connection_id: &str) -> u32 {
    let digits = connection_id.trim_end_matches('=');
    let number = digits.get(digits.len().saturating_sub(2)..).unwrap_or_default();
    number.parse().unwrap_or_default()
}

#[derive(Default)]
struct Book {
    faults: Faults,
    throttled: HashSet<String>,
    taken: Vec<(Request, u16)>,
}

/// Fake of `@connections`.
pub(crate) struct Posts {
    pub(crate) server: Server,
    book: Arc<Mutex<Book>>,
    tls: bool,
}

/// Posts since the last [`Posts::take`].
pub(crate) struct Posted {
    /// Frames that each connection received, in order.
    pub(crate) frames: HashMap<String, Vec<Bytes>>,
    /// Arrival time of each post, in order, refused posts included.
    pub(crate) times: Vec<Instant>,
}

impl Posts {
    pub(crate) async fn start(tls: Option<TlsAcceptor>) -> Result<Self> {
        let book = Arc::new(Mutex::new(Book::default()));
        let taken = reply(200, "", b"");
        let gone = reply(410, "x-amzn-ErrorType: GoneException\r\n", b"{}");
        let throttled = reply(
            429,
            "x-amzn-ErrorType: LimitExceededException\r\n",
            br#"{"message":"slow"}"#,
        );
        let shared = Arc::clone(&book);
        let is_tls = tls.is_some();
        let service = move |request: Request| -> Reply {
            let mut book = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let Faults {
                gone: dead,
                throttled: slow,
            } = book.faults;
            let (status, answer) = if dead + slow == 0 {
                (200, &taken)
            } else {
                let id = connection_id(&request);
                match lot(&id) {
                    lot if lot < dead => (410, &gone),
                    lot if lot < dead + slow && book.throttled.insert(id) => (429, &throttled),
                    _ => (200, &taken),
                }
            };
            book.taken.push((request, status));
            answer.clone()
        };
        Ok(Self {
            server: Server::start(tls, Arc::new(service)).await?,
            book,
            tls: is_tls,
        })
    }

    /// Endpoint for a function's configuration.
    pub(crate) fn endpoint(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://localhost:{}/live", self.server.address.port())
    }

    /// Sets the faults of all later posts.
    pub(crate) fn set_faults(&self, faults: Faults) {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.faults = faults;
        book.throttled.clear();
    }

    /// Number of recorded posts, refused posts included.
    pub(crate) fn answered(&self) -> usize {
        self.book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .taken
            .len()
    }

    /// Discards the recorded posts without checks, for the baseline, which does not sign requests.
    pub(crate) fn forget(&self) {
        self.book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .taken
            .clear();
    }

    /// Returns the posts since the last call. Checks each request's path, signature and host.
    pub(crate) fn take(&self) -> Result<Posted> {
        let taken = std::mem::take(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner).taken);
        let mut posted = Posted {
            frames: HashMap::new(),
            times: Vec::with_capacity(taken.len()),
        };
        for (request, status) in taken {
            check(&request)?;
            posted.times.push(request.at);
            if status == 200 {
                let frames = posted.frames.entry(connection_id(&request)).or_default();
                frames.push(request.body());
            }
        }
        Ok(posted)
    }

    /// Returns all recorded posts since the last call, refused ones included: arrival time and frame. Checks
    /// each request like [`Self::take`].
    pub(crate) fn take_timed(&self) -> Result<Vec<(Instant, Bytes)>> {
        let taken = std::mem::take(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner).taken);
        let mut timed = Vec::with_capacity(taken.len());
        for (request, _) in taken {
            check(&request)?;
            timed.push((request.at, request.body()));
        }
        Ok(timed)
    }
}

fn connection_id(request: &Request) -> String {
    let encoded = request.target().rsplit('/').next().unwrap_or_default();
    percent_decode_str(encoded).decode_utf8_lossy().into_owned()
}

/// Computes the signature again and compares.
fn check(request: &Request) -> Result<()> {
    let body = request.body();
    request.head(|head| {
        ensure!(head.method == Some("POST"), "not a POST");
        let target = head.path.unwrap_or_default();
        ensure!(
            target.starts_with("/live/@connections/") || target.starts_with("/live/%40connections/"),
            "posted to {target}"
        );
        let header = |name: &str| {
            let found = head
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case(name));
            found.and_then(|header| std::str::from_utf8(header.value).ok())
        };
        let authorization = header("authorization").context("a post is not signed")?;
        let part = |name: &str| {
            let rest = authorization.split_once(name)?.1;
            rest.split([',', ' ']).next()
        };
        let signed = part("SignedHeaders=").context("no signed headers")?;
        let signature = part("Signature=").context("no signature")?;
        for needed in ["host", "x-amz-date"] {
            ensure!(
                signed.split(';').any(|name| name == needed),
                "{needed} is not signed"
            );
        }
        let time = format_description!("[year][month][day]T[hour][minute][second]Z");
        let time = PrimitiveDateTime::parse(header("x-amz-date").context("no date")?, time)?.assume_utc();
        let identity: Identity = Credentials::new(ACCESS_KEY, ACCESS_KEY, None, None, "bench").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name("execute-api")
            .time(time.into())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let headers = signed.split(';').filter(|name| *name != "x-amz-date");
        let headers: Vec<(&str, &str)> = headers
            .map(|name| (name, header(name).unwrap_or_default()))
            .collect();
        let url = format!("https://{}{target}", header("host").unwrap_or_default());
        let again = SignableRequest::new("POST", url, headers.into_iter(), SignableBody::Bytes(&body))?;
        let (_, expected) = sign(again, &parameters)?.into_parts();
        if expected != signature {
            bail!("a post's signature is wrong: {authorization}");
        }
        Ok(())
    })?
}

/// Maximum number of posts that began within any interval of this length.
pub(crate) fn densest(times: &[Instant], span: Duration) -> usize {
    let mut sorted = times.to_vec();
    sorted.sort();
    let mut first = 0;
    let mut most = 0;
    for (last, time) in sorted.iter().enumerate() {
        while sorted.get(first).is_some_and(|start| *time - *start >= span) {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_draw_their_lot_by_their_last_digits() {
        assert_eq!(lot("c000004205="), 5);
        assert_eq!((0..1_000).filter(|i| lot(&format!("c{i:09}=")) < 30).count(), 300);
    }

    #[test]
    fn the_densest_span_is_found() {
        let zero = Instant::now();
        let at = |milliseconds: &[u64]| -> Vec<Instant> {
            milliseconds
                .iter()
                .map(|ms| zero + Duration::from_millis(*ms))
                .collect()
        };
        let second = Duration::from_secs(1);
        assert_eq!(densest(&at(&[0, 999, 1_000, 1_500]), second), 3);
        assert_eq!(densest(&[], second), 0);
    }
}
