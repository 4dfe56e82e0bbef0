//! Runs the function on Lambda.

use db::Database;
use fan_out::{App, Closer, Config, Connections, METRICS, Pace, RESERVE, handle};
use lambda_runtime::{Error, LambdaEvent};
use platform::aws::Aws;
use platform::{Clock, config::Vars, lambda, metrics::Metrics, rds, trace::Tracer};

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
        connections: Connections::new(aws.http, aws.account, &config.connections_endpoint)?,
        closer: Closer::new(&aws.sdk, &config.connections_endpoint),
        pace: Pace::new(config.posts_per_second, config.maximum_concurrency),
        sqs: aws_sdk_sqs::Client::new(&aws.sdk),
        queue_url: config.queue_url,
        dead_letter_queue_url: config.dead_letter_queue_url,
        clock: Clock::system(),
        tracer: Tracer::from_vars(&vars),
    };
    tokio::join!(app.db.warm_up(), app.connections.warm_up());
    lambda::run(metrics, async |event: LambdaEvent<_>| {
        Ok(handle(&app, event.payload, lambda::stop_at(&event.context, RESERVE)).await)
    })
    .await
}
