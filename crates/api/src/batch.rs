//! Requests with several items, and responses with a result for each.

use std::collections::BTreeMap;

use http::StatusCode;
use model::{BatchResults, ItemResult};
use platform::{error_chain, summary};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::error;

use crate::Problem;
use crate::http::{Request, Response, json, parsed};

/// Rejects a list without items, or with more than `max`. `name` is the list's name in the body.
pub fn check_count<T>(name: &str, items: &[T], max: usize) -> Result<(), Problem> {
    if (1..=max).contains(&items.len()) {
        Ok(())
    } else {
        Err(Problem::invalid(format!("{name}: from 1 to {max} at once")))
    }
}

/// Parses an item of a body. 400 for the item alone if it is invalid.
pub fn item<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    if !value.is_object() {
        return Err(Problem::invalid("The item is not a JSON object."));
    }
    parsed(value)
}

/// The 200 with the result of each item. `status` is that of an item that succeeded. Failed items are logged
/// here, once for each cause, and the line of the request counts the others.
pub fn results<T, R: Serialize>(
    request: Request<'_>,
    status: StatusCode,
    items: Vec<Result<T, Problem>>,
    succeeded: impl Fn(T) -> R,
    problem: impl Fn(Value) -> R,
) -> Result<Response, Problem> {
    let request_id = request.id();
    log(request_id, &items);
    let results = items.into_iter().map(|item| match item {
        Ok(value) => ItemResult {
            status: status.as_u16(),
            outcome: succeeded(value),
        },
        Err(refusal) => ItemResult {
            status: refusal.status().as_u16(),
            outcome: problem(refusal.item(request_id)),
        },
    });
    let results = results.collect();
    json(StatusCode::OK, &BatchResults { results })
}

fn log<T>(request_id: &str, items: &[Result<T, Problem>]) {
    let mut counts: BTreeMap<(&str, Option<String>), usize> = BTreeMap::new();
    for refusal in items.iter().filter_map(|item| item.as_ref().err()) {
        let cause = refusal.cause().map(|cause| error_chain(cause));
        *counts.entry((refusal.code(), cause)).or_default() += 1;
    }
    for ((code, cause), count) in counts {
        let of = items.len();
        if let Some(error) = cause {
            error!(
                items = count,
                error, "{count} of {of} items of request {request_id} failed: {code}"
            );
        } else {
            summary::record("refused_items", format_args!("{count} {code}"));
        }
    }
}
