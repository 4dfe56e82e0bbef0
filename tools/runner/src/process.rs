//! Child processes that end with their owner and whose output is kept in logs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::project::Project;
use crate::ui::Step;

/// The time limit for a service to end before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The number of lines that are shown of a failed program's output.
const SHOWN_LINES: usize = 25;

/// A child process and its descendants, in a process group of their own. Dropping the value ends all of them.
pub struct ProcessGroup {
    child: Child,
    id: Option<Pid>,
    /// The log with the output of the processes.
    pub log: PathBuf,
}

impl ProcessGroup {
    /// Starts a service and appends its output to a log in `folder`.
    pub fn start(folder: &Path, name: &str, command: Command) -> Result<Self> {
        Self::spawn(folder, name, command, None)
    }

    /// Starts a program. Everything that it does not write to `output` is appended to a log in `folder`.
    fn spawn(folder: &Path, name: &str, mut command: Command, output: Option<Stdio>) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let errors = File::options().create(true).append(true).open(&log);
        let errors = errors.with_context(|| format!("cannot create {}", log.display()))?;
        let output = match output {
            Some(output) => output,
            None => errors.try_clone().context("cannot share the log")?.into(),
        };
        command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            id: group_of(&child),
            child,
            log,
        })
    }

    /// Sends a signal to the service itself, not to its descendants.
    pub fn signal(&mut self, signal: Signal) {
        if let Some(id) = self.id
            && self.ended().is_none()
        {
            let _ = kill(id, signal);
        }
    }

    /// Waits until the service has ended.
    pub async fn wait(&mut self) {
        let _ = self.child.wait().await;
    }

    /// The exit status of the service; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        let Some(group) = self.id else { return };
        // All services handle SIGINT as a request for a fast but orderly shutdown.
        if killpg(group, Signal::SIGINT).is_ok() {
            let asked = Instant::now();
            while asked.elapsed() < STOP_TIMEOUT && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        // Kills the processes of the group that are left.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.try_wait();
    }
}

fn group_of(child: &Child) -> Option<Pid> {
    child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .map(Pid::from_raw)
}

/// Kills the process group of a program when its future is dropped.
struct KillOnDrop(Option<Pid>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Runs a program to its end. The step shows the newest line of its output. The log keeps all lines, and the
/// error of a failed program contains the last ones. `remedy` is the advice for the developer after a
/// failure.
pub async fn run(step: &Step, log: &Path, mut command: Command, remedy: &str) -> Result<()> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // If the program is cargo or starts it, this makes cargo report the number of compiled crates.
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "160")
        .process_group(0);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run {program}; {remedy}"))?;
    let mut guard = KillOnDrop(group_of(&child));
    if let Some(parent) = log.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    let file = tokio::fs::File::create(log)
        .await
        .with_context(|| format!("cannot create {}", log.display()))?;
    let file = Mutex::new(file);
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let ((), (), status) = tokio::join!(copy(output, step, &file), copy(errors, step, &file), child.wait());
    guard.0 = None;
    let status = status.with_context(|| format!("cannot wait for {program}"))?;
    if !status.success() {
        bail!(
            "{program} failed ({status}); {remedy}. Its last lines ({}):\n{}",
            log.display(),
            last_lines(log)
        );
    }
    Ok(())
}

/// Runs a program to its end and returns its standard output. Its standard error is appended to a log in
/// `folder`. If the program fails or exceeds `limit`, the error contains the last lines of that log.
pub async fn output(folder: &Path, name: &str, command: Command, limit: Duration) -> Result<String> {
    let mut group = ProcessGroup::spawn(folder, name, command, Some(Stdio::piped()))?;
    let mut pipe = group.child.stdout.take().context("there is no output")?;
    let mut output = Vec::new();
    let running = async {
        pipe.read_to_end(&mut output).await?;
        group.child.wait().await
    };
    let status = match timeout(limit, running).await {
        Ok(status) => status.context("cannot wait for the answer")?,
        Err(_) => bail!("no answer after {limit:?}. {}", last_lines(&group.log)),
    };
    // The process has ended, so its ID may be reused.
    group.id = None;
    if !status.success() {
        bail!("failed ({status}). {}", last_lines(&group.log));
    }
    Ok(String::from_utf8_lossy(&output).into_owned())
}

