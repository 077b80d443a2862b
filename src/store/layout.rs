//! From values that name each other to branches, or to what is wrong with them.
//!
//! [`lay`] walks from the root, a parent before its children, and refuses an id that comes twice, so it
//! ends, and what it has walked is a tree. Then the branches are made, from below.
#![forbid(unsafe_code)]

use super::children::{Children, Edge};
use super::id::EntityId;
use super::places::{Hung, Places};
use super::tree::{Branch, Kid, Shape, Value};
use crate::sync::map::Hashing;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
#[cfg(feature = "rayon")]
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

/// What there is at an id that a value names.
pub(super) enum Found<T> {
    /// A branch that is taken as it is.
    Whole(Arc<Branch<T>>),
    /// A value, whose children are to be looked at.
    Open(Value<T>),
    /// A branch of which these children are to be looked at, and all others are taken as they are.
    Partly(Arc<Branch<T>>, Vec<usize>),
    Missing,
}

/// A node that was found on the way from the root.
pub(super) struct Spot<T> {
    pub(super) id: EntityId,
    /// Which spot is its parent's. The root is its own.
    parent: usize,
    /// Which of its parent's children it is.
    at: usize,
    pub(super) edge: Option<Edge>,
    pub(super) found: Option<Found<T>>,
    /// Where its children are among the spots.
    kids: Range<usize>,
}

/// The nodes of a tree in the making, a parent before its children.
pub(super) struct Layout<T> {
    pub(super) spots: Vec<Spot<T>>,
    pub(super) by_id: HashMap<EntityId, usize, Hashing>,
    /// Of how many, the first ones, it was said what is there.
    looked: usize,
}

impl<T> Spot<T> {
    fn new(id: EntityId, parent: usize, at: usize, edge: Option<Edge>) -> Self {
        Spot {
            id,
            parent,
            at,
            edge,
            found: None,
            kids: 0..0,
        }
    }
}

/// Walks from the root, as far as there are values to be looked at.
pub(super) fn lay<T: Children>(
    root: EntityId,
    mut find: impl FnMut(&Layout<T>, usize) -> Found<T>,
) -> Result<Layout<T>, TreeError> {
    let mut layout = Layout::new(root);
    while !layout.is_complete() {
        let found = find(&layout, layout.looked);
        layout.put(found)?;
    }
    Ok(layout)
}

impl<T: Children> Layout<T> {
    /// Says what there is at the next spot, whose children are spots then.
    pub(super) fn put(&mut self, found: Found<T>) -> Result<(), TreeError> {
        let spot = self.looked;
        match &found {
            Found::Missing => {
                return Err(TreeError::Unknown {
                    id: self.id(spot),
                    path: self.path(spot),
                });
            }
            Found::Whole(_) => {}
            Found::Partly(branch, kids) => {
                let first = self.spots.len();
                for at in kids.iter().copied() {
                    let Kid { edge, branch } = &branch.kids[at];
                    self.push(branch.id, at, || edge.clone())?;
                }
                self.spots[spot].kids = first..self.spots.len();
            }
            Found::Open(value) => self.open(|each| value.get().children(each))?,
        }
        self.pass(found);
        Ok(())
    }
}

impl<T> Layout<T> {
    pub(super) fn new(root: EntityId) -> Self {
        let mut layout = Layout {
            spots: Vec::new(),
            by_id: HashMap::default(),
            looked: 0,
        };
        layout.by_id.insert(root, 0);
        layout.spots.push(Spot::new(root, 0, 0, None));
        layout
    }

