//! The schema's owner with the attributes that it has on RDS: not a superuser, and authenticated by IAM once
//! it is a member of `rds_iam`.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_types::region::Region;
use db::DatabaseUrl;
use platform::Clock;
use platform::aws::Account;
use platform::rds::Tokens;
use serde_json::{Value, json};
use tests::{TestDatabase, TlsFront};
use time::macros::datetime;
use tokio::sync::Mutex;

use crate::migrations::answer_of;

/// Password in the secret. RDS requires it until the owner is a member of `rds_iam`.
const PASSWORD: &str = "hunter2";

/// Locks the server's authentication rules (`pg_hba.conf`), which all databases share, while a test changes
/// them.
static RULES: Mutex<()> = Mutex::const_new(());

/// A database with a new owner, and everything that `migrate` needs to sign in to it.
struct Rds {
    database: TestDatabase,
    name: String,
    owner: String,
    role: String,
    front: TlsFront,
    tokens: Arc<Tokens>,
    clock: Clock,
}

impl Rds {
    /// Creates a database and its owner with these role attributes.
    async fn with_owner(attributes: &str) -> Self {
        let database = TestDatabase::create_empty().await;
        let id = platform::ids::new_id().simple();
        let (owner, role) = (format!("owner_{id}"), format!("functions_{id}"));
        let (server, name) = database.url.rsplit_once('/').unwrap();
        let name = name.split('?').next().unwrap().to_owned();
        let (_, port) = server.rsplit_once(':').unwrap();
        database
            .execute(&format!(
                "CREATE ROLE {owner} LOGIN {attributes}; ALTER DATABASE {name} OWNER TO {owner}"
            ))
            .await;
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("session".to_owned()), None, "test");
        let region = Region::new("eu-central-1");
        let clock = Clock::manual(datetime!(2026-01-02 03:04:05 UTC));
        Self {
            front: TlsFront::start(port.parse().unwrap()).await.unwrap(),
            tokens: Arc::new(Tokens::new(Some(Account { credentials, region }), clock.clone())),
            database,
            name,
            owner,
            role,
            clock,
        }
    }

    /// Makes the server require a token of members of `rds_iam`, and accept any password of the owner
    /// otherwise. PostgreSQL compares the token as a password.
    async fn signs_members_of_rds_iam_in_by_token(&self) {
        let Self {
            name, owner, front, ..
        } = self;
        let token = self.tokens.token("localhost", front.port, owner).unwrap();
        let rules = format!("host {name} +rds_iam all password\nhost {name} {owner} all trust\n");
        let _exclusive = RULES.lock().await;
        let loaded = "SELECT (extract(epoch FROM pg_conf_load_time()) * 1000000)::bigint";
        let before = self.database.number(loaded).await;
        let file = "SELECT current_setting('hba_file'), pg_read_file(current_setting('hba_file'))";
        let file = self.database.rows(file).await;
        let (file, others): (&str, &str) = (file[0].get(0), file[0].get(1));
        self.database
            .execute(&format!(
                "ALTER ROLE {owner} PASSWORD '{token}';
                COPY (SELECT unnest(string_to_array('{rules}{others}', E'\n'))) TO '{file}';
                SELECT pg_reload_conf()"
            ))
            .await;
        // The server loads its rules before it accepts the next connection.
        while self.database.number(loaded).await == before {
            tokio::task::yield_now().await;
        }
    }

    /// Response of `migrate` to CloudFormation.
    async fn deploy(&self) -> Value {
        let Self {
            role, name, front, ..
        } = self;
        let secrets = aws_sdk_secretsmanager::Client::new(&tests::aws());
        let content = json!({ "username": self.owner, "password": PASSWORD }).to_string();
        let id = format!("owner-{}", platform::ids::new_id());
        let creating = secrets.create_secret().name(&id).secret_string(content);
        creating.send().await.unwrap();
        let url = format!(
            "postgresql://{role}@localhost:{}/{name}?hostaddr=127.0.0.1",
            front.port
        );
        let url: DatabaseUrl = url.parse().unwrap();
        let app = migrate::App {
            database_url: url.with_authorities(front.authorities.clone()),
            tokens: Arc::clone(&self.tokens),
            owner: Some(migrate::Owner {
                secrets,
                secret_arn: id,
            }),
            database_id: None,
            has_bus: false,
            retry_budget: Duration::ZERO,
            http: tests::http_client(),
        };
        answer_of(&app, "migrate.update").await
    }

    /// Grants `rds_iam` to the owner, as a member of `rds_superuser` can.
    async fn grant_rds_iam(&self) {
        self.database
            .execute(&format!("GRANT rds_iam TO {}", self.role))
            .await;
    }
}

fn reason(answer: &Value) -> &str {
    assert_eq!(answer["Status"], "FAILED", "{answer}");
    answer["Reason"].as_str().unwrap()
}

#[tokio::test]
async fn an_owner_who_may_not_grant_rds_iam_is_told_so_and_need_not_once_it_is_granted() {
    let rds = Rds::with_owner("CREATEROLE").await;
    let answer = rds.deploy().await;
    let Rds { owner, role, .. } = &rds;
    let expected = format!(
        "{owner} may not grant rds_iam to {role}: it lacks the admin option on rds_iam; \
         as a member of rds_superuser run GRANT rds_iam TO {role}, then deploy again"
    );
    assert!(reason(&answer).starts_with(&expected), "{answer}");
    rds.grant_rds_iam().await;
    assert_eq!(rds.deploy().await["Status"], "SUCCESS");
}

#[tokio::test]
async fn an_owner_who_may_not_make_roles_is_told_so() {
    let rds = Rds::with_owner("NOCREATEROLE").await;
    let answer = rds.deploy().await;
    let Rds { owner, role, .. } = &rds;
    let expected = format!(
        "{owner} may not make the role {role}: it lacks the attribute CREATEROLE; \
         as the master user run ALTER ROLE {owner} CREATEROLE, then deploy again"
    );
    assert!(reason(&answer).starts_with(&expected), "{answer}");
}

/// Since PostgreSQL 16, the creator of a role is a member of it, and so indirectly of the roles that it is a
/// member of.
#[tokio::test]
async fn an_owner_whose_password_is_refused_signs_in_by_token() {
    let rds = Rds::with_owner("CREATEROLE").await;
    rds.signs_members_of_rds_iam_in_by_token().await;
    // The first deployment signs in by password and creates the role.
    let answer = rds.deploy().await;
    assert!(reason(&answer).contains("may not grant rds_iam"), "{answer}");
    let member = format!(
        "SELECT pg_has_role('{}', 'rds_iam', 'MEMBER')::int::bigint",
        rds.owner
    );
    assert_eq!(rds.database.number(&member).await, 0);
    rds.grant_rds_iam().await;
    assert_eq!(rds.database.number(&member).await, 1);

    let answer = rds.deploy().await;
    assert_eq!(answer["Status"], "SUCCESS", "{answer}");

    // The server now expects a different token.
    rds.clock.advance(time::Duration::hours(1));
    let answer = rds.deploy().await;
    let (reason, owner) = (reason(&answer), &rds.owner);
    let expected = format!(
        "{owner} could sign in neither by the secret's password (the database refused to sign {owner} in: "
    );
    assert!(reason.starts_with(&expected), "{reason}");
    assert!(
        reason.contains("nor by IAM") && reason.contains("member of rds_iam"),
        "{reason}"
    );
    assert!(
        !reason.contains(PASSWORD) && !reason.contains("X-Amz"),
        "{reason}"
    );
}
