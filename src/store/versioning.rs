//! An edited tree back into the store.
//!
//! What differs from the tree in the store that it was made of is found by a comparison, and committed by
//! precomputed changes: each node, if it still has the stamp that it had in there, with the indexes and the
//! standings that follow. So a node that somebody else has changed is found out by its stamp, and a change
//! elsewhere is in nobody's way. What a tree depends on besides is the root, which each version of the tree
//! changes.
#![forbid(unsafe_code)]

use super::Birth;
use super::children::Children;
use super::diff::{Comparison, Depth, Pair};
use super::error::Unknown;
use super::forest::{Forest, Turn};
use super::id::EntityId;
use super::index::Step;
use super::standing::Claim;
use super::tree::{Branch, Kid, Shape, Tree, Value};
use super::version::{Node, Slot, Version};
use crate::cell::{Backoff, Changes, try_transaction};
use crate::stamp::Stamp;
use crate::sync::fault::{Fault, planted};
use crate::sync::map::Hashing;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// What came of versioning a tree.
#[must_use = "the tree that was committed is what the next edit begins with"]
pub enum Versioned<T> {
    /// The tree has nothing in it that is not in the store already. Nothing was committed.
    Unchanged,
    /// The tree as it was committed.
    Committed(Tree<T>),
}

/// Without the values: they need not be printable.
impl<T> fmt::Debug for Versioned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Versioned::Unchanged => f.write_str("Unchanged"),
            Versioned::Committed(tree) => f.debug_tuple("Committed").field(tree).finish(),
        }
    }
}

impl<T> Versioned<T> {
    /// The tree that was committed, if one was.
    #[must_use]
    pub fn into_tree(self) -> Option<Tree<T>> {
        match self {
            Versioned::Unchanged => None,
            Versioned::Committed(tree) => Some(tree),
        }
    }

    /// Whether nothing was committed.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        matches!(self, Versioned::Unchanged)
    }
}

