//! Runs the function on Lambda.

use empty_bucket::{App, Config, RESERVE, handle};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use platform::aws::Aws;
use platform::config::Vars;
use platform::lambda::stop_at;
use platform::signed::Services;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    platform::init_logs();
    let vars = Vars::from_env();
    let config = Config::from_vars(&vars)?;
    let aws = Aws::from_vars(&vars)?;
    let app = App {
        storage: aws_sdk_s3::Client::new(&aws.sdk),
        bucket: config.bucket,
        services: Services::from_vars(&vars, aws.http.clone(), aws.account),
        http: aws.http,
    };
    run(service_fn(async |event: LambdaEvent<_>| {
        let stop = stop_at(&event.context, RESERVE);
        Ok::<_, Error>(handle(&app, event.payload, stop).await?)
    }))
    .await
}
