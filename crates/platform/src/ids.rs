//! New identifiers.

use uuid::Uuid;

/// A new `UUIDv7` (RFC 9562, section 5.7): unique, and sorting by age.
pub fn new_id() -> Uuid {
    #[expect(clippy::disallowed_methods, reason = "the one place where ids are made")]
    Uuid::now_v7()
}
