//! Attributes that were taken over from other entities, with where each came from.
//!
//! A value is immutable, so what is taken over is a copy for good: nothing that happens to the source
//! afterwards changes it. The record lies in the standing of the entity that has taken it, and is committed at
//! the same instant.
#![forbid(unsafe_code)]

use super::id::EntityId;
use super::version::Origin;
use super::within::Within;
use super::{Store, Unknown};
use crate::cell::{Stop, transaction_or_abort};
use std::collections::BTreeMap;
use std::fmt;

/// A value with attributes that have names.
///
/// # Examples
/// ```
/// use snapcell::{Attribute, Attributes};
///
/// #[derive(Clone)]
/// struct Page {
///     title: String,
///     tags: Vec<String>,
/// }
///
/// impl Attributes for Page {
///     type Value = String;
///
///     fn attribute(&self, name: &str) -> Option<Attribute<String>> {
///         match name {
///             "title" => Some(Attribute::Scalar(self.title.clone())),
///             "tags" => Some(Attribute::List(self.tags.clone())),
///             _ => None,
///         }
///     }
///
///     fn with_attribute(&self, name: &str, value: Attribute<String>) -> Option<Self> {
///         let page = self.clone();
///         match (name, value) {
///             ("title", Attribute::Scalar(title)) => Some(Page { title, ..page }),
///             ("tags", Attribute::List(tags)) => Some(Page { tags, ..page }),
///             _ => None,
///         }
///     }
/// }
/// ```
pub trait Attributes: Sized {
    /// What attributes are made of. Where that differs, an enum.
    type Value;

    /// The attribute of this name, if there is one.
    fn attribute(&self, name: &str) -> Option<Attribute<Self::Value>>;

    /// The same with another value of the attribute, if there is one, and it takes such a value.
    fn with_attribute(&self, name: &str, value: Attribute<Self::Value>) -> Option<Self>;
}

/// An attribute, by its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute<V> {
    /// One value.
    Scalar(V),
    /// Several in a row.
    List(Vec<V>),
    /// Several by name.
    Map(BTreeMap<String, V>),
}

impl<V> Attribute<V> {
    /// Which shape it has.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match self {
            Attribute::Scalar(_) => Shape::Scalar,
            Attribute::List(_) => Shape::List,
            Attribute::Map(_) => Shape::Map,
        }
    }

    /// That all of it comes from there.
    fn from(&self, origin: Origin) -> Source {
        match self {
            Attribute::Scalar(_) => Source::Scalar(origin),
            Attribute::List(list) => Source::List(vec![origin; list.len()]),
            Attribute::Map(map) => {
                Source::Map(map.keys().map(|key| (key.clone(), origin)).collect())
            }
        }
    }
}

/// The shape of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One value.
    Scalar,
    /// Several in a row.
    List,
    /// Several by name.
    Map,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shape::Scalar => "a single value",
            Shape::List => "a list",
            Shape::Map => "a map",
        })
    }
}

/// Where an attribute comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A single value: from there.
    Scalar(Origin),
    /// A list: each element from there.
    List(Vec<Origin>),
    /// A map: what is at each key from there.
    Map(BTreeMap<String, Origin>),
}

/// Where the attributes of an entity come from that were borrowed, by their names: each as of the last time
/// that it was.
pub type Sources = BTreeMap<String, Source>;

/// An attribute that was not taken over. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BorrowError {
    /// One of the two isn't there.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// The entity has no such attribute. It may be the source or the one that is to take it over.
    #[error("{id} has no attribute {name:?}")]
    NoAttribute {
        /// Which entity.
        id: EntityId,
        /// The name of the attribute.
        name: String,
    },
    /// The attribute has another shape than its source.
    #[error("{name:?} of {id} is {expected}, and the source is {found}")]
    Shape {
        /// The entity that was to take it over.
        id: EntityId,
        /// The name of its attribute.
        name: String,
        /// The shape that it has.
        expected: Shape,
        /// The shape of the source.
        found: Shape,
    },
    /// The attribute doesn't take such a value.
    #[error("{name:?} of {id} takes no such value")]
    Refused {
        /// The entity that was to take it over.
        id: EntityId,
        /// The name of its attribute.
        name: String,
    },
}

