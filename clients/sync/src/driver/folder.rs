//! An open folder: its lock, its disk and its database.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::question::{Question, Reply};
use super::view::View;
use crate::disk::RealDisk;
use crate::path::PRIVATE;
use crate::store::{Binding, OpenError, RowChange, Saved, SavedMeta, SqliteStore, Store as _};

/// An open folder, which no other process can sync.
#[derive(Debug)]
pub struct Folder {
    pub(super) disk: RealDisk,
    pub(super) store: SqliteStore,
    pub(super) saved: Saved,
    pub(super) binding: Binding,
    pub(super) lock: File,
    /// The damaged database that was set aside.
    pub set_aside: Option<PathBuf>,
}

/// A folder cannot be opened.
#[derive(Debug, Error)]
pub enum FolderError {
    /// Another process syncs it.
    #[error("another `syncsphere sync` is running for {0}; stop it first")]
    InUse(PathBuf),
    /// It is synced with another space.
    #[error("this folder is synced with another space, {} of {}; choose another folder", .0.space_id, .0.url)]
    OtherSpace(Binding),
    /// The database cannot be opened.
    #[error(transparent)]
    Store(OpenError),
    /// The system refused.
    #[error("cannot open {0}")]
    Io(PathBuf, #[source] io::Error),
}

impl Folder {
    /// Opens a folder for a space, and makes it if it does not exist. `host` identifies the machine.
    pub fn open(path: &Path, host: String, binding: Binding) -> Result<Self, FolderError> {
        let failed = |error| FolderError::Io(path.to_owned(), error);
        let disk = RealDisk::open(path, host).map_err(failed)?;
        let in_use = || FolderError::InUse(disk.path().to_owned());
        let lock = disk.lock().map_err(failed)?.ok_or_else(in_use)?;
        let opened = SqliteStore::open(&disk.private_path()).map_err(|error| match error {
            OpenError::InUse => in_use(),
            error => FolderError::Store(error),
        })?;
        let mut store = opened.store;
        match store.binding().map_err(FolderError::Store)? {
            None => store.bind(&binding).map_err(FolderError::Store)?,
            Some(bound) if bound == binding => {}
            Some(bound) => return Err(FolderError::OtherSpace(bound)),
        }
        Ok(Self {
            disk,
            store,
            saved: opened.saved,
            binding,
            lock,
            set_aside: opened.set_aside,
        })
    }

    /// Whether nothing was synced in this folder yet.
    pub fn is_new(&self) -> bool {
        self.saved.meta.root.is_none()
    }

    /// Whether the user paused the sync.
    pub fn is_paused(&self) -> bool {
        self.saved.meta.paused
    }

    /// The folder, without links in its path.
    pub fn path(&self) -> &Path {
        self.disk.path()
    }

    /// Whether the folder has an entry besides the private folder.
    pub fn has_entries(&self) -> io::Result<bool> {
        for entry in std::fs::read_dir(self.path())? {
            if entry?.file_name() != PRIVATE {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The database of a folder that no process syncs.
#[derive(Debug)]
pub struct Idle {
    store: SqliteStore,
    saved: Saved,
    binding: Binding,
}

impl Idle {
    /// Opens the database of a folder; `None` if the folder was never synced.
    pub fn open(path: &Path) -> Result<Option<Self>, FolderError> {
        let failed = |error| FolderError::Io(path.to_owned(), error);
        let path = path.canonicalize().map_err(failed)?;
        let private = path.join(PRIVATE);
        if !SqliteStore::exists(&private) {
            return Ok(None);
        }
        let opened = SqliteStore::open(&private).map_err(|error| match error {
            OpenError::InUse => FolderError::InUse(path),
            error => FolderError::Store(error),
        })?;
        let Some(binding) = opened.store.binding().map_err(FolderError::Store)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            store: opened.store,
            saved: opened.saved,
            binding,
        }))
    }

    /// Answers a question. What is held is only known while the sync runs, and only it can carry out most
    /// commands: `None`.
    pub fn answer(&mut self, question: &Question) -> Option<Reply> {
        let paused = match question {
            Question::Status => {
                return Some(Reply::Status(Box::new(View::status_of(
                    &self.binding,
                    &self.saved,
                ))));
            }
            Question::Conflicts | Question::Explain(_) => {
                let view = View::new(&self.binding, &self.saved);
                return Some(view.answer(question, &self.store, false));
            }
            Question::Pause => true,
            Question::Resume => false,
            _ => return None,
        };
        let meta = SavedMeta {
            paused,
            ..self.saved.meta.clone()
        };
        let committed = self.store.commit(&[RowChange::Meta(Box::new(meta))]);
        Some(committed.map_or_else(|error| Reply::Failed(error.to_string()), |()| Reply::Done))
    }
}
