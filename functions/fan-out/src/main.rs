//! Runs the function on Lambda.

use aws_sdk_apigatewaymanagement::config::Builder;
use db::Database;
use edge::{Clock, aws, config::Vars};
use fan_out::{App, Config, handle};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    edge::init_logs();
    let config = Config::from_vars(&Vars::from_env())?;
    let aws = aws::sdk_config().await;
    let connections = Builder::from(&aws)
        .endpoint_url(config.connections_endpoint)
        .build();
    let app = App {
        db: Database::new(config.database_url),
        connections: aws_sdk_apigatewaymanagement::Client::from_conf(connections),
        sqs: aws_sdk_sqs::Client::new(&aws),
        queue_url: config.queue_url,
        dead_letter_queue_url: config.dead_letter_queue_url,
        clock: Clock::system(),
    };
    app.db.warm_up().await;
    run(service_fn(async |event: LambdaEvent<_>| {
        Ok::<_, Error>(handle(&app, event.payload).await)
    }))
    .await
}
