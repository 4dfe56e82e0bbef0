//! Runs the function on Lambda.

use std::sync::Arc;

use lambda_runtime::Error;
use migrate::{App, Config, Owner, RETRY_BUDGET, handle};
use platform::Runtime;
use platform::rds::Tokens;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let runtime = Runtime::start();
    let config = Config::from_vars(&runtime.vars)?;
    let aws = runtime.aws()?;
    let owner = config.owner_secret_arn.map(|secret_arn| Owner {
        secrets: aws_sdk_secretsmanager::Client::new(&aws.sdk),
        secret_arn,
    });
    let app = App {
        database_url: config.database_url,
        tokens: Arc::new(Tokens::new(aws.account, runtime.clock.clone())),
        owner,
        database_id: config.database_id,
        has_bus: config.event_bus.is_some(),
        retry_budget: RETRY_BUDGET,
        http: aws.http,
    };
    runtime.serve(async |event| Ok(handle(&app, event).await?)).await
}
