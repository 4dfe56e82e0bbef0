//! The HTTP API.

use std::fmt;
use std::time::Duration;

use model::{
    ContentType, CreateTicketRequest, CreateUploadRequest, CreatedTicket, CreatedUpload, DeviceId, Empty,
    FileChanged, PresignedPut, SpacePath, UploadId,
};
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, sha256, use_ring};

/// How long an API call may take: API Gateway itself gives up after 30 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(35);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of an unexpected body an error shows.
const SHOWN_CHARACTERS: usize = 300;

/// A bearer token. Not shown by `Debug`.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// The token itself, which is a secret.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Token {
    fn from(token: String) -> Self {
        Self(token)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// One device of one user.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    api_url: String,
    token: Token,
    device_id: Option<DeviceId>,
}

impl Client {
    /// `api_url` is the stack's output `HttpApiUrl`.
    pub fn new(api_url: &str, token: Token, device_id: Option<DeviceId>) -> Result<Self, Error> {
        use_ring();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .build()?;
        Ok(Self {
            http,
            api_url: api_url.trim_end_matches('/').to_owned(),
            token,
            device_id,
        })
    }

    /// Uploads content to a path: opens, puts, completes.
    pub async fn upload(&self, path: SpacePath, content: Vec<u8>) -> Result<FileChanged, Error> {
        let created = self.create_upload(path, &content, None).await?;
        self.put(&created.put, content).await?;
        self.complete_upload(created.upload_id).await
    }

    /// `POST /uploads`, for this content.
    pub async fn create_upload(
        &self,
        path: SpacePath,
        content: &[u8],
        content_type: Option<ContentType>,
    ) -> Result<CreatedUpload, Error> {
        // No slice is longer than a ByteCount can be.
        let size = i64::try_from(content.len())
            .ok()
            .and_then(|size| size.try_into().ok());
        let size = size.ok_or_else(|| Error::Unexpected {
            status: 413,
            body: "the content is too large".to_owned(),
        })?;
        let body = CreateUploadRequest {
            path,
            size,
            sha256: sha256(content),
            content_type,
            base_version: None,
            device_id: self.device_id,
        };
        self.call(Method::POST, "/uploads", &body).await
    }

    /// Sends the content to storage.
    pub async fn put(&self, put: &PresignedPut, content: Vec<u8>) -> Result<(), Error> {
        let request = self.http.put(&put.url).body(content);
        let request = put
            .headers
            .iter()
            .fold(request, |request, (name, value)| request.header(name, value));
        // The URL is a secret.
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        checked(response).await?;
        Ok(())
    }

    /// `POST /uploads/{uploadId}/complete`. Calling it again gives the same answer.
    pub async fn complete_upload(&self, upload_id: UploadId) -> Result<FileChanged, Error> {
        self.call(Method::POST, &format!("/uploads/{upload_id}/complete"), &Empty {})
            .await
    }

    /// `POST /tickets`.
    pub async fn create_ticket(&self) -> Result<CreatedTicket, Error> {
        self.call(
            Method::POST,
            "/tickets",
            &CreateTicketRequest {
                device_id: self.device_id,
            },
        )
        .await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let request = self.request(method, path).json(body);
        let response = checked(request.send().await?).await?;
        Ok(serde_json::from_slice(&response.bytes().await?)?)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.api_url);
        self.http
            .request(method, url)
            .bearer_auth(&self.token.0)
            .timeout(CALL_TIMEOUT)
    }
}

/// An answer of status 2xx; any other is an error with what it says.
pub(crate) async fn checked(response: Response) -> Result<Response, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.text().await.unwrap_or_default();
    Err(match serde_json::from_str(&body) {
        Ok(problem) => Error::Refused(problem),
        Err(_) => Error::Unexpected {
            status: status.as_u16(),
            body: body.chars().take(SHOWN_CHARACTERS).collect(),
        },
    })
}
