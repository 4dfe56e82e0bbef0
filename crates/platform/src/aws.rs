//! AWS configuration: credentials, region, root certificates and the client that all services share.

use std::borrow::Cow;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::client::HttpClient;
use crate::config::{ConfigError, Vars};

/// The root certificates of Amazon Trust Services, which signs the certificates of AWS endpoints (Amazon
/// Trust Services, "Certificate authorities"; AWS Security Blog, "How to prepare for AWS's move to its own
/// certificate authority"). The system's file has a hundred more. Parsing them would take longer in a cold
/// start than all other setup of the clients.
const AMAZON: &[u8] = include_bytes!("../amazon-trust-services.pem");

/// The variable with the path of a file of root certificates (PEM) that replace Amazon's. The AWS CLI has the
/// same variable.
const CA_BUNDLE: &str = "AWS_CA_BUNDLE";

/// The timeout of one attempt of an SDK call.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1_200);

/// The timeout of an SDK call with its retries. With it, a hanging dependency causes an error within 3 s.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(2_500);

/// The maximum number of attempts of an SDK call, the first included.
const MAX_ATTEMPTS: u32 = 2;

/// The longest back-off before the second attempt. The SDK's default of 1 s is longer than most calls.
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// Loads the root certificates (PEM) that AWS endpoints must chain to: Amazon's, or those in the file named
/// by `AWS_CA_BUNDLE`.
fn authorities(vars: &Vars<'_>) -> Result<Cow<'static, [u8]>, ConfigError> {
    match vars
        .of_lambda::<String>(CA_BUNDLE)
        .filter(|path| !path.is_empty())
    {
        Some(path) => Ok(fs::read(path).map_err(invalid)?.into()),
        None => Ok(AMAZON.into()),
    }
}

fn tls(authorities: &[u8]) -> Result<ClientConfig, ConfigError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities) {
        store.add(certificate.map_err(invalid)?).map_err(invalid)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(invalid)?;
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}

fn invalid(source: impl std::error::Error + Send + Sync + 'static) -> ConfigError {
    ConfigError::Invalid {
        variable: CA_BUNDLE,
        source: source.into(),
    }
}

/// The credentials and the region for signed requests.
#[derive(Clone, Debug)]
pub struct Account {
    /// The credentials of the function's role. On Lambda they are valid for the lifetime of the environment.
    pub credentials: Credentials,
    /// The region of the function.
    pub region: Region,
}

impl Account {
    /// Reads the variables that Lambda sets (AWS Lambda Developer Guide, "Defined runtime environment
    /// variables"); `None` if the access key, the secret key or the region is missing.
    pub fn from_vars(vars: &Vars<'_>) -> Option<Self> {
        let variable = |name| vars.of_lambda::<String>(name).filter(|value| !value.is_empty());
        Some(Self {
            credentials: Credentials::new(
                variable("AWS_ACCESS_KEY_ID")?,
                variable("AWS_SECRET_ACCESS_KEY")?,
                variable("AWS_SESSION_TOKEN"),
                None,
                "environment",
            ),
            region: Region::new(variable("AWS_REGION")?),
        })
    }
}

/// The AWS configuration of a function.
pub struct Aws {
    /// The credentials and region; `None` if the environment has none.
    pub account: Option<Account>,
    /// The HTTP client, shared with the SDK.
    pub http: HttpClient,
    /// The configuration for SDK clients.
    pub sdk: SdkConfig,
}

impl Aws {
    /// Loads the configuration from environment variables. Every call of the SDK has a timeout. Sends no
    /// request.
    ///
    /// `aws-config` is not used. It also looks in files, instance metadata and other services for settings
    /// that Lambda puts in the environment, which makes the cold start longer and the binary larger.
    pub fn from_vars(vars: &Vars<'_>) -> Result<Self, ConfigError> {
        let http = HttpClient::new(tls(&authorities(vars)?)?);
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(OPERATION_TIMEOUT)
            .build();
        let retries = RetryConfig::standard()
            .with_max_attempts(MAX_ATTEMPTS)
            .with_initial_backoff(MAX_PAUSE);
        let account = Account::from_vars(vars);
        let mut sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .http_client(http.for_sdk())
            .timeout_config(timeouts)
            .retry_config(retries)
            .service_config(Endpoints::from_vars(vars));
        if let Some(Account { credentials, region }) = account.clone() {
            sdk = sdk
                .region(region)
                .credentials_provider(SharedCredentialsProvider::new(credentials));
        }
        Ok(Self {
            account,
            http,
            sdk: sdk.build(),
        })
    }
}

