//! Progress of transfers.

/// Receives the progress of an upload or a download, in bytes. `()` ignores it.
pub trait Progress: Sync {
    /// `bytes` more of the local content were read to compute its SHA-256.
    fn hashed(&self, bytes: u64) {
        let _ = bytes;
    }

    /// `bytes` need no transfer, because an earlier attempt already transferred them.
    fn skipped(&self, bytes: u64) {
        let _ = bytes;
    }

    /// `bytes` more were sent or received.
    fn transferred(&self, bytes: u64) {
        let _ = bytes;
    }

    /// `bytes` that were reported as skipped or transferred have to be transferred again.
    fn reverted(&self, bytes: u64) {
        let _ = bytes;
    }
}

impl Progress for () {}
