//! Values shared by the fake of S3 and the benchmarks' uploads.

/// Size that uploads declare, in bytes.
pub(crate) const SIZE: i64 = 52;

/// SHA-256 that uploads declare, in base64.
pub(crate) const SHA256: &str = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";

/// [`SHA256`] as an SQL expression.
pub(crate) const SHA256_SQL: &str = "decode('LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=', 'base64')";

/// The bucket of the fake of S3.
pub(crate) const BUCKET: &str = "syncsphere-bench";

/// The template's settings of the queue.
pub(crate) const QUEUE: fakes::sqs::Settings = fakes::sqs::Settings {
    visibility: std::time::Duration::from_mins(3),
    max_receives: 10,
};
