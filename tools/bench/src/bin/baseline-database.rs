//! Baseline of cold starts with a database: an empty function that opens a connection.

use db::{Database, DatabaseUrl};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use platform::config::Vars;
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    platform::init_logs();
    let url: DatabaseUrl = Vars::from_env().required("DATABASE_URL")?;
    let database = Database::new(url);
    database.warm_up().await;
    lambda_runtime::run(service_fn(async |_: LambdaEvent<Value>| Ok::<_, Error>(()))).await
}
