//! Fakes of AWS services that run in the process of their user.

mod hash;
pub mod lambda;
pub mod tls;

use db::Role;
use runner::postgres::ROLE;

pub use hash::md5;

/// The functions' role in the local PostgreSQL, with the same rights and IAM authentication as on RDS.
pub const BY_IAM: Role<'_> = Role {
    name: ROLE,
    by_iam: true,
};
