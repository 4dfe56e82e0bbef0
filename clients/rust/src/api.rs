//! Requests to the HTTP API: authorization, retries, paging and error answers.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{ChangeList, CreateTicketRequest, CreatedTicket, Cursor, DeviceId, FileId, SpaceId, Version};
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::error::{ErrorResponse, Server, check_url};
use crate::retry::{RETRY_BUDGET, Retries, TRANSFER_RETRY_BUDGET};
use crate::window::Window;
use crate::{Error, Session, install_crypto_provider};

/// Timeout of an API call. API Gateway itself gives up after 30 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(35);

/// Timeout for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Entries per page of a list: the maximum of the API.
const PAGE_SIZE: u32 = 1_000;

/// One device of one user. Clones share its connections and its session.
///
/// Requests that fail with a retryable error are retried for 15 s, and for 5 min during an upload or a
/// download. Retries are safe, because the service makes each change only once.
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
    /// Versions whose downloaded content did not match the declared digests. They are not downloaded again.
    pub(crate) mismatched: Arc<Mutex<HashSet<(FileId, Version)>>>,
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
            mismatched: Arc::default(),
        })
    }

    /// Returns the client with another limit for retries, counted from a request's first failure. Zero turns
    /// retries off.
    #[must_use]
    pub fn with_retry_budget(self, retry_budget: Duration) -> Self {
        Self { retry_budget, ..self }
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

    /// The session that authorizes the requests of this client.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The device that changes name as their origin, if one was given.
    pub fn device_id(&self) -> Option<DeviceId> {
        self.device_id
    }

    /// `GET /changes`: at most 1,000 changes of a space after a cursor. `None` stands for the caller's
    /// personal space.
    pub async fn list_changes(&self, space_id: Option<SpaceId>, after: Cursor) -> Result<ChangeList, Error> {
        let space = space_id.map_or(String::new(), |space_id| format!("&spaceId={space_id}"));
        let path = format!("/changes?after={after}&limit={PAGE_SIZE}{space}");
        self.call(self.request(Method::GET, &path)).await
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
        self.http.request(method, url).timeout(CALL_TIMEOUT)
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
    async fn authorized(&self, request: RequestBuilder) -> Result<Response, Error> {
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

async fn parsed<T: DeserializeOwned>(response: Response) -> Result<T, Error> {
    Ok(serde_json::from_slice(&response.bytes().await?)?)
}

/// Returns an answer of status 2xx. Any other status becomes an error with the code and message of the body.
pub(crate) async fn checked(server: Server, response: Response) -> Result<Response, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.text().await.unwrap_or_default();
    match serde_json::from_str(&body) {
        Ok(problem) if server == Server::Api => Err(Error::Refused(Box::new(problem))),
        _ => Err(ErrorResponse::new(server, status.as_u16(), &body).into()),
    }
}
