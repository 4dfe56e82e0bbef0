//! Runs the function on Lambda.

use edge::aws::{Account, Authorities};
use edge::{aws, config::Vars};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use migrate::{App, Config, Owner, PATIENCE, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    edge::init_logs();
    let vars = Vars::from_env();
    let config = Config::from_vars(&vars)?;
    let tls = Authorities::from_vars(&vars)?.tls()?;
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .build()?;
    let owner = match config.owner_secret_arn {
        Some(secret_arn) => Some(Owner {
            secrets: aws_sdk_secretsmanager::Client::new(&aws::sdk_config(&vars)?),
            secret_arn,
        }),
        None => None,
    };
    let app = App {
        database_url: config.database_url,
        account: Account::from_vars(&vars),
        owner,
        patience: PATIENCE,
        http,
    };
    run(service_fn(async |event: LambdaEvent<_>| {
        Ok::<_, Error>(handle(&app, event.payload).await?)
    }))
    .await
}
