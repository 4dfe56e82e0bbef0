//! A separate model of purging (`maintenance`) beside the commands that delete, restore and erase.
//!
//! One file has two versions at first. Commands and the steps of two purge runs come in every order, and a
//! run can be killed between any two of its steps. Each object has an upload, and a client can send the
//! content again for as long as the upload's presigned URL is valid.

use std::time::Instant;

use stateright::{Checker as _, Model, Property};
use tests::report;

const RUNS: usize = 2;

/// Number of versions at first, each with an object of its own.
const VERSIONS: usize = 2;

/// Maximum number of restored versions.
const RESTORED: usize = 1;

/// Maximum number of killed runs.
const KILLS: usize = 1;

/// Maximum number of files restored from the trash.
const RETURNS: usize = 1;

const CONTENT_KEPT: &str = "every visible version has its object";
const NOTHING_EARLY: &str = "a file in the trash is purged after its time only";
const NOTHING_LEFT: &str = "at the end, every object is named by a version";

/// Rules that a test can break, each described by the broken behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// An object is deleted although a version that is kept names it.
    SharedObjectDeleted,
    /// A marked version can be restored.
    MarkedVersionRestored,
    /// A marked file can be restored.
    MarkedFileRestored,
    /// Rows are deleted before objects.
    RowsFirst,
    /// The upload of a purged version is deleted while its URL is valid.
    UploadForgotten,
    /// Whether the URL is valid is decided after the object was deleted.
    ExpiryReadLate,
    /// Files are marked as soon as they are in the trash.
    MarkedEarly,
}

/// The rules, with at most one broken.
#[derive(Clone, Copy, Debug)]
struct Purges {
    broken: Option<Broken>,
    /// Name of the only property to check; all properties if `None`.
    only: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// `None` once the row is deleted.
    file: Option<File>,
    versions: Vec<Version>,
    objects: [bool; VERSIONS],
    uploads: [Upload; VERSIONS],
    runs: [Run; RUNS],
    restored: usize,
    returned: usize,
    killed: usize,
    /// A file was marked that could still be restored.
    marked_early: bool,
}

/// A row of `files`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum File {
    Live,
    /// In the trash, and whether its time there is over.
    Deleted {
        is_over: bool,
    },
    /// With `purge_at`.
    Marked,
}

/// A row of `versions`. The last one is the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Version {
    number: usize,
    object: usize,
    /// With `purge_at`.
    is_marked: bool,
}

/// A row of `uploads`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Upload {
    row: Row,
    /// Whether content can still be sent.
    is_open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Row {
    Completed,
    /// State `aborted`: the object is deleted once the URL is no longer valid.
    LeftOver,
    Gone,
}

/// A version that a run has listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Due {
    version: Version,
    is_shared: bool,
    /// Whether content could still be sent when the version was listed.
    was_open: bool,
}

/// A run with the versions that it has listed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Run {
    Idle,
    Listed(Vec<Due>),
    /// The objects of these versions are deleted; with [`Broken::RowsFirst`], their rows are.
    HalfDone(Vec<Due>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Delete,
    /// The time of the file in the trash ends.
    TimePasses,
    RestoreFile,
    RestoreVersion(usize),
    Erase,
    /// A client sends content again.
    SendAgain(usize),
    /// A presigned URL expires.
    Expire(usize),
    MarkFile,
    MarkOldVersions,
    List(usize),
    DeleteObjects(usize),
    DeleteRows(usize),
    Kill(usize),
    DeleteFile,
    /// Deletes the object of an aborted upload, and then its row.
    CleanUp(usize),
}