/// Runs a program whose output goes directly to the developer, and returns its exit status.
pub async fn attached(mut command: Command) -> Result<ExitStatus> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let child = command.stdin(Stdio::null()).process_group(0).spawn();
    let mut child = child.with_context(|| format!("cannot run {program}"))?;
    let mut guard = KillOnDrop(group_of(&child));
    let status = child
        .wait()
        .await
        .with_context(|| format!("cannot wait for {program}"))?;
    guard.0 = None;
    Ok(status)
}

async fn copy(output: Option<impl AsyncRead + Unpin>, step: &Step, log: &Mutex<tokio::fs::File>) {
    let Some(mut output) = output else { return };
    let (mut buffer, mut line) = ([0; 8 * 1024], Vec::new());
    loop {
        let read = output.read(&mut buffer).await.unwrap_or(0);
        for byte in &buffer[..read] {
            match byte {
                b'\n' => {
                    show(step, &line);
                    line.push(b'\n');
                    let _ = log.lock().await.write_all(&line).await;
                    line.clear();
                }
                // Cargo's progress line, which overwrites the one before. It is not written to the log.
                b'\r' => {
                    show(step, &line);
                    line.clear();
                }
                byte => line.push(*byte),
            }
        }
        if read == 0 {
            let _ = log.lock().await.write_all(&line).await;
            return;
        }
        let _ = log.lock().await.flush().await;
    }
}

fn show(step: &Step, line: &[u8]) {
    let text = String::from_utf8_lossy(line);
    match cargo_progress(&text) {
        Some(progress) => step.note(&progress),
        // Skips the name of the crate that cargo starts to compile, because the progress line says more.
        None if text.trim().is_empty() || text.trim_start().starts_with("Compiling ") => {}
        None => step.note(&text),
    }
}

/// Translates cargo's progress line, "Building [==>   ] 12/340: serde, tokio", into words. The line names the
/// crates that are being compiled.
fn cargo_progress(line: &str) -> Option<String> {
    let (_, state) = line.trim_start().strip_prefix("Building [")?.split_once("] ")?;
    let (count, crates) = state.split_once(':').unwrap_or((state, ""));
    let (done, all) = count.split_once('/')?;
    let waiting = match crates.trim() {
        "" => String::new(),
        crates => format!(", waiting for {}", crates.trim_end_matches(['.', ' ', ','])),
    };
    Some(format!("{done} of {all} crates compiled{waiting}"))
}

/// The last lines of a log, as they are shown after a failure.
pub fn last_lines(log: &Path) -> String {
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

/// Ends services of this checkout that an earlier command left behind, and functions that outlived their
/// emulator. The caller must hold the lock, so that none of them is in use.
pub fn kill_orphans(project: &Project) {
    let own = [
        project.run(),
        project.tools().join("emulator"),
        project.tools().join("postgres"),
        project.tools().join("seaweedfs"),
    ];
    let own = own.map(|path| path.display().to_string());
    let Ok(mut system) = System::new() else { return };
    let what = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
    for process in system.processes().values() {
        let mut words = process.cmd().iter().map(|word| word.to_string_lossy());
        if words.any(|word| own.iter().any(|own| word.starts_with(own.as_str()))) {
            process.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_progress_is_told_in_words() {
        let told = |line: &str| cargo_progress(line);
        assert_eq!(
            told("    Building [====>      ] 120/340: aws-sdk-s3, rustls(build)...     ").unwrap(),
            "120 of 340 crates compiled, waiting for aws-sdk-s3, rustls(build)"
        );
        assert_eq!(told("    Building [=> ] 1/2").unwrap(), "1 of 2 crates compiled");
        assert_eq!(told("   Compiling serde v1.0.0"), None);
    }
}
