//! The database URL: host, role, authentication, and the root certificates to verify the server with.

use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::ring;
use thiserror::Error as ThisError;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::warn;

use crate::error::{BoxError, Error};
use crate::rds_authorities;
use crate::role::Role;

/// Timeout of connecting, including TLS and authentication. With the query timeout of 1.5 s, a database that
/// hangs causes an error within 3 s.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Time without acknowledgement of sent bytes after which the connection counts as dead (`TCP_USER_TIMEOUT`).
/// It is below the query timeout, so that a query can be repeated on a new connection when a replaced server
/// has disappeared without closing the old one.
const TCP_USER_TIMEOUT: Duration = Duration::from_millis(600);

/// PostgreSQL's default port, for URLs without a port.
const DEFAULT_PORT: u16 = 5432;

/// A database URL: `postgresql://user:password@host:port/name`. Secret, because it may hold a password.
///
/// The URL decides the authentication:
///
/// - With a password: that password is used, and the server is verified against public root certificates.
/// - Without a password: each connection gets a new password from [`Passwords`], such as an RDS IAM token,
///   and the server is verified against Amazon's root certificates for RDS.
/// - With `sslmode=disable`: the connection is not encrypted, and no generated password is sent.
#[derive(Clone)]
pub struct DatabaseUrl {
    config: Config,
    authorities: TrustRoots,
}

/// Root certificates that the database's certificate must chain to.
#[derive(Clone)]
enum TrustRoots {
    AmazonRds,
    Public,
    Given(RootCertStore),
}

/// The text is not a database URL with exactly one host and a user. The error does not repeat the text, which
/// may hold a password.
#[derive(Debug, ThisError)]
#[error("not a PostgreSQL URL (postgresql://user:password@host:port/database)")]
pub struct InvalidDatabaseUrl;

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(url: &str) -> Result<Self, InvalidDatabaseUrl> {
        let mut config: Config = url.parse().map_err(|_| InvalidDatabaseUrl)?;
        if config.get_hosts().len() != 1 || config.get_user().is_none() {
            return Err(InvalidDatabaseUrl);
        }
        // With `prefer`, the default, an attacker who claims that the server has no TLS would get plain text.
        if config.get_ssl_mode() != SslMode::Disable {
            config.ssl_mode(SslMode::Require);
        }
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(TCP_USER_TIMEOUT)
            .application_name("syncsphere");
        let authorities = match config.get_password() {
            Some(_) => TrustRoots::Public,
            None => TrustRoots::AmazonRds,
        };
        Ok(Self { config, authorities })
    }
}

impl DatabaseUrl {
    /// The role that signs in. It signs in by IAM if the URL has no password.
    pub fn role(&self) -> Role<'_> {
        Role {
            name: self.user(),
            by_iam: self.config.get_password().is_none(),
        }
    }

    fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    /// The same server for another user with a password. The root certificates stay the same: on RDS, a
    /// schema owner may have a password too.
    #[must_use]
    pub fn for_user(&self, user: &str, password: &str) -> Self {
        let mut url = self.clone();
        url.config.user(user).password(password);
        url
    }

    /// The same server for another user who signs in by IAM. `None` if the URL has a password or disables
    /// TLS.
    pub fn for_user_by_iam(&self, user: &str) -> Option<Self> {
        let by_iam = self.role().by_iam && self.config.get_ssl_mode() != SslMode::Disable;
        by_iam.then(|| {
            let mut url = self.clone();
            url.config.user(user);
            url
        })
    }

    /// Verifies the server against these root certificates instead.
    #[must_use]
    pub fn with_authorities(mut self, authorities: RootCertStore) -> Self {
        self.authorities = TrustRoots::Given(authorities);
        self
    }

    /// Creates a connector that generates a password for each connection if the URL has none.
    pub fn with_passwords(self, passwords: Passwords) -> Connector {
        Connector {
            passwords: Some(passwords),
            ..self.into()
        }
    }

    fn host(&self) -> &str {
        match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => host,
            _ => "",
        }
    }

    fn port(&self) -> u16 {
        self.config.get_ports().first().copied().unwrap_or(DEFAULT_PORT)
    }
}

/// Generates the password for one connection. The arguments are the host name as written in the URL, the port
/// and the role's name.
pub type Passwords = Box<dyn Fn(&str, u16, &str) -> Result<String, BoxError> + Send + Sync>;

/// Connects to one database as one role.
pub struct Connector {
    url: DatabaseUrl,
    passwords: Option<Passwords>,
    /// Created once: parsing all root certificates takes longer than connecting.
    tls: OnceLock<MakeRustlsConnect>,
}

impl From<DatabaseUrl> for Connector {
    fn from(url: DatabaseUrl) -> Self {
        Self {
            url,
            passwords: None,
            tls: OnceLock::new(),
        }
    }
}

impl Connector {
    /// Connects with options for the session, such as `-c lock_timeout=5s`.
    pub(crate) async fn connect(&self, options: &str) -> Result<Client, Error> {
        timeout(CONNECT_TIMEOUT, self.connect_and_sign_in(options))
            .await
            .unwrap_or(Err(Error::ConnectTimeout(CONNECT_TIMEOUT)))
    }

