//! Arguments and subcommands of the command line.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use model::{Role, UserId, Version};

use crate::failure::{Kind, failure};

/// What every help text ends with.
const EXIT_CODES: &str = "\
Exit status:
  0    done
  1    something else failed, or several things for several reasons
  2    the command line is wrong
  3    nobody is signed in
  4    it is not there, or not yours
  5    a conflict: something is there already, or the version is not the current one
  6    refused
  7    the service cannot be reached, or does not answer
  130  interrupted
  141  nobody reads the output any more

Environment:
  SYNCSPHERE_STACK, SYNCSPHERE_URL, SYNCSPHERE_USER  as the options, which go before them
  SYNCSPHERE_TOKEN   a token instead of a session; with SYNCSPHERE_URL nothing else is needed
  SYNCSPHERE_HOME    where sessions are kept, instead of the user's configuration folder";

/// Upload, watch and sync files, and check a deployment of SyncSphere.
#[derive(Debug, Parser)]
#[command(name = "syncsphere", version, after_long_help = EXIT_CODES, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// With which account.
    #[command(flatten)]
    pub account: AccountArguments,
    /// One JSON value a line, and errors as JSON too.
    #[arg(long, global = true)]
    pub json: bool,
}

/// Whose account, and where.
#[derive(Clone, Debug, Args)]
pub struct AccountArguments {
    /// The stack; unless said, that of the last login.
    #[arg(long, global = true, value_name = "NAME")]
    pub stack: Option<String>,
    /// The stack, by its output `HttpApiUrl`.
    #[arg(long, global = true, conflicts_with = "stack")]
    pub url: Option<String>,
    /// The user; unless said, that of the stack's last login.
    #[arg(long, global = true, env = "SYNCSPHERE_USER", value_name = "NAME")]
    pub user: Option<String>,
}

impl AccountArguments {
    /// Uses `SYNCSPHERE_URL`, or else `SYNCSPHERE_STACK`, if the command line names no stack.
    pub fn or_environment(self) -> anyhow::Result<Self> {
        let from_environment = |name| {
            std::env::var_os(name)?
                .into_string()
                .ok()
                .filter(|it| !it.is_empty())
        };
        let (url, stack) = match (self.url, self.stack) {
            (None, None) => match from_environment("SYNCSPHERE_URL") {
                Some(url) => (Some(url), None),
                None => (None, from_environment("SYNCSPHERE_STACK")),
            },
            given => given,
        };
        let is_url = |url: &String| url.starts_with("https://") || url.starts_with("http://");
        if let Some(url) = url.as_ref().filter(|url| !is_url(url)) {
            return Err(failure(Kind::Usage, format!("{url:?} is no URL of an API")));
        }
        Ok(Self { stack, url, ..self })
    }
}

/// In which space.
#[derive(Clone, Debug, Args)]
pub struct SpaceArguments {
    /// The space, by name or ID; unless said, your personal one.
    #[arg(long, short, value_name = "SPACE")]
    pub space: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sign in, and keep the session.
    Login(Login),
    /// End the session, and forget it.
    Logout,
    /// Show who is signed in, with the user ID by which others share with you.
    Whoami,
    /// Upload files and folders; called again after an interruption, it goes on where it was.
    Upload(Upload),
    /// Show changes as they come.
    Watch(Watch),
    /// List files.
    Ls(List),
    /// Download a file.
    Get(Get),
    /// Move a file.
    Mv(Move),
    /// Delete files.
    Rm(Remove),
    /// List spaces, make one, or list its members.
    Spaces(Spaces),
    /// Make somebody a member of a space, or end a membership.
    Share(Share),
    /// Show the versions of a file, or the changes of a space.
    History(History),
    /// Keep a folder current from a space.
    Sync(Sync),
    /// Check a deployment step by step, as a user would, and say which link is broken.
    Doctor(Doctor),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the man pages.
    Man {
        /// The folder to write them to.
        #[arg(value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
}

/// How to sign in.
#[derive(Debug, Args)]
#[command(after_help = "\
The first time, a stack is found by its name with the AWS CLI and your credentials (cloudformation describe-stacks), or by its
outputs: --url and --user-pool-client-id. After `cargo xtask up` the stack syncsphere-local is known already.

The password is asked for, or read from the standard input if that is no terminal.")]
pub struct Login {
    /// The stack's output `UserPoolClientId`, with --url.
    #[arg(long, value_name = "ID", requires = "url")]
    pub user_pool_client_id: Option<String>,
    /// The AWS region of the stack, where its URL does not say it.
    #[arg(long)]
    pub region: Option<String>,
    /// For identity providers other than Cognito: a shell command that prints a token. It is kept, and run
    /// whenever a token is needed.
    #[arg(long, value_name = "COMMAND", conflicts_with = "user_pool_client_id")]
    pub token_command: Option<String>,
    /// Protect the account with an authenticator app from now on: shows the key for the app, and asks for a
    /// code.
    #[arg(long, conflicts_with = "token_command")]
    pub authenticator: bool,
}

/// The check.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Check the account and the region for prerequisites of a deployment instead, with the AWS CLI. Each
    /// failed check names the command that fixes it.
    #[arg(long)]
    pub before_deploy: bool,
    /// The planned deployment.
    #[command(flatten)]
    pub planned: BeforeDeploy,
}