impl<T: Attributes + Send + Sync + 'static> Within<'_, '_, T> {
    pub(super) fn borrow(
        &self,
        into: &EntityId,
        name: &str,
        from: &EntityId,
        source: &str,
    ) -> Result<u64, Stop<BorrowError>> {
        let origin = Origin::from(&self.version(from)?);
        let (target, value) = (self.get(into)?, self.get(from)?);
        let version = self.require(into)?.version() + 1;
        let none = |id: &EntityId, name: &str| BorrowError::NoAttribute {
            id: *id,
            name: name.to_owned(),
        };
        let found = value.attribute(source);
        let found = found.ok_or_else(|| Stop::Abort(none(from, source)))?;
        let expected = target.attribute(name).map(|old| old.shape());
        let expected = expected.ok_or_else(|| Stop::Abort(none(into, name)))?;
        if expected != found.shape() {
            return Err(Stop::Abort(BorrowError::Shape {
                id: *into,
                name: name.to_owned(),
                expected,
                found: found.shape(),
            }));
        }
        let record = found.from(origin);
        let value = target.with_attribute(name, found).ok_or_else(|| {
            Stop::Abort(BorrowError::Refused {
                id: *into,
                name: name.to_owned(),
            })
        })?;
        self.write(into, value)?;
        let standing = self.standing(into)?;
        let mut sources = standing.sources();
        sources.insert(name.to_owned(), record);
        self.set_standing(into, standing.with_sources(sources))?;
        Ok(version)
    }
}

impl<T: Send + Sync + 'static> Store<T> {
    /// Has an entity take over an attribute of another one, and records where it comes from. Returns the
    /// version that it has got.
    ///
    /// # Errors
    /// [`BorrowError`]: one isn't there, has no such attribute, or the two don't fit.
    /// # Linearization
    /// The exchange that decides a transaction: the source still had the version that is recorded.
    ///
    /// # Examples
    /// ```
    /// use snapcell::{Attribute, Attributes, Source, Store};
    ///
    /// #[derive(Clone)]
    /// struct Named(&'static str);
    ///
    /// impl Attributes for Named {
    ///     type Value = &'static str;
    ///
    ///     fn attribute(&self, name: &str) -> Option<Attribute<&'static str>> {
    ///         (name == "name").then_some(Attribute::Scalar(self.0))
    ///     }
    ///
    ///     fn with_attribute(&self, name: &str, value: Attribute<&'static str>) -> Option<Self> {
    ///         match (name, value) {
    ///             ("name", Attribute::Scalar(value)) => Some(Named(value)),
    ///             _ => None,
    ///         }
    ///     }
    /// }
    ///
    /// let store = Store::new();
    /// let (ann, bob) = (store.insert(Named("ann")), store.insert(Named("bob")));
    /// assert_eq!(store.borrow(&bob, "name", &ann, "name")?, 1);
    /// assert_eq!(store.get(&bob)?.0, "ann");
    /// let Source::Scalar(origin) = store.sources(&bob)?["name"] else { panic!("it is a scalar") };
    /// assert_eq!(origin.id, ann);
    /// assert!(store.borrow(&bob, "age", &ann, "name").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn borrow(
        &self,
        into: &EntityId,
        name: &str,
        from: &EntityId,
        source: &str,
    ) -> Result<u64, BorrowError>
    where
        T: Attributes,
    {
        transaction_or_abort(|tx| self.within(tx).borrow(into, name, from, source))
    }

    /// Where the attributes of an entity come from that were [borrowed](Store::borrow).
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn sources(&self, id: &EntityId) -> Result<Sources, Unknown> {
        Ok(self.known_standing(id)?.sources())
    }
}
