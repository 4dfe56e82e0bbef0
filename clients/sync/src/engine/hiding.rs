//! Paths that do not exist for the engine.

use std::collections::BTreeSet;

use model::SpacePath;

use super::is_below;
use crate::plan::Hiding;

/// The rules of this device.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// Folders and files that are not synced on this device.
    pub(super) excluded: BTreeSet<SpacePath>,
}

impl Rules {
    pub(super) fn hiding(&self, path: &str) -> Hiding {
        if path.split('/').skip(1).any(is_scratch) {
            return Hiding::Ignored;
        }
        let is_excluded =
            |excluded: &SpacePath| path == excluded.as_str() || is_below(path, excluded.as_str());
        if self.excluded.iter().any(is_excluded) {
            return Hiding::Excluded;
        }
        Hiding::No
    }
}

/// Names of files that programs and systems make for themselves.
fn is_scratch(name: &str) -> bool {
    matches!(name, ".DS_Store" | "Thumbs.db" | "desktop.ini")
        || name.starts_with("~$")
        || name.starts_with(".nfs")
        || (name.starts_with(".~lock.") && name.ends_with('#'))
        || std::path::Path::new(name)
            .extension()
            .is_some_and(|it| it == "swp")
}
