//! Arguments and subcommands of the command line.

use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use model::{Role, UserId, Version};

use crate::failure::{Kind, failure};

/// The end of the long help text.
const EXIT_CODES: &str = "\
Exit status:
  0    success
  1    another failure, or several failures for different reasons
  2    the command line is not valid
  3    not signed in
  4    the file or space does not exist, or you have no access to it
  5    conflict: the destination exists, the version is not the current one, or the service was restored
       to an earlier state meanwhile
  6    the service or this machine refused the operation
  7    the service cannot be reached, or does not answer
  8    something waits for you: the lines that begin with ~ name the paths and the reasons
  130  interrupted
  141  the reader of the output has closed it

Environment:
  SYNCSPHERE_STACK, SYNCSPHERE_URL, SYNCSPHERE_USER  defaults of --stack, --url and --user
  SYNCSPHERE_TOKEN   a token to use instead of a saved session; it also needs a stack, such as SYNCSPHERE_URL
  SYNCSPHERE_HOME    the folder of saved sessions, instead of the user's configuration folder";

/// Upload, watch and sync files, and check a deployment of SyncSphere.
#[derive(Debug, Parser)]
#[command(name = "syncsphere", version, after_long_help = EXIT_CODES, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub account: AccountArguments,
    /// Print results and errors as JSON, one value a line.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct AccountArguments {
    /// The stack [default: the stack of the last login].
    #[arg(long, global = true, value_name = "NAME")]
    pub stack: Option<String>,
    /// The URL of the stack's API, from its output `HttpApiUrl`.
    #[arg(long, global = true, conflicts_with = "stack")]
    pub url: Option<String>,
    /// The user [default: the user of the stack's last login].
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
            return Err(failure(
                Kind::Usage,
                format!("{url:?} is not the URL of an API; it must begin with https:// or http://"),
            ));
        }
        Ok(Self { stack, url, ..self })
    }
}

