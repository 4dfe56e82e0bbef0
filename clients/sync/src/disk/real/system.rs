//! The calls that differ between systems.

use std::fmt::Debug;
use std::fs::File;
use std::io;

use cap_std::fs::Dir;

use super::super::{FreeSpace, Kind};

/// The metadata of an entry as the system gives it.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub(super) kind: Kind,
    pub(super) device: u64,
    /// 0 if the system does not tell.
    pub(super) inode: u64,
    pub(super) birth: Option<i64>,
    pub(super) size: u64,
    pub(super) modified: i64,
    pub(super) changed: i64,
    pub(super) executable: Option<bool>,
    pub(super) links: u32,
    /// Whether it is the root of a mounted file system, as far as the system tells.
    pub(super) is_mount: bool,
}

/// What an open file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its content is read.
    Read,
    /// Its content is made durable.
    Sync,
    /// As [`Access::Sync`], for a file that cannot be read.
    Write,
    /// Its times and its mode are set.
    Metadata,
}

/// The calls. Names are single names, except in [`System::open_folder`].
pub trait System: Debug + Send + Sync + 'static {
    /// Opens a folder by a relative path, or `.` for another handle of the same folder, without following links,
    /// and without leaving the file system.
    fn open_folder(root: &Dir, path: &str) -> io::Result<Dir>;

    /// Opens a file without following a link, and without waiting.
    fn open_file(folder: &Dir, name: &str, access: Access) -> io::Result<File>;

    /// The metadata of an entry, of the link itself if it is one.
    fn stat(folder: &Dir, name: &str) -> io::Result<Found>;

    /// The metadata of an open folder.
    fn meta_of_folder(folder: &Dir) -> io::Result<Found>;

    /// The metadata of an open file.
    fn meta_of_file(file: &File) -> io::Result<Found>;

    /// Passes each entry of a folder that was just opened. A name that is not UTF-8 is passed as `Err`, with
    /// replacement characters. Entries that go during the call are left out.
    fn list(folder: &Dir, each: &mut dyn FnMut(Result<&str, String>, Found)) -> io::Result<()>;

    /// Makes the entries of a folder durable.
    fn sync_folder(folder: &Dir) -> io::Result<()>;

    /// Makes the whole file system durable, if the system can; returns whether it did.
    fn sync_volume(folder: &Dir) -> io::Result<bool>;

    /// Sets the times of a file to the present of its file system, and returns it.
    fn touch(file: &File) -> i64;

    /// Gives a file the mode, the owner and the extended attributes of another one, as far as this user may.
    fn copy_attributes(from: &File, to: &File) -> io::Result<()>;

    /// The free space of the volume.
    fn space(folder: &Dir) -> io::Result<FreeSpace>;

    /// An id of the file system that stays when it is mounted again, if the system has one.
    fn volume_id(folder: &Dir) -> Option<u64>;

    /// Whether a program of user space provides the file system (FUSE).
    fn is_of_user_space(folder: &Dir) -> bool;
}

/// Nanoseconds since 1970 of a time, which may be before.
pub(super) fn nanoseconds(time: std::time::SystemTime) -> i64 {
    let (distance, is_before) = match time.duration_since(std::time::SystemTime::UNIX_EPOCH) {
        Ok(after) => (after, false),
        Err(error) => (error.duration(), true),
    };
    let distance = i64::try_from(distance.as_nanos()).unwrap_or(i64::MAX);
    if is_before { -distance } else { distance }
}

/// Nanoseconds since 1970 of a time in seconds and nanoseconds.
pub(super) fn nanoseconds_of(seconds: i64, nanoseconds: u32) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds.into())
}

/// [`System::space`] where the system has `fstatvfs`.
#[cfg(unix)]
pub(super) fn space(folder: &Dir) -> io::Result<FreeSpace> {
    let found = rustix::fs::fstatvfs(folder)?;
    Ok(FreeSpace {
        available: found.f_bavail.saturating_mul(found.f_frsize),
        total: found.f_blocks.saturating_mul(found.f_frsize),
    })
}
