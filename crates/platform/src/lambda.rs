//! Serving Lambda's invocations.

use std::time::Duration;

use lambda_runtime::{Context, Error, LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::{Clock, trace};

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
        let trace = event.context.xray_trace_id.clone();
        // Boxed, or the types of the SDK's futures nest deeper than the compiler follows.
        let answer = trace::within(trace, Box::pin(handler(event))).await;
        metrics.flush();
        answer
    }))
    .await
}

/// When work has to end so that `reserve` is left of the invocation.
pub fn stop_at(context: &Context, reserve: Duration) -> Instant {
    let left = OffsetDateTime::from(context.deadline()) - Clock::system().now();
    let left = Duration::try_from(left).unwrap_or_default();
    Instant::now() + left.saturating_sub(reserve)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_ends_before_the_invocation_does() {
        let mut context = Context::default();
        let now = Clock::system().now().unix_timestamp();
        context.deadline = u64::try_from(now * 1_000).unwrap() + 30_000;
        let left = stop_at(&context, Duration::from_secs(5)) - Instant::now();
        assert!((23..=25).contains(&left.as_secs()), "{left:?}");
        context.deadline = 0;
        assert!(stop_at(&context, Duration::from_secs(5)) <= Instant::now());
    }
}
