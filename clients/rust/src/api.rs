//! Requests to the HTTP API: authorization, retries, paging and error answers.

use std::collections::HashSet;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{
    ChangeList, CreateTicketRequest, CreatedTicket, Cursor, DeviceId, Epoch, FileId, SpaceId, SpaceList,
    SpaceView, Version,
};
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::batch::Batches;
use crate::error::{ErrorResponse, Server, check_url};
use crate::retry::{RETRY_BUDGET, Retries, TRANSFER_RETRY_BUDGET};
use crate::upload::Buffers;
use crate::window::{OpenUploads, Window};
use crate::{Error, Problem, Session, install_crypto_provider};

/// Timeout of an API call. API Gateway itself gives up after 30 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(35);

/// Timeout for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Entries per page of a list: the maximum of the API.
const PAGE_SIZE: u32 = 1_000;

/// The header in which a request names the epoch that the client knows.
const EPOCH_HEADER: &str = "syncsphere-epoch";

/// The code of a refusal because another epoch than the named one is current.
const FEED_RESET: &str = "feed-reset";

/// One device of one user. Clones share its connections and its session.
///
/// Requests that fail with a retryable error are retried for 15 s, and for 5 min during an upload or a
/// download. Retries are safe, because the service makes each change only once.
///
/// Calls that open or complete uploads, or move or delete files, share requests of up to 100 items if they are
/// made at the same time.
///
/// After the first list of spaces or changes, every request names the epoch of the newest one. When the
/// service's database is restored from a backup, another epoch begins, and all requests except
/// [`Client::all_spaces`] fail with [`Error::FeedReset`], without any effect, until the spaces are listed
/// again.
#[derive(Clone, Debug)]
pub struct Client {
    /// Used for the API and for storage. It has no overall timeout, because a transfer over a slow line can
    /// take long.
    pub(crate) http: reqwest::Client,
    api_url: String,
    session: Session,
    device_id: Option<DeviceId>,
    retry_budget: Duration,
    pub(crate) window: Arc<Window>,
    pub(crate) open_uploads: Arc<OpenUploads>,
    pub(crate) buffers: Arc<Buffers>,
    pub(crate) batches: Arc<Batches>,
    /// Versions whose downloaded content did not match the declared digests. They are not downloaded again.
    pub(crate) mismatched: Arc<Mutex<HashSet<(FileId, Version)>>>,
    /// The epoch of the newest list of spaces or changes; `None` before the first.
    epoch: Arc<Mutex<Option<Epoch>>>,
}

