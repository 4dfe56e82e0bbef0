//! Runs the function on Lambda.

use check_account::{App, handle};
use lambda_runtime::Error;
use platform::Runtime;
use platform::signed::Services;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let runtime = Runtime::start();
    let aws = runtime.aws()?;
    let app = App {
        region: aws.account.as_ref().map(|account| account.region.to_string()),
        services: Services::from_vars(&runtime.vars, aws.http.clone(), aws.account),
        http: aws.http,
    };
    runtime.serve(async |event| Ok(handle(&app, event).await?)).await
}
