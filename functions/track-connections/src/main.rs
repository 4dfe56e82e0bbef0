//! Runs the function on Lambda.

use db::Database;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use platform::aws::Account;
use platform::{Clock, config::Vars, rds};
use track_connections::{App, Config, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    platform::init_logs();
    let vars = Vars::from_env();
    let config = Config::from_vars(&vars)?;
    let app = App {
        db: Database::new(
            config
                .database_url
                .with_passwords(rds::passwords(Account::from_vars(&vars))),
        ),
        websocket_url: config.websocket_url,
        allowed_origins: config.allowed_origins,
        max_connections_per_user: config.max_connections_per_user,
        clock: Clock::system(),
    };
    app.db.warm_up().await;
    run(service_fn(async |event: LambdaEvent<_>| {
        Ok::<_, Error>(handle(&app, &event.payload).await)
    }))
    .await
}
