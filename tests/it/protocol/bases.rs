//! A separate model of the bases of file changes (`baseVersion`, `baseFileId`, `basePath`). It is separate
//! because the delivery of a change to devices does not depend on its base.
//!
//! Two devices look at paths, and then upload, move and delete the files that they saw, in every order. A
//! move whose response is lost is repeated. A file has a version number, counted from 1. The model also
//! numbers every content; devices and rules do not know that number.
//!
//! Moves have no idempotency key, so a repeated move is recognised by its parameters. If the file has been
//! moved back in the meantime, it is moved again. That counts as based on the state that the device saw.

use std::time::Instant;

use stateright::{Checker as _, Model, Property};
use tests::report;

const PATHS: usize = 3;
const DEVICES: usize = 2;

/// Maximum number of changes that a device begins.
const CHANGES: usize = 2;

const NOTHING_UNSEEN: &str = "a change replaces, moves or deletes only what its device saw";
const NO_FALSE_REFUSAL: &str = "whose change was made is not told of a conflict";

/// Rules that a test can break, each described by the broken behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// An upload has no `baseFileId`.
    FileNotNamed,
    /// The file is compared when an upload is opened, and not again when it is committed.
    FileNotRecorded,
    /// Moves and deletes have no `basePath`.
    PathNotNamed,
    /// A repeated move does not look for the change that it made the first time.
    OwnMoveUnknown,
}

/// The rules, with at most one broken.
#[derive(Clone, Copy, Debug)]
struct Bases {
    broken: Option<Broken>,
    /// Name of the only property to check; all properties if `None`.
    only: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// All files that were ever created, deleted ones included.
    files: Vec<File>,
    devices: [Device; DEVICES],
    /// Number of contents uploaded so far.
    contents: usize,
    /// A device changed a file whose current state it had not seen.
    changed_unseen: bool,
    /// A repeated move was answered with a conflict although the device had made that move.
    refused_falsely: bool,
}

/// A row of `files` with its newest version and its changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct File {
    /// `None` if the file is deleted.
    path: Option<usize>,
    version: usize,
    content: usize,
    moves: Vec<Move>,
}

/// A row of `changes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Move {
    device: usize,
    from: usize,
    to: usize,
    version: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Device {
    /// Number of changes that the device may still begin.
    left: usize,
    /// Result of the last look at a path; `None` if the device has to look again.
    seen: Option<Seen>,
    doing: Doing,
}

