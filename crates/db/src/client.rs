//! The connection to PostgreSQL. It is opened on first use, kept open between requests and replaced once it
//! is closed.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use tracing::warn;

use crate::connect::Connector;
use crate::error::Error;
use crate::query::Query;

/// Timeout of one attempt to prepare and run a statement or a locked transaction, without the time to
/// connect.
const QUERY_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Deadline of a call, with all reconnects and repetitions.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(3);

/// Pause after a failed connection attempt, before the next one.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// `statement_timeout` of the session. It is below [`QUERY_TIMEOUT`], so that PostgreSQL cancels a statement
/// before the client stops waiting for it. In a locked transaction it applies to the lock and to the
/// statement separately.
const STATEMENT_TIMEOUT: &str = "1400ms";

/// The database client of one Lambda execution environment. It holds at most one connection.
pub struct Database {
    connector: Connector,
    session: Mutex<Option<Session>>,
}

struct Session {
    client: Client,
    prepared: HashMap<&'static str, Statement>,
}

impl Database {
    /// Creates a client without connecting. The first query or [`warm_up`](Self::warm_up) connects.
    pub fn new(connector: impl Into<Connector>) -> Self {
        Self {
            connector: connector.into(),
            session: Mutex::new(None),
        }
    }

    /// Connects during initialization, so that the first request does not have to. A failure is only logged:
    /// the first request tries again and reports the error.
    pub async fn warm_up(&self) {
        let mut session = self.session.lock().await;
        if let Err(error) = self.connected(&mut session).await {
            warn!(?error, "no database connection at start");
        }
    }

    async fn connected<'s>(&self, session: &'s mut Option<Session>) -> Result<&'s mut Session, Error> {
        let living = session.take().filter(|session| !session.client.is_closed());
        let connected = if let Some(living) = living {
            living
        } else {
            let options = format!("-c statement_timeout={STATEMENT_TIMEOUT}");
            Session {
                client: self.connector.connect(&options).await?,
                prepared: HashMap::new(),
            }
        };
        Ok(session.insert(connected))
    }

    /// Runs one statement. It is prepared on its first use in a session.
    pub(crate) async fn rows(
        &self,
        query: &Query,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        self.with_reconnect(query.name(), async |session| {
            let statement = session.prepare(query).await?;
            session.client.query(&statement, parameters).await
        })
        .await
    }

    /// Runs one statement in a transaction that first takes a lock. `BEGIN`, lock, statement and `COMMIT` are
    /// pipelined in one round trip. The statement sees everything that was committed before the lock was
    /// granted.
    pub(crate) async fn query_locked(
        &self,
        lock: (&Query, &[&(dyn ToSql + Sync)]),
        query: (&Query, &[&(dyn ToSql + Sync)]),
    ) -> Result<Locked, Error> {
        let mut attempts = 0;
        let rows = self.with_reconnect(query.0.name(), async |session| {
            attempts += 1;
            let locking = session.prepare(lock.0).await?;
            let statement = session.prepare(query.0).await?;
            let client = &session.client;
            let (begun, locked, rows, committed) = tokio::join!(
                biased;
                client.batch_execute("BEGIN"),
                client.query(&locking, lock.1),
                client.query(&statement, query.1),
                client.batch_execute("COMMIT"),
            );
            begun?;
            locked?;
            let rows = rows?;
            committed?;
            Ok(rows)
        });
        Ok(Locked {
            rows: rows.await?,
            repeated: attempts > 1,
        })
    }

    /// Runs statements, and repeats them on a new connection if the current one is dead: the server was
    /// restarted or replaced, or it closed the connection while Lambda had the environment frozen. The first
    /// attempt may have been committed, so the statements must be safe to repeat.
    async fn with_reconnect<T>(
        &self,
        query: &'static str,
        mut run: impl AsyncFnMut(&mut Session) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + EXCHANGE_TIMEOUT;
        let mut session = self.session.lock().await;
        let mut prepared_again = false;
        loop {
            let error = match timeout_at(deadline, self.attempt(&mut session, query, &mut run)).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_) => Error::QueryTimeout {
                    query,
                    after: EXCHANGE_TIMEOUT,
                },
            };
            if error.is_of_a_stale_statement()
                && !prepared_again
                && let Some(session) = session.as_mut()
            {
                warn!(?error, "query {query} is prepared again");
                session.prepared.clear();
                prepared_again = true;
                continue;
            }
            if !error.leaves_a_usable_session() {
                *session = None;
            }
            if !error.is_disconnection() || Instant::now() + RECONNECT_PAUSE >= deadline {
                return Err(error);
            }
            warn!(?error, "query {query} is repeated on a new connection");
            if matches!(error, Error::Connect(_)) {
                sleep(RECONNECT_PAUSE).await;
            }
        }
    }

    async fn attempt<T>(
        &self,
        session: &mut Option<Session>,
        query: &'static str,
        run: &mut impl AsyncFnMut(&mut Session) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Error> {
        let session = self.connected(session).await?;
        match timeout(QUERY_TIMEOUT, run(session)).await {
            Ok(answer) => answer.map_err(|source| Error::of_query(query, source)),
            Err(_) => Err(Error::QueryTimeout {
                query,
                after: QUERY_TIMEOUT,
            }),
        }
    }
}

/// The result of a statement that ran under a lock.
pub(crate) struct Locked {
    pub(crate) rows: Vec<Row>,
    /// Whether there was more than one attempt. If so, the statement may have found the effects of its own
    /// earlier attempt.
    pub(crate) repeated: bool,
}

impl Session {
    async fn prepare(&mut self, query: &Query) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.prepared.get(query.sql()) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(query.sql()).await?;
        self.prepared.insert(query.sql(), statement.clone());
        Ok(statement)
    }
}
