//! The connection to PostgreSQL. It is opened on first use, kept open between requests and replaced once it
//! is closed.

use std::collections::HashMap;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::maybe_done;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement as Prepared};
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

/// A query with its parameters.
pub(crate) type Statement<'a> = (&'a Query, &'a [&'a (dyn ToSql + Sync)]);

/// The database client of one Lambda execution environment. It holds at most one connection.
pub struct Database {
    connector: Connector,
    session: Mutex<Option<Session>>,
}

struct Session {
    client: Client,
    prepared: HashMap<&'static str, Prepared>,
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
        lock: Statement<'_>,
        statement: Statement<'_>,
    ) -> Result<Vec<Row>, Error> {
        let locked = self.queries_locked(lock, &[statement]).await?;
        Ok(locked.rows.into_iter().flatten().collect())
    }

    /// As `query_locked` for several statements, in this order. Each sees the effects of those before it. All
    /// are pipelined in one round trip.
    pub(crate) async fn queries_locked(
        &self,
        lock: Statement<'_>,
        statements: &[Statement<'_>],
    ) -> Result<Locked, Error> {
        let name = statements
            .first()
            .map_or(lock.0.name(), |(query, _)| query.name());
        let mut attempts = 0;
        let rows = self.with_reconnect(name, async |session| {
            attempts += 1;
            let locking = session.prepare(lock.0).await?;
            let mut prepared = Vec::with_capacity(statements.len());
            for (query, parameters) in statements {
                prepared.push((session.prepare(query).await?, *parameters));
            }
            let client = &session.client;
            let running = prepared
                .iter()
                .map(|(statement, parameters)| client.query(statement, parameters));
            let (begun, locked, rows, committed) = tokio::join!(
                biased;
                client.batch_execute("BEGIN"),
                client.query(&locking, lock.1),
                in_order(running),
                client.batch_execute("COMMIT"),
            );
            begun?;
            let locked = locked?;
            let rows = rows.into_iter().collect::<Result<_, _>>()?;
            committed?;
            Ok((locked, rows))
        });
        let (lock, rows) = rows.await?;
        Ok(Locked {
            lock,
            rows,
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

/// Waits for all of these futures. Each is polled for the first time after those before it, so requests are
/// sent in this order.
async fn in_order<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| Box::pin(maybe_done(future))).collect();
    poll_fn(|context| {
        let mut pending = false;
        for future in &mut futures {
            pending |= future.as_mut().poll(context).is_pending();
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    futures
        .iter_mut()
        .filter_map(|future| future.as_mut().take_output())
        .collect()
}

/// The result of statements that ran under a lock.
pub(crate) struct Locked {
    /// The rows of the lock.
    pub(crate) lock: Vec<Row>,
    /// The rows of each.
    pub(crate) rows: Vec<Vec<Row>>,
    /// Whether there was more than one attempt. If so, a statement may have found the effects of its own
    /// earlier attempt.
    pub(crate) repeated: bool,
}

impl Session {
    async fn prepare(&mut self, query: &Query) -> Result<Prepared, tokio_postgres::Error> {
        if let Some(statement) = self.prepared.get(query.sql()) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(query.sql()).await?;
        self.prepared.insert(query.sql(), statement.clone());
        Ok(statement)
    }
}
