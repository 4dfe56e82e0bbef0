//! One PostgreSQL database per test.

use db::{Connector, Database, DatabaseUrl, Role};
use fakes::postgres::Relay;
use runner::postgres::ROLE;
use tokio_postgres::{Client, NoTls, Row};

use crate::stack;

/// The functions' role, with the same rights and IAM authentication as on RDS.
pub const BY_IAM: Role<'_> = Role {
    name: ROLE,
    by_iam: true,
};

/// Migrated database that no other test uses. It is deleted with the server when `cargo xtask test` ends.
pub struct TestDatabase {
    /// URL with the schema owner's user.
    pub url: String,
    client: Client,
}

impl TestDatabase {
    /// Creates a database and runs all migrations.
    pub async fn create() -> Self {
        let database = Self::create_empty().await;
        db::migrate(&database.owner(), Some(BY_IAM), None).await.unwrap();
        database
    }

    /// Creates a database without a schema.
    pub async fn create_empty() -> Self {
        let name = format!("test_{}", platform::ids::new_id().simple());
        let admin = connect(&stack().database_url).await;
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap();
        let (server, _) = stack().database_url.rsplit_once('/').unwrap();
        let url = format!("{server}/{name}?sslmode=disable");
        Self {
            client: connect(&url).await,
            url,
        }
    }

    /// Connector that signs in as the schema's owner.
    pub fn owner(&self) -> Connector {
        self.url.parse::<DatabaseUrl>().unwrap().into()
    }

    /// New client as one execution environment has it, with the permissions of the functions' role.
    pub fn environment(&self) -> Database {
        Database::new(self.url.parse::<DatabaseUrl>().unwrap().for_user(ROLE, ""))
    }

    /// Starts a relay to the server that counts round trips.
    pub async fn relay(&self) -> Relay {
        let (server, _) = self.url.rsplit_once('/').unwrap();
        let (_, address) = server.rsplit_once('@').unwrap();
        Relay::start(address.parse().unwrap(), None).await.unwrap()
    }

    /// As `environment`, through a relay.
    pub fn environment_through(&self, relay: &Relay) -> Database {
        let (server, name) = self.url.rsplit_once('/').unwrap();
        let (user, _) = server.rsplit_once('@').unwrap();
        let url = format!("{user}@127.0.0.1:{}/{name}", relay.port());
        Database::new(url.parse::<DatabaseUrl>().unwrap().for_user(ROLE, ""))
    }

    /// Opens another connection as the schema's owner.
    pub async fn another_client(&self) -> Client {
        connect(&self.url).await
    }

    /// Runs one or more SQL statements as the schema's owner, without parameters.
    pub async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// Runs a query without parameters and returns its rows.
    pub async fn rows(&self, sql: &str) -> Vec<Row> {
        self.client.query(sql, &[]).await.unwrap()
    }

    /// Runs a query without parameters that returns one `bigint`.
    pub async fn number(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Waits until no function is connected. A transaction of a killed function is then committed or rolled
    /// back.
    pub async fn wait_until_disconnected(&self) {
        let connected = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'syncsphere'";
        while self.number(connected).await > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Prepares a statement without running it; returns PostgreSQL's error if the statement is invalid.
    pub async fn prepare(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.prepare(sql).await.map(|_| ())
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
