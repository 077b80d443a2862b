//! What differs between two trees.
//!
//! Both are walked from their roots, side by side. A branch that both share is skipped, so trees of which
//! one was made of the other by an edit are compared along the edit only. Where a branch isn't shared, the
//! nodes are compared, and their children are paired by id: one that the other tree has elsewhere was moved,
//! one that it doesn't have at all was added or removed.
//!
//! # Why nothing is missed
//! A node whose value, parent or descendants differ is in branches that aren't shared, as are its ancestors,
//! since a branch has its children in it. So the walk gets to it, in the tree that has it. What is missing in
//! the new tree is found at its old parent, or below another that is missing.
#![forbid(unsafe_code)]

use super::id::EntityId;
use super::tree::{Branch, Shape, Tree};
use crate::sync::map::Hashing;
use std::collections::HashSet;
use std::sync::Arc;

/// What differs between two trees. Made by [`Tree::diff`].
#[derive(Clone, Debug, Default)]
pub struct Diff {
    added: Vec<EntityId>,
    removed: Vec<EntityId>,
    moved: Vec<Moved>,
    changed: Vec<EntityId>,
    modified: Vec<EntityId>,
    compared: usize,
}

/// A node that has another parent than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Moved {
    /// Which one.
    pub id: EntityId,
    /// Its old parent; none, if it was the root.
    pub from: Option<EntityId>,
    /// Its new parent; none, if it is the root.
    pub to: Option<EntityId>,
}

impl Diff {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.modified.is_empty() && self.removed.is_empty()
    }

    /// Nodes that only the new tree has, in the order of their ids.
    #[must_use]
    pub fn added(&self) -> &[EntityId] {
        &self.added
    }

    /// Nodes that only the old tree has, in the order of their ids.
    #[must_use]
    pub fn removed(&self) -> &[EntityId] {
        &self.removed
    }

    /// Nodes that have another parent, in the order of their ids.
    #[must_use]
    pub fn moved(&self) -> &[Moved] {
        &self.moved
    }

    /// Nodes of both trees that have another value, in the order of their ids. Where the children of a node
    /// have come, gone or changed places, its value has changed.
    #[must_use]
    pub fn changed(&self) -> &[EntityId] {
        &self.changed
    }

    /// Nodes of the new tree that need a new version, in the order of their ids: those that were added, moved
    /// or changed, the old parents of moved ones, the parents of removed ones, and all their ancestors.
    #[must_use]
    pub fn modified(&self) -> &[EntityId] {
        &self.modified
    }

    /// How many pairs of nodes were looked at, those included that proved to be one shared branch. It
    /// grows with what differs, and not with the trees, where one was made of the other.
    #[must_use]
    pub fn compared(&self) -> usize {
        self.compared
    }
}

impl<T: PartialEq> Tree<T> {
    /// What differs from an older tree.
    ///
    /// # Complexity
    /// Of the branches that the two don't share. Of trees that were built apart that is all; then values are
    /// compared only where the versions differ.
    ///
    /// # Examples
    /// See [`Tree`].
    #[must_use]
    pub fn diff(&self, old: &Tree<T>) -> Diff {
        Comparison::new(&self.shape, &old.shape, Depth::Differing).digest()
    }
}

/// A node of the new tree, and what it was in the old one, if it was.
pub(super) struct Pair<'a, T> {
    pub(super) new: &'a Arc<Branch<T>>,
    pub(super) old: Option<&'a Arc<Branch<T>>>,
}

impl<T> Clone for Pair<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Pair<'_, T> {}

/// How far a comparison goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// To where nothing differs below.
    Differing,
    /// Everywhere, and everything counts as modified.
    All,
}

/// Two trees side by side.
pub(super) struct Comparison<'a, T> {
    new: &'a Shape<T>,
    old: &'a Shape<T>,
    /// A parent before its children. All that is modified is among them.
    pairs: Vec<Pair<'a, T>>,
    pub(super) modified: HashSet<EntityId, Hashing>,
    diff: Diff,
}

