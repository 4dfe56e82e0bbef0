//! The socket of a running sync in the private folder: one question a connection, as a line of JSON each way.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Ask, Question, Reply};
use crate::path::PRIVATE;

/// The name of the socket in the private folder, which only its user can enter.
const NAME: &str = "socket";

/// The most bytes of a question.
const MAX_QUESTION_BYTES: u64 = 64 * 1024;

/// How long a question may take to arrive, and an answer to be given.
const LIMIT: Duration = Duration::from_secs(30);

/// The path of the socket of a folder. The system limits paths of sockets to about 100 bytes, so a long one goes
/// by way of the open folder where the system has paths for these.
fn path(folder: &Path) -> io::Result<(PathBuf, Option<std::fs::File>)> {
    let private = folder.join(PRIVATE);
    let direct = private.join(NAME);
    if direct.as_os_str().len() < 100 || !cfg!(target_os = "linux") {
        return Ok((direct, None));
    }
    let open = std::fs::File::open(&private)?;
    let path = format!("/proc/self/fd/{}/{NAME}", std::os::fd::AsRawFd::as_raw_fd(&open));
    Ok((path.into(), Some(open)))
}

/// Answers questions about the sync of a folder, until the receiver of `asks` is gone. The caller has the lock
/// of the folder, so a socket that exists is one of a process that has ended.
pub async fn serve(folder: &Path, asks: mpsc::UnboundedSender<Ask>) -> io::Result<()> {
    let (path, _open) = path(folder)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let asks = asks.clone();
        // An asker that goes away does not concern the others.
        tokio::spawn(async move { timeout(LIMIT, answer(stream, asks)).await });
    }
}

async fn answer(mut stream: UnixStream, asks: mpsc::UnboundedSender<Ask>) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    BufReader::new(reader.take(MAX_QUESTION_BYTES))
        .read_line(&mut line)
        .await?;
    let question: Question = serde_json::from_str(&line)?;
    let (reply, answered) = oneshot::channel();
    asks.send(Ask { question, reply }).map_err(io::Error::other)?;
    let reply = answered.await.map_err(io::Error::other)?;
    let mut text = serde_json::to_string(&reply)?;
    text.push('\n');
    writer.write_all(text.as_bytes()).await?;
    writer.shutdown().await
}

/// Asks the running sync of a folder; `None` if none runs.
pub async fn ask(folder: &Path, question: &Question) -> io::Result<Option<Reply>> {
    let (path, _open) = match path(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        path => path?,
    };
    let mut stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut text = serde_json::to_string(question)?;
    text.push('\n');
    let asking = async {
        stream.write_all(text.as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(&mut stream).read_line(&mut line).await?;
        serde_json::from_str(&line).map_err(io::Error::from)
    };
    let answered = timeout(LIMIT, asking).await;
    answered
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        .map(Some)
}
