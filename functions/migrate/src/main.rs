//! Runs the function on Lambda.

use edge::config::Vars;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use migrate::{App, Config, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    edge::init_logs();
    let config = Config::from_vars(&Vars::from_env())?;
    // reqwest leaves the choice of the TLS implementation to the process.
    let provider = rustls::crypto::ring::default_provider();
    provider
        .install_default()
        .map_err(|_| "another TLS implementation is installed")?;
    let app = App {
        database_url: config.database_url,
        http: reqwest::Client::new(),
    };
    run(service_fn(async |event: LambdaEvent<_>| {
        Ok::<_, Error>(handle(&app, event.payload).await?)
    }))
    .await
}
