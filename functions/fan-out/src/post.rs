//! The WebSocket API's management interface, `@connections`, with as little CPU time per post as possible.
//!
//! The requests equal those of the SDK's `post_to_connection`, which takes far more CPU time: the client
//! accounts for nearly all of a post's cost. A test compares the two requests, including their signatures.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use platform::aws::{ATTEMPT_TIMEOUT, Account};
use platform::client::{HttpClient, Origin};
use platform::{digest, error_chain};
use thiserror::Error as ThisError;
use time::{Date, OffsetDateTime};
use tokio::time::timeout;

/// The service's name in signatures (Amazon API Gateway Developer Guide, "Use @connections commands in your
/// backend service").
const SERVICE: &str = "execute-api";

/// All characters except the unreserved ones of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The same without `/`, which separates the segments of a path.
const RESERVED_IN_PATHS: &AsciiSet = &RESERVED.remove(b'/');

/// The content type of frames. The SDK sends the same.
const CONTENT_TYPE: &str = "application/octet-stream";

/// A frame with its SHA-256, which is computed once for all posts of the frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    body: Bytes,
    sha256: String,
}

impl Frame {
    /// Computes the SHA-256 of a frame's text.
    pub(crate) fn new(text: String) -> Self {
        Self {
            sha256: hex::encode(digest::sha256(text.as_bytes())),
            body: text.into(),
        }
    }
}

/// The reason why no post can succeed with this configuration.
#[derive(Debug, ThisError)]
pub enum InvalidEndpoint {
    /// The endpoint is neither `https://host/stage` nor, on the emulator, `http://host:port/…`.
    #[error("the endpoint of @connections is no URL with a host")]
    Url,
    /// The environment has no credentials or no region. Lambda always sets both.
    #[error("the environment has no AWS credentials or no region")]
    NoAccount,
}

/// The reason why API Gateway did not take a post.
#[derive(Debug, ThisError)]
pub(crate) enum PostError {
    /// The connection no longer exists, or its handshake is still running.
    #[error("410 Gone")]
    Gone,
    /// The rate limit of the account or of the connection is exceeded.
    #[error("429 Too Many Requests")]
    Throttled,
    /// API Gateway rejected the request, because of the role, the API or the frame. Contains the status and
    /// the body.
    #[error("{0}")]
    Refused(String),
    /// API Gateway did not answer within [`ATTEMPT_TIMEOUT`].
    #[error("no answer in time")]
    TimedOut,
    /// API Gateway failed or could not be reached. Contains the reason.
    #[error("{0}")]
    Failed(String),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A client of `@connections`.
pub struct Connections {
    http: HttpClient,
    server: Origin,
    /// The value of the header `Host`.
    host: String,
    /// The stage as a path, without a trailing slash.
    stage: String,
    signer: Signer,
}

impl Connections {
    /// Creates a client for an endpoint such as `https://id.execute-api.region.amazonaws.com/stage`. Requests
    /// are signed with the function's credentials for the function's region.
    pub fn new(http: HttpClient, account: Option<Account>, endpoint: &str) -> Result<Self, InvalidEndpoint> {
        let uri: Uri = endpoint.parse().map_err(|_| InvalidEndpoint::Url)?;
        let host = uri.authority().ok_or(InvalidEndpoint::Url)?.to_string();
        Ok(Self {
            http,
            server: Origin::of(&uri).map_err(|_| InvalidEndpoint::Url)?,
            host,
            stage: uri.path().trim_end_matches('/').to_owned(),
            signer: Signer::new(account.ok_or(InvalidEndpoint::NoAccount)?),
        })
    }

    /// The number of idle connections to API Gateway. That many posts can start without opening another
    /// connection.
    pub(crate) fn idle(&self) -> usize {
        self.http.idle(&self.server)
    }

    /// Opens a connection to API Gateway during initialization, so that the first post does not wait for it.
    pub async fn warm_up(&self) {
        self.http.warm_up(&self.server).await;
    }

    /// Posts a frame to a connection. Makes one attempt, which takes at most [`ATTEMPT_TIMEOUT`].
    pub(crate) async fn post(
        &self,
        connection_id: &str,
        frame: &Frame,
        now: OffsetDateTime,
    ) -> Result<(), PostError> {
        match timeout(ATTEMPT_TIMEOUT, self.try_post(connection_id, frame, now)).await {
            Ok(posted) => posted,
            Err(_) => Err(PostError::TimedOut),
        }
    }

