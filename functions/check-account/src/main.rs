//! Runs the function on Lambda.

use check_account::{App, handle};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use platform::aws::Aws;
use platform::config::Vars;
use platform::signed::Services;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    platform::init_logs();
    let vars = Vars::from_env();
    let aws = Aws::from_vars(&vars)?;
    let app = App {
        region: aws.account.as_ref().map(|account| account.region.to_string()),
        services: Services::from_vars(&vars, aws.http.clone(), aws.account),
        http: aws.http,
    };
    run(service_fn(async |event: LambdaEvent<_>| {
        Ok::<_, Error>(handle(&app, event.payload).await?)
    }))
    .await
}
