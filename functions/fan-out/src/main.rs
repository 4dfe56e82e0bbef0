//! Runs the function on Lambda.

use db::Database;
use edge::{Clock, aws, config::Vars, lambda, metrics::Metrics, rds, trace::Tracer};
use fan_out::{App, Config, METRICS, Pace, RESERVE, connections, handle};
use lambda_runtime::{Error, LambdaEvent};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    edge::init_logs();
    let vars = Vars::from_env();
    let config = Config::from_vars(&vars)?;
    let metrics = Metrics::init(config.metrics_namespace, &METRICS)?;
    let aws = aws::sdk_config().await;
    let app = App {
        db: Database::new(config.database_url.with_passwords(rds::passwords().await)),
        connections: connections(&aws, config.connections_endpoint),
        pace: Pace::new(config.posts_per_second, config.maximum_concurrency),
        sqs: aws_sdk_sqs::Client::new(&aws),
        queue_url: config.queue_url,
        dead_letter_queue_url: config.dead_letter_queue_url,
        clock: Clock::system(),
        tracer: Tracer::from_vars(&vars),
    };
    app.db.warm_up().await;
    lambda::run(metrics, async |event: LambdaEvent<_>| {
        Ok(handle(&app, event.payload, lambda::stop_at(&event.context, RESERVE)).await)
    })
    .await
}
