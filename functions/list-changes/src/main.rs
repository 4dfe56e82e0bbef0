//! Runs the function on Lambda.

use db::Database;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use list_changes::{App, Config, handle};
use platform::aws::Account;
use platform::{config::Vars, rds};

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
    };
    app.db.warm_up().await;
    run(service_fn(async |event: LambdaEvent<_>| {
        Ok::<_, Error>(handle(&app, &event.payload).await)
    }))
    .await
}
