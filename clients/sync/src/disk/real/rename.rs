//! Renaming without replacing, and exchanging.

use std::io;

use cap_std::fs::Dir;

use super::system::System;

/// Renames an entry, and fails if the new name is taken.
pub(super) fn rename_new<S: System>(from: &Dir, name: &str, to: &Dir, new_name: &str) -> io::Result<()> {
    let renamed = rename_with_flag(from, name, to, new_name);
    renamed.unwrap_or_else(|| rename_without_flag::<S>(from, name, to, new_name))
}

/// As [`rename_new`] by a flag of the system; `None` if the system or the volume has none.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
pub fn rename_with_flag(from: &Dir, name: &str, to: &Dir, new_name: &str) -> Option<io::Result<()>> {
    use rustix::fs::{RenameFlags, renameat_with};
    match renameat_with(from, name, to, new_name, RenameFlags::NOREPLACE) {
        Err(error) if is_unsupported(error) => None,
        renamed => Some(renamed.map_err(io::Error::from)),
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub fn rename_with_flag(_from: &Dir, _name: &str, _to: &Dir, _new: &str) -> Option<io::Result<()>> {
    None
}

/// As [`rename_new`] where the file system has no flag for it. A second name of the file never replaces
/// anything, and the first one is removed then. On volumes without second names, the new name is looked at
/// before, which is not atomic.
pub(super) fn rename_without_flag<S: System>(
    from: &Dir,
    name: &str,
    to: &Dir,
    new_name: &str,
) -> io::Result<()> {
    match from.hard_link(name, to, new_name) {
        Ok(()) => return from.remove_file(name),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
        Err(_) => {}
    }
    match S::stat(to, new_name) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => from.rename(name, to, new_name),
        Err(error) => Err(error),
    }
}

/// Exchanges two entries.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
pub fn exchange(from: &Dir, name: &str, to: &Dir, new_name: &str) -> io::Result<()> {
    use rustix::fs::{RenameFlags, renameat_with};
    match renameat_with(from, name, to, new_name, RenameFlags::EXCHANGE) {
        Err(error) if is_unsupported(error) => Err(io::ErrorKind::Unsupported.into()),
        exchanged => Ok(exchanged?),
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub fn exchange(_from: &Dir, _name: &str, _to: &Dir, _new_name: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether the file system or the kernel does not know the flag of `renameat2` or `renameatx_np`.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn is_unsupported(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP].contains(&error)
}
