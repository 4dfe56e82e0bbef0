//! Runs the function on Lambda.

use administer::{App, Config, handle};
use db::Database;
use lambda_runtime::Error;
use platform::Runtime;
use platform::rds::iam_auth_tokens;
use websocket::Closer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let runtime = Runtime::start();
    let config = Config::from_vars(&runtime.vars)?;
    let (aws, clock) = (runtime.aws()?, runtime.clock.clone());
    let tokens = iam_auth_tokens(aws.account.clone(), clock.clone());
    let app = App {
        db: Database::new(config.database_url.with_passwords(tokens)),
        closer: Closer::new(&aws.sdk, &config.connections_endpoint),
        clock,
    };
    runtime
        .serve(async |request| Ok(handle(&app, request).await?))
        .await
}
