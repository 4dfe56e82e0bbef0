//! Runs the function on Lambda.

use edge::{aws, config::Vars};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use migrate::{App, Config, Owner, PATIENCE, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    edge::init_logs();
    let config = Config::from_vars(&Vars::from_env())?;
    // Where there are no root certificates, on a local stack's bare container, HTTPS fails when used rather than here.
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let tls = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .build()?;
    let owner = match config.owner_secret_arn {
        Some(secret_arn) => Some(Owner {
            secrets: aws_sdk_secretsmanager::Client::new(&aws::sdk_config().await),
            secret_arn,
        }),
        None => None,
    };
    let app = App {
        database_url: config.database_url,
        owner,
        patience: PATIENCE,
        http,
    };
    run(service_fn(async |event: LambdaEvent<_>| {
        Ok::<_, Error>(handle(&app, event.payload).await?)
    }))
    .await
}
