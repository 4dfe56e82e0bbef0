//! All integration tests in one binary, which links once and shares the stack.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's failure is a panic"
)]

mod access;
mod administer;
mod admission;
mod batches;
mod bus;
mod connections;
mod custom_resources;
mod dependencies;
mod end_to_end;
mod erasure;
mod fan_out;
mod feed;
mod files;
mod histories;
mod invitations;
mod large;
mod late_sha256;
mod limits;
mod logs;
mod maintenance;
mod migrations;
mod multipart;
mod owner;
mod people;
mod problems;
mod protocol;
mod purge;
mod restoring;
mod rights;
mod roles;
mod samples;
mod second_storage;
mod sign_in;
mod spaces;
mod storage;
mod template;
mod traces;
mod trash;
mod uploads;
mod watching;

/// New functions, database and queues. Content is stored in the emulator.
async fn apps() -> tests::TestContext {
    tests::TestContext::create().await
}