impl Client {
    /// Creates a client. `api_url` is the stack's output `HttpApiUrl`; it must use `https`, or `http` to this
    /// machine. A [`Token`](crate::Token) can be passed instead of a [`Session`].
    pub fn new(
        api_url: &str,
        session: impl Into<Session>,
        device_id: Option<DeviceId>,
    ) -> Result<Self, Error> {
        install_crypto_provider();
        check_url("the API", api_url)?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::none())
            .build()?;
        Ok(Self {
            http,
            api_url: api_url.trim_end_matches('/').to_owned(),
            session: session.into(),
            device_id,
            retry_budget: RETRY_BUDGET,
            window: Arc::default(),
            open_uploads: Arc::default(),
            buffers: Arc::default(),
            batches: Arc::default(),
            mismatched: Arc::default(),
            epoch: Arc::default(),
        })
    }

    /// Returns the client with another limit for retries, counted from a request's first failure. Zero turns
    /// retries off.
    #[must_use]
    pub fn with_retry_budget(self, retry_budget: Duration) -> Self {
        Self { retry_budget, ..self }
    }

    /// Returns the client with another limit of requests with content that run at the same time. The default is
    /// 8. On a slow line, fewer run.
    #[must_use]
    pub fn with_concurrent_requests(self, requests: NonZeroU16) -> Self {
        let window = Arc::new(Window::with_requests(requests.get().into()));
        Self { window, ..self }
    }

    /// Returns the client with the limit for transfers (`TRANSFER_RETRY_BUDGET`), unless retries are off
    /// or the limit is already longer.
    #[must_use]
    pub(crate) fn with_transfer_retries(self) -> Self {
        if self.retry_budget.is_zero() {
            return self;
        }
        let retry_budget = self.retry_budget.max(TRANSFER_RETRY_BUDGET);
        self.with_retry_budget(retry_budget)
    }

    #[cfg(test)]
    pub(crate) fn url(&self) -> String {
        self.api_url.clone()
    }

    /// The session that authorizes the requests of this client.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The device that changes name as their origin, if one was given.
    pub fn device_id(&self) -> Option<DeviceId> {
        self.device_id
    }

    /// The epoch that requests name: that of the newest list of spaces or changes, or the one given to
    /// [`Client::with_epoch`].
    pub fn epoch(&self) -> Option<Epoch> {
        *self.known_epoch()
    }

    /// Returns the client with its own epoch, which it no longer shares with its former clones. With `None`,
    /// requests name no epoch until the next list.
    #[must_use]
    pub fn with_epoch(self, epoch: Option<Epoch>) -> Self {
        let epoch = Arc::new(Mutex::new(epoch));
        Self { epoch, ..self }
    }

    /// Returns a clone with a fixed epoch: it stays the same when another clone lists spaces. All requests of
    /// an upload or a download use one such clone, and fail when another epoch begins.
    pub(crate) fn with_fixed_epoch(&self) -> Self {
        self.clone().with_epoch(self.epoch())
    }

    fn known_epoch(&self) -> MutexGuard<'_, Option<Epoch>> {
        self.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `GET /spaces`, page by page: the current epoch, and all spaces of the caller, oldest first. It names no
    /// epoch, so it succeeds in any.
    pub(crate) async fn list_spaces(&self) -> Result<(Epoch, Vec<SpaceView>), Error> {
        let without_epoch = self.clone().with_epoch(None);
        loop {
            let (mut spaces, mut epochs) = (Vec::new(), Vec::new());
            let listing = without_epoch.pages("/spaces", |list: SpaceList| {
                spaces.extend(list.spaces);
                epochs.push(list.epoch);
                Ok::<_, Error>(list.next_page_token.map(|token| token.to_string()))
            });
            listing.await?;
            // If another epoch began between two pages, the list is started again.
            epochs.dedup();
            if let [epoch] = epochs[..] {
                if self.known_epoch().replace(epoch) != Some(epoch) {
                    // A version of another epoch may have other content.
                    self.mismatched().clear();
                }
                return Ok((epoch, spaces));
            }
        }
    }

    /// `GET /changes`: at most 1,000 changes of a space after a cursor. `None` stands for the caller's
    /// personal space.
    pub async fn list_changes(&self, space_id: Option<SpaceId>, after: Cursor) -> Result<ChangeList, Error> {
        let space = space_id.map_or(String::new(), |space_id| format!("&spaceId={space_id}"));
        let path = format!("/changes?after={after}&limit={PAGE_SIZE}{space}");
        let list: ChangeList = self.call(self.request(Method::GET, &path)).await?;
        // If the request named an epoch, the answer has the same one.
        self.known_epoch().get_or_insert(list.epoch);
        Ok(list)
    }

    /// `POST /tickets`. It is not retried, because callers that reconnect after failures have a back-off of
    /// their own.
    pub async fn create_ticket(&self) -> Result<CreatedTicket, Error> {
        let body = CreateTicketRequest {
            device_id: self.device_id,
        };
        let request = self.request(Method::POST, "/tickets").json(&body);
        parsed(self.authorized(request).await?).await
    }

    /// Builds a request to the API for [`Client::call`] or [`Client::answer`].
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.api_url);
        let request = self.http.request(method, url).timeout(CALL_TIMEOUT);
        match self.epoch() {
            Some(epoch) => request.header(EPOCH_HEADER, epoch.to_string()),
            None => request,
        }
    }

    pub(crate) fn retries(&self) -> Retries {
        Retries::new(self.retry_budget)
    }

    /// Sends a request, with retries, and parses the JSON body of the answer.
    pub(crate) async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        parsed(self.answer(request).await?).await
    }

    /// Sends a request, with retries, and returns its successful answer.
    pub(crate) async fn answer(&self, request: RequestBuilder) -> Result<Response, Error> {
        let mut retries = self.retries();
        loop {
            // A JSON body can be cloned. A request that cannot be cloned is sent once.
            let Some(again) = request.try_clone() else {
                return self.authorized(request).await;
            };
            match self.authorized(again).await {
                Err(error) => retries.after(error).await?,
                answer => return answer,
            }
        }
    }

    /// Requests all pages of a list. `each` receives a page and returns the token of the next page, or `None`
    /// after the last one.
    pub(crate) async fn pages<L: DeserializeOwned, E: From<Error>>(
        &self,
        path: &str,
        mut each: impl FnMut(L) -> Result<Option<String>, E>,
    ) -> Result<(), E> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let first = format!("{path}{separator}limit={PAGE_SIZE}");
        let mut next = first.clone();
        loop {
            let list = self.call(self.request(Method::GET, &next)).await?;
            let Some(token) = each(list)? else {
                return Ok(());
            };
            next = format!("{first}&pageToken={token}");
        }
    }

    /// Sends a request with the session's token. After a 401 it sends the request once more, if the session
    /// has a newer token.
    pub(crate) async fn authorized(&self, request: RequestBuilder) -> Result<Response, Error> {
        let again = request.try_clone();
        let token = self.session.current_token().await?;
        let mut response = request.bearer_auth(token.as_str()).send().await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(again) = again
            && let Some(next) = self.session.replacement_of(&token).await?
        {
            response = again.bearer_auth(next.as_str()).send().await?;
        }
        checked(Server::Api, response).await
    }
}

