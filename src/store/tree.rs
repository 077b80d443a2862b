//! A tree as a value, to look into.
//!
//! The value of an entity names its children by their ids ([`Children`]); nothing else says what the tree
//! is. A [`Tree`] is all that can be reached from a root, as it was at one moment: branches that are shared
//! by counts, and a map from each id to where its branch hangs ([`Places`]). An edit makes new branches along
//! the paths from what changes to the root, and shares all others with the tree that it began with.
//!
//! Nothing here recurses, the destructor included: a tree may be as deep as it likes.
#![forbid(unsafe_code)]

use super::children::{Children, Edge};
use super::edit::Edit;
use super::id::EntityId;
use super::layout::TreeError;
use super::places::Places;
use super::version::Version;
use crate::stamp::Stamp;
use std::fmt;
use std::sync::Arc;

/// The value of a node.
pub(super) enum Value<T> {
    /// As it is or was in the store.
    Stored(Version<T>),
    /// Given by an edit. With a stamp: it was committed, and others have committed since.
    Given { value: Arc<T>, stamp: Option<Stamp> },
    /// Given by an edit to a node of a tree that is adopted, which was this before.
    Changed { value: Arc<T>, was: Box<Value<T>> },
}

impl<T> Value<T> {
    pub(super) fn get(&self) -> &T {
        match self {
            Value::Stored(version) => version,
            Value::Given { value, .. } | Value::Changed { value, .. } => value,
        }
    }

    /// The same, given in place of this, which is in the store, or was.
    pub(super) fn changed_to(&self, value: Arc<T>) -> Self {
        let was = match self {
            Value::Given { stamp: None, .. } => return Value::Given { value, stamp: None },
            Value::Changed { was, .. } => was.clone(),
            _ => Box::new(self.clone()),
        };
        Value::Changed { value, was }
    }

    /// The value, if an edit has given it, and it was not committed.
    pub(super) fn edited(&self) -> Option<&Arc<T>> {
        match self {
            Value::Given { value, stamp: None } | Value::Changed { value, .. } => Some(value),
            _ => None,
        }
    }

    /// What is in the store, or was, of a node that is in no base.
    pub(super) fn base(&self) -> Option<&Self> {
        match self {
            Value::Given { stamp: None, .. } => None,
            Value::Changed { was, .. } => Some(was),
            _ => Some(self),
        }
    }

    pub(super) fn stamp(&self) -> Option<Stamp> {
        match self {
            Value::Stored(version) => Some(version.stamp()),
            Value::Given { stamp, .. } => *stamp,
            Value::Changed { .. } => None,
        }
    }

    /// Whether they are the same, for which nothing is compared.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Stored(one), Value::Stored(other)) => Version::ptr_eq(one, other),
            (Value::Stored(_), _) | (_, Value::Stored(_)) => false,
            (
                Value::Given { value: one, .. } | Value::Changed { value: one, .. },
                Value::Given { value: other, .. } | Value::Changed { value: other, .. },
            ) => Arc::ptr_eq(one, other),
        }
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        match self {
            Value::Stored(version) => Value::Stored(version.clone()),
            Value::Given { value, stamp } => Value::Given {
                value: Arc::clone(value),
                stamp: *stamp,
            },
            Value::Changed { value, was } => Value::Changed {
                value: Arc::clone(value),
                was: was.clone(),
            },
        }
    }
}

/// A node with all that is below it.
pub(super) struct Branch<T> {
    pub(super) id: EntityId,
    pub(super) value: Value<T>,
    pub(super) kids: Vec<Kid<T>>,
    /// Nodes, this one included.
    len: usize,
    /// Nodes on the longest way down, this one included.
    depth: usize,
}

/// A branch, and where its parent has it.
pub(super) struct Kid<T> {
    pub(super) edge: Edge,
    pub(super) branch: Arc<Branch<T>>,
}

