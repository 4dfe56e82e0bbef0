//! The folders of this checkout.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// A file that exists only in the root of a checkout.
const MARK: &str = "template.yaml";

/// A checkout of SyncSphere.
#[derive(Clone, Debug)]
pub struct Project {
    /// The root folder of the workspace.
    pub root: PathBuf,
}

/// The lock on the checkout's services. The operating system releases it when the process ends, even in a
/// crash.
pub struct Lock {
    _file: File,
}

impl Project {
    /// Finds the checkout around the current folder. This happens at run time because `target` may have been
    /// moved or copied with the checkout since this program was compiled.
    pub fn find() -> Result<Self> {
        let folder = env::current_dir().context("there is no current folder")?;
        match folder.ancestors().find(|folder| is_root(folder)) {
            Some(root) => Ok(Self {
                root: root.to_owned(),
            }),
            None => bail!(
                "{} is not in a checkout of SyncSphere; change to one and run the command again",
                folder.display()
            ),
        }
    }

    /// The folder with one subfolder per tool. Its content is kept between commands.
    pub fn tools(&self) -> PathBuf {
        self.root.join(".local/tools")
    }

    /// The folder for logs of installations and builds. Its content is kept between commands.
    pub fn logs(&self) -> PathBuf {
        self.root.join(".local/logs")
    }

    /// The folder for files of running services, including their logs. Each command that starts services
    /// empties it.
    pub fn run(&self) -> PathBuf {
        self.root.join(".local/run")
    }

    /// The JSON file that describes the running stack for other commands and for tests.
    pub fn stack_file(&self) -> PathBuf {
        self.run().join("stack.json")
    }

    /// Fails if another command uses the services of this checkout. This is only an early check:
    /// [`lock`](Self::lock) excludes other commands.
    pub fn check_unused(&self) -> Result<()> {
        self.lock_file().map(drop)
    }

    /// Locks the services and empties the run folder. Fails if another command holds the lock.
    pub fn lock(&self) -> Result<Lock> {
        let file = self.lock_file()?;
        // An earlier command that was killed may have left processes. They must end before their files are
        // deleted.
        crate::process::kill_orphans(self);
        let run = self.run();
        if run.exists() {
            fs::remove_dir_all(&run).with_context(|| format!("cannot empty {}", run.display()))?;
        }
        fs::create_dir_all(run.join("tmp")).with_context(|| format!("cannot create {}", run.display()))?;
        Ok(Lock { _file: file })
    }

    fn lock_file(&self) -> Result<File> {
        let local = self.root.join(".local");
        fs::create_dir_all(&local).with_context(|| format!("cannot create {}", local.display()))?;
        let path = local.join("lock");
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => bail!(
                "another `cargo xtask` is using this checkout's services; stop it first (Ctrl-C in its terminal). \
                 To deploy to a running `cargo xtask up`: cargo xtask deploy"
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }
}

fn is_root(folder: &Path) -> bool {
    folder.join(MARK).is_file() && folder.join("Cargo.lock").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkout_is_the_one_around_the_current_folder() {
        // `cargo test` runs tests in the folder of their package.
        let package = env::current_dir().unwrap();
        let root = Project::find().unwrap().root;
        assert_eq!(package.strip_prefix(&root).unwrap(), Path::new("tools/runner"));
    }
}
