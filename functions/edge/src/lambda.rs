//! Serving invocations that are no HTTP requests only, and what is known of each.

use std::time::{Duration, SystemTime};

use lambda_runtime::{Context, Error, LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::metrics::Metrics;

/// Serves invocations until Lambda ends the environment, and writes each one's metrics when it is over.
pub async fn run<A, B>(
    metrics: Metrics,
    handler: impl AsyncFn(LambdaEvent<A>) -> Result<B, Error>,
) -> Result<(), Error>
where
    A: DeserializeOwned,
    B: Serialize,
{
    let (metrics, handler) = (&metrics, &handler);
    lambda_runtime::run(service_fn(async |event: LambdaEvent<A>| {
        let answer = handler(event).await;
        metrics.flush();
        answer
    }))
    .await
}

/// When work has to end so that `reserve` is left of the invocation.
pub fn stop_at(context: &Context, reserve: Duration) -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "Lambda tells the deadline as a time of day"
    )]
    let left = context.deadline().duration_since(SystemTime::now());
    Instant::now() + left.unwrap_or_default().saturating_sub(reserve)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_ends_before_the_invocation_does() {
        let mut context = Context::default();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        context.deadline = u64::try_from(now.as_millis()).unwrap() + 30_000;
        let left = stop_at(&context, Duration::from_secs(5)) - Instant::now();
        assert!((24..=25).contains(&left.as_secs()), "{left:?}");
        context.deadline = 0;
        assert!(stop_at(&context, Duration::from_secs(5)) <= Instant::now());
    }
}
