//! The X-Ray trace that an invocation belongs to.

use std::future::Future;

tokio::task_local! {
    static HEADER: Option<String>;
}

/// Runs work as part of a trace.
pub async fn within<T>(header: Option<String>, work: impl Future<Output = T>) -> T {
    HEADER.scope(header, work).await
}

/// The invocation's trace, as `Root=…;Parent=…;Sampled=…`, for a message that goes on with it; nothing outside of one (AWS X-Ray Developer
/// Guide, "Tracing header").
pub fn header() -> Option<String> {
    HEADER.try_with(Clone::clone).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_knows_the_trace_that_it_is_part_of() {
        let inside = within(Some("Root=1".to_owned()), async { header() }).await;
        assert_eq!(inside.as_deref(), Some("Root=1"));
        assert_eq!(header(), None);
    }
}
