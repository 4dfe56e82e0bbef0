//! The parts that statements and commands for several items have in common.

use serde::Serialize;
use tokio_postgres::Row;

use crate::changes::{Effect, LimitName, Rejection};
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

/// Makes changes, and returns the result of each. If these are more than the user may make at present, makes
/// those that the limit allows, from the first on, and rejects the others.
pub(crate) async fn within_rate<T>(
    items: &[T],
    run: impl AsyncFn(&[T]) -> Result<Vec<Result<Effect, Rejection>>, Error>,
) -> Result<Vec<Result<Effect, Rejection>>, Error> {
    let (mut allowed, mut rest) = (items, None);
    loop {
        match run(allowed).await {
            Err(Error::Rejected(Rejection::LimitExceeded(limit)))
                if limit.name == LimitName::ChangesPerMinute && !allowed.is_empty() =>
            {
                let room = usize::try_from(limit.maximum - limit.used).unwrap_or(0);
                allowed = &allowed[..room.min(allowed.len() - 1)];
                rest = Some(Rejection::LimitExceeded(limit));
            }
            Err(error) => return Err(error),
            Ok(mut results) => {
                results.extend(
                    rest.into_iter()
                        .cycle()
                        .take(items.len() - allowed.len())
                        .map(Err),
                );
                return Ok(results);
            }
        }
        if allowed.is_empty() {
            return Ok(rest.into_iter().cycle().take(items.len()).map(Err).collect());
        }
    }
}
