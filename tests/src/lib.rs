//! Harness of the integration tests: the local stack that `cargo xtask test` starts, a database for each
//! test, the functions as Lambda would run them, and fakes of AWS services where the emulator differs from
//! AWS.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's failure is a panic"
)]

mod context;
mod contract;
mod counted;
mod database;
mod gateway;
mod logs;
mod proxy;
mod queue;
mod samples;
mod stack;
mod storage;

use std::io::Write as _;

pub use ::stack::{OWNER_SECRET, STACK};
pub use context::{
    Answer, Call, Environment, MAX_UPLOAD_BYTES, MULTIPART_THRESHOLD_BYTES, START, TestContext, http_client,
    hung_server, put_to_storage, storage_that_answers, upload_body,
};
pub use contract::Contract;
pub use counted::Counted;
pub use database::{BY_IAM, TestDatabase};
pub use fakes::tls::TlsFront;
pub use gateway::Gateway;
pub use logs::Logs;
pub use proxy::Proxy;
pub use queue::TestQueue;
pub use runner::postgres::ROLE;
pub use samples::{Sample, http_event, project_file, sample, samples, template_routes};
pub use stack::{
    Shared, aws, dead_letter, emulator, invoke, lock_exclusive, lock_shared, new_user, raw_http, stack,
    subject,
};
pub use storage::TestStorage;

/// Writes a line, such as a seed or a figure, to standard error. It is shown even if the test passes, because
/// it bypasses the test harness's output capture.
pub fn report(line: &str) {
    let line = format!("{line}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
