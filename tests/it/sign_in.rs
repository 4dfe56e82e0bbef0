//! Functions sign in to a real PostgreSQL over TLS as they do to RDS. The test's role has a password that
//! equals the expected token, so PostgreSQL checks the token as RDS would.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_types::region::Region;
use db::{Connector, Database, DatabaseUrl, Role};
use platform::aws::Account;
use platform::rds::Tokens;
use platform::{Clock, error_chain};
use tests::{TestDatabase, TlsFront, project_file};
use time::macros::datetime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;

/// Deadline for a failed connection attempt.
const SECONDS: Duration = Duration::from_secs(4);

const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const SESSION: &str = "IQoJb3JpZ2lu+X2Vj/EXAMPLE==";

fn tokens(clock: &Clock) -> Tokens {
    let credentials = Credentials::new(KEY, SECRET, Some(SESSION.to_owned()), None, "test");
    let region = Region::new("eu-central-1");
    Tokens::new(Some(Account { credentials, region }), clock.clone())
}

/// A role and a database for one test, with their host and port.
struct Scenario {
    database: TestDatabase,
    role: String,
    name: String,
    front: TlsFront,
    clock: Clock,
}

impl Scenario {
    async fn new() -> Self {
        let database = TestDatabase::create_empty().await;
        let role = format!("signs_in_{}", platform::ids::new_id().simple());
        let by_iam = Role {
            name: &role,
            by_iam: true,
        };
        db::migrate(&database.owner(), Some(by_iam), None).await.unwrap();
        let (server, name) = database.url.rsplit_once('/').unwrap();
        let (_, port) = server.rsplit_once(':').unwrap();
        database.execute(&format!("GRANT by_password TO {role}")).await;
        Self {
            role,
            name: name.split('?').next().unwrap().to_owned(),
            front: TlsFront::start(port.parse().unwrap()).await.unwrap(),
            database,
            clock: Clock::manual(datetime!(2026-01-02 03:04:05 UTC)),
        }
    }

    fn url(&self, host: &str) -> DatabaseUrl {
        let Self {
            role, name, front, ..
        } = self;
        format!(
            "postgresql://{role}@{host}:{}/{name}?hostaddr=127.0.0.1",
            front.port
        )
        .parse()
        .unwrap()
    }

    /// Connector as functions use it, except that it trusts the test's certificate authority.
    fn connector(&self, host: &str) -> Connector {
        let url = self.url(host).with_authorities(self.front.authorities.clone());
        url.with_passwords(Arc::new(tokens(&self.clock)).passwords())
    }

    /// Connector as functions use it.
    fn amazons(&self, host: &str) -> Connector {
        self.url(host)
            .with_passwords(Arc::new(tokens(&self.clock)).passwords())
    }

    /// Sets the role's password to the token that is valid now, with the given expiry of the password.
    async fn expect_token(&self, valid_until: &str) {
        let token = tokens(&self.clock)
            .token("localhost", self.front.port, &self.role)
            .unwrap();
        let role = &self.role;
        self.database
            .execute(&format!(
                "ALTER ROLE {role} PASSWORD '{token}' VALID UNTIL '{valid_until}'"
            ))
            .await;
    }

    /// Result of using the database. Panics if it takes longer than [`SECONDS`].
    async fn attempt(&self, connector: Connector) -> Result<(), String> {
        let database = Database::new(connector);
        let started = Instant::now();
        let outcome = database.waiting_events(self.clock.now()).await;
        assert!(started.elapsed() < SECONDS, "{:?}", started.elapsed());
        outcome.map(|_| ()).map_err(|error| error_chain(&error))
    }
}

#[tokio::test]
async fn a_token_signs_in_over_tls() {
    let scenario = Scenario::new().await;
    scenario.expect_token("infinity").await;
    scenario.attempt(scenario.connector("localhost")).await.unwrap();
    let by_iam = format!(
        "SELECT count(*) FROM pg_roles WHERE rolname = '{}' AND pg_has_role(oid, 'rds_iam', 'MEMBER')",
        scenario.role
    );
    assert_eq!(scenario.database.number(&by_iam).await, 1);
}