/// Result of a look at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Seen {
    path: usize,
    file: Option<SeenFile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct SeenFile {
    file: usize,
    version: usize,
    content: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Doing {
    Nothing,
    /// Has opened an upload, whose row in `uploads` has this `base_file_id`.
    Uploading {
        base_file: Option<usize>,
    },
    /// Has requested a move and received no response. The model knows whether the move was made.
    Moving {
        to: usize,
        made: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Look {
        device: usize,
        path: usize,
    },
    Open(usize),
    Complete(usize),
    Move {
        device: usize,
        to: usize,
        answered: bool,
    },
    MoveAgain(usize),
    Delete(usize),
}

/// Response to a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Made,
    Already,
    Conflict,
    /// The file does not exist, or another file is at the new path.
    Refused,
}

impl Model for Bases {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let file = |path| File {
            path: Some(path),
            version: 1,
            content: path,
            moves: Vec::new(),
        };
        let device = Device {
            left: CHANGES,
            seen: None,
            doing: Doing::Nothing,
        };
        vec![State {
            files: vec![file(0), file(1)],
            devices: [device; DEVICES],
            contents: 2,
            changed_unseen: false,
            refused_falsely: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (device, of) in state.devices.iter().enumerate() {
            match of.doing {
                Doing::Uploading { .. } => actions.push(Action::Complete(device)),
                Doing::Moving { .. } => actions.push(Action::MoveAgain(device)),
                Doing::Nothing if of.left > 0 => {
                    actions.extend((0..PATHS).map(|path| Action::Look { device, path }));
                    let Some(seen) = of.seen else {
                        continue;
                    };
                    actions.push(Action::Open(device));
                    if seen.file.is_some() {
                        actions.push(Action::Delete(device));
                        for to in (0..PATHS).filter(|to| *to != seen.path) {
                            for answered in [true, false] {
                                actions.push(Action::Move { device, to, answered });
                            }
                        }
                    }
                }
                Doing::Nothing => {}
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Look { device, path } => state.devices[device].seen = Some(state.look(path)),
            Action::Open(device) => self.open(&mut state, device),
            Action::Complete(device) => Self::complete(&mut state, device),
            Action::Move { device, to, answered } => {
                state.devices[device].left -= 1;
                let answer = self.make_move(&mut state, device, to);
                let made = answer == Answer::Made;
                if answered {
                    state.devices[device].seen = None;
                } else {
                    state.devices[device].doing = Doing::Moving { to, made };
                }
            }
            Action::MoveAgain(device) => {
                if let Doing::Moving { to, made } = state.devices[device].doing {
                    let answer = self.make_move(&mut state, device, to);
                    state.refused_falsely |= made && answer == Answer::Conflict;
                }
                state.devices[device].doing = Doing::Nothing;
                state.devices[device].seen = None;
            }
            Action::Delete(device) => self.delete(&mut state, device),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(NOTHING_UNSEEN, |_, state: &State| !state.changed_unseen),
            Property::always(NO_FALSE_REFUSAL, |_, state: &State| !state.refused_falsely),
            Property::sometimes(
                "an upload finds the same number of another file",
                |_, state: &State| {
                    state.devices.iter().any(|of| {
                        let uploading = matches!(of.doing, Doing::Uploading { .. });
                        uploading && of.seen.is_some_and(|seen| state.is_another_file(seen))
                    })
                },
            ),
            Property::sometimes("a move is repeated after another device's", |_, state: &State| {
                state.devices.iter().any(|of| match (of.doing, of.seen) {
                    (Doing::Moving { to, made: true }, Some(Seen { file: Some(file), .. })) => {
                        let path = state.files[file.file].path;
                        path.is_some_and(|path| path != to)
                    }
                    _ => false,
                })
            }),
        ];
        properties.retain(|property| self.only.is_none_or(|only| only == property.name));
        properties
    }
}

impl Bases {
    fn breaks(self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }

    /// `db::uploads::OPEN_UPLOAD`, with the `baseVersion` and `baseFileId` that the device saw. It compares
    /// them with the file at the path and records that file's id.
    fn open(self, state: &mut State, device: usize) {
        let of = &mut state.devices[device];
        of.left -= 1;
        let Some(seen) = of.seen else {
            return;
        };
        let there = state.look(seen.path).file;
        let named = seen
            .file
            .filter(|_| !self.breaks(Broken::FileNotNamed))
            .map(|it| it.file);
        let found = there.map(|it| it.file);
        let of = &mut state.devices[device];
        if version(there) != version(seen.file) || named.is_some() && named != found {
            of.seen = None;
        } else {
            let base_file = found.filter(|_| !self.breaks(Broken::FileNotRecorded));
            of.doing = Doing::Uploading { base_file };
        }
    }

    /// `db::uploads::COMPLETE_UPLOAD`: compares the recorded base with the file at the path, under the
    /// space's lock. A repeated completion is recognised by the upload's id; [`super`] models that.
    fn complete(state: &mut State, device: usize) {
        let (Some(seen), Doing::Uploading { base_file }) =
            (state.devices[device].seen, state.devices[device].doing)
        else {
            return;
        };
        state.devices[device].doing = Doing::Nothing;
        let there = state.look(seen.path).file;
        let found = there.map(|it| it.file);
        if version(there) != version(seen.file) || base_file.is_some() && base_file != found {
            state.devices[device].seen = None;
            return;
        }
        state.changed_unseen |= there != seen.file;
        let content = state.contents;
        state.contents += 1;
        match found {
            Some(file) => {
                state.files[file].version += 1;
                state.files[file].content = content;
            }
            None => state.files.push(File {
                path: Some(seen.path),
                version: 1,
                content,
                moves: Vec::new(),
            }),
        }
        state.devices[device].seen = Some(state.look(seen.path));
    }

    /// `db::files::MOVE_FILE`, in one statement under the space's lock. If the file is not at the base, the
    /// statement looks for the same move made before by the same device from the same base.
    fn make_move(self, state: &mut State, device: usize, to: usize) -> Answer {
        let Some(Seen {
            path: from,
            file: Some(seen),
        }) = state.devices[device].seen
        else {
            return Answer::Refused;
        };
        let is_taken = state.look(to).file.is_some_and(|other| other.file != seen.file);
        let base_path = (!self.breaks(Broken::PathNotNamed)).then_some(from);
        let file = &mut state.files[seen.file];
        let Some(path) = file.path else {
            return Answer::Refused;
        };
        let is_same = |own: &Move| {
            (own.device, own.to, own.version) == (device, to, seen.version)
                && base_path.is_none_or(|base| base == own.from)
        };
        let is_elsewhere = base_path.is_some_and(|base| base != path) && path != to;
        let is_based = file.version == seen.version && !is_elsewhere;
        if !is_based && !self.breaks(Broken::OwnMoveUnknown) && file.moves.iter().any(is_same) {
            Answer::Already
        } else if !is_based {
            Answer::Conflict
        } else if path == to {
            Answer::Already
        } else if is_taken {
            Answer::Refused
        } else {
            let version = file.version;
            file.moves.push(Move {
                device,
                from: path,
                to,
                version,
            });
            file.path = Some(to);
            state.changed_unseen |= path != from || file.content != seen.content;
            Answer::Made
        }
    }

    /// `db::files::DELETE_FILE`. A repeated delete has no effect, because deleting a deleted file changes
    /// nothing.
    fn delete(self, state: &mut State, device: usize) {
        let of = &mut state.devices[device];
        of.left -= 1;
        let Some(Seen {
            path: from,
            file: Some(seen),
        }) = of.seen.take()
        else {
            return;
        };
        let file = &mut state.files[seen.file];
        let Some(path) = file.path else {
            return;
        };
        let is_at_base = path == from || self.breaks(Broken::PathNotNamed);
        if file.version == seen.version && is_at_base {
            state.changed_unseen |= path != from || file.content != seen.content;
            file.path = None;
        }
    }
}

impl State {
    /// Reads the file at a path, as `GET /files` or the feed shows it.
    fn look(&self, path: usize) -> Seen {
        let mut files = self.files.iter().enumerate();
        let found = files.find(|(_, file)| file.path == Some(path));
        let file = found.map(|(number, file)| SeenFile {
            file: number,
            version: file.version,
            content: file.content,
        });
        Seen { path, file }
    }

    /// Whether another file with the same version number is now at a path that was seen.
    fn is_another_file(&self, seen: Seen) -> bool {
        let (there, seen) = (self.look(seen.path).file, seen.file);
        there
            .zip(seen)
            .is_some_and(|(there, seen)| there.file != seen.file && there.version == seen.version)
    }
}

/// `coalesce(version, 0)`.
fn version(file: Option<SeenFile>) -> usize {
    file.map_or(0, |file| file.version)
}

/// Asserts that a broken rule violates a property, and reports the length of the history that shows it.
fn breaks(broken: Broken, property: &'static str) {
    let model = Bases {
        broken: Some(broken),
        only: Some(property),
    };
    // With one thread, breadth-first search finds a history of minimal length.
    let checker = model.checker().spawn_bfs().join();
    let history = checker.assert_any_discovery(property).into_actions();
    report(&format!(
        "bases, {broken:?}: not \"{property}\" after {} steps",
        history.len()
    ));
}

#[test]
fn every_history_of_two_devices_changes_only_what_was_seen() {
    let began = Instant::now();
    let model = Bases {
        broken: None,
        only: None,
    };
    let checker = model.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    let (states, seconds) = (checker.unique_state_count(), began.elapsed().as_secs_f64());
    report(&format!("bases: {states} states in {seconds:.1} s"));
}

#[test]
fn an_upload_that_does_not_name_its_file_replaces_another_one() {
    breaks(Broken::FileNotNamed, NOTHING_UNSEEN);
}

#[test]
fn an_upload_whose_file_is_not_recorded_replaces_one_that_came_while_it_was_sent() {
    breaks(Broken::FileNotRecorded, NOTHING_UNSEEN);
}

#[test]
fn a_change_that_does_not_name_its_path_undoes_a_move() {
    breaks(Broken::PathNotNamed, NOTHING_UNSEEN);
}

#[test]
fn a_repeated_move_that_does_not_find_its_own_change_is_refused() {
    breaks(Broken::OwnMoveUnknown, NO_FALSE_REFUSAL);
}
