//! The database role that functions sign in as, and its privileges: those that their statements need, and no
//! others.

use std::fmt::Write as _;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::error::Error;

/// The role's privileges on each table. Locking a row requires UPDATE. A test revokes each privilege and
/// checks that a statement then fails. The previous release still serves when the privileges are updated, so
/// a privilege is removed one release after the last statement that needs it.
pub const GRANTS: [(&str, &[&str]); 16] = [
    ("active_members", &["SELECT"]),
    (
        "changes",
        &["SELECT", "INSERT", "UPDATE (user_id, member_id)", "DELETE"],
    ),
    ("connections", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("erased_users", &["SELECT", "INSERT", "DELETE"]),
    ("files", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("history", &["SELECT", "UPDATE"]),
    ("invitations", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("invited_people", &["SELECT"]),
    ("members", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("outbox", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("refused_inviters", &["SELECT", "INSERT", "DELETE"]),
    ("spaces", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("tickets", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("uploads", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("users", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("versions", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
];

/// The database role that functions sign in as.
#[derive(Clone, Copy, Debug)]
pub struct Role<'a> {
    /// The role's name, not quoted.
    pub name: &'a str,
    /// Whether the role signs in by RDS IAM authentication. RDS then accepts no password of the role's own.
    pub by_iam: bool,
}

/// Maximum time that a session may be idle. Lambda keeps execution environments that it will never use again,
/// and their connections count towards `max_connections`.
const IDLE_SESSION_TIMEOUT: &str = "10min";

/// Creates the role if it is missing and updates its privileges, in the database that `client` is connected
/// to.
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
        // Roles are shared by all databases of a server. The migration of another database may have created
        // this one.
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
        // Since PostgreSQL 16 this requires the admin option on rds_iam, which CREATEROLE does not include.
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
