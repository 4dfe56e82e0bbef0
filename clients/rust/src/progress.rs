//! How far a transfer is.

/// Is told how an upload or a download goes on. `()` does not care.
pub trait Progress: Sync {
    /// So many bytes of the content on this machine were read, to compute their SHA-256.
    fn digested(&self, bytes: u64) {
        let _ = bytes;
    }

    /// So many bytes were there from an earlier attempt.
    fn found(&self, bytes: u64) {
        let _ = bytes;
    }

    /// So many bytes are on their way.
    fn moved(&self, bytes: u64) {
        let _ = bytes;
    }

    /// So many of the bytes that were found or moved have to be moved again.
    fn lost(&self, bytes: u64) {
        let _ = bytes;
    }
}

impl Progress for () {}
