//! Where the nodes of a tree hang: a table, and what edits have changed since.
//!
//! The table is made once, with the tree, by a walk through all of it, and is shared by all trees that are
//! made of that one by edits. What those have otherwise is in a persistent map beside it, which knows of
//! nothing else: an edit costs what it changes. A node that is gone is there as a gap in the table, so both
//! together are never larger than what the tree was when it was built, and what it has become.
#![forbid(unsafe_code)]

use super::id::EntityId;
use crate::sync::map::Hashing;
use rpds::HashTrieMapSync;
use std::collections::HashMap;
use std::sync::Arc;

/// Where the branch of a node hangs: which of the children of its parent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hung {
    pub(super) parent: EntityId,
    pub(super) at: usize,
}

/// Of all nodes of a tree but the root, where they hang.
#[derive(Clone)]
pub(super) struct Places {
    table: Arc<Table>,
    /// What is otherwise than in the table. Nothing: it is gone.
    since: HashTrieMapSync<EntityId, Option<Hung>, Hashing>,
}

/// The nodes by number, the root first.
struct Table {
    numbers: HashMap<EntityId, usize, Hashing>,
    /// Of all but the root.
    hung: Vec<Hung>,
}

impl Table {
    fn get(&self, id: &EntityId) -> Option<Hung> {
        let number = *self.numbers.get(id)?;
        self.hung.get(number.checked_sub(1)?).copied()
    }
}

impl Places {
    /// Of nodes by number, of which the root has 0, and all others hang where the list says.
    pub(super) fn new(numbers: HashMap<EntityId, usize, Hashing>, hung: Vec<Hung>) -> Self {
        Places {
            table: Arc::new(Table { numbers, hung }),
            since: HashTrieMapSync::new_with_hasher_and_ptr_kind(Hashing::default()),
        }
    }

    pub(super) fn get(&self, id: &EntityId) -> Option<Hung> {
        if !self.since.is_empty()
            && let Some(since) = self.since.get(id)
        {
            return *since;
        }
        self.table.get(id)
    }

    pub(super) fn contains(&self, id: &EntityId) -> bool {
        self.get(id).is_some()
    }

    /// Hangs a node, or hangs it elsewhere.
    pub(super) fn hang(&mut self, id: EntityId, hung: Hung) {
        if self.table.get(&id) == Some(hung) {
            self.since.remove_mut(&id);
        } else {
            self.since.insert_mut(id, Some(hung));
        }
    }

    /// Takes a node away.
    pub(super) fn take(&mut self, id: &EntityId) {
        match self.table.get(id) {
            Some(_) => self.since.insert_mut(*id, None),
            None => {
                self.since.remove_mut(id);
            }
        }
    }
}
