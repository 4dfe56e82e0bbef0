//! What the operations of a plan touch, so that they are independent of each other.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use model::FileId;

use super::Op;
use crate::names::Key;
use crate::tree::{Item, Trees};

/// Items and paths that operations under way touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    by_item: BTreeMap<Item, Claim>,
    items: BTreeSet<Item>,
    here: Paths,
    there: Paths,
}

/// The claims of one operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Claim {
    items: Vec<Item>,
    here: Vec<Key>,
    there: Vec<Key>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Paths(BTreeSet<Key>);

impl Paths {
    /// Whether a path is claimed, or a folder of it, or something below it.
    fn touches(&self, key: &str) -> bool {
        if self.0.contains(key) {
            return true;
        }
        let mut folders = key.match_indices('/').skip(1).map(|(end, _)| &key[..end]);
        if folders.any(|folder| self.0.contains(folder)) {
            return true;
        }
        let below = format!("{key}/");
        let next = self
            .0
            .range::<str, _>((Bound::Included(&*below), Bound::Unbounded))
            .next();
        next.is_some_and(|next| next.starts_with(&below))
    }
}

impl Claims {
    /// Whether an operation is about this item.
    pub fn has_item(&self, item: &Item) -> bool {
        self.items.contains(item)
    }

    /// Whether nothing is claimed.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Claims what an operation touches. Returns whether all of it was free; if not, nothing is claimed.
    pub fn claim(&mut self, trees: &Trees, item: &Item, op: &Op) -> bool {
        let claim = Claim::of(trees, item, op);
        let is_taken = claim.items.iter().any(|item| self.items.contains(item))
            || claim.here.iter().any(|key| self.here.touches(key))
            || claim.there.iter().any(|key| self.there.touches(key));
        if is_taken {
            return false;
        }
        self.items.extend(claim.items.iter().cloned());
        self.here.0.extend(claim.here.iter().cloned());
        self.there.0.extend(claim.there.iter().cloned());
        self.by_item.insert(item.clone(), claim);
        true
    }

    /// Gives back what the operation about an item has claimed.
    pub fn release(&mut self, item: &Item) {
        let Some(claim) = self.by_item.remove(item) else {
            return;
        };
        for item in &claim.items {
            self.items.remove(item);
        }
        for key in &claim.here {
            self.here.0.remove(key);
        }
        for key in &claim.there {
            self.there.0.remove(key);
        }
    }
}

impl Claim {
    fn of(trees: &Trees, item: &Item, op: &Op) -> Self {
        let names = trees.names();
        let mut claim = Self {
            items: vec![item.clone()],
            ..Self::default()
        };
        let mut file = |id: &FileId| {
            let item = Item::File(*id);
            if !claim.items.contains(&item) {
                claim.items.push(item);
            }
        };
        match op {
            Op::Upload {
                local, path, base, ..
            } => {
                if let Some((id, _)) = base {
                    file(id);
                }
                claim.here.push(names.local_key(local));
                claim.there.push(names.key(path.as_str()));
            }
            Op::MoveThere {
                id, from, to, local, ..
            } => {
                file(id);
                claim
                    .there
                    .extend([from, to].map(|path| names.key(path.as_str())));
                claim.here.extend(local.iter().map(|path| names.local_key(path)));
            }
            Op::DeleteThere { id, path, .. } => {
                file(id);
                claim.there.push(names.key(path.as_str()));
            }
            Op::Download { id, to, .. } => {
                file(id);
                claim.here.push(names.local_key(to));
            }
            Op::Remove { id, local, then, .. } => {
                file(id);
                claim.here.push(names.local_key(local));
                claim
                    .here
                    .extend(then.iter().map(|row| names.local_key(&row.local)));
            }
            Op::MoveHere(moves) => {
                for one in moves {
                    file(&one.id);
                }
                let paths = moves.iter().flat_map(|one| [&one.from, &one.to]);
                claim.here.extend(paths.map(|path| names.local_key(path)));
            }
            Op::SetAside { local, copy, owner } => {
                owner.iter().for_each(file);
                claim.here.extend([local, copy].map(|path| names.local_key(path)));
                claim.items.push(Item::Local(local.clone()));
            }
            Op::Agree(id, row) | Op::SetExecutable(id, row, _) => {
                file(id);
                claim.here.push(names.local_key(&row.local));
            }
            Op::Forget(id, _) => file(id),
        }
        // The place in the row belongs to the file until the row changes.
        for item in &claim.items {
            if let Item::File(id) = item
                && let Some(row) = trees.synced(*id)
            {
                claim.here.push(names.local_key(&row.local));
            }
        }
        claim.here.sort();
        claim.here.dedup();
        claim.there.sort();
        claim.there.dedup();
        claim
    }
}