impl<'a, T: PartialEq> Comparison<'a, T> {
    pub(super) fn new(new: &'a Shape<T>, old: &'a Shape<T>, depth: Depth) -> Self {
        let mut this = Comparison {
            new,
            old,
            pairs: Vec::new(),
            modified: HashSet::default(),
            diff: Diff::default(),
        };
        let old_root = match new.root.id == old.root.id {
            true => Some(&old.root),
            false => this.elsewhere(&new.root.id, None),
        };
        let mut rest = vec![Pair {
            new: &new.root,
            old: old_root,
        }];
        while let Some(pair) = rest.pop() {
            this.visit(pair, depth, &mut rest);
        }
        this.removed(vec![&old.root]);
        this
    }

    fn visit(&mut self, pair: Pair<'a, T>, depth: Depth, rest: &mut Vec<Pair<'a, T>>) {
        let Pair { new, old } = pair;
        self.diff.compared += 1;
        self.pairs.push(pair);
        if depth == Depth::All {
            self.modified.insert(new.id);
        }
        let Some(old) = old else {
            self.diff.added.push(new.id);
            self.mark(Some(new.id));
            for kid in &new.kids {
                let old = self.elsewhere(&kid.branch.id, Some(new.id));
                let new = &kid.branch;
                rest.push(Pair { new, old });
            }
            return;
        };
        if Arc::ptr_eq(new, old) {
            if depth == Depth::All {
                rest.extend(new.kids.iter().map(|kid| Pair {
                    new: &kid.branch,
                    old: Some(&kid.branch),
                }));
            }
            return;
        }
        if !new.value.is(&old.value) && new.value.get() != old.value.get() {
            self.diff.changed.push(new.id);
            self.mark(Some(new.id));
        }
        for (at, kid) in new.kids.iter().enumerate() {
            let id = kid.branch.id;
            let before = match old.kids.get(at) {
                Some(before) if before.branch.id == id => Some(&before.branch),
                _ => match self.old.hung.get(&id) {
                    Some(hung) if hung.parent == old.id => Some(&old.kids[hung.at].branch),
                    _ => self.elsewhere(&id, Some(new.id)),
                },
            };
            rest.push(Pair {
                new: &kid.branch,
                old: before,
            });
        }
        let gone = old.kids.iter().enumerate().filter(|(at, kid)| {
            let now = new.kids.get(*at);
            now.is_none_or(|now| now.branch.id != kid.branch.id)
        });
        self.removed(gone.map(|(_, kid)| &kid.branch).collect());
    }

    /// What a node was that was not a child of this parent.
    fn elsewhere(&mut self, id: &EntityId, to: Option<EntityId>) -> Option<&'a Arc<Branch<T>>> {
        let before = self.old.branch(id)?;
        let from = self.old.parent(id);
        if from != to {
            let id = *id;
            self.diff.moved.push(Moved { id, from, to });
            self.mark(Some(id));
            self.mark(from);
        }
        Some(before)
    }

    /// Finds what the new tree doesn't have, of these and all below them.
    fn removed(&mut self, of: Vec<&Arc<Branch<T>>>) {
        let mut rest = of;
        while let Some(old) = rest.pop() {
            // One that was moved is compared where it is now.
            if self.new.contains(&old.id) {
                continue;
            }
            self.diff.removed.push(old.id);
            self.mark(self.old.parent(&old.id));
            rest.extend(old.kids.iter().map(|kid| &kid.branch));
        }
    }

    /// Has a node modified, and all above it, if it is in the new tree.
    fn mark(&mut self, id: Option<EntityId>) {
        let mut next = id.filter(|id| self.new.contains(id));
        while let Some(id) = next
            && self.modified.insert(id)
        {
            next = self.new.parent(&id);
        }
    }

    /// What is modified, a parent before its children.
    pub(super) fn modified_pairs(&self) -> impl Iterator<Item = &Pair<'a, T>> {
        let pairs = self.pairs.iter();
        pairs.filter(|pair| self.modified.contains(&pair.new.id))
    }

    fn digest(self) -> Diff {
        let mut diff = self.diff;
        diff.modified = self.modified.into_iter().collect();
        diff.added.sort_unstable();
        diff.removed.sort_unstable();
        diff.moved.sort_unstable();
        diff.changed.sort_unstable();
        diff.modified.sort_unstable();
        diff
    }
}
