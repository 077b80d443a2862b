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
use std::fmt;
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
    kids: std::ops::Range<usize>,
}

/// The nodes of a tree in the making, a parent before its children.
pub(super) struct Layout<T> {
    pub(super) spots: Vec<Spot<T>>,
    pub(super) by_id: HashMap<EntityId, usize, Hashing>,
}

/// Walks from the root, as far as there are values to be looked at.
pub(super) fn lay<T: Children>(
    root: EntityId,
    mut find: impl FnMut(&Layout<T>, usize) -> Found<T>,
) -> Result<Layout<T>, TreeError> {
    let mut layout = Layout {
        spots: Vec::new(),
        by_id: HashMap::default(),
    };
    layout.push(root, 0, 0, None);
    let mut next = 0;
    while next < layout.spots.len() {
        let found = find(&layout, next);
        match &found {
            Found::Missing => {
                return Err(TreeError::Unknown {
                    id: layout.spots[next].id,
                    path: layout.path(next),
                });
            }
            Found::Whole(_) => {}
            Found::Partly(branch, kids) => {
                let first = layout.spots.len();
                for at in kids.iter().copied() {
                    let Kid { edge, branch } = &branch.kids[at];
                    if let Some(other) = layout.by_id.get(&branch.id) {
                        return Err(layout.repeated(*other, next, edge.clone(), branch.id));
                    }
                    layout.push(branch.id, next, at, Some(edge.clone()));
                }
                layout.spots[next].kids = first..layout.spots.len();
            }
            Found::Open(value) => {
                let first = layout.spots.len();
                let mut repeated = None;
                value.get().children(&mut |edge, id| {
                    if repeated.is_some() {
                        return;
                    }
                    match layout.by_id.get(&id) {
                        Some(other) => repeated = Some((*other, edge, id)),
                        None => layout.push(id, next, layout.spots.len() - first, Some(edge)),
                    }
                });
                layout.spots[next].kids = first..layout.spots.len();
                if let Some((other, edge, id)) = repeated {
                    return Err(layout.repeated(other, next, edge, id));
                }
            }
        }
        layout.spots[next].found = Some(found);
        next += 1;
    }
    Ok(layout)
}

impl<T> Layout<T> {
    fn push(&mut self, id: EntityId, parent: usize, at: usize, edge: Option<Edge>) {
        let index = self.spots.len();
        self.by_id.insert(id, index);
        self.spots.push(Spot {
            id,
            parent,
            at,
            edge,
            found: None,
            kids: 0..0,
        });
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