impl<T> Clone for Kid<T> {
    fn clone(&self) -> Self {
        Kid {
            edge: self.edge.clone(),
            branch: Arc::clone(&self.branch),
        }
    }
}

impl<T> Branch<T> {
    pub(super) fn new(id: EntityId, value: Value<T>, kids: Vec<Kid<T>>) -> Self {
        let below = kids.iter().map(|kid| &kid.branch);
        Branch {
            id,
            value,
            len: 1 + below.clone().map(|branch| branch.len).sum::<usize>(),
            depth: 1 + below.map(|branch| branch.depth).max().unwrap_or(0),
            kids,
        }
    }
}

/// One after the other: branches that nobody else has are taken apart before they are dropped.
impl<T> Drop for Branch<T> {
    fn drop(&mut self) {
        let mut rest = std::mem::take(&mut self.kids);
        while let Some(kid) = rest.pop() {
            if let Some(mut branch) = Arc::into_inner(kid.branch) {
                rest.append(&mut branch.kids);
            }
        }
    }
}

/// The branches of a tree, and the way to each.
pub(super) struct Shape<T> {
    pub(super) root: Arc<Branch<T>>,
    pub(super) hung: Places,
}

impl<T> Clone for Shape<T> {
    fn clone(&self) -> Self {
        Shape {
            root: Arc::clone(&self.root),
            hung: self.hung.clone(),
        }
    }
}

impl<T> Shape<T> {
    pub(super) fn contains(&self, id: &EntityId) -> bool {
        *id == self.root.id || self.hung.contains(id)
    }

    pub(super) fn parent(&self, id: &EntityId) -> Option<EntityId> {
        Some(self.hung.get(id)?.parent)
    }

    /// The child of its parent, or the root.
    pub(super) fn find(&self, id: &EntityId) -> Option<(Option<&Edge>, &Arc<Branch<T>>)> {
        let mut way = Vec::new();
        let mut at = *id;
        while at != self.root.id {
            let hung = self.hung.get(&at)?;
            way.push(hung.at);
            at = hung.parent;
        }
        let mut found = (None, &self.root);
        for at in way.into_iter().rev() {
            let kid = &found.1.kids[at];
            found = (Some(&kid.edge), &kid.branch);
        }
        Some(found)
    }

    pub(super) fn branch(&self, id: &EntityId) -> Option<&Arc<Branch<T>>> {
        self.find(id).map(|(_, branch)| branch)
    }

    /// From the root to the node, if there is such a node.
    fn path(&self, id: &EntityId) -> Vec<EntityId> {
        let mut path = Vec::new();
        if self.contains(id) {
            let parents = std::iter::successors(Some(*id), |at| self.parent(at));
            path.extend(parents);
            path.reverse();
        }
        path
    }
}

