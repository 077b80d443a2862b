//! Who is whose child: what values say about it.
#![forbid(unsafe_code)]

use super::id::EntityId;
use std::fmt;
use std::sync::Arc;

/// A value that names children.
///
/// It names the same children, in the same order, whenever it is asked. It may be asked on any thread: where the
/// feature `rayon` is there, a large tree is looked at by several, and whoever builds it waits for them. So it must not
/// take a lock that the builder holds.
///
/// # Examples
/// ```
/// use snapcell::{Children, Edge, EntityId};
///
/// struct Section {
///     title: EntityId,
///     paragraphs: Vec<EntityId>,
/// }
/// impl Children for Section {
///     fn children(&self, each: &mut dyn FnMut(Edge, EntityId)) {
///         each(Edge::direct("title"), self.title);
///         for (index, id) in self.paragraphs.iter().enumerate() {
///             each(Edge::list("paragraphs", index), *id);
///         }
///     }
/// }
/// ```
pub trait Children {
    /// Calls `each` for each child, with the place where the value has it.
    fn children(&self, each: &mut dyn FnMut(Edge, EntityId));
}

/// Where a value has a child: in which of its fields, and where in there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// The field.
    pub field: &'static str,
    /// Where in the field.
    pub place: Place,
}

/// Where in a field a child is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// It is the field.
    Direct,
    /// In a list, by its index.
    List(usize),
    /// In a tuple, by its index.
    Tuple(usize),
    /// In a map, by its key.
    Key(Arc<str>),
    /// In a set.
    Set,
}

impl Edge {
    /// The child is the field.
    #[must_use]
    pub const fn direct(field: &'static str) -> Self {
        let place = Place::Direct;
        Edge { field, place }
    }

    /// The child is in a list.
    #[must_use]
    pub const fn list(field: &'static str, index: usize) -> Self {
        let place = Place::List(index);
        Edge { field, place }
    }

    /// The child is in a tuple.
    #[must_use]
    pub const fn tuple(field: &'static str, index: usize) -> Self {
        let place = Place::Tuple(index);
        Edge { field, place }
    }

    /// The child is in a map.
    #[must_use]
    pub fn key(field: &'static str, key: impl Into<Arc<str>>) -> Self {
        let place = Place::Key(key.into());
        Edge { field, place }
    }

    /// The child is in a set.
    #[must_use]
    pub const fn set(field: &'static str) -> Self {
        let place = Place::Set;
        Edge { field, place }
    }
}

/// `field`, `field[2]`, `field.2`, `field["key"]` or `field{}`.
impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = self.field;
        match &self.place {
            Place::Direct => f.write_str(field),
            Place::List(index) => write!(f, "{field}[{index}]"),
            Place::Tuple(index) => write!(f, "{field}.{index}"),
            Place::Key(key) => write!(f, "{field}[{key:?}]"),
            Place::Set => write!(f, "{field}{{}}"),
        }
    }
}
