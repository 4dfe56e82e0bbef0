//! The schema, and every query prepared against it.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::put;
use platform::Clock;
use platform::rds::Tokens;
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tests::{BY_IAM, OWNER_SECRET, ROLE, TestDatabase, sample};

type Answers = Arc<Mutex<Vec<Value>>>;

/// Fake of the S3 URL to which custom resources send their responses.
async fn cloud_formation() -> (String, Answers) {
    let answers = Answers::default();
    let take = async |State(answers): State<Answers>, body: String| {
        answers.lock().unwrap().push(serde_json::from_str(&body).unwrap());
    };
    let app = Router::new()
        .route("/answer", put(take))
        .with_state(Arc::clone(&answers));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/answer?signature=secret",
        listener.local_addr().unwrap()
    );
    tokio::spawn(async { axum::serve(listener, app).await });
    (url, answers)
}

async fn request(database_url: &str, name: &str) -> Value {
    request_as(database_url, ROLE, name).await
}

/// Invokes `migrate` with a sample, for functions that sign in as the given role.
async fn request_as(database_url: &str, role: &str, name: &str) -> Value {
    answer_of(&app(database_url, role), name).await
}

fn app(database_url: &str, role: &str) -> migrate::App {
    let url: db::DatabaseUrl = database_url.parse().unwrap();
    migrate::App {
        tokens: Arc::new(Tokens::new(None, Clock::system())),
        database_url: url.for_user(role, ""),
        owner: Some(migrate::Owner {
            secrets: aws_sdk_secretsmanager::Client::new(&tests::aws()),
            secret_arn: OWNER_SECRET.to_owned(),
        }),
        database_id: None,
        has_bus: false,
        retry_budget: Duration::ZERO,
        http: tests::http_client(),
    }
}

