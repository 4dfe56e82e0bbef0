//! The planner alone: operations are applied to trees that are right about the world, without races.
//!
//! A case begins with files that both sides agree about, and a change of each side. It ends well if both sides
//! are equal except for what is held, and every new content is somewhere. Each plan is applied in two random
//! orders, which must give the same trees (invariant I12).

mod apply;
mod exhaustive;
mod random;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use model::{FileId, Sha256, SpacePath};
use uuid::Uuid;

use super::hits::Hits;
use crate::disk::{Identity, Stamp, Volume};
use crate::names::Key;
use crate::path::LocalPath;
use crate::plan::{Claims, Decision, Hiding, Settings, plan};
use crate::tree::{FolderState, LocalEntry, LocalFile, RemoteRow, SyncedRow, Trees};
use apply::apply;
pub use exhaustive::exhaustive;
pub use random::random;

/// Rounds of planning after which a case has no end (I3).
const MAX_ROUNDS: usize = 60;

/// A content: its name is its only property.
pub(crate) type Token = u32;

pub(crate) fn sha256(token: Token) -> Sha256 {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&token.to_be_bytes());
    bytes.into()
}

/// A case: trees, the contents that must not be lost, and what happened for people to read.
struct Case {
    trees: Trees,
    kept: BTreeSet<Token>,
    text: String,
}

fn volume(ignores_case: bool) -> Volume {
    Volume {
        ignores_case,
        ..Volume::LINUX
    }
}

fn id(number: u32) -> FileId {
    Uuid::from_u128(number.into()).into()
}

fn space(path: &str) -> SpacePath {
    #[expect(clippy::unwrap_used, reason = "the paths of the cases are valid")]
    path.parse().unwrap()
}

fn stamp(inode: u64) -> Stamp {
    Stamp {
        identity: Identity {
            device: 1,
            inode,
            birth: Some(0),
        },
        size: 1,
        modified: 0,
        changed: 0,
    }
}

fn local_file(inode: u64, token: Token) -> LocalFile {
    LocalFile {
        stamp: stamp(inode),
        sha256: Some(sha256(token)),
        is_racy: false,
        executable: None,
    }
}

fn remote_row(path: &str, version: i64, token: Token) -> RemoteRow {
    #[expect(clippy::unwrap_used, reason = "the versions of the cases are valid")]
    let version = version.try_into().unwrap();
    RemoteRow {
        path: space(path),
        version,
        size: 1,
        sha256: sha256(token),
        modified_at: None,
        executable: None,
    }
}

fn synced_row(path: &str, inode: u64, token: Token) -> SyncedRow {
    let there = remote_row(path, 1, token);
    SyncedRow {
        path: there.path,
        local: LocalPath::new(path),
        version: there.version,
        size: 1,
        sha256: there.sha256,
        executable: None,
        stamp: stamp(inode),
        sequence: None,
    }
}

/// Adds a file of the folder, with its folders.
fn put(trees: &mut Trees, path: &LocalPath, file: LocalFile) {
    for folder in path.folders() {
        if trees.local(&folder).is_none() {
            trees.set_local(&folder, Some(LocalEntry::Folder(FolderState::Listed)));
        }
    }
    trees.set_local(path, Some(LocalEntry::File(file)));
}

/// Plans and applies until nothing is left to do.
fn run(case: Case, rng: &mut Rng, hits: &mut Hits) -> Result<(), String> {
    let Case {
        mut trees,
        kept,
        text,
    } = case;
    let mut log = Vec::new();
    let fail = |what: String, log: &[String]| Err(format!("{what}\n{text}\n{}", log.join("\n")));
    let mut held = BTreeSet::new();
    for _ in 0..MAX_ROUNDS {
        let absent: Vec<FileId> = trees.absent().keys().copied().collect();
        for id in absent {
            trees.confirm_absence(id);
        }
        trees.mark_all();
        let settings = Settings {
            sends: true,
            receives: true,
            is_viewer: false,
            is_scanned: true,
            label: "label",
            hiding: &|_| Hiding::No,
        };
        let decided = plan(&trees, &settings, &mut Claims::default(), 8);
        let mut ops = Vec::new();
        let mut waits = Vec::new();
        held.clear();
        for one in decided {
            hits.hit(format!("{:?} × {:?}", one.class.local, one.class.remote));
            match one.decision {
                Decision::Do(op) => ops.push((one.item, op)),
                Decision::Wait => waits.push(one.item),
                Decision::Hold(reason) => {
                    hits.hit(format!("held: {reason:?}"));
                    held.insert(one.item);
                }
                Decision::Nothing => {}
            }
        }
        if ops.is_empty() {
            // What waits for something that is held is held too.
            if !waits.is_empty() && held.is_empty() {
                return fail(format!("waits for ever: {waits:?}"), &log);
            }
            return match difference(&trees, &kept, held.is_empty()) {
                Some(what) => fail(what, &log),
                None => Ok(()),
            };
        }
        let mut other = trees.clone();
        log.extend(ops.iter().map(|(_, op)| op.to_string()));
        rng.shuffle(&mut ops);
        for (_, op) in &ops {
            if let Err(what) = apply(&mut trees, op) {
                return fail(format!("{what}: {op}"), &log);
            }
        }
        rng.shuffle(&mut ops);
        for (_, op) in &ops {
            if let Err(what) = apply(&mut other, op) {
                return fail(format!("{what}, in another order: {op}"), &log);
            }
        }
        if files(&trees) != files(&other) || trees.all_remote() != other.all_remote() {
            return fail("the order of the operations matters".to_owned(), &log);
        }
    }
    fail("no end".to_owned(), &log)
}

/// The contents of the folder by key: on a volume that ignores case, files of two folders may share one.
fn files(trees: &Trees) -> BTreeMap<Key, Option<Sha256>> {
    let files = trees.all_local().iter().filter_map(|(path, entry)| match entry {
        LocalEntry::File(file) => Some((trees.names().local_key(path), file.sha256)),
        _ => None,
    });
    files.collect()
}

/// What is wrong with the final state.
fn difference(trees: &Trees, kept: &BTreeSet<Token>, must_be_equal: bool) -> Option<String> {
    let here = files(trees);
    let there: BTreeMap<Key, Option<Sha256>> = trees
        .all_remote()
        .values()
        .map(|row| (trees.names().key(row.path.as_str()), Some(row.sha256)))
        .collect();
    // Two files of the space may have one key.
    let contents_there: BTreeSet<[u8; 32]> = trees
        .all_remote()
        .values()
        .map(|row| *row.sha256.as_bytes())
        .collect();
    for token in kept {
        let sha256 = sha256(*token);
        let is_here = here.values().any(|it| *it == Some(sha256));
        let has_space = contents_there.contains(sha256.as_bytes());
        if !is_here && !has_space || must_be_equal && !(is_here && has_space) {
            return Some(format!("content {token} is lost: here {here:?}, there {there:?}"));
        }
    }
    (must_be_equal && here != there).then(|| format!("here {here:?}, there {there:?}"))
}
