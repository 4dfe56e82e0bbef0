//! The secret in which RDS would keep the password of the schema's owner.

use anyhow::{Context as _, Result};
use aws_sdk_secretsmanager::operation::create_secret::CreateSecretError;
use serde_json::json;

use crate::emulator::patient_config;
use runner::postgres::OWNER;
use runner::services::Ports;

/// The name of the secret in the emulator.
pub const OWNER_SECRET: &str = "syncsphere-owner";

/// Creates the secret unless it exists, and returns its ARN. The local PostgreSQL accepts any password from
/// its own machine.
pub(crate) async fn owner(ports: Ports) -> Result<String> {
    let secrets = aws_sdk_secretsmanager::Client::new(&patient_config(&ports.aws_endpoint())?);
    let content = json!({ "username": OWNER, "password": "any" }).to_string();
    let creating = secrets.create_secret().name(OWNER_SECRET).secret_string(content);
    let arn = match creating.send().await {
        Ok(created) => created.arn,
        Err(error)
            if error
                .as_service_error()
                .is_some_and(CreateSecretError::is_resource_exists_exception) =>
        {
            let described = secrets.describe_secret().secret_id(OWNER_SECRET).send().await;
            described.context("cannot find the owner's secret")?.arn
        }
        Err(error) => return Err(error).context("cannot make the owner's secret"),
    };
    arn.context("the owner's secret has no ARN")
}
