//! Calls of the HTTP API, and what all of them share.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{ChangeList, CreateTicketRequest, CreatedTicket, Cursor, DeviceId, FileId, SpaceId, Version};
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::error::{Answer, Party, secure};
use crate::retry::{PATIENCE, Retries, TRANSFER_PATIENCE};
use crate::window::Window;
use crate::{Error, Session, install_crypto_provider};

/// How long an API call may take: API Gateway itself gives up after 30 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(35);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How many entries a page of a list has: as many as the API gives.
const PAGE: u32 = 1_000;

/// One device of one user. Clones share its connections and its session.
///
/// Requests that fail for a reason that passes are made again for 15 s, and for 5 min once an upload or a download is under way: the
/// service makes each change once, however often it is asked.
#[derive(Clone, Debug)]
pub struct Client {
    /// For the API and for storage. It has no time limit of its own, since content may take as long as its line is slow.
    pub(crate) http: reqwest::Client,
    api_url: String,
    session: Session,
    device_id: Option<DeviceId>,
    patience: Duration,
    pub(crate) window: Arc<Window>,
    /// Versions whose content was fetched and was not what was declared.
    pub(crate) mismatched: Arc<Mutex<HashSet<(FileId, Version)>>>,
}

impl Client {
    /// `api_url` is the stack's output `HttpApiUrl`, with `https`, or `http` on this machine; a token alone
    /// makes a session too.
    pub fn new(
        api_url: &str,
        session: impl Into<Session>,
        device_id: Option<DeviceId>,
    ) -> Result<Self, Error> {
        install_crypto_provider();
        secure("the API", api_url)?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::none())
            .build()?;
        Ok(Self {
            http,
            api_url: api_url.trim_end_matches('/').to_owned(),
            session: session.into(),
            device_id,
            patience: PATIENCE,
            window: Arc::default(),
            mismatched: Arc::default(),
        })
    }

    /// The same, making a failed request again for so long; zero shows each failure.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The same for an upload or download that has begun.
    #[must_use]
    pub(crate) fn persistent(self) -> Self {
        if self.patience.is_zero() {
            return self;
        }
        let patience = self.patience.max(TRANSFER_PATIENCE);
        self.with_patience(patience)
    }

    /// Whose requests these are.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The device that is named as the origin of changes.
    pub fn device_id(&self) -> Option<DeviceId> {
        self.device_id
    }

    /// `GET /changes`: at most 1,000 changes of a space, or of the caller's personal one, after a cursor.
    pub async fn list_changes(&self, space_id: Option<SpaceId>, after: Cursor) -> Result<ChangeList, Error> {
        let space = space_id.map_or(String::new(), |space_id| format!("&spaceId={space_id}"));
        let path = format!("/changes?after={after}&limit={PAGE}{space}");
        self.call(self.request(Method::GET, &path)).await
    }

    /// `POST /tickets`. Made once: who connects after failures has a pace of its own.
    pub async fn create_ticket(&self) -> Result<CreatedTicket, Error> {
        let body = CreateTicketRequest {
            device_id: self.device_id,
        };
        let request = self.request(Method::POST, "/tickets").json(&body);
        parsed(self.authorized(request).await?).await
    }

    /// A request to the API, to be given to [`Client::call`].
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.api_url);
        self.http.request(method, url).timeout(CALL_TIMEOUT)
    }

    pub(crate) fn retries(&self) -> Retries {
        Retries::new(self.patience)
    }

    /// The answer's body.
    pub(crate) async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        parsed(self.answer(request).await?).await
    }

    /// An answer that says yes.
    pub(crate) async fn answer(&self, request: RequestBuilder) -> Result<Response, Error> {
        let mut retries = self.retries();
        loop {
            // A body of JSON can be copied; a request that could not be would be made once.
            let Some(again) = request.try_clone() else {
                return self.authorized(request).await;
            };
            match self.authorized(again).await {
                Err(error) => retries.after(error).await?,
                answer => return answer,
            }
        }
    }

    /// All entries of a list, page after page, to be given to `each`, which says how to ask for the next page.
    pub(crate) async fn pages<L: DeserializeOwned, E: From<Error>>(
        &self,
        path: &str,
        mut each: impl FnMut(L) -> Result<Option<String>, E>,
    ) -> Result<(), E> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let first = format!("{path}{separator}limit={PAGE}");
        let mut next = first.clone();
        loop {
            let list = self.call(self.request(Method::GET, &next)).await?;
            let Some(token) = each(list)? else {
                return Ok(());
            };
            next = format!("{first}&pageToken={token}");
        }
    }

    /// Sends a request with the session's token, and once more if there is a newer one than was refused.
    async fn authorized(&self, request: RequestBuilder) -> Result<Response, Error> {
        let again = request.try_clone();
        let token = self.session.current().await?;
        let mut response = request.bearer_auth(token.as_str()).send().await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(again) = again
            && let Some(next) = self.session.after(&token).await?
        {
            response = again.bearer_auth(next.as_str()).send().await?;
        }
        checked(Party::Api, response).await
    }
}

async fn parsed<T: DeserializeOwned>(response: Response) -> Result<T, Error> {
    Ok(serde_json::from_slice(&response.bytes().await?)?)
}

/// An answer of status 2xx; any other is an error with what it says.
pub(crate) async fn checked(party: Party, response: Response) -> Result<Response, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.text().await.unwrap_or_default();
    match serde_json::from_str(&body) {
        Ok(problem) if party == Party::Api => Err(Error::Refused(Box::new(problem))),
        _ => Err(Answer::new(party, status.as_u16(), &body).into()),
    }
}
