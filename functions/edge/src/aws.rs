//! The configuration that all AWS clients of a function share.

use std::time::Duration;

use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

/// How long TCP and TLS may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(800);

/// How long one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1_200);

/// How long a call may take with its retries: a dependency that hangs surfaces within 3 s.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Attempts of a call, the first included.
const MAX_ATTEMPTS: u32 = 2;

/// How long the second attempt waits at most. The SDK's own second would be longer than most calls.
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// Reads region and credentials from the environment, as Lambda provides them, and bounds every wait. Makes no request.
pub async fn sdk_config() -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .region(EnvironmentVariableRegionProvider::new())
        .credentials_provider(EnvironmentVariableCredentialsProvider::new())
        .timeout_config(timeouts)
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(MAX_ATTEMPTS)
                .with_initial_backoff(MAX_PAUSE),
        )
        .load()
        .await
}
