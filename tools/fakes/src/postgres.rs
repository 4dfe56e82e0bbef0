//! A relay in front of PostgreSQL that adds latency and TLS and counts round trips.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::tls::accept_postgres;

/// Traffic through a relay since the last [`Relay::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Round trips. Everything that the client sends before the next response counts as one.
    pub round_trips: u64,
    pub connects: u64,
}

#[derive(Default)]
struct Counters {
    round_trips: AtomicU64,
    connects: AtomicU64,
    latency: AtomicU64,
}

/// TCP relay in front of the database.
pub struct Relay {
    port: u16,
    counters: Arc<Counters>,
    accepting: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Relay {
    /// Starts a relay to `target`; with `tls`, clients connect over TLS.
    pub async fn start(target: SocketAddr, tls: Option<TlsAcceptor>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let port = listener.local_addr().context("cannot listen")?.port();
        let counters = Arc::new(Counters::default());
        let shared = Arc::clone(&counters);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                shared.connects.fetch_add(1, Ordering::Relaxed);
                let (tls, counters) = (tls.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    client.set_nodelay(true)?;
                    let server = TcpStream::connect(target).await?;
                    server.set_nodelay(true)?;
                    match tls {
                        Some(tls) => match accept_postgres(&tls, client).await? {
                            Some(client) => relay(client, server, &counters).await,
                            None => Ok(()),
                        },
                        None => relay(client, server, &counters).await,
                    }
                });
            }
        });
        Ok(Self {
            port,
            counters,
            accepting,
        })
    }

    /// Local port of the relay.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the delay of all data sent to the server.
    pub fn set_latency(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.counters.latency.store(micros, Ordering::Relaxed);
    }

    /// Returns the counts and resets them.
    pub fn take(&self) -> Passed {
        Passed {
            round_trips: self.counters.round_trips.swap(0, Ordering::Relaxed),
            connects: self.counters.connects.swap(0, Ordering::Relaxed),
        }
    }
}

async fn relay(
    client: impl AsyncRead + AsyncWrite,
    mut server: TcpStream,
    counters: &Counters,
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = server.split();
    let answered = AtomicBool::new(true);
    let up = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from_client.read(&mut buffer).await?;
            if length == 0 {
                return to_server.shutdown().await;
            }
            if answered.swap(false, Ordering::Relaxed) {
                counters.round_trips.fetch_add(1, Ordering::Relaxed);
            }
            let micros = counters.latency.load(Ordering::Relaxed);
            if micros > 0 {
                // Timers of the async runtime are up to 1 ms late.
                tokio::task::block_in_place(|| std::thread::sleep(Duration::from_micros(micros)));
            }
            to_server.write_all(&buffer[..length]).await?;
        }
    };
    let down = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from_server.read(&mut buffer).await?;
            if length == 0 {
                return to_client.shutdown().await;
            }
            answered.store(true, Ordering::Relaxed);
            to_client.write_all(&buffer[..length]).await?;
            to_client.flush().await?;
        }
    };
    tokio::try_join!(up, down).map(|_| ())
}
