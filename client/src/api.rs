//! The HTTP API.

use std::time::Duration;

use model::{
    ChangeList, CreateTicketRequest, CreateUploadRequest, CreatedTicket, CreatedUpload, Cursor, DeviceId,
    Empty, FileChanged, FileId, IdempotencyKey, PartRequest, PresignPartsRequest, PresignedParts,
    PresignedPut, SpaceId, SpaceList, SpaceView, UploadId, UploadView, Version,
};
use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

use crate::{Error, Session, use_ring};

/// How long an API call may take: API Gateway itself gives up after 30 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(35);

/// How long storage may say nothing.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of an unexpected body an error shows.
const SHOWN_CHARACTERS: usize = 300;

/// One device of one user.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    api_url: String,
    session: Session,
    device_id: Option<DeviceId>,
}

impl Client {
    /// `api_url` is the stack's output `HttpApiUrl`; a token alone makes a session too.
    pub fn new(
        api_url: &str,
        session: impl Into<Session>,
        device_id: Option<DeviceId>,
    ) -> Result<Self, Error> {
        use_ring();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(Policy::none())
            .build()?;
        Ok(Self {
            http,
            api_url: api_url.trim_end_matches('/').to_owned(),
            session: session.into(),
            device_id,
        })
    }

    /// `POST /uploads`. Repeating it with the same key gives the same upload.
    pub async fn create_upload(
        &self,
        body: &CreateUploadRequest,
        key: Option<&IdempotencyKey>,
    ) -> Result<CreatedUpload, Error> {
        let mut request = self.request(Method::POST, "/uploads").json(body);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key.as_str());
        }
        self.call(request).await
    }

    /// `POST /uploads/{uploadId}/parts`, at most 100 at once.
    pub async fn presign_parts(
        &self,
        upload_id: UploadId,
        parts: Vec<PartRequest>,
    ) -> Result<PresignedParts, Error> {
        let request = self.request(Method::POST, &format!("/uploads/{upload_id}/parts"));
        self.call(request.json(&PresignPartsRequest { parts })).await
    }

    /// `GET /uploads/{uploadId}`: how far it got.
    pub async fn show_upload(&self, upload_id: UploadId) -> Result<UploadView, Error> {
        self.call(self.request(Method::GET, &format!("/uploads/{upload_id}")))
            .await
    }

    /// Sends content to storage. That it is there already, from a request whose answer was lost, is fine.
    pub async fn put(&self, put: &PresignedPut, content: Vec<u8>) -> Result<(), Error> {
        let request = self.http.put(&put.url).body(content);
        let request = put
            .headers
            .iter()
            .fold(request, |request, (name, value)| request.header(name, value));
        // The URL is a secret.
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        if response.status() != StatusCode::PRECONDITION_FAILED {
            checked(response).await?;
        }
        Ok(())
    }

    /// `POST /uploads/{uploadId}/complete`. Calling it again gives the same answer.
    pub async fn complete_upload(&self, upload_id: UploadId) -> Result<FileChanged, Error> {
        let request = self.request(Method::POST, &format!("/uploads/{upload_id}/complete"));
        self.call(request.json(&Empty {})).await
    }

    /// `DELETE /uploads/{uploadId}`.
    pub async fn abort_upload(&self, upload_id: UploadId) -> Result<(), Error> {
        let request = self.request(Method::DELETE, &format!("/uploads/{upload_id}"));
        checked(self.answer(request).await?).await?;
        Ok(())
    }

    /// `GET /files/{fileId}/content`, followed to storage: the content of a version, or of the current one, as it comes. Who
    /// keeps it compares its SHA-256 with the version's.
    pub async fn download(&self, file_id: FileId, version: Option<Version>) -> Result<Response, Error> {
        let version = version.map_or(String::new(), |version| format!("?version={version}"));
        let request = self.request(Method::GET, &format!("/files/{file_id}/content{version}"));
        let redirect = self.answer(request).await?;
        let location = redirect.headers().get(LOCATION);
        let location = location.and_then(|url| url.to_str().ok().map(str::to_owned));
        let Some(location) = location else {
            return Err(refusal(redirect).await);
        };
        // Without the token: it is not for storage.
        let download = self.http.get(location).send().await;
        checked(download.map_err(reqwest::Error::without_url)?).await
    }

    /// `GET /changes`: the changes of a space, or of the caller's personal one, after a cursor.
    pub async fn list_changes(&self, space_id: Option<SpaceId>, after: Cursor) -> Result<ChangeList, Error> {
        let space = space_id.map_or(String::new(), |space_id| format!("&spaceId={space_id}"));
        self.call(self.request(Method::GET, &format!("/changes?after={after}&limit=1000{space}")))
            .await
    }

    /// `GET /spaces`, page after page: all spaces of the caller, oldest first.
    pub async fn all_spaces(&self) -> Result<Vec<SpaceView>, Error> {
        let mut spaces = Vec::new();
        let mut page = String::new();
        loop {
            let path = format!("/spaces?limit=1000{page}");
            let list: SpaceList = self.call(self.request(Method::GET, &path)).await?;
            spaces.extend(list.spaces);
            let Some(token) = list.next_page_token else {
                return Ok(spaces);
            };
            page = format!("&pageToken={token}");
        }
    }

    /// `POST /tickets`.
    pub async fn create_ticket(&self) -> Result<CreatedTicket, Error> {
        let body = CreateTicketRequest {
            device_id: self.device_id,
        };
        self.call(self.request(Method::POST, "/tickets").json(&body))
            .await
    }

    /// The device.
    pub(crate) fn device_id(&self) -> Option<DeviceId> {
        self.device_id
    }

    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let response = checked(self.answer(request).await?).await?;
        Ok(serde_json::from_slice(&response.bytes().await?)?)
    }

    /// Sends a request with the session's token, and once more if there is a newer one than was refused.
    async fn answer(&self, request: RequestBuilder) -> Result<Response, Error> {
        let again = request.try_clone();
        let token = self.session.token().await?;
        let response = request.bearer_auth(token.as_str()).send().await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let next = self.session.after(&token).await?;
        match again.zip(next) {
            Some((again, next)) => Ok(again.bearer_auth(next.as_str()).send().await?),
            None => Ok(response),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.api_url);
        self.http.request(method, url).timeout(CALL_TIMEOUT)
    }
}

/// An answer of status 2xx; any other is an error with what it says.
pub(crate) async fn checked(response: Response) -> Result<Response, Error> {
    if response.status().is_success() {
        Ok(response)
    } else {
        Err(refusal(response).await)
    }
}

async fn refusal(response: Response) -> Error {
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    match serde_json::from_str(&body) {
        Ok(problem) => Error::Refused(problem),
        Err(_) => Error::Unexpected {
            status: status.as_u16(),
            body: body.chars().take(SHOWN_CHARACTERS).collect(),
        },
    }
}