    async fn try_post(
        &self,
        connection_id: &str,
        frame: &Frame,
        now: OffsetDateTime,
    ) -> Result<(), PostError> {
        let id = utf8_percent_encode(connection_id, RESERVED);
        let path = format!("{}/@connections/{id}", self.stage);
        let posting = self.http.send(&self.server, || self.request(&path, frame, now));
        match posting.await {
            Ok(response) => classify_response(response.status(), response.body()),
            Err(error) => Err(PostError::Failed(error_chain(&error))),
        }
    }

    fn request(
        &self,
        path: &str,
        frame: &Frame,
        now: OffsetDateTime,
    ) -> Result<Request<Full<Bytes>>, BoxError> {
        let (host, date) = (self.host.as_str(), timestamp(now));
        let mut headers = vec![
            ("content-type", CONTENT_TYPE),
            ("host", host),
            ("x-amz-date", date.as_str()),
        ];
        if let Some(token) = self.signer.account.credentials.session_token() {
            headers.push(("x-amz-security-token", token));
        }
        let authorization = self
            .signer
            .authorization(path, &headers, &frame.sha256, (now, &date));
        let mut request = Request::post(path).header(AUTHORIZATION, authorization);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        Ok(request.body(Full::new(frame.body.clone()))?)
    }
}

/// The result of a post by its HTTP status (Amazon API Gateway Management API Reference, `PostToConnection`).
fn classify_response(status: StatusCode, body: &[u8]) -> Result<(), PostError> {
    let reason = || {
        format!("{status} {}", String::from_utf8_lossy(body))
            .trim_end()
            .to_owned()
    };
    match status.as_u16() {
        200..=299 => Ok(()),
        410 => Err(PostError::Gone),
        429 => Err(PostError::Throttled),
        400..=499 => Err(PostError::Refused(reason())),
        _ => Err(PostError::Failed(reason())),
    }
}

/// Signs posts (AWS Identity and Access Management User Guide, "Create a signed AWS API request").
///
/// Derives the key and calculates the signature with `aws-sigv4`, the crate that the SDK uses. The rest of
/// that crate's work handles requests of any kind, and takes as long as all other work of a post.
struct Signer {
    account: Account,
    key: Mutex<Option<(Date, Key)>>,
}

/// A signing key, which is valid for one day.
type Key = [u8; 32];

impl Signer {
    fn new(account: Account) -> Self {
        Self {
            account,
            key: Mutex::default(),
        }
    }

    /// The value of the header `Authorization` of a POST. `path` is encoded as it is sent. `headers` are all
    /// signed headers, with lower-case names in alphabetical order. `date` is `now` in the format of the
    /// header `x-amz-date`.
    fn authorization(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        sha256: &str,
        (now, date): (OffsetDateTime, &str),
    ) -> String {
        let mut canonical = String::with_capacity(1_024);
        let _ = write!(
            canonical,
            "POST\n{}\n\n",
            utf8_percent_encode(path, RESERVED_IN_PATHS)
        );
        for (name, value) in headers {
            let _ = writeln!(canonical, "{name}:{value}");
        }
        let names = headers
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(";");
        let _ = write!(canonical, "\n{names}\n{sha256}");
        let hash = hex::encode(digest::sha256(canonical.as_bytes()));

        let (region, day) = (
            self.account.region.as_ref(),
            date.split('T').next().unwrap_or_default(),
        );
        let scope = format!("{day}/{region}/{SERVICE}/aws4_request");
        let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}");
        let signature = calculate_signature(self.key(now), to_sign.as_bytes());
        let key_id = self.account.credentials.access_key_id();
        format!("AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={names}, Signature={signature}")
    }

    fn key(&self, now: OffsetDateTime) -> Key {
        let mut key = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((day, key)) = key.as_ref()
            && *day == now.date()
        {
            return *key;
        }
        let secret = self.account.credentials.secret_access_key();
        let made = generate_signing_key(secret, now.into(), self.account.region.as_ref(), SERVICE);
        let mut copy = Key::default();
        copy.copy_from_slice(made.as_ref());
        *key = Some((now.date(), copy));
        copy
    }
}

