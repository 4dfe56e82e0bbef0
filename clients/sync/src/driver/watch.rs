//! Hints about changes of the folder.
//!
//! An event says only that something in a folder may have changed. Whatever else it says, such as the two names
//! of a rename, is not used: events are merged, late and sometimes lost.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::path::{LocalPath, PRIVATE};

/// What was seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// An entry of this folder may have changed.
    Folder(LocalPath),
    /// Anything may have changed.
    Anything,
}

/// A watcher of the folder.
#[derive(Debug)]
pub(super) struct FolderWatcher {
    /// `None` if the system refused: the folder is then only scanned from time to time.
    watcher: Option<RecommendedWatcher>,
    root: PathBuf,
    hints: mpsc::UnboundedReceiver<Hint>,
    /// Whether some folder could not be watched.
    is_incomplete: bool,
}

/// On Linux each folder has a watch of its own: the first event of a new folder could otherwise be missed.
/// Other systems watch the whole tree.
const WATCHES_TREE: bool = cfg!(not(target_os = "linux"));

impl FolderWatcher {
    pub(super) fn new(root: &Path) -> Self {
        let (sender, hints) = mpsc::unbounded_channel();
        let seen_at = root.to_owned();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            for hint in hints_of(&seen_at, event) {
                // The receiver is gone when the sync ends.
                let _ = sender.send(hint);
            }
        });
        let mut watcher = Self {
            watcher: watcher.ok(),
            root: root.to_owned(),
            hints,
            is_incomplete: false,
        };
        watcher.is_incomplete = watcher.watcher.is_none();
        if WATCHES_TREE {
            watcher.add(&LocalPath::root(), RecursiveMode::Recursive);
        }
        watcher
    }

    /// Watches a folder.
    pub(super) fn watch(&mut self, folder: &LocalPath) {
        if !WATCHES_TREE {
            self.add(folder, RecursiveMode::NonRecursive);
        }
    }

    fn add(&mut self, folder: &LocalPath, mode: RecursiveMode) {
        let path = self.root.join(folder.as_str().trim_start_matches('/'));
        let Some(watcher) = &mut self.watcher else { return };
        if let Err(error) = watcher.watch(&path, mode) {
            // A folder that is gone is noticed by the scan of its parent.
            let is_gone = matches!(error.kind, notify::ErrorKind::PathNotFound)
                || matches!(&error.kind, notify::ErrorKind::Io(error) if error.kind() == std::io::ErrorKind::NotFound);
            self.is_incomplete |= !is_gone;
        }
    }

    /// Whether the folder must be scanned from time to time, because not all of it is watched.
    pub(super) fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// The next hints, each folder once.
    pub(super) async fn next(&mut self) -> Hints {
        let mut hints = Hints::default();
        match self.hints.recv().await {
            Some(hint) => hints.add(hint),
            None => std::future::pending().await,
        }
        while let Ok(hint) = self.hints.try_recv() {
            hints.add(hint);
        }
        hints
    }
}

/// Hints that came together.
#[derive(Debug, Default)]
pub(super) struct Hints {
    pub(super) folders: BTreeSet<LocalPath>,
    pub(super) is_anything: bool,
}

impl Hints {
    fn add(&mut self, hint: Hint) {
        match hint {
            Hint::Folder(folder) => {
                self.folders.insert(folder);
            }
            Hint::Anything => self.is_anything = true,
        }
    }
}

fn hints_of(root: &Path, event: notify::Result<Event>) -> Vec<Hint> {
    let Ok(event) = event else {
        return vec![Hint::Anything];
    };
    // Such an event may have no path.
    if event.need_rescan() {
        return vec![Hint::Anything];
    }
    // The scan itself opens and reads.
    let is_write = event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write));
    if event.kind.is_access() && !is_write {
        return Vec::new();
    }
    event
        .paths
        .iter()
        .filter_map(|path| hint_of(root, path))
        .collect()
}

/// The hint of an event at a path; `None` in the private folder.
fn hint_of(root: &Path, path: &Path) -> Option<Hint> {
    let Ok(below) = path.strip_prefix(root) else {
        return Some(Hint::Anything);
    };
    if below.components().next() == Some(Component::Normal(PRIVATE.as_ref())) {
        return None;
    }
    let mut folder = String::new();
    for name in below.parent().unwrap_or(Path::new("")) {
        // Below a name that is not UTF-8 nothing is synced.
        let name = name.to_str()?;
        folder.push('/');
        folder.push_str(name);
    }
    Some(Hint::Folder(LocalPath::new(folder)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use notify::event::{Flag, ModifyKind};

    use super::*;

    fn hints(event: Event) -> Vec<Hint> {
        hints_of(Path::new("/root"), Ok(event))
    }

    fn folder(path: &str) -> Hint {
        Hint::Folder(LocalPath::new(path))
    }

    #[test]
    fn an_event_names_the_folder_of_its_paths() {
        let event = Event::new(EventKind::Modify(ModifyKind::Any));
        let event = event.add_path("/root/a".into()).add_path("/root/b/c/d".into());
        assert_eq!(hints(event), [folder(""), folder("/b/c")]);
        let own = Event::new(EventKind::Any).add_path("/root/.syncsphere/state.db".into());
        assert_eq!(hints(own), []);
        let root = Event::new(EventKind::Any).add_path("/root".into());
        assert_eq!(hints(root), [folder("")]);
    }

    #[test]
    fn lost_events_are_a_hint_at_everything() {
        assert_eq!(
            hints(Event::new(EventKind::Other).set_flag(Flag::Rescan)),
            [Hint::Anything]
        );
        assert_eq!(
            hints_of(Path::new("/root"), Err(notify::Error::generic("lost"))),
            [Hint::Anything]
        );
        let outside = Event::new(EventKind::Any).add_path("/elsewhere".into());
        assert_eq!(hints(outside), [Hint::Anything]);
    }

    #[test]
    fn reading_is_no_change() {
        let read = EventKind::Access(AccessKind::Open(AccessMode::Any));
        assert_eq!(hints(Event::new(read).add_path("/root/a".into())), []);
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        assert_eq!(
            hints(Event::new(written).add_path("/root/a".into())),
            [folder("")]
        );
    }

    #[tokio::test]
    async fn changes_of_watched_folders_arrive() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().canonicalize().unwrap();
        std::fs::create_dir_all(path.join("a/b")).unwrap();
        let mut watcher = FolderWatcher::new(&path);
        for folder in ["", "/a", "/a/b", "/gone"] {
            watcher.watch(&LocalPath::new(folder));
        }
        assert!(!watcher.is_incomplete());
        std::fs::write(path.join("a/b/file"), "content").unwrap();
        let within = Duration::from_secs(10);
        let hints = tokio::time::timeout(within, watcher.next()).await.unwrap();
        assert!(hints.folders.contains(&LocalPath::new("/a/b")), "{hints:?}");
    }
}
