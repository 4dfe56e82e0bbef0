//! Database permissions of the functions' role.

use std::collections::BTreeSet;

use tests::{BY_IAM, ROLE, TestDatabase};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

/// Opens a connection as the functions' role.
async fn as_role(database: &TestDatabase) -> Client {
    let url = database.url.replacen("postgres@", &format!("{ROLE}@"), 1);
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Names of the queries that the role may not run. PostgreSQL checks permissions even for `EXPLAIN`.
async fn refused(client: &Client) -> Vec<&'static str> {
    let mut refused = Vec::new();
    for (name, sql) in db::queries() {
        let explained = client
            .batch_execute(&format!("EXPLAIN (GENERIC_PLAN) {sql}"))
            .await;
        match explained {
            Ok(()) => {}
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => refused.push(name),
            Err(error) => panic!("{name}: {error:?}"),
        }
    }
    refused
}

#[tokio::test]
async fn the_role_may_run_every_statement_and_needs_every_right_for_it() {
    let database = TestDatabase::create().await;
    let client = as_role(&database).await;
    assert_eq!(refused(&client).await, [""; 0]);
    for (table, rights) in db::GRANTS {
        for right in *rights {
            database
                .execute(&format!("REVOKE {right} ON {table} FROM {ROLE}"))
                .await;
            assert!(
                !refused(&client).await.is_empty(),
                "{right} on {table} is needed by no statement"
            );
            database
                .execute(&format!("GRANT {right} ON {table} TO {ROLE}"))
                .await;
        }
    }
}

#[tokio::test]
async fn the_role_may_do_nothing_else() {
    let database = TestDatabase::create().await;
    let client = as_role(&database).await;
    for statement in [
        "SELECT FROM refinery_schema_history",
        "CREATE TABLE mine ()",
        "DROP TABLE outbox",
        "ALTER TABLE outbox ADD mine text",
        "TRUNCATE outbox",
        "UPDATE changes SET sequence = 1",
        "DELETE FROM history",
        "INSERT INTO bus_outbox SELECT event_id, now(), now() FROM changes",
        "UPDATE settings SET has_bus = true",
        "INSERT INTO history (epoch, restored) VALUES (gen_random_uuid(), true)",
        "CREATE ROLE mine",
    ] {
        let error = client.batch_execute(statement).await.unwrap_err();
        assert_eq!(
            error.code(),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE),
            "{statement}: {error:?}"
        );
    }
    // The list covers every table and view.
    let tables = database
        .rows("SELECT relname FROM pg_class WHERE relkind IN ('r', 'v') AND relnamespace = 'public'::regnamespace")
        .await;
    let tables: BTreeSet<String> = tables.iter().map(|row| row.get(0)).collect();
    let named = db::GRANTS.iter().map(|(table, _)| *table);
    let named: BTreeSet<String> = named
        .chain(["refinery_schema_history"])
        .map(str::to_owned)
        .collect();
    assert_eq!(tables, named);
}

#[tokio::test]
async fn rights_come_and_go_with_the_release_that_migrates() {
    let database = TestDatabase::create().await;
    database
        .execute(&format!(
            "GRANT TRUNCATE ON outbox TO {ROLE}; REVOKE SELECT ON files FROM {ROLE}"
        ))
        .await;
    db::migrate(&database.owner(), Some(BY_IAM), None).await.unwrap();
    let client = as_role(&database).await;
    let error = client.batch_execute("TRUNCATE outbox").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    client.batch_execute("SELECT FROM files").await.unwrap();
    let idle = client.query_one("SHOW idle_session_timeout", &[]).await.unwrap();
    assert_eq!(idle.get::<_, &str>(0), "10min");
}
