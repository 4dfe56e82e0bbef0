//! The limits: the least that could do a function's work, under the same Runtime API.

pub(crate) mod commits;
pub(crate) mod complete;
pub(crate) mod connect;
pub(crate) mod posts;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

/// A function that does nothing.
pub(crate) async fn empty() -> Result<(), Error> {
    edge::init_logs();
    lambda_runtime::run(service_fn(async |_: LambdaEvent<Value>| Ok::<_, Error>(()))).await
}

/// A function that does nothing but has a connection to the database.
pub(crate) async fn database() -> Result<(), Error> {
    edge::init_logs();
    let database = connect::database()?;
    database.warm_up().await;
    lambda_runtime::run(service_fn(async |_: LambdaEvent<Value>| Ok::<_, Error>(()))).await
}
