//! Runs the function on Lambda.

use create_upload::{App, Config, handle};
use db::Database;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use platform::aws::Aws;
use platform::{Clock, config::Vars, rds};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    platform::init_logs();
    let vars = Vars::from_env();
    let config = Config::from_vars(&vars)?;
    let aws = Aws::from_vars(&vars)?;
    let app = App {
        db: Database::new(
            config
                .database_url
                .with_passwords(rds::passwords(aws.account.clone())),
        ),
        s3: aws_sdk_s3::Client::new(&aws.sdk),
        bucket: config.bucket,
        max_upload_bytes: config.max_upload_bytes,
        multipart_threshold_bytes: config.multipart_threshold_bytes,
        clock: Clock::system(),
    };
    app.db.warm_up().await;
    run(service_fn(async |event: LambdaEvent<_>| {
        Ok::<_, Error>(handle(&app, &event.payload).await)
    }))
    .await
}
