//! CloudFormation custom resources: the request, and the response to the URL in the request (AWS
//! CloudFormation User Guide, "Custom resource request objects" and "Custom resource response objects").

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

/// The maximum length of a reason in characters: CloudFormation's limit for a response is 4,096 bytes.
const MAX_REASON_CHARACTERS: usize = 900;

/// The timeout for sending the response.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// CloudFormation did not get a response. Lambda retries the invocation.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The request type is not create, update or delete.
    #[error("unknown request type")]
    UnknownRequest,
    /// The response could not be sent. The URL is a secret and is not shown.
    #[error("CloudFormation could not be answered")]
    Unanswered(#[source] BoxError),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The requested change of the resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The resource is created.
    Create,
    /// The resource is updated. Holds its previous properties.
    Update(Value),
    /// The resource is deleted.
    Delete,
}

/// A request from CloudFormation.
#[derive(Clone, Debug)]
pub struct Request {
    /// The requested change of the resource.
    pub change: Change,
    /// The resource's properties. CloudFormation sends numbers and booleans as text.
    pub properties: Value,
    /// The ARN of the resource's stack.
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
    /// Sends the outcome to CloudFormation: attributes of the resource, or the reason of a failure. A reason
    /// is cut to 900 characters.
    ///
    /// `physical_id` must be the same for all requests of a resource. If it changes, CloudFormation deletes
    /// the resource with the old id.
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

    /// Sends no `Content-Type`, because the URL is signed without one.
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
