//! The role that functions sign in as, and what it may do to tables: what their statements do, and nothing else.

use std::fmt::Write as _;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::error::Error;

/// What the role may do to each table; locking a row takes UPDATE. A test takes each right away and sees a statement fail for it. The release
/// before this one still serves when they are brought up to date, so a right goes one release after its last statement.
pub const GRANTS: [(&str, &[&str]); 9] = [
    ("changes", &["SELECT", "INSERT"]),
    ("connections", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("files", &["SELECT", "INSERT", "UPDATE"]),
    ("members", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("outbox", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("spaces", &["SELECT", "INSERT", "UPDATE"]),
    ("tickets", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("uploads", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("versions", &["SELECT", "INSERT"]),
];

/// Whom functions sign in as.
#[derive(Clone, Copy, Debug)]
pub struct Role<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether RDS signs it in by IAM authentication; it takes no password of it then.
    pub by_iam: bool,
}

/// How long a session may do nothing: Lambda keeps environments that it will never use again, whose connections would count.
const IDLE_SESSION_TIMEOUT: &str = "10min";

/// Makes the role where it is missing and brings its rights up to date, in the database that `client` is connected to.
pub(crate) async fn provision(client: &Client, role: Role<'_>) -> Result<(), Error> {
    let failed = |source| Error::Query {
        query: "provide_role",
        source,
    };
    let facts = client
        .query_one(
            "-- describe_role
            SELECT quote_ident($1) AS role,
                quote_ident(current_user) AS owner,
                quote_ident(current_database()) AS database,
                EXISTS (SELECT FROM pg_roles WHERE rolname = $1) AS exists,
                -- Whom RDS signs in by IAM authentication. Only it has such a role.
                EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_iam') AS has_iam,
                EXISTS (SELECT FROM pg_auth_members JOIN pg_roles member ON member.oid = pg_auth_members.member
                    WHERE member.rolname = $1 AND pg_auth_members.roleid = to_regrole('rds_iam')) AS by_iam",
            &[&role.name],
        )
        .await
        .map_err(failed)?;
    let by_iam = role.by_iam;
    let [role, owner, database]: [&str; 3] = ["role", "owner", "database"].map(|column| facts.get(column));
    let refused = |error: tokio_postgres::Error, action: String, remedy: String| match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Error::MissingRight {
            owner: owner.to_owned(),
            action,
            remedy,
            source: error,
        },
        _ => failed(error),
    };
    if !facts.get::<_, bool>("exists") {
        let made = client.batch_execute(&format!("CREATE ROLE {role} LOGIN")).await;
        // Roles belong to all databases of a server: another one's migration may have come first.
        made.or_else(|error| match error.code() {
            Some(&SqlState::DUPLICATE_OBJECT | &SqlState::UNIQUE_VIOLATION) => Ok(()),
            _ => Err(refused(
                error,
                format!("make the role {role}"),
                format!(
                    "it lacks the attribute CREATEROLE; as the master user run ALTER ROLE {owner} CREATEROLE"
                ),
            )),
        })?;
    }
    if by_iam && facts.get("has_iam") && !facts.get::<_, bool>("by_iam") {
        // Since PostgreSQL 16 this takes the admin option on rds_iam, which CREATEROLE does not include.
        let granted = client.batch_execute(&format!("GRANT rds_iam TO {role}")).await;
        granted.map_err(|error| {
            refused(
                error,
                format!("grant rds_iam to {role}"),
                format!("it lacks the admin option on rds_iam; as a member of rds_superuser run GRANT rds_iam TO {role}"),
            )
        })?;
    }
    let mut statements = format!(
        "BEGIN;
        ALTER ROLE {role} IN DATABASE {database} SET idle_session_timeout = '{IDLE_SESSION_TIMEOUT}';
        GRANT CONNECT ON DATABASE {database} TO {role};
        GRANT USAGE ON SCHEMA public TO {role};
        REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role};\n"
    );
    for (table, rights) in GRANTS {
        let rights = rights.join(", ");
        let _ = writeln!(statements, "GRANT {rights} ON {table} TO {role};");
    }
    statements.push_str("COMMIT");
    client.batch_execute(&statements).await.map_err(failed)
}
