//! Fixture: a user on a machine who runs the command against the deployed stack.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use syncsphere::accounts::{Accounts, Pool, Stack};
use tempfile::TempDir;
use tests::{new_user, stack, subject};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// Promised limit for notifications of a change.
pub(crate) const NOTIFICATION_LIMIT: Duration = Duration::from_secs(20);

/// A user with a temporary folder, signed in by the command itself.
pub(crate) struct Person {
    pub(crate) folder: TempDir,
    pub(crate) user: String,
    pub(crate) user_id: String,
}

impl Person {
    pub(crate) async fn new() -> Self {
        let (user, token) = new_user().await;
        let person = Self {
            folder: tempfile::tempdir().unwrap(),
            user,
            user_id: subject(&token),
        };
        let known = Stack {
            http_api_url: stack().outputs.http_api_url.clone(),
            user_pool: Some(Pool {
                endpoint: stack().aws_endpoint.clone(),
                client_id: stack().outputs.user_pool_client_id.clone(),
            }),
            user: None,
            users: [].into(),
        };
        let accounts = Accounts::in_folder(person.path("home"));
        accounts.change("local", |stack| *stack = Some(known)).unwrap();
        let mut login = person.command(&["login", "--stack", "local", "--user", &person.user]);
        login.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut login = login.spawn().unwrap();
        let mut input = login.stdin.take().unwrap();
        let password = format!("{}\n", stack::PASSWORD);
        AsyncWriteExt::write_all(&mut input, password.as_bytes())
            .await
            .unwrap();
        drop(input);
        assert!(login.wait().await.unwrap().success());
        person
    }

    /// Invites another person to a space that this person owns, and accepts the invitation.
    pub(crate) async fn shares(&self, space: &str, other: &Self) {
        // Users can be invited by user ID only after using the service once.
        other.json(&["spaces"]).await;
        self.json(&["share", space, &other.user_id]).await;
        other.json(&["invitations", "accept", space]).await;
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A command without the developer's environment variables and sessions.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_syncsphere"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("SYNCSPHERE_HOME", self.path("home"))
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        let running = self.command(arguments).output();
        timeout(Duration::from_mins(2), running)
            .await
            .expect("it hangs")
            .unwrap()
    }

    /// Runs a command that must succeed, and returns the JSON values that it writes, one a line.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(&[&["--json"], arguments].concat()).await;
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {message}");
        values(&output.stdout)
    }

    /// Runs a command that must fail with this exit status, and returns its standard error.
    pub(crate) async fn fails(&self, status: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {message}");
        message
    }

    /// Starts a command, whose JSON output can be read while it runs.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Running::of(self.command(&[&["--json"], arguments].concat()))
    }
}

pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next value. Panics after [`NOTIFICATION_LIMIT`].
    pub(crate) async fn line(&mut self) -> Value {
        let line = timeout(NOTIFICATION_LIMIT, self.lines.next_line()).await;
        let line = line.expect("no line").unwrap().expect("it has ended");
        serde_json::from_str(&line).unwrap()
    }

    /// Skips to the next value of a type. Panics after [`NOTIFICATION_LIMIT`].
    pub(crate) async fn next(&mut self, kind: &str) -> Value {
        self.until(kind).await.pop().unwrap()
    }

    /// Returns all values up to the next one of a type. Panics after [`NOTIFICATION_LIMIT`].
    pub(crate) async fn until(&mut self, kind: &str) -> Vec<Value> {
        let reading = async {
            let mut values: Vec<Value> = Vec::new();
            loop {
                let line = self.lines.next_line().await.unwrap().expect("it has ended");
                values.push(serde_json::from_str(&line).unwrap());
                if values.last().is_some_and(|value| value["type"] == kind) {
                    return values;
                }
            }
        };
        timeout(NOTIFICATION_LIMIT, reading)
            .await
            .unwrap_or_else(|_| panic!("no {kind}"))
    }
}

pub(crate) fn values(text: &[u8]) -> Vec<Value> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// Path and content of all files in a folder, sorted, without the program's own files.
pub(crate) fn files_in(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_file() {
            found.push((name, String::from_utf8(fs::read(entry.path()).unwrap()).unwrap()));
        } else if name != ".syncsphere" {
            let below = files_in(&entry.path()).into_iter();
            found.extend(below.map(|(path, content)| (format!("{name}/{path}"), content)));
        }
    }
    found.sort();
    found
}

pub(crate) fn owned(files: &[(&str, &str)]) -> Vec<(String, String)> {
    let files = files.iter();
    files
        .map(|(path, content)| ((*path).to_owned(), (*content).to_owned()))
        .collect()
}
