//! The three trees of observations.

mod rows;

pub use rows::{FolderState, LocalEntry, LocalFile, Position, RemoteChange, RemoteRow, Subject, SyncedRow};