/// A time in the format `YYYYMMDDTHHMMSSZ` of the header `x-amz-date`.
fn timestamp(now: OffsetDateTime) -> String {
    let (date, (hour, minute, second)) = (now.date(), now.to_hms());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aws_sdk_apigatewaymanagement::config::retry::RetryConfig;
    use aws_sdk_apigatewaymanagement::error::SdkError;
    use aws_sdk_apigatewaymanagement::operation::post_to_connection::PostToConnectionError;
    use aws_sdk_apigatewaymanagement::primitives::Blob;
    use aws_types::SdkConfig;
    use platform::aws::Aws;
    use platform::config::Vars;
    use time::PrimitiveDateTime;
    use time::macros::{datetime, format_description};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A connection id in the form that API Gateway assigns.
    const ID: &str = "L0SM9cOFvHcCIhw=";
    const NOW: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);
    const FRAME: &str = r#"{"type":"changes","spaceId":"…","changes":[]}"#;

    /// A request as the server received it.
    struct Captured {
        line: String,
        headers: BTreeMap<String, String>,
        body: Vec<u8>,
    }

    /// Accepts one connection after the other. Sends each of its answers to one request of that connection,
    /// then closes it.
    async fn serve(listener: TcpListener, answers: Vec<Vec<&'static str>>) -> Vec<Captured> {
        let mut all = Vec::new();
        for answers in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                let mut raw = Vec::new();
                let head = loop {
                    assert!(
                        stream.read_buf(&mut raw).await.unwrap() > 0,
                        "the client went away"
                    );
                    if let Some(end) = raw.windows(4).position(|four| four == b"\r\n\r\n") {
                        break String::from_utf8(raw[..end].to_vec()).unwrap();
                    }
                };
                let mut lines = head.lines();
                let line = lines.next().unwrap().to_owned();
                let headers = lines.map(|line| line.split_once(':').unwrap());
                let headers: BTreeMap<String, String> = headers
                    .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
                    .collect();
                let length: usize = headers["content-length"].parse().unwrap();
                let mut body = raw[head.len() + 4..].to_vec();
                while body.len() < length {
                    stream.read_buf(&mut body).await.unwrap();
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
                all.push(Captured { line, headers, body });
            }
        }
        all
    }

    /// The environment of a function: the credentials of a role include a session token.
    fn vars() -> Vars<'static> {
        Vars::from_lookup(|name| {
            let value = match name {
                "AWS_ACCESS_KEY_ID" => "key",
                "AWS_SECRET_ACCESS_KEY" => "secret",
                "AWS_SESSION_TOKEN" => "session",
                "AWS_REGION" => "eu-central-1",
                _ => return None,
            };
            Some(value.to_owned())
        })
    }

    async fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/live", listener.local_addr().unwrap());
        (listener, endpoint)
    }

    fn ours(endpoint: &str) -> Result<Connections, InvalidEndpoint> {
        let Aws { account, http, .. } = Aws::from_vars(&vars()).unwrap();
        Connections::new(http, account, endpoint)
    }

    async fn by_the_sdk(endpoint: &str) -> Result<(), PostToConnectionError> {
        let aws: &SdkConfig = &Aws::from_vars(&vars()).unwrap().sdk;
        let config = aws_sdk_apigatewaymanagement::config::Builder::from(aws)
            .endpoint_url(endpoint)
            .retry_config(RetryConfig::disabled());
        let client = aws_sdk_apigatewaymanagement::Client::from_conf(config.build());
        let posting = client
            .post_to_connection()
            .connection_id(ID)
            .data(Blob::new(FRAME));
        posting
            .send()
            .await
            .map(|_| ())
            .map_err(SdkError::into_service_error)
    }

    fn time_of(request: &Captured) -> OffsetDateTime {
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        PrimitiveDateTime::parse(&request.headers["x-amz-date"], format)
            .unwrap()
            .assume_utc()
    }

    /// Our `Authorization` header for a captured request, over the headers that the request has signed.
    fn signed_again(signer: &Signer, request: &Captured) -> String {
        let names = request.headers["authorization"]
            .split_once("SignedHeaders=")
            .unwrap()
            .1;
        let names = names.split(',').next().unwrap().split(';');
        let headers: Vec<(&str, &str)> = names.map(|name| (name, request.headers[name].as_str())).collect();
        let path = request.line.split(' ').nth(1).unwrap();
        let sha256 = hex::encode(digest::sha256(&request.body));
        signer.authorization(
            path,
            &headers,
            &sha256,
            (time_of(request), &request.headers["x-amz-date"]),
        )
    }

    #[tokio::test]
    async fn a_post_is_the_sdks_signature_included() {
        const TAKEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let (listener, endpoint) = listen().await;
        let connections = ours(&endpoint).unwrap();
        let frame = Frame::new(FRAME.to_owned());
        let (posts, ()) = tokio::join!(serve(listener, vec![vec![TAKEN], vec![TAKEN]]), async {
            by_the_sdk(&endpoint).await.unwrap();
            connections.post(ID, &frame, NOW).await.unwrap();
        });
        let [sdks, own] = posts.as_slice() else {
            panic!("{}", posts.len())
        };
        assert_eq!(own.line, "POST /live/@connections/L0SM9cOFvHcCIhw%3D HTTP/1.1");
        assert_eq!(own.line, sdks.line);
        assert_eq!(own.body, FRAME.as_bytes());
        assert_eq!(own.body, sdks.body);
        for (name, value) in &own.headers {
            if !["authorization", "x-amz-date"].contains(&name.as_str()) {
                assert_eq!(Some(value), sdks.headers.get(name), "{name}");
            }
        }
        for request in [sdks, own] {
            assert_eq!(
                signed_again(&connections.signer, request),
                request.headers["authorization"]
            );
        }
        let signed = own.headers["authorization"]
            .split_once("SignedHeaders=")
            .unwrap()
            .1;
        let signed = signed.split(',').next().unwrap();
        assert_eq!(signed, "content-type;host;x-amz-date;x-amz-security-token");
        assert_eq!(time_of(own), NOW);
    }

    #[tokio::test]
    async fn a_connection_is_made_before_the_first_post() {
        let (_listener, endpoint) = listen().await;
        let connections = ours(&endpoint).unwrap();
        assert_eq!(connections.idle(), 0);
        connections.warm_up().await;
        assert_eq!(connections.idle(), 1);
    }

    #[test]
    fn a_reason_is_the_status_and_the_body_if_there_is_one() {
        let reason = |body: &[u8]| {
            classify_response(StatusCode::FORBIDDEN, body)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(reason(b"no"), "403 Forbidden no");
        assert_eq!(reason(b""), "403 Forbidden");
    }

    #[tokio::test]
    async fn a_key_is_kept_for_its_day() {
        let (_, endpoint) = listen().await;
        let signer = ours(&endpoint).unwrap().signer;
        let sign_with = |signer: &Signer, now| signer.authorization("/", &[], "", (now, &timestamp(now)));
        let sign = |now| sign_with(&signer, now);
        let (first, next_day) = (sign(NOW), sign(NOW + time::Duration::days(1)));
        assert!(next_day.contains("/20260103/") && first != next_day);
        assert_eq!(sign(NOW), first);
        let fresh = ours(&endpoint).unwrap().signer;
        assert_eq!(sign_with(&fresh, NOW + time::Duration::days(1)), next_day);
    }

    #[tokio::test]
    async fn an_error_is_of_the_class_that_the_sdk_has_for_it() {
        for (answer, name) in [
            (
                "HTTP/1.1 410 Gone\r\nx-amzn-ErrorType: GoneException\r\ncontent-length: 0\r\n\r\n",
                "GoneException",
            ),
            (
                "HTTP/1.1 429 Too Many Requests\r\nx-amzn-ErrorType: LimitExceededException\r\ncontent-length: 0\r\n\r\n",
                "LimitExceededException",
            ),
            (
                "HTTP/1.1 403 Forbidden\r\nx-amzn-ErrorType: ForbiddenException\r\ncontent-length: 0\r\n\r\n",
                "ForbiddenException",
            ),
            (
                "HTTP/1.1 413 Payload Too Large\r\nx-amzn-ErrorType: PayloadTooLargeException\r\ncontent-length: 0\r\n\r\n",
                "PayloadTooLargeException",
            ),
            (
                "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
                "Unhandled",
            ),
        ] {
            let (listener, endpoint) = listen().await;
            let connections = ours(&endpoint).unwrap();
            let frame = Frame::new(FRAME.to_owned());
            let (_, (sdks, own)) = tokio::join!(serve(listener, vec![vec![answer], vec![answer]]), async {
                let sdks = by_the_sdk(&endpoint).await.unwrap_err();
                (sdks, connections.post(ID, &frame, NOW).await.unwrap_err())
            });
            // The SDK puts the error into the same class.
            let class = match own {
                PostError::Gone => sdks.is_gone_exception(),
                PostError::Throttled => sdks.is_limit_exceeded_exception(),
                PostError::Refused(_) => {
                    sdks.is_forbidden_exception() || sdks.is_payload_too_large_exception()
                }
                PostError::TimedOut => false,
                PostError::Failed(_) => name == "Unhandled",
            };
            assert!(class, "{own:?} {sdks:?}");
            let kind = format!("{sdks:?}");
            assert_eq!(kind.split(['(', ' ']).next(), Some(name));
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_an_error_and_what_is_no_endpoint_too() {
        let (listener, endpoint) = listen().await;
        drop(listener);
        let connections = ours(&endpoint).unwrap();
        let error = connections
            .post(ID, &Frame::new(String::new()), NOW)
            .await
            .unwrap_err();
        assert!(matches!(error, PostError::Failed(_)), "{error:?}");
        for nonsense in ["", "live", "ftp://host/live", "/live"] {
            assert!(matches!(ours(nonsense), Err(InvalidEndpoint::Url)), "{nonsense}");
        }
    }
}