    /// Has the processor fetch what will be asked of these ids, as `fetch` in `build` does.
    #[cfg(feature = "rayon")]
    pub(super) fn fetch<'i>(&self, ids: impl Iterator<Item = &'i EntityId>) {
        black_box(ids.filter(|id| self.by_id.contains_key(id)).count());
    }

    pub(super) fn len(&self) -> usize {
        self.spots.len()
    }

    /// Of how many spots, the first ones, it was said what is there.
    pub(super) fn looked(&self) -> usize {
        self.looked
    }

    /// Whether that was said of all.
    pub(super) fn is_complete(&self) -> bool {
        self.looked == self.spots.len()
    }

    /// As [`put`](Layout::put), where it is known already what the value names.
    #[cfg(feature = "rayon")]
    pub(super) fn put_open(
        &mut self,
        value: Value<T>,
        kids: impl IntoIterator<Item = (Edge, EntityId)>,
    ) -> Result<(), TreeError> {
        self.open(|each| kids.into_iter().for_each(|(edge, id)| each(edge, id)))?;
        self.pass(Found::Open(value));
        Ok(())
    }

    /// Has what the value at the next spot names be spots.
    fn open(&mut self, name: impl FnOnce(&mut dyn FnMut(Edge, EntityId))) -> Result<(), TreeError> {
        let first = self.spots.len();
        let mut laid = Ok(());
        name(&mut |edge, id| {
            if laid.is_ok() {
                let at = self.spots.len() - first;
                laid = self.push(id, at, || edge);
            }
        });
        laid?;
        self.spots[self.looked].kids = first..self.spots.len();
        Ok(())
    }

    fn pass(&mut self, found: Found<T>) {
        self.spots[self.looked].found = Some(found);
        self.looked += 1;
    }

    /// One more spot, a child of the next one.
    fn push(
        &mut self,
        id: EntityId,
        at: usize,
        edge: impl FnOnce() -> Edge,
    ) -> Result<(), TreeError> {
        let (parent, index) = (self.looked, self.spots.len());
        match self.by_id.entry(id) {
            Entry::Vacant(entry) => {
                entry.insert(index);
            }
            Entry::Occupied(entry) => {
                let other = *entry.get();
                return Err(self.repeated(other, parent, edge(), id));
            }
        }
        self.spots.push(Spot::new(id, parent, at, Some(edge())));
        Ok(())
    }
    pub(super) fn ids(&self, spots: Range<usize>) -> impl Iterator<Item = &EntityId> {
        self.spots[spots].iter().map(|spot| &spot.id)
    }

    pub(super) fn id(&self, spot: usize) -> EntityId {
        self.spots[spot].id
    }

    pub(super) fn parent(&self, spot: usize) -> EntityId {
        self.spots[self.spots[spot].parent].id
    }

    pub(super) fn path(&self, spot: usize) -> Vec<EntityId> {
        let up = |spot: &usize| (*spot != 0).then(|| self.spots[*spot].parent);
        let up = std::iter::successors(Some(spot), up);
        let mut path: Vec<_> = up.map(|spot| self.spots[spot].id).collect();
        path.reverse();
        path
    }

    /// A value names what is there already.
    fn repeated(&self, other: usize, parent: usize, edge: Edge, id: EntityId) -> TreeError {
        let mut second = self.path(parent);
        let how = match second.iter().position(|above| *above == id) {
            Some(at) if at + 1 == second.len() => Repetition::Itself,
            Some(_) => Repetition::Cycle,
            None if self.spots[other].parent == parent => Repetition::Twice,
            None => Repetition::Diamond,
        };
        second.push(id);
        TreeError::Repeated(Box::new(Repeated {
            id,
            how,
            first: self.path(other),
            second,
            edges: (self.spots[other].edge.clone(), edge),
        }))
    }

    /// Makes the branches, from below. What each spot has found is taken.
    pub(super) fn grow(&mut self) -> Arc<Branch<T>> {
        let mut grown: Vec<Option<Arc<Branch<T>>>> = Vec::new();
        grown.resize_with(self.spots.len(), || None);
        for index in (0..self.spots.len()).rev() {
            let spot = &mut self.spots[index];
            let (id, range) = (spot.id, spot.kids.clone());
            let branch = match spot.found.take() {
                Some(Found::Whole(branch)) => branch,
                Some(Found::Partly(branch, at)) => {
                    let mut kids = branch.kids.clone();
                    for (kid, at) in range.zip(at) {
                        kids[at].branch = grown[kid].take().expect("children come after");
                    }
                    Arc::new(Branch::new(id, branch.value.clone(), kids))
                }
                Some(Found::Open(value)) => {
                    let kids = range.map(|kid| Kid {
                        edge: self.spots[kid].edge.take().expect("each child has one"),
                        branch: grown[kid].take().expect("children come after"),
                    });
                    Arc::new(Branch::new(id, value, kids.collect()))
                }
                Some(Found::Missing) | None => unreachable!("all spots were looked at"),
            };
            grown[index] = Some(branch);
        }
        grown.swap_remove(0).expect("the root comes last")
    }

    /// Where each node hangs, but the root.
    pub(super) fn hung(&self) -> impl Iterator<Item = (EntityId, Hung)> {
        let spots = self.spots.iter().skip(1);
        spots.map(|spot| {
            let (parent, at) = (self.spots[spot.parent].id, spot.at);
            (spot.id, Hung { parent, at })
        })
    }

    /// The tree, where nothing was taken whole.
    pub(super) fn into_shape(mut self) -> Shape<T> {
        let root = self.grow();
        let hung = self.hung().map(|(_, hung)| hung).collect();
        let hung = Places::new(self.by_id, hung);
        Shape { root, hung }
    }
}

