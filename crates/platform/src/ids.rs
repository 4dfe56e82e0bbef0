//! Generates identifiers.

use uuid::Uuid;

/// Generates a `UUIDv7` (RFC 9562, section 5.7): unique, and sorted by age.
pub fn new_id() -> Uuid {
    #[expect(clippy::disallowed_methods, reason = "the one place where ids are made")]
    Uuid::now_v7()
}