/// Services with an endpoint variable of their own, in the SDK's spelling.
const SERVICES: [&str; 4] = ["EVENTBRIDGE", "S3", "SQS", "SECRETS_MANAGER"];

/// Endpoints that replace those of AWS (AWS SDKs and Tools Reference Guide, "Service-specific endpoints").
#[derive(Debug)]
struct Endpoints {
    /// The endpoint for all services, from `AWS_ENDPOINT_URL`.
    all: Option<String>,
    /// The endpoints of single services, from variables such as `AWS_ENDPOINT_URL_SQS`.
    own: Vec<(&'static str, String)>,
}

impl Endpoints {
    fn from_vars(vars: &Vars<'_>) -> Self {
        let variable = |name: &str| vars.of_lambda::<String>(name).filter(|url| !url.is_empty());
        let own = SERVICES
            .iter()
            .filter_map(|service| Some((*service, variable(&format!("AWS_ENDPOINT_URL_{service}"))?)));
        Self {
            all: variable("AWS_ENDPOINT_URL"),
            own: own.collect(),
        }
    }
}

impl LoadServiceConfig for Endpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        if key.env() != "AWS_ENDPOINT_URL" {
            return None;
        }
        let service = key.service_id().to_uppercase().replace(' ', "_");
        let own = self.own.iter().find(|(name, _)| *name == service);
        own.map(|(_, url)| url.clone()).or_else(|| self.all.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_bundle(path: &str) -> Result<Cow<'static, [u8]>, ConfigError> {
        let path = path.to_owned();
        authorities(&Vars::from_lookup(move |name| {
            (name == CA_BUNDLE).then(|| path.clone())
        }))
    }

    #[test]
    fn amazons_authorities_can_be_read_and_replaced() {
        let amazon = with_bundle("").unwrap();
        assert_eq!(CertificateDer::pem_slice_iter(&amazon).count(), 5);
        tls(&amazon).unwrap();
        let none = with_bundle("/dev/null").unwrap();
        assert!(none.is_empty());
        let Err(error) = with_bundle("/nonexistent/bundle.pem") else {
            panic!("it is not there")
        };
        assert!(error.to_string().contains(CA_BUNDLE), "{error}");
    }

    #[test]
    fn a_service_is_where_its_own_variable_says_or_else_the_common_one() {
        let endpoints = Endpoints::from_vars(&Vars::from_lookup(|name| match name {
            "AWS_ENDPOINT_URL_SQS" => Some("https://sqs.example".to_owned()),
            "AWS_ENDPOINT_URL_EVENTBRIDGE" => Some("https://events.example".to_owned()),
            "AWS_ENDPOINT_URL_SECRETS_MANAGER" => Some("https://secrets.example".to_owned()),
            "AWS_ENDPOINT_URL_S3" => Some(String::new()),
            "AWS_ENDPOINT_URL" => Some("http://all.example".to_owned()),
            _ => None,
        }));
        let asked = |service, env| {
            let key = ServiceConfigKey::builder()
                .service_id(service)
                .env(env)
                .profile("p");
            endpoints.load_config(key.build().unwrap())
        };
        let at = |service| asked(service, "AWS_ENDPOINT_URL").unwrap();
        assert_eq!(at("SQS"), "https://sqs.example");
        assert_eq!(at("EventBridge"), "https://events.example");
        assert_eq!(at("Secrets Manager"), "https://secrets.example");
        assert_eq!(at("S3"), "http://all.example");
        assert_eq!(asked("SQS", "AWS_S3_USE_ARN_REGION"), None);
    }
}
