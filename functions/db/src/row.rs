//! From columns to the model's types.

use model::{ByteCount, DeviceId, Event, EventType, Sequence, Sha256, SpacePath, UserId, Version};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

use crate::error::Error;

/// Reads a column as it is.
pub(crate) fn plain<'a, T: FromSql<'a>>(row: &'a Row, name: &'static str) -> Result<T, Error> {
    row.try_get(name).map_err(|source| Error::Column {
        column: name,
        source: Box::new(source),
    })
}

/// Reads a column and parses it into the type that the schema promises.
pub(crate) fn column<'a, Sql, T>(row: &'a Row, name: &'static str) -> Result<T, Error>
where
    Sql: FromSql<'a>,
    T: TryFrom<Sql>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    plain::<Sql>(row, name)?
        .try_into()
        .map_err(|source: T::Error| Error::Column {
            column: name,
            source: source.into(),
        })
}

/// Like [`column`], for one that may be null.
pub(crate) fn optional<'a, Sql, T>(row: &'a Row, name: &'static str) -> Result<Option<T>, Error>
where
    Sql: FromSql<'a>,
    T: TryFrom<Sql>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    plain::<Option<Sql>>(row, name)?
        .map(|stored| {
            stored.try_into().map_err(|source: T::Error| Error::Column {
                column: name,
                source: source.into(),
            })
        })
        .transpose()
}

/// Reads a row of `changes`.
pub(crate) fn event(row: &Row) -> Result<Event, Error> {
    Ok(Event {
        sequence: column::<i64, Sequence>(row, "sequence")?,
        event_id: plain::<Uuid>(row, "event_id")?.into(),
        event_type: event_type(row)?,
        file_id: plain::<Uuid>(row, "file_id")?.into(),
        space_id: plain::<Uuid>(row, "space_id")?.into(),
        user_id: column::<String, UserId>(row, "user_id")?,
        device_id: optional::<Uuid, DeviceId>(row, "device_id")?,
        path: column::<String, SpacePath>(row, "path")?,
        version: column::<i64, Version>(row, "version")?,
        size: column::<i64, ByteCount>(row, "size")?,
        sha256: column::<&[u8], Sha256>(row, "sha256")?,
        occurred_at: plain(row, "occurred_at")?,
    })
}

fn event_type(row: &Row) -> Result<EventType, Error> {
    match plain::<&str>(row, "event_type")? {
        "FILE_UPDATED" => Ok(EventType::FileUpdated),
        other => Err(Error::Column {
            column: "event_type",
            source: format!("unknown type {other}").into(),
        }),
    }
}