/// A planned deployment.
#[derive(Debug, Args)]
pub struct BeforeDeploy {
    /// The AWS region; unless said, that of the AWS CLI.
    #[arg(long, requires = "before_deploy")]
    pub region: Option<String>,
    /// The template's parameter `Size`.
    #[arg(long, requires = "before_deploy", value_enum, default_value_t = Size::Trial)]
    pub size: Size,
    /// With `ReserveConcurrency=false`.
    #[arg(long, requires = "before_deploy")]
    pub no_reserved_concurrency: bool,
    /// Into a network of your own.
    #[arg(long, requires = "before_deploy")]
    pub own_network: bool,
    /// With a database of your own.
    #[arg(long, requires = "before_deploy")]
    pub own_database: bool,
}

/// Sizes of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// To try it.
    Trial,
    /// To begin with.
    Small,
    /// For more.
    Medium,
    /// For most.
    Large,
}

impl Size {
    /// Concurrency that all functions together reserve; `None` if the size reserves none.
    pub fn reserved_concurrency(self) -> Option<i64> {
        match self {
            Self::Trial => None,
            Self::Small => Some(72),
            Self::Medium => Some(227),
            Self::Large => Some(972),
        }
    }

    /// The RDS instance class of the database.
    pub fn database_class(self) -> &'static str {
        match self {
            Self::Trial => "db.t4g.micro",
            Self::Small => "db.t4g.medium",
            Self::Medium => "db.m7g.large",
            Self::Large => "db.m7g.2xlarge",
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trial => "trial",
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        })
    }
}

/// What to upload.
#[derive(Debug, Args)]
pub struct Upload {
    /// Files and folders; FOLDER/. is what is in a folder.
    #[arg(required = true, value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,
    /// Where to; a folder if it ends with /, or if it is for more than one file.
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub to: String,
    /// In which space.
    #[command(flatten)]
    pub space: SpaceArguments,
    /// Only if this is the current version; 0 says that there is no file yet. For a single file.
    #[arg(long, value_name = "VERSION")]
    pub base_version: Option<Version>,
    /// Replace files that were changed on another device since this machine uploaded or downloaded them.
    #[arg(long)]
    pub replace: bool,
    /// Upload a file that was changed on another device too under a new name, such as
    /// "report (conflict, laptop, 2026-11-29).pdf".
    #[arg(long, conflicts_with = "replace")]
    pub keep_both: bool,
    /// How many files are on their way at once.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,
}

/// What to show.
#[derive(Debug, Args)]
pub struct Watch {
    /// Only of this space, by name or ID; unless said, of all of yours.
    #[arg(long, short, value_name = "SPACE")]
    pub space: Option<String>,
    /// Begin with the first change instead of the next one.
    #[arg(long)]
    pub from_start: bool,
}

