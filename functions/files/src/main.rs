//! Runs the function on Lambda.

use db::Database;
use files::{App, Config, handle};
use lambda_runtime::Error;
use platform::Runtime;
use platform::rds::iam_auth_tokens;
use queue::Queue;
use storage::Storage;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut runtime = Runtime::start();
    let config = Config::from_vars(&runtime.vars)?;
    runtime.count(config.metrics_namespace, &[&commands::METRICS, &api::METRICS])?;
    let (aws, clock) = (runtime.aws()?, runtime.clock.clone());
    let app = App {
        db: Database::new(
            config
                .database_url
                .with_passwords(iam_auth_tokens(aws.account.clone(), clock.clone())),
        ),
        storage: Storage::new(&aws.sdk, config.bucket),
        queue: Queue::new(&aws.sdk, config.queue_url),
        max_changes_per_minute: config.max_changes_per_minute,
        trash_time: config.trash_days.into(),
        clock,
    };
    app.db.warm_up().await;
    runtime.serve(async |event| Ok(handle(&app, &event).await)).await
}
