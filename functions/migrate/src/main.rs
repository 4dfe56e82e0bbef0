//! Runs the function on Lambda.

use std::sync::Arc;

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use migrate::{App, Config, Owner, PATIENCE, handle};
use platform::Clock;
use platform::aws::Aws;
use platform::config::Vars;
use platform::rds::Tokens;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    platform::init_logs();
    let vars = Vars::from_env();
    let config = Config::from_vars(&vars)?;
    let aws = Aws::from_vars(&vars)?;
    let owner = match config.owner_secret_arn {
        Some(secret_arn) => Some(Owner {
            secrets: aws_sdk_secretsmanager::Client::new(&aws.sdk),
            secret_arn,
        }),
        None => None,
    };
    let app = App {
        database_url: config.database_url,
        tokens: Arc::new(Tokens::new(aws.account, Clock::system())),
        owner,
        patience: PATIENCE,
        http: aws.http,
    };
    run(service_fn(async |event: LambdaEvent<_>| {
        Ok::<_, Error>(handle(&app, event.payload).await?)
    }))
    .await
}
