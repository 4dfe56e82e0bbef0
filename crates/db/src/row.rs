//! From columns to the model's types.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::error::Error;

/// Reads a column as it is.
pub(crate) fn get<'a, T: FromSql<'a>>(row: &'a Row, name: &'static str) -> Result<T, Error> {
    row.try_get(name).map_err(|source| Error::Column {
        column: name,
        source: Box::new(source),
    })
}

/// Reads a column and parses it into the type that the schema promises.
pub(crate) fn parse<'a, Sql, T>(row: &'a Row, name: &'static str) -> Result<T, Error>
where
    Sql: FromSql<'a>,
    T: TryFrom<Sql>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    get::<Sql>(row, name)?
        .try_into()
        .map_err(|source: T::Error| Error::Column {
            column: name,
            source: source.into(),
        })
}

/// Like [`parse`], for one that may be null.
pub(crate) fn parse_opt<'a, Sql, T>(row: &'a Row, name: &'static str) -> Result<Option<T>, Error>
where
    Sql: FromSql<'a>,
    T: TryFrom<Sql>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    get::<Option<Sql>>(row, name)?
        .map(|stored| {
            stored.try_into().map_err(|source: T::Error| Error::Column {
                column: name,
                source: source.into(),
            })
        })
        .transpose()
}
