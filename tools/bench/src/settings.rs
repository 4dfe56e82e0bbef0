//! What stand-ins and functions agree on.

/// The size that uploads declare, in bytes.
pub(crate) const SIZE: i64 = 52;

/// The SHA-256 that uploads declare, in base64.
pub(crate) const SHA256: &str = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";

/// The same, for SQL.
pub(crate) const SHA256_SQL: &str = "decode('LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=', 'base64')";
