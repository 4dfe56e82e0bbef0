//! Runs the function on Lambda.

use bus::Bus;
use db::Database;
use lambda_runtime::Error;
use maintenance::{App, Config, DEADLINE_MARGIN, METRICS, ScheduledEvent, handle};
use platform::Runtime;
use platform::rds::iam_auth_tokens;
use queue::Queue;
use storage::Storage;

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
        storage: Storage::new(&aws.sdk, config.bucket),
        dead_letters: queue.with_url(config.dead_letter_queue_url),
        queue,
        bus: config.event_bus.map(|name| Bus::new(&aws.sdk, name)),
        retention: config.retention,
        clock,
    };
    app.db.warm_up().await;
    runtime
        .serve_with_deadline(DEADLINE_MARGIN, async |_: ScheduledEvent, deadline| {
            Ok(handle(&app, deadline).await?)
        })
        .await
}
