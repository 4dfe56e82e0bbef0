//! Progress of transfers.

/// Receives the progress of an upload or a download, in bytes. `()` ignores it.
pub trait Progress: Sync {
    /// `bytes` more of the local content were read to compute its SHA-256.
    fn digested(&self, bytes: u64) {
        let _ = bytes;
    }

    /// `bytes` need no transfer, because an earlier attempt already transferred them.
    fn found(&self, bytes: u64) {
        let _ = bytes;
    }

    /// `bytes` more were sent or received.
    fn moved(&self, bytes: u64) {
        let _ = bytes;
    }

    /// `bytes` that were reported as found or moved have to be transferred again.
    fn lost(&self, bytes: u64) {
        let _ = bytes;
    }
}

impl Progress for () {}
