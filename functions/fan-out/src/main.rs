//! Runs the function on Lambda.

use db::Database;
use fan_out::{App, Config, Connections, DEADLINE_MARGIN, METRICS, RateLimiter, handle};
use lambda_runtime::Error;
use platform::Runtime;
use platform::rds::iam_auth_tokens;
use platform::trace::Tracer;
use queue::Queue;
use websocket::Closer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut runtime = Runtime::start();
    let config = Config::from_vars(&runtime.vars)?;
    runtime.count(config.metrics_namespace, &[&METRICS])?;
    let (aws, clock) = (runtime.aws()?, runtime.clock.clone());
    let tokens = iam_auth_tokens(aws.account.clone(), clock.clone());
    let queue = Queue::new(&aws.sdk, config.queue_url);
    let app = App {
        db: Database::new(config.database_url.with_passwords(tokens)),
        connections: Connections::new(aws.http, aws.account, &config.connections_endpoint)?,
        closer: Closer::new(&aws.sdk, &config.connections_endpoint),
        rate_limiter: RateLimiter::new(config.posts_per_second, config.maximum_concurrency),
        dead_letters: queue.with_url(config.dead_letter_queue_url),
        queue,
        clock,
        tracer: Tracer::from_vars(&runtime.vars),
    };
    tokio::join!(app.db.warm_up(), app.connections.warm_up());
    runtime
        .serve_with_deadline(DEADLINE_MARGIN, async |event, deadline| {
            Ok(handle(&app, event, deadline).await)
        })
        .await
}
