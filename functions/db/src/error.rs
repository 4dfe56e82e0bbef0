//! What can go wrong between a function and PostgreSQL.

use std::time::Duration;

use thiserror::Error;

/// A failed exchange with the database. For operators; users see that the service is unavailable.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection could be made.
    #[error("cannot connect to the database")]
    Connect(#[source] tokio_postgres::Error),
    /// No connection was made in time.
    #[error("the database did not accept a connection within {0:?}")]
    ConnectTimeout(Duration),
    /// The system has no root certificates to verify the database's with.
    #[error("cannot load root certificates to verify the database's certificate")]
    RootCertificates(#[source] std::io::Error),
    /// PostgreSQL refused a statement, or the connection broke meanwhile.
    #[error("query {query} failed")]
    Query {
        /// The statement's name.
        query: &'static str,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// PostgreSQL did not answer in time. What was sent may or may not have been done.
    #[error("query {query} was not answered within {after:?}")]
    QueryTimeout {
        /// The statement's name.
        query: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// Others came in between each time that it was tried.
    #[error("{0} was overtaken too often")]
    Contended(&'static str),
    /// A stored value is not what the schema and the code promise.
    #[error("column {column} holds a value that cannot be")]
    Column {
        /// The column's name.
        column: &'static str,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why the schema could not be brought up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// The database could not be used.
    #[error(transparent)]
    Database(#[from] Error),
    /// A migration failed, or one that was applied earlier is missing or different now.
    #[error("the migrations could not be applied")]
    Migration(#[from] refinery::Error),
}
