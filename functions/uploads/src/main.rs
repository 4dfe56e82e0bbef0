//! Runs the function on Lambda.

use db::Database;
use lambda_runtime::Error;
use platform::Runtime;
use platform::rds::iam_auth_tokens;
use storage::Storage;
use uploads::{App, Config, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut runtime = Runtime::start();
    let config = Config::from_vars(&runtime.vars)?;
    runtime.count(config.metrics_namespace, &[&api::METRICS])?;
    let (aws, clock) = (runtime.aws()?, runtime.clock.clone());
    let app = App {
        db: Database::new(
            config
                .database_url
                .with_passwords(iam_auth_tokens(aws.account.clone(), clock.clone())),
        ),
        storage: Storage::new(&aws.sdk, config.bucket),
        max_upload_bytes: config.max_upload_bytes,
        multipart_threshold_bytes: config.multipart_threshold_bytes,
        max_pending_uploads: config.max_pending_uploads,
        max_space_bytes: config.max_space_bytes,
        clock,
    };
    app.db.warm_up().await;
    runtime.serve(async |event| Ok(handle(&app, &event).await)).await
}
