//! CORS of the HTTP API, which the emulator takes from the template under `CloudFormation`'s names, and looks for under API Gateway's.

use anyhow::{Context as _, Result};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use edge::Clock;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::environment::REGION;
use crate::services::Ports;
use crate::stack::{Outputs, decapitalized};
use crate::up::credentials;

/// What the template says of it, in API Gateway's names.
pub(crate) async fn repair(ports: Ports, outputs: &Outputs) -> Result<()> {
    let id = outputs
        .http_api_url
        .split('/')
        .rev()
        .nth(1)
        .context("the HTTP API has no id")?;
    let url = format!("{}/v2/apis/{id}", ports.aws_endpoint());
    let api = ask(Method::GET, &url, &Value::Null).await?;
    if let Some(said) = api["corsConfiguration"].as_object() {
        let cors: Map<String, Value> = said
            .iter()
            .map(|(name, value)| (decapitalized(name), value.clone()))
            .collect();
        ask(Method::PATCH, &url, &json!({ "corsConfiguration": cors })).await?;
    }
    Ok(())
}

/// A signed request to API Gateway. Its SDK would be a crate for this alone, and know only the names that it is looked for under.
async fn ask(method: Method, url: &str, body: &Value) -> Result<Value> {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let identity = credentials().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name("apigateway")
        .time(Clock::system().now().into())
        .settings(SigningSettings::default())
        .build()?
        .into();
    let signable = SignableBody::Bytes(body.as_bytes());
    let signable = SignableRequest::new(method.as_str(), url, std::iter::empty(), signable)?;
    let (instructions, _) = sign(signable, &parameters)?.into_parts();
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut request = http.request(method, url).body(body.clone());
    for (name, value) in instructions.headers() {
        request = request.header(name, value);
    }
    let answer = request.send().await.context("API Gateway does not answer")?;
    let answer = answer.error_for_status().context("API Gateway refuses")?;
    answer.json().await.context("API Gateway answers no JSON")
}