#[derive(Clone, Debug, Args)]
pub struct SpaceArguments {
    /// The space, by name or ID [default: your personal space].
    #[arg(long, short, value_name = "SPACE")]
    pub space: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sign in and save the session.
    Login(Login),
    /// Sign out and delete the saved session.
    Logout,
    /// Show the signed-in user and the user ID, which others need to share a space with you.
    Whoami,
    /// Upload files and folders. After an interruption, the same command resumes the upload.
    Upload(Upload),
    /// Show changes as they happen.
    Watch(Watch),
    /// List files.
    Ls(List),
    /// Download a file.
    Get(Get),
    /// Move a file or a folder.
    Mv(Move),
    /// Delete files. They stay in the trash for a time.
    Rm(Remove),
    /// List the files in the trash of a space.
    Trash(Trash),
    /// Restore files from the trash, or an earlier version of a file.
    Restore(Restore),
    /// List, create, rename, delete and restore spaces, or list the members of a space.
    #[command(visible_alias = "space")]
    Spaces(Spaces),
    /// Invite somebody to a space, change the role of a member, or remove a member.
    Share(Share),
    /// List the invitations that you have received, accept one, or decline one.
    Invitations(Invitations),
    /// Show the versions of a file.
    Versions(Versions),
    /// Show the versions of a file, or the changes of a space.
    History(History),
    /// Show your account, or erase it.
    Account(AccountCommands),
    /// Keep a local folder and a space equal, in both directions.
    Sync(Sync),
    /// Check a deployment by a test upload and download, and name the component that fails.
    Doctor(Doctor),
    /// Print a completion script for a shell.
    Completions { shell: Shell },
    /// Write the man pages to a folder.
    Man {
        /// The folder to write to.
        #[arg(value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
At the first login, the AWS CLI looks up the stack by its name, with your credentials (cloudformation describe-stacks). Without
the AWS CLI, give the stack's outputs: --url and --user-pool-client-id. `cargo xtask up` saves the stack syncsphere-local.

The command prompts for the password. Without a terminal, it reads the password from the standard input.")]
pub struct Login {
    /// The stack's output `UserPoolClientId`. Needs --url.
    #[arg(long, value_name = "ID", requires = "url")]
    pub user_pool_client_id: Option<String>,
    /// The AWS region of the stack, if its URL does not contain it.
    #[arg(long)]
    pub region: Option<String>,
    /// A shell command that prints a token, for identity providers other than Cognito. The command is saved
    /// and runs whenever a token is needed.
    #[arg(long, value_name = "COMMAND", conflicts_with = "user_pool_client_id")]
    pub token_command: Option<String>,
    /// Protect the account with an authenticator app. The command shows the key for the app and prompts for a
    /// code of the app.
    #[arg(long, conflicts_with = "token_command")]
    pub authenticator: bool,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// Check with the AWS CLI whether the account and the region meet the prerequisites of a deployment. Each
    /// failed check names the command that fixes it.
    #[arg(long)]
    pub before_deploy: bool,
    #[command(flatten)]
    pub planned: BeforeDeploy,
}

#[derive(Debug, Args)]
pub struct BeforeDeploy {
    /// The AWS region [default: the region of the AWS CLI].
    #[arg(long, requires = "before_deploy")]
    pub region: Option<String>,
    /// The planned value of the template's parameter `Size`.
    #[arg(long, requires = "before_deploy", value_enum, default_value_t = Size::Trial)]
    pub size: Size,
    /// Plan a deployment with `ReserveConcurrency=false`.
    #[arg(long, requires = "before_deploy")]
    pub no_reserved_concurrency: bool,
    /// Plan a deployment into an existing VPC.
    #[arg(long, requires = "before_deploy")]
    pub own_network: bool,
    /// Plan a deployment with an existing database.
    #[arg(long, requires = "before_deploy")]
    pub own_database: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// For evaluation: the smallest database, without a standby.
    Trial,
    /// The smallest size for production.
    Small,
    /// A larger database and more concurrency.
    Medium,
    /// The largest database and the most concurrency.
    Large,
}

impl Size {
    /// Concurrency that all functions together reserve; `None` if the size reserves none.
    pub fn reserved_concurrency(self) -> Option<i64> {
        match self {
            Self::Trial => None,
            Self::Small => Some(75),
            Self::Medium => Some(235),
            Self::Large => Some(985),
        }
    }

    /// The RDS instance class.
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

#[derive(Debug, Args)]
pub struct Upload {
    /// Files and folders to upload. FOLDER/. stands for the content of a folder, and - alone for the standard
    /// input, which needs --to with the path of a file.
    #[arg(required = true, value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,
    /// The destination in the space. It is a folder if it ends with / or if there are several files.
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub to: String,
    #[command(flatten)]
    pub space: SpaceArguments,
    /// Upload only if this is the current version; 0 stands for no file. Needs a single file.
    #[arg(long, value_name = "VERSION")]
    pub base_version: Option<Version>,
    /// Replace files that were changed on another device since this machine last uploaded or downloaded them.
    #[arg(long)]
    pub replace: bool,
    /// If a file was also changed on another device, upload it under a new name, such as
    /// "report (conflict, laptop, 2026-11-29).pdf".
    #[arg(long, conflicts_with = "replace")]
    pub keep_both: bool,
    /// The number of files or parts to send to storage at the same time. On a slow line, fewer are sent. More
    /// small files are in progress, because one request opens or completes many of them.
    #[arg(long, default_value = "8", value_parser = jobs)]
    pub jobs: NonZeroU16,
}

/// Parses a number of jobs from 1 to 64.
fn jobs(text: &str) -> Result<NonZeroU16, String> {
    let number = text.parse().ok();
    number
        .filter(|number: &NonZeroU16| number.get() <= 64)
        .ok_or_else(|| "it must be a number from 1 to 64".to_owned())
}

#[derive(Debug, Args)]
pub struct Watch {
    /// Show only changes of this space, by name or ID [default: all your spaces].
    #[arg(long, short, value_name = "SPACE")]
    pub space: Option<String>,
    /// Start with the first change instead of the next one.
    #[arg(long)]
    pub from_start: bool,
}

#[derive(Debug, Args)]
pub struct List {
    /// List only paths that begin with this text, such as /Photos/.
    #[arg(default_value = "/")]
    pub prefix: String,
    #[command(flatten)]
    pub space: SpaceArguments,
}

#[derive(Debug, Args)]
pub struct Get {
    /// The path of the file in the space.
    pub path: String,
    /// The destination; - stands for the standard output [default: the file's name in the current folder].
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Download this version instead of the current one.
    #[arg(long, value_name = "VERSION")]
    pub version: Option<Version>,
    /// Replace an existing file.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub space: SpaceArguments,
}

#[derive(Debug, Args)]
pub struct Move {
    /// The current path of the file, or of a folder if it ends with /.
    pub from: String,
    /// The new path, or a folder if it ends with /.
    pub to: String,
    #[command(flatten)]
    pub space: SpaceArguments,
    /// Move only if this is the current version. Needs a file.
    #[arg(long, value_name = "VERSION")]
    pub base_version: Option<Version>,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command")]
pub struct Remove {
    /// The paths of the files in the space.
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// Delete folders too, with all of their files.
    #[arg(long, short, conflicts_with_all = ["base_version", "permanently"])]
    pub recursive: bool,
    #[command(flatten)]
    pub space: SpaceArguments,
    /// Delete only if this is the current version. Needs a single file.
    #[arg(long, value_name = "VERSION")]
    pub base_version: Option<Version>,
    /// Erase the files with all of their versions. Nothing restores them. Only owners of the space can.
    #[arg(long)]
    pub permanently: bool,
    /// Erase files that are in the trash.
    #[arg(long, requires = "permanently")]
    pub trash: bool,
    /// Erase without asking.
    #[arg(long, requires = "permanently")]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Trash {
    #[command(flatten)]
    pub space: SpaceArguments,
}

#[derive(Debug, Args)]
pub struct Restore {
    /// The paths that the files had. If several files were deleted at a path, the last one is restored.
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// Make this version of a file the newest one. The file must not be in the trash. Needs a single file.
    #[arg(long, value_name = "VERSION")]
    pub version: Option<Version>,
    /// Restore to another path, or to a folder if it ends with /. Needs a single file.
    #[arg(long, value_name = "PATH", conflicts_with = "version")]
    pub to: Option<String>,
    #[command(flatten)]
    pub space: SpaceArguments,
}

#[derive(Debug, Args)]
pub struct Versions {
    /// The path of the file.
    pub path: String,
    #[command(flatten)]
    pub space: SpaceArguments,
}

#[derive(Debug, Args)]
pub struct AccountCommands {
    #[command(subcommand)]
    pub command: Option<AccountCommand>,
}

#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Show your account.
    Show,
    /// Erase your account with your files, for good.
    Erase {
        /// Erase without asking.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub struct Spaces {
    #[command(subcommand)]
    pub command: Option<SpacesCommand>,
}

#[derive(Debug, Subcommand)]
pub enum SpacesCommand {
    /// Create a shared space. You become its owner.
    Create {
        /// The name of the space.
        name: String,
    },
    /// Rename a shared space. Only owners can.
    Rename {
        /// The space, by name or ID.
        space: String,
        /// The new name.
        name: String,
    },
    /// Delete a shared space for all members. Only owners can; they can restore it for a time.
    Delete {
        /// The space, by name or ID.
        space: String,
    },
    /// List the deleted spaces that you can restore.
    Deleted,
    /// Restore a deleted space.
    Restore {
        /// The deleted space, by name or ID.
        space: String,
    },
    /// List the pending invitations to a space. Only owners can.
    Invitations {
        /// The space, by name or ID.
        space: String,
    },
    /// List the members of a space.
    Members {
        /// The space, by name or ID.
        space: String,
    },
}

#[derive(Debug, Args)]
pub struct Share {
    /// The space, by name or ID.
    pub space: String,
    /// The e-mail address of the person, or the user ID, which `syncsphere whoami` shows to that user.
    pub person: UserId,
    /// The role of the member.
    #[arg(long, value_enum, default_value_t = RoleArgument::Editor, conflicts_with = "remove")]
    pub role: RoleArgument,
    /// Remove the member, or withdraw the invitation. With your own user ID, you leave the space.
    #[arg(long)]
    pub remove: bool,
}

#[derive(Debug, Args)]
pub struct Invitations {
    #[command(subcommand)]
    pub command: Option<InvitationsCommand>,
}

#[derive(Debug, Subcommand)]
pub enum InvitationsCommand {
    /// List the invitations that you have received.
    List,
    /// Accept an invitation. You become a member of the space.
    Accept {
        /// The invitation, by the name of its space or by ID.
        invitation: String,
    },
    /// Decline an invitation.
    Decline {
        /// The invitation, by the name of its space or by ID.
        invitation: String,
        /// Show no more invitations of the same person. The person is not told.
        #[arg(long)]
        block: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RoleArgument {
    /// May see files and changes.
    Viewer,
    /// May also upload, move and delete files.
    Editor,
    /// May also invite people and remove members.
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

#[derive(Debug, Args)]
pub struct History {
    /// The path of a file. Without it, the command shows the changes of the space.
    pub path: Option<String>,
    #[command(flatten)]
    pub space: SpaceArguments,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_long_help = "\
Sync makes a folder and a space equal, and keeps them so until it is interrupted. No edit is lost. If a file was edited here and
elsewhere, the space keeps its name, and yours stays beside it as \"report (conflict 2026-11-29 08.15.00 laptop).pdf\". A file that was
edited on one side and deleted on the other stays. Files that were deleted or replaced elsewhere go to the trash in .syncsphere in the
folder for 30 days. If many files are deleted at once, on either side, sync waits for you: `sync confirm` or `sync undo`. Links and
other special files are not synced.

With --down, sync only downloads, and files deleted from the space are deleted from the folder. Before it replaces a file that you
changed, it renames yours, for example to \"report (kept 1).pdf\". With --up, sync only uploads; it replaces nothing that others changed.

A folder that is named like one of the commands below is ./status."
)]
pub struct Sync {
    #[command(subcommand)]
    pub command: Option<SyncCommand>,
    /// The local folder. It is created if it does not exist.
    #[arg(value_hint = ValueHint::DirPath, required = true)]
    pub folder: Option<PathBuf>,
    #[command(flatten)]
    pub space: SpaceArguments,
    /// Stop when both are equal.
    #[arg(long)]
    pub once: bool,
    /// Only upload.
    #[arg(long, conflicts_with = "down")]
    pub up: bool,
    /// Only download.
    #[arg(long)]
    pub down: bool,
    /// Show what would be done. Only .syncsphere is made in the folder, which then belongs to this space.
    #[arg(long, short = 'n', conflicts_with = "down")]
    pub dry_run: bool,
    /// Wait for you before more deletions than this within ten minutes, as a number of files, or as a share of all
    /// files such as 10%. 0 stands for each deletion [default: 1000, or 25% if these are more than 20].
    #[arg(long, value_name = "N|P%", conflicts_with = "down")]
    pub max_delete: Option<MaxDelete>,
    /// Do not ask before a folder that has files is synced for the first time.
    #[arg(long)]
    pub yes: bool,
    /// With --down: delete local files that were deleted from the space, even if they are most of the folder.
    #[arg(long, requires = "down")]
    pub allow_deletes: bool,
}

/// A limit on deletions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxDelete {
    Files(usize),
    Percent(usize),
}

impl std::str::FromStr for MaxDelete {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is neither a number nor a share such as 10%");
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.parse().ok().filter(|percent| *percent <= 100);
                percent.map(Self::Percent).ok_or_else(invalid)
            }
            None => text.parse().map(Self::Files).map_err(|_| invalid()),
        }
    }
}

/// Commands for a folder that is synced in both directions.
#[derive(Debug, Subcommand)]
pub enum SyncCommand {
    /// Show the state.
    Status(SyncedFolder),
    /// Change nothing on both sides until `resume`.
    Pause(SyncedFolder),
    /// End the pause.
    Resume(SyncedFolder),
    /// List the copies of files that were edited here and elsewhere.
    Conflicts(SyncedFolder),
    /// List the paths that wait, each with its reason.
    Held(SyncedFolder),
    /// Make the deletions that wait for you.
    Confirm(SyncedFolder),
    /// Bring back the deleted files that wait for confirmation.
    Undo(SyncedFolder),
    /// Show the states of a file in the folder and in the space.
    Explain {
        /// The path in the space, such as /Documents/report.pdf.
        path: String,
        #[command(flatten)]
        folder: SyncedFolder,
    },
}

#[derive(Debug, Args)]
pub struct SyncedFolder {
    /// The synced folder [default: the one that contains the current folder].
    #[arg(value_hint = ValueHint::DirPath)]
    pub folder: Option<PathBuf>,
}
