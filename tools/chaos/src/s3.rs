//! The faults of S3.

use std::sync::Arc;

use anyhow::Result;
use fakes::http::Fault;
use fakes::s3::S3;

use super::faults::{FaultInjector, Kind};

pub(crate) const BUCKET: &str = "syncsphere-chaos";

/// Starts a fake of S3 with faults.
pub(crate) async fn start(faults: Arc<FaultInjector>) -> Result<S3> {
    let fault = move || {
        if faults.inject(Kind::StorageUnavailable) {
            Fault::Error(503, "SlowDown")
        } else if faults.inject(Kind::StorageAnswerLost) {
            Fault::AnswerLost
        } else {
            Fault::None
        }
    };
    S3::start(None, BUCKET, fault).await
}