impl<T: Children + Clone + PartialEq + Send + Sync + 'static> Forest<T> {
    /// Commits what differs between an edited tree and the one in the store that it was made of.
    ///
    /// Each node that was changed, added or moved, each that has lost a child, and all their ancestors get a
    /// new version at one moment, or none does. New nodes are born at version 0; adopted ones are attached, and
    /// those of them that were roots join the line of the root. What was removed stays in the store: as it is, nobody's child. The
    /// tree that is returned is the base of further edits; this one is as it was.
    ///
    /// Others are in the way only where they have changed one of these nodes, which includes the root: of
    /// several that version one tree at a time, one succeeds.
    ///
    /// # Linearization
    /// Success: the exchange on the verdict of a transaction. A conflict: the look that found another stamp.
    /// # Progress
    /// Lock-free.
    /// # Errors
    /// [`VersionError`]: above all a conflict, which names one node that isn't what it was. Nothing has
    /// changed. Then begin anew with [`tree`](Forest::tree).
    /// # Complexity
    /// Of the nodes that get a new version, and of their children: a clone of each value. Not of the tree,
    /// and not of the number of versions before.
    ///
    /// # Examples
    /// See [`Tree`].
    pub fn version(&self, tree: &Tree<T>) -> Result<Versioned<T>, VersionError> {
        self.commit(tree, Depth::Differing)
    }

    /// As [`version`](Forest::version), but all nodes get a new version, whether something differs or not.
    ///
    /// # Errors
    /// As [`version`](Forest::version).
    pub fn version_all(&self, tree: &Tree<T>) -> Result<Tree<T>, VersionError> {
        let versioned = self.commit(tree, Depth::All)?;
        Ok(versioned
            .into_tree()
            .expect("the root is modified at least"))
    }

    fn commit(&self, tree: &Tree<T>, depth: Depth) -> Result<Versioned<T>, VersionError> {
        let root = tree.root();
        self.read(&root, |_| ())?;
        if !self.is_root(&root) {
            return Err(match self.parent(&root) {
                Some(by) => VersionError::Child { id: root, by },
                None => VersionError::Orphan(root),
            });
        }
        let base = match (&tree.base, depth) {
            (Some(base), _) => base,
            (None, Depth::All) => &tree.shape,
            (None, Depth::Differing) => return Ok(Versioned::Unchanged),
        };
        let comparison = Comparison::new(&tree.shape, base, depth);
        let pairs: Vec<_> = comparison.modified_pairs().collect();
        if pairs.is_empty() {
            return Ok(Versioned::Unchanged);
        }
        let mut backoff = Backoff::new();
        loop {
            if let Some(values) = self.try_commit_all(root, &comparison, &pairs)? {
                let shape = committed(&tree.shape, base, &pairs, values);
                return Ok(Versioned::Committed(Tree { shape, base: None }));
            }
            backoff.lost();
        }
    }

    /// One attempt. Nothing, if others were faster elsewhere than at the nodes themselves.
    fn try_commit_all(
        &self,
        root: EntityId,
        comparison: &Comparison<'_, T>,
        pairs: &[&Pair<'_, T>],
    ) -> Result<Option<Vec<Value<T>>>, VersionError> {
        let inner = &self.store.0;
        let mut changes = Changes::new();
        let mut nodes = Vec::with_capacity(pairs.len());
        let mut steps = Vec::new();
        let mut adopted = Vec::new();
        for pair in pairs {
            let (id, value) = (pair.new.id, &pair.new.value);
            let base = match pair.old {
                Some(old) => Some(&old.value),
                None => value.base(),
            };
            let (node, expected) = match base.and_then(Value::stamp) {
                Some(expected) => {
                    let node = inner.nodes.get(&id);
                    let found = None;
                    let gone = VersionError::Conflict {
                        id,
                        expected,
                        found,
                    };
                    (node.ok_or(gone)?, expected)
                }
                None => {
                    let (node, birth) = Birth::claim(inner, &id);
                    changes = changes.keep(birth);
                    (node, Stamp::UNBORN)
                }
            };
            if pair.old.is_none() && base.is_some() {
                adopted.push(id);
            }
            if base.is_none_or(|base| !base.is(value)) {
                steps.push(Step {
                    id,
                    old: base.map(Value::get),
                    new: Some(value.get()),
                });
            }
            let value = Slot::Live(value.get().clone());
            changes = match planted(Fault::BlindVersion) {
                true => changes.replace(node.clone(), value),
                false => changes.write(node.clone(), expected, value),
            };
            nodes.push(node);
        }
        for index in &inner.indexes {
            changes = index.plan(changes, &steps);
        }
        changes = self.attach_all(changes, root, comparison, &adopted)?;

        match try_transaction(changes) {
            Ok(done) => {
                let stamps: Vec<_> = nodes.iter().map(|node| done.stamp(node)).collect();
                drop(done);
                let values = pairs.iter().zip(nodes.iter().zip(stamps));
                let values = values.map(|(pair, (node, stamp))| in_store(pair, node, stamp));
                Ok(Some(values.collect()))
            }
            Err(refused) => {
                let Some(node) = nodes.get(refused.index()) else {
                    // A bucket of an index, or a standing.
                    return match refused.is_conflict() {
                        true => Ok(None),
                        false => Err(VersionError::VersionLimit(root)),
                    };
                };
                let (id, expected) = (pairs[refused.index()].new.id, refused.expected());
                if !refused.is_conflict() {
                    return Err(VersionError::VersionLimit(id));
                }
                let found = Version::new(id, node.snapshot()).map(|found| found.stamp());
                match (expected == Stamp::UNBORN, found) {
                    (true, Some(_)) => Err(VersionError::Taken(id)),
                    // Somebody else gave up to bring it into the world, or brought it out again.
                    (true, None) => Ok(None),
                    (false, found) => Err(VersionError::Conflict {
                        id,
                        expected,
                        found,
                    }),
                }
            }
        }
    }

    /// Has entities that come from elsewhere be roots no more, if they are. Nobody else may name them.
    fn attach_all(
        &self,
        mut changes: Changes<'static>,
        root: EntityId,
        comparison: &Comparison<'_, T>,
        adopted: &[EntityId],
    ) -> Result<Changes<'static>, VersionError> {
        let inner = &self.store.0;
        if adopted.is_empty() {
            return Ok(changes);
        }
        let lineage = inner.standing(&root).lineage;
        let mut turns = Vec::new();
        for id in adopted.iter().copied() {
            let parents;
            (parents, changes) = self.parents.require(changes, &id);
            let mut others = parents
                .iter()
                .filter(|by| !comparison.modified.contains(by));
            if let Some(by) = others.next().copied() {
                return Err(VersionError::Named { id, by });
            }
            // Of one that somebody names nobody can make a root, as long as that is so.
            let standing = match parents.is_empty() {
                true => {
                    let (standing, claim) = Claim::of(inner, &id);
                    changes = changes.keep(claim);
                    standing
                }
                false => match inner.standings.get(&id) {
                    Some(standing) => standing,
                    None => continue,
                },
            };
            let before = standing.snapshot();
            if before.is_root {
                let after = before.as_part_of(lineage);
                turns.push(Turn {
                    id,
                    standing,
                    before,
                    after,
                });
            } else {
                changes = changes.require(standing, before.stamp());
            }
        }
        Ok(self.turn(changes, turns))
    }
}

