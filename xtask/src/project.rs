//! Where things are in this checkout.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// This checkout of SyncSphere.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    /// The workspace.
    pub(crate) root: PathBuf,
}

/// Held while this process uses the checkout's services; released when it ends, however it ends.
pub(crate) struct Lock {
    _file: File,
}

impl Project {
    /// The checkout that this program was compiled in.
    pub(crate) fn find() -> Self {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self {
            root: manifest.parent().unwrap_or(manifest).to_owned(),
        }
    }

    /// Tools, each in a folder of its own; kept.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join(".local/tools")
    }

    /// What running services need and leave, logs among it; made anew each time.
    pub(crate) fn run(&self) -> PathBuf {
        self.root.join(".local/run")
    }

    /// The running stack, for other commands and for tests.
    pub(crate) fn stack_file(&self) -> PathBuf {
        self.run().join("stack.json")
    }

    /// Takes the services' lock and an empty run folder, or says that another command is using them.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let local = self.root.join(".local");
        fs::create_dir_all(&local).with_context(|| format!("cannot create {}", local.display()))?;
        let path = local.join("lock");
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another `cargo xtask` is using this checkout's services; stop it first (Ctrl-C in its terminal). \
                 To deploy to a running `cargo xtask up`: cargo xtask deploy"
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        // An earlier run that was killed may have left processes, which must not outlive their files.
        crate::process::end_leftovers(self);
        let run = self.run();
        if run.exists() {
            fs::remove_dir_all(&run).with_context(|| format!("cannot empty {}", run.display()))?;
        }
        fs::create_dir_all(run.join("tmp")).with_context(|| format!("cannot create {}", run.display()))?;
        Ok(Lock { _file: file })
    }
}
