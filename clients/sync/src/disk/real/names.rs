//! Renaming without replacing, and exchanging.

use std::io;

use cap_std::fs::Dir;
use caseless::Caseless as _;
use unicode_normalization::UnicodeNormalization as _;

use super::system::System;

/// Names with the same key may be one name on a volume that ignores case. Invisible characters are left out,
/// because HFS+ ignores them.
pub(super) fn key(name: &str) -> String {
    let seen = name.chars().filter(|it| !is_invisible(*it));
    seen.nfd().default_case_fold().nfd().collect()
}

fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
    )
}

/// Renames an entry, and fails if the new name is taken.
pub(super) fn rename_new<S: System>(from: &Dir, name: &str, to: &Dir, new_name: &str) -> io::Result<()> {
    let renamed = rename_with_flag(from, name, to, new_name);
    renamed.unwrap_or_else(|| rename_without_flag::<S>(from, name, to, new_name))
}

/// As [`rename_new`] by a flag of the system; `None` if the system or the volume has none.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
pub(super) fn rename_with_flag(from: &Dir, name: &str, to: &Dir, new_name: &str) -> Option<io::Result<()>> {
    use rustix::fs::{RenameFlags, renameat_with};
    match renameat_with(from, name, to, new_name, RenameFlags::NOREPLACE) {
        Err(error) if is_unsupported(error) => None,
        renamed => Some(renamed.map_err(io::Error::from)),
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub(super) fn rename_with_flag(_from: &Dir, _name: &str, _to: &Dir, _new: &str) -> Option<io::Result<()>> {
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
pub(super) fn exchange(from: &Dir, name: &str, to: &Dir, new_name: &str) -> io::Result<()> {
    use rustix::fs::{RenameFlags, renameat_with};
    match renameat_with(from, name, to, new_name, RenameFlags::EXCHANGE) {
        Err(error) if is_unsupported(error) => Err(io::ErrorKind::Unsupported.into()),
        exchanged => Ok(exchanged?),
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub(super) fn exchange(_from: &Dir, _name: &str, _to: &Dir, _new_name: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether the file system or the kernel does not know the flag of `renameat2` or `renameatx_np`.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn is_unsupported(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP].contains(&error)
}

/// Whether Windows has a name as it is (Microsoft, "Naming Files, Paths, and Namespaces"). Others reach a device,
/// a stream of another file or another folder, or lose their end.
#[cfg(any(windows, test))]
pub(super) fn is_windows_name(name: &str) -> bool {
    let stem = name
        .split('.')
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_ascii_uppercase();
    let is_device = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&stem.as_str())
        || ["COM", "LPT"].iter().any(|kind| {
            let number = stem.strip_prefix(kind);
            number.is_some_and(|it| {
                matches!(it, "\u{b9}" | "\u{b2}" | "\u{b3}")
                    || it.len() == 1 && it.as_bytes()[0].is_ascii_digit()
            })
        });
    !is_device && !name.ends_with(['.', ' ']) && !name.contains(['<', '>', ':', '"', '|', '?', '*', '\\'])
}

/// Whether a name has the form of a short name (`SYNCSP~1`), which FAT and NTFS add to long names.
#[cfg(any(windows, test))]
pub(super) fn is_short_name(name: &str) -> bool {
    let mut after = name.split('~').skip(1);
    after.any(|after| after.starts_with(|it: char| it.is_ascii_digit()))
}

/// Refuses paths that Windows takes for others.
#[cfg(windows)]
pub(super) fn check(path: &str) -> io::Result<()> {
    let mut names = path.split('/').skip(1);
    let is_short = names.clone().next().is_some_and(is_short_name);
    if is_short || !names.all(is_windows_name) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidFilename,
            "Windows does not allow this name",
        ));
    }
    Ok(())
}

#[cfg(not(windows))]
#[expect(clippy::unnecessary_wraps, reason = "as on Windows")]
pub(super) fn check(_path: &str) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_windows_takes_for_others_are_known() {
        for bad in ["nul", "COM1.txt", "a:b", "a ", "a.", "..\\x", "lpt\u{b9}"] {
            assert!(!is_windows_name(bad), "{bad}");
        }
        for good in ["a", "null", "com.txt", "COM10", "\u{fc}"] {
            assert!(is_windows_name(good), "{good}");
        }
        assert!(is_short_name("SYNCSP~1") && !is_short_name("a~") && !is_short_name("~a"));
        check("/a/b").unwrap();
    }

    #[test]
    fn other_spellings_of_the_private_folder_have_its_key() {
        for spelling in [".SyncSphere", ".\u{17f}yncsphere", ".sync\u{200c}sphere"] {
            assert_eq!(key(spelling), ".syncsphere");
        }
    }
}
