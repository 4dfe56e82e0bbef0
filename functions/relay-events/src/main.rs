//! Runs the function on Lambda.

use commands::Queue;
use db::Database;
use lambda_runtime::{Error, LambdaEvent};
use platform::aws::Aws;
use platform::{Clock, config::Vars, lambda, metrics::Metrics, rds};
use relay_events::{App, Config, METRICS, RESERVE, Tick, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    platform::init_logs();
    let vars = Vars::from_env();
    let config = Config::from_vars(&vars)?;
    let metrics = Metrics::init(config.metrics_namespace, &METRICS)?;
    let aws = Aws::from_vars(&vars)?;
    let app = App {
        db: Database::new(
            config
                .database_url
                .with_passwords(rds::passwords(aws.account.clone())),
        ),
        s3: aws_sdk_s3::Client::new(&aws.sdk),
        bucket: config.bucket,
        queue: Queue {
            sqs: aws_sdk_sqs::Client::new(&aws.sdk),
            url: config.queue_url,
        },
        dead_letter_queue_url: config.dead_letter_queue_url,
        clock: Clock::system(),
    };
    app.db.warm_up().await;
    lambda::run(metrics, async |event: LambdaEvent<Tick>| {
        Ok(handle(&app, lambda::stop_at(&event.context, RESERVE)).await?)
    })
    .await
}
