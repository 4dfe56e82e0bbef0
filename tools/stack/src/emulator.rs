//! Administrative requests to the emulator. They are sent without an SDK: for the few services that are used
//! nowhere else in the project, an SDK would take minutes to compile.

use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;
use aws_types::sdk_config::SharedCredentialsProvider;
use platform::aws::Aws;
use platform::config::Vars;
use reqwest::{Method, RequestBuilder, StatusCode};
use runner::environment::{ACCESS_KEY, REGION};
use serde_json::Value;

/// The timeout of a request of a command to the emulator. On a busy machine a response takes longer than the
/// timeouts of functions allow.
const PATIENCE: Duration = Duration::from_secs(30);

/// The configuration of a command's AWS clients, with timeouts for a busy emulator.
pub(crate) fn patient_config(endpoint: &str) -> Result<SdkConfig> {
    let patience = TimeoutConfig::builder()
        .operation_attempt_timeout(PATIENCE)
        .operation_timeout(PATIENCE)
        .read_timeout(PATIENCE)
        .build();
    let config = aws_config(endpoint)?;
    Ok(config.into_builder().timeout_config(patience).build())
}

/// The configuration of AWS clients for the emulator, with the timeouts of functions.
pub fn aws_config(endpoint: &str) -> Result<SdkConfig> {
    // The configuration ignores the developer's environment.
    let aws = Aws::from_vars(&Vars::from_lookup(|_| None))?;
    let credentials = aws_sdk_s3::config::Credentials::new(ACCESS_KEY, ACCESS_KEY, None, None, "emulator");
    Ok(aws
        .sdk
        .into_builder()
        .endpoint_url(endpoint)
        .region(Region::new(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build())
}

/// A request to a service. The emulator takes the account and the service from the signature's credential
/// scope. It does not verify the signature of the account's owner.
pub fn request(endpoint: &str, method: Method, service: &str, path: &str) -> Result<RequestBuilder> {
    client::install_crypto_provider();
    let http = reqwest::Client::builder().no_proxy().build()?;
    let scope = format!("{ACCESS_KEY}/20260101/{REGION}/{service}/aws4_request");
    Ok(http
        .request(method, format!("{endpoint}{path}"))
        .header("Authorization", format!("AWS4-HMAC-SHA256 Credential={scope}")))
}

/// A response of the emulator.
pub(crate) struct Answer {
    status: StatusCode,
    body: Value,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// Whether the response is an error of this type (AWS JSON protocol 1.1, `__type`).
    pub(crate) fn is(&self, error: &str) -> bool {
        let kind = self.body["__type"].as_str().unwrap_or_default();
        kind.rsplit('#').next() == Some(error)
    }

    pub(crate) fn error(&self, failure: &str) -> Error {
        anyhow!("{failure}: {} {}", self.status, self.body)
    }

    /// The body of a successful response. Otherwise an error with the text `failure`.
    pub(crate) fn success(self, failure: &str) -> Result<Value> {
        if self.is_success() {
            Ok(self.body)
        } else {
            Err(self.error(failure))
        }
    }
}

/// Sends a request to a service that responds in JSON.
pub(crate) async fn send(request: RequestBuilder) -> Result<Answer> {
    let answer = request.send().await.context("the emulator does not answer")?;
    let status = answer.status();
    let body = answer.bytes().await.context("the emulator's answer was cut")?;
    Ok(Answer {
        status,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    })
}

/// Calls an action of Cognito user pools.
pub(crate) async fn cognito(endpoint: &str, action: &str, body: &Value) -> Result<Answer> {
    let request = request(endpoint, Method::POST, "cognito-idp", "/")?
        .header(
            "X-Amz-Target",
            format!("AWSCognitoIdentityProviderService.{action}"),
        )
        .header("Content-Type", "application/x-amz-json-1.1")
        .body(body.to_string());
    send(request).await
}
