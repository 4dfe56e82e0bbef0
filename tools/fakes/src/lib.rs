//! Fakes of AWS services that run in the process of their user.

pub mod connections;
pub mod http;
pub mod lambda;
pub mod s3;
pub mod sqs;
pub mod tls;

use db::Role;
use runner::postgres::ROLE;

/// The functions' role in the local PostgreSQL, with the same rights and IAM authentication as on RDS.
pub const BY_IAM: Role<'_> = Role {
    name: ROLE,
    by_iam: true,
};
