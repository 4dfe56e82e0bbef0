//! Stand-ins for AWS in the process that uses them.

mod hash;
pub mod lambda;
pub mod tls;

use db::Role;
use runner::postgres::ROLE;

pub use hash::md5;

/// The functions' role in the local PostgreSQL, with the rights and the sign-in that it has on RDS.
pub const BY_IAM: Role<'_> = Role {
    name: ROLE,
    by_iam: true,
};
