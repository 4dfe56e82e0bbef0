//! Starts a function and serves its invocations.

use std::time::Duration;

use lambda_runtime::{Context, Error, LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::aws::Aws;
use crate::config::{ConfigError, Vars};
use crate::metrics::{AlreadySetUp, Metric, Metrics};
use crate::{Clock, init_logs, trace};

/// The execution environment of a function.
pub struct Runtime {
    /// The environment variables.
    pub vars: Vars<'static>,
    /// The system clock.
    pub clock: Clock,
    metrics: Option<Metrics>,
}

impl Runtime {
    /// Initializes logging. Must be called once, before anything else.
    pub fn start() -> Self {
        init_logs();
        Self {
            vars: Vars::from_env(),
            clock: Clock::system(),
            metrics: None,
        }
    }

    /// Loads credentials, region and HTTP client for AWS. Sends no request.
    pub fn aws(&self) -> Result<Aws, ConfigError> {
        Aws::from_vars(&self.vars)
    }

    /// Initializes the metrics of the crates that a function counts with. Each invocation writes its metrics to
    /// the log when it ends.
    pub fn count(&mut self, namespace: String, metrics: &[&[Metric]]) -> Result<(), AlreadySetUp> {
        self.metrics = Some(Metrics::init(namespace, metrics.iter().copied().flatten())?);
        Ok(())
    }

    /// Serves invocations until Lambda shuts the environment down.
    pub async fn serve<A, B>(self, handler: impl AsyncFn(A) -> Result<B, Error>) -> Result<(), Error>
    where
        A: DeserializeOwned,
        B: Serialize,
    {
        self.serve_with_deadline(Duration::ZERO, async |event, _| handler(event).await)
            .await
    }

    /// Serves invocations until Lambda shuts the environment down. The handler gets the event and a deadline,
    /// which is `margin` before the end of the invocation.
    pub async fn serve_with_deadline<A, B>(
        self,
        margin: Duration,
        handler: impl AsyncFn(A, Instant) -> Result<B, Error>,
    ) -> Result<(), Error>
    where
        A: DeserializeOwned,
        B: Serialize,
    {
        let (runtime, handler) = (&self, &handler);
        lambda_runtime::run(service_fn(async |event: LambdaEvent<A>| {
            let deadline = deadline(&event.context, runtime.clock.now(), margin);
            let trace = event.context.xray_trace_id.clone();
            // Boxed: otherwise the types of the SDK's futures are nested too deeply for the compiler.
            let answer = trace::scope(trace, Box::pin(handler(event.payload, deadline))).await;
            if let Some(metrics) = &runtime.metrics {
                metrics.flush();
            }
            answer
        }))
        .await
    }
}

/// The end of the invocation minus `margin`; now if less than `margin` is left.
fn deadline(context: &Context, now: OffsetDateTime, margin: Duration) -> Instant {
    let left = Duration::try_from(OffsetDateTime::from(context.deadline()) - now).unwrap_or_default();
    Instant::now() + left.saturating_sub(margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_ends_before_the_invocation_does() {
        let mut context = Context::default();
        let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_000);
        context.deadline = 1_030_000;
        let left = deadline(&context, now, Duration::from_secs(5)) - Instant::now();
        assert!((24..=25).contains(&left.as_secs()), "{left:?}");
        context.deadline = 0;
        assert!(deadline(&context, now, Duration::from_secs(5)) <= Instant::now());
    }
}
