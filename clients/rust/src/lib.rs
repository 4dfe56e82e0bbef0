//! The reference client of SyncSphere: files over HTTP, hearing of changes over a WebSocket.
//!
//! A [`Session`] is somebody who is signed in, a [`Client`] one of their devices. It uploads ([`Client::upload_with_key`] goes on where an
//! earlier attempt ended), downloads ([`Client::fetch`]), and has a method for each call of the API. A [`Watcher`] hears of every
//! change once and in order.
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

mod api;
mod download;
mod error;
mod files;
mod progress;
mod proxy;
mod retry;
mod session;
mod socket;
mod spaces;
mod upload;
mod verification;
mod watch;
mod window;

pub use api::Client;
pub use download::{Content, next_piece};
pub use error::{Answer, Error, Party, Problem};
pub use progress::Progress;
pub use session::{Authenticator, Challenge, Session, SignIn, Token, UserPool};
pub use socket::{Frame, Socket};
pub use upload::{LocalFile, Source};
pub use verification::Verification;
pub use watch::{Update, Watcher};

use model::Sha256;

/// The SHA-256 of content, as an upload declares it.
pub fn sha256(content: &[u8]) -> Sha256 {
    let mut digest = Sha256Stream::default();
    digest.update(content);
    digest.finish()
}

/// The SHA-256 of content that comes in pieces.
#[derive(Clone)]
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
pub fn install_crypto_provider() {
    let _already_chosen = rustls::crypto::ring::default_provider().install_default();
}