    async fn connect_and_sign_in(&self, options: &str) -> Result<Client, Error> {
        let mut config = self.url.config.clone();
        // PostgreSQL applies the last value of an option, so options in the URL take precedence.
        config.options(format!("{options} {}", self.url.config.get_options().unwrap_or_default()).trim());
        let failed = |error: tokio_postgres::Error| {
            // Class 28 is "invalid authorization specification".
            match error.code() {
                Some(code) if code.code().starts_with("28") => Error::SignIn {
                    user: self.url.user().to_owned(),
                    source: error,
                },
                _ => Error::Connect(error),
            }
        };
        if config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
            tokio::spawn(drive(connection));
            return Ok(client);
        }
        if config.get_password().is_none() {
            let passwords = self.passwords.as_ref().ok_or(Error::NoPassword)?;
            let password = passwords(self.url.host(), self.url.port(), self.url.user());
            config.password(password.map_err(Error::Password)?);
        }
        let (client, connection) = config.connect(self.tls()?).await.map_err(failed)?;
        tokio::spawn(drive(connection));
        Ok(client)
    }

    fn tls(&self) -> Result<MakeRustlsConnect, Error> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls.clone());
        }
        let authorities = match &self.url.authorities {
            TrustRoots::AmazonRds => amazon_rds(self.url.host())?,
            TrustRoots::Public => public()?,
            TrustRoots::Given(authorities) => authorities.clone(),
        };
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::TrustRoots(error.into()))?
            .with_root_certificates(authorities)
            .with_no_client_auth();
        Ok(self.tls.get_or_init(|| MakeRustlsConnect::new(tls)).clone())
    }
}

/// Runs the connection's I/O until it is closed. A query that is running gets the error itself, so here the
/// error is only logged.
async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        warn!(?error, "the database connection ended");
    }
}

/// Amazon's root certificates for RDS. Fails, before anything is sent, if the host is in an AWS region
/// without a root certificate here.
fn amazon_rds(host: &str) -> Result<RootCertStore, Error> {
    if let Some(region) = rds_authorities::region_of_endpoint(host)
        && !rds_authorities::has_region(region)
    {
        return Err(Error::NoAuthorities {
            region: region.to_owned(),
        });
    }
    rds_authorities::store()
}

fn public() -> Result<RootCertStore, Error> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut authorities = RootCertStore::empty();
    let (added, _) = authorities.add_parsable_certificates(loaded.certs);
    if added == 0 {
        let reason = loaded.errors.into_iter().next();
        return Err(Error::TrustRoots(
            reason.map_or_else(|| "the system has none".into(), Into::into),
        ));
    }
    Ok(authorities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_required_unless_the_url_disables_it() {
        let mode = |url: &str| {
            url.parse::<DatabaseUrl>()
                .map(|url| url.config.get_ssl_mode())
                .ok()
        };
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
            "postgresql://u:secret@one.example,other.example/x",
        ] {
            let Err(error) = url.parse::<DatabaseUrl>() else {
                panic!("{url} was taken")
            };
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn a_password_is_made_for_what_the_url_names() {
        let url: DatabaseUrl = "postgresql://syncsphere@db.example/x".parse().unwrap();
        assert_eq!(
            (url.host(), url.port(), url.user()),
            ("db.example", 5432, "syncsphere")
        );
        let url: DatabaseUrl = "postgresql://u@db.example:7/x".parse().unwrap();
        assert_eq!(url.port(), 7);
    }

    /// The host name does not resolve, so an attempt to connect would return another error.
    #[tokio::test]
    async fn a_region_without_authorities_is_named_before_anything_is_sent() {
        let url = "postgresql://syncsphere@db.abc.xx-nowhere-1.rds.amazonaws.com/x";
        let url: DatabaseUrl = url.parse().unwrap();
        let by_password = url.for_user("owner", "password").into();
        let by_iam = url.with_passwords(Box::new(|_, _, _| Ok(String::new())));
        for connector in [by_password, by_iam] {
            let error = Connector::connect(&connector, "").await.unwrap_err();
            assert!(
                matches!(&error, Error::NoAuthorities { region } if region == "xx-nowhere-1"),
                "{error:?}"
            );
            let said = error.to_string();
            assert!(
                said.contains("xx-nowhere-1") && said.contains("tools/rds_authorities.py"),
                "{said}"
            );
            assert!(!crate::MigrationError::from(error).is_unreachable());
        }
    }

    #[test]
    fn another_user_signs_in_by_iam_only_where_the_urls_user_does() {
        let by_iam = |url: &str| {
            let url: DatabaseUrl = url.parse().unwrap();
            let other = url.for_user_by_iam("owner");
            other.map(|url| (url.user().to_owned(), url.role().by_iam))
        };
        assert_eq!(
            by_iam("postgresql://u@db.example/x"),
            Some(("owner".to_owned(), true))
        );
        assert_eq!(by_iam("postgresql://u:p@db.example/x"), None);
        assert_eq!(by_iam("postgresql://u@db.example/x?sslmode=disable"), None);
    }
}
