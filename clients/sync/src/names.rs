//! Names as the volume compares them, and conflict names.

use std::sync::Arc;

use caseless::Caseless as _;
use model::{InvalidPath, MAX_PATH_BYTES, MAX_SEGMENT_BYTES, SpacePath};
use unicode_normalization::{UnicodeNormalization as _, is_nfc};

use crate::disk::Volume;
use crate::path::{LocalPath, PRIVATE};
use crate::planted::{Bug, is_planted};

/// Paths with equal keys are one file on the volume, or one file in the space.
pub type Key = Arc<str>;

/// How the volume compares names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    ignores_case: bool,
}

impl From<&Volume> for Names {
    fn from(volume: &Volume) -> Self {
        Self {
            ignores_case: volume.ignores_case && !is_planted(Bug::KeyWithoutCaseFold),
        }
    }
}

impl Names {
    /// Names of a volume that ignores case or not.
    pub fn new(ignores_case: bool) -> Self {
        Self { ignores_case }
    }

    /// The key of a path in the space or on the disk. On a volume that ignores case this is canonical caseless
    /// matching (Unicode Standard, 3.13, D145); on others it is NFC, because the space has only such paths.
    pub fn key(self, path: &str) -> Key {
        if self.ignores_case {
            if path.is_ascii() {
                return path.to_ascii_lowercase().into();
            }
            return path.nfd().default_case_fold().nfd().collect::<String>().into();
        }
        nfc(path).into()
    }

    /// [`Self::key`] of a path on the disk. It shares the text if it can.
    pub fn local_key(self, path: &LocalPath) -> Key {
        if !self.ignores_case && path.as_str().is_ascii() {
            return path.text();
        }
        self.key(path.as_str())
    }

    /// Whether names that differ in case are one name.
    pub fn ignores_case(self) -> bool {
        self.ignores_case
    }
}

/// The path in the space of a file on the disk.
pub fn space_path(path: &LocalPath) -> Result<SpacePath, InvalidPath> {
    SpacePath::try_from(nfc(path.as_str()).into_owned())?.for_new_file()
}

/// Whether this system can have a file at this path of the space.
pub fn is_possible(path: &SpacePath) -> bool {
    let mut segments = path.as_str().split('/').skip(1);
    let is_private = segments
        .next()
        .is_some_and(|first| *Names { ignores_case: true }.key(first) == *PRIVATE);
    !is_private
        && path
            .as_str()
            .split('/')
            .all(|segment| segment.len() <= MAX_SEGMENT_BYTES)
}

fn nfc(text: &str) -> std::borrow::Cow<'_, str> {
    if text.is_ascii() || is_nfc(text) {
        text.into()
    } else {
        text.nfc().collect::<String>().into()
    }
}

/// The beginning of what is added to a name by a conflict.
const CONFLICT: &str = " (conflict ";

/// The `number`th conflict name of a path: `report (conflict 2026-11-29 10.15.00 laptop).pdf`. The name of a copy
/// of a copy does not nest. Names are shortened so that the name has at most 255 bytes and the path 1,024.
pub fn conflict_name(path: &LocalPath, label: &str, number: u32) -> LocalPath {
    let name = path.name();
    let (stem, extension) = match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= 32 => name.split_at(at),
        _ => (name, ""),
    };
    let stem = match stem.rfind(CONFLICT) {
        Some(at) if stem.ends_with(')') => &stem[..at],
        _ => stem,
    };
    let number = if number > 1 {
        format!(" {number}")
    } else {
        String::new()
    };
    let added = format!("{CONFLICT}{label}{number}){extension}");
    let folder = path.parent().unwrap_or_else(LocalPath::root);
    let in_path = MAX_PATH_BYTES.saturating_sub(folder.as_str().len() + 1);
    let room = MAX_SEGMENT_BYTES.min(in_path).saturating_sub(added.len());
    folder.join(&format!("{}{added}", shortened(stem, room)))
}

/// At most `bytes` of a text, cut between two characters.
fn shortened(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// The name of a device in conflict names: letters, digits and `-`, at most 24 bytes.
pub fn device_label(name: &str) -> String {
    let is_kept = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    name.chars().filter(is_kept).take(24).collect()
}

/// If a path is that of a conflict copy: the path of the file whose copy it is, without the extension.
pub fn conflict_stem(path: &str) -> Option<&str> {
    path.rfind(CONFLICT).map(|at| &path[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> LocalPath {
        LocalPath::new(text)
    }

    #[test]
    fn a_conflict_name_keeps_the_extension_and_does_not_nest() {
        let name = conflict_name(&path("/Docs/report.pdf"), "2026 x", 1);
        assert_eq!(name.as_str(), "/Docs/report (conflict 2026 x).pdf");
        assert_eq!(
            conflict_name(&name, "2027 y", 2).as_str(),
            "/Docs/report (conflict 2027 y 2).pdf"
        );
        assert_eq!(
            conflict_name(&path("/.profile"), "2026 x", 1).as_str(),
            "/.profile (conflict 2026 x)"
        );
    }

    #[test]
    fn a_conflict_name_fits() {
        for length in [240, 255] {
            let long = path(&format!("/{}ä.txt", "é".repeat(length / 2 - 3)));
            let name = conflict_name(&long, "2026-11-29 10.15.00 laptop", 12);
            assert!(name.name().len() <= MAX_SEGMENT_BYTES);
            assert!(name.name().ends_with("12).txt"));
        }
        let deep = path(&format!("{}/name.txt", "/0123456789".repeat(85)));
        let name = conflict_name(&deep, "2026-11-29 10.15.00 laptop", 1);
        assert!(name.as_str().len() <= MAX_PATH_BYTES, "{}", name.as_str().len());
    }

    #[test]
    fn names_that_a_volume_takes_for_one_have_one_key() {
        let blind = Names { ignores_case: true };
        for (one, other) in [
            ("/A", "/a"),
            ("/ΛΟΓΟΣ", "/λογος"),
            ("/ſ", "/s"),
            ("/ß", "/SS"),
            ("/Ä", "/a\u{308}"),
        ] {
            assert_eq!(blind.key(one), blind.key(other));
        }
        let exact = Names { ignores_case: false };
        assert_ne!(exact.key("/A"), exact.key("/a"));
        assert_eq!(exact.key("/a\u{308}"), exact.key("/ä"));
        assert!(!is_possible(&"/.SyncSphere/x".parse().unwrap()));
    }
}
