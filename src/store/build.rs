//! A tree out of the store.
//!
//! # One moment
//! The walk looks at each node once, and notes the stamp that it saw. Then all are looked at again: where all
//! have the stamps that they had, all of it was current between the two, as in a snapshot of several entities.
//! What isn't there was so when it was looked for, which was the last look of that walk. If something has
//! changed, a snapshot is taken of all that was seen, and the walk goes over that, and looks into the store
//! only for what the snapshot doesn't have. So nodes that change are no reason to look for ever; nodes that
//! come are, and that is bounded.
#![forbid(unsafe_code)]

use super::Inner;
use super::children::Children;
use super::id::EntityId;
use super::layout::{Found, Layout, TreeError};
use super::tree::{Tree, Value};
use super::version::{Node, Version};
use crate::cell::{is_unchanged, snapshot_of};
use crate::stamp::Stamp;
use crate::sync::map::Hashing;
use std::collections::HashMap;

/// Walks, each over what the one before has seen, until it is given up.
const LOOKS: usize = 64;

/// What was there at one moment, which may be over.
type Known<T> = HashMap<EntityId, Version<T>, Hashing>;

/// All that is below an entity. See [`Forest::tree`](super::Forest::tree).
pub(super) fn build<T: Children + Send + Sync + 'static>(
    store: &Inner<T>,
    root: EntityId,
) -> Result<Tree<T>, TreeError> {
    let mut known = Known::default();
    for _ in 0..LOOKS {
        let mut walk = Walk {
            known,
            layout: Layout::new(root),
            seen: Vec::new(),
            is_known: true,
        };
        let walked = walk.go(store);
        if walk.is_known || walk.is_still() {
            // All of it at one moment, and what is missing was so too.
            walked?;
            let shape = walk.layout.into_shape();
            return Ok(Tree { shape, base: None });
        }
        known = walk.now();
    }
    Err(TreeError::Unsettled(root))
}

/// A node, and which version of it was seen.
struct Seen<T: Send + Sync + 'static> {
    id: EntityId,
    node: Node<T>,
    stamp: Stamp,
}

struct Walk<T: Send + Sync + 'static> {
    known: Known<T>,
    layout: Layout<T>,
    seen: Vec<Seen<T>>,
    /// Whether nothing was looked for that isn't known.
    is_known: bool,
}

/// Looks for a node. `None`: there is none. Otherwise, and whether it is a version that is known.
fn look<T: Send + Sync + 'static>(
    store: &Inner<T>,
    known: &Known<T>,
    id: EntityId,
) -> Option<(Node<T>, Version<T>, bool)> {
    if let Some(version) = known.get(&id) {
        return Some((store.nodes.get(&id)?, version.clone(), true));
    }
    let both = |node: &Node<T>| (node.clone(), node.snapshot());
    let (node, snapshot) = store.nodes.look(&id, both)?;
    Some((node, Version::new(id, snapshot)?, false))
}

impl<T: Children + Send + Sync + 'static> Walk<T> {
    fn go(&mut self, store: &Inner<T>) -> Result<(), TreeError> {
        while let Some(spot) = self.layout.next() {
            self.step(store, spot)?;
        }
        Ok(())
    }

    /// Looks at the next spot.
    fn step(&mut self, store: &Inner<T>, spot: usize) -> Result<(), TreeError> {
        let id = self.layout.id(spot);
        let found = match look(store, &self.known, id) {
            Some((node, version, is_known)) => {
                self.is_known &= is_known;
                let stamp = version.stamp();
                self.seen.push(Seen { id, node, stamp });
                Found::Open(Value::Stored(version))
            }
            None => {
                self.is_known = false;
                Found::Missing
            }
        };
        self.layout.put(found)
    }

    /// Whether all that was seen is still current.
    fn is_still(&self) -> bool {
        let mut parts = self.seen.chunks(PART);
        parts.all(|part| is_unchanged(part.iter().map(|seen| (&seen.node, seen.stamp))))
    }

    /// What it is now, at one moment.
    fn now(self) -> Known<T> {
        let (ids, nodes): (Vec<_>, Vec<_>) =
            self.seen.into_iter().map(|seen| (seen.id, seen.node)).unzip();
        let now = ids.into_iter().zip(snapshot_of(&nodes[..]).into_inner());
        let live = now.filter_map(|(id, now)| Version::new(id, now));
        live.map(|now| (now.id(), now)).collect()
    }
}

/// What is looked at in one go, and under one guard.
const PART: usize = 512;
