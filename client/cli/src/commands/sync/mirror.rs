//! What a folder should hold, from a space's list of files and its changes after that.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use client::Content;
use model::{Change, Event, FileId, SpacePath};

/// The files of a space as far as it was heard.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    files: BTreeMap<SpacePath, Content>,
    paths: HashMap<FileId, SpacePath>,
    /// Where the folder may differ.
    pub(super) touched: BTreeSet<SpacePath>,
}

impl Mirror {
    /// From what was listed or kept. A file that was moved while it was listed may come twice; the later path counts, and a change says
    /// which was right. All of it is touched.
    pub(super) fn of(files: impl IntoIterator<Item = (SpacePath, Content)>) -> Self {
        let mut mirror = Self::default();
        for (path, content) in files {
            mirror.put(path, content);
        }
        mirror
    }

    /// What should be at a path.
    pub(super) fn at(&self, path: &SpacePath) -> Option<&Content> {
        self.files.get(path)
    }

    /// All that there should be.
    pub(super) fn files(&self) -> &BTreeMap<SpacePath, Content> {
        &self.files
    }

    /// Those that are the same as an earlier one where case does not count.
    pub(super) fn doubles(&self) -> HashSet<SpacePath> {
        let mut seen = HashSet::new();
        let paths = self.files.keys();
        paths
            .filter(|path| !seen.insert(path.as_str().to_lowercase()))
            .cloned()
            .collect()
    }

    /// Takes in a change. One that the list had already does no harm: once all changes up to the list's time are in, all is as it was then.
    pub(super) fn hear(&mut self, event: &Event) {
        match &event.change {
            Change::FileUpdated(file) | Change::FileMoved(file) => {
                self.put(file.path.clone(), file.into());
            }
            Change::FileDeleted(file) => self.forget(file.file_id),
            Change::SpaceShared { .. } | Change::SpaceLeft { .. } => {}
        }
    }

    fn put(&mut self, path: SpacePath, content: Content) {
        let file_id = content.file_id;
        self.forget(file_id);
        if let Some(replaced) = self.files.insert(path.clone(), content) {
            self.paths.remove(&replaced.file_id);
        }
        self.paths.insert(file_id, path.clone());
        self.touched.insert(path);
    }

    fn forget(&mut self, file_id: FileId) {
        if let Some(path) = self.paths.remove(&file_id) {
            self.files.remove(&path);
            self.touched.insert(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use model::FileState;

    use super::*;

    fn state(file: u8, path: &str, version: i64) -> FileState {
        FileState {
            file_id: uuid::Uuid::from_u128(file.into()).into(),
            path: path.parse().unwrap(),
            version: version.try_into().unwrap(),
            size: 1.try_into().unwrap(),
            sha256: [file; 32].into(),
        }
    }

    fn event(change: Change) -> Event {
        Event {
            sequence: 1.try_into().unwrap(),
            event_id: uuid::Uuid::from_u128(1).into(),
            change,
            space_id: uuid::Uuid::from_u128(2).into(),
            user_id: "alice".parse().unwrap(),
            device_id: None,
            occurred_at: time::OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn paths(mirror: &Mirror) -> Vec<(&str, i64)> {
        let files = mirror.files.iter();
        files
            .map(|(path, content)| (path.as_str(), content.version.get()))
            .collect()
    }

    #[test]
    fn changes_make_what_the_space_has() {
        let mut mirror = Mirror::default();
        mirror.hear(&event(Change::FileUpdated(state(1, "/a", 1))));
        mirror.hear(&event(Change::FileUpdated(state(2, "/b", 1))));
        mirror.hear(&event(Change::FileMoved(state(1, "/c", 1))));
        mirror.hear(&event(Change::FileUpdated(state(1, "/c", 2))));
        mirror.hear(&event(Change::FileDeleted(state(2, "/b", 1))));
        mirror.hear(&event(Change::FileUpdated(state(3, "/b", 1))));
        assert_eq!(paths(&mirror), [("/b", 1), ("/c", 2)]);
        let touched: Vec<&str> = mirror.touched.iter().map(SpacePath::as_str).collect();
        assert_eq!(touched, ["/a", "/b", "/c"]);
    }

    /// It came on one page, was moved, and came again on the next.
    #[test]
    fn a_file_that_was_listed_twice_is_there_once() {
        let twice = [("/b", 1), ("/z", 1)]
            .map(|(path, file)| (path.parse().unwrap(), (&state(file, path, 1)).into()));
        let mut mirror = Mirror::of(twice);
        assert_eq!(paths(&mirror), [("/z", 1)]);
        mirror.hear(&event(Change::FileMoved(state(1, "/z", 1))));
        mirror.hear(&event(Change::FileUpdated(state(2, "/b", 1))));
        mirror.hear(&event(Change::FileDeleted(state(1, "/z", 1))));
        assert_eq!(paths(&mirror), [("/b", 1)]);
    }

    #[test]
    fn doubles_differ_in_case_only() {
        let mut mirror = Mirror::default();
        for (file, path) in ["/A", "/a", "/b", "/\u{c4}/x", "/\u{e4}/X"]
            .into_iter()
            .enumerate()
        {
            let file = u8::try_from(file).unwrap();
            mirror.hear(&event(Change::FileUpdated(state(file, path, 1))));
        }
        let mut doubles: Vec<String> = mirror.doubles().into_iter().map(String::from).collect();
        doubles.sort();
        assert_eq!(doubles, ["/a", "/\u{e4}/X"]);
    }

    /// The list is of a later time than the cursor from which changes follow.
    #[test]
    fn changes_that_the_list_has_already_lead_to_the_same() {
        let history = [
            Change::FileUpdated(state(1, "/a", 1)),
            Change::FileMoved(state(1, "/b", 1)),
            Change::FileUpdated(state(2, "/a", 1)),
            Change::FileDeleted(state(1, "/b", 1)),
            Change::FileMoved(state(2, "/b", 1)),
            Change::FileUpdated(state(3, "/a", 1)),
        ]
        .map(event);
        let after = |changes: &[Event], mut mirror: Mirror| {
            for change in changes {
                mirror.hear(change);
            }
            mirror
        };
        let whole = after(&history, Mirror::default());
        for listed in 0..=history.len() {
            let list = after(&history[..listed], Mirror::default()).files;
            for cursor in 0..=listed {
                let again = after(&history[cursor..], Mirror::of(list.clone()));
                assert_eq!(paths(&again), paths(&whole), "{listed} {cursor}");
            }
        }
    }
}
