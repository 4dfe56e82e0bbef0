//! CloudFormation's custom resources: the request, and the answer that CloudFormation waits for at a URL that comes with it (AWS CloudFormation
//! User Guide, "Custom resource request objects" and "Custom resource response objects").

use std::time::Duration;

use aws_lambda_events::cloudformation::CloudFormationCustomResourceRequest;
use bytes::Bytes;
use http::Uri;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery};
use http_body_util::Full;
use serde_json::{Value, json};
use thiserror::Error as ThisError;
use tokio::time::timeout;

use crate::client::{HttpClient, Origin};

/// The longest reason in characters: CloudFormation takes a response of 4,096 bytes.
const MAX_REASON_CHARACTERS: usize = 900;

/// How long sending the answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// CloudFormation did not get its answer. Lambda runs the request again.
#[derive(Debug, ThisError)]
pub enum Error {
    /// This release does not know the request.
    #[error("unknown request type")]
    UnknownRequest,
    /// The answer could not be sent. The URL is a secret and is not shown.
    #[error("CloudFormation could not be answered")]
    Unanswered(#[source] BoxError),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A change of the resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is made.
    Create,
    /// It is changed; with its former properties.
    Update(Value),
    /// It is deleted.
    Delete,
}

/// A request of CloudFormation.
#[derive(Clone, Debug)]
pub struct Request {
    /// The change.
    pub change: Change,
    /// The resource's properties. CloudFormation sends numbers and booleans as text.
    pub properties: Value,
    /// The stack's ARN.
    pub stack_id: String,
    id: String,
    logical_id: String,
    response_url: String,
}

impl TryFrom<CloudFormationCustomResourceRequest> for Request {
    type Error = Error;

    fn try_from(request: CloudFormationCustomResourceRequest) -> Result<Self, Error> {
        use CloudFormationCustomResourceRequest::{Create, Delete, Update};
        Ok(match request {
            Create(r) => Self {
                change: Change::Create,
                properties: r.resource_properties,
                stack_id: r.stack_id,
                id: r.request_id,
                logical_id: r.logical_resource_id,
                response_url: r.response_url,
            },
            Update(r) => Self {
                change: Change::Update(r.old_resource_properties),
                properties: r.resource_properties,
                stack_id: r.stack_id,
                id: r.request_id,
                logical_id: r.logical_resource_id,
                response_url: r.response_url,
            },
            Delete(r) => Self {
                change: Change::Delete,
                properties: r.resource_properties,
                stack_id: r.stack_id,
                id: r.request_id,
                logical_id: r.logical_resource_id,
                response_url: r.response_url,
            },
            _ => return Err(Error::UnknownRequest),
        })
    }
}

impl Request {
    /// Tells CloudFormation how it went: attributes of the resource, or the reason of a failure.
    ///
    /// A resource of the same kind always gets the same physical id: were it to change, CloudFormation would delete the former.
    pub async fn answer(
        &self,
        http: &HttpClient,
        physical_id: &str,
        outcome: Result<Value, String>,
    ) -> Result<(), Error> {
        let mut answer = json!({
            "Status": "SUCCESS",
            "PhysicalResourceId": physical_id,
            "StackId": self.stack_id,
            "RequestId": self.id,
            "LogicalResourceId": self.logical_id,
        });
        match outcome {
            Ok(attributes) => answer["Data"] = attributes,
            Err(reason) => {
                let reason: String = reason.chars().take(MAX_REASON_CHARACTERS).collect();
                answer["Status"] = "FAILED".into();
                answer["Reason"] = reason.into();
            }
        }
        self.send(http, &answer).await.map_err(Error::Unanswered)
    }

    /// The URL is signed for a request without a content type.
    async fn send(&self, http: &HttpClient, answer: &Value) -> Result<(), BoxError> {
        let url: Uri = self.response_url.parse()?;
        let (server, host) = (Origin::of(&url)?, url.authority().map_or("", Authority::as_str));
        let path = url.path_and_query().map_or("/", PathAndQuery::as_str);
        let body = Bytes::from(answer.to_string());
        let sending = http.send(&server, || {
            let request = http::Request::put(path).header(HOST, host);
            Ok(request.body(Full::new(body.clone()))?)
        });
        let reply = timeout(ANSWER_TIMEOUT, sending).await??;
        if !reply.status().is_success() {
            return Err(format!("answered {}", reply.status()).into());
        }
        Ok(())
    }
}