/// All that can be reached from a root, as it was at one moment, or as an edit has made it.
///
/// It is a value: an edit makes another tree, which shares all that it doesn't change, and a clone is two
/// counts. It knows the tree in the store that it was made of, so that
/// [`Forest::version`](crate::Forest::version) can commit what differs.
///
/// | call | for |
/// |---|---|
/// | [`get`](Tree::get), [`stamp`](Tree::stamp), [`edge`](Tree::edge), [`children`](Tree::children) | a node |
/// | [`parent`](Tree::parent), [`path`](Tree::path) | the way to it |
/// | [`iter`](Tree::iter) | all nodes, a parent before its children |
/// | [`edit`](Tree::edit), [`with`](Tree::with) | another tree |
/// | [`diff`](Tree::diff) | what differs from another tree |
///
/// # Complexity
/// `len` and `depth` are known. A look at a node costs a step for each of its ancestors, each of which looks
/// into a table, and into a trie besides if it was edited.
///
/// # Examples
/// ```
/// use snapcell::{Children, Edge, EntityId, Forest};
///
/// #[derive(Clone, PartialEq)]
/// struct Page {
///     title: &'static str,
///     links: Vec<EntityId>,
/// }
/// impl Children for Page {
///     fn children(&self, each: &mut dyn FnMut(Edge, EntityId)) {
///         for (index, id) in self.links.iter().enumerate() {
///             each(Edge::list("links", index), *id);
///         }
///     }
/// }
///
/// let forest = Forest::new();
/// let leaf = forest.insert(Page { title: "leaf", links: vec![] });
/// let root = forest.insert(Page { title: "root", links: vec![leaf] });
/// forest.promote(&root)?;
///
/// let tree = forest.tree(&root)?;
/// assert_eq!((tree.len(), tree.edges(), tree.depth()), (2, 1, 2));
/// assert_eq!(tree.path(&leaf), [root, leaf]);
/// assert_eq!(tree.edge(&leaf), Some(&Edge::list("links", 0)));
///
/// let edited = tree.with(leaf, Page { title: "changed", links: vec![] })?;
/// assert_eq!(edited.diff(&tree).modified().len(), 2, "the leaf, and the root above it");
/// let committed = forest.version(&edited)?.into_tree().unwrap();
/// assert_eq!(committed.stamp(&root).unwrap().version(), 1);
/// assert_eq!(forest.get(&leaf)?.title, "changed");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Tree<T> {
    pub(super) shape: Shape<T>,
    /// What is or was in the store, if this is not the same.
    pub(super) base: Option<Shape<T>>,
}

impl<T> Tree<T> {
    /// The node that is nobody's child.
    #[must_use]
    pub fn root(&self) -> EntityId {
        self.shape.root.id
    }

    /// How many nodes there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is a root, always")]
    pub fn len(&self) -> usize {
        self.shape.root.len
    }

    /// How many edges there are: one for each node but the root.
    #[must_use]
    pub fn edges(&self) -> usize {
        self.len() - 1
    }

    /// How many nodes there are on the longest way down. That of a root alone is 1.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.shape.root.depth
    }

    /// Whether there is such a node.
    #[must_use]
    pub fn contains(&self, id: &EntityId) -> bool {
        self.shape.contains(id)
    }

    /// The value of a node.
    #[must_use]
    pub fn get(&self, id: &EntityId) -> Option<&T> {
        Some(self.shape.branch(id)?.value.get())
    }

    /// Which version of the entity the value is, or none where an edit has given it.
    #[must_use]
    pub fn stamp(&self, id: &EntityId) -> Option<Stamp> {
        self.shape.branch(id)?.value.stamp()
    }

    /// The parent of a node, if there is such a node, and if it is not the root.
    #[must_use]
    pub fn parent(&self, id: &EntityId) -> Option<EntityId> {
        self.shape.parent(id)
    }

    /// Where the parent of a node has it.
    #[must_use]
    pub fn edge(&self, id: &EntityId) -> Option<&Edge> {
        self.shape.find(id)?.0
    }

    /// The children of a node, in the order in which its value names them.
    pub fn children(&self, id: &EntityId) -> impl Iterator<Item = (&Edge, EntityId)> {
        let branch = self.shape.branch(id);
        let kids = branch.into_iter().flat_map(|branch| &branch.kids);
        kids.map(|kid| (&kid.edge, kid.branch.id))
    }

    /// From the root to the node, both included. Empty, if there is no such node.
    #[must_use]
    pub fn path(&self, id: &EntityId) -> Vec<EntityId> {
        self.shape.path(id)
    }

    /// All nodes, a parent before its children, those in the order in which it names them.
    #[must_use]
    pub fn iter(&self) -> Nodes<'_, T> {
        let rest = vec![(0, None, &*self.shape.root)];
        Nodes { rest }
    }

    /// Whether the branch of a node, with all below it, is shared by the two: the same memory, and so the
    /// same values.
    #[must_use]
    pub fn shares(&self, other: &Self, id: &EntityId) -> bool {
        match (self.shape.branch(id), other.shape.branch(id)) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Whether it was edited, and not committed since.
    #[must_use]
    pub fn is_edited(&self) -> bool {
        self.base.is_some()
    }

    /// Starts making another tree of this one.
    pub fn edit(&self) -> Edit<'_, T> {
        Edit::new(self)
    }

    /// The tree with another value of a node. Children that it doesn't name any more are not in that tree;
    /// all that it names must be in this one. For more than that, there is [`edit`](Tree::edit).
    ///
    /// # Errors
    /// As [`Edit::finish`].
    /// # Complexity
    /// As [`Edit::finish`].
    pub fn with(&self, id: EntityId, value: T) -> Result<Tree<T>, TreeError>
    where
        T: Children + PartialEq,
    {
        let mut edit = self.edit();
        edit.set(id, value);
        edit.finish()
    }
}

