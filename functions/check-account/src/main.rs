//! Runs the function on Lambda.

use check_account::{App, handle};
use edge::aws::Aws;
use edge::config::Vars;
use edge::signed::Services;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    edge::init_logs();
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
