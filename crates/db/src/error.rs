//! Errors of the database and of migrations.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::changes::{Limit, Rejection};

/// An error of a library. It is displayed and never matched on.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A failed database operation. The text is for operators; users only learn that the service is unavailable.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Connecting failed.
    #[error("cannot connect to the database")]
    Connect(#[source] tokio_postgres::Error),
    /// Connecting took longer than this timeout.
    #[error("the database did not accept a connection within {0:?}")]
    ConnectTimeout(Duration),
    /// PostgreSQL rejected the role or its password (SQLSTATE class 28).
    #[error("the database refused to sign {user} in")]
    SignIn {
        /// The name of the role.
        user: String,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The URL has no password, and the connector has no [`Passwords`](crate::Passwords) to generate one.
    #[error("there is no password to sign in to the database with")]
    NoPassword,
    /// Generating the password failed.
    #[error("cannot make a password to sign in to the database with")]
    Password(#[source] BoxError),
    /// The root certificates could not be loaded.
    #[error("cannot load the authorities that vouch for the database")]
    TrustRoots(#[source] BoxError),
    /// No root certificate for databases in this AWS region is compiled in.
    #[error(
        "no certificate authority of Amazon RDS in region {region} is compiled in, so its databases cannot be verified: \
         run tools/rds_authorities.py, which gets AWS's current list, then build and deploy again"
    )]
    NoAuthorities {
        /// The region, from the name of the endpoint.
        region: String,
    },
    /// The schema's owner lacks a privilege that only another role can grant.
    #[error("{owner} may not {action}: {remedy}, then deploy again")]
    MissingRight {
        /// The name of the schema's owner.
        owner: String,
        /// The action that PostgreSQL refused.
        action: String,
        /// The missing privilege, and a statement that grants it.
        remedy: String,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// PostgreSQL rejected a statement, or the connection broke while it ran.
    #[error("query {query} failed")]
    Query {
        /// The statement's name.
        query: &'static str,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// PostgreSQL did not answer within the timeout. The statement may have been committed.
    #[error("query {query} was not answered within {after:?}")]
    QueryTimeout {
        /// The statement's name.
        query: &'static str,
        /// The timeout that passed.
        after: Duration,
    },
    /// The caller's requests are not served at present: [`Rejection::Blocked`], [`Rejection::Erased`]
    /// or [`Rejection::FeedReset`].
    #[error("the caller is rejected: {0:?}")]
    Rejected(Rejection),
    /// Concurrent requests overtook every attempt of the named operation.
    #[error("{0} was overtaken too often")]
    Contended(&'static str),
    /// The table `history` has no row. A migration inserts it, and nothing deletes it.
    #[error("the database has no epoch")]
    NoHistory,
    /// A stored value does not have the type or form that the code expects.
    #[error("column {column} holds a value that cannot be")]
    Column {
        /// The column's name in the result.
        column: &'static str,
        /// The conversion error.
        #[source]
        source: BoxError,
    },
}

/// The SQLSTATE with which the SQL function `admit` refuses a blocked user.
const BLOCKED: &str = "SY001";

/// The SQLSTATE with which the SQL function `admit` refuses an epoch that is not the current one.
const OTHER_EPOCH: &str = "SY002";

/// The SQLSTATE with which the SQL function `admit` refuses a user who has erased the account.
const ERASED: &str = "SY003";

/// The SQLSTATE with which the SQL function `within` refuses what would exceed a limit.
const LIMIT_EXCEEDED: &str = "SY004";

impl Error {
    /// The error of a statement that PostgreSQL answered with an error.
    pub(crate) fn of_query(query: &'static str, source: tokio_postgres::Error) -> Self {
        match source.code().map(SqlState::code) {
            Some(BLOCKED) => Self::Rejected(Rejection::Blocked),
            Some(ERASED) => Self::Rejected(Rejection::Erased),
            Some(OTHER_EPOCH) => Self::Rejected(Rejection::FeedReset),
            Some(LIMIT_EXCEEDED) => {
                let error = source.as_db_error();
                let detail = error.and_then(DbError::detail).zip(error.and_then(DbError::hint));
                match detail.and_then(|(detail, hint)| Limit::from_error(detail, hint)) {
                    Some(limit) => Self::Rejected(Rejection::LimitExceeded(limit)),
                    None => Self::Query { query, source },
                }
            }
            _ => Self::Query { query, source },
        }
    }

    /// Whether the connection is broken, or its server is starting, shutting down or read-only after a
    /// failover. A new connection may succeed. The statement may have been committed.
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
            // Returned by a former primary after a failover.
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ];
        // Class 08 is "connection exception".
        others.contains(code) || code.code().starts_with("08")
    }

    /// Whether the cause may be the statement or its data, so that a smaller request may succeed.
    pub fn is_of_the_statement(&self) -> bool {
        match self {
            Self::Query { source, .. } => source.as_db_error().is_some() && !self.is_disconnection(),
            Self::QueryTimeout { .. } | Self::Column { .. } => true,
            _ => false,
        }
    }

    /// Whether a migration changed the result type of a prepared statement, which must then be prepared
    /// again. The statement was not executed.
    pub(crate) fn is_of_a_stale_statement(&self) -> bool {
        // PostgreSQL's message is "cached plan must not change result type".
        matches!(self, Self::Query { source, .. } if source.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED))
    }

    /// Whether the session can still be used: PostgreSQL answered with an error, so no response is
    /// outstanding.
    pub(crate) fn leaves_a_usable_session(&self) -> bool {
        match self {
            Self::Query { source, .. } => source.as_db_error().is_some() && !self.is_disconnection(),
            Self::Rejected(_) => true,
            _ => false,
        }
    }
}

/// Whether rustls refused the server, such as for a certificate that chains to no known root. Repeating does
/// not help.
fn is_refusal_of_certificate(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn StdError + Send + Sync>::is::<rustls::Error>)
}

/// Reason for a failed migration.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// Connecting failed, or a statement that is not part of a migration did.
    #[error(transparent)]
    Database(#[from] Error),
    /// A migration failed, or a migration that was applied earlier is missing or different now.
    #[error("the migrations could not be applied")]
    Migration(#[from] refinery::Error),
}

impl MigrationError {
    /// Whether PostgreSQL rejected the role or its password.
    pub fn is_refused_sign_in(&self) -> bool {
        matches!(self, Self::Database(Error::SignIn { .. }))
    }

    /// Whether connecting or authentication failed. A later attempt may succeed, such as when the database
    /// was just created or is failing over.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Database(Error::Connect(_) | Error::ConnectTimeout(_) | Error::SignIn { .. })
        )
    }
}