#[tokio::test]
async fn a_wrong_or_expired_token_is_refused_in_seconds_and_the_log_says_who_was() {
    let scenario = Scenario::new().await;
    scenario.expect_token("infinity").await;
    scenario.clock.advance(time::Duration::minutes(1));
    for _ in ["wrong", "expired"] {
        let error = scenario
            .attempt(scenario.connector("localhost"))
            .await
            .unwrap_err();
        assert!(
            error.starts_with(&format!("the database refused to sign {} in: ", scenario.role)),
            "{error}"
        );
        assert!(error.contains("password authentication failed"), "{error}");
        assert!(!error.contains("X-Amz") && !error.contains(SESSION), "{error}");
        // The second time the token is correct but has expired.
        scenario.expect_token("2020-01-01").await;
    }
}

#[tokio::test]
async fn a_server_that_amazon_does_not_vouch_for_gets_no_token() {
    let scenario = Scenario::new().await;
    scenario.expect_token("infinity").await;
    let error = scenario.attempt(scenario.amazons("localhost")).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn a_server_of_another_name_gets_no_token() {
    let scenario = Scenario::new().await;
    scenario.expect_token("infinity").await;
    let error = scenario
        .attempt(scenario.connector("db.example"))
        .await
        .unwrap_err();
    assert!(error.contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_server_without_tls_gets_no_token() {
    let scenario = Scenario::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        socket.read_exact(&mut request).await.unwrap();
        socket.write_all(b"N").await.unwrap();
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest).await;
        rest
    });
    let front = TlsFront {
        port,
        ..scenario.front
    };
    let scenario = Scenario { front, ..scenario };
    let error = scenario
        .attempt(scenario.connector("localhost"))
        .await
        .unwrap_err();
    assert!(error.contains("server does not support TLS"), "{error}");
    assert!(received.await.unwrap().is_empty());
}

/// boto3 signs with its own current time, so the token is computed again here for the time in boto3's token.
#[tokio::test]
async fn a_token_is_what_boto3_makes() {
    let script = format!(
        "import boto3
session = boto3.Session('{KEY}', '{SECRET}', '{SESSION}', 'eu-central-1')
print(session.client('rds').generate_db_auth_token('db.abc.eu-central-1.rds.amazonaws.com', 5432, 'sync sphere+1'))"
    );
    let python = project_file(".local/tools/emulator/bin/python");
    let output = Command::new(python).args(["-c", &script]).output().await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let expected = String::from_utf8(output.stdout).unwrap();
    let expected = expected.trim();
    let (_, rest) = expected.split_once("X-Amz-Date=").unwrap();
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    let time = time::PrimitiveDateTime::parse(rest.split('&').next().unwrap(), &format).unwrap();

    let token = tokens(&Clock::manual(time.assume_utc()))
        .token("db.abc.eu-central-1.rds.amazonaws.com", 5432, "sync sphere+1")
        .unwrap();
    let parts = |token: &str| {
        let (target, query) = token.split_once("/?").unwrap();
        // Neither the order of parameters nor the encoding of a space (`+` or `%20`) matters.
        let mut parameters: Vec<String> = query.split('&').map(|part| part.replace('+', "%20")).collect();
        parameters.sort();
        (target.to_owned(), parameters)
    };
    assert_eq!(parts(&token), parts(expected));
}

/// Compares with the regions that botocore lists in the `aws` partition, the only one that the template
/// supports.
#[tokio::test]
async fn every_region_of_rds_has_authorities() {
    let script = "import boto3; print(*boto3.Session().get_available_regions('rds', 'aws'))";
    let python = project_file(".local/tools/sam/bin/python");
    let output = Command::new(python).args(["-c", script]).output().await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let listed = String::from_utf8(output.stdout).unwrap();
    assert!(listed.contains("us-east-1"), "{listed}");
    let mut missing: Vec<&str> = listed.split_whitespace().collect();
    missing.retain(|region| !db::rds_authorities::has_region(region));
    assert!(
        missing.is_empty(),
        "crates/db/amazon-rds.pem has no authorities of {missing:?}: run tools/rds_authorities.py"
    );
}