/// What is named by values, but is no tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// An entity is named twice.
    #[error(transparent)]
    Repeated(Box<Repeated>),
    /// An entity is named that isn't there.
    #[error("there is no entity {id}, at the end of the path {}", Path(path))]
    Unknown {
        /// The entity.
        id: EntityId,
        /// From the root to it.
        path: Vec<EntityId>,
    },
    /// An edit has given a value to a node that nothing names.
    #[error("a value was given for {0}, which no node of the tree names")]
    Loose(EntityId),
    /// Others have changed what is in the tree each time that it was looked at.
    #[error("the tree of {0} has changed each time that it was looked at")]
    Unsettled(EntityId),
}

/// An entity that is named twice, and so is a child of two nodes, or twice of one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repeated {
    /// Which one.
    pub id: EntityId,
    /// How.
    pub how: Repetition,
    /// The way to it that was found first, from the root, both included.
    pub first: Vec<EntityId>,
    /// The other way.
    pub second: Vec<EntityId>,
    /// Where each of the two has it: the first may be the root, which nothing names otherwise.
    pub edges: (Option<Edge>, Edge),
}

/// How an entity is named twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repetition {
    /// It is a child of its own.
    Itself,
    /// It is below itself.
    Cycle,
    /// It is twice a child of one parent.
    Twice,
    /// It has two parents.
    Diamond,
}

impl fmt::Display for Repeated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id;
        match self.how {
            Repetition::Itself => write!(f, "{id} is a child of itself")?,
            Repetition::Cycle => write!(f, "{id} is below itself")?,
            Repetition::Twice => write!(f, "{id} is twice a child of one parent")?,
            Repetition::Diamond => write!(f, "{id} has two parents")?,
        }
        write!(f, ": {}", Path(&self.first))?;
        if let Some(edge) = &self.edges.0 {
            write!(f, " ({edge})")?;
        }
        write!(f, " and {} ({})", Path(&self.second), self.edges.1)
    }
}

impl std::error::Error for Repeated {}

/// Shows a path; of a long one, its ends.
struct Path<'a>(&'a [EntityId]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let hidden = self.0.len().saturating_sub(SHOWN);
        let shown = 0..SHOWN / 2;
        for (index, id) in self.0.iter().enumerate() {
            if hidden > 0 && index == shown.end {
                write!(f, "/… {hidden} more …")?;
            }
            if hidden == 0 || shown.contains(&index) || index >= shown.end + hidden {
                write!(f, "{}{id}", if index == 0 { "" } else { "/" })?;
            }
        }
        Ok(())
    }
}
