//! The connection to PostgreSQL: made when needed, kept while it lives, replaced when it died.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error as ThisError;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::warn;

use crate::error::Error;
use crate::query::Query;

/// How long connecting may take, TLS and sign-in included. A hung database surfaces within 3 s altogether.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long the client waits for an answer to one exchange.
const QUERY_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long bytes may stay unacknowledged until the connection is dead: short of the query's own, so that it can be repeated on a new
/// one when a former server has gone without a word.
const TCP_USER_TIMEOUT: Duration = Duration::from_millis(600);

/// How long an exchange may take with all that is repeated.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a database that is starting is left alone before it is asked again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// How long PostgreSQL works on one statement: a little less, so that it stops before the client gives up on it.
const STATEMENT_TIMEOUT: &str = "1400ms";

/// Where the database is: `postgresql://user:password@host:port/name`. Secret, because of the password.
#[derive(Clone)]
pub struct DatabaseUrl(Config);

/// The text is no database URL. The text is not repeated, for it may hold a password.
#[derive(Debug, ThisError)]
#[error("not a PostgreSQL URL (postgresql://user:password@host:port/database)")]
pub struct InvalidDatabaseUrl;

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(url: &str) -> Result<Self, InvalidDatabaseUrl> {
        let mut config: Config = url.parse().map_err(|_| InvalidDatabaseUrl)?;
        if config.get_hosts().is_empty() || config.get_user().is_none() {
            return Err(InvalidDatabaseUrl);
        }
        // `prefer`, the default, would fall back to plain text when an attacker says that there is no TLS.
        if config.get_ssl_mode() != SslMode::Disable {
            config.ssl_mode(SslMode::Require);
        }
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(TCP_USER_TIMEOUT)
            .application_name("syncsphere");
        Ok(Self(config))
    }
}

impl DatabaseUrl {
    /// Connects, over verified TLS unless the URL says `sslmode=disable`.
    pub(crate) async fn connect(&self, options: &str) -> Result<Client, Error> {
        let mut config = self.0.clone();
        // What the URL says comes last, so it wins.
        config.options(format!("{options} {}", self.0.get_options().unwrap_or_default()).trim());
        let connecting = async {
            if config.get_ssl_mode() == SslMode::Disable {
                let (client, connection) = config.connect(NoTls).await.map_err(Error::Connect)?;
                tokio::spawn(drive(connection));
                Ok(client)
            } else {
                let (client, connection) = config.connect(verified_tls()?).await.map_err(Error::Connect)?;
                tokio::spawn(drive(connection));
                Ok(client)
            }
        };
        timeout(CONNECT_TIMEOUT, connecting)
            .await
            .unwrap_or(Err(Error::ConnectTimeout(CONNECT_TIMEOUT)))
    }
}

/// Moves bytes between client and server until either is done. What breaks shows in the query that it breaks, so between
/// queries it is only worth a warning.
async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        warn!(?error, "the database connection ended");
    }
}

fn verified_tls() -> Result<MakeRustlsConnect, Error> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = rustls::RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(loaded.certs);
    if added == 0 {
        let reason = loaded
            .errors
            .first()
            .map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(Error::RootCertificates(std::io::Error::other(reason)));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::RootCertificates(std::io::Error::other(error)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(tls))
}

/// The database, as one environment sees it.
pub struct Database {
    url: DatabaseUrl,
    session: Mutex<Option<Session>>,
}

struct Session {
    client: Client,
    prepared: HashMap<&'static str, Statement>,
}

impl Database {
    /// Connects nowhere yet.
    pub fn new(url: DatabaseUrl) -> Self {
        Self {
            url,
            session: Mutex::new(None),
        }
    }

    /// Connects while the environment starts, so that its first request need not. A failure is not one yet: the first
    /// request tries again and answers for it.
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
                client: self.url.connect(&options).await?,
                prepared: HashMap::new(),
            }
        };
        Ok(session.insert(connected))
    }

    /// Runs one statement, prepared on its first use in this session.
    pub(crate) async fn rows(
        &self,
        query: &Query,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        self.exchange(query.name(), async |session| {
            let statement = session.prepare(query).await?;
            session.client.query(&statement, parameters).await
        })
        .await
    }

    /// Runs one statement after taking a lock that ends with it, in one round trip: the four messages travel together.
    /// The statement sees all that was committed before the lock was given.
    pub(crate) async fn rows_locked(
        &self,
        lock: (&Query, &[&(dyn ToSql + Sync)]),
        query: (&Query, &[&(dyn ToSql + Sync)]),
    ) -> Result<Locked, Error> {
        let mut attempts = 0;
        let rows = self.exchange(query.0.name(), async |session| {
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

    /// Runs statements, and runs them again on a new connection if this one turns out to be dead: the server was restarted or
    /// replaced, or closed it while Lambda had the environment frozen. They may have been done all the same, so they must be
    /// harmless to repeat.
    async fn exchange<T>(
        &self,
        query: &'static str,
        mut run: impl AsyncFnMut(&mut Session) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + EXCHANGE_TIMEOUT;
        let mut session = self.session.lock().await;
        loop {
            let error = match timeout_at(deadline, self.attempt(&mut session, query, &mut run)).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_) => Error::QueryTimeout {
                    query,
                    after: EXCHANGE_TIMEOUT,
                },
            };
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
            Ok(answer) => answer.map_err(|source| Error::Query { query, source }),
            Err(_) => Err(Error::QueryTimeout {
                query,
                after: QUERY_TIMEOUT,
            }),
        }
    }
}

/// What a statement under a lock answered.
pub(crate) struct Locked {
    pub(crate) rows: Vec<Row>,
    /// Whether it ran more than once, so that it may have found what it did itself.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_required_unless_the_url_disables_it() {
        let mode = |url: &str| url.parse::<DatabaseUrl>().map(|url| url.0.get_ssl_mode()).ok();
        assert_eq!(mode("postgresql://u:p@db.example/x"), Some(SslMode::Require));
        assert_eq!(
            mode("postgresql://u:p@db.example/x?sslmode=prefer"),
            Some(SslMode::Require)
        );
        assert_eq!(
            mode("postgresql://u:p@db.example/x?sslmode=disable"),
            Some(SslMode::Disable)
        );
    }

    #[test]
    fn an_invalid_url_is_not_repeated() {
        for url in [
            "",
            "http://secret@example.org",
            "postgresql://",
            "host=secret password",
        ] {
            let Err(error) = url.parse::<DatabaseUrl>() else {
                panic!("{url} was taken")
            };
            assert!(!error.to_string().contains("secret"));
        }
    }
}
