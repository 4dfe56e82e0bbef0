//! Runs the function on Lambda.

use commands::Queue;
use db::Database;
use lambda_runtime::{Error, LambdaEvent};
use manage_spaces::{App, Config, handle};
use platform::aws::Aws;
use platform::{Clock, config::Vars, lambda, metrics::Metrics, rds};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    platform::init_logs();
    let vars = Vars::from_env();
    let config = Config::from_vars(&vars)?;
    let metrics = Metrics::init(config.metrics_namespace, &commands::METRICS)?;
    let aws = Aws::from_vars(&vars)?;
    let app = App {
        db: Database::new(
            config
                .database_url
                .with_passwords(rds::passwords(aws.account.clone())),
        ),
        queue: Queue {
            sqs: aws_sdk_sqs::Client::new(&aws.sdk),
            url: config.queue_url,
        },
        clock: Clock::system(),
    };
    app.db.warm_up().await;
    lambda::run(metrics, async |event: LambdaEvent<_>| {
        Ok(handle(&app, &event.payload).await)
    })
    .await
}
