//! Catches panics, so that a defect in one request or record does not affect others.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt as _;
use thiserror::Error;

/// A caught panic with its message.
#[derive(Debug, Error)]
#[error("panic: {0}")]
pub struct Panic(String);

/// Runs a closure and returns a panic as an error.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Panic(message(panic.as_ref())))
}

/// Runs a future and returns a panic as an error.
pub async fn catch_panic_async<T>(work: impl Future<Output = T>) -> Result<T, Panic> {
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    outcome.map_err(|panic| Panic(message(panic.as_ref())))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "of an unknown kind".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error_that_says_what_it_said() {
        assert_eq!(
            catch_panic(|| panic!("number {}", 7)).unwrap_err().to_string(),
            "panic: number 7"
        );
        let failed = catch_panic_async(async { panic!("here") }).await;
        assert_eq!(failed.map(|()| 0).unwrap_err().to_string(), "panic: here");
        assert_eq!(catch_panic(|| 1).unwrap(), 1);
    }
}
