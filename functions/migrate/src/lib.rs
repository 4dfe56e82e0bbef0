//! CloudFormation custom resource: migrates the schema on every deployment, before the functions that need it
//! are updated.
//!
//! CloudFormation waits for an answer, which the function sends to a URL in the request. Every path except a
//! crash therefore sends an answer.

use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::cloudformation::CloudFormationCustomResourceRequest;
use db::{Connector, DatabaseUrl, Migrated};
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

/// The physical id of the resource. It never changes, because CloudFormation deletes a resource whose id
/// changed.
const PHYSICAL_RESOURCE_ID: &str = "syncsphere-schema";

/// How long the secret and the database are retried. Both may have been created a moment ago, and a first
/// deployment that fails leaves many resources behind. The function's timeout is 300 s.
pub const RETRY_BUDGET: Duration = Duration::from_mins(1);

/// The wait between two attempts.
const PAUSE: Duration = Duration::from_secs(2);

/// The function's configuration. Each field names its environment variable.
pub struct Config {
    /// `DATABASE_URL`: the PostgreSQL database to migrate. Its user is the role that functions sign in as.
    pub database_url: DatabaseUrl,
    /// `OWNER_SECRET_ARN`: the secret with the name and the password of the schema's owner. `None` if
    /// functions sign in as the owner.
    pub owner_secret_arn: Option<String>,
    /// `DATABASE_RESOURCE_ID`: the RDS resource id of the database, by which a restored one is noticed. `None`
    /// if it is unknown.
    pub database_id: Option<String>,
    /// `EVENT_BUS_NAME`: the EventBridge bus that changes go to; `None` if the stack has none.
    pub event_bus: Option<String>,
}

impl Config {
    /// Reads the environment variables. The error names a variable that is missing or invalid.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            database_url: vars.required("DATABASE_URL")?,
            owner_secret_arn: vars.optional("OWNER_SECRET_ARN")?,
            database_id: vars.optional("DATABASE_RESOURCE_ID")?,
            event_bus: vars.optional("EVENT_BUS_NAME")?,
        })
    }
}

/// The state that all requests of one execution environment share.
pub struct App {
    /// The database to migrate, with the role that functions sign in as.
    pub database_url: DatabaseUrl,
    /// IAM tokens for signing in. They are used if there is no owner secret, or if the owner's password is
    /// refused.
    pub tokens: Arc<Tokens>,
    /// The secret with the owner's password; `None` if functions sign in as the owner.
    pub owner: Option<Owner>,
    /// The RDS resource id of the database; `None` if it is unknown.
    pub database_id: Option<String>,
    /// Whether changes also go to an event bus.
    pub has_bus: bool,
    /// How long an unreachable secret or database is retried.
    pub retry_budget: Duration,
    /// Client that sends the answer to CloudFormation.
    pub http: HttpClient,
}

/// The secret in which RDS keeps the owner's name and password.
pub struct Owner {
    /// Client of Secrets Manager.
    pub secrets: aws_sdk_secretsmanager::Client,
    /// The ARN of the secret.
    pub secret_arn: String,
}

/// The content of the secret (AWS Secrets Manager User Guide, "JSON structure of AWS Secrets Manager
/// secrets").
#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: String,
}

/// The reason why the schema could not be migrated.
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
            // During a rotation the secret and the database get the new password at different times.
            Self::Secret(_) | Self::RefusedOwner { .. } => true,
            Self::Migration(error) => error.is_unreachable(),
            Self::NoCredentials | Self::OwnSecret => false,
        }
    }
}

/// Handles one request of CloudFormation and sends the answer.
pub async fn handle(app: &App, request: CloudFormationCustomResourceRequest) -> Result<(), Error> {
    let request = Request::try_from(request)?;
    let outcome = match request.change {
        Change::Create | Change::Update(_) => bring_up(app).await,
        // Deleting the resource does not change the database.
        Change::Delete => Ok(json!({})),
    };
    request.answer(&app.http, PHYSICAL_RESOURCE_ID, outcome).await
}

/// Migrates the schema. Returns the attributes of the resource, or the reason of the failure.
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

/// Migrates, and retries until `retry_budget` is used up while the failure is transient.
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

/// Migrates the schema as its owner. Reads the owner's password in each attempt, because RDS changes it every
/// seven days.
async fn migrate(app: &App) -> Result<Migrated, Failure> {
    let url = &app.database_url;
    let migrate = async |owner: &Connector, role| {
        let migrated = db::migrate(owner, role, app.database_id.as_deref()).await?;
        // On the schema of a later release too: the parameter holds for whichever release serves.
        db::set_bus(owner, app.has_bus).await?;
        Ok::<Migrated, db::MigrationError>(migrated)
    };
    let Some(owner) = &app.owner else {
        let signing_in = url.clone().with_passwords(app.tokens.clone().passwords());
        return Ok(migrate(&signing_in, None).await?);
    };
    let reading = owner.secrets.get_secret_value().secret_id(&owner.secret_arn);
    let secret = reading
        .send()
        .await
        .map_err(|error| Failure::Secret(error.into()))?;
    let secret = secret.secret_string().unwrap_or_default();
    // The error is dropped, because serde's message may contain parts of the secret.
    let owner: Credentials = serde_json::from_str(secret).map_err(|_| Failure::NoCredentials)?;
    // Provisioning this user as the role for functions would revoke its rights and disable its password.
    if owner.username == url.role().name {
        return Err(Failure::OwnSecret);
    }
    let by_password = url.for_user(&owner.username, &owner.password).into();
    let refused = match migrate(&by_password, Some(url.role())).await {
        Err(error) if error.is_refused_sign_in() => error,
        outcome => return Ok(outcome?),
    };
    let Some(by_iam) = url.for_user_by_iam(&owner.username) else {
        return Err(refused.into());
    };
    // RDS requires a token instead of the password from members of `rds_iam`, including indirect members.
    // Since PostgreSQL 16 the owner is a member of each role that it creates (Amazon RDS User Guide,
    // "Database authentication with Amazon RDS"; PostgreSQL documentation, "CREATE ROLE").
    warn!(
        error = error_chain(&refused),
        "the owner's password is refused: trying a token"
    );
    let by_iam = by_iam.with_passwords(app.tokens.clone().passwords());
    match migrate(&by_iam, Some(url.role())).await {
        Err(error) if error.is_refused_sign_in() => Err(Failure::RefusedOwner {
            owner: owner.username,
            by_password: error_chain(&refused),
            by_iam: error,
        }),
        outcome => Ok(outcome?),
    }
}
