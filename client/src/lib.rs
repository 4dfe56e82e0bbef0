//! The reference client of SyncSphere: uploads over HTTP, hearing of changes over a WebSocket.

mod api;
mod cognito;
mod error;
mod socket;

pub use api::{Client, Token};
pub use cognito::sign_in;
pub use error::{Error, Problem};
pub use socket::{Frame, Socket};

use model::Sha256;

/// The SHA-256 of content, as an upload declares it.
pub fn sha256(content: &[u8]) -> Sha256 {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, content).as_ref());
    bytes.into()
}

/// Makes ring the process's TLS implementation, for HTTP and WebSockets alike, unless the program has chosen another one
/// already. Every constructor here calls it; call it before using `reqwest` on its own.
pub fn use_ring() {
    let _already_chosen = rustls::crypto::ring::default_provider().install_default();
}
