//! Certificates for the local PostgreSQL: an authority of its own, and a server that is `localhost` and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// The name that the server's certificate is for.
const SERVER: &str = "localhost";

/// Writes `authority.pem`, `server.pem` and `server.key` into a folder.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate()?;
    let certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let server_key = KeyPair::generate()?;
    let server = CertificateParams::new(vec![SERVER.to_owned()])?.signed_by(&server_key, &issuer)?;

    let key = folder.join("server.key");
    for (file, pem) in [
        (folder.join("authority.pem"), certificate.pem()),
        (folder.join("server.pem"), server.pem()),
        (key.clone(), server_key.serialize_pem()),
    ] {
        fs::write(&file, pem).with_context(|| format!("cannot write {}", file.display()))?;
    }
    // PostgreSQL refuses a key that others could read.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).context("cannot protect the server's key")
}
