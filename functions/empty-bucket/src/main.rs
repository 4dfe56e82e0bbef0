//! Runs the function on Lambda.

use empty_bucket::{App, Config, DEADLINE_MARGIN, handle};
use lambda_runtime::Error;
use platform::Runtime;
use platform::signed::Services;
use storage::Storage;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let runtime = Runtime::start();
    let config = Config::from_vars(&runtime.vars)?;
    let aws = runtime.aws()?;
    let app = App {
        storage: Storage::new(&aws.sdk, config.bucket),
        services: Services::from_vars(&runtime.vars, aws.http.clone(), aws.account),
        http: aws.http,
    };
    runtime
        .serve_with_deadline(DEADLINE_MARGIN, async |event, deadline| {
            Ok(handle(&app, event, deadline).await?)
        })
        .await
}
