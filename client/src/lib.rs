//! The reference client of SyncSphere: uploads over HTTP, hearing of changes over a WebSocket.

mod api;
mod error;
mod session;
mod socket;
mod upload;
mod watch;

pub use api::Client;
pub use error::{Error, Problem};
pub use session::{Session, Token, UserPool};
pub use socket::{Frame, Socket};
pub use upload::{LocalFile, Source};
pub use watch::{Update, Watcher};

use model::Sha256;

/// The SHA-256 of content, as an upload declares it.
pub fn sha256(content: &[u8]) -> Sha256 {
    let mut digest = Sha256Stream::default();
    digest.update(content);
    digest.finish()
}

/// The SHA-256 of content that comes in pieces.
pub struct Sha256Stream(ring::digest::Context);

impl Default for Sha256Stream {
    fn default() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }
}

impl Sha256Stream {
    /// Adds a piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The SHA-256 of all pieces in order.
    pub fn finish(self) -> Sha256 {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        bytes.into()
    }
}

/// Makes ring the process's TLS implementation, for HTTP and WebSockets alike, unless the program has chosen another one
/// already. Every constructor here calls it; call it before using `reqwest` on its own.
pub fn use_ring() {
    let _already_chosen = rustls::crypto::ring::default_provider().install_default();
}