impl Model for Purges {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let version = |number| Version {
            number,
            object: number,
            is_marked: false,
        };
        let upload = Upload {
            row: Row::Completed,
            is_open: true,
        };
        vec![State {
            file: Some(File::Live),
            versions: (0..VERSIONS).map(version).collect(),
            objects: [true; VERSIONS],
            uploads: [upload; VERSIONS],
            runs: [Run::Idle, Run::Idle],
            restored: 0,
            returned: 0,
            killed: 0,
            marked_early: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        match state.file {
            Some(File::Live) => {
                actions.extend([Action::Delete, Action::Erase, Action::MarkOldVersions]);
                if state.restored < RESTORED {
                    let versions = state.versions.iter();
                    actions.extend(versions.map(|version| Action::RestoreVersion(version.number)));
                }
            }
            Some(File::Deleted { is_over }) => {
                actions.extend([Action::Erase, Action::MarkOldVersions, Action::MarkFile]);
                actions.extend((!is_over).then_some(Action::TimePasses));
                actions.extend((state.returned < RETURNS).then_some(Action::RestoreFile));
            }
            Some(File::Marked) => {
                actions.push(Action::DeleteFile);
                actions.extend((state.returned < RETURNS).then_some(Action::RestoreFile));
            }
            None => {}
        }
        for object in 0..VERSIONS {
            if state.uploads[object].is_open {
                actions.extend([Action::SendAgain(object), Action::Expire(object)]);
            }
            actions.push(Action::CleanUp(object));
        }
        for (run, doing) in state.runs.iter().enumerate() {
            actions.push(match doing {
                Run::Idle => Action::List(run),
                Run::Listed(_) if self.breaks(Broken::RowsFirst) => Action::DeleteRows(run),
                Run::Listed(_) => Action::DeleteObjects(run),
                Run::HalfDone(_) if self.breaks(Broken::RowsFirst) => Action::DeleteObjects(run),
                Run::HalfDone(_) => Action::DeleteRows(run),
            });
            if *doing != Run::Idle && state.killed < KILLS {
                actions.push(Action::Kill(run));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Delete => state.file = Some(File::Deleted { is_over: false }),
            Action::TimePasses => state.file = Some(File::Deleted { is_over: true }),
            Action::Erase => state.file = Some(File::Marked),
            Action::RestoreFile => {
                let is_visible = matches!(state.file, Some(File::Deleted { .. }));
                if is_visible || self.breaks(Broken::MarkedFileRestored) {
                    state.returned += 1;
                    state.file = Some(File::Live);
                }
            }
            Action::RestoreVersion(number) => self.restore_version(&mut state, number),
            // `If-None-Match: *`: an object that exists is not replaced.
            Action::SendAgain(object) => state.objects[object] = true,
            Action::Expire(object) => state.uploads[object].is_open = false,
            Action::MarkFile => {
                let is_over = state.file == Some(File::Deleted { is_over: true });
                if is_over || self.breaks(Broken::MarkedEarly) {
                    state.file = Some(File::Marked);
                    state.marked_early |= !is_over;
                }
            }
            Action::MarkOldVersions => {
                if let Some((_, old)) = state.versions.split_last_mut() {
                    for version in old {
                        version.is_marked = true;
                    }
                }
            }
            Action::List(run) => {
                let due = state.due();
                if !due.is_empty() {
                    state.runs[run] = Run::Listed(due);
                }
            }
            Action::DeleteObjects(run) => {
                let (Run::Listed(due) | Run::HalfDone(due)) = state.runs[run].clone() else {
                    return None;
                };
                for due in &due {
                    if !due.is_shared || self.breaks(Broken::SharedObjectDeleted) {
                        state.objects[due.version.object] = false;
                    }
                }
                state.runs[run] = Self::after(&state.runs[run], due);
            }
            Action::DeleteRows(run) => {
                let (Run::Listed(due) | Run::HalfDone(due)) = state.runs[run].clone() else {
                    return None;
                };
                self.delete_rows(&mut state, &due);
                state.runs[run] = Self::after(&state.runs[run], due);
            }
            Action::Kill(run) => {
                state.killed += 1;
                state.runs[run] = Run::Idle;
            }
            Action::DeleteFile => {
                if state.versions.is_empty() {
                    state.file = None;
                }
            }
            Action::CleanUp(object) => {
                let upload = &mut state.uploads[object];
                if upload.row == Row::LeftOver && !upload.is_open {
                    state.objects[object] = false;
                    upload.row = Row::Gone;
                }
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(CONTENT_KEPT, |_, state: &State| {
                let mut visible = state.visible();
                visible.all(|version| state.objects[version.object])
            }),
            Property::always(NOTHING_EARLY, |_, state: &State| !state.marked_early),
            Property::always(NOTHING_LEFT, |_, state: &State| {
                !state.is_over() || (0..VERSIONS).all(|object| state.names(object) || !state.objects[object])
            }),
            Property::sometimes("a run meets an object that is shared", |_, state: &State| {
                state.runs.iter().any(|run| match run {
                    Run::Listed(due) => due.iter().any(|due| due.is_shared),
                    _ => false,
                })
            }),
            Property::sometimes("two runs do the same", |_, state: &State| {
                state.runs[0] != Run::Idle && state.runs[0] == state.runs[1]
            }),
            Property::sometimes("everything is purged, and nothing is left", |_, state: &State| {
                state.is_over() && state.file.is_none()
            }),
        ];
        properties.retain(|property| self.only.is_none_or(|only| only == property.name));
        properties
    }
}

impl Purges {
    fn breaks(self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }

    /// The next state of a run after one of its two steps.
    fn after(run: &Run, due: Vec<Due>) -> Run {
        match run {
            Run::Listed(_) => Run::HalfDone(due),
            _ => Run::Idle,
        }
    }

    /// `db::trash::RESTORE_VERSION`: a new version names the object of an older one.
    fn restore_version(self, state: &mut State, number: usize) {
        let old = state.versions.iter().find(|version| version.number == number);
        let newest = state.versions.last();
        let Some((old, newest)) = old.copied().zip(newest.copied()) else {
            return;
        };
        let is_visible = !old.is_marked || self.breaks(Broken::MarkedVersionRestored);
        if is_visible && old.object != newest.object {
            state.restored += 1;
            state.versions.push(Version {
                number: newest.number + 1,
                object: old.object,
                is_marked: false,
            });
        }
    }

    /// `db::purge::DELETE_VERSIONS`: deletes rows that are marked, and the uploads of objects that are deleted.
    fn delete_rows(self, state: &mut State, due: &[Due]) {
        let is_file_marked = state.file == Some(File::Marked);
        for Due {
            version,
            is_shared,
            was_open,
        } in due
        {
            let is_due = |row: &Version| row.number == version.number && (row.is_marked || is_file_marked);
            state.versions.retain(|row| !is_due(row));
            let upload = &mut state.uploads[version.object];
            if !is_shared && upload.row == Row::Completed {
                let is_open = if self.breaks(Broken::ExpiryReadLate) {
                    upload.is_open
                } else {
                    *was_open
                };
                upload.row = if is_open && !self.breaks(Broken::UploadForgotten) {
                    Row::LeftOver
                } else {
                    Row::Gone
                };
            }
        }
    }
}

impl State {
    fn visible(&self) -> impl Iterator<Item = &Version> {
        let is_visible = matches!(self.file, Some(File::Live | File::Deleted { .. }));
        let versions = self.versions.iter();
        versions.filter(move |version| is_visible && !version.is_marked)
    }

    /// `db::purge::LIST_MARKED_VERSIONS`.
    fn due(&self) -> Vec<Due> {
        let is_file_marked = self.file == Some(File::Marked);
        let due = self.versions.iter();
        let due = due.filter(|version| is_file_marked || version.is_marked);
        due.map(|version| {
            let mut others = self.versions.iter();
            let is_shared =
                !is_file_marked && others.any(|other| other.object == version.object && !other.is_marked);
            Due {
                version: *version,
                is_shared,
                was_open: self.uploads[version.object].is_open,
            }
        })
        .collect()
    }

    fn names(&self, object: usize) -> bool {
        self.versions.iter().any(|version| version.object == object)
    }

    /// Whether no run, no marked row, no valid URL and no aborted upload is left.
    fn is_over(&self) -> bool {
        self.runs.iter().all(|run| *run == Run::Idle)
            && self.file != Some(File::Marked)
            && self.versions.iter().all(|version| !version.is_marked)
            && (self.uploads.iter()).all(|upload| !upload.is_open && upload.row != Row::LeftOver)
    }
}

/// Asserts that a broken rule violates a property, and reports the length of the history that shows it.
fn breaks(broken: Broken, property: &'static str) {
    let model = Purges {
        broken: Some(broken),
        only: Some(property),
    };
    // With one thread, breadth-first search finds a history of minimal length.
    let checker = model.checker().spawn_bfs().join();
    let history = checker.assert_any_discovery(property).into_actions();
    report(&format!(
        "purges, {broken:?}: not \"{property}\" after {} steps",
        history.len()
    ));
}

#[test]
fn every_history_of_two_purges_keeps_what_is_visible_and_leaves_nothing_else() {
    let began = Instant::now();
    let model = Purges {
        broken: None,
        only: None,
    };
    let checker = model.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    let (states, seconds) = (checker.unique_state_count(), began.elapsed().as_secs_f64());
    report(&format!("purges: {states} states in {seconds:.1} s"));
}

#[test]
fn an_object_that_is_deleted_although_it_is_shared_is_missed() {
    breaks(Broken::SharedObjectDeleted, CONTENT_KEPT);
}

#[test]
fn a_marked_version_that_can_be_restored_loses_its_object() {
    breaks(Broken::MarkedVersionRestored, CONTENT_KEPT);
}

#[test]
fn a_marked_file_that_can_be_restored_loses_its_objects() {
    breaks(Broken::MarkedFileRestored, CONTENT_KEPT);
}

#[test]
fn rows_that_are_deleted_first_leave_objects_that_nothing_names() {
    breaks(Broken::RowsFirst, NOTHING_LEFT);
}

#[test]
fn an_upload_that_is_forgotten_while_its_url_is_valid_leaves_an_object() {
    breaks(Broken::UploadForgotten, NOTHING_LEFT);
}

#[test]
fn an_upload_whose_expiry_is_read_after_its_object_was_deleted_leaves_an_object() {
    breaks(Broken::ExpiryReadLate, NOTHING_LEFT);
}

#[test]
fn a_file_that_is_marked_before_its_time_is_purged_early() {
    breaks(Broken::MarkedEarly, NOTHING_EARLY);
}
