//! The parts that statements and commands for several items have in common.

use std::time::Duration;

use serde::Serialize;
use tokio_postgres::Row;

use crate::changes::{Effect, Limit, LimitName, Rejection};
use crate::error::Error;
use crate::row::get;

/// An item with its number, from 1.
#[derive(Serialize)]
struct Numbered<T> {
    item: usize,
    #[serde(flatten)]
    fields: T,
}

/// The items of a statement as JSON text, for `json_to_recordset`.
pub(crate) fn items<T: Serialize>(items: impl Iterator<Item = T>) -> Result<String, Error> {
    let numbered: Vec<_> = items
        .enumerate()
        .map(|(index, fields)| Numbered {
            item: index + 1,
            fields,
        })
        .collect();
    serde_json::to_string(&numbered).map_err(|source| Error::Column {
        column: "item",
        source: Box::new(source),
    })
}

/// The index of the item of a row.
pub(crate) fn position(row: &Row) -> Result<usize, Error> {
    let item = get::<i64>(row, "item")?;
    usize::try_from(item - 1).map_err(|source| Error::Column {
        column: "item",
        source: Box::new(source),
    })
}

/// The time after which a user may make more changes, if the first ones of the minute were just made.
const MINUTE: Duration = Duration::from_mins(1);

/// Makes changes, and returns the result of each. If these are more than the user may make at present, makes
/// those that the limit allows, from the first on, and rejects the others. Items that need no change do not
/// count.
pub(crate) async fn within_rate<T>(
    items: &[T],
    run: impl AsyncFn(&[T]) -> Result<Vec<Result<Effect, Rejection>>, Error>,
) -> Result<Vec<Result<Effect, Rejection>>, Error> {
    let (mut results, mut room) = (Vec::with_capacity(items.len()), items.len());
    let mut reached: Option<Limit> = None;
    while results.len() < items.len() && room > 0 {
        let rest = &items[results.len()..];
        let next = &rest[..room.min(rest.len())];
        match run(next).await {
            Ok(made) => {
                let is_change =
                    |result: &&Result<Effect, Rejection>| matches!(result, Ok(Effect::Applied(_)));
                let changes = made.iter().filter(is_change).count();
                room -= changes;
                if let Some(limit) = &mut reached {
                    limit.used += i64::try_from(changes).unwrap_or(i64::MAX);
                    limit.retry_after.get_or_insert(MINUTE);
                }
                results.extend(made);
            }
            Err(Error::Rejected(Rejection::LimitExceeded(limit)))
                if limit.name == LimitName::ChangesPerMinute =>
            {
                let left = usize::try_from(limit.maximum - limit.used).unwrap_or(0);
                room = left.min(next.len() - 1);
                reached = Some(limit);
            }
            // The items before are committed, so only the others are left to the next request.
            Err(_) if !results.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    let rejected = reached.map(Rejection::LimitExceeded).into_iter().cycle();
    let missing = items.len() - results.len();
    results.extend(rejected.take(missing).map(Err));
    Ok(results)
}
