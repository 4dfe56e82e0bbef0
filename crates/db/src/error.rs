//! What can go wrong between a function and PostgreSQL.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio_postgres::error::SqlState;

/// An error of a library that is only shown.
pub type BoxError = Box<dyn StdError + Send + Sync>;

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
    /// PostgreSQL does not believe that it is who it says.
    #[error("the database refused to sign {user} in")]
    SignIn {
        /// The role.
        user: String,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The URL has no password, and there is nothing that makes one.
    #[error("there is no password to sign in to the database with")]
    NoPassword,
    /// No password could be made.
    #[error("cannot make a password to sign in to the database with")]
    Password(#[source] BoxError),
    /// The certificates of authorities that could vouch for the database cannot be used.
    #[error("cannot load the authorities that vouch for the database")]
    TrustRoots(#[source] BoxError),
    /// No certificate of a database in this region could be verified.
    #[error(
        "no certificate authority of Amazon RDS in region {region} is compiled in, so its databases cannot be verified: \
         run tools/rds_authorities.py, which gets AWS's current list, then build and deploy again"
    )]
    NoAuthorities {
        /// The region in the name of the endpoint.
        region: String,
    },
    /// The schema's owner lacks a right that only another role can give.
    #[error("{owner} may not {action}: {remedy}, then deploy again")]
    MissingRight {
        /// The role that signed in.
        owner: String,
        /// The refused action.
        action: String,
        /// The right, and a statement that gives it.
        remedy: String,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
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
        source: BoxError,
    },
}

impl Error {
    /// Whether the connection is gone, or leads to a server that is on its way down or up: a new connection may do. What was sent may or may
    /// not have been done.
    pub(crate) fn is_disconnection(&self) -> bool {
        let (Self::Connect(source) | Self::Query { source, .. }) = self else {
            return false;
        };
        let Some(code) = source.code() else {
            let broken = StdError::source(source).and_then(<dyn StdError>::downcast_ref::<io::Error>);
            return source.is_closed() || broken.is_some_and(|error| !is_refusal_of_certificate(error));
        };
        let others = [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::IDLE_SESSION_TIMEOUT,
            // A former primary, after a failover.
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ];
        // Class 08 is "connection exception".
        others.contains(code) || code.code().starts_with("08")
    }

    /// Whether what was asked may be the reason, so that asking for less may help.
    pub fn is_of_the_statement(&self) -> bool {
        match self {
            Self::Query { source, .. } => source.as_db_error().is_some() && !self.is_disconnection(),
            Self::QueryTimeout { .. } | Self::Column { .. } => true,
            _ => false,
        }
    }

    /// Whether a migration changed what a prepared statement answers, so that it must be prepared again.
    /// Nothing was done.
    pub(crate) fn is_of_a_stale_statement(&self) -> bool {
        // "cached plan must not change result type"
        matches!(self, Self::Query { source, .. } if source.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED))
    }

    /// Whether the session can go on: PostgreSQL has answered, so nothing of this exchange is still to come.
    pub(crate) fn leaves_a_usable_session(&self) -> bool {
        matches!(self, Self::Query { source, .. } if source.as_db_error().is_some())
            && !self.is_disconnection()
    }
}

/// Whether the server was reached, but is not believed to be the database. That does not pass.
fn is_refusal_of_certificate(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn StdError + Send + Sync>::is::<rustls::Error>)
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

impl MigrationError {
    /// Whether PostgreSQL refused the user or the password.
    pub fn is_refused_sign_in(&self) -> bool {
        matches!(self, Self::Database(Error::SignIn { .. }))
    }

    /// Whether no connection could be made, so that trying again shortly may help: a database that was just made or is failing over.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Database(Error::Connect(_) | Error::ConnectTimeout(_) | Error::SignIn { .. })
        )
    }
}
