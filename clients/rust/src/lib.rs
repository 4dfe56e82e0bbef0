//! The reference client of SyncSphere: files over HTTP, notifications of changes over a WebSocket.
//!
//! A [`Session`] is a signed-in user, and a [`Client`] is one of the user's devices. A client uploads
//! ([`Client::upload_with_key`] resumes an interrupted upload), downloads ([`Client::fetch`]), and has a
//! method for each call of the API. A [`Watcher`] delivers every change once and in order.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use client::{Client, LocalFile, Session, UserPool};
//!
//! // The stack's output UserPoolClientId.
//! let pool = UserPool::in_region("eu-central-1", "1h57kf5cpq17m0eml12EXAMPLE")?;
//! let session = Session::sign_in(pool, "alice", "secret").await?;
//! let device = Client::new("the stack's output HttpApiUrl", session, None)?;
//!
//! let photo = LocalFile::open("beach.jpg").await?;
//! let changed = device.upload(None, "/Photos/beach.jpg".parse()?, &photo).await?;
//! println!("version {} of {}", changed.version, changed.path);
//!
//! let mut copy = tokio::fs::File::options().create(true).read(true).write(true).open("copy.jpg").await?;
//! device.fetch(&(&changed).into(), &mut copy, &()).await?;
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

mod account;
mod api;
mod backoff;
mod batch;
mod download;
mod error;
mod files;
mod invitations;
mod progress;
mod proxy;
mod retry;
mod session;
mod socket;
mod spaces;
mod trash;
mod upload;
mod verification;
mod watch;
mod window;

pub use api::Client;
pub use backoff::Backoff;
pub use download::{Content, next_piece};
pub use error::{Error, ErrorResponse, Problem, Server, with_causes};
pub use invitations::Invited;
pub use progress::Progress;
pub use session::{Authenticator, Challenge, Session, SignIn, Token, UserPool};
pub use socket::{Frame, Socket};
pub use upload::{LocalFile, MAX_PUT_BYTES, Source};
pub use verification::Verification;
pub use watch::{Update, Watcher};

use model::Sha256;

/// Returns the SHA-256 that an upload declares for this content.
pub fn sha256(content: &[u8]) -> Sha256 {
    let mut digest = Sha256Stream::default();
    digest.update(content);
    digest.finish()
}

/// Computes the SHA-256 of content that arrives in pieces.
#[derive(Clone)]
pub struct Sha256Stream(ring::digest::Context);

impl Default for Sha256Stream {
    fn default() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }
}

impl Sha256Stream {
    /// Adds the next piece of the content.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Returns the SHA-256 of all pieces, in the order in which they were added.
    pub fn finish(self) -> Sha256 {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        bytes.into()
    }
}

/// Installs ring as the TLS implementation of the process, for HTTP and WebSockets, unless the program has
/// already installed another one. The constructors of this crate call it. Call it yourself before you use
/// `reqwest` directly.
pub fn install_crypto_provider() {
    let _already_chosen = rustls::crypto::ring::default_provider().install_default();
}
