//! What stand-ins and functions agree on.

/// The region that the stand-ins are in.
pub(crate) const REGION: &str = "us-east-1";

/// Both parts of the credentials.
pub(crate) const ACCESS_KEY: &str = "test";

/// The size that uploads declare, in bytes.
pub(crate) const SIZE: i64 = 52;

/// The SHA-256 that uploads declare, in base64.
pub(crate) const SHA256: &str = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";

/// The same, for SQL.
pub(crate) const SHA256_SQL: &str = "decode('LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=', 'base64')";
