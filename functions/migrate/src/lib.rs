//! CloudFormation custom resource: brings the schema up on every deploy, before the functions that need it.
//!
//! CloudFormation waits for an answer at a URL that comes with the request, so every path that is not a crash ends with one.

use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::cloudformation::CloudFormationCustomResourceRequest;
use db::{DatabaseUrl, Migrated};
use platform::client::HttpClient;
use platform::config::{ConfigError, Vars};
use platform::custom_resource::{Change, Error, Request};
use platform::error_chain;
use platform::rds::Tokens;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error as ThisError;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

/// The resource is always the same one: were its id to change, CloudFormation would delete the former.
const PHYSICAL_RESOURCE_ID: &str = "syncsphere-schema";

/// How long the secret and the database are asked for, again and again: both may have been made a moment ago, and a first deployment that fails
/// leaves much behind. The function's timeout is 300 s.
pub const RETRY_BUDGET: Duration = Duration::from_mins(1);

/// How long in between.
const PAUSE: Duration = Duration::from_secs(2);

/// What this function reads from its environment.
pub struct Config {
    /// `DATABASE_URL`: where the schema is, as the role that functions sign in as.
    pub database_url: DatabaseUrl,
    /// `OWNER_SECRET_ARN`: where the name and the password of the schema's owner are. Nothing if that is who functions sign in as.
    pub owner_secret_arn: Option<String>,
}

impl Config {
    /// Reads the variables.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            owner_secret_arn: vars.optional("OWNER_SECRET_ARN")?,
        })
    }
}

/// All that requests share.
pub struct App {
    /// Where the schema is.
    pub database_url: DatabaseUrl,
    /// To sign in with where there is no owner, or where its password is refused.
    pub tokens: Arc<Tokens>,
    /// Where its owner's password is.
    pub owner: Option<Owner>,
    /// How long what cannot be reached is tried again.
    pub retry_budget: Duration,
    /// For the answer.
    pub http: HttpClient,
}

/// A secret as RDS keeps it.
pub struct Owner {
    /// The client.
    pub secrets: aws_sdk_secretsmanager::Client,
    /// Its ARN.
    pub secret_arn: String,
}

/// What RDS keeps in it (AWS Secrets Manager User Guide, "JSON structure of AWS Secrets Manager secrets").
#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: String,
}

/// Why the schema could not be brought up.
#[derive(Debug, ThisError)]
enum Failure {
    #[error("the secret with the owner's password could not be read")]
    Secret(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the secret has no fields username and password")]
    NoCredentials,
    #[error(
        "the secret is of the user in the database's URL; functions sign in as another role, which needs no secret"
    )]
    OwnSecret,
    #[error(
        "{owner} could sign in neither by the secret's password ({by_password}) nor by IAM; see whether the password in the secret is \
         that of the database, and whether {owner} is a member of rds_iam"
    )]
    RefusedOwner {
        owner: String,
        by_password: String,
        #[source]
        by_iam: db::MigrationError,
    },
    #[error(transparent)]
    Migration(#[from] db::MigrationError),
}

impl Failure {
    fn is_transient(&self) -> bool {
        match self {
            // A password that was just changed reaches secret and database one after the other.
            Self::Secret(_) | Self::RefusedOwner { .. } => true,
            Self::Migration(error) => error.is_unreachable(),
            Self::NoCredentials | Self::OwnSecret => false,
        }
    }
}

/// Handles one request and answers it.
pub async fn handle(app: &App, request: CloudFormationCustomResourceRequest) -> Result<(), Error> {
    let request = Request::try_from(request)?;
    let outcome = match request.change {
        Change::Create | Change::Update(_) => bring_up(app).await,
        // Deleting the stack leaves the data alone.
        Change::Delete => Ok(json!({})),
    };
    request.answer(&app.http, PHYSICAL_RESOURCE_ID, outcome).await
}

/// The resource's attributes, or why there are none.
async fn bring_up(app: &App) -> Result<Value, String> {
    match with_retries(app).await {
        Ok(Migrated { applied, version }) => {
            info!(
                applied,
                version, "the schema is at version {version}: {applied} migrations applied"
            );
            Ok(json!({ "SchemaVersion": version.to_string() }))
        }
        Err(failure) => {
            let reason = error_chain(&failure);
            error!(error = reason, "the schema could not be brought up");
            Err(reason)
        }
    }
}

/// Migrates, and tries again for as long as the secret or the database cannot be reached.
async fn with_retries(app: &App) -> Result<Migrated, Failure> {
    let deadline = Instant::now() + app.retry_budget;
    loop {
        match migrate(app).await {
            Err(failure) if failure.is_transient() && Instant::now() + PAUSE < deadline => {
                warn!(error = error_chain(&failure), "not yet: trying again");
                sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Brings the schema up as its owner, whose password is read each time: RDS changes it every seven days.
async fn migrate(app: &App) -> Result<Migrated, Failure> {
    let url = &app.database_url;
    let Some(owner) = &app.owner else {
        let signing_in = url.clone().with_passwords(app.tokens.clone().passwords());
        return Ok(db::migrate(&signing_in, None).await?);
    };
    let reading = owner.secrets.get_secret_value().secret_id(&owner.secret_arn);
    let secret = reading
        .send()
        .await
        .map_err(|error| Failure::Secret(error.into()))?;
    let secret = secret.secret_string().unwrap_or_default();
    // What serde says of it could repeat it.
    let owner: Credentials = serde_json::from_str(secret).map_err(|_| Failure::NoCredentials)?;
    // As a role for functions it would lose its password and its rights.
    if owner.username == url.role().name {
        return Err(Failure::OwnSecret);
    }
    let by_password = url.for_user(&owner.username, &owner.password).into();
    let refused = match db::migrate(&by_password, Some(url.role())).await {
        Err(error) if error.is_refused_sign_in() => error,
        outcome => return Ok(outcome?),
    };
    let Some(by_iam) = url.for_user_by_iam(&owner.username) else {
        return Err(refused.into());
    };
    // RDS asks members of rds_iam for a token instead of their password, and indirect members too. Since PostgreSQL 16 the owner is a member
    // of each role that it made (Amazon RDS User Guide, "Database authentication with Amazon RDS"; PostgreSQL documentation, "CREATE ROLE").
    warn!(
        error = error_chain(&refused),
        "the owner's password is refused: trying a token"
    );
    let by_iam = by_iam.with_passwords(app.tokens.clone().passwords());
    match db::migrate(&by_iam, Some(url.role())).await {
        Err(error) if error.is_refused_sign_in() => Err(Failure::RefusedOwner {
            owner: owner.username,
            by_password: error_chain(&refused),
            by_iam: error,
        }),
        outcome => Ok(outcome?),
    }
}
