//! Conversion of columns to the types of `model`.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::error::Error;

/// Reads a column without further conversion.
pub(crate) fn get<'a, T: FromSql<'a>>(row: &'a Row, name: &'static str) -> Result<T, Error> {
    row.try_get(name).map_err(|source| Error::Column {
        column: name,
        source: Box::new(source),
    })
}

/// Reads a column and converts it to a type of `model`. A failure means that the stored value is invalid.
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

/// Like [`parse`], for a column that may be null.
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
