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
#[cfg(feature = "rayon")]
use super::together::WIDE;
use super::tree::{Tree, Value};
use super::version::{Node, Version};
use crate::cell::{is_unchanged, pin, snapshot_of};
use crate::stamp::Stamp;
use crate::sync::map::Hashing;
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

/// Walks, each over what the one before has seen, until it is given up.
const LOOKS: usize = 64;

/// What was there at one moment, which may be over.
pub(super) type Known<T> = HashMap<EntityId, (Node<T>, Version<T>), Hashing>;

/// All that is below an entity. See [`Forest::tree`](super::Forest::tree).
pub(super) fn build<T: Children + Send + Sync + 'static>(
    store: &Arc<Inner<T>>,
    root: EntityId,
) -> Result<Tree<T>, TreeError> {
    let mut known = Known::default();
    for _ in 0..LOOKS {
        let mut walk = Walk {
            known: Arc::new(known),
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

/// What is looked at in one go, and under one guard.
pub(super) const PART: usize = 512;

/// Nodes beyond which a tree isn't in the processor's caches.
const CACHED: usize = 8_192;
/// Nodes that are fetched at once.
const FETCHED: usize = 64;

/// A node, and which version of it was seen.
pub(super) struct Seen<T: Send + Sync + 'static> {
    pub(super) id: EntityId,
    pub(super) node: Node<T>,
    pub(super) stamp: Stamp,
}

pub(super) struct Walk<T: Send + Sync + 'static> {
    pub(super) known: Arc<Known<T>>,
    pub(super) layout: Layout<T>,
    /// In parts.
    pub(super) seen: Vec<Vec<Seen<T>>>,
    /// Whether nothing was looked for that isn't known.
    pub(super) is_known: bool,
}

/// Looks for a node. `None`: there is none. Otherwise, and whether it is a version that is known.
pub(super) fn look<T: Send + Sync + 'static>(
    store: &Inner<T>,
    known: &Known<T>,
    id: EntityId,
) -> Option<(Node<T>, Version<T>, bool)> {
    // With the node that it was found at: there may be another one by now.
    if let Some((node, version)) = known.get(&id) {
        return Some((node.clone(), version.clone(), true));
    }
    let both = |node: &Node<T>| (node.clone(), node.snapshot());
    let (node, snapshot) = store.nodes.look(&id, both)?;
    Some((node, Version::new(id, snapshot)?, false))
}

/// Has the processor fetch what will be looked at. Looks that count have to wait for each other, and for
/// memory each time; these don't, so it waits for several at once.
pub(super) fn fetch<'i, T: Send + Sync + 'static>(
    store: &Inner<T>,
    ids: impl Iterator<Item = &'i EntityId>,
) {
    let guard = pin();
    for id in ids {
        black_box(store.nodes.look(id, |node| node.load(&guard).stamp()));
    }
}

/// Whether all that was seen is still current.
pub(super) fn is_still<T: Send + Sync + 'static>(seen: &[Seen<T>]) -> bool {
    is_unchanged(seen.iter().map(|seen| (&seen.node, seen.stamp)))
}

impl<T: Children + Send + Sync + 'static> Walk<T> {
    #[cfg(not(feature = "rayon"))]
    fn go(&mut self, store: &Arc<Inner<T>>) -> Result<(), TreeError> {
        while !self.layout.is_complete() {
            self.fetch(store);
            self.step(store)?;
        }
        Ok(())
    }

    #[cfg(feature = "rayon")]
    fn go(&mut self, store: &Arc<Inner<T>>) -> Result<(), TreeError> {
        let mut is_alone = false;
        while !self.layout.is_complete() {
            if !is_alone && self.layout.len() - self.layout.looked() >= WIDE {
                is_alone = !self.go_together(store)?;
            } else {
                self.fetch(store);
                self.step(store)?;
            }
        }
        Ok(())
    }

    /// Has the next few spots fetched, now and then, if there are many.
    fn fetch(&self, store: &Inner<T>) {
        let looked = self.layout.looked();
        if looked.is_multiple_of(FETCHED) && self.layout.len() > CACHED {
            let to = self.layout.len().min(looked + FETCHED);
            fetch(store, self.layout.ids(looked..to));
        }
    }

    /// Looks at the next spot.
    pub(super) fn step(&mut self, store: &Inner<T>) -> Result<(), TreeError> {
        let id = self.layout.id(self.layout.looked());
        let found = match look(store, &self.known, id) {
            Some((node, version, is_known)) => {
                self.is_known &= is_known;
                let stamp = version.stamp();
                self.note(Seen { id, node, stamp });
                Found::Open(Value::Stored(version))
            }
            None => {
                self.is_known = false;
                Found::Missing
            }
        };
        self.layout.put(found)
    }

    fn note(&mut self, seen: Seen<T>) {
        match self.seen.last_mut() {
            Some(part) if part.len() < PART => part.push(seen),
            _ => self.seen.push(vec![seen]),
        }
    }

    /// Whether all that was seen is still current.
    fn is_still(&mut self) -> bool {
        #[cfg(feature = "rayon")]
        if self.seen.len() * PART >= WIDE
            && let Some(is_still) = self.is_still_together()
        {
            return is_still;
        }
        self.seen.iter().all(|part| is_still(part))
    }

    /// What it is now, at one moment.
    fn now(self) -> Known<T> {
        let seen = self.seen.into_iter().flatten();
        let (ids, nodes): (Vec<_>, Vec<_>) = seen.map(|seen| (seen.id, seen.node)).unzip();
        let now = snapshot_of(&nodes[..]).into_inner();
        let now = ids.into_iter().zip(nodes).zip(now);
        let live = now.filter_map(|((id, node), now)| Some((id, (node, Version::new(id, now)?))));
        live.collect()
    }
}
