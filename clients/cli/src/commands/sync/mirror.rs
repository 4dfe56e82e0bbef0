//! The expected content of a folder: a listing of the space, with the later changes applied.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use client::Content;
use model::{Change, Event, FileId, SpacePath};

/// The files of a space after the last change received.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    files: BTreeMap<SpacePath, Content>,
    paths: HashMap<FileId, SpacePath>,
    /// Paths at which the folder may differ from the space.
    pub(super) touched: BTreeSet<SpacePath>,
}

impl Mirror {
    /// Builds the mirror from listed or saved files. A file that was moved during the listing may be listed
    /// twice: the later path counts until a change corrects it. All paths are touched.
    pub(super) fn of(files: impl IntoIterator<Item = (SpacePath, Content)>) -> Self {
        let mut mirror = Self::default();
        for (path, content) in files {
            mirror.put(path, content);
        }
        mirror
    }

    /// The content that the space has at a path.
    pub(super) fn at(&self, path: &SpacePath) -> Option<&Content> {
        self.files.get(path)
    }

    /// All files of the space.
    pub(super) fn files(&self) -> &BTreeMap<SpacePath, Content> {
        &self.files
    }

    /// Files that cannot be stored in one folder: two have the same name there, or a file has the name of
    /// another file's parent folder. The first file counts: those of `is_placed` come first, then path order
    /// decides, so files in the folder stay. `key` returns the same text for names that are equal in the
    /// folder.
    pub(super) fn clashes(
        &self,
        is_placed: impl Fn(&SpacePath) -> bool,
        key: impl Fn(&str) -> String,
    ) -> HashSet<SpacePath> {
        let (placed, others): (Vec<_>, Vec<_>) = self.files.keys().partition(|path| is_placed(path));
        let (mut files, mut folders) = (HashSet::new(), HashSet::new());
        let mut clashing = HashSet::new();
        for path in placed.into_iter().chain(others) {
            let mut parents = Vec::new();
            let mut whole = String::new();
            for name in path.as_str().split('/').skip(1) {
                parents.push(whole.clone());
                whole.push('/');
                whole.push_str(&key(name));
            }
            let is_taken = files.contains(&whole) || folders.contains(&whole);
            if is_taken || parents.iter().any(|parent| files.contains(parent)) {
                clashing.insert(path.clone());
            } else {
                files.insert(whole);
                folders.extend(parents);
            }
        }
        clashing
    }

    /// Applies a change. Changes that the listing contains already are harmless: once all changes up to the
    /// time of the listing are applied, the state is the state of that time.
    pub(super) fn apply(&mut self, event: &Event) {
        match &event.change {
            Change::FileUpdated(file) | Change::FileMoved(file) => {
                self.put(file.path.clone(), file.into());
            }
            Change::FileDeleted(file) => self.remove(file.file_id),
            // Changes of spaces and memberships.
            _ => {}
        }
    }

    fn put(&mut self, path: SpacePath, content: Content) {
        let file_id = content.file_id;
        self.remove(file_id);
        if let Some(replaced) = self.files.insert(path.clone(), content) {
            self.paths.remove(&replaced.file_id);
        }
        self.paths.insert(file_id, path.clone());
        self.touched.insert(path);
    }

    fn remove(&mut self, file_id: FileId) {
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
    use ::sync::portable_names::key;

    fn state(file: u8, path: &str, version: i64) -> FileState {
        FileState {
            file_id: uuid::Uuid::from_u128(file.into()).into(),
            path: path.parse().unwrap(),
            version: version.try_into().unwrap(),
            size: 1.try_into().unwrap(),
            sha256: [file; 32].into(),
            modified_at: None,
            executable: None,
        }
    }

    fn event(change: Change) -> Event {
        Event {
            sequence: 1.try_into().unwrap(),
            event_id: uuid::Uuid::from_u128(1).into(),
            change,
            space_id: uuid::Uuid::from_u128(2).into(),
            user_id: "alice".parse().unwrap(),
            user_name: None,
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
    fn changes_produce_the_files_of_the_space() {
        let mut mirror = Mirror::default();
        mirror.apply(&event(Change::FileUpdated(state(1, "/a", 1))));
        mirror.apply(&event(Change::FileUpdated(state(2, "/b", 1))));
        mirror.apply(&event(Change::FileMoved(state(1, "/c", 1))));
        mirror.apply(&event(Change::FileUpdated(state(1, "/c", 2))));
        mirror.apply(&event(Change::FileDeleted(state(2, "/b", 1))));
        mirror.apply(&event(Change::FileUpdated(state(3, "/b", 1))));
        assert_eq!(paths(&mirror), [("/b", 1), ("/c", 2)]);
        let touched: Vec<&str> = mirror.touched.iter().map(SpacePath::as_str).collect();
        assert_eq!(touched, ["/a", "/b", "/c"]);
    }

    /// The file is on one page, is moved, and is also on the next page.
    #[test]
    fn a_file_that_was_listed_twice_is_there_once() {
        let twice = [("/b", 1), ("/z", 1)]
            .map(|(path, file)| (path.parse().unwrap(), (&state(file, path, 1)).into()));
        let mut mirror = Mirror::of(twice);
        assert_eq!(paths(&mirror), [("/z", 1)]);
        mirror.apply(&event(Change::FileMoved(state(1, "/z", 1))));
        mirror.apply(&event(Change::FileUpdated(state(2, "/b", 1))));
        mirror.apply(&event(Change::FileDeleted(state(1, "/z", 1))));
        assert_eq!(paths(&mirror), [("/b", 1)]);
    }

    fn clashes(paths: &[&str], placed: &[&str], key: fn(&str) -> String) -> Vec<String> {
        let files = paths.iter().zip(1..);
        let mirror =
            Mirror::of(files.map(|(path, file)| (path.parse().unwrap(), (&state(file, path, 1)).into())));
        let clashing = mirror.clashes(|path| placed.contains(&path.as_str()), key);
        let mut clashing: Vec<String> = clashing.into_iter().map(String::from).collect();
        clashing.sort();
        clashing
    }

    #[test]
    fn equal_names_clash_segment_by_segment() {
        let paths = [
            "/A", "/a/b", "/b", "/D/x", "/d/y", "/d/X", "/\u{df}", "/SS", "/\u{3c3}", "/\u{3c2}",
        ];
        let clashing = clashes(&paths, &[], key);
        assert_eq!(clashing, ["/a/b", "/d/X", "/\u{df}", "/\u{3c3}"]);
        // Files in the folder stay.
        let clashing = clashes(&paths, &["/a/b", "/\u{3c3}"], key);
        assert_eq!(clashing, ["/A", "/d/X", "/\u{df}", "/\u{3c2}"]);
        // On a file system that distinguishes all names, only a file and a folder with one name clash.
        assert_eq!(
            clashes(&["/A", "/a/b", "/b", "/b/c"], &[], str::to_owned),
            ["/b/c"]
        );
    }

    /// The listing is newer than the cursor from which changes follow.
    #[test]
    fn repeated_changes_have_no_effect() {
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
                mirror.apply(change);
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
