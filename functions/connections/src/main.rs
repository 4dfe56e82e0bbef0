//! Runs the function on Lambda.

use connections::{App, Config, handle};
use db::Database;
use lambda_runtime::Error;
use platform::Runtime;
use platform::aws::Account;
use platform::rds::iam_auth_tokens;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let runtime = Runtime::start();
    let config = Config::from_vars(&runtime.vars)?;
    let tokens = iam_auth_tokens(Account::from_vars(&runtime.vars), runtime.clock.clone());
    let app = App {
        db: Database::new(config.database_url.with_passwords(tokens)),
        websocket_url: config.websocket_url,
        allowed_origins: config.allowed_origins,
        max_connections_per_user: config.max_connections_per_user,
        clock: runtime.clock.clone(),
    };
    app.db.warm_up().await;
    runtime.serve(async |event| Ok(handle(&app, &event).await)).await
}