/// What was committed to a node, as the store has it, or as it had it, if others have committed since.
fn in_store<T: Clone + Send + Sync + 'static>(
    pair: &Pair<'_, T>,
    node: &Node<T>,
    stamp: Option<Stamp>,
) -> Value<T> {
    let current = Version::new(pair.new.id, node.snapshot());
    match current.filter(|current| Some(current.stamp()) == stamp) {
        Some(current) => Value::Stored(current),
        None => Value::Given {
            value: match &pair.new.value {
                Value::Given { value, .. } | Value::Changed { value, .. } => Arc::clone(value),
                Value::Stored(version) => Arc::new((**version).clone()),
            },
            stamp,
        },
    }
}

/// The tree as it was committed: new branches of what was modified, and otherwise those of the base.
fn committed<T>(
    shape: &Shape<T>,
    base: &Shape<T>,
    pairs: &[&Pair<'_, T>],
    values: Vec<Value<T>>,
) -> Shape<T> {
    let mut grown: HashMap<EntityId, Arc<Branch<T>>, Hashing> = HashMap::default();
    for (pair, value) in pairs.iter().zip(values).rev() {
        let kids = pair.new.kids.iter().enumerate().map(|(at, kid)| {
            let id = kid.branch.id;
            let as_before = || {
                let old = pair.old.expect("all below what was added is modified");
                let same = old.kids.get(at).filter(|kid| kid.branch.id == id);
                let kid = same.unwrap_or_else(|| {
                    let hung = base.hung.get(&id).expect("or it was added");
                    &old.kids[hung.at]
                });
                Arc::clone(&kid.branch)
            };
            Kid {
                edge: kid.edge.clone(),
                branch: grown.remove(&id).unwrap_or_else(as_before),
            }
        });
        let branch = Branch::new(pair.new.id, value, kids.collect());
        grown.insert(pair.new.id, Arc::new(branch));
    }
    let root = grown.remove(&shape.root.id);
    Shape {
        root: root.expect("the root is above all that was modified"),
        hung: shape.hung.clone(),
    }
}

/// Why a tree was not committed. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VersionError {
    /// The root of the tree is not in the store.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// The root of the tree is no root, and nobody's child.
    #[error("{0} is no root: promote it first")]
    Orphan(EntityId),
    /// The root of the tree is somebody's child.
    #[error("{id} is no root, but a child of {by}: version the tree that it is in")]
    Child {
        /// The root of the tree.
        id: EntityId,
        /// Its parent.
        by: EntityId,
    },
    /// A node that is to get a new version isn't what it was when the tree was built.
    #[error("conflict on {id}: expected stamp {expected}, found {}", Shown(found))]
    Conflict {
        /// Which one.
        id: EntityId,
        /// What it had then.
        expected: Stamp,
        /// What it has; nothing, if it was removed.
        found: Option<Stamp>,
    },
    /// A new node has an id that is taken.
    #[error("there is an entity {0} already")]
    Taken(EntityId),
    /// A node that comes from elsewhere is still named there.
    #[error("{id} is still a child of {by}, which names it")]
    Named {
        /// Which one.
        id: EntityId,
        /// Its other parent.
        by: EntityId,
    },
    /// The version of an entity is at its end.
    #[error("the version of {0} is at its end")]
    VersionLimit(EntityId),
}

impl VersionError {
    /// Whether somebody committed first.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, VersionError::Conflict { .. })
    }
}

struct Shown<'a>(&'a Option<Stamp>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(stamp) => stamp.fmt(f),
            None => f.write_str("that it was removed"),
        }
    }
}
