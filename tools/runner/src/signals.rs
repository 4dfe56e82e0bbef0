//! Handling of Ctrl-C and of other signals that ask the process to end.

use std::process::ExitCode;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::ui;

/// Runs a command until it ends or a signal asks the process to end. Guards in the command's future own the
/// child processes, so that none outlives it.
pub async fn until_interrupted(command: impl Future<Output = Result<()>>) -> ExitCode {
    let outcome = tokio::select! {
        outcome = command => outcome,
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui::failure(&error);
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() {
    let mut waits = JoinSet::new();
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        if let Ok(mut signal) = signal(kind) {
            waits.spawn(async move { signal.recv().await });
        }
    }
    waits.join_next().await;
}
