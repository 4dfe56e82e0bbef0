//! A workaround for CORS of the HTTP API. The emulator stores the template's settings under CloudFormation's
//! names but reads them under API Gateway's names.

use anyhow::{Context as _, Result};
use reqwest::Method;
use runner::services::Ports;
use serde_json::{Map, Value, json};

use crate::deployment::{Outputs, decapitalized};
use crate::emulator;

/// Stores the template's CORS settings under API Gateway's names too.
pub(crate) async fn repair(ports: Ports, outputs: &Outputs) -> Result<()> {
    let id = outputs
        .http_api_url
        .split('/')
        .rev()
        .nth(1)
        .context("the HTTP API has no id")?;
    let path = format!("/v2/apis/{id}");
    let endpoint = ports.aws_endpoint();
    let reading = emulator::request(&endpoint, Method::GET, "apigateway", &path)?;
    let api = emulator::send(reading)
        .await?
        .success("cannot read the HTTP API")?;
    if let Some(settings) = api["corsConfiguration"].as_object() {
        let cors: Map<String, Value> = settings
            .iter()
            .map(|(name, value)| (decapitalized(name), value.clone()))
            .collect();
        let writing = emulator::request(&endpoint, Method::PATCH, "apigateway", &path)?;
        let writing = writing.json(&json!({ "corsConfiguration": cors }));
        emulator::send(writing)
            .await?
            .success("cannot change the HTTP API")?;
    }
    Ok(())
}