/// What to list.
#[derive(Debug, Args)]
pub struct List {
    /// How the paths begin, such as /Photos/.
    #[arg(default_value = "/")]
    pub prefix: String,
    /// In which space.
    #[command(flatten)]
    pub space: SpaceArguments,
}

/// What to download.
#[derive(Debug, Args)]
pub struct Get {
    /// The file in the space.
    pub path: String,
    /// Where to; - is the standard output. Unless said, the file's name in the current folder.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// An earlier version.
    #[arg(long, value_name = "VERSION")]
    pub version: Option<Version>,
    /// Replace a file that is there.
    #[arg(long)]
    pub force: bool,
    /// In which space.
    #[command(flatten)]
    pub space: SpaceArguments,
}

/// What to move.
#[derive(Debug, Args)]
pub struct Move {
    /// The file.
    pub from: String,
    /// Where to; a folder if it ends with /.
    pub to: String,
    /// In which space.
    #[command(flatten)]
    pub space: SpaceArguments,
    /// Only if this is the current version.
    #[arg(long, value_name = "VERSION")]
    pub base_version: Option<Version>,
}

/// What to delete.
#[derive(Debug, Args)]
pub struct Remove {
    /// The files.
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// In which space.
    #[command(flatten)]
    pub space: SpaceArguments,
    /// Only if this is the current version. For a single file.
    #[arg(long, value_name = "VERSION")]
    pub base_version: Option<Version>,
}

/// What to do about spaces.
#[derive(Debug, Args)]
pub struct Spaces {
    /// Nothing lists them.
    #[command(subcommand)]
    pub command: Option<SpacesCommand>,
}

/// The same.
#[derive(Debug, Subcommand)]
pub enum SpacesCommand {
    /// Make a shared space, which you own.
    Create {
        /// What members call it.
        name: String,
    },
    /// List the members of a space.
    Members {
        /// The space, by name or ID.
        space: String,
    },
}

/// Whom to share with.
#[derive(Debug, Args)]
pub struct Share {
    /// The space, by name or ID.
    pub space: String,
    /// The user ID, which that user's `syncsphere whoami` shows.
    pub user_id: UserId,
    /// What the member may do.
    #[arg(long, value_enum, default_value_t = RoleArgument::Editor, conflicts_with = "remove")]
    pub role: RoleArgument,
    /// End the membership instead; with your own user ID you leave.
    #[arg(long)]
    pub remove: bool,
}

/// A role on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RoleArgument {
    /// See files and changes.
    Viewer,
    /// Upload, move and delete files too.
    Editor,
    /// Add and remove members too.
    Owner,
}

impl From<RoleArgument> for Role {
    fn from(role: RoleArgument) -> Self {
        match role {
            RoleArgument::Viewer => Self::Viewer,
            RoleArgument::Editor => Self::Editor,
            RoleArgument::Owner => Self::Owner,
        }
    }
}

/// Whose history.
#[derive(Debug, Args)]
pub struct History {
    /// The file; without it, the changes of the space are shown.
    pub path: Option<String>,
    /// In which space.
    #[command(flatten)]
    pub space: SpaceArguments,
}

/// What to keep current.
#[derive(Debug, Args)]
#[command(after_long_help = "\
One way, down: files of the space appear in the folder, verified and in one piece, and go when they go from the space. Nothing of the
folder is uploaded. What was changed in the folder is never lost: before a file of the space takes its place it is renamed, such as
report.pdf to \"report (kept 1).pdf\". What is in the folder and not in the space stays. When most files go from the space within ten
minutes, or the service goes back to an earlier state, nothing is deleted here.")]
pub struct Sync {
    /// The folder; it is made if it is not there.
    #[arg(value_hint = ValueHint::DirPath)]
    pub folder: PathBuf,
    /// In which space.
    #[command(flatten)]
    pub space: SpaceArguments,
    /// End when the folder is current, instead of keeping it so.
    #[arg(long)]
    pub once: bool,
    /// Delete files here that went from the space, also if they are most of the folder.
    #[arg(long)]
    pub allow_deletes: bool,
}