impl<T> Clone for Tree<T> {
    fn clone(&self) -> Self {
        Tree {
            shape: self.shape.clone(),
            base: self.base.clone(),
        }
    }
}

impl<T> fmt::Debug for Tree<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("root", &self.root())
            .field("len", &self.len())
            .field("depth", &self.depth())
            .field("is_edited", &self.is_edited())
            .finish_non_exhaustive()
    }
}

/// A node that is deeper isn't shown further to the right, but with its depth.
const INDENTED: usize = 64;

/// A line for each node, indented by its depth: where its parent has it, its id, its stamp or `edited`. Below a
/// depth of 64 lines aren't indented further, but say how deep they are: what is shown of a tree grows with its nodes.
impl<T> fmt::Display for Tree<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in self {
            if node.depth > 1 {
                f.write_str("\n")?;
            }
            for _ in 1..node.depth.min(INDENTED) {
                f.write_str("  ")?;
            }
            if node.depth > INDENTED {
                write!(f, "depth {}: ", node.depth)?;
            }
            if let Some(edge) = node.edge {
                write!(f, "{edge}: ")?;
            }
            match node.stamp {
                Some(stamp) => write!(f, "{} ({stamp})", node.id)?,
                None => write!(f, "{} (edited)", node.id)?,
            }
        }
        Ok(())
    }
}

impl<'a, T> IntoIterator for &'a Tree<T> {
    type Item = TreeNode<'a, T>;
    type IntoIter = Nodes<'a, T>;

    fn into_iter(self) -> Nodes<'a, T> {
        self.iter()
    }
}

/// A node of a tree, as [`Tree::iter`] shows it.
#[derive(Debug)]
#[non_exhaustive]
pub struct TreeNode<'a, T> {
    /// Which entity it is.
    pub id: EntityId,
    /// Where its parent has it; the root has none.
    pub edge: Option<&'a Edge>,
    /// Its value.
    pub value: &'a T,
    /// Which version of the entity the value is, unless an edit has given it.
    pub stamp: Option<Stamp>,
    /// How many nodes there are on the way from the root, both included.
    pub depth: usize,
}

/// The nodes of a tree, a parent before its children. Made by [`Tree::iter`].
pub struct Nodes<'a, T> {
    rest: Vec<(usize, Option<&'a Edge>, &'a Branch<T>)>,
}

impl<'a, T> Iterator for Nodes<'a, T> {
    type Item = TreeNode<'a, T>;

    fn next(&mut self) -> Option<Self::Item> {
        let (above, edge, branch) = self.rest.pop()?;
        let depth = above + 1;
        let kids = branch.kids.iter().rev();
        self.rest
            .extend(kids.map(|kid| (depth, Some(&kid.edge), &*kid.branch)));
        Some(TreeNode {
            id: branch.id,
            edge,
            value: branch.value.get(),
            stamp: branch.value.stamp(),
            depth,
        })
    }
}

impl<T> fmt::Debug for Nodes<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes").finish_non_exhaustive()
    }
}
