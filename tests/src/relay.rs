//! Relay in front of PostgreSQL that counts exchanges.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use db::{Database, DatabaseUrl};
use runner::postgres::ROLE;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::TestDatabase;

/// Relay to the database of a test, listening until the test ends.
pub struct Relay {
    url: String,
    exchanges: Arc<AtomicU64>,
}

impl Relay {
    /// Starts a relay.
    pub async fn start(database: &TestDatabase) -> Self {
        let (server, name) = database.url.rsplit_once('/').unwrap();
        let (user, target) = server.rsplit_once('@').unwrap();
        let target = target.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{user}@{}/{name}", listener.local_addr().unwrap());
        let exchanges = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&exchanges);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&target).await?;
                tokio::spawn(relay(client, server, Arc::clone(&counter)));
            }
            io::Result::Ok(())
        });
        Self { url, exchanges }
    }

    /// New client as one execution environment has it, through the relay.
    pub fn environment(&self) -> Database {
        Database::new(self.url.parse::<DatabaseUrl>().unwrap().for_user(ROLE, ""))
    }

    /// Returns the number of exchanges since the last call. Everything that a client sends before the next
    /// response counts as one.
    pub fn take(&self) -> u64 {
        self.exchanges.swap(0, Ordering::Relaxed)
    }
}

async fn relay(mut client: TcpStream, mut server: TcpStream, exchanges: Arc<AtomicU64>) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.split();
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
                exchanges.fetch_add(1, Ordering::Relaxed);
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
        }
    };
    tokio::try_join!(up, down).map(|_| ())
}
