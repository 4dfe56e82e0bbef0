//! TLS for servers on this machine, with certificates from a CA that is created for the purpose.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The message with which a client asks PostgreSQL for TLS (PostgreSQL documentation, "Message Formats",
/// `SSLRequest`).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A CA for servers at `localhost` and 127.0.0.1.
pub struct Authority {
    /// The CA certificate in PEM, for clients in other processes.
    pub pem: String,
    /// The CA certificate as a root store, for clients in this process.
    pub authorities: RootCertStore,
    /// Accepts TLS connections with a certificate of this CA.
    pub acceptor: TlsAcceptor,
}

impl Authority {
    /// Creates a CA with a new key.
    pub fn new() -> Result<Self> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = authority.self_signed(&key)?;
        let mut authorities = RootCertStore::empty();
        authorities.add(certificate.der().clone())?;
        let issuer = Issuer::new(authority, key);
        let key = KeyPair::generate()?;
        let server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let server = server.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![server.der().clone()], key)?;
        Ok(Self {
            pem: certificate.pem(),
            authorities,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }
}

/// Starts TLS as PostgreSQL does. Returns `None` if the client does not ask for TLS.
pub async fn accept_postgres(
    acceptor: &TlsAcceptor,
    mut client: TcpStream,
) -> std::io::Result<Option<TlsStream<TcpStream>>> {
    let mut request = [0; 8];
    client.read_exact(&mut request).await?;
    if request != SSL_REQUEST {
        return Ok(None);
    }
    client.write_all(b"S").await?;
    acceptor.accept(client).await.map(Some)
}

/// A TLS proxy in front of the local PostgreSQL.
pub struct TlsFront {
    /// The port on 127.0.0.1 on which the proxy listens.
    pub port: u16,
    /// The root certificate that clients must trust.
    pub authorities: RootCertStore,
}

impl TlsFront {
    /// Forwards TLS connections to port `target` of this machine. Connections without TLS are closed.
    pub async fn start(target: u16) -> Result<Self> {
        let Authority {
            acceptor,
            authorities,
            ..
        } = Authority::new()?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let port = listener.local_addr().context("cannot listen")?.port();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Some(mut client) = accept_postgres(&acceptor, client).await? else {
                        return Ok(());
                    };
                    let mut server = TcpStream::connect(("127.0.0.1", target)).await?;
                    copy_bidirectional(&mut client, &mut server).await.map(|_| ())
                });
            }
        });
        Ok(Self { port, authorities })
    }
}
