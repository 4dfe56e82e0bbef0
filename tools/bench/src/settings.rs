//! Values shared by the fakes and the benchmarks' uploads.

/// Size that uploads declare, in bytes.
pub(crate) const SIZE: i64 = 52;

/// SHA-256 that uploads declare, in base64.
pub(crate) const SHA256: &str = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";

/// [`SHA256`] as an SQL expression.
pub(crate) const SHA256_SQL: &str = "decode('LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=', 'base64')";
