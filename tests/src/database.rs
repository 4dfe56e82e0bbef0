//! A database for each test.

use db::{Connector, Database, DatabaseUrl};
use fakes::BY_IAM;
use runner::postgres::ROLE;
use tokio_postgres::{Client, NoTls, Row};

use crate::stack;

/// A migrated database that no other test uses. It goes with the server, when `cargo xtask test` ends.
pub struct TestDatabase {
    /// Its URL, for who owns the schema.
    pub url: String,
    client: Client,
}

impl TestDatabase {
    /// Makes and migrates one.
    pub async fn create() -> Self {
        let database = Self::create_empty().await;
        db::migrate(&database.owner(), Some(BY_IAM)).await.unwrap();
        database
    }

    /// Makes one without a schema.
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

    /// Who owns the schema signs in.
    pub fn owner(&self) -> Connector {
        self.url.parse::<DatabaseUrl>().unwrap().into()
    }

    /// A connection as one environment has it: with the functions' rights.
    pub fn environment(&self) -> Database {
        Database::new(self.url.parse::<DatabaseUrl>().unwrap().for_user(ROLE, ""))
    }

    /// Another connection of who owns the schema.
    pub async fn another_client(&self) -> Client {
        connect(&self.url).await
    }

    /// Runs statements.
    pub async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// Rows of a query.
    pub async fn rows(&self, sql: &str) -> Vec<Row> {
        self.client.query(sql, &[]).await.unwrap()
    }

    /// The number that a query without parameters answers.
    pub async fn number(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Waits until no function is connected: what a dead one had begun is then either done or undone.
    pub async fn deserted(&self) {
        let connected = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'syncsphere'";
        while self.number(connected).await > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Prepares a statement, and says what PostgreSQL thinks of it.
    pub async fn prepare(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.prepare(sql).await.map(|_| ())
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
