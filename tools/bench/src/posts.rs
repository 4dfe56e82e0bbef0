//! Clients of the WebSocket API that record every post. Posts are checked outside the measured time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use bytes::Bytes;
use fakes::connections::{Clients, Connections, connection_id};
use fakes::http::{Fault, Request};
use parking_lot::Mutex;
use runner::environment::{ACCESS_KEY, REGION};
use time::PrimitiveDateTime;
use time::macros::format_description;
use tokio_rustls::TlsAcceptor;

/// Shares of posts that are refused.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Connections in a hundred that are gone.
    pub(crate) gone: u32,
    /// Connections in a hundred that are throttled at their first post.
    pub(crate) throttled: u32,
}

/// The bucket of a connection, from 0 to 99: the last two digits of its ID.
pub(crate) fn bucket(connection_id: &str) -> u32 {
    let digits = connection_id.trim_end_matches('=');
    let number = digits.get(digits.len().saturating_sub(2)..).unwrap_or_default();
    number.parse().unwrap_or_default()
}

#[derive(Default)]
struct State {
    faults: Faults,
    throttled: HashSet<String>,
    /// Requests and the statuses of their answers.
    requests: Vec<(Request, u16)>,
}

#[derive(Default)]
struct Recorder(Mutex<State>);

impl Clients for Recorder {
    fn fault(&self, connection_id: &str, request: &Request) -> Fault {
        let mut state = self.0.lock();
        let Faults { gone, throttled } = state.faults;
        if gone + throttled == 0 {
            return Fault::None;
        }
        let (status, code) = match bucket(connection_id) {
            bucket if bucket < gone => (410, "GoneException"),
            bucket if bucket < gone + throttled && state.throttled.insert(connection_id.to_owned()) => {
                (429, "LimitExceededException")
            }
            _ => return Fault::None,
        };
        state.requests.push((request.clone(), status));
        Fault::Error(status, code)
    }

    fn post(&self, _: &str, request: &Request) -> bool {
        self.0.lock().requests.push((request.clone(), 200));
        true
    }

    fn close(&self, _: &str, request: &Request) {
        self.0.lock().requests.push((request.clone(), 204));
    }
}

/// Fake of `@connections` whose clients record every post.
pub(crate) struct Posts {
    pub(crate) fake: Connections,
    recorder: Arc<Recorder>,
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
        let recorder = Arc::new(Recorder::default());
        Ok(Self {
            fake: Connections::start(tls, Arc::clone(&recorder)).await?,
            recorder,
        })
    }

    /// Endpoint with a host name, as on AWS, for a function's configuration.
    pub(crate) fn endpoint(&self) -> String {
        self.fake.endpoint("localhost")
    }

    /// Sets the faults of all later posts.
    pub(crate) fn set_faults(&self, faults: Faults) {
        let mut state = self.recorder.0.lock();
        state.faults = faults;
        state.throttled.clear();
    }

    /// Number of recorded posts, refused posts included.
    pub(crate) fn answered(&self) -> usize {
        self.recorder.0.lock().requests.len()
    }

    /// Discards the recorded posts without checks, for the baseline, which does not sign requests.
    pub(crate) fn discard(&self) {
        self.recorder.0.lock().requests.clear();
    }

    /// Returns the posts since the last call. Checks each request's path, signature and host.
    pub(crate) fn take(&self) -> Result<Posted> {
        let taken = std::mem::take(&mut self.recorder.0.lock().requests);
        let mut posted = Posted {
            frames: HashMap::new(),
            times: Vec::with_capacity(taken.len()),
        };
        for (request, status) in taken {
            check(&request)?;
            posted.times.push(request.at);
            if status == 200 {
                let id = connection_id(&request).context("a post names no connection")?;
                let frames = posted.frames.entry(id.into_owned()).or_default();
                frames.push(request.body());
            }
        }
        Ok(posted)
    }

    /// Returns all recorded posts since the last call, refused ones included: arrival time and frame. Checks
    /// each request like [`Self::take`].
    pub(crate) fn take_timed(&self) -> Result<Vec<(Instant, Bytes)>> {
        let taken = std::mem::take(&mut self.recorder.0.lock().requests);
        let mut timed = Vec::with_capacity(taken.len());
        for (request, _) in taken {
            check(&request)?;
            timed.push((request.at, request.body()));
        }
        Ok(timed)
    }
}

/// Computes the signature again and compares.
fn check(request: &Request) -> Result<()> {
    let body = request.body();
    request.head(|head| {
        ensure!(head.method == Some("POST"), "not a POST");
        let target = head.path.unwrap_or_default();
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
    fn ids_are_in_the_bucket_of_their_last_digits() {
        assert_eq!(bucket("c000004205="), 5);
        assert_eq!(
            (0..1_000).filter(|i| bucket(&format!("c{i:09}=")) < 30).count(),
            300
        );
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
