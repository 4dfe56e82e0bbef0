//! All cases of a small scope.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::{Case, Token, id, local_file, put, remote_row, run, synced_row, volume};
use crate::path::LocalPath;
use crate::simulation::hits::Hits;
use crate::tree::{FolderState, LocalEntry, Trees};

/// What became of a synced file on one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// At this path, with the old content or a new one.
    File { path: &'static str, is_edited: bool },
    /// Gone.
    Gone,
    /// Gone, and an empty folder has its place.
    Folder,
    /// Gone, and a link has its place.
    Link,
}

/// A new file of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Created {
    path: &'static str,
    /// Content that both sides may create.
    is_common: bool,
}

#[derive(Clone, Debug)]
struct Side {
    fates: [Fate; 2],
    created: Option<Created>,
}

impl Side {
    fn paths(&self, places: [&'static str; 2]) -> Vec<&'static str> {
        let fates = self
            .fates
            .iter()
            .zip(places)
            .filter_map(|(fate, place)| match fate {
                Fate::File { path, .. } => Some(*path),
                Fate::Gone => None,
                Fate::Folder | Fate::Link => Some(place),
            });
        fates.chain(self.created.map(|created| created.path)).collect()
    }

    /// Whether a disk can have this.
    fn is_possible(&self, places: [&'static str; 2]) -> bool {
        let paths = self.paths(places);
        let mut pairs = paths
            .iter()
            .enumerate()
            .flat_map(|(at, one)| paths[at + 1..].iter().map(move |it| (one, it)));
        pairs.all(|(one, other)| {
            let below = |one: &str, other: &str| other.starts_with(&format!("{one}/"));
            one != other && !below(one, other) && !below(other, one)
        })
    }
}

fn sides(paths: &[&'static str], places: [&'static str; 2], is_local: bool) -> Vec<Side> {
    let mut fates = vec![Fate::Gone];
    for path in paths {
        fates.extend([false, true].map(|is_edited| Fate::File { path, is_edited }));
    }
    if is_local {
        fates.extend([Fate::Folder, Fate::Link]);
    }
    let mut created = vec![None];
    for path in paths {
        created.extend([false, true].map(|is_common| Some(Created { path, is_common })));
    }
    let mut sides = Vec::new();
    for one in &fates {
        for other in &fates {
            for created in &created {
                let side = Side {
                    fates: [*one, *other],
                    created: *created,
                };
                if side.is_possible(places) {
                    sides.push(side);
                }
            }
        }
    }
    sides
}

const COMMON: Token = 50;

fn content(file: usize, is_edited: bool, is_local: bool) -> Token {
    let number = Token::try_from(file).unwrap_or_default() + 1;
    match (is_edited, is_local) {
        (false, _) => number,
        (true, true) => number + 10,
        (true, false) => number + 20,
    }
}

fn created_content(created: Created, is_local: bool) -> Token {
    match (created.is_common, is_local) {
        (true, _) => COMMON,
        (false, true) => 31,
        (false, false) => 32,
    }
}

fn case(places: [&'static str; 2], here: &Side, there: &Side, new_inodes: bool) -> Case {
    let mut trees = Trees::new(volume(false));
    trees.set_root(FolderState::Listed);
    let mut kept = BTreeSet::new();
    for (at, place) in places.into_iter().enumerate() {
        let number = u32::try_from(at).unwrap_or_default() + 1;
        let inode = u64::from(number);
        let (mine, theirs) = (here.fates[at], there.fates[at]);
        match mine {
            Fate::File { path, is_edited } => {
                let inode = if new_inodes && is_edited {
                    inode + 40
                } else {
                    inode
                };
                put(
                    &mut trees,
                    &LocalPath::new(path),
                    local_file(inode, content(at, is_edited, true)),
                );
            }
            Fate::Folder => trees.set_local(
                &LocalPath::new(place),
                Some(LocalEntry::Folder(FolderState::Listed)),
            ),
            Fate::Link => trees.set_local(&LocalPath::new(place), Some(LocalEntry::Link)),
            Fate::Gone => {}
        }
        if let Fate::File { path, is_edited } = theirs {
            let version = if is_edited { 2 } else { 1 };
            trees.set_remote(
                id(number),
                Some(remote_row(path, version, content(at, is_edited, false))),
            );
        }
        trees.set_synced(
            id(number),
            Some(synced_row(place, inode, content(at, false, true))),
        );
        // An edit is kept. So is a file that one side has only moved, whatever the other did.
        for (fate, is_local) in [(mine, true), (theirs, false)] {
            if let Fate::File { path, is_edited } = fate {
                // A new file at its place is an edit: programs save by renames.
                let is_replaced = here.paths(places).contains(&place)
                    && !matches!(mine, Fate::File { path, .. } if path == place);
                let is_superseded = is_replaced
                    || [mine, theirs]
                        .iter()
                        .any(|fate| matches!(fate, Fate::File { is_edited: true, .. }));
                if is_edited {
                    kept.insert(content(at, true, is_local));
                } else if path != place && !is_superseded {
                    kept.insert(content(at, false, is_local));
                }
            }
        }
    }
    if let Some(created) = here.created {
        let token = created_content(created, true);
        put(&mut trees, &LocalPath::new(created.path), local_file(30, token));
        kept.insert(token);
    }
    if let Some(created) = there.created {
        let token = created_content(created, false);
        trees.set_remote(id(30), Some(remote_row(created.path, 1, token)));
        kept.insert(token);
    }
    let text = format!("here {here:?}\nthere {there:?}");
    Case { trees, kept, text }
}

/// Runs all cases of two synced files and one new file on each side, over three paths: three names of one
/// folder, and names of which one may be a folder of another. Returns the number of cases.
pub fn exhaustive(hits: &mut Hits) -> Result<u64, String> {
    let mut rng = Rng::with_seed(1);
    let mut cases = 0;
    let scopes: [(&[&'static str], [&'static str; 2]); 3] = [
        (&["/a", "/b", "/c"], ["/a", "/b"]),
        (&["/a", "/b", "/a/b"], ["/a", "/b"]),
        (&["/d/a", "/d/b", "/e/a"], ["/d/a", "/d/b"]),
    ];
    for (paths, places) in scopes {
        let there = sides(paths, places, false);
        for here in sides(paths, places, true) {
            for there in &there {
                for new_inodes in [false, true] {
                    cases += 1;
                    run(case(places, &here, there, new_inodes), &mut rng, hits)?;
                }
            }
        }
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_of_a_small_scope_ends_equal_with_all_contents() {
        let mut hits = Hits::default();
        let cases = exhaustive(&mut hits).unwrap_or_else(|what| panic!("{what}"));
        assert!(cases > 100_000, "{cases}");
        // Every cell that a flat scope can have.
        for local in [
            "Same",
            "Edited",
            "Deleted",
            "Moved",
            "MovedEdited",
            "Folder",
            "Other",
        ] {
            for remote in ["Same", "Edited", "Deleted", "Moved", "MovedEdited"] {
                assert!(
                    hits.count(&format!("{local} × {remote}")) > 0,
                    "{local} × {remote}"
                );
            }
        }
    }
}
