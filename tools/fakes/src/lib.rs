//! Fakes of AWS services, and a relay to PostgreSQL, that run in the process of their user. They know nothing
//! of SyncSphere except `model`.

pub mod connections;
pub mod eventbridge;
pub mod http;
pub mod postgres;
pub mod s3;
pub mod sqs;
pub mod tls;