pub(crate) async fn parsed<T: DeserializeOwned>(response: Response) -> Result<T, Error> {
    Ok(serde_json::from_slice(&response.bytes().await?)?)
}

/// Returns an answer of status 2xx. Any other status becomes an error with the code and message of the body.
pub(crate) async fn checked(server: Server, response: Response) -> Result<Response, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = response.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
    let body = response.text().await.unwrap_or_default();
    match serde_json::from_str::<Problem>(&body) {
        Ok(problem) if server == Server::Api => Err(refused(Problem {
            retry_after: problem.retry_after.or(retry_after),
            ..problem
        })),
        _ => Err(ErrorResponse::new(server, status.as_u16(), &body).into()),
    }
}

/// The error of a request, or of an item of a request, that the API refused.
pub(crate) fn refused(problem: Problem) -> Error {
    match problem.code.as_str() {
        FEED_RESET => Error::FeedReset(Box::new(problem)),
        _ => Error::Refused(Box::new(problem)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use uuid::Uuid;

    use super::*;
    use crate::Token;

    fn epoch(number: u128) -> Epoch {
        Uuid::from_u128(number).into()
    }

    /// A fake of API and storage.
    struct Service {
        epoch: Epoch,
        /// Begin the next epoch when this request arrives.
        resets_at: Option<&'static str>,
        /// Each request to the API, and the epoch that it named.
        requests: Vec<(String, Option<Epoch>)>,
    }

    async fn service() -> (Client, Arc<Mutex<Service>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = Arc::new(Mutex::new(Service {
            epoch: epoch(1),
            resets_at: None,
            requests: Vec::new(),
        }));
        let (there, state) = (url.clone(), Arc::clone(&service));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                answer(stream, &there, &state).await;
            }
        });
        let client = Client::new(&url, Token::from("token".to_owned()), None).unwrap();
        (client, service)
    }

    async fn answer(mut stream: TcpStream, url: &str, service: &Mutex<Service>) {
        let mut raw = Vec::new();
        let head = loop {
            stream.read_buf(&mut raw).await.unwrap();
            let text = String::from_utf8_lossy(&raw).to_ascii_lowercase();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                break head.to_owned();
            }
        };
        let line = head.lines().next().unwrap();
        let line = line
            .replace(" http/1.1", "")
            .split('?')
            .next()
            .unwrap()
            .to_owned();
        let (status, body) = service.lock().unwrap().answer(&line, &head, url);
        let head = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.unwrap();
    }

    impl Service {
        fn answer(&mut self, line: &str, head: &str, url: &str) -> (&'static str, String) {
            if self.resets_at == Some(line) {
                self.epoch = epoch(2);
            }
            if line == "put /object" {
                return ("200 OK", String::new());
            }
            let named = head
                .lines()
                .find_map(|line| line.strip_prefix("syncsphere-epoch: "));
            let named: Option<Epoch> = named.map(|text| text.parse().unwrap());
            self.requests.push((line.to_owned(), named));
            let upload_id = Uuid::nil();
            let current = self.epoch;
            let (status, body) = match line {
                _ if named.is_some_and(|named| named != current) => (
                    "410 Gone",
                    json!({ "status": 410, "code": "feed-reset", "detail": "It is so.", "requestId": "r" }),
                ),
                "get /spaces" => ("200 OK", json!({ "spaces": [], "epoch": current })),
                "get /changes" => (
                    "200 OK",
                    json!({ "changes": [], "latestSequence": 0, "hasMore": false, "epoch": current }),
                ),
                "post /uploads" => (
                    "201 Created",
                    json!({
                        "uploadId": upload_id, "spaceId": upload_id, "path": "/a",
                        "expiresAt": "2030-01-01T00:00:00Z", "put": { "url": format!("{url}/object"), "headers": {} },
                    }),
                ),
                _ => (
                    "404 Not Found",
                    json!({ "status": 404, "code": "not-found", "detail": "It is so.", "requestId": "r" }),
                ),
            };
            (status, body.to_string())
        }
    }

    #[tokio::test]
    async fn requests_name_the_epoch_of_the_newest_list_and_lists_of_spaces_name_none() {
        let (client, service) = service().await;
        let clone = client.clone();
        client.list_changes(None, Cursor::START).await.unwrap();
        client.list_changes(None, Cursor::START).await.unwrap();
        service.lock().unwrap().epoch = epoch(2);
        let error = client.list_changes(None, Cursor::START).await.unwrap_err();
        assert!(matches!(error, Error::FeedReset(_)), "{error:?}");
        // The refusal does not change the epoch: what the caller has listed is of the former one.
        assert_eq!(client.epoch(), Some(epoch(1)));
        client.all_spaces().await.unwrap();
        clone.create_ticket().await.unwrap_err();
        let named: Vec<(String, Option<Epoch>)> = service.lock().unwrap().requests.clone();
        let expected = [
            ("get /changes", None),
            ("get /changes", Some(epoch(1))),
            ("get /changes", Some(epoch(1))),
            ("get /spaces", None),
            ("post /tickets", Some(epoch(2))),
        ];
        assert_eq!(named, expected.map(|(line, epoch)| (line.to_owned(), epoch)));
    }

    /// Its key belongs to the former history.
    #[tokio::test]
    async fn an_upload_across_a_reset_fails_and_is_not_repeated() {
        let content = b"content".as_slice();
        for resets_at in ["post /uploads", "put /object"] {
            let (client, service) = service().await;
            client.all_spaces().await.unwrap();
            let description = client
                .describe(None, "/a".parse().unwrap(), content, &())
                .await
                .unwrap();
            service.lock().unwrap().resets_at = Some(resets_at);
            let key = "a-key-of-a-test".parse().unwrap();
            let uploaded = client.upload_with_key(&description, &key, content, &()).await;
            assert!(matches!(uploaded, Err(Error::FeedReset(_))), "{uploaded:?}");
            let service = service.lock().unwrap();
            let opened = service
                .requests
                .iter()
                .filter(|(line, _)| line == "post /uploads");
            assert_eq!(opened.count(), 1, "{:?}", service.requests);
        }
    }

    /// Otherwise an upload could be completed although its path was looked up in the former epoch.
    #[tokio::test]
    async fn an_upload_keeps_its_epoch_when_another_clone_lists_spaces() {
        let (client, service) = service().await;
        client.all_spaces().await.unwrap();
        let upload = client.with_fixed_epoch();
        service.lock().unwrap().epoch = epoch(2);
        client.all_spaces().await.unwrap();
        assert_eq!((client.epoch(), upload.epoch()), (Some(epoch(2)), Some(epoch(1))));
        let error = upload.complete_upload(Uuid::nil().into()).await.unwrap_err();
        assert!(matches!(error, Error::FeedReset(_)), "{error:?}");
    }
}
