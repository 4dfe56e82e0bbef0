//! A TCP proxy between the functions and one dependency. It can cut, delay, hang and refuse connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// The maximum number of bytes that are forwarded at once.
const BUFFER: usize = 16 * 1024;

/// The behaviour of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Data passes without delay.
    Open,
    /// Each chunk of data is delayed by this time.
    Slow(Duration),
    /// Connections are accepted, but no data passes.
    Hung,
    /// Connections are closed as soon as they are accepted.
    Refused,
}

/// A proxy in front of a dependency. It stops when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Proxy {
    /// The address at which functions reach the dependency.
    pub(crate) address: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
    cut: Arc<Notify>,
    _listening: Arc<Listening>,
}

struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Proxy {
    /// Listens on a free port and forwards connections to `target`.
    pub(crate) async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let address = listener.local_addr().context("cannot listen")?;
        let (mode, modes) = watch::channel(Mode::Open);
        let cut = Arc::new(Notify::new());
        let accepting = accept(listener, target, modes, Arc::clone(&cut));
        Ok(Self {
            address,
            mode: Arc::new(mode),
            cut,
            _listening: Arc::new(Listening(tokio::spawn(accepting))),
        })
    }

    /// Changes the behaviour of the proxy, also for open connections.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Closes every open connection.
    pub(crate) fn cut_all(&self) {
        self.cut.notify_waiters();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, modes: watch::Receiver<Mode>, cut: Arc<Notify>) {
    while let Ok((near, _)) = listener.accept().await {
        if *modes.borrow() != Mode::Refused {
            tokio::spawn(link(near, target, modes.clone(), Arc::clone(&cut)));
        }
    }
}

async fn link(near: TcpStream, target: SocketAddr, modes: watch::Receiver<Mode>, cut: Arc<Notify>) {
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    // Turns off Nagle's algorithm, which would delay small messages.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let moving = async {
        tokio::join!(
            pump(near_read, far_write, modes.clone()),
            pump(far_read, near_write, modes.clone())
        )
    };
    tokio::select! {
        _ = moving => {}
        () = cut.notified() => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut modes: watch::Receiver<Mode>) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let mode = *modes.borrow();
        match mode {
            Mode::Slow(late) => tokio::time::sleep(late).await,
            Mode::Hung if modes.wait_for(|mode| *mode != Mode::Hung).await.is_err() => return,
            _ => {}
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
