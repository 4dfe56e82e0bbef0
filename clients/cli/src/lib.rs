//! The `syncsphere` command. It is a library so that its tests can prepare saved sessions.

pub mod accounts;
mod arguments;
mod commands;
mod failure;
mod output;
mod progress;
mod prompt;
mod resolve;

use std::cell::Cell;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};

use crate::accounts::{Account, Accounts};
use crate::arguments::{AccountCommands, Arguments, Command, Doctor, Sync};
use crate::failure::{Kind, failure, kind_of};
use crate::output::Output;

pub use output::warn;

/// Time that an interrupted command has to save its state.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Time that an interrupted command has to end in order.
const ORDERLY_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Runs the command line and returns its exit status.
pub async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output { json: arguments.json };
    // The command runs on its own thread, so that it can be interrupted while it reads a large file or waits
    // for a password.
    let (interrupt, interrupting) = oneshot::channel::<()>();
    let (done, mut outcome) = oneshot::channel();
    let runtime = Handle::current();
    std::thread::spawn(move || {
        let outcome = runtime.block_on(async {
            let stopping = Stopping::default();
            tokio::select! {
                outcome = run(arguments, output, &stopping) => outcome,
                () = stopping.after(interrupting) => Err(failure(Kind::Interrupted, "interrupted")),
            }
        });
        let _ = done.send(outcome);
    });
    let outcome = tokio::select! {
        outcome = &mut outcome => outcome,
        () = interrupted() => {
            let _ = interrupt.send(());
            let interrupted = failure(Kind::Interrupted, "interrupted");
            timeout(SHUTDOWN_TIMEOUT, outcome).await.unwrap_or_else(|_| Ok(Err(interrupted)))
        }
    };
    let outcome = outcome.unwrap_or_else(|_| {
        Err(failure(
            Kind::Failed,
            "the command ended unexpectedly; run it again, and report the error if it repeats",
        ))
    });
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    let kind = kind_of(&error);
    if kind != Kind::BrokenPipe {
        output.failure(&error);
    }
    ExitCode::from(kind as u8)
}

/// Lets a command end in order when it is interrupted.
#[derive(Debug, Default)]
pub(crate) struct Stopping {
    /// Whether the command ends by itself after `asked`.
    is_orderly: Cell<bool>,
    asked: Notify,
}

impl Stopping {
    /// Returns when the command is asked to end. It is dropped if it takes long.
    pub(crate) async fn asked(&self) {
        self.is_orderly.set(true);
        self.asked.notified().await;
    }

    /// Returns when the command must be dropped.
    async fn after(&self, interrupting: oneshot::Receiver<()>) {
        let _ = interrupting.await;
        if self.is_orderly.get() {
            self.asked.notify_one();
            sleep(ORDERLY_TIMEOUT).await;
        }
    }
}

async fn run(arguments: Arguments, output: Output, stopping: &Stopping) -> anyhow::Result<()> {
    let account_arguments = &arguments.account.or_environment()?;
    match arguments.command {
        Command::Login(login) => commands::login::run(account_arguments, &login, output).await,
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "syncsphere", &mut io::stdout());
            Ok(())
        }
        Command::Man { folder } => {
            std::fs::create_dir_all(&folder)?;
            clap_mangen::generate_to(Arguments::command(), &folder)?;
            Ok(())
        }
        Command::Doctor(Doctor {
            before_deploy: true,
            planned,
        }) => commands::prerequisites::run(&planned, output).await,
        Command::Sync(Sync {
            command: Some(command),
            ..
        }) => commands::sync::ask(&command, output).await,
        command => {
            let mut account = Accounts::find()?.account(account_arguments)?;
            let outcome = with_account(command, &mut account, output, stopping).await;
            // Saves a renewed token for the next command.
            let saved = account.save_token().await;
            outcome.and(saved)
        }
    }
}

async fn with_account(
    command: Command,
    account: &mut Account,
    output: Output,
    stopping: &Stopping,
) -> anyhow::Result<()> {
    let client = &account.client;
    match command {
        Command::Login(_) | Command::Completions { .. } | Command::Man { .. } => Ok(()),
        Command::Logout => commands::login::log_out(account).await,
        Command::Whoami => commands::login::who_am_i(account, output).await,
        Command::Upload(upload) => commands::upload::run(account, &upload, output).await,
        Command::Watch(watch) => commands::watch::run(client, &watch, output).await,
        Command::Ls(list) => commands::files::list(client, &list, output).await,
        Command::Get(get) => commands::get::run(account, &get, output).await,
        Command::Mv(mv) => commands::files::rename(client, &mv, output).await,
        Command::Rm(remove) => commands::files::remove(client, &remove, output).await,
        Command::Trash(trash) => commands::trash::list(account, &trash, output).await,
        Command::Restore(restore) => commands::trash::restore(client, &restore, output).await,
        Command::Spaces(spaces) => commands::spaces::run(client, spaces.command, output).await,
        Command::Invitations(invitations) => {
            commands::invitations::run(client, invitations.command, output).await
        }
        Command::Share(share) => commands::spaces::share(account, &share, output).await,
        Command::Versions(versions) => commands::history::versions(client, &versions, output).await,
        Command::Account(AccountCommands { command }) => {
            commands::account::run(account, command, output).await
        }
        Command::History(history) => commands::history::run(client, &history, output).await,
        Command::Sync(sync) => commands::sync::run(account, &sync, output, stopping).await,
        Command::Doctor(_) => commands::doctor::run(account, output).await,
    }
}

async fn interrupted() {
    // Without signal support the command cannot be interrupted here.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
