//! What to do with each file: pure functions of the trees.
//!
//! A content edit goes before a move, and a move before a deletion. If both sides edited a file, both contents
//! are kept; if both moved it, the path of the space wins. A deletion counts only against exactly the state that
//! its user saw.
//!
//! A conflict needs no operation of its own. The synced row of the file is forgotten, so a file of the folder
//! and a file of the space meet at one path without a common past: if their contents differ, the one of the
//! folder gets a conflict name, and the other one is downloaded. A crash at any point leaves a state that the
//! same rules continue. A file that was edited on one side and deleted on the other is forgotten likewise, and
//! is then a new file on the side that has it.

mod claims;
mod class;
mod created;
mod op;
mod seat;
mod synced;

use model::SpacePath;

use crate::tree::{Item, Trees};
pub use claims::Claims;
pub use class::{Class, LocalClass, RemoteClass};
pub use op::{Forgotten, Hold, Move, Op};
pub use seat::Seat;

/// The planner's input besides the trees.
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact")]
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// Whether changes of the folder may go to the space.
    pub sends: bool,
    /// Whether changes of the space may go to the folder.
    pub receives: bool,
    /// Whether the role allows only to read.
    pub is_viewer: bool,
    /// Whether no folder waits for a scan. Only then is a file that is nowhere deleted.
    pub is_scanned: bool,
    /// The label of conflict names.
    pub label: &'a str,
    /// Whether a path is hidden.
    pub hiding: &'a dyn Fn(&str) -> Hiding,
}

/// Whether a path exists for the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hiding {
    /// It does.
    No,
    /// It does not: an ignore rule hides it on both sides.
    Ignored,
    /// It is excluded on this device: what the space has is not downloaded, and what the folder has is held.
    Excluded,
}

/// What the planner says about an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Both sides agree, or the item is the business of another one.
    Nothing,
    /// Something must be observed or done first. The item is looked at again.
    Wait,
    /// Nothing can be done until something changes.
    Hold(Hold),
    /// Do this.
    Do(Op),
}

/// A decision, and the cell of the table that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The item.
    pub item: Item,
    /// The row and the column of the table.
    pub class: Class,
    /// The decision.
    pub decision: Decision,
}

/// Decides about one item.
pub fn decide(trees: &Trees, settings: &Settings<'_>, item: &Item) -> Decided {
    let planner = Planner { trees, settings };
    let (class, decision) = match item {
        Item::File(id) => match (trees.synced(*id), trees.remote(*id)) {
            (Some(row), _) => planner.synced(*id, row),
            (None, Some(row)) => planner.created_there(*id, row),
            (None, None) => (Class::NONE, Decision::Nothing),
        },
        Item::Local(path) => planner.created_here(path),
    };
    Decided {
        item: item.clone(),
        class,
        decision,
    }
}

/// Decides about the items that are marked, and stops after `limit` operations. Operations of one plan, and those
/// that are `claimed` because they are under way, are independent of each other.
pub fn plan(trees: &Trees, settings: &Settings<'_>, claims: &mut Claims, limit: usize) -> Vec<Decided> {
    let mut plan = Vec::new();
    let mut operations = 0;
    for item in trees.dirty() {
        if operations >= limit {
            break;
        }
        if claims.has_item(item) {
            continue;
        }
        let mut decided = decide(trees, settings, item);
        if let Decision::Do(op) = &decided.decision {
            if claims.claim(trees, item, op) {
                operations += 1;
            } else {
                decided.decision = Decision::Wait;
            }
        }
        plan.push(decided);
    }
    plan
}

struct Planner<'a> {
    trees: &'a Trees,
    settings: &'a Settings<'a>,
}

impl Planner<'_> {
    fn hiding(&self, path: &SpacePath) -> Hiding {
        (self.settings.hiding)(path.as_str())
    }

    /// An operation that changes the space, if the role and the direction allow it.
    fn send(&self, op: Op) -> Decision {
        if self.settings.is_viewer {
            Decision::Hold(Hold::ReadOnly)
        } else if self.settings.sends {
            Decision::Do(op)
        } else {
            Decision::Hold(Hold::Direction)
        }
    }

    /// An operation that changes the folder, if the direction allows it.
    fn receive(&self, op: Op) -> Decision {
        if self.settings.receives {
            Decision::Do(op)
        } else {
            Decision::Hold(Hold::Direction)
        }
    }
}
