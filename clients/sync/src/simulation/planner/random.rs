//! Random cases: up to twelve files in folders, on volumes that ignore case or not.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::{Case, Token, id, local_file, put, remote_row, run, synced_row, volume};
use crate::path::LocalPath;
use crate::simulation::hits::Hits;
use crate::tree::{FolderState, LocalEntry, Trees};

const SEGMENTS: [&str; 6] = ["a", "b", "A", "c", "ä", "d"];

/// A side: what each file is, by path.
type Files = BTreeMap<String, (u32, Token)>;

/// Runs the case of a seed.
pub fn random(seed: u64, hits: &mut Hits) -> Result<(), String> {
    let mut rng = Rng::with_seed(seed);
    let ignores_case = rng.u8(..4) == 0;
    let mut base = Files::new();
    let number = rng.u32(1..=7);
    for file in 1..=number {
        if let Some(path) = free_path(&base, ignores_case, &mut rng) {
            base.insert(path, (file, file));
        }
    }
    let mut next = 100;
    let here = edited(&base, ignores_case, &mut next, &mut rng);
    // The service tells names apart that differ in case.
    let there = edited(&base, false, &mut next, &mut rng);
    let case = case(ignores_case, &base, &here, &there, &mut rng);
    run(case, &mut rng, hits).map_err(|what| format!("seed {seed}: {what}"))
}

fn path(rng: &mut Rng) -> String {
    let depth = [1, 1, 2, 2, 3][rng.usize(..5)];
    (0..depth)
        .flat_map(|_| ["/", SEGMENTS[rng.usize(..SEGMENTS.len())]])
        .collect()
}

fn free_path(files: &Files, ignores_case: bool, rng: &mut Rng) -> Option<String> {
    let fold = |path: &str| {
        if ignores_case {
            path.to_lowercase()
        } else {
            path.to_owned()
        }
    };
    (0..8).map(|_| path(rng)).find(|path| {
        files.keys().all(|other| {
            let (one, other) = (fold(path), fold(other));
            one != other && !other.starts_with(&format!("{one}/")) && !one.starts_with(&format!("{other}/"))
        })
    })
}

/// The files after some random changes.
fn edited(base: &Files, ignores_case: bool, next: &mut Token, rng: &mut Rng) -> Files {
    let mut files = base.clone();
    for _ in 0..rng.u8(..6) {
        let paths: Vec<String> = files.keys().cloned().collect();
        let any = (!paths.is_empty()).then(|| paths[rng.usize(..paths.len())].clone());
        *next += 1;
        match (rng.u8(..6), any) {
            (0, Some(path)) => {
                files.remove(&path);
            }
            (1, Some(path)) => {
                if let Some(file) = files.get_mut(&path) {
                    file.1 = *next;
                }
            }
            (2, Some(path)) => {
                if let Some(file) = files.remove(&path) {
                    let to = free_path(&files, ignores_case, rng).unwrap_or(path);
                    files.insert(to, file);
                }
            }
            (3, Some(path)) => {
                // Two files take each other's places.
                let other = &paths[rng.usize(..paths.len())];
                if let (Some(one), Some(two)) = (files.get(&path).copied(), files.get(other).copied()) {
                    files.insert(path, two);
                    files.insert(other.clone(), one);
                }
            }
            _ => {
                let content = if rng.bool() { 50 + rng.u32(..2) } else { *next };
                if let Some(path) = free_path(&files, ignores_case, rng) {
                    files.insert(path, (*next, content));
                }
            }
        }
    }
    files
}

fn case(ignores_case: bool, base: &Files, here: &Files, there: &Files, rng: &mut Rng) -> Case {
    let mut trees = Trees::new(volume(ignores_case));
    trees.set_root(FolderState::Listed);
    let mut kept = BTreeSet::new();
    let old: BTreeMap<u32, Token> = base.values().copied().collect();
    for (path, (file, token)) in here {
        put(
            &mut trees,
            &LocalPath::new(path.as_str()),
            local_file(u64::from(*file), *token),
        );
        if old.get(file) != Some(token) {
            kept.insert(*token);
        }
    }
    for (path, (file, token)) in there {
        let version = if old.get(file).is_some_and(|old| old != token) {
            2
        } else {
            1
        };
        trees.set_remote(id(*file), Some(remote_row(path, version, *token)));
        if old.get(file) != Some(token) {
            kept.insert(*token);
        }
    }
    for (path, (file, token)) in base {
        trees.set_synced(id(*file), Some(synced_row(path, u64::from(*file), *token)));
        if rng.u8(..30) == 0 && trees.local(&LocalPath::new(path.as_str())).is_none() {
            let is_free = free_of(&trees, path);
            if is_free {
                put_other(&mut trees, path);
            }
        }
    }
    let text = format!("ignores case: {ignores_case}\nbase {base:?}\nhere {here:?}\nthere {there:?}");
    Case { trees, kept, text }
}

/// Whether a link can be at a path: no folder on the way is a file.
fn free_of(trees: &Trees, path: &str) -> bool {
    let path = LocalPath::new(path);
    let key = trees.names().local_key(&path);
    trees.local_with_key(&key).next().is_none()
        && trees.local_below(&path).next().is_none()
        && path.folders().all(|folder| {
            let key = trees.names().local_key(&folder);
            trees
                .local_with_key(&key)
                .all(|at| *at == folder && matches!(trees.local(at), Some(LocalEntry::Folder(_))))
        })
}

fn put_other(trees: &mut Trees, path: &str) {
    let path = LocalPath::new(path);
    for folder in path.folders() {
        if trees.local(&folder).is_none() {
            trees.set_local(&folder, Some(LocalEntry::Folder(FolderState::Listed)));
        }
    }
    trees.set_local(&path, Some(LocalEntry::Link));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_cases_end_equal_with_all_contents() {
        let mut hits = Hits::default();
        for seed in 0..20_000 {
            random(seed, &mut hits).unwrap_or_else(|what| panic!("{what}"));
        }
    }
}
