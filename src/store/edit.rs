//! Another tree out of one, as a value out of a value.
//!
//! # How it is kept a tree
//! Laid out anew are the nodes that were given a value, what those values name, and the way from the root to
//! them; all other branches are taken as they are, without a walk into them. What is in there is named once,
//! by the tree that it comes from; so an id can come twice only where a value that was given names it, and
//! each of those is looked at.
#![forbid(unsafe_code)]

use super::children::Children;
use super::id::EntityId;
use super::layout::{Found, Layout, Repeated, Repetition, TreeError, lay};
use super::tree::{Branch, Shape, Tree, Value};
use crate::sync::map::Hashing;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// A tree in the making, from another one. Made by [`Tree::edit`].
///
/// Nothing is looked at before [`finish`](Edit::finish), so the order of calls doesn't matter. A node is
/// removed by a value of its parent that doesn't name it, and moved by two values, of its old and its new
/// parent.
///
/// # Examples
/// ```
/// # use snapcell::{Children, Edge, EntityId, Forest};
/// # #[derive(Clone, PartialEq)]
/// # struct Dir(Vec<EntityId>);
/// # impl Children for Dir {
/// #     fn children(&self, each: &mut dyn FnMut(Edge, EntityId)) {
/// #         self.0.iter().enumerate().for_each(|(i, id)| each(Edge::list("0", i), *id));
/// #     }
/// # }
/// let forest = Forest::new();
/// let root = forest.insert(Dir(vec![]));
/// forest.promote(&root)?;
/// let tree = forest.tree(&root)?;
///
/// let mut edit = tree.edit();
/// let child = edit.add(Dir(vec![]));
/// edit.set(root, Dir(vec![child]));
/// let edited = edit.finish()?;
/// assert_eq!((tree.len(), edited.len()), (1, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "an edit makes nothing until `finish` is called"]
pub struct Edit<'t, T> {
    tree: &'t Tree<T>,
    given: HashMap<EntityId, Value<T>, Hashing>,
    /// Of those, the ones that were set here, and not adopted as they are elsewhere.
    set: HashSet<EntityId, Hashing>,
}

impl<'t, T> Edit<'t, T> {
    pub(super) fn new(tree: &'t Tree<T>) -> Self {
        Edit {
            tree,
            given: HashMap::default(),
            set: HashSet::default(),
        }
    }

    /// Gives a value to a node, whether it is in the tree or to be new in it.
    pub fn set(&mut self, id: EntityId, value: T) -> &mut Self {
        let value = Arc::new(value);
        let value = match self.adopted(&id) {
            Some(before) => before.changed_to(value),
            None => Value::Given { value, stamp: None },
        };
        self.given.insert(id, value);
        self.set.insert(id);
        self
    }

    /// A new node. A value that is set must name it.
    pub fn add(&mut self, value: T) -> EntityId {
        let id = EntityId::new();
        self.set(id, value);
        id
    }

    /// What a node is that was adopted: by this edit, or by one that the tree comes from.
    fn adopted(&self, id: &EntityId) -> Option<&Value<T>> {
        let given = self.given.get(id);
        given.or_else(|| match self.tree.base.as_ref()?.contains(id) {
            false => self.tree.shape.branch(id).map(|branch| &branch.value),
            true => None,
        })
    }

    /// Another tree, which a value that is set must name the root of. It keeps its entities: the commit
    /// gives new versions to them, attaches the root, and is refused if somebody else has changed them. Its nodes
    /// have the values that they have there, unless this edit gives them others.
    ///
    /// # Complexity
    /// Of the other tree's size.
    pub fn adopt(&mut self, other: &Tree<T>) -> &mut Self {
        let mut rest = vec![&other.shape.root];
        while let Some(branch) = rest.pop() {
            let edited = branch.value.edited().and_then(|value| {
                let base = other.base.as_ref()?.branch(&branch.id)?;
                Some(base.value.changed_to(Arc::clone(value)))
            });
            let theirs = edited.unwrap_or_else(|| branch.value.clone());
            let mine = self.given.get(&branch.id);
            let mine = mine.filter(|_| self.set.contains(&branch.id));
            let value = match mine.and_then(Value::edited) {
                Some(value) => theirs.changed_to(Arc::clone(value)),
                None => theirs,
            };
            self.given.insert(branch.id, value);
            rest.extend(branch.kids.iter().map(|kid| &kid.branch));
        }
        self
    }

    /// The value that a node is to have.
    #[must_use]
    pub fn get(&self, id: &EntityId) -> Option<&T> {
        match self.given.get(id) {
            Some(value) => Some(value.get()),
            None => self.tree.get(id),
        }
    }
}