/// Response of the function to a sample event.
pub(crate) async fn answer_of(app: &migrate::App, name: &str) -> Value {
    client::install_crypto_provider();
    let (url, answers) = cloud_formation().await;
    let mut event = sample(name);
    event["ResponseURL"] = url.into();
    migrate::handle(app, serde_json::from_value(event).unwrap())
        .await
        .unwrap();
    let mut answers = answers.lock().unwrap();
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

#[tokio::test]
async fn every_query_prepares_against_the_migrated_schema() {
    let database = TestDatabase::create().await;
    let mut names = std::collections::BTreeSet::new();
    for (name, sql) in db::queries() {
        database
            .prepare(sql)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(
            name != "unnamed" && names.insert(name),
            "{name} needs a name of its own"
        );
    }
    // The lists contain every query in the source files.
    let sources = std::fs::read_dir(tests::project_file("crates/db/src")).unwrap();
    let declared = sources.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let declared: usize = declared.map(|source| source.matches(": Query = ").count()).sum();
    assert_eq!(names.len(), declared);
}

#[tokio::test]
async fn the_custom_resource_brings_the_schema_up_and_again_changes_nothing() {
    let database = TestDatabase::create_empty().await;
    for name in ["migrate.create", "migrate.update"] {
        let answer = request(&database.url, name).await;
        assert_eq!(answer["Status"], "SUCCESS", "{answer}");
        assert_eq!(answer["Data"]["SchemaVersion"], db::schema_version().to_string());
        assert_eq!(answer["PhysicalResourceId"], "syncsphere-schema");
        assert_eq!(answer["RequestId"], sample(name)["RequestId"]);
    }
    database
        .execute(
            "SELECT FROM spaces, members, files, versions, uploads, changes, outbox, connections, tickets",
        )
        .await;
}

/// Also after a rollback of the functions, on the schema of a later release.
#[tokio::test]
async fn a_deployment_says_whether_changes_go_to_an_event_bus() {
    let database = TestDatabase::create_empty().await;
    let mut app = app(&database.url, ROLE);
    for (has_bus, later) in [(true, false), (true, false), (false, false), (true, true)] {
        if later {
            let rollback = "INSERT INTO refinery_schema_history
                SELECT version + 1, 'later', applied_on, checksum FROM refinery_schema_history
                ORDER BY version DESC LIMIT 1";
            database.execute(rollback).await;
        }
        app.has_bus = has_bus;
        let answer = answer_of(&app, "migrate.update").await;
        assert_eq!(answer["Status"], "SUCCESS", "{answer}");
        let said = database.number("SELECT has_bus::int::bigint FROM settings").await;
        assert_eq!(said, i64::from(has_bus), "{later}");
    }
}

#[tokio::test]
async fn two_deployments_at_once_both_succeed() {
    let database = TestDatabase::create_empty().await;
    let owner = database.owner();
    let role = Some(BY_IAM);
    let (one, other) = tokio::join!(db::migrate(&owner, role, None), db::migrate(&owner, role, None));
    let migrations = std::fs::read_dir(tests::project_file("crates/db/migrations")).unwrap();
    assert_eq!(one.unwrap().applied + other.unwrap().applied, migrations.count());
}

#[tokio::test]
async fn a_release_that_is_taken_back_leaves_the_schema_of_the_later_one() {
    let database = TestDatabase::create().await;
    let later = db::schema_version() + 1;
    database
        .execute(&format!(
            "INSERT INTO refinery_schema_history SELECT {later}, 'later', applied_on, checksum
                FROM refinery_schema_history WHERE version = {};
            REVOKE SELECT ON files FROM {ROLE}",
            db::schema_version()
        ))
        .await;
    let answer = request(&database.url, "migrate.update").await;
    assert_eq!(answer["Status"], "SUCCESS", "{answer}");
    assert_eq!(answer["Data"]["SchemaVersion"], later.to_string());
    // Permissions are left unchanged too.
    let may = format!("SELECT has_table_privilege('{ROLE}', 'files', 'SELECT')::int::bigint");
    assert_eq!(database.number(&may).await, 0);
}

#[tokio::test]
async fn the_owner_is_not_made_the_role_of_functions() {
    let database = TestDatabase::create_empty().await;
    let answer = request_as(&database.url, "postgres", "migrate.create").await;
    assert_eq!(answer["Status"], "FAILED");
    let reason = answer["Reason"].as_str().unwrap();
    assert!(reason.contains("functions sign in as another role"), "{reason}");
}

#[tokio::test]
async fn a_role_with_a_password_is_not_signed_in_by_iam() {
    let database = TestDatabase::create_empty().await;
    let name = format!("by_password_{}", platform::ids::new_id().simple());
    let role = db::Role {
        name: &name,
        by_iam: false,
    };
    db::migrate(&database.owner(), Some(role), None).await.unwrap();
    let member = format!("SELECT pg_has_role('{name}', 'rds_iam', 'MEMBER')::int::bigint");
    assert_eq!(database.number(&member).await, 0);
}

#[tokio::test]
async fn deleting_the_resource_leaves_the_data() {
    let database = TestDatabase::create().await;
    assert_eq!(
        request(&database.url, "migrate.delete").await["Status"],
        "SUCCESS"
    );
    assert_eq!(database.number("SELECT count(*) FROM spaces").await, 0);
}

#[tokio::test]
async fn a_failure_is_answered_with_its_reason_and_without_the_password() {
    let answer = request(
        "postgresql://u:hunter2@127.0.0.1:9/x?sslmode=disable",
        "migrate.create",
    )
    .await;
    assert_eq!(answer["Status"], "FAILED");
    assert!(
        answer["Reason"]
            .as_str()
            .unwrap()
            .contains("cannot connect to the database"),
        "{answer}"
    );
    assert!(!answer.to_string().contains("hunter2"));
}

/// The certificate of such a database could never be verified. The host name does not resolve, so a
/// connection attempt would fail with a different reason.
#[tokio::test]
async fn a_region_without_authorities_is_the_reason_of_a_failure() {
    let url = "postgresql://syncsphere@db.abc.xx-nowhere-1.rds.amazonaws.com:5432/syncsphere";
    let answer = request(url, "migrate.create").await;
    assert_eq!(answer["Status"], "FAILED");
    let reason = answer["Reason"].as_str().unwrap();
    assert!(
        reason.contains("region xx-nowhere-1") && reason.contains("run tools/rds_authorities.py"),
        "{reason}"
    );
}