impl<T: Children + PartialEq> Edit<'_, T> {
    /// The tree with all that was given. It shares all branches in which nothing has changed. A value that
    /// equals the old one is no change.
    ///
    /// # Errors
    /// [`TreeError`]: it would be none. A value names a node twice, or one that is neither in the tree nor
    /// given; or nothing names a node that was given.
    /// # Complexity
    /// Of the values given, of the children of all their ancestors, and of what is removed. Not of the tree.
    pub fn finish(self) -> Result<Tree<T>, TreeError> {
        let old = &self.tree.shape;
        let mut given = self.given;
        given.retain(|id, value| match old.branch(id) {
            Some(branch) => branch.value.get() != value.get(),
            None => true,
        });
        if given.is_empty() {
            return Ok(self.tree.clone());
        }
        let opened = Opened::new(old, given.keys());
        let is_given: HashSet<EntityId, Hashing> = given.keys().copied().collect();
        let layout = lay(old.root.id, |layout: &Layout<T>, spot| {
            let id = layout.id(spot);
            if let Some(value) = given.remove(&id) {
                return Found::Open(value);
            }
            match opened.0.get(&id) {
                Some((branch, kids)) => Found::Partly(Arc::clone(branch), kids.clone()),
                None => match opened.child(old, &id) {
                    Some(branch) => Found::Whole(Arc::clone(branch)),
                    None => Found::Missing,
                },
            }
        })?;
        if let Some(id) = given.into_keys().min() {
            return Err(TreeError::Loose(id));
        }
        layout.check_what_is_shared(old, &is_given)?;
        let shape = layout.into_shape_of(old, opened, &is_given);
        let base = self.tree.base.as_ref().unwrap_or(old);
        Ok(Tree {
            shape,
            base: Some(base.clone()),
        })
    }
}

impl<T> fmt::Debug for Edit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edit")
            .field("tree", &self.tree)
            .field("given", &self.given.len())
            .finish()
    }
}

/// The branches of a tree that have a change in them: those of some nodes and of all their ancestors; and
/// which of their children are so as well.
struct Opened<'a, T>(HashMap<EntityId, Branching<'a, T>, Hashing>);

/// A branch, and children of it.
type Branching<'a, T> = (&'a Arc<Branch<T>>, Vec<usize>);

impl<'a, T> Opened<'a, T> {
    fn new<'i>(shape: &'a Shape<T>, ids: impl Iterator<Item = &'i EntityId>) -> Self {
        // Up, and down again.
        let mut below: HashMap<EntityId, Vec<usize>, Hashing> = HashMap::default();
        for id in ids.filter(|id| shape.contains(id)) {
            let mut next = (*id, None);
            loop {
                let (at, kid) = next;
                let is_new = !below.contains_key(&at);
                below.entry(at).or_default().extend(kid);
                let Some(hung) = shape.hung.get(&at).filter(|_| is_new) else {
                    break;
                };
                next = (hung.parent, Some(hung.at));
            }
        }
        let mut opened: HashMap<_, _, Hashing> = HashMap::default();
        let mut rest = vec![&shape.root];
        while let Some(branch) = rest.pop() {
            if let Some(kids) = below.remove(&branch.id) {
                rest.extend(kids.iter().map(|at| &branch.kids[*at].branch));
                opened.insert(branch.id, (branch, kids));
            }
        }
        Opened(opened)
    }

    /// The branch of a node, most probably a child of one that is opened.
    fn child(&self, shape: &'a Shape<T>, id: &EntityId) -> Option<&'a Arc<Branch<T>>> {
        let hung = shape.hung.get(id);
        let parent = hung.and_then(|hung| Some((self.0.get(&hung.parent)?, hung.at)));
        match parent {
            Some(((parent, _), at)) => Some(&parent.kids[at].branch),
            None => shape.branch(id),
        }
    }
}

impl<T> Layout<T> {
    /// Looks whether a node that a given value names is named by a branch as well that is taken as it is.
    fn check_what_is_shared(
        &self,
        old: &Shape<T>,
        is_given: &HashSet<EntityId, Hashing>,
    ) -> Result<(), TreeError> {
        for (index, spot) in self.spots.iter().enumerate().skip(1) {
            let Some(parent) = old.parent(&spot.id) else {
                continue;
            };
            // Where the old parent has a new value too, all that it names was looked at.
            if parent == self.parent(index) || is_given.contains(&parent) {
                continue;
            }
            let mut within = vec![parent];
            let top = loop {
                let at = within[within.len() - 1];
                if let Some(top) = self.by_id.get(&at) {
                    break Some(*top);
                }
                match old.parent(&at) {
                    Some(above) => within.push(above),
                    None => break None,
                }
            };
            // One with a new value doesn't name any more what isn't laid out below it.
            let Some(top) = top else { continue };
            if matches!(self.spots[top].found, Some(Found::Open(_))) {
                continue;
            }
            within.pop();
            let mut second = self.path(top);
            second.extend(within.into_iter().rev());
            second.push(spot.id);
            let edge = old.find(&spot.id).and_then(|(edge, _)| edge.cloned());
            return Err(TreeError::Repeated(Box::new(Repeated {
                id: spot.id,
                how: Repetition::Diamond,
                first: self.path(index),
                second,
                edges: (spot.edge.clone(), edge.expect("it has a parent")),
            })));
        }
        Ok(())
    }

    /// The tree, which shares with an old one what was taken whole.
    fn into_shape_of(
        mut self,
        old: &Shape<T>,
        opened: Opened<'_, T>,
        is_given: &HashSet<EntityId, Hashing>,
    ) -> Shape<T> {
        let root = self.grow();
        let mut hung = old.hung.clone();
        for (id, at) in self.hung() {
            if old.hung.get(&id) != Some(at) {
                hung.hang(id, at);
            }
        }
        // What nothing names any more, with all below it that wasn't moved elsewhere.
        let opened = opened.0.values().map(|(branch, _)| branch);
        let given = opened.filter(|branch| is_given.contains(&branch.id));
        let mut gone: Vec<_> = given.flat_map(|branch| &branch.kids).collect();
        while let Some(kid) = gone.pop() {
            if !self.by_id.contains_key(&kid.branch.id) {
                hung.take(&kid.branch.id);
                gone.extend(&kid.branch.kids);
            }
        }
        Shape { root, hung }
    }
}
